"""Looking at runs on an access point: what its queue, its history and the folders of runs say. One adapter's, which has met it before."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from jobledger_contracts.statuses import TERMINAL
from jobledger_schedulers.adapters.htcondor.command import RUN_ID_ATTRIBUTE
from jobledger_schedulers.adapters.htcondor.dag_files import read_nodes
from jobledger_schedulers.adapters.htcondor.node_looks import NO_NODE, NodeLooks, with_nodes, workflows_among
from jobledger_schedulers.adapters.htcondor.parse import judge, missing_procs, run_of
from jobledger_schedulers.adapters.htcondor.parse_nodes import is_node
from jobledger_schedulers.adapters.htcondor.selection import RUNS_PER_QUERY, batches, members, since
from jobledger_schedulers.adapters.htcondor_ssh import script
from jobledger_schedulers.adapters.htcondor_ssh.shell import Shell, new_mark
from jobledger_schedulers.adapters.port import Observation


class Look(msgspec.Struct, frozen=True):
    """What was seen of runs: ads of the queue and of the history, and whose folder is there."""

    queue: list[dict[str, Any]]
    history: list[dict[str, Any]]
    folders: frozenset[str]
    nodes: list[dict[str, Any]]  #: ads of the queue that are workflows' nodes
    now: int  #: by the access point's clock


class Looking:
    """Looks through a shell. `owner` is who we are to the schedd, and is set before anything else."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self.owner = ""
        self._node_looks = NodeLooks()
        self._stamps: dict[str, str] = {}  #: run id of a workflow -> which of its node status files were read
        self._procs: dict[str, int] = {}  #: run id -> its number of procs, to know when a look into the history is complete

    async def observe(self, run_ids: Collection[str], *, everything: bool = False, nodes: bool = False) -> list[Observation]:
        """One observation for each run; those of workflows with their `nodes`, if these are asked for: what is said then is said once."""
        look = await self.look(run_ids, everything=everything)
        judged = judge(look.queue, look.history)
        if workflows := workflows_among(judged, (*look.queue, *look.history)):
            judged |= await self._with_nodes(judged, workflows, look) if nodes else with_nodes(judged, workflows, look.queue, (), ())
        for run, one in judged.items():
            self._remember(run, one.evidence.get("procs", 1))
            judged[run] = msgspec.structs.replace(one, results_ready=one.status in TERMINAL and run in look.folders)
        for run in set(run_ids) - judged.keys():
            self._procs.pop(run, None)
        unknown = "neither the queue nor the history of the access point has this run"
        return [judged.get(run) or Observation(run_id=run, gone=True, message=unknown) for run in run_ids]

    async def _with_nodes(self, judged: Mapping[str, Observation], workflows: set[str], look: Look) -> dict[str, Observation]:
        """Ask for nodes that have left the queue, and for what DAGMan says of those that have ended since it was last asked."""
        mark = new_mark()
        known = {run: self._stamps.get(run, "") for run in workflows & look.folders}
        steps = {
            f"history{number}": script.history(f"{self.ours()} && {constraint}", -1, since)
            for number, (constraint, since) in enumerate(self._node_looks.questions(workflows))
        }
        found = await self._shell.steps({**steps, "endings": script.endings(mark, known)})
        endings = script.endings_of(mark, found["endings"])
        left = [row for name in steps for row in script.rows_of(found[name])]
        said = await asyncio.to_thread(lambda: {run: read_nodes(texts, live=True) for run, (_, texts) in endings.items()})
        self._stamps = {**known, **{run: stamp for run, (stamp, _) in endings.items()}}
        self._node_looks.looked(workflows, look.now)
        return with_nodes(judged, workflows, look.queue, look.nodes, left, said)

    async def look(self, run_ids: Collection[str], *, everything: bool = False) -> Look:
        """Read the queue for these runs, and the history for those that have left it; `everything`: ask for all of ours."""
        wanted = set(run_ids)
        constraints = ["true"] if everything else list(members(wanted))
        steps = {f"queue{number}": script.queue(f"{self.ours()} && {each}") for number, each in enumerate(constraints)}
        found = await self._shell.steps({"now": "date +%s", **steps, "folders": script.folders()})
        ads = [row for name in steps for row in script.rows_of(found[name]) if run_of(row) in wanted]
        rows = [row for row in ads if not is_node(row)]
        left = sorted((wanted - {run_of(row) for row in rows}) | missing_procs(rows))
        past = await self._history(left) if left else []
        nodes = [row for row in ads if is_node(row)]
        return Look(rows, past, frozenset(wanted.intersection(found["folders"].split())), nodes, int(found["now"]))

    async def _history(self, runs: Sequence[str]) -> list[dict[str, Any]]:
        steps = {}
        for number, batch in enumerate(batches(runs, RUNS_PER_QUERY)):
            # A look that finds all it is to find ends there; another goes back to the oldest of these runs' jobs.
            match = sum(self._procs[run] for run in batch) if all(run in self._procs for run in batch) else -1
            steps[f"history{number}"] = script.history(f"{self.ours()} && {NO_NODE} && {next(members(batch))}", match, since(batch))
        found = await self._shell.steps(steps)
        return [row for text in found.values() for row in script.rows_of(text)]

    def ours(self) -> str:
        """Only what belongs to us counts: anybody in the pool could write our attribute into a job of theirs."""
        return f'{RUN_ID_ATTRIBUTE} =!= undefined && Owner == "{self.owner}"'

    def _remember(self, run: str, procs: int) -> None:
        if len(self._procs) > 200_000:
            self._procs.clear()
        self._procs[run] = procs
