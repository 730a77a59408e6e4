"""What apps need of schedulers: they declare it, an administrator assigns, and both become events of the topic of settings.

An app's settings belong to whoever declared the first of them: who else could withdraw them would break the app. One request at a
time changes an app's settings, in whatever instance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from jobledger_contracts.envelope import new_event
from jobledger_contracts.ids import Position, new_job_id
from jobledger_contracts.scheduler_events import SchedulerName, SchedulerType, Text
from jobledger_contracts.setting_events import (
    SettingAssigned,
    SettingDeclared,
    SettingPart,
    SettingUnassigned,
    SettingWithdrawn,
    setting_key,
)
from jobledger_contracts.topics import SETTINGS
from jobledger_kit.bus import Bus
from jobledger_kit.clock import Clock
from jobledger_kit.credentials import Principal
from jobledger_kit.errors import Conflict, FieldError, Forbidden, InvalidRequest, NotFound
from jobledger_kit.http import Input
from jobledger_kit.positions import Positions

from .domain.reports import HEALTH_SOURCE
from .requests import Alone, Caller
from .store import SchedulersStore, SettingRow

SOURCE: Final = f"{HEALTH_SOURCE}/settings"
MAX_SETTINGS: Final = 50
"""Of one app."""
WITHDRAWN: Final = "the app declares it no more"


class SettingBody(Input, frozen=True, kw_only=True):
    """A scheduler that an app needs."""

    name: SettingPart
    engine: SchedulerType  #: condor or dask
    description: Text = ""
    required: bool = False  #: the app does not work without


class DeclareBody(Input, frozen=True, kw_only=True):
    """All schedulers that an app needs. What it declared before and does not name now is withdrawn."""

    settings: list[SettingBody]


class AssignBody(Input, frozen=True, kw_only=True):
    """Which scheduler a setting gets."""

    scheduler: SchedulerName | None  #: null: none


class Declared(msgspec.Struct, frozen=True):
    """What came of a request: the app's settings, unless our rows had not come to them in time."""

    rows: Sequence[SettingRow] | None
    position: Position | None = None  #: of the last event; None: nothing had to be said


class AppSettings:
    """Declares and assigns. `wait_s` bounds the wait for the projection."""

    def __init__(
        self,
        *,
        store: SchedulersStore,
        bus: Bus,
        positions: Positions,
        clock: Clock,
        alone: Alone,
        randomness: Callable[[int], bytes],
        wait_s: float = 5.0,
    ) -> None:
        self._store, self._bus, self._positions, self._clock = store, bus, positions, clock
        self._alone, self._randomness, self._wait_s = alone, randomness, wait_s

    async def declare(self, label: str, body: DeclareBody, principal: Principal, caller: Caller) -> Declared:
        """Make an app's settings those of the body. Raises InvalidRequest, Forbidden."""
        _check(label, body)
        async with self._alone(f"settings/{label}"):
            rows = {row.state.name: row for row in await self._store.settings_of(label)}
            owners = {row.state.declared_by for row in rows.values()}
            if owners and principal.actor not in owners and not principal.admin:
                raise Forbidden(f"The settings of {label} were declared by somebody else: they and administrators may change them.")
            events: list[Any] = []
            for wanted in body.settings:
                row = rows.pop(wanted.name, None)
                if row is None or any(getattr(row.state, name) != getattr(wanted, name) for name in ("engine", "description", "required")):
                    values = {name: getattr(wanted, name) for name in ("engine", "description", "required")}
                    events.append(SettingDeclared(setting=setting_key(label, wanted.name), **values))
            events += [SettingWithdrawn(setting=row.state.setting, reason=WITHDRAWN) for row in rows.values()]
            return await self._state(label, events, caller)

    async def assign(self, label: str, name: str, body: AssignBody, caller: Caller) -> Declared:
        """Give a setting a scheduler, or none. Raises NotFound, InvalidRequest, Conflict."""
        async with self._alone(f"settings/{label}"):
            row = await self.get(label, name)
            if body.scheduler is None:
                events: list[Any] = [SettingUnassigned(setting=row.state.setting)] if row.state.scheduler else []
                return await self._state(label, events, caller)
            found = await self._store.scheduler(body.scheduler)
            if found is None or not found.state.exists:
                raise InvalidRequest(errors=[FieldError("$.scheduler", f"there is no scheduler named {body.scheduler}")])
            kind = found.state.type
            if kind != row.state.engine:
                why = f"{body.scheduler} is a {kind} scheduler, and the app needs {row.state.engine}"
                raise InvalidRequest(errors=[FieldError("$.scheduler", why)])
            if row.state.scheduler == body.scheduler:
                return Declared([row])
            assigned = SettingAssigned(setting=row.state.setting, scheduler=body.scheduler, engine=kind)
            settled = await self._state(label, [assigned], caller)
            if settled.rows is not None and not any(r.state.name == name and r.state.scheduler == body.scheduler for r in settled.rows):
                raise Conflict(f"{label} has changed {name} in the meantime.")
            return settled

    async def get(self, label: str, name: str) -> SettingRow:
        """A declared setting. Raises NotFound."""
        row = await self._store.setting(label, name)
        if row is None:
            raise NotFound("setting", f"{label}/{name}")
        return row

    async def _state(self, label: str, data: Sequence[Any], caller: Caller) -> Declared:
        """Publish, and wait until our rows know it."""
        if not data:
            return Declared(await self._store.settings_of(label))
        now = self._clock.now()
        events = [
            new_event(
                one,
                id=new_job_id(int(now.timestamp() * 1000), self._randomness(10)),
                source=SOURCE,
                time=now,
                actor=caller.actor,
                correlation_id=caller.correlation_id,
                traceparent=caller.traceparent,
            )
            for one in data
        ]
        positions = await self._bus.publish(*events)
        deadline_s = self._clock.monotonic() + self._wait_s
        for position in positions:
            if not await self._positions.wait(SETTINGS, position, max(0.0, deadline_s - self._clock.monotonic())):
                return Declared(None, positions[-1])
        return Declared(await self._store.settings_of(label), positions[-1])


def problem_of(row: SettingRow) -> str:
    """Why a setting leads to no scheduler now; empty: it leads to one."""
    state = row.state
    if not state.scheduler:
        return "no scheduler is assigned"
    if not row.registered_type:
        return f"the scheduler {state.scheduler} that is assigned is not registered any more"
    if row.registered_type != state.engine:
        return f"the scheduler {state.scheduler} that is assigned is of type {row.registered_type} now, and {state.engine} is needed"
    return ""


def _check(label: str, body: DeclareBody) -> None:
    problems: list[FieldError] = []
    try:
        msgspec.convert(label, SettingPart)
    except msgspec.ValidationError:
        problems.append(FieldError("label", "a label of letters, digits, dots, hyphens and underscores is expected"))
    if len(body.settings) > MAX_SETTINGS:
        problems.append(FieldError("$.settings", f"more than {MAX_SETTINGS}"))
    names = [setting.name for setting in body.settings]
    problems += [FieldError(f"$.settings[{n}].name", "is there twice") for n, name in enumerate(names) if name in names[:n]]
    if problems:
        raise InvalidRequest(errors=problems)
