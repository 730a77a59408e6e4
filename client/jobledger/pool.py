"""Looking at schedulers as their operators do: pools of HTCondor's, and Dask's workers. Read-only, and bounded in rows and time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from jobledger.connection import Connection

T = TypeVar("T")

MAX_ROWS = 1000
"""The most rows that one answer holds."""


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """One of a pool's daemons, as its collector knows it."""

    type: str
    name: str
    machine: str = ""
    version: str = ""
    started_time: datetime | None = None
    heard_time: datetime | None = None  #: when the collector last heard of it


class SlotGroup(msgspec.Struct, frozen=True, kw_only=True):
    """How many slots are in one state."""

    state: str
    activity: str
    slots: int
    cpus: int = 0
    memory_mb: int = 0
    gpus: int = 0


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A place where jobs run."""

    name: str
    state: str
    activity: str
    type: str = ""
    cpus: int = 0
    memory_mb: int = 0
    disk_kb: int = 0
    gpus: int = 0
    os: str = ""
    arch: str = ""
    remote_owner: str = ""  #: who uses it; told to administrators only


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """A pool's slots: all of them counted, some of them named."""

    total: int
    groups: list[SlotGroup]
    items: list[Slot]
    truncated: bool = False


class QueueLine(msgspec.Struct, frozen=True, kw_only=True):
    """One user's jobs, by status."""

    user: str
    total: int
    idle: int = 0
    running: int = 0
    held: int = 0
    completed: int = 0
    suspended: int = 0
    other: int = 0


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """An access point's queue, counted."""

    total: int
    users: list[QueueLine]
    truncated: bool = False


class Ads(msgspec.Struct, frozen=True, kw_only=True):
    """ClassAds as dictionaries. Undefined is None; an expression without a value is a text `/Expr(...)/`."""

    items: list[dict[str, Any]]
    truncated: bool = False  #: more fit than were asked for

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Priority(msgspec.Struct, frozen=True, kw_only=True):
    """A user's standing with the negotiator: who has the smaller effective priority comes first."""

    name: str
    effective_priority: float
    factor: float = 0.0
    slots_in_use: float = 0.0
    usage_h: float = 0.0  #: slot hours
    is_group: bool = False
    last_usage_time: datetime | None = None


class Priorities(msgspec.Struct, frozen=True, kw_only=True):
    """The negotiator's list."""

    items: list[Priority]
    truncated: bool = False


class AccessLevel(msgspec.Struct, frozen=True, kw_only=True):
    """Who Jobledger is to one daemon, and whether that lets it do things of one level."""

    daemon: str
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
    executing: int = 0
    tasks: int = 0
    seen_time: datetime | None = None
    resources: dict[str, float] = {}


class Workers(msgspec.Struct, frozen=True, kw_only=True):
    """A Dask scheduler's workers: all of them counted, some of them named."""

    total: int
    threads: int
    memory_limit_bytes: int
    items: list[Worker]
    truncated: bool = False


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
    truncated: bool = False


class Looks(ABC):
    """What can be looked at through a scheduler. Asking a Dask scheduler for a pool's things, or the other way, raises `Refused`.

    A scheduler that does not answer raises `ServerError`.
    """

    name: str

    @property
    @abstractmethod
    def connection(self) -> Connection:
        """How Jobledger is reached."""

    def daemons(self) -> list[Daemon]:
        """The pool's daemons."""
        return msgspec.convert(self._look("pool/daemons")["items"], list[Daemon])

    def slots(self, limit: int = MAX_ROWS) -> Slots:
        """The pool's slots: counted by state, and the first `limit` of them."""
        return msgspec.convert(self._look("pool/slots", limit=limit), Slots)

    def queue(self, limit: int = MAX_ROWS) -> Queue:
        """The access point's jobs, counted by user and status."""
        return msgspec.convert(self._look("pool/queue", limit=limit), Queue)

    def query(self, constraint: str = "", projection: Sequence[str] = (), limit: int = 100) -> Ads:
        """Job ads in the queue that a ClassAd expression fits. Administrators only. Raises `InvalidRequest` for a bad expression."""
        return self._ads("pool/jobs", constraint, projection, limit)

    def history(self, constraint: str = "", projection: Sequence[str] = (), limit: int = 100) -> Ads:
        """Job ads that have left the queue, latest first; otherwise as `query`."""
        return self._ads("pool/history", constraint, projection, limit)

    def priorities(self, limit: int = MAX_ROWS) -> list[Priority]:
        """Users' priorities in the pool, the best first."""
        return msgspec.convert(self._look("pool/priorities", limit=limit), Priorities).items

    def identity(self) -> list[AccessLevel]:
        """Who Jobledger is to each of the pool's daemons. Administrators only."""
        return msgspec.convert(self._look("pool/identity")["items"], list[AccessLevel])

    def workers(self, limit: int = MAX_ROWS) -> Workers:
        """The Dask scheduler's workers."""
        return msgspec.convert(self._look("workers", limit=limit), Workers)

    def tasks(self, limit: int = MAX_ROWS) -> Tasks:
        """The Dask scheduler's tasks, counted by name and state."""
        return msgspec.convert(self._look("tasks", limit=limit), Tasks)

    def _ads(self, what: str, constraint: str, projection: Sequence[str], limit: int) -> Ads:
        return msgspec.convert(self._look(what, constraint=constraint, projection=",".join(projection), limit=limit), Ads)

    def _look(self, what: str, **params: Any) -> Any:
        return self.connection.schedulers.get(f"/schedulers/{self.name}/{what}", params)
