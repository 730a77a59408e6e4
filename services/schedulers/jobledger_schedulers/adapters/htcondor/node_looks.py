"""Looks at the nodes of workflows: what is to be asked beside the queue, and what all of it says of the runs. Does no I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from jobledger_contracts.job_events import NodeReport
from jobledger_schedulers.adapters.htcondor import selection
from jobledger_schedulers.adapters.htcondor.command import NODE_ATTRIBUTE
from jobledger_schedulers.adapters.htcondor.parse import run_of
from jobledger_schedulers.adapters.htcondor.parse_nodes import as_workflow, is_workflow, judge_nodes
from jobledger_schedulers.adapters.port import Observation, Refused

HISTORY_OVERLAP_S: Final = 30
"""How far before the last look the history is read again for nodes: ads reach it a moment after what they tell of."""
NO_NODE: Final = "DAGManJobId =?= undefined"
"""A run of its own, not a node of a workflow's run."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,999}\Z")

Rows = Sequence[Mapping[str, Any]]


def of_node(name: str) -> str:
    """The constraint that means a node's jobs. Raises Refused for what is no name of a node."""
    if not _NAME.match(name):
        raise Refused("there is no node of that name")
    return f'DAGManJobId =!= undefined && {NODE_ATTRIBUTE} =?= "{name}"'


class NodeLooks:
    """Remembers when which workflows were looked at: nodes that left the queue before that need not be looked for again."""

    def __init__(self) -> None:
        self._at, self._into = 0, set[str]()

    def questions(self, workflows: Collection[str]) -> Iterator[tuple[str, str]]:
        """Constraints over the history for nodes that have left the queue, each with where the look back may end."""
        since = f"EnteredCurrentStatus < {self._at - HISTORY_OVERLAP_S}" if self._into.issuperset(workflows) else selection.since(workflows)
        for members in selection.members(workflows):
            yield f"DAGManJobId =!= undefined && {members}", since

    def looked(self, workflows: Collection[str], at: int) -> None:
        """The answers are here; `at` is when the queue was read, by the access point's clock."""
        self._at, self._into = at, set(workflows)


def workflows_among(judged: Mapping[str, Observation], rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Those of the judged runs that are workflows."""
    return {run_of(row) for row in rows if is_workflow(row)} & judged.keys()


def with_nodes(
    judged: Mapping[str, Observation],
    workflows: Collection[str],
    queue: Rows,
    nodes: Rows,
    left: Rows,
    endings: Mapping[str, Sequence[NodeReport]] | None = None,
) -> dict[str, Observation]:
    """What is seen of workflows with their nodes: those in the queue (`nodes`), gone from it (`left`), and said by DAGMan to have ended."""
    reports, queued = judge_nodes(nodes, left), {run_of(row) for row in queue}
    said = endings or {}
    return {run: as_workflow(judged[run], (*reports.get(run, ()), *said.get(run, ())), in_queue=run in queued) for run in workflows}
