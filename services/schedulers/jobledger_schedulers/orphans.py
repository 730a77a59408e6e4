"""Runs whose scheduler is not there: it was removed, or was never registered. They end, and say why."""

from __future__ import annotations

from typing import Final

import structlog

from jobledger_contracts.statuses import Status
from jobledger_kit.bus import Bus
from jobledger_kit.clock import Clock
from jobledger_kit.effects import EffectLedger

from .domain import reports
from .domain.runs import Phase, Run, Seen
from .store import SchedulersStore

AT_ONCE: Final = 500

log = structlog.get_logger(__name__)


class Orphans:
    """Ends what a missing scheduler leaves behind, after a grace: the registry's events and the jobs' come in no order."""

    def __init__(self, store: SchedulersStore, effects: EffectLedger, bus: Bus, clock: Clock, grace_s: float) -> None:
        self._store, self._effects, self._bus, self._clock, self._grace_s = store, effects, bus, clock, grace_s
        self._since: dict[str, float] = {}

    def forget(self, registered: set[str]) -> None:
        """These schedulers are there (again)."""
        for name in registered & self._since.keys():
            del self._since[name]

    async def end(self, scheduler: str, *, removed: bool) -> None:
        """End the runs of a scheduler that has been missing for long enough."""
        now = self._clock.monotonic()
        if now - self._since.setdefault(scheduler, now) < self._grace_s:
            return
        why = f"The scheduler {scheduler} was removed" if removed else f"There is no scheduler named {scheduler}"
        for phase in (Phase.ASKED, Phase.PLACED, Phase.COLLECTING):
            while runs := await self._store.live_runs(scheduler, phase, AT_ONCE):
                await self._bus.publish(*(reports.ended(run, _seen(run, why), self._clock.now()) for run in runs))
                await self._store.ended([run.run_id for run in runs])
                log.warning("Runs without a scheduler were ended", action="orphans_ended", scheduler=scheduler, runs=len(runs))
        while dues := await self._effects.take(AT_ONCE, self._grace_s + 30, lanes=[scheduler]):
            await self._effects.done(dues)


def _seen(run: Run, why: str) -> Seen:
    status = Status.ABORTED if run.desired == "stop" else Status.ERROR
    if run.phase is Phase.ASKED and run.submit_begun_at is None:
        message = f"{why}; the run was never handed over."
    else:
        message = f"{why}; what became of the run there is not known."
    return Seen(status=status, message=message, ref=run.ref, restarts=run.seen.restarts if run.seen else 0)
