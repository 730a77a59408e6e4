"""A checked request about the registry becomes the event that states it; the caller waits, bounded, for what comes of it.

Credentials are the exception: they never enter the log, so they are stored here, sealed, before the event that makes the scheduler
usable. One request at a time changes a name's registration, in whatever instance.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import asyncpg
import msgspec

from jobledger_contracts.envelope import new_event
from jobledger_contracts.ids import Position, new_job_id
from jobledger_contracts.scheduler_events import SchedulerChanged, SchedulerDescription, SchedulerRegistered, SchedulerRemoved
from jobledger_contracts.topics import SCHEDULERS
from jobledger_kit.bus import Bus
from jobledger_kit.clock import Clock
from jobledger_kit.errors import CannotOpen, Conflict, FieldError, InvalidRequest, NotFound, Unavailable
from jobledger_kit.positions import Positions

from .adapters.htcondor_ssh.host_keys import ShownKey, host_keys
from .adapters.port import SchedulerError
from .domain.reports import HEALTH_SOURCE
from .first_aid import FirstAid
from .store import SchedulerRow, SchedulersStore
from .vault import FIELDS, Credentials, Vault
from .views import CheckView, ResealView, SchedulerBody

RESERVED: Final = frozenset({"health", "metrics", "openapi.json", "dead-letters", "settings", "credentials"})
"""Names that paths of our own have."""

Alone = Callable[[str], AbstractAsyncContextManager[None]]
"""Keeps other requests for the same name waiting meanwhile."""
AskKey = Callable[[str, int], Awaitable[ShownKey]]
"""Asks the SSH server at a host and port for its key; raises SchedulerError."""


class Caller(msgspec.Struct, frozen=True):
    """On whose behalf something is asked, and which story it belongs to."""

    actor: str
    correlation_id: str = ""
    traceparent: str = ""


class Settled(msgspec.Struct, frozen=True):
    """What came of a request. Without a row our rows had not come to it in time: it is in the log, and will."""

    name: str
    created: bool
    position: Position | None = None  #: None: nothing had to be said
    row: SchedulerRow | None = None


class Registry:
    """Registers schedulers and contacts them. `wait_s` bounds the wait for the projection; `randomness(n)` gives n random bytes."""

    def __init__(
        self,
        *,
        store: SchedulersStore,
        bus: Bus,
        positions: Positions,
        clock: Clock,
        vault: Vault,
        first_aid: FirstAid,
        ask_key: AskKey,
        randomness: Callable[[int], bytes],
        wait_s: float = 5.0,
    ) -> None:
        self._store, self._bus, self._positions, self._clock = store, bus, positions, clock
        self._vault, self._first_aid, self._ask_key, self._randomness, self._wait_s = vault, first_aid, ask_key, randomness, wait_s

    async def register(self, body: SchedulerBody, caller: Caller) -> Settled:
        """Register a scheduler under a new name. Raises Conflict when the name has another one already."""
        body = await self._checked(body)
        async with self.alone(body.name):
            row = await self._store.scheduler(body.name)
            credentials = merged(body, Credentials())
            if row is not None and row.state.exists:
                if _same(row, body) and await self._kept(body.name) == credentials:
                    return Settled(body.name, created=False, row=row)
                raise Conflict(f"There is a scheduler named {body.name} already, with other settings. PUT replaces them.")
            await self._keep(body.name, credentials)
            return await self._state(_describe(SchedulerRegistered, body), body.name, caller, created=True)

    async def replace(self, name: str, body: SchedulerBody, caller: Caller) -> Settled:
        """Register a scheduler, or replace what is known of it. Credentials that are not named stay. Raises InvalidRequest, Conflict."""
        if body.name != name:
            raise InvalidRequest(errors=[FieldError("$.name", f"the path says {name!r}")])
        body = await self._checked(body)
        async with self.alone(name):
            row = await self._store.scheduler(name)
            if row is None or not row.state.exists:
                await self._keep(name, merged(body, Credentials()))
                return await self._state(_describe(SchedulerRegistered, body), name, caller, created=True)
            if row.state.type != body.type:
                raise Conflict(f"{name} is a {row.state.type} scheduler; another kind needs another name.")
            before = await self._kept(name)
            credentials = merged(body, before)
            if credentials != before:
                await self._keep(name, credentials)
            if _same(row, body):
                fresh = await self._store.scheduler(name)
                return Settled(name, created=False, row=fresh)
            return await self._state(_describe(SchedulerChanged, body), name, caller, created=False)

    async def remove(self, name: str, caller: Caller, *, force: bool) -> Settled:
        """Take a scheduler out of the registry, with its credentials. Raises NotFound, and Conflict while runs are on it."""
        async with self.alone(name):
            await self.get(name)
            runs = await self._store.count_live_runs(name)
            if runs and not force:
                raise Conflict(f"{runs} runs are on {name}. Stop them first; force=true removes it anyway, and they end with an error.")
            reason = f"removed while {runs} runs were on it" if runs else ""
            settled = await self._state(SchedulerRemoved(name=name, reason=reason), name, caller, created=False)
            await self._store.delete_credentials(name)
            return settled

    async def get(self, name: str) -> SchedulerRow:
        """A registered scheduler. Raises NotFound."""
        row = await self._store.scheduler(name)
        if row is None or not row.state.exists:
            raise NotFound("scheduler", name)
        return row

    async def check(self, name: str) -> CheckView:
        """Contact a scheduler now, step by step, over connections of its own. Raises NotFound, CannotOpen."""
        row = await self.get(name)
        return await self._first_aid.check(row.state, await self._kept(name))

    async def reseal(self) -> ResealView:
        """Seal all credentials under the current key; those that no key of ours opens are named, and stay as they are."""
        view = ResealView(key_id=self._vault.key_id)
        for name, before in (await self._store.all_credentials()).items():
            try:
                after = self._vault.resealed(name, before)
            except CannotOpen:
                view.unreadable.append(name)
                continue
            # One that was changed in between was sealed under the current key then: we have no other.
            if after is None or not await self._store.reseal(name, before, after):
                view.current.append(name)
            else:
                view.resealed.append(name)
        return view

    async def _checked(self, body: SchedulerBody) -> SchedulerBody:
        """The body with its host key in one spelling. Raises InvalidRequest.

        Without a host key it says which one the server shows: to trust it is for a person to decide, who compares it with what the
        server's administrator says.
        """
        check(body)
        if body.transport != "ssh":
            return body
        if keys := host_keys(body.known_host_key):
            return msgspec.structs.replace(body, known_host_key="\n".join(keys))
        try:
            shown = await self._ask_key(body.host, body.port)
            hint = f"the server shows {shown.fingerprint}; if its administrator confirms that, register it with {shown.line!r}"
        except SchedulerError as error:
            hint = f"the server could not be asked for it: {error}"
        raise InvalidRequest(
            errors=[FieldError("$.known_host_key", f"is needed for ssh, so that nobody else can pose as the server; {hint}")]
        )

    async def _kept(self, name: str) -> Credentials:
        sealed = await self._store.credentials(name)
        return self._vault.open(name, sealed.sealed) if sealed else Credentials()

    async def _keep(self, name: str, credentials: Credentials) -> None:
        await self._store.save_credentials(name, credentials.given, self._vault.seal(name, credentials))

    async def _state(self, data: Any, name: str, caller: Caller, *, created: bool) -> Settled:
        """Publish, wait until our rows know it, and look what came of it. Raises Conflict when somebody else was first."""
        now = self._clock.now()
        event = new_event(
            data,
            id=new_job_id(int(now.timestamp() * 1000), self._randomness(10)),
            source=HEALTH_SOURCE,
            time=now,
            actor=caller.actor,
            correlation_id=caller.correlation_id,
            traceparent=caller.traceparent,
        )
        (position,) = await self._bus.publish(event)
        if not await self._positions.wait(SCHEDULERS, position, self._wait_s):
            return Settled(name, created=created, position=position)
        row = await self._store.scheduler(name)
        if row is None:
            raise Conflict(f"The request is in the log at {position}, but parked: an earlier event about {name} cannot be read.")
        if isinstance(data, SchedulerDescription) and not (row.state.exists and _described(row, data)):
            raise Conflict(f"Somebody else has changed {name} at the same moment.")
        return Settled(name, created=created, position=position, row=row)

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """Keep other requests for this name waiting, in all instances; the lock is the connection's, and goes with it."""
        try:
            async with self._store.pool.acquire(timeout=10) as connection:
                await self._store.lock_scheduler(connection, name)
                try:
                    yield
                finally:
                    await self._store.unlock_scheduler(connection, name)
        except (asyncpg.QueryCanceledError, TimeoutError) as error:
            raise Unavailable(what="The registration of this scheduler") from error


