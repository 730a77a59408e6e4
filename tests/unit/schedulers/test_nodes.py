"""What of a look at nodes is told, under which ids, and what is said of them when their run is over."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from jobledger_contracts.job_events import CondorSpec, NodeReport, NodeSpec, WorkflowSpec
from jobledger_contracts.nodes import Node
from jobledger_contracts.statuses import Status
from jobledger_schedulers.domain.nodes import Told, first_reports, left_over, news, with_nodes
from jobledger_schedulers.domain.reports import NODES_AT_ONCE, nodes_changed
from jobledger_schedulers.domain.runs import Run, Seen

NOW = datetime(2026, 3, 1, tzinfo=UTC)
JOB = "01934f2e-7a1c-7d11-8a52-0f1e2d3c4b5a"
RUN = Run(run_id=f"{JOB}.1", job_id=JOB, run=1, scheduler="pool", desired="run", asked_at=NOW, desired_at=NOW)


def report(node: str, status: str, **more: Any) -> NodeReport:
    return NodeReport(node=node, status=status, **more)


def after(known: dict[str, Told], *reports: NodeReport) -> dict[str, Told]:
    return known | {said.node: told for said, told in news(known, reports, NOW)}


def test_every_node_is_told_of_at_first_and_what_was_done_before_is_done() -> None:
    run = CondorSpec(executable="x")
    workflow = WorkflowSpec(
        nodes=[NodeSpec(name="a", condor=run), NodeSpec(name="b", condor=run), NodeSpec(name="c", condor=run, done=True)]
    )
    first = first_reports(workflow, {"b"})
    assert [(r.node, r.status) for r in first] == [("a", "Pending"), ("b", "Complete"), ("c", "Complete")]
    assert [said for said, _ in news({}, first, NOW)] == first


def test_only_what_is_new_is_told() -> None:
    known = after({}, report("a", "Pending"), report("b", "Pending"))
    fresh = news(known, [report("a", "Running", message="on x"), report("b", "Pending")], NOW)
    assert [said.node for said, _ in fresh] == ["a"]
    known = after(known, report("a", "Running", message="on x"))
    assert news(known, [report("a", "Running", message="on x")], NOW) == []
    [(_, told)] = news(known, [report("a", "Complete", message="")], NOW)
    assert (told.node.status, told.node.message, told.told) == (Status.COMPLETE, "", 3)


def test_the_same_said_again_is_another_event_and_said_again_after_a_crash_is_the_same() -> None:
    known = after({}, report("a", "Running", message="m"))
    held = news(known, [report("a", "Paused", message="held")], NOW)
    once = nodes_changed(RUN, held, NOW)
    assert nodes_changed(RUN, news(known, [report("a", "Paused", message="held")], NOW), NOW)[0].id == once[0].id
    known = after(after(known, report("a", "Paused", message="held")), report("a", "Running", message="m"))
    again = nodes_changed(RUN, news(known, [report("a", "Paused", message="held")], NOW), NOW)
    assert again[0].id != once[0].id
    assert again[0].data == once[0].data


def test_an_empty_message_takes_the_one_before_away() -> None:
    known = after({}, report("a", "Running", message="on x"))
    [event] = nodes_changed(RUN, news(known, [report("a", "Complete", message="")], NOW), NOW)
    assert event.data.nodes[0].message == ""


def test_many_nodes_are_told_in_several_events() -> None:
    fresh = news({}, [report(f"n{i}", "Pending") for i in range(NODES_AT_ONCE + 1)], NOW)
    assert [len(event.data.nodes) for event in nodes_changed(RUN, fresh, NOW)] == [NODES_AT_ONCE, 1]


def test_what_never_ended_ends_with_its_run() -> None:
    known = {"a": Told(Node(name="a", status=Status.RUNNING, restarts=2)), "b": Told(Node(name="b", status=Status.ERROR))}
    [said] = left_over(known, Status.ABORTED)
    assert (said.node, said.status, said.restarts) == ("a", "Aborted", 2)
    assert [r.status for r in left_over(known, Status.COMPLETE)] == ["Complete"]


def test_a_run_that_ended_well_with_failed_nodes_is_not_all_well() -> None:
    failed = [report("a", "Error"), report("b", "Complete")]
    assert with_nodes(Seen(status=Status.COMPLETE), failed, "1 failed") == Seen(status=Status.VARIOUS_COMPLETE, message="1 failed")
    assert with_nodes(Seen(status=Status.COMPLETE, message="m"), failed[1:], "") == Seen(status=Status.COMPLETE, message="m")
    assert with_nodes(Seen(status=Status.ERROR), failed, "").status is Status.ERROR


def test_of_many_nodes_only_those_that_changed_are_told_and_many_at_once_in_few_events() -> None:
    names = [f"n{i}" for i in range(5000)]
    known = after({}, *(report(name, "Pending") for name in names))
    first = nodes_changed(RUN, news({}, [report(name, "Pending") for name in names], NOW), NOW)
    assert len(first) == len(names) / NODES_AT_ONCE
    assert max(len(msgspec.json.encode(event.data)) for event in first) < 50_000
    look = [report(name, "Running" if name == "n7" else "Pending") for name in names]
    (event,) = nodes_changed(RUN, news(known, look, NOW), NOW)
    assert len(msgspec.json.encode(event.data)) < 200
