"""Telling of the nodes of workflows: what is new is published first and remembered after, as with runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from jobledger_contracts.job_events import NodeReport, WorkflowSpec
from jobledger_contracts.statuses import Status

from .domain import reports
from .domain.nodes import Told, first_reports, left_over, news
from .domain.runs import Run
from .lane import Lane


class Nodes:
    """The nodes of one lane's workflows. What was told is kept here as well as in the rows: the lane's holder alone tells."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._known: dict[str, dict[str, Told]] = {}

    async def begin(self, run: Run, workflow: WorkflowSpec, done: Collection[str]) -> None:
        """Say which nodes a run has, before it is handed over; again after a crash, with the same ids."""
        await self.tell({run.run_id: run}, {run.run_id: first_reports(workflow, done)}, self._lane.clock.now())

    async def tell(self, runs: Mapping[str, Run], seen: Mapping[str, Iterable[NodeReport]], now: datetime) -> None:
        """Tell what a look at runs has shown of their nodes, as far as it is new."""
        known = await self._of([run_id for run_id, said in seen.items() if said])
        for run_id, of_run in known.items():
            fresh = news(of_run, seen[run_id], now)
            if not fresh:
                continue
            await self._lane.publish(reports.nodes_changed(runs[run_id], fresh, now))
            await self._lane.store.nodes_told(run_id, [told for _, told in fresh])
            of_run.update((report.node, told) for report, told in fresh)

    async def end(self, endings: Iterable[tuple[Run, Status]], now: datetime) -> None:
        """Runs are about to be told over: so are those of their nodes that were never heard to end."""
        over = {run.run_id: (run, status) for run, status in endings}
        known = await self._of(list(over))
        seen = {run_id: left_over(of_run, over[run_id][1]) for run_id, of_run in known.items()}
        await self.tell({run_id: run for run_id, (run, _) in over.items()}, seen, now)
        for run_id in over:
            self._known.pop(run_id, None)

    async def _of(self, run_ids: Collection[str]) -> dict[str, dict[str, Told]]:
        missing = [run_id for run_id in run_ids if run_id not in self._known]
        if missing:
            found = await self._lane.store.run_nodes(missing)
            self._known.update({run_id: found.get(run_id, {}) for run_id in missing})
        return {run_id: self._known[run_id] for run_id in run_ids}
