"""Looking at a scheduler: one query for all its current runs, and what that says is told.

What is new is published first and remembered after: a crash in between tells it again under the same id. A run that is over goes to
the collection of its output first, when there is any; its end is told after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from jobledger_contracts.statuses import Status

from .adapters.port import Observation
from .domain import reports
from .domain.runs import Phase, Run, Seen
from .domain.watching import Change, again_seen, begins_again, judge, lost, lost_seen, missed, stop_again
from .health import Health
from .lane import Backoff, Lane, LaneLost
from .metrics import PLACED, SWEEP_SECONDS
from .nodes import Nodes
from .store import Ending
from .troubles import TROUBLES, in_words

EVENTS_AT_ONCE: Final = 500
SHORTEST_GAP_S: Final = 0.1
"""Between two looks, however often something wakes us: a scheduler that pushes each change must not be asked for each."""


class Sweep:
    """Looks after the placed runs of one lane."""

    def __init__(self, lane: Lane, health: Health, nodes: Nodes | None = None) -> None:
        self._lane, self._health, self._nodes = lane, health, nodes or Nodes(lane)
        self._backoff = Backoff()

    async def run(self) -> None:
        """Look until cancelled, every `sweep_interval_s` and whenever something calls. Raises LaneLost, and faults of ours."""
        lane = self._lane
        while True:
            wait_s = lane.settings.sweep_interval_s
            try:
                await self.once()
                if self._backoff.failures:
                    self._backoff.reset()
                    lane.came_back.set()
            except LaneLost:
                raise
            except TROUBLES as error:
                wait_s = self._backoff.failed()
                lane.log.warning("The scheduler could not be looked at", action="sweep_failed", error=in_words(error), retry_after_s=wait_s)
            await asyncio.sleep(SHORTEST_GAP_S)
            if self._backoff.failures:
                await asyncio.sleep(wait_s)
            else:
                await lane.look.wait(wait_s)

    async def listen(self) -> None:
        """Let what the scheduler pushes cause a look. Returns at once when it pushes nothing."""
        events = self._lane.adapter.events
        if events is not None:
            async for _ in events:
                self._lane.look.set()

    async def once(self) -> None:
        """One look at everything."""
        lane = self._lane
        runs = {run.run_id: run for run in await lane.store.live_runs(lane.name, Phase.PLACED)}
        PLACED.labels(lane.name).set(len(runs))
        if not runs:
            await self._health.check_when_due()
            return
        started_s = lane.clock.monotonic()
        async with self._health.watched():
            observations = await lane.adapter.observe(list(runs))
        SWEEP_SECONDS.labels(lane.name).observe(lane.clock.monotonic() - started_s)
        now = lane.clock.now()
        present = [o for o in observations if o.run_id in runs and not o.gone and o.status is not None]
        seen_ids = {o.run_id for o in present}
        await self._tell(runs, present, now)
        await self._found_again([runs[run_id] for run_id in seen_ids if runs[run_id].missing_looks])
        await self._count_missing([run for run_id, run in runs.items() if run_id not in seen_ids], now)
        await self._stop_again(runs, present, now)

    async def _tell(self, runs: dict[str, Run], observations: Sequence[Observation], now: datetime) -> None:
        """Publish what is new, then remember it. What is known of nodes is told before the end of their run."""
        await self._nodes.tell(runs, {o.run_id: o.nodes for o in observations if o.nodes}, now)
        changes: list[tuple[Change, Observation]] = []
        for observation in observations:
            change = judge(runs[observation.run_id], seen_of(observation), results_ready=observation.results_ready)
            if change is not None:
                changes.append((change, observation))
        for start in range(0, len(changes), EVENTS_AT_ONCE):
            part = changes[start : start + EVENTS_AT_ONCE]
            moved = [(c, o) for c, o in part if not c.seen.over]
            over = [(c, o) for c, o in part if c.seen.over and not c.collect]
            to_collect = [Ending(run=c.run, seen=c.seen, evidence=o.evidence) for c, o in part if c.collect]
            if to_collect:
                await self._lane.store.begin_collection(to_collect)
                self._lane.fetch.set()
            await self._nodes.end([(c.run, c.seen.status) for c, _ in over], now)
            events = [reports.changed(c.run, c.seen, now, o.evidence) for c, o in moved]
            events += [reports.ended(c.run, c.seen, now, o.evidence) for c, o in over]
            await self._lane.publish(events)
            if moved:
                await self._lane.store.reported([(c.run, c.seen, now) for c, _ in moved])
            if over:
                await self._lane.store.ended([c.run.run_id for c, _ in over])

    async def _found_again(self, runs: Sequence[Run]) -> None:
        if runs:
            await self._lane.store.found_again([run.run_id for run in runs])

    async def _count_missing(self, runs: Sequence[Run], now: datetime) -> None:
        """Count the looks that missed a run; when they were many, look once more by its id, and then say that it is lost."""
        if not runs:
            return
        lane = self._lane
        counted = [missed(run, now) for run in runs]
        await lane.store.missed(counted)
        gone = {run.run_id: run for run in counted if lost(run, now)}
        if not gone:
            return
        found = await lane.adapter.find(list(gone))
        still_there = [o for o in found.values() if not o.gone and o.status is not None]
        await self._tell(gone, still_there, now)
        for observation in still_there:
            del gone[observation.run_id]
        await self._found_again([run for run in counted if run.run_id in found])
        if gone:
            jobs = await lane.store.created(list(gone))
            again = [run for run_id, run in gone.items() if begins_again(run, jobs[run_id])]
            await self._begin_again(again, now)
            for run in again:
                del gone[run.run_id]
        if gone:
            lane.log.error("Runs are lost", action="runs_lost", runs=list(gone)[:20])
            await self._nodes.end([(run, Status.ABORTED) for run in gone.values()], now)
            evidence = {r.run_id: {"looks": r.missing_looks, "missing_since": str(r.missing_since), "ref": r.ref} for r in gone.values()}
            await lane.publish([reports.ended(run, lost_seen(run, lane.name), now, evidence[run.run_id]) for run in gone.values()])
            await lane.store.ended(list(gone))

    async def _begin_again(self, runs: Sequence[Run], now: datetime) -> None:
        """Tell of runs that their scheduler has lost, and have them handed over once more: they are forgotten ones, which `orders` takes
        up."""
        if not runs:
            return
        lane = self._lane
        lane.log.warning("Lost runs are handed over again", action="runs_begin_again", runs=[run.run_id for run in runs][:20])
        told = [(run, again_seen(run, lane.name), now) for run in runs]
        await lane.publish([reports.changed(run, seen, now, {"looks": run.missing_looks}) for run, seen, _ in told])
        await lane.store.begin_again(told)
        lane.work.set()

    async def _stop_again(self, runs: dict[str, Run], observations: Sequence[Observation], now: datetime) -> None:
        """Repair a stop that was lost: what should end and is still there is told again."""
        there = [o.run_id for o in observations if stop_again(runs[o.run_id], seen_of(o), now)]
        if there:
            self._lane.log.warning("Runs that were to end are still there", action="runs_stopped_again", runs=there[:20])
            self._lane.guard()
            await self._lane.adapter.stop(there, "")
            await self._lane.store.stop_sent(there)


def seen_of(observation: Observation) -> Seen:
    """What of an observation is compared with earlier ones, and told."""
    assert observation.status is not None
    return Seen(**{name: getattr(observation, name) for name in Seen.__struct_fields__})
