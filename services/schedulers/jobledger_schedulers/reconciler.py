"""Desired against observed: one lane of work for each scheduler, each held by one instance at a time.

The manager here decides which lanes this process works on: it takes leases, connects, and starts anew what failed or what was
reconfigured. A lane itself is four loops that share an adapter: `orders` (carries effects out), `sweep` (looks), its listener, and
`collection` (brings output home). They meet only in the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Final
from uuid import UUID, uuid4

import msgspec
import structlog

from jobledger_contracts.scheduler import Scheduler
from jobledger_contracts.topics import JOBS
from jobledger_kit.bus import Bus
from jobledger_kit.clock import Clock
from jobledger_kit.effects import EffectLedger
from jobledger_kit.keyring import Key
from jobledger_kit.positions import Positions

from .adapters.port import SchedulerAdapter
from .collection import Collection
from .config import SchedulersSettings
from .health import Health
from .lane import Backoff, Lane, LaneLost, Signal
from .metrics import LANE_FAILURES, LANES_HELD
from .nodes import Nodes
from .orders import Orders
from .orphans import Orphans
from .staging import Staging
from .store import SchedulerRow, SchedulersStore
from .submission import Submission
from .sweep import Sweep
from .troubles import TROUBLES, in_words
from .vault import Credentials, Vault

TICK_S: Final = 2.0
CLOSE_TIMEOUT_S: Final = 10.0

Connect = Callable[[Scheduler, Credentials], SchedulerAdapter]
Identity = tuple[object, ...]

log = structlog.get_logger(__name__)


class Running(msgspec.Struct):
    """A lane that this process works on."""

    lane: Lane
    task: asyncio.Task[None]
    identity: Identity


class Reconciler:
    """Works on schedulers until cancelled."""

    def __init__(
        self,
        *,
        store: SchedulersStore,
        effects: EffectLedger,
        bus: Bus,
        clock: Clock,
        settings: SchedulersSettings,
        connect: Connect,
        vault: Vault,
        staging: Staging,
        credential_key: Key,
        jobs_positions: Positions,
        registry_positions: Positions,
    ) -> None:
        self._store, self._effects, self._bus, self._clock, self._settings = store, effects, bus, clock, settings
        self._connect, self._vault, self._staging, self._key = connect, vault, staging, credential_key
        self._positions = (jobs_positions, registry_positions)
        self._orphans = Orphans(store, effects, bus, clock, settings.unknown_scheduler_grace_s)
        self._incarnation = uuid4().hex
        self._lanes: dict[str, Running] = {}
        self._setbacks: dict[str, tuple[Backoff, float]] = {}
        self._changed = Signal()
        self._work = Signal()
        self._stopping = asyncio.Event()

    async def stop(self) -> None:
        """Let `run` return in good order: calls that are under way are cut, and looked up by whoever comes next."""
        self._stopping.set()
        self._changed.set()

    async def unless_stopped(self, first: Coroutine[None, None, None]) -> bool:
        """Do what must come before `run`. Returns False when `stop` was called meanwhile: then it was cut."""
        work, stopping = asyncio.create_task(first), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
            return work.done() and work.result() is None
        finally:
            for task in (work, stopping):
                task.cancel()
            await asyncio.wait((work, stopping))

    async def run(self) -> None:
        """Hold lanes and work on them; what is held is let go of at the end."""
        try:
            async with asyncio.TaskGroup() as group:
                wakers = [group.create_task(self._follow(positions)) for positions in self._positions]
                wakers.append(group.create_task(self._wake_lanes()))
                await self._look_after_lanes()
                for waker in wakers:
                    waker.cancel()
        finally:
            await self._let_go()

    async def _look_after_lanes(self) -> None:
        retake = True
        while not self._stopping.is_set():
            try:
                await self._tick(retake=retake)
                retake = False
            except TROUBLES as error:
                log.warning("The lanes could not be looked after", action="tick_failed", error=in_words(error))
            await self._changed.wait(min(TICK_S, self._settings.lane_lease_s / 3))

    async def _follow(self, positions: Positions) -> None:
        """Pass on that something was folded: requests for runs to their lanes, news of schedulers to the manager."""
        async for moved in positions.subscribe():
            (self._work if moved.topic == JOBS else self._changed).set()

    async def _wake_lanes(self) -> None:
        """Wake the lanes that have something to do: one cheap query for however many events came meanwhile."""
        while True:
            await self._work.wait(TICK_S)
            try:
                due = await self._effects.lanes()
            except TROUBLES as error:
                log.warning("The database does not answer", action="database_away", error=in_words(error))
                await asyncio.sleep(1.0)
                continue
            for name in due:
                if (running := self._lanes.get(name)) is not None:
                    running.lane.work.set()
                else:
                    self._changed.set()

    async def _tick(self, *, retake: bool) -> None:
        """Prolong leases, start what is missing, end what is not ours or not as it was."""
        rows = {row.state.name: row for row in await self._store.schedulers()}
        registered = {name for name, row in rows.items() if row.state.exists}
        self._orphans.forget(registered)
        asked_at = self._clock.monotonic()
        lease_s = self._settings.lane_lease_s
        wanted = registered | await self._store.lanes_with_work()
        held = await self._store.hold_lanes(wanted, self._settings.instance_id, self._incarnation, lease_s, retake=retake)
        LANES_HELD.set(len(held))
        for name, running in list(self._lanes.items()):
            running.lane.held_until = asked_at + lease_s * 0.8 if name in held else 0.0
            if name not in held or name not in registered or running.task.done() or running.identity != _identity(rows[name]):
                await self._end(name)
        for name in sorted(held):
            if name not in registered:
                await self._orphans.end(name, removed=name in rows)
            elif name not in self._lanes:
                await self._begin(rows[name], asked_at + lease_s * 0.8)

    async def _begin(self, row: SchedulerRow, held_until: float) -> None:
        """Connect and start a lane, unless it failed just now."""
        name = row.state.name
        if self._setbacks.get(name, (None, 0.0))[1] > self._clock.monotonic():
            return
        sealed = await self._store.credentials(name)
        try:
            credentials = self._vault.open(name, sealed.sealed) if sealed else Credentials()
            adapter = self._connect(row.state, credentials)
        except Exception as error:  # noqa: BLE001 - one scheduler's bad settings must not end the work on the others
            self._set_back(name, error)
            return
        lane = Lane(
            name=name,
            adapter=adapter,
            store=self._store,
            effects=self._effects,
            bus=self._bus,
            clock=self._clock,
            settings=self._settings,
            staging=self._staging,
            max_runs=row.state.max_runs,
            held_until=held_until,
        )
        task = asyncio.create_task(self._work_on(lane, row.state), name=f"lane {name}")
        self._lanes[name] = Running(lane, task, _identity(row))
        log.info("Work on a scheduler begins", action="lane_begun", scheduler=name)

    async def _work_on(self, lane: Lane, state: Scheduler) -> None:
        """The four loops of a lane. What is wrong in one lane stays there: it is logged, counted, and the lane is started anew."""
        health = Health(lane, state)
        nodes = Nodes(lane)
        orders, sweep, collection = Orders(lane, Submission(lane, self._key, nodes)), Sweep(lane, health, nodes), Collection(lane, nodes)
        try:
            async with asyncio.TaskGroup() as group:
                for part in (orders.run(), sweep.run(), sweep.listen(), collection.run()):
                    group.create_task(part)
        except* LaneLost as lost:
            log.warning("A lane is no longer ours", action="lane_lost", scheduler=lane.name, error=in_words(lost.exceptions[0]))
        except* Exception as failed:  # noqa: BLE001 - see above
            self._set_back(lane.name, failed)
        finally:
            self._changed.set()

    def _set_back(self, name: str, error: BaseException) -> None:
        backoff = self._setbacks.get(name, (Backoff(), 0.0))[0]
        wait_s = backoff.failed()
        self._setbacks[name] = (backoff, self._clock.monotonic() + wait_s)
        LANE_FAILURES.labels(name).inc()
        log.error("Work on a scheduler failed", action="lane_failed", scheduler=name, retry_after_s=wait_s, exc_info=error)

    async def _end(self, name: str) -> None:
        """Stop a lane's loops and disconnect."""
        running = self._lanes.pop(name)
        running.task.cancel()
        with suppress(asyncio.CancelledError):
            await running.task
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await running.lane.adapter.close()
        except Exception as error:  # noqa: BLE001 - whatever a connection says at its end, it is of no use any more
            log.warning("An adapter did not close well", action="adapter_close_failed", scheduler=name, error=repr(error))
        log.info("Work on a scheduler ended", action="lane_ended", scheduler=name)

    async def _let_go(self) -> None:
        await asyncio.gather(*(self._end(name) for name in list(self._lanes)))
        with suppress(*TROUBLES):  # the leases run out by themselves
            await self._store.leave_lanes(self._incarnation)


def _identity(row: SchedulerRow) -> Identity:
    """What a connection depends on: how the scheduler is reached, and which credentials are kept."""
    state = row.state
    revision: UUID | None = row.revision
    return (
        state.type, state.host, state.port, state.transport, state.schedd_name, state.username, state.timeout_s,
        state.registered_time, revision,
    )  # fmt: skip
