"""From folded events to the rows of workflows' nodes, purely: the same log gives the same rows, whatever the batches were.

A job's state does not hold its nodes, so here, unlike in `projection.py`, what is known of a node comes from its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from jobledger_contracts.job_events import NodeReport, NodeStatusChanged
from jobledger_contracts.nodes import NODE_STATUSES, Node, fold_nodes

from .projection import FoldedEvent

RunKey = tuple[str, int]
"""Job id and run."""


class NodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `job_nodes`."""

    job_id: str
    run: int
    name: str
    number: int
    status: str
    restarts: int
    scheduler_job_ref: str
    exit_code: int | None
    exit_signal: int | None
    message: str
    start_time: datetime | None
    completion_time: datetime | None


class NodeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """`jobs.node_counts`: how many nodes a run has, and how many of them each status."""

    run: int
    total: int = 0
    counts: dict[str, int] = {}


class NodeChanges(msgspec.Struct, frozen=True):
    """What one batch changes."""

    rows: list[NodeRow]
    counts: dict[str, NodeCounts]  #: by job id


def node_reports(folded: Iterable[FoldedEvent]) -> dict[RunKey, list[tuple[NodeReport, datetime]]]:
    """The reports on nodes that took effect, by run, in the log's order."""
    found: dict[RunKey, list[tuple[NodeReport, datetime]]] = {}
    for f in folded:
        data = f.event.data
        if isinstance(data, NodeStatusChanged) and f.verdict.applied:
            found.setdefault((data.job_id, data.run), []).extend((report, f.event.time) for report in data.nodes)
    return found


def project_nodes(
    reports: Mapping[RunKey, list[tuple[NodeReport, datetime]]],
    known: Mapping[RunKey, Mapping[str, NodeRow]],
    counted: Mapping[str, NodeCounts],
) -> NodeChanges:
    """Fold reports over the rows of the nodes that they name, and keep the counts of each run in step."""
    rows: list[NodeRow] = []
    counts = dict(counted)
    for key, said in sorted(reports.items()):  # a job's runs in their order: the last one's counts stay
        job_id, run = key
        before = known.get(key, {})
        of_run = counts.get(job_id, NodeCounts(run=run))
        if of_run.run != run:
            of_run = NodeCounts(run=run)
        numbers = dict(of_run.counts)
        total = of_run.total
        for name, node in fold_nodes({name: _node(row) for name, row in before.items()}, said).items():
            old = before.get(name)
            if old is None:
                number, total = total, total + 1
            else:
                number = old.number
                numbers[old.status] = numbers.get(old.status, 0) - 1
            numbers[node.status.value] = numbers.get(node.status.value, 0) + 1
            rows.append(_row(job_id, run, number, node))
        counts[job_id] = NodeCounts(run=run, total=total, counts={s.value: n for s in NODE_STATUSES if (n := numbers.get(s.value, 0))})
    touched = {job_id for job_id, _ in reports}
    return NodeChanges(rows, {job_id: counts[job_id] for job_id in sorted(touched)})


def node_row(record: Mapping[str, Any]) -> NodeRow:
    """A row as the driver gives it."""
    return NodeRow(**{name: record[name] for name in NodeRow.__struct_fields__})


def _node(row: NodeRow) -> Node:
    return msgspec.convert({name: getattr(row, name) for name in Node.__struct_fields__}, Node)


def _row(job_id: str, run: int, number: int, node: Node) -> NodeRow:
    return NodeRow(
        job_id=job_id,
        run=run,
        name=node.name,
        number=number,
        status=node.status.value,
        restarts=node.restarts,
        scheduler_job_ref=node.scheduler_job_ref,
        exit_code=node.exit_code,
        exit_signal=node.exit_signal,
        message=node.message,
        start_time=node.start_time,
        completion_time=node.completion_time,
    )
