"""The state of a scheduler in the registry, and the fold that decides what every event does to it.

Like `job.evolve`: total, pure, the same in every service. A name can be registered again once its scheduler was removed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from . import scheduler_events as e
from .envelope import Event
from .recent import identity, remember
from .verdicts import APPLIED, Reason, Verdict, duplicate, refused, superseded


class Scheduler(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that the fold knows of one scheduler. Times are the events' own, in UTC."""

    name: str
    version: int = 0  #: events folded, with those that took no effect
    exists: bool = False  #: it is registered: runs may be handed to it
    removed: bool = False  #: it was registered once

    type: str = ""  #: condor or dask; it stays what it was registered as
    host: str = ""
    port: int = 0
    transport: str = ""
    schedd_name: str = ""
    username: str = ""
    known_host_key: str = ""
    dashboard: str = ""
    timeout_s: float = 0.0
    max_runs: int = 0
    event_log: str = ""
    heartbeat_interval_s: float = 0.0

    health: str = "unknown"  #: up, degraded or down; unknown: not heard of since it was described
    health_detail: str = ""
    health_source: str = ""  #: who said so, or who described it last
    health_time: datetime | None = None
    scheduler_version: str = ""  #: what it says of itself

    registered_time: datetime | None = None
    changed_time: datetime | None = None
    removed_time: datetime | None = None

    recent_ids: tuple[bytes, ...] = ()


def initial_state(name: str) -> Scheduler:
    """A scheduler that nothing was ever said about."""
    return Scheduler(name=name)


def evolve(scheduler: Scheduler, event: Event) -> tuple[Scheduler, Verdict]:
    """Fold one event into a scheduler. The event's key is the scheduler's name: the decoder has checked it."""
    event_id = identity(event)
    if event_id in scheduler.recent_ids:
        return replace(scheduler, version=scheduler.version + 1), duplicate(Reason.SAME_EVENT)
    changes, verdict = _judge(scheduler, event)
    recent_ids = remember(scheduler.recent_ids, event_id)
    return replace(scheduler, version=scheduler.version + 1, recent_ids=recent_ids, **changes), verdict


Changes = dict[str, Any]
_NOTHING: Changes = {}


def _judge(scheduler: Scheduler, event: Event) -> tuple[Changes, Verdict]:
    data = event.data
    if isinstance(data, e.SchedulerRegistered):
        return _register(scheduler, event, data)
    if not scheduler.exists:
        return _NOTHING, refused(Reason.DELETED if scheduler.removed else Reason.UNKNOWN)
    if isinstance(data, e.SchedulerChanged):
        return _change(scheduler, event, data)
    if isinstance(data, e.SchedulerHealthChanged):
        return _report(scheduler, event, data)
    if not isinstance(data, e.SchedulerRemoved):
        return _NOTHING, refused(Reason.UNKNOWN)
    return {"exists": False, "removed": True, "removed_time": event.time, **_unheard_of(event)}, APPLIED


def _register(scheduler: Scheduler, event: Event, data: e.SchedulerRegistered) -> tuple[Changes, Verdict]:
    if scheduler.exists:
        return _NOTHING, duplicate(Reason.SAME_CONTENT) if _same(scheduler, data) else refused(Reason.OTHER_CONTENT)
    times = {"registered_time": event.time, "changed_time": None, "removed_time": None}
    return {"exists": True, "removed": False, **asdict(data), **times, **_unheard_of(event)}, APPLIED


def _change(scheduler: Scheduler, event: Event, data: e.SchedulerChanged) -> tuple[Changes, Verdict]:
    if data.type != scheduler.type:  # runs are in flight there, and their handles mean nothing to another kind
        return _NOTHING, refused(Reason.FIXED)
    if _same(scheduler, data):
        return _NOTHING, superseded(Reason.UNCHANGED)
    return {**asdict(data), "changed_time": event.time, **_unheard_of(event)}, APPLIED


def _report(scheduler: Scheduler, event: Event, data: e.SchedulerHealthChanged) -> tuple[Changes, Verdict]:
    if event.source == scheduler.health_source and scheduler.health_time is not None and event.time < scheduler.health_time:
        return _NOTHING, superseded(Reason.LATE)
    changes = {"health": data.health, "health_detail": data.detail, "scheduler_version": data.version or scheduler.scheduler_version}
    if all(getattr(scheduler, name) == value for name, value in changes.items()):
        return _NOTHING, superseded(Reason.UNCHANGED)
    return {**changes, "health_source": event.source, "health_time": event.time}, APPLIED


def _same(scheduler: Scheduler, data: e.SchedulerDescription) -> bool:
    return all(getattr(scheduler, name) == value for name, value in asdict(data).items())


def _unheard_of(event: Event) -> Changes:
    """What was known of its health was known of another life or address. A report made before is late."""
    return {"health": "unknown", "health_detail": "", "scheduler_version": "", "health_source": event.source, "health_time": event.time}
