"""What makes a good workflow, and what reports do to its nodes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_contracts.job_events import CondorSpec, NodeReport, NodeSpec, WorkflowSpec
from jobledger_contracts.nodes import Node, count_statuses, evolve_node, fold_nodes
from jobledger_contracts.statuses import TERMINAL, Status
from jobledger_contracts.verdicts import APPLIED, Outcome, Reason
from jobledger_contracts.workflows import MAX_NODES, check_workflow, count_nodes, find_cycle, node_names

RUN = CondorSpec(executable="run.sh")
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def node(name: str, *parents: str, **more: Any) -> NodeSpec:
    if more.get("type") not in ("SPLICE", "SUBDAG"):
        more.setdefault("condor", RUN)
    return NodeSpec(name=name, parents=list(parents), **more)


def faults(*nodes: NodeSpec, **more: Any) -> list[str]:
    return [fault.message for fault in check_workflow(WorkflowSpec(nodes=list(nodes), **more))]


def test_a_diamond_is_good() -> None:
    assert faults(node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c")) == []


def test_a_cycle_is_named_as_the_way_around_it() -> None:
    assert faults(node("A", "C"), node("B", "A"), node("C", "B"), node("d", "A")) == ["nodes wait for one another: A -> B -> C -> A"]
    assert faults(node("A", "A")) == ["nodes wait for one another: A -> A"]


INNER = WorkflowSpec(nodes=[node("x"), node("y", "x")])


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([], "at least one node"),
        ([node("a"), node("a")], "two nodes are called 'a'"),
        ([node("a", "b")], "has the parent 'b', which there is not"),
        ([node("a"), node("b", "a", "a")], "names a parent twice"),
        ([node("a b")], "is no name for a node"),
        ([node("a\nJOB b x.sub")], "is no name for a node"),
        ([node("a+b")], "is no name for a node"),
        ([node("../a")], "is no name for a node"),
        ([node("..")], "is no name for a node"),
        ([node("Parent")], "a word of DAGMan's own"),
        ([node("ALL_NODES")], "a word of DAGMan's own"),
        ([node("a", type="DATA")], "there are JOB, SUBDAG, SPLICE, FINAL"),
        ([node("a", type="FINAL"), node("b", type="FINAL")], "one FINAL node at most"),
        ([node("b"), node("a", "b", type="FINAL")], "has no parents"),
        ([node("a", type="FINAL"), node("b", "a")], "has the FINAL node 'a' as its parent"),
        ([node("a", type="SPLICE")], "holds the workflow within it"),
        ([node("a", type="SPLICE", workflow=INNER, retry=2)], "set them on the nodes within"),
        ([node("a", type="SUBDAG", workflow=INNER, condor=RUN)], "no job of its own"),
        ([node("a", workflow=INNER)], "holds no workflow"),
        ([node("a", condor=None)], "names no executable"),
        ([node("a", condor=CondorSpec(executable="x", num_jobs=2))], "one process"),
        ([node("a", retry_unless_exit=1)], "but not how often"),
        ([node("a", pre_skip=1)], "but has none"),
        ([node("a", abort_dag_on_return_value=1)], "exit code to abort on"),
        ([node("a", category="x y")], "has the category"),
        ([node("a", dir="../b")], "has the dir"),
        ([node("a", variables={"a b": "1"})], "has a variable"),
        ([node("a", variables={"queue": "1"})], "has a variable"),
        ([node("a", type="SPLICE", workflow=WorkflowSpec(nodes=[node("f", type="FINAL")]))], "only the outermost"),
        ([node("a", type="SPLICE", workflow=WorkflowSpec(nodes=[node("x", "y"), node("y", "x")]))], "x -> y -> x"),
    ],
)
def test_what_is_wrong_is_said_in_words(nodes: list[NodeSpec], said: str) -> None:
    assert any(said in fault for fault in faults(*nodes)), faults(*nodes)


def test_settings_that_name_programs_are_refused() -> None:
    assert "cannot be set here" in faults(node("a"), config={"DAGMAN_CONDOR_SUBMIT_EXE": "/tmp/x"})[0]
    assert "is no value" in faults(node("a"), config={"DAGMAN_MAX_PRE_SCRIPTS": "1\nX = 2"})[0]
    assert faults(node("a"), config={"DAGMAN_MAX_PRE_SCRIPTS": "1"}) == []


def test_too_deep_and_too_many() -> None:
    deep = WorkflowSpec(nodes=[node("x")])
    for _ in range(5):
        deep = WorkflowSpec(nodes=[node("s", type="SPLICE", workflow=deep)])
    assert "deep at most" in check_workflow(deep)[0].message
    assert f"at most {MAX_NODES} nodes" in faults(*(node(f"n{i}") for i in range(MAX_NODES + 1)))[0]


def test_names_that_reports_use() -> None:
    workflow = WorkflowSpec(nodes=[node("s", type="SPLICE", workflow=INNER), node("d", type="SUBDAG", workflow=INNER), node("z")])
    assert [name for name, _ in node_names(workflow)] == ["s+x", "s+y", "d", "d/x", "d/y", "z"]
    assert count_nodes(workflow) == 7


def test_checking_a_chain_takes_steps_as_it_is_long() -> None:
    chain = [node("n0"), *(node(f"n{i}", f"n{i - 1}") for i in range(1, MAX_NODES))]
    assert faults(*chain) == []
    assert steps_of_checking(chain[:400]) < 2.5 * steps_of_checking(chain[:200])  # a quadratic check would take four times as many
    back = [msgspec.structs.replace(chain[0], parents=[f"n{MAX_NODES - 1}"]), *chain[1:]]
    assert "... -> " in faults(*back)[0]


def steps_of_checking(nodes: list[NodeSpec]) -> int:
    """How many lines of Python a check runs: counted and not timed, for machines here are noisy."""
    steps = 0

    def count(frame: FrameType, event: str, arg: object) -> Callable[..., object]:
        nonlocal steps
        steps += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        assert faults(*nodes) == []
    finally:
        sys.settrace(before)
    assert steps > len(nodes)
    return steps


def graphs(count: int) -> st.SearchStrategy[tuple[int, set[tuple[int, int]]]]:
    end = st.integers(0, count - 1)
    return st.tuples(st.just(count), st.sets(st.tuples(end, end), max_size=30))


@given(st.integers(1, 12).flatmap(graphs))
def test_a_workflow_is_accepted_if_and_only_if_it_has_no_cycle(graph: tuple[int, set[tuple[int, int]]]) -> None:
    count, edges = graph
    workflow = WorkflowSpec(nodes=[node(f"n{i}", *(f"n{a}" for a, b in sorted(edges) if b == i)) for i in range(count)])
    cycle = find_cycle(workflow)
    assert bool(check_workflow(workflow)) == bool(cycle) == _reaches_itself(count, edges)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert all((int(a[1:]), int(b[1:])) in edges for a, b in pairwise(cycle))


def _reaches_itself(count: int, edges: set[tuple[int, int]]) -> bool:
    closed = set(edges)
    while more := {(a, d) for a, b in closed for c, d in closed if b == c} - closed:
        closed |= more
    return any((i, i) in closed for i in range(count))


# --- nodes -----------------------------------------------------------------------------------------------------------------------


def report(status: Status, restarts: int = 0, **more: Any) -> NodeReport:
    return NodeReport(node="a", status=status.value, restarts=restarts, **more)


def test_an_end_stays_within_a_try_and_a_later_try_begins_anew() -> None:
    failed, _ = evolve_node(Node(name="a"), report(Status.ERROR, exit_code=3, scheduler_job_ref="7"), NOW)
    same, verdict = evolve_node(failed, report(Status.RUNNING), NOW)
    assert (same, verdict.reason) == (failed, Reason.RUN_ENDED)
    again, verdict = evolve_node(failed, report(Status.SUBMITTED, 1), NOW + timedelta(seconds=5))
    assert verdict == APPLIED
    assert (again.status, again.exit_code, again.scheduler_job_ref, again.completion_time) == (Status.SUBMITTED, None, "", None)
    assert again.start_time == NOW


def test_a_report_of_an_earlier_try_is_late() -> None:
    node_, _ = evolve_node(Node(name="a"), report(Status.RUNNING, 2), NOW)
    assert evolve_node(node_, report(Status.ERROR, 1), NOW)[1].reason is Reason.LATE


def test_nothing_leads_back_to_pending_and_what_says_nothing_new_changes_nothing() -> None:
    running, _ = evolve_node(Node(name="a"), report(Status.RUNNING), NOW)
    assert evolve_node(running, report(Status.PENDING), NOW)[1].reason is Reason.STEP_BACK
    assert evolve_node(running, report(Status.RUNNING), NOW)[1].reason is Reason.UNCHANGED
    held, verdict = evolve_node(running, report(Status.PAUSED, message="held"), NOW)
    assert verdict == APPLIED
    assert evolve_node(held, report(Status.RUNNING, message=""), NOW)[0].status is Status.RUNNING


def test_a_node_that_only_is_said_to_be_is_news_once() -> None:
    first = fold_nodes({}, [(report(Status.PENDING), NOW)])
    assert first == {"a": Node(name="a")}
    assert fold_nodes(first, [(report(Status.PENDING), NOW)]) == {}
    assert count_statuses([*first.values(), Node(name="b", status=Status.COMPLETE)]) == {"Pending": 1, "Complete": 1}


STATUSES = st.sampled_from([Status(s) for s in ("Pending", "Submitted", "Running", "Paused", "Complete", "Error", "Aborted")])


@given(st.lists(st.tuples(STATUSES, st.integers(0, 3)), max_size=20), st.integers(0, 20))
def test_folding_at_once_is_folding_in_parts_and_ends_absorb(said: list[tuple[Status, int]], cut: int) -> None:
    reports = [(report(status, restarts), NOW) for status, restarts in said]
    whole = fold_nodes({}, reports)
    first = fold_nodes({}, reports[:cut])
    assert first | fold_nodes(first, reports[cut:]) == whole
    state = Node(name="a")
    for one, time_ in reports:
        after, verdict = evolve_node(state, one, time_)
        assert verdict.outcome in (Outcome.APPLIED, Outcome.SUPERSEDED)
        if state.status in TERMINAL and one.restarts == state.restarts:
            assert after is state
        assert after.restarts >= state.restarts
        state = after
