"""What an app needs of schedulers, as Tethys Platform's apps say it: `SchedulerSetting`, and which scheduler it leads to.

For example:

    app = App("my_first_app", scheduler_settings=[SchedulerSetting("primary", "where models run", SchedulerSetting.HTCONDOR, True)])
    app.declare_scheduler_settings()  # once, when the app is installed; an administrator assigns a scheduler then
    job = app.get_job_manager().create_job("flood", job_type="CONDOR", scheduler=app.get_scheduler("primary"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

import msgspec

from jobledger.compute import Scheduler, get_scheduler
from jobledger.connection import Connection
from jobledger.errors import NotFound, SettingNotAssigned, SettingNotFound

_ENGINES: Mapping[str, str] = {"htcondor": "condor", "condor": "condor", "dask": "dask"}


class SchedulerSetting(msgspec.Struct, frozen=True):
    """A scheduler that an app needs. Raises ValueError for an engine that there is not."""

    HTCONDOR: ClassVar[str] = "htcondor"
    DASK: ClassVar[str] = "dask"

    name: str
    description: str = ""
    engine: str = "htcondor"
    required: bool = False  #: the app does not work without

    def __post_init__(self) -> None:
        if self.engine not in _ENGINES:
            raise ValueError(f"the engine of a scheduler setting is htcondor or dask, not {self.engine!r}")


class SettingView(msgspec.Struct, frozen=True, kw_only=True):
    """A setting as the service knows it."""

    label: str
    name: str
    engine: str  #: condor or dask
    description: str = ""
    required: bool = False
    scheduler: str | None = None  #: the name of the scheduler that is assigned
    assigned: bool = False  #: it leads to a scheduler that is there, of the right kind
    problem: str = ""  #: why it does not
    declared_by: str = ""
    assigned_by: str | None = None
    assigned_time: datetime | None = None


def declare(connection: Connection, label: str, settings: Sequence[SchedulerSetting]) -> list[SettingView]:
    """Make an app's settings exactly these. Safe to repeat. Raises `Forbidden` when they are somebody else's."""
    body = [{"name": s.name, "description": s.description, "engine": _ENGINES[s.engine], "required": s.required} for s in settings]
    answer = connection.schedulers.put(f"/schedulers/settings/{label}", {"settings": body})
    return msgspec.convert(answer.get("items", []), list[SettingView], strict=False)


def list_settings(connection: Connection, label: str = "") -> list[SettingView]:
    """An app's settings, or those of all apps."""
    if label:
        items = connection.schedulers.get(f"/schedulers/settings/{label}")["items"]
    else:
        items = list(connection.schedulers.pages("/schedulers/settings"))
    return msgspec.convert(items, list[SettingView], strict=False)


def assign(connection: Connection, label: str, name: str, scheduler: str | None) -> list[SettingView]:
    """Give a setting a scheduler, or none. Administrators only. Returns the app's settings. Raises `NotFound`, `InvalidRequest`."""
    answer = connection.schedulers.put(f"/schedulers/settings/{label}/{name}", {"scheduler": scheduler})
    return msgspec.convert(answer.get("items", []), list[SettingView], strict=False)


def resolve(connection: Connection, label: str, name: str) -> Scheduler:
    """The scheduler that a setting leads to. Raises `SettingNotFound`, `SettingNotAssigned`."""
    try:
        answer = connection.schedulers.get(f"/schedulers/settings/{label}/{name}")
    except NotFound as error:
        raise SettingNotFound(f"the app {label} has not declared a scheduler setting {name!r}") from error
    view = msgspec.convert(answer, SettingView, strict=False)
    scheduler = get_scheduler(view.scheduler, connection=connection) if view.assigned and view.scheduler else None
    if scheduler is None:
        why = view.problem or f"the scheduler {view.scheduler} is not registered any more"
        raise SettingNotAssigned(f"{label}/{name}: {why}; an administrator assigns one: `jobledger schedulers assign {label}/{name} NAME`")
    return scheduler
