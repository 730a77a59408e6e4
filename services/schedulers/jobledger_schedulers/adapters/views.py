"""Optional ports beside `SchedulerAdapter`: looking at a scheduler as its operators do, and finding out what is wrong with it.

An adapter offers those that make sense for it: `PoolView` where there is a pool of HTCondor's, `WorkersView` for Dask. Nothing here
changes anything. All methods keep a deadline, return bounded answers, and raise only `SchedulerError`; `BadQuery` says that a
question cannot be asked like this.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import msgspec

from jobledger_schedulers.adapters.port import SchedulerError

MAX_ROWS = 1000
"""Of any answer."""
VIEW_TIMEOUT_S = 15.0
"""Of any question, however long the scheduler's own calls may take."""


class BadQuery(SchedulerError):
    """A question that cannot be asked: `field` says which part of it is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """One of a pool's daemons, as the collector knows it."""

    type: str  #: Collector, Negotiator, Scheduler, StartD, DaemonMaster...
    name: str
    machine: str = ""
    version: str = ""
    started_time: datetime | None = None
    heard_time: datetime | None = None  #: when the collector last heard of it


class SlotGroup(msgspec.Struct, frozen=True, kw_only=True):
    """How many slots are in one state."""

    state: str  #: Unclaimed, Claimed, Owner, Drained...
    activity: str  #: Idle, Busy, Suspended...
    slots: int
    cpus: int
    memory_mb: int
    gpus: int = 0


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A place where jobs run."""

    name: str
    state: str
    activity: str
    type: str = ""  #: Static, Partitionable or Dynamic
    cpus: int = 0
    memory_mb: int = 0
    disk_kb: int = 0
    gpus: int = 0
    os: str = ""
    arch: str = ""
    remote_owner: str = ""  #: who uses it now


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """A pool's slots: all of them counted, some of them named."""

    total: int
    groups: list[SlotGroup]
    items: list[Slot]
    truncated: bool  #: there are more than are named


class QueueLine(msgspec.Struct, frozen=True, kw_only=True):
    """One user's jobs at the access point, by status."""

    user: str
    total: int
    idle: int = 0
    running: int = 0
    held: int = 0
    completed: int = 0  #: their output waits to be fetched
    suspended: int = 0
    other: int = 0  #: being removed, or moving output


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The access point's queue, counted."""

    total: int
    users: list[QueueLine]
    truncated: bool  #: there are more jobs, or more users, than were counted


class Ads(msgspec.Struct, frozen=True, kw_only=True):
    """ClassAds as JSON: undefined is null; what has no JSON is written as `/Expr(...)/`, as HTCondor itself does."""

    items: list[dict[str, Any]]
    truncated: bool


class Priority(msgspec.Struct, frozen=True, kw_only=True):
    """A user's, or accounting group's, standing with the negotiator: who has the smaller effective priority comes first."""

    name: str
    effective_priority: float
    factor: float
    slots_in_use: float
    usage_h: float  #: slot hours, weighted
    is_group: bool = False
    last_usage_time: datetime | None = None


class Priorities(msgspec.Struct, frozen=True, kw_only=True):
    """The negotiator's list."""

    items: list[Priority]
    truncated: bool


class AccessLevel(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are to one daemon, and whether it lets us do things of one level."""

    daemon: str  #: Collector, Schedd, Negotiator
    name: str
    level: str  #: READ or WRITE
    allowed: bool
    identity: str = ""
    method: str = ""
    error: str = ""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A Dask worker."""

    name: str
    address: str
    status: str
    threads: int
    cpu_percent: float = 0.0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    managed_bytes: int = 0
    spilled_bytes: int = 0
    executing: int = 0  #: tasks that it works on now
    tasks: int = 0  #: tasks that it has, in whatever state
    seen_time: datetime | None = None
    resources: dict[str, float] = {}


class Workers(msgspec.Struct, frozen=True, kw_only=True):
    """A Dask scheduler's workers: all of them counted, some of them named."""

    total: int
    threads: int
    memory_limit_bytes: int
    items: list[Worker]
    truncated: bool


class TaskLine(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks of one name, by state."""

    prefix: str
    memory: int = 0
    erred: int = 0
    released: int = 0
    processing: int = 0
    waiting: int = 0


class Tasks(msgspec.Struct, frozen=True, kw_only=True):
    """What a Dask scheduler has to do and has done, counted."""

    items: list[TaskLine]
    truncated: bool


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one step of an examination came to. The texts are for people and hold no secret."""

    step: str  #: answer, authentication, authorization, version, queue, slots, workers, clock
    ok: bool
    time_ms: float
    explanation: str
    advice: str = ""
    identity: str = ""  #: who we are there, where the step shows it
    version: str = ""


class PoolView(Protocol):
    """Looking at a pool of HTCondor's."""

    async def daemons(self) -> list[Daemon]:
        """Those that the collector knows."""
        ...

    async def slots(self, limit: int = MAX_ROWS) -> Slots:
        """Count the slots by state, and name the first `limit`."""
        ...

    async def queue(self, limit: int = MAX_ROWS) -> Queue:
        """Count the jobs by user and status."""
        ...

    async def query(self, constraint: str, projection: Sequence[str], limit: int) -> Ads:
        """Job ads of the queue. No projection: whole ads. Raises `BadQuery`."""
        ...

    async def history(self, constraint: str, projection: Sequence[str], limit: int) -> Ads:
        """Job ads of the history, latest first. Raises `BadQuery`."""
        ...

    async def priorities(self, limit: int = MAX_ROWS) -> Priorities:
        """Users' priorities, the best first."""
        ...

    async def access_levels(self) -> list[AccessLevel]:
        """Who we are to each daemon."""
        ...

    async def examine(self) -> list[Finding]:
        """Take the steps of a check in order, and end where the next would make no sense. What goes wrong is a finding, no error."""
        ...

    async def close(self) -> None:
        """Let go of connections and processes. Idempotent."""
        ...


class WorkersView(Protocol):
    """Looking at a Dask scheduler."""

    async def workers(self, limit: int = MAX_ROWS) -> Workers:
        """Its workers."""
        ...

    async def tasks(self, limit: int = MAX_ROWS) -> Tasks:
        """Its tasks, counted by name and state."""
        ...

    async def examine(self) -> list[Finding]:
        """Take the steps of a check in order, and end where the next would make no sense. What goes wrong is a finding, no error."""
        ...

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        ...


@runtime_checkable
class Surveyed(Protocol):
    """An adapter that knows more of its scheduler than whether it answers."""

    async def shortages(self) -> list[str]:
        """What is missing there for jobs to run, in words that are the same each time; empty: nothing. Cheap: asked all the time."""
        ...
