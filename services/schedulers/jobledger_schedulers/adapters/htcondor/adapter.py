"""Runs as jobs of an HTCondor access point, through its bindings. Each run is one condor cluster, spooled."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from jobledger_contracts.ids import parse_run_id
from jobledger_schedulers.adapters.htcondor import findings, live, selection
from jobledger_schedulers.adapters.htcondor.actions import Actions
from jobledger_schedulers.adapters.htcondor.client import Bindings, write_private
from jobledger_schedulers.adapters.htcondor.command import (
    CREDENTIAL_FILE,
    LOG,
    RUN_ID_ATTRIBUTE,
    NotSubmittable,
    Submission,
    describe,
)
from jobledger_schedulers.adapters.htcondor.dag import DAG_FILE, write_dag
from jobledger_schedulers.adapters.htcondor.dag_files import dagman_description, dagman_options, make_folder, settle_output
from jobledger_schedulers.adapters.htcondor.following import Following, follow_file
from jobledger_schedulers.adapters.htcondor.node_looks import NO_NODE, NodeLooks, of_node, with_nodes, workflows_among
from jobledger_schedulers.adapters.htcondor.parse import (
    PROJECTION,
    JobStatus,
    judge,
    missing_procs,
    run_of,
    version_of,
)
from jobledger_schedulers.adapters.htcondor.parse_nodes import is_node, is_workflow
from jobledger_schedulers.adapters.htcondor.results import check_files, check_inputs, collected, job_id_of, proc_folder
from jobledger_schedulers.adapters.htcondor.selection import ASK_FOR_ALL_FROM, RUNS_PER_QUERY
from jobledger_schedulers.adapters.htcondor.uploads import Uploads
from jobledger_schedulers.adapters.port import (
    AdapterSettings,
    AuthenticationFailed,
    Collected,
    Handle,
    Observation,
    OutcomeUnknown,
    Refused,
    RunSpec,
    SchedulerError,
    SchedulerIdentity,
    SubmitRefused,
    Tail,
    Unreachable,
)

log = structlog.get_logger()

UPLOAD_BYTES_PER_S = 2**20
"""The slowest upload that we still wait for."""
RETRIEVE_SILENCE_S = 900.0
"""Between two batches of results; a schedd that hangs ends a retrieval by itself after 20 s."""
NOT_TAKEN = "(StageOutFinish ?: 0) < EnteredCurrentStatus"
"""Its output was not retrieved since it ended; what was stays in the queue for a second or two. (LeaveJobInQueue says the same.)"""
TAKEN_LOOKS, TAKEN_PAUSE_S = 7, 0.5
"""How often, and how far apart, we look whether the schedd has noted a retrieval: it does so a moment after the last byte."""


class HTCondorAdapter:
    """One identity at one access point. See `port.SchedulerAdapter`."""

    def __init__(self, settings: AdapterSettings) -> None:
        self._settings = settings
        self._bindings = Bindings(settings)
        self._live = live.LiveOutput(settings.condor_tail, self._bindings.collector, self._bindings.params, settings.timeout_s)
        self._schedd = ""
        self._actions = Actions(self._act, self._rows, spools=True)
        self._preparing = asyncio.Lock()
        self._submitter = ""
        self._owner = ""
        self._uploads = Uploads()
        self._node_looks = NodeLooks()
        self._procs: dict[str, int] = {}  #: run id -> its number of procs, to know when a look into the history is complete
        self._following = Following(settings.event_log, partial(follow_file, Path(settings.event_log)), partial(self._look, nodes=False))
        self.events: AsyncIterator[Observation] | None = self._following.observations() if settings.event_log else None

    # -- handing over -------------------------------------------------------------------------------------------------------------

    async def submit(self, specs: Sequence[RunSpec]) -> list[Handle | SubmitRefused]:
        """Write, stage and send each run; the answers stand in the order of `specs`."""
        await self._prepare()
        answers: dict[str, Handle | SubmitRefused] = {}
        staged = await asyncio.to_thread(self._stage, specs, answers)
        workflows = {spec.run_id: spec for spec in specs if spec.workflow is not None}
        runs = [
            {"run_id": run, "description": made.description, "count": made.count, **self._dag(workflows.get(run), made)}
            for run, (made, _) in staged.items()
        ]
        silence_s = self._settings.timeout_s + max((size for _, size in staged.values()), default=0) / UPLOAD_BYTES_PER_S

        def answered(items: list[Any]) -> None:
            for item in items:
                run = item["run_id"]
                if "cluster" in item:
                    answers[run] = handle = Handle(run, str(item["cluster"]))
                    self._following.know(handle)
                    self._remember(run, staged[run][0].count)
                    self._uploads.sent(run)
                else:
                    answers[run] = SubmitRefused(run, f"HTCondor refuses the job: {item['refused']}")

        self._uploads.begin(staged)
        try:
            if runs:
                await self._bindings.transfer("submit", silence_s=silence_s, on_items=answered, runs=runs)
        except SchedulerError as error:
            if isinstance(error, OutcomeUnknown) or any(run in answers for run in staged):
                raise OutcomeUnknown(str(error), known=[answers[spec.run_id] for spec in specs if spec.run_id in answers]) from error
            raise
        finally:
            self._uploads.end(staged)
            await asyncio.to_thread(self._unstage, list(staged))
        return [answers[spec.run_id] for spec in specs]

    def _dag(self, spec: RunSpec | None, made: Submission) -> dict[str, Any]:
        if spec is None or spec.workflow is None:
            return {}
        folder = str(self._folder(spec.run_id))
        return {"dag": DAG_FILE, "folder": folder, "options": dagman_options(spec.workflow), "scripts": made.scripts}

    def _stage(self, specs: Sequence[RunSpec], answers: dict[str, Handle | SubmitRefused]) -> dict[str, tuple[Submission, int]]:
        """Write descriptions and credential files; refuse what cannot be. Returns run id -> (submission, bytes to send)."""
        staged: dict[str, tuple[Submission, int]] = {}
        for spec in specs:
            folder = self._folder(spec.run_id)
            try:
                if spec.workflow is not None:
                    staged[spec.run_id] = self._stage_workflow(spec, folder)
                    continue
                submission = describe(spec, folder, self._submitter)
                size = check_inputs(spec)
            except NotSubmittable as refusal:
                answers[spec.run_id] = SubmitRefused(spec.run_id, str(refusal))
                continue
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if spec.credential:
                write_private(folder / CREDENTIAL_FILE, spec.credential + "\n")
            staged[spec.run_id] = submission, size
        return staged

    def _stage_workflow(self, spec: RunSpec, folder: Path) -> tuple[Submission, int]:
        assert spec.workflow is not None
        dag = write_dag(spec, spec.workflow, spec.done_nodes)
        size = check_files(spec.input_dir, dag.inputs)
        make_folder(folder, dag, spec)
        size += sum(path.stat().st_size for path in (folder / "run").rglob("*") if path.is_file())
        return Submission(dagman_description(spec, self._submitter), 1, dag.scripts), size

    def _unstage(self, runs: Iterable[str]) -> None:
        for run in runs:
            shutil.rmtree(self._folder(run), ignore_errors=True)

    def _folder(self, run_id: str) -> Path:
        parse_run_id(run_id)  # it becomes a path
        return self._settings.private_dir / "runs" / run_id

    # -- looking ------------------------------------------------------------------------------------------------------------------

    async def find(self, run_ids: Sequence[str]) -> dict[str, Observation]:
        """Look by run id in the queue, then in the history. What was only half handed over is removed, and counts as not there.

        Raises Unreachable for as long as it cannot be told whether a run was handed over half or whole: some ten seconds.
        """
        return {seen.run_id: seen for seen in await self._look(run_ids, everything=False, surely=True) if not seen.gone}

    async def observe(self, run_ids: Collection[str]) -> list[Observation]:
        """One query for all of them; one more into the history when some have left the queue."""
        return await self._look(run_ids, everything=len(run_ids) >= ASK_FOR_ALL_FROM)

    async def _look(
        self, run_ids: Collection[str], *, everything: bool = False, surely: bool = False, nodes: bool = True
    ) -> list[Observation]:
        if not run_ids:
            return []
        await self._prepare()
        wanted = set(run_ids)
        rows: list[dict[str, Any]] = []
        for constraint in ["true"] if everything else list(selection.members(wanted)):
            rows += await self._query(constraint)
        rows = [row for row in rows if run_of(row) in wanted]
        node_rows = [row for row in rows if is_node(row)]
        rows = await self._without_half_submitted([row for row in rows if not is_node(row)], surely=surely)
        seen = {run_of(row) for row in rows}
        left = sorted((wanted - seen) | missing_procs(rows))
        history = await self._history(left) if left else []
        judged = judge(rows, history)
        judged |= await self._workflows(judged, rows, history, node_rows, nodes=nodes)
        for run, observation in judged.items():
            self._remember(run, observation.evidence.get("procs", 1))
            self._following.know(observation)
        for run in wanted - judged.keys():
            self._procs.pop(run, None)
        unknown = "neither the queue nor the history of the access point has this run"
        return [judged.get(run) or Observation(run_id=run, gone=True, message=unknown) for run in run_ids]

    async def _workflows(
        self,
        judged: Mapping[str, Observation],
        rows: list[dict[str, Any]],
        history: list[dict[str, Any]],
        node_rows: list[dict[str, Any]],
        *,
        nodes: bool,
    ) -> dict[str, Observation]:
        """What is seen of those runs that are workflows, and of their nodes: in the queue, or gone from it since the last look.

        Without `nodes` only of the runs: what is said of a node that has gone is said once, and must be heard by who tells it.
        """
        workflows = workflows_among(judged, (*rows, *history))
        if not workflows:
            return {}
        if not nodes:
            return with_nodes(judged, workflows, rows, (), ())
        left: list[dict[str, Any]] = []
        for constraint, since in self._node_looks.questions(workflows):
            constraint = f"{await self._ours()} && {constraint}"
            left += await self._bindings.rows("history", constraint=constraint, projection=PROJECTION, match=-1, since=since)
        if times := [row["ServerTime"] for row in rows if isinstance(row.get("ServerTime"), int)]:
            self._node_looks.looked(workflows, max(times))
        return with_nodes(judged, workflows, rows, node_rows, left)

    async def _query(self, constraint: str) -> list[dict[str, Any]]:
        return await self._bindings.rows("query", constraint=f"{await self._ours()} && {constraint}", projection=PROJECTION)

    async def _history(self, runs: Sequence[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for batch in selection.batches(runs, RUNS_PER_QUERY):
            # A look that finds all it is to find ends there; another goes back to the oldest of these runs' jobs.
            match = sum(self._procs[run] for run in batch) if all(run in self._procs for run in batch) else -1
            constraint = f"{await self._ours()} && {NO_NODE} && {next(selection.members(batch))}"
            rows += await self._bindings.rows(
                "history", constraint=constraint, projection=PROJECTION, match=match, since=selection.since(batch)
            )
        return rows

    async def _without_half_submitted(self, rows: list[dict[str, Any]], *, surely: bool) -> list[dict[str, Any]]:
        seen = self._uploads.look(rows, self._submitter)
        if seen.orphans:
            log.warning("Runs that were handed over only half are removed, to be submitted again", clusters=seen.orphans)
            ids = ",".join(str(cluster) for cluster in sorted(seen.orphans))
            constraint = f'{await self._ours()} && stringListMember(string(ClusterId), "{ids}")'
            await self._bindings.control("act", action="Remove", constraint=constraint, reason="its input files never arrived", code=0)
            self._uploads.removed(seen.orphans)
        if seen.uncertain and surely:
            raise Unreachable(
                f"whether the input files of {len(seen.uncertain)} runs have arrived cannot be told yet, such as {seen.uncertain[0]}"
            )
        return [row for row in rows if row["ClusterId"] not in seen.orphans]

    # -- acting -------------------------------------------------------------------------------------------------------------------

    async def stop(self, run_ids: Sequence[str], reason: str) -> None:
        """See `actions.Actions`, as for the others."""
        await self._actions.stop(run_ids, reason)

    async def hold(self, run_ids: Sequence[str], reason: str) -> None:
        """Hold jobs."""
        await self._actions.hold(run_ids, reason)

    async def suspend(self, run_ids: Sequence[str], reason: str) -> None:
        """Suspend those that run, hold those that wait."""
        await self._actions.suspend(run_ids, reason)

    async def release(self, run_ids: Sequence[str], reason: str) -> None:
        """Let held and suspended jobs go on."""
        await self._actions.release(run_ids, reason)

    async def _rows(self, run_ids: Sequence[str], condition: str) -> list[dict[str, Any]]:
        await self._prepare()
        rows: list[dict[str, Any]] = []
        for constraint in selection.members(run_ids):
            rows += await self._query(f"{condition} && {constraint}")
        return rows

    async def _act(self, action: str, run_ids: Sequence[str], condition: str, reason: str) -> None:
        await self._prepare()
        for members in selection.members(run_ids):
            constraint = f"{await self._ours()} && {condition} && {members}"
            done = await self._bindings.control("act", action=action, constraint=constraint, reason=selection.one_line(reason), code=0)
            if done.get("TotalPermissionDenied"):
                raise AuthenticationFailed(f"the access point does not allow us to {action.lower()} {done['TotalPermissionDenied']} jobs")

    # -- collecting ---------------------------------------------------------------------------------------------------------------

    async def collect(self, run_ids: Sequence[str], target: Callable[[str], Path]) -> Mapping[str, Collected]:
        """Retrieve what completed jobs left; that makes them leave the queue. Processes of one run get a folder each."""
        await self._prepare()
        rows = await self._rows(run_ids, f"{NO_NODE} && JobStatus =?= {JobStatus.COMPLETED} && {NOT_TAKEN}")
        folders = {run: target(run) for run in {run_of(row) for row in rows}}
        places = {job_id_of(row): proc_folder(folders[run_of(row)], row) for row in rows}
        procs = [{"cluster": row["ClusterId"], "proc": row["ProcId"], "folder": str(places[job_id_of(row)]), "log": LOG} for row in rows]
        errors: dict[str, str] = {}

        def answered(items: list[Any]) -> None:
            errors.update({item["id"]: item["error"] for item in items if "error" in item})

        if procs:
            for place in set(places.values()):
                place.mkdir(parents=True, exist_ok=True)
            await self._bindings.transfer("retrieve", silence_s=RETRIEVE_SILENCE_S, on_items=answered, procs=procs)
            errors.update(await self._not_taken(rows, errors))
        by_run: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_run.setdefault(run_of(row), []).append(row)

        def one(run: str, of_run: list[dict[str, Any]]) -> Collected:
            if any(is_workflow(row) for row in of_run):
                return settle_output(folders[run], run, "; ".join(errors[job_id_of(row)] for row in of_run if job_id_of(row) in errors))
            return collected(run, folders[run], of_run, errors)

        return await asyncio.to_thread(lambda: {run: one(run, of_run) for run, of_run in by_run.items()})

    async def _not_taken(self, rows: Sequence[Mapping[str, Any]], known: Mapping[str, str]) -> dict[str, str]:
        """Retrieval says nothing of a job that it passed over: what still waits, after the schedd had time to note it, was not brought."""
        still: dict[str, str] = {}
        for look in range(TAKEN_LOOKS):
            await asyncio.sleep(TAKEN_PAUSE_S if look else 0)
            waiting = await self._rows(sorted({run_of(row) for row in rows}), f"{NO_NODE} && {NOT_TAKEN}")
            still = {job_id_of(row): "the access point did not hand its output out" for row in waiting if job_id_of(row) not in known}
            if not still:
                break
        return still

    # -- who answers --------------------------------------------------------------------------------------------------------------

    async def tail(self, run_id: str, stream: str, offset: int, max_bytes: int, process: int = 0, node: str = "") -> Tail:
        """Read what a run writes, while it runs; see `live.LiveOutput`."""
        live.check_stream(stream)
        which = of_node(node) if node else f"{NO_NODE} && ProcId =?= {process:d}"
        rows = await self._rows([run_id], f"{which} && JobStatus =?= {JobStatus.RUNNING}")
        if not rows:
            raise Refused(f"the {'node' if node else 'run'} does not run at this moment")
        if not self._schedd:
            await self.ping()
        return await self._live.read(self._schedd, job_id_of(rows[0]), stream, max(0, offset), max_bytes)

    async def ping(self) -> SchedulerIdentity:
        """Locate the schedd anew and authenticate."""
        await self._prepare()
        answer = await self._bindings.control("ping")
        identity = str(answer["identity"])
        self._owner, self._schedd = identity.partition("@")[0], str(answer["schedd"])
        return SchedulerIdentity(version=version_of(str(answer["version"])), identity=identity, detail=f"schedd {answer['schedd']}")

    async def shortages(self) -> list[str]:
        """What the pool lacks for jobs to run; see `views.Surveyed`."""
        await self._prepare()
        return findings.shortages(await self._bindings.control("survey"))

    async def close(self) -> None:
        """End the child processes."""
        await self._bindings.close()

    def pids(self) -> dict[str, int]:
        """The child processes that run now, by lane."""
        return self._bindings.pids()

    async def _ours(self) -> str:
        """Only what belongs to us counts: anybody in the pool could write our attribute into a job of theirs."""
        if not self._owner:
            await self.ping()
        return f'{RUN_ID_ATTRIBUTE} =!= undefined && Owner == "{self._owner}"'

    async def _prepare(self) -> None:
        async with self._preparing:
            if not self._submitter:
                self._submitter = await asyncio.to_thread(self._set_up)

    def _set_up(self) -> str:
        private = self._settings.private_dir
        private.mkdir(parents=True, exist_ok=True, mode=0o700)
        private.chmod(0o700)
        shutil.rmtree(private / "runs", ignore_errors=True)  # credentials that a crash left behind
        self._bindings.prepare()
        name = private / "submitter"
        if not name.exists():  # kept, so that after a restart we know our own half-done submissions
            write_private(name, uuid4().hex)
        return name.read_text()

    def _remember(self, run: str, procs: int) -> None:
        if len(self._procs) > 200_000:
            self._procs.clear()
        self._procs[run] = procs
