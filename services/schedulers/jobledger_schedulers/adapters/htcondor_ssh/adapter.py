"""Runs as jobs of an HTCondor access point, through its command-line tools over SSH. Each run is one condor cluster.

A run's files lie in `~/.jobledger/<run id>` there, from before it is submitted until its output is here.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from jobledger_contracts.ids import parse_run_id
from jobledger_contracts.statuses import TERMINAL
from jobledger_contracts.workflows import NODES_FOLDER
from jobledger_schedulers.adapters.htcondor.actions import Actions
from jobledger_schedulers.adapters.htcondor.command import NODE_ATTRIBUTE, STDERR, STDOUT, NotSubmittable
from jobledger_schedulers.adapters.htcondor.dag_files import settle_output
from jobledger_schedulers.adapters.htcondor.following import Following
from jobledger_schedulers.adapters.htcondor.node_looks import of_node
from jobledger_schedulers.adapters.htcondor.parse import JobStatus, judge, run_of, version_of
from jobledger_schedulers.adapters.htcondor.parse_nodes import is_workflow
from jobledger_schedulers.adapters.htcondor.results import collected
from jobledger_schedulers.adapters.htcondor.selection import ASK_FOR_ALL_FROM, RUNS_PER_QUERY, batches, members, one_line
from jobledger_schedulers.adapters.htcondor_ssh import script
from jobledger_schedulers.adapters.htcondor_ssh.fetch import NotFetched, fetch, read_from
from jobledger_schedulers.adapters.htcondor_ssh.link import Link
from jobledger_schedulers.adapters.htcondor_ssh.looking import Looking
from jobledger_schedulers.adapters.htcondor_ssh.parcels import Parcel, packed, parcel, workflow_parcel
from jobledger_schedulers.adapters.htcondor_ssh.shell import Shell, new_mark, states_in
from jobledger_schedulers.adapters.port import (
    AdapterSettings,
    Collected,
    Handle,
    Incompatible,
    NotSupported,
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

RUNS_PER_SCRIPT: Final = 50
SUBMITTING_AT_ONCE: Final = 3
"""condor_submit is a process each time: more at once than the access point has cores for gain nothing."""
FETCHING_AT_ONCE: Final = 4
LEAVING_S: Final = 5.0
"""How long `collect` waits for jobs that are over to leave the queue: until then the access point may still write to their files."""
STREAMS: Final = {"stdout": STDOUT, "stderr": STDERR}


class HTCondorSshAdapter:
    """One account at one access point. See `port.SchedulerAdapter`."""

    def __init__(self, settings: AdapterSettings) -> None:
        self._settings = settings
        self._link = Link(settings)
        self._shell = Shell(self._link)
        self._actions = Actions(self._act, self._rows, spools=False)
        self._looking = Looking(self._shell)
        self._meeting = asyncio.Lock()
        self._home = ""
        self._dagman = frozenset[str]()  #: what is said of workflows there; see `script.hello`
        self._busy: set[str] = set()  #: runs that we are handing over now
        tail = script.follow(settings.event_log)
        self._following = Following(settings.event_log, partial(self._link.follow, tail), partial(self._look, nodes=False))
        self.events: AsyncIterator[Observation] | None = self._following.observations() if settings.event_log else None

    # -- handing over ---------------------------------------------------------------------------------------------------------------

    async def submit(self, specs: Sequence[RunSpec]) -> list[Handle | SubmitRefused]:
        """Send the folders of all runs in one stream, then submit them; the answers stand in the order of `specs`."""
        if not specs:
            return []
        await self._meet()
        answers: dict[str, Handle | SubmitRefused] = {}
        parcels = await asyncio.to_thread(self._parcels, specs, answers)
        runs = [one.run_id for one in parcels]
        self._busy.update(runs)
        try:
            if parcels:
                await self._send(parcels)
                await self._submit(runs, answers)
        except SchedulerError as error:
            if isinstance(error, OutcomeUnknown) or any(run in answers for run in runs):
                raise OutcomeUnknown(str(error), known=[answers[spec.run_id] for spec in specs if spec.run_id in answers]) from error
            raise
        finally:
            self._busy.difference_update(runs)
            await asyncio.to_thread(self._unstage, [spec.run_id for spec in specs if spec.workflow is not None])
        return [answers[spec.run_id] for spec in specs]

    def _parcels(self, specs: Sequence[RunSpec], answers: dict[str, Handle | SubmitRefused]) -> list[Parcel]:
        parcels = []
        for spec in specs:
            parse_run_id(spec.run_id)  # it becomes a path
            try:
                parcels.append(self._workflow(spec) if spec.workflow is not None else parcel(spec, f"{self._home}/{script.BASE}"))
            except NotSubmittable as refusal:
                answers[spec.run_id] = SubmitRefused(spec.run_id, str(refusal))
        return parcels

    def _workflow(self, spec: RunSpec) -> Parcel:
        if "workflows" not in self._dagman:
            raise NotSubmittable(f"the access point {self._link.where} has no condor_submit_dag: it cannot run workflows")
        self._settings.private_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return workflow_parcel(spec, self._staged(spec.run_id), scripts="true" in self._dagman)

    def _staged(self, run_id: str) -> Path:
        return self._settings.private_dir / "runs" / run_id

    def _unstage(self, runs: Sequence[str]) -> None:
        for run in runs:
            shutil.rmtree(self._staged(run), ignore_errors=True)

    async def _send(self, parcels: Sequence[Parcel]) -> None:
        """Nothing is submitted yet: whatever happens here, it can be done again."""
        answer = await self._link.feed(script.upload_command(), packed(parcels))
        if answer.exit_status != 0:
            said = script.failure(answer.stderr)
            if isinstance(said, Incompatible):
                raise said
            raise Unreachable(f"the input files cannot be put into the home folder at the access point: {said}")

    async def _submit(self, runs: Sequence[str], answers: dict[str, Handle | SubmitRefused]) -> None:
        places = asyncio.Semaphore(SUBMITTING_AT_ONCE)

        async def some(batch: list[str]) -> None:
            async with places:
                await self._submit_batch(batch, answers)

        outcomes = await asyncio.gather(*(some(batch) for batch in batches(runs, RUNS_PER_SCRIPT)), return_exceptions=True)
        refused = [run for run in runs if isinstance(answers.get(run), SubmitRefused)]
        if refused:
            await self._tidy(refused)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for error in sorted(errors, key=lambda error: not isinstance(error, OutcomeUnknown)):
            raise error

    async def _submit_batch(self, runs: list[str], answers: dict[str, Handle | SubmitRefused]) -> None:
        """Submit runs one after the other; each answer counts as soon as it is there."""
        mark, troubles = new_mark(), dict[str, SchedulerError]()

        def heard(line: str) -> None:
            words = line.split(" ", 3)
            if len(words) != 4 or words[0] != mark or words[1] not in runs:
                return
            run, said = words[1], words[3]
            cluster = script.cluster_of(said) if words[2] == "0" else None
            trouble = script.failure(said) if words[2] not in ("0", "75") else None
            if cluster is not None:
                answers[run] = handle = Handle(run, str(cluster))
                self._following.know(handle)
            elif type(trouble) is Refused:
                answers[run] = SubmitRefused(run, f"HTCondor refuses the job: {trouble}")
            else:
                troubles[run] = trouble or OutcomeUnknown(f"an earlier attempt to submit this run may be under way: {said}")

        text = script.script(new_mark(), {"submit": script.submit(mark, runs)})
        await self._link.run(text, changes=True, silence_s=2 * self._settings.timeout_s, on_line=heard)
        for trouble in troubles.values():
            raise trouble
        if left := [run for run in runs if run not in answers]:
            raise OutcomeUnknown(f"nothing was said about {len(left)} of {len(runs)} runs")

    # -- looking --------------------------------------------------------------------------------------------------------------------

    async def find(self, run_ids: Sequence[str]) -> dict[str, Observation]:
        """Make sure that no attempt to submit these runs goes on unseen; then look in the queue and in the history.

        Folders of runs that were never submitted are removed. Raises Unreachable while an attempt is still under way.
        """
        if not run_ids:
            return {}
        if ours := self._busy.intersection(run_ids):
            raise Unreachable(f"{len(ours)} of these runs are being handed over at this moment")
        await self._meet()
        states = await self._settle(run_ids)
        if busy := [run for run, state in states.items() if state == "busy"]:
            raise Unreachable(f"an earlier attempt to submit {len(busy)} of these runs is still under way at the access point")
        seen = await self._look(run_ids, nodes=False)
        if never := [one.run_id for one in seen if one.gone and states.get(one.run_id) == "revoked"]:
            await self._tidy(never)
        return {one.run_id: one for one in seen if not one.gone}

    async def _settle(self, run_ids: Sequence[str]) -> dict[str, str]:
        states: dict[str, str] = {}
        for batch in batches(run_ids, RUNS_PER_QUERY):
            mark = new_mark()
            await self._shell.steps({"settle": script.settle(mark, batch)}, changes=True, on_line=states_in(mark, states))
        return states

    async def observe(self, run_ids: Collection[str]) -> list[Observation]:
        """One query for all of them; one more into the history when some have left the queue, or are workflows, whose nodes have."""
        return await self._look(run_ids, everything=len(run_ids) >= ASK_FOR_ALL_FROM, nodes=True)

    async def _look(self, run_ids: Collection[str], *, everything: bool = False, nodes: bool) -> list[Observation]:
        if not run_ids:
            return []
        await self._meet()
        seen = await self._looking.observe(run_ids, everything=everything, nodes=nodes)
        for one in seen:
            self._following.know(one)
        return seen

    # -- acting ---------------------------------------------------------------------------------------------------------------------

    async def stop(self, run_ids: Sequence[str], reason: str) -> None:
        """See `actions.Actions`, as for the others."""
        await self._actions.stop(run_ids, reason)

    async def hold(self, run_ids: Sequence[str], reason: str) -> None:
        """Hold jobs."""
        await self._actions.hold(run_ids, reason)

    async def suspend(self, run_ids: Sequence[str], reason: str) -> None:
        """Suspend those that run, hold those that wait. HTCondor takes no reason for the former."""
        await self._actions.suspend(run_ids, reason)

    async def release(self, run_ids: Sequence[str], reason: str) -> None:
        """Let held and suspended jobs go on."""
        await self._actions.release(run_ids, reason)

    async def _rows(self, run_ids: Sequence[str], condition: str) -> list[dict[str, Any]]:
        await self._meet()
        steps = {f"queue{n}": script.queue(f"{self._looking.ours()} && {condition} && {each}") for n, each in enumerate(members(run_ids))}
        found = await self._shell.steps(steps)
        return [row for text in found.values() for row in script.rows_of(text)]

    async def _act(self, action: str, run_ids: Sequence[str], condition: str, reason: str) -> None:
        if not run_ids:
            return
        await self._meet()
        constraints = (f"{self._looking.ours()} && {condition} && {each}" for each in members(run_ids))
        steps = {f"act{number}": script.act(script.ACTING[action], each, one_line(reason)) for number, each in enumerate(constraints)}
        found, _ = await self._shell.sections(steps, changes=True)
        for section in found.values():
            if section.status != 0 and not script.found_nothing(section.text):
                raise script.failure(section.text)

    # -- output ---------------------------------------------------------------------------------------------------------------------

    async def collect(self, run_ids: Sequence[str], target: Callable[[str], Path]) -> Mapping[str, Collected]:
        """Fetch what ended runs left and is not here yet; then remove their folders there. Processes of one run get a folder each."""
        if not run_ids:
            return {}
        await self._meet()
        ready, leaving = await self._ended(run_ids)
        deadline = asyncio.get_running_loop().time() + LEAVING_S
        while leaving and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.3)
            ready, leaving = await self._ended(run_ids)
        sftp = await self._link.sftp() if ready else None
        places = asyncio.Semaphore(FETCHING_AT_ONCE)
        outcomes = await asyncio.gather(
            *(self._collect(sftp, run, target(run), rows, places) for run, rows in ready.items()), return_exceptions=True
        )
        done = [outcome for outcome in outcomes if isinstance(outcome, Collected)]
        await self._remove([one.run_id for one in done if not one.error])
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        late = {run: Collected(run_id=run, error="its jobs are over, but have not left the queue yet") for run in leaving}
        return {**{one.run_id: one for one in done}, **late}

    async def _ended(self, run_ids: Sequence[str]) -> tuple[dict[str, list[dict[str, Any]]], set[str]]:
        """Runs that are over and have a folder: those that have left the queue, with their ads, and those that have not."""
        look = await self._looking.look(run_ids)
        over = {run for run, one in judge(look.queue, look.history).items() if one.status in TERMINAL and run in look.folders}
        leaving = over.intersection(map(run_of, [*look.queue, *look.nodes]))
        ready: dict[str, list[dict[str, Any]]] = {run: [] for run in sorted(over - leaving)}
        for row in look.history:
            if run_of(row) in ready:
                ready[run_of(row)].append(row)
        return ready, leaving

    async def _collect(self, sftp: Any, run: str, local: Path, rows: list[dict[str, Any]], places: asyncio.Semaphore) -> Collected:
        async with places:
            local.mkdir(parents=True, exist_ok=True)
            workflow = any(is_workflow(row) for row in rows)
            outputs = script.DAG_OUTPUTS if workflow else script.OUTPUTS
            try:
                await fetch(sftp, f"{self._folder(run)}/{outputs}", local, timeout_s=self._settings.timeout_s)
            except NotFetched as error:
                return Collected(run_id=run, error=str(error))
            if workflow:
                return await asyncio.to_thread(settle_output, local, run, "")
            first = min(row["ClusterId"] for row in rows)
            ended = [row for row in rows if row["ClusterId"] == first and row.get("JobStatus") == JobStatus.COMPLETED]
            return await asyncio.to_thread(collected, run, local, ended, {})

    async def tail(self, run_id: str, stream: str, offset: int, max_bytes: int, process: int = 0, node: str = "") -> Tail:
        """Read what a run has written to `stdout` or `stderr`, from `offset` on, while it runs or until its output is collected.

        Raises NotSupported for another stream, and Refused when there is nothing yet, nothing any more, or too much (see `script.live`).
        """
        if stream not in STREAMS:
            raise NotSupported(f"what can be followed is {' and '.join(STREAMS)}, not {stream!r}")
        await self._meet()
        if node:
            of_node(node)  # it becomes a path
            paths = [f"{self._folder(run_id)}/{script.DAG_OUTPUTS}/{NODES_FOLDER}/{node.replace('/', '+')}/{STREAMS[stream]}"]
        else:
            out = f"{self._folder(run_id)}/{script.OUTPUTS}"
            paths = [f"{out}/{STREAMS[stream]}", f"{out}/process-{process:d}/{STREAMS[stream]}"]
        sftp = await self._link.sftp()
        offset = max(0, offset)
        found = await read_from(sftp, paths, offset, max_bytes, timeout_s=self._settings.timeout_s)
        if found is not None and found.size:
            return found  # it has ended, or streams its output
        look = await self._looking.look([run_id])
        own = [row for row in look.nodes if row.get(NODE_ATTRIBUTE) == node] if node else look.queue
        for row in own:
            if row.get("ProcId") == process and row.get("JobStatus") == JobStatus.RUNNING:
                return await self._live(run_id, f"{row['ClusterId']}.{process:d}", stream, offset, max_bytes)
        if found is None:
            raise Refused(f"the {'node' if node else 'run'} does not run yet, or its output was collected already")
        return found

    async def _live(self, run_id: str, job_id: str, stream: str, offset: int, max_bytes: int) -> Tail:
        step = script.live(run_id, job_id, stderr=stream == "stderr", offset=offset, max_bytes=max_bytes)
        seen = script.live_of((await self._shell.steps({"live": step}))["live"], offset)
        if seen.size < offset:  # it was begun anew, for another execution
            return await self._live(run_id, job_id, stream, 0, max_bytes)
        return seen

    def _folder(self, run_id: str) -> str:
        parse_run_id(run_id)
        return f"{self._home}/{script.BASE}/{run_id}"

    async def _remove(self, runs: Sequence[str]) -> None:
        for batch in batches(runs, RUNS_PER_QUERY):
            await self._shell.steps({"remove": script.remove(batch)}, changes=True)

    async def _tidy(self, runs: Sequence[str]) -> None:
        """Remove folders that nobody will ask for. That it could not be done changes nothing for anybody."""
        try:
            await self._remove(runs)
        except SchedulerError as error:
            log.warning("Folders of runs are left at the access point", at=self._link.where, runs=list(runs)[:20], error=str(error))

    # -- who answers ----------------------------------------------------------------------------------------------------------------

    async def ping(self) -> SchedulerIdentity:
        """Log in, see that the tools are there, and ask the schedd who we are to it."""
        found, answer = await self._shell.sections(script.hello())
        if missing := found["tools"].text.split():
            raise Incompatible(
                f"the access point {self._link.where} lacks the programs {', '.join(missing)} (on the PATH of a command by SSH)"
            )
        self._dagman = frozenset(found["dagman"].text.split())
        self._home = script.home_of(found["home"].text)
        identity = script.identity_of(found["identity"].text)
        if found["identity"].status != 0 or not identity:
            error = script.failure(f"{answer.stderr} {found['identity'].text}")
            raise type(error)(f"the access point {self._link.where} is there, but its schedd does not serve us: {error}")
        self._looking.owner = identity.partition("@")[0]
        version = version_of(found["version"].text)
        return SchedulerIdentity(version=version, identity=identity, detail=f"by ssh as {self._settings.username} at {self._link.where}")

    async def close(self) -> None:
        """Hang up."""
        await self._link.close()

    async def _meet(self) -> None:
        async with self._meeting:
            if not self._looking.owner:
                await self.ping()