def check(body: SchedulerBody) -> None:
    """Say what is wrong with a description beyond its shape. Raises InvalidRequest with everything."""
    problems: list[FieldError] = []
    if body.name in RESERVED:
        problems.append(FieldError("$.name", "is reserved"))
    if body.type == "dask":
        if body.transport not in ("", "tcp"):
            problems.append(FieldError("$.transport", "a Dask scheduler is reached by tcp"))
        if body.schedd_name:
            problems.append(FieldError("$.schedd_name", "a Dask scheduler has none"))
        if body.event_log:
            problems.append(FieldError("$.event_log", "a Dask scheduler has none"))
    else:
        if body.event_log and not _is_path(body.event_log):
            problems.append(FieldError("$.event_log", "is an absolute path of one line, such as /var/log/condor/EventLog"))
        if body.heartbeat_interval_s:
            problems.append(FieldError("$.heartbeat_interval_s", "is for Dask only"))
        if body.transport == "tcp":
            problems.append(FieldError("$.transport", "HTCondor is reached by its bindings or by ssh"))
        if body.transport == "ssh":
            problems += _check_ssh(body)
    if body.known_host_key and body.transport != "ssh":
        problems.append(FieldError("$.known_host_key", "is for ssh only"))
    if problems:
        raise InvalidRequest(errors=problems)


