"""The state of one scheduler setting of one app, and the fold that decides what every event does to it.

Like `job.evolve`: total, pure, the same in every service. Whether the assigned scheduler is still registered is not known here: it
has a stream of its own, and whoever resolves a setting looks there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from . import setting_events as e
from .envelope import Event
from .recent import identity, remember
from .verdicts import APPLIED, Reason, Verdict, duplicate, refused, superseded


class Setting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that the fold knows of one setting. Times are the events' own, in UTC."""

    setting: str  #: `<label>/<name>`
    version: int = 0  #: events folded, with those that took no effect
    exists: bool = False  #: it is declared
    withdrawn: bool = False  #: it was declared once

    engine: str = ""  #: condor or dask
    description: str = ""
    required: bool = False
    declared_by: str = ""  #: who declared it first: the actor, such as `user:ada`
    declared_time: datetime | None = None

    scheduler: str = ""  #: the one that is assigned; empty: none
    assigned_by: str = ""
    assigned_time: datetime | None = None

    recent_ids: tuple[bytes, ...] = ()

    @property
    def label(self) -> str:
        """The app's label."""
        return self.setting.partition("/")[0]

    @property
    def name(self) -> str:
        """The setting's name within its app."""
        return self.setting.partition("/")[2]


def initial_state(setting: str) -> Setting:
    """A setting that nothing was ever said about."""
    return Setting(setting=setting)


def evolve(setting: Setting, event: Event) -> tuple[Setting, Verdict]:
    """Fold one event into a setting. The event's key is `<label>/<name>`: the decoder has checked it."""
    event_id = identity(event)
    if event_id in setting.recent_ids:
        return replace(setting, version=setting.version + 1), duplicate(Reason.SAME_EVENT)
    changes, verdict = _judge(setting, event)
    recent_ids = remember(setting.recent_ids, event_id)
    return replace(setting, version=setting.version + 1, recent_ids=recent_ids, **changes), verdict


Changes = dict[str, Any]
_NOTHING: Changes = {}
_UNASSIGNED: Changes = {"scheduler": "", "assigned_by": "", "assigned_time": None}


def _judge(setting: Setting, event: Event) -> tuple[Changes, Verdict]:
    data = event.data
    if isinstance(data, e.SettingDeclared):
        return _declare(setting, event, data)
    if not setting.exists:
        return _NOTHING, refused(Reason.DELETED if setting.withdrawn else Reason.UNKNOWN)
    if isinstance(data, e.SettingAssigned):
        return _assign(setting, event, data)
    if isinstance(data, e.SettingUnassigned):
        return (_UNASSIGNED, APPLIED) if setting.scheduler else (_NOTHING, superseded(Reason.UNCHANGED))
    if not isinstance(data, e.SettingWithdrawn):
        return _NOTHING, refused(Reason.UNKNOWN)
    return {"exists": False, "withdrawn": True, **_UNASSIGNED}, APPLIED


def _declare(setting: Setting, event: Event, data: e.SettingDeclared) -> tuple[Changes, Verdict]:
    """Declare, or declare anew. An assignment stays as long as its scheduler is of the right kind."""
    declared: Changes = {"engine": data.engine, "description": data.description, "required": data.required}
    if not setting.exists:
        first = {"exists": True, "withdrawn": False, "declared_by": event.actor, "declared_time": event.time}
        return {**first, **declared, **_UNASSIGNED}, APPLIED
    if all(getattr(setting, name) == value for name, value in declared.items()):
        return _NOTHING, superseded(Reason.UNCHANGED)
    return {**declared, **(_UNASSIGNED if data.engine != setting.engine else {})}, APPLIED


def _assign(setting: Setting, event: Event, data: e.SettingAssigned) -> tuple[Changes, Verdict]:
    if data.engine != setting.engine:  # declared anew for another kind while somebody was assigning
        return _NOTHING, refused(Reason.OTHER_CONTENT)
    if data.scheduler == setting.scheduler:
        return _NOTHING, superseded(Reason.UNCHANGED)
    return {"scheduler": data.scheduler, "assigned_by": event.actor, "assigned_time": event.time}, APPLIED
