"""What of a look at a workflow's nodes is news: what the fold of the reports would take up, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

import msgspec

from jobledger_contracts.job_events import NodeReport, WorkflowSpec
from jobledger_contracts.nodes import Node, evolve_node
from jobledger_contracts.statuses import TERMINAL, Status
from jobledger_contracts.workflows import node_names

from .runs import Seen

DONE_BEFORE = "done in an earlier run"


class Told(msgspec.Struct, frozen=True):
    """A node as it was last told, and how often that was: what makes a report different from an equal one before."""

    node: Node
    told: int = 1


def first_reports(workflow: WorkflowSpec, done: Collection[str]) -> list[NodeReport]:
    """Say of every node that it is: waiting for its parents, or done before."""
    return [
        NodeReport(node=name, status=Status.COMPLETE, message=DONE_BEFORE)
        if name in done or node.done
        else NodeReport(node=name, status=Status.PENDING)
        for name, node in node_names(workflow)
    ]


def news(known: Mapping[str, Told], reports: Iterable[NodeReport], now: datetime) -> list[tuple[NodeReport, Told]]:
    """The reports that say something new of a node, each with what is known of the node afterwards."""
    found: dict[str, tuple[NodeReport, Told]] = {}
    for report in reports:
        before = found[report.node][1] if report.node in found else known.get(report.node)
        after, verdict = evolve_node(before.node if before else Node(name=report.node), report, now)
        if verdict.applied or before is None:
            found[report.node] = report, Told(after, before.told + 1 if before else 1)
    return list(found.values())


def with_nodes(seen: Seen, nodes: Iterable[NodeReport], message: str) -> Seen:
    """How a run ended, once it is known how its nodes did: with a FINAL node, DAGMan ends well whatever became of the others."""
    failed = any(node.status == Status.ERROR for node in nodes)
    status = Status.VARIOUS_COMPLETE if failed and seen.status is Status.COMPLETE else seen.status
    return msgspec.structs.replace(seen, status=status, message=message or seen.message)


def left_over(known: Mapping[str, Told], run_status: Status) -> list[NodeReport]:
    """When a run is over, so are its nodes: what is to be said of those that were never heard to end."""
    well = run_status is Status.COMPLETE
    status, message = (Status.COMPLETE, "") if well else (Status.ABORTED, "ended with the workflow")
    return [
        NodeReport(node=name, status=status, restarts=told.node.restarts, message=message)
        for name, told in known.items()
        if told.node.status not in TERMINAL
    ]
