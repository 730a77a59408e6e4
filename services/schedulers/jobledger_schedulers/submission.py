"""Handing runs to their scheduler: once, whatever happens in between.

The order of steps is what keeps a run from being handed over twice or forgotten, wherever the process dies:

1. the effect is in the ledger, in the transaction that folded the request;
2. `submit_begun_at` is written before the scheduler is asked: from then on it may have the run, and the run is looked up first;
3. the scheduler is asked; the run travels with its id;
4. the handle is written, before anything else;
5. the report is published, with an id that is the same each time;
6. the effect is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec

from jobledger_contracts.envelope import Event
from jobledger_contracts.job_events import JobCreated
from jobledger_contracts.statuses import Status
from jobledger_contracts.workflows import check_workflow
from jobledger_kit.credentials import RunClaims, sign_run_credential
from jobledger_kit.keyring import Key

from .adapters.port import Handle, NotSupported, OutcomeUnknown, Refused, RunSpec, SubmitRefused
from .domain import reports
from .domain.runs import Phase, Run
from .domain.submitting import Step, after_look, next_step
from .lane import Lane
from .metrics import REFUSED, SUBMIT_SECONDS, SUBMITTED
from .nodes import Nodes
from .staging import NotReady, StagingRefused, run_folder
from .workflows import BadWorkflow, earlier, load_workflow

CREDENTIAL_STATUSES = frozenset(Status) - {Status.PENDING, Status.SUBMITTED}
"""What a run may say of itself."""


FULL_S: Final = 5.0
"""How long a run waits that a scheduler's limit keeps out, before it is looked at again."""


class Later(msgspec.Struct, frozen=True):
    """Not done yet; try again after so many seconds."""

    after_s: float
    why: str


