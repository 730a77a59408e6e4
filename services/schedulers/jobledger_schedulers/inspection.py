"""Looks at schedulers for people: connections that are kept while somebody looks, and closed soon after.

They are apart from those that runs depend on. A look is bounded in rows and time by the views themselves; here their errors become
those of the API, in words that tell a user who is no administrator nothing about addresses and credentials.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

import msgspec
import structlog

from jobledger_contracts.scheduler import Scheduler
from jobledger_kit.clock import Clock
from jobledger_kit.errors import Conflict, FieldError, InvalidRequest, NotFound, Unavailable

from .adapters.port import SchedulerAdapter, SchedulerError
from .adapters.views import BadQuery, PoolView, WorkersView
from .store import SchedulerRow, SchedulersStore
from .vault import Credentials, Vault

IDLE_S: Final = 60.0
"""How long a connection outlives the last look."""
TICK_S: Final = 10.0

log = structlog.get_logger(__name__)

View = PoolView | WorkersView | SchedulerAdapter
OpenView = Callable[[Scheduler, Credentials], View]
T = TypeVar("T")


class Opened(msgspec.Struct):
    """A view that is open, and for what."""

    view: View
    made_for: tuple[object, ...]
    used_at_s: float
    users: int = 0


class Inspection:
    """Keeps views open between looks. `run` closes those that nobody uses, and all of them at the end."""

    def __init__(self, *, store: SchedulersStore, vault: Vault, clock: Clock, open_view: OpenView) -> None:
        self._store, self._vault, self._clock, self._open_view = store, vault, clock, open_view
        self._opened: dict[str, Opened] = {}
        self._opening = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await asyncio.sleep(TICK_S)
                limit_s = self._clock.monotonic() - IDLE_S
                for name in [name for name, opened in self._opened.items() if not opened.users and opened.used_at_s < limit_s]:
                    await _close(self._opened.pop(name).view)
        finally:
            while self._opened:
                await _close(self._opened.popitem()[1].view)

    @asynccontextmanager
    async def pool(self, name: str, *, frank: bool) -> AsyncIterator[PoolView]:
        """A view of an HTCondor pool. `frank`: errors may say all. Raises NotFound, Conflict, InvalidRequest, Unavailable, CannotOpen."""
        async with self._view(name, "condor", frank=frank) as view:
            yield view  # type: ignore[misc]

    @asynccontextmanager
    async def dask(self, name: str, *, frank: bool) -> AsyncIterator[WorkersView]:
        """A view of a Dask scheduler. Raises as `pool` does."""
        async with self._view(name, "dask", frank=frank) as view:
            yield view  # type: ignore[misc]

    @asynccontextmanager
    async def work(self, name: str, *, frank: bool) -> AsyncIterator[SchedulerAdapter]:
        """What reads the output of runs, where `open_view` opens such. Raises as `pool` does."""
        async with self._view(name, "", frank=frank) as view:
            yield view  # type: ignore[misc]

    @asynccontextmanager
    async def _view(self, name: str, type_: str, *, frank: bool) -> AsyncIterator[View]:
        row = await self._store.scheduler(name)
        if row is None or not row.state.exists:
            raise NotFound("scheduler", name)
        if type_ and row.state.type != type_:
            raise Conflict(f"{name} is a {row.state.type} scheduler: this can be asked of {type_} schedulers only.")
        try:
            opened = await self._get(row)
            opened.users += 1
            try:
                yield opened.view
            finally:
                opened.users -= 1
                opened.used_at_s = self._clock.monotonic()
        except BadQuery as error:
            raise InvalidRequest(errors=[FieldError(f"?{error.field}", str(error))]) from error
        except SchedulerError as error:
            log.info("A look at a scheduler failed", action="look_failed", scheduler=name, error=str(error))
            if error.retryable:
                raise Unavailable(f"{name} could not be looked at: {error}" if frank else f"{name} does not answer now.") from error
            raise Conflict(f"{name} could not be looked at: {error}" if frank else f"{name} does not let us look at it.") from error

    async def _get(self, row: SchedulerRow) -> Opened:
        """The open view of a scheduler as it is registered now."""
        name = row.state.name
        made_for = (row.state.registered_time, row.state.changed_time, row.revision)
        async with self._opening:
            opened = self._opened.get(name)
            if opened is not None and opened.made_for == made_for:
                opened.used_at_s = self._clock.monotonic()
                return opened
            if opened is not None:
                await _close(self._opened.pop(name).view)
            sealed = await self._store.credentials(name)
            credentials = self._vault.open(name, sealed.sealed) if sealed else Credentials()
            opened = Opened(self._open_view(row.state, credentials), made_for, self._clock.monotonic())
            self._opened[name] = opened
            return opened


async def _close(view: View) -> None:
    with suppress(SchedulerError):  # nobody waits for it any more
        await view.close()