def _check_ssh(body: SchedulerBody) -> list[FieldError]:
    problems = []
    if not body.username:
        problems.append(FieldError("$.username", "is needed for ssh"))
    if body.schedd_name:
        problems.append(FieldError("$.schedd_name", "an access point that is reached by ssh uses its own schedd"))
    try:
        host_keys(body.known_host_key)
    except ValueError as error:
        problems.append(FieldError("$.known_host_key", str(error)))
    return problems


def _is_path(text: str) -> bool:
    return text.startswith("/") and text.isprintable()


def merged(body: SchedulerBody, before: Credentials) -> Credentials:
    """The credentials that a body leaves: what it names, else what was there."""
    given = {name: getattr(body, name) for name in FIELDS}
    values = {name: getattr(before, name) if value is msgspec.UNSET else value or "" for name, value in given.items()}
    return Credentials(**values)


def _describe(struct: type[SchedulerDescription], body: SchedulerBody) -> SchedulerDescription:
    values = {name: getattr(body, name) for name in SchedulerDescription.__struct_fields__}
    values["transport"] = body.transport or ("tcp" if body.type == "dask" else "bindings")
    return struct(**values)


def _same(row: SchedulerRow, body: SchedulerBody) -> bool:
    return _described(row, _describe(SchedulerRegistered, body))


def _described(row: SchedulerRow, data: SchedulerDescription) -> bool:
    return all(getattr(row.state, name) == getattr(data, name) for name in SchedulerDescription.__struct_fields__)