class Submission:
    """Hands the runs of one lane over."""

    def __init__(self, lane: Lane, credential_key: Key, nodes: Nodes | None = None) -> None:
        self._lane, self._key, self._nodes = lane, credential_key, nodes or Nodes(lane)

    async def hand_over(self, run_ids: Sequence[str]) -> dict[str, Later]:
        """Bring runs to their scheduler, or to their end. Returns those that need another try; raises when none of it is certain."""
        lane = self._lane
        runs = await lane.store.runs(run_ids)
        now = lane.clock.now()
        steps = {run_id: next_step(run, now) for run_id, run in runs.items()}
        doubtful = [run_id for run_id, step in steps.items() if step is Step.LOOK_UP]
        if doubtful:
            found = await lane.adapter.find(doubtful)
            handles = {run_id: seen.ref for run_id, seen in found.items() if not seen.gone}
            await self._place(handles)
            for run_id in doubtful:
                steps[run_id] = after_look(runs[run_id], found=run_id in handles)
            runs |= await lane.store.runs(list(handles))
        room, later = await self._room([runs[run_id] for run_id, step in steps.items() if step is Step.PLACE])
        later |= await self._hand_over_new(room)
        await self._tell_aborted([runs[run_id] for run_id, step in steps.items() if step is Step.ABORT])
        await self._tell_submitted([run_id for run_id, step in steps.items() if step is Step.REPORT])
        return later

    async def _room(self, runs: Sequence[Run]) -> tuple[Sequence[Run], dict[str, Later]]:
        """Those of the runs for which the scheduler has room by its own limit, the oldest first; and when to ask for the others again."""
        limit = self._lane.max_runs
        if not limit or not runs:
            return runs, {}
        there = await self._lane.store.count_placed_runs(self._lane.name)
        runs = sorted(runs, key=lambda run: (run.asked_at, run.run_id))
        begun = [run for run in runs if run.submit_begun_at is not None]  # counted already: it may be there
        fresh = [run for run in runs if run.submit_begun_at is None]
        room = max(0, limit - there)
        why = f"{self._lane.name} has {there} runs, and {limit} is its limit"
        return [*begun, *fresh[:room]], {run.run_id: Later(FULL_S, why) for run in fresh[room:]}

    async def _hand_over_new(self, runs: Sequence[Run]) -> dict[str, Later]:
        """Stage, submit, record and report runs that the scheduler cannot have yet."""
        if not runs:
            return {}
        lane = self._lane
        later: dict[str, Later] = {}
        refused: dict[str, str] = {}
        specs: list[RunSpec] = []
        created = await lane.store.created([run.run_id for run in runs])
        staged = await lane.staging.prepare({run.run_id: created[run.run_id] for run in runs})
        for run in runs:
            folder = staged[run.run_id]
            if isinstance(folder, NotReady):
                later[run.run_id] = Later(folder.after_s, folder.why)
            elif isinstance(folder, StagingRefused):
                refused[run.run_id] = folder.message
            else:
                try:
                    specs.append(await self._spec(run, created[run.run_id], folder))
                except BadWorkflow as error:
                    refused[run.run_id] = str(error)
        by_id = {run.run_id: run for run in runs}
        await self._tell_refused({by_id[run_id]: message for run_id, message in refused.items()})
        for spec in specs:
            if spec.workflow is not None:
                await self._nodes.begin(by_id[spec.run_id], spec.workflow, spec.done_nodes)
        if specs:
            await lane.store.begin_submission([spec.run_id for spec in specs])
            lane.guard()
            refused = await self._submit(specs)
            await self._tell_refused({by_id[run_id]: message for run_id, message in refused.items()})
            self._count([by_id[spec.run_id] for spec in specs], refused)
            await self._tell_submitted([spec.run_id for spec in specs if spec.run_id not in refused])
            await lane.staging.release([spec.run_id for spec in specs])
        return later

    def _count(self, runs: Sequence[Run], refused: Collection[str]) -> None:
        now, name = self._lane.clock.now(), self._lane.name
        SUBMITTED.labels(name).inc(len(runs) - len(refused))
        REFUSED.labels(name).inc(len(refused))
        for run in runs:
            SUBMIT_SECONDS.labels(name).observe(max(0.0, (now - run.asked_at).total_seconds()))

    async def _submit(self, specs: Sequence[RunSpec]) -> dict[str, str]:
        """Submit and record the handles. Returns the refusals; raises OutcomeUnknown after having recorded what is known."""
        try:
            answers = await self._lane.adapter.submit(specs)
        except OutcomeUnknown as error:
            await self._place({answer.run_id: answer.ref for answer in error.known if isinstance(answer, Handle)})
            raise
        except (Refused, NotSupported) as error:
            if len(specs) == 1:
                return {specs[0].run_id: str(error)}
            refused: dict[str, str] = {}
            for spec in specs:  # one of them is at fault: the others must not suffer for it
                refused |= await self._submit([spec])
            return refused
        await self._place({answer.run_id: answer.ref for answer in answers if isinstance(answer, Handle)})
        return {answer.run_id: answer.message for answer in answers if isinstance(answer, SubmitRefused)}

    async def _place(self, handles: dict[str, str]) -> None:
        if handles:
            await self._lane.store.place(handles)

    async def _tell_submitted(self, run_ids: Sequence[str]) -> None:
        if not run_ids:
            return
        lane = self._lane
        now = lane.clock.now()
        runs = await lane.store.runs(run_ids)
        await lane.publish([reports.submitted(run, run.ref, now) for run in runs.values() if run.phase is Phase.PLACED])
        lane.log.info("Runs were handed to the scheduler", action="runs_submitted", runs=len(run_ids))

    async def _tell_aborted(self, runs: Sequence[Run]) -> None:
        now = self._lane.clock.now()
        message = f"Stopped before it was handed to {self._lane.name}."
        await self._tell_ended({run.run_id: reports.never_placed(run, Status.ABORTED, message, now) for run in runs})

    async def _tell_refused(self, refused: dict[Run, str]) -> None:
        now = self._lane.clock.now()
        await self._tell_ended({run.run_id: reports.never_placed(run, Status.ERROR, why, now) for run, why in refused.items()})

    async def _tell_ended(self, events: dict[str, Event]) -> None:
        if events:
            runs = await self._lane.store.runs(list(events))
            await self._nodes.end([(run, Status.ABORTED) for run in runs.values()], self._lane.clock.now())
            await self._lane.publish(list(events.values()))
            await self._lane.store.ended(list(events))
            await self._lane.staging.release(list(events))

    async def _spec(self, run: Run, job: JobCreated, folder: Path) -> RunSpec:
        """What the adapter is told. Raises BadWorkflow."""
        workflow = await asyncio.to_thread(load_workflow, job, folder)
        if workflow is not None and (faults := check_workflow(workflow)):  # anybody may publish an event
            raise BadWorkflow(f"The workflow is not one that can run: {'; '.join(fault.message for fault in faults[:5])}.")
        before = await asyncio.to_thread(earlier, folder, run.run, workflow) if workflow is not None and run.run > 1 else None
        return RunSpec(
            run_id=run.run_id,
            job_name=job.name,
            condor=job.condor,
            dask=job.dask,
            workflow=workflow,
            done_nodes=before[1] if before else frozenset(),
            previous_dir=before[0] if before else None,
            input_dir=folder,
            environment=self._environment(run),
            credential=self._credential(run),
        )

    def _environment(self, run: Run) -> dict[str, str]:
        jobs_url = self._lane.settings.jobs_url.rstrip("/")
        return {
            "JOBLEDGER_JOB_ID": run.job_id,
            "JOBLEDGER_RUN_ID": run.run_id,
            "JOBLEDGER_CALLBACK_URL": f"{jobs_url}/update-job-status/{run.job_id}/",
            "JOBLEDGER_FILES_URL": f"{jobs_url}/jobs/{run.job_id}/files/{run_folder(run.run)}/",
        }

    def _credential(self, run: Run) -> str:
        expires_at = self._lane.clock.now() + timedelta(seconds=self._lane.settings.run_credential_lifetime_s)
        claims = RunClaims(job_id=run.job_id, run=run.run, expires_at=expires_at, statuses=CREDENTIAL_STATUSES)
        return sign_run_credential(self._key, claims)
