"""Carrying effects out: what is due for one scheduler is taken in batches and done in as few calls as possible."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from jobledger_contracts.envelope import Event
from jobledger_kit.effects import Due

from .adapters.port import AuthenticationFailed, NotSupported, Refused
from .domain import reports
from .domain.runs import Phase, Run
from .lane import Backoff, Lane, LaneLost
from .reactors import PAUSE, REFRESH, RESUME, STOP, SUBMIT, asked
from .submission import Later, Submission
from .troubles import TROUBLES, in_words

IDLE_S = 5.0  #: how long to wait for a wake-up before looking anyway: a lost one costs no more than this
FORGOTTEN_AFTER_S = 15.0  #: a run that nobody hands over for so long after it was asked for is taken up again
ORDER = (STOP, PAUSE, RESUME, REFRESH, SUBMIT)

Call = Callable[[Sequence[str], str], Awaitable[None]]


class Orders:
    """Carries the effects of one lane out, one batch after the other. The lane's holder alone takes from it."""

    def __init__(self, lane: Lane, submission: Submission) -> None:
        self._lane, self._submission = lane, submission
        self._backoff = Backoff()

    async def run(self) -> None:
        """Work until cancelled. Raises LaneLost, and what is nobody's trouble but a fault of ours."""
        lane = self._lane
        await lane.store.reopen_lane(lane.name)
        while True:
            try:
                busy = await self.once()
            except LaneLost:
                raise
            except TROUBLES as error:
                wait_s = self._backoff.failed()
                lane.log.warning("Requests could not be carried out", action="orders_failed", error=in_words(error), retry_after_s=wait_s)
                await self._rest(wait_s)
                continue
            self._backoff.reset()
            if not busy:
                await lane.work.wait(IDLE_S)

    async def once(self) -> bool:
        """Carry out one batch, or take up what was forgotten. Says whether there was anything to do."""
        lane = self._lane
        dues = await lane.effects.take(lane.settings.effect_batch, lane.settings.lane_lease_s, lanes=[lane.name])
        if not dues:
            forgotten = await lane.store.forgotten_runs(lane.name, FORGOTTEN_AFTER_S, lane.settings.effect_batch)
            if forgotten:
                lane.log.warning("Runs that nobody handed over are taken up again", action="runs_taken_up", runs=forgotten[:20])
                await self._submission.hand_over(forgotten)
            return False
        by_kind: dict[str, list[Due]] = defaultdict(list)
        for due in dues:
            by_kind[due.effect.kind].append(due)
        failure: Exception | None = None
        for kind in sorted(by_kind, key=lambda kind: ORDER.index(kind) if kind in ORDER else len(ORDER)):
            try:
                await self._carry_out(kind, by_kind[kind])
            except LaneLost:
                raise
            except AuthenticationFailed as error:
                if kind == SUBMIT:
                    failure = error
                # Else it may be about these runs alone: they wait by themselves, and hold nobody else up.
                await self._put_off(by_kind[kind], in_words(error), after_s=0.0 if kind == SUBMIT else None)
            except TROUBLES as error:  # the others of the batch are tried all the same
                failure = error
                await self._put_off(by_kind[kind], in_words(error), after_s=0.0)
        if failure is not None:
            raise failure
        return True

    async def _carry_out(self, kind: str, dues: Sequence[Due]) -> None:
        lane, adapter = self._lane, self._lane.adapter
        later: dict[str, Later] = {}
        if kind == SUBMIT:
            later = await self._submission.hand_over([asked(due.effect).run_id for due in dues])
        elif kind == STOP:
            await self._stop(dues)
        elif kind == PAUSE:
            await self._pause(dues)
        elif kind == RESUME:
            await self._act(dues, adapter.release)
        elif kind != REFRESH:
            lane.log.error("An effect of a kind that is not known", action="effect_unknown", kind=kind)
            for due in dues:
                await lane.effects.give_up(due, f"no such kind of effect: {kind}")
            return
        await lane.effects.done([due for due in dues if asked(due.effect).run_id not in later])
        for due in dues:
            if (wait := later.get(asked(due.effect).run_id)) is not None:
                await lane.effects.retry(due, wait.after_s, wait.why)
        lane.look.set()

    async def _stop(self, dues: Sequence[Due]) -> None:
        """End runs at the scheduler; one that it never had ends here. What they end as is told by the next look."""
        runs = await self._lane.store.runs([asked(due.effect).run_id for due in dues])
        waiting = [run.run_id for run in runs.values() if run.phase is Phase.ASKED]
        if waiting:
            await self._submission.hand_over(waiting)
            runs |= await self._lane.store.runs(waiting)
        await self._act(dues, self._lane.adapter.stop, runs)
        await self._lane.store.stop_sent([run.run_id for run in runs.values() if run.phase is Phase.PLACED])

    async def _pause(self, dues: Sequence[Due]) -> None:
        """Hold runs, or suspend those whose job says so."""
        created = await self._lane.store.created([asked(due.effect).run_id for due in dues])
        by_suspension = {run_id for run_id, job in created.items() if job.condor is not None and job.condor.pause_by == "suspend"}
        suspended = [due for due in dues if asked(due.effect).run_id in by_suspension]
        held = [due for due in dues if asked(due.effect).run_id not in by_suspension]
        if held:
            await self._act(held, self._lane.adapter.hold)
        if suspended:
            await self._act(suspended, self._lane.adapter.suspend)

    async def _act(self, dues: Sequence[Due], call: Call, runs: dict[str, Run] | None = None) -> None:
        """Call the scheduler for those of the runs that it has, once for each reason."""
        if runs is None:
            runs = await self._lane.store.runs([asked(due.effect).run_id for due in dues])
        by_reason: dict[str, list[Due]] = defaultdict(list)
        for due in dues:
            run = runs.get(asked(due.effect).run_id)
            if run is not None and run.phase is Phase.PLACED:
                by_reason[asked(due.effect).reason].append(due)
        for reason, group in by_reason.items():
            self._lane.guard()
            await self._lane.publish(await self._call(call, group, reason, runs))

    async def _call(self, call: Call, group: Sequence[Due], reason: str, runs: dict[str, Run]) -> list[Event]:
        """Call, and say of each run that it was refused for why. Raises when nothing is certain."""
        try:
            await call([asked(due.effect).run_id for due in group], reason)
        except (Refused, NotSupported) as error:
            if len(group) > 1:
                return [event for due in group for event in await self._call(call, [due], reason, runs)]
            run, what = runs[asked(group[0].effect).run_id], group[0].effect
            return [reports.noted(run, what.key, f"The request to {what.kind} it was not carried out: {error}", self._lane.clock.now())]
        return []

    async def _put_off(self, dues: Sequence[Due], why: str, *, after_s: float | None) -> None:
        """Try again: with the lane's next try (0; until then the lane takes nothing at all), or each by itself (None)."""
        for due in dues:
            await self._lane.effects.retry(due, after_s, why)

    async def _rest(self, wait_s: float) -> None:
        """Wait whatever comes in; then take up again also what a failed transaction has left leased."""
        await self._lane.came_back.wait(wait_s)
        try:
            await self._lane.store.reopen_lane(self._lane.name)
        except TROUBLES as error:
            self._lane.log.warning("The database does not answer", action="database_away", error=in_words(error))
