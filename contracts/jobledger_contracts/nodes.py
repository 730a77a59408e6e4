"""What is known of one node of a workflow's run, and the fold of the reports on it.

A run may have thousands of nodes, and a job's state is written again with each of the job's events; so nodes are no part of it. Each
reader that cares for nodes keeps one row a node and folds into that: `evolve_node` is pure and total, like `job.evolve`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from .job_events import NodeReport
from .statuses import TERMINAL, Status
from .verdicts import APPLIED, Reason, Verdict, superseded

NODE_STATUSES = (Status.PENDING, Status.SUBMITTED, Status.RUNNING, Status.PAUSED, Status.COMPLETE, Status.ERROR, Status.ABORTED)
"""The statuses that a node can have. Pending: it waits for its parents."""


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node of one run. Times are the reports' own, in UTC."""

    name: str
    status: Status = Status.PENDING
    restarts: int = 0  #: the tries that are over
    scheduler_job_ref: str = ""
    exit_code: int | None = None
    exit_signal: int | None = None
    message: str = ""
    start_time: datetime | None = None  #: when it was first seen executing, in any try
    completion_time: datetime | None = None


def evolve_node(node: Node, report: NodeReport, time: datetime) -> tuple[Node, Verdict]:
    """Fold one report into a node.

    An earlier try's report is late. Within a try, an end stays, and nothing leads back to Pending; otherwise the later in the log is
    the later in time, because one reporter speaks of a run. A later try begins with nothing of the one before.
    """
    status = Status(report.status)
    if report.restarts < node.restarts:
        return node, superseded(Reason.LATE)
    if report.restarts == node.restarts:
        if node.status in TERMINAL:
            return node, superseded(Reason.UNCHANGED if status is node.status else Reason.RUN_ENDED)
        if status is Status.PENDING and node.status is not Status.PENDING:
            return node, superseded(Reason.STEP_BACK)
        base = node
    else:
        base = Node(name=node.name, start_time=node.start_time)
    changes: dict[str, Any] = {"status": status, "restarts": report.restarts}
    for name in ("scheduler_job_ref", "exit_code", "exit_signal", "message"):
        if (value := getattr(report, name)) is not None:
            changes[name] = value
    if base is node and all(getattr(node, name) == value for name, value in changes.items()):
        return node, superseded(Reason.UNCHANGED)
    if base.start_time is None and status in (Status.RUNNING, Status.COMPLETE, Status.ERROR):
        changes["start_time"] = time
    if status in TERMINAL:
        changes["completion_time"] = time
    return replace(base, **changes), APPLIED


def fold_nodes(known: Mapping[str, Node], reports: Iterable[tuple[NodeReport, datetime]]) -> dict[str, Node]:
    """Fold reports, in the log's order, over what is known; return the nodes that changed or are new, in the order of first mention."""
    changed: dict[str, Node] = {}
    for report, time in reports:
        node = changed.get(report.node) or known.get(report.node)
        after, verdict = evolve_node(node or Node(name=report.node), report, time)
        if verdict.applied or node is None:  # a new node of which nothing but its being is said is news all the same
            changed[report.node] = after
    return changed


def count_statuses(nodes: Sequence[Node]) -> dict[str, int]:
    """How many nodes have each status, in the order of `NODE_STATUSES`; statuses that none has are left out."""
    counts = Counter(node.status for node in nodes)
    return {status.value: counts[status] for status in NODE_STATUSES if counts[status]}
