"""The rows of nodes, and how many of them have which status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_contracts.job_events import CondorSpec, NodeReport, NodeSpec, WorkflowSpec
from jobledger_contracts.nodes import NODE_STATUSES
from jobledger_jobs.domain.submission import check_spec
from jobledger_jobs.inputs import WorkflowBody
from jobledger_jobs.node_projection import NodeChanges, NodeCounts, NodeRow, project_nodes
from jobledger_jobs.node_routes import outline

JOB = "01990000-0000-7000-8000-000000000001"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
Said = list[tuple[int, NodeReport]]


def write(tables: tuple[dict[Any, NodeRow], dict[str, NodeCounts]], batch: Said) -> NodeChanges:
    """What the store does with a batch, on dictionaries."""
    rows, counts = tables
    reports: dict[tuple[str, int], list[tuple[NodeReport, datetime]]] = {}
    for run, report in batch:
        reports.setdefault((JOB, run), []).append((report, NOW + timedelta(seconds=run)))
    known = {key: {row.name: row for (run, _), row in rows.items() if run == key[1]} for key in reports}
    changes = project_nodes(reports, known, counts)
    for row in changes.rows:
        rows[row.run, row.number] = row
    counts.update(changes.counts)
    return changes


def report(node: str, status: str, **more: Any) -> NodeReport:
    return NodeReport(node=node, status=status, **more)


def test_nodes_are_numbered_as_they_are_first_heard_of_and_counted() -> None:
    tables: Any = ({}, {})
    write(tables, [(1, report("prepare", "Pending")), (1, report("rank", "Pending"))])
    changes = write(tables, [(1, report("rank", "Running")), (1, report("prepare", "Complete")), (1, report("late", "Pending"))])
    assert {row.name: row.number for row in changes.rows} == {"rank": 1, "prepare": 0, "late": 2}
    assert tables[1][JOB] == NodeCounts(run=1, total=3, counts={"Pending": 1, "Running": 1, "Complete": 1})


def test_a_new_run_counts_its_own_nodes() -> None:
    tables: Any = ({}, {})
    write(tables, [(1, report("a", "Error")), (2, report("a", "Complete"))])
    assert tables[1][JOB] == NodeCounts(run=2, total=1, counts={"Complete": 1})
    assert {(row.run, row.status) for row in tables[0].values()} == {(1, "Error"), (2, "Complete")}


SAID = st.tuples(st.sampled_from("abc"), st.sampled_from([status.value for status in NODE_STATUSES]), st.integers(0, 2)).map(
    lambda said: (1, report(said[0], said[1], restarts=said[2]))
)


@given(st.lists(SAID, min_size=1, max_size=25), st.integers(0, 25))
def test_rows_and_counts_are_the_same_whatever_the_batches_were(said: Said, cut: int) -> None:
    whole: Any = ({}, {})
    write(whole, said)
    parts: Any = ({}, {})
    for part in (said[:cut], said[cut:]):
        if part:
            write(parts, part)
    assert whole == parts
    [counts] = whole[1].values()
    by_status: dict[str, int] = {}
    for row in whole[0].values():
        by_status[row.status] = by_status.get(row.status, 0) + 1
    assert counts.counts == by_status
    assert counts.total == len(whole[0])


def test_an_outline_has_the_names_that_reports_use() -> None:
    run = CondorSpec(executable="x")
    inner = WorkflowSpec(nodes=[NodeSpec(name="x", condor=run), NodeSpec(name="y", condor=run, parents=["x"])])
    whole = outline(WorkflowSpec(nodes=[NodeSpec(name="s", type="SPLICE", workflow=inner), NodeSpec(name="z", condor=run, parents=["s"])]))
    assert whole.names == ["s+x", "s+y", "z"]
    assert whole.parents == {"s+x": [], "s+y": ["s+x"], "z": ["s"]}
    assert whole.files["s+y"] == {"stdout": "nodes/s+y/stdout.txt", "stderr": "nodes/s+y/stderr.txt", "log": "nodes/s+y/condor.log"}


def test_a_workflow_and_a_type_go_together() -> None:
    good = WorkflowSpec(nodes=[NodeSpec(name="a", condor=CondorSpec(executable="x"))])
    assert check_spec("CONDORWORKFLOW", "pool", None, None, good) == []
    assert [fault.path for fault in check_spec("CONDORWORKFLOW", "pool", CondorSpec(executable="x"), None, None)] == [
        "$.condor",
        "$.workflow",
    ]
    assert [fault.path for fault in check_spec("CONDOR", "pool", CondorSpec(executable="x"), None, good)] == ["$.workflow"]
    assert [fault.path for fault in check_spec("BASIC", "", None, None, good)] == ["$.workflow"]


def test_a_body_refuses_members_that_a_node_does_not_have() -> None:
    body = msgspec.json.decode(b'{"nodes":[{"name":"a","condor":{"executable":"x"}}]}', type=WorkflowBody)
    assert body.nodes[0].condor is not None
    for wrong in (b'{"nodes":[{"name":"a","retries":2}]}', b'{"nodes":[{"name":"a","condor":{"exe":"x"}}]}'):
        with pytest.raises(msgspec.ValidationError, match="unknown field"):
            msgspec.json.decode(wrong, type=WorkflowBody)
