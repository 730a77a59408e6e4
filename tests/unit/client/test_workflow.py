"""What the SDK says of a workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobledger import (
    CondorWorkflow,
    CondorWorkflowFinalNode,
    CondorWorkflowJobNode,
    CondorWorkflowSpliceNode,
    Connection,
    JobManager,
)
from jobledger_contracts.job_events import WorkflowSpec
from jobledger_contracts.workflows import check_workflow


@pytest.fixture
def manager() -> Any:
    with Connection(jobs_url="http://127.0.0.1:9", schedulers_url="http://127.0.0.1:9", api_key="jlk_x_y") as connection:
        yield JobManager("app", connection)


def test_a_workflow_says_its_nodes_with_their_parents(manager: JobManager) -> None:
    workflow = manager.create_job("w", job_type="CONDORWORKFLOW", max_jobs={"big": 2})
    first = CondorWorkflowJobNode("first", workflow, executable="run.sh", arguments="a 'b c'")
    second = CondorWorkflowJobNode(
        "second", workflow, retry=2, retry_unless_exit_value=0, category="big", pre_script="check.sh", pre_script_args=[1]
    )
    second.set_attribute("executable", "run.sh")
    second.set_attribute("request_memory", "2GB")
    second.add_parent(first)
    splice = CondorWorkflowSpliceNode("splice", workflow)
    CondorWorkflowJobNode("inner", splice, executable="run.sh", remote_input_files=["nodes/first/out.txt"])
    CondorWorkflowFinalNode("last", workflow, executable="run.sh")

    said = workflow._spec()["workflow"]
    spec = msgspec.convert(said, WorkflowSpec)

    assert check_workflow(spec) == []
    assert [node.name for node in spec.nodes] == ["first", "second", "splice", "last"]
    assert spec.nodes[0].condor is not None
    assert spec.nodes[0].condor.arguments == ["a", "b c"]
    assert spec.nodes[1].parents == ["first"]
    assert (spec.nodes[1].retry, spec.nodes[1].retry_unless_exit) == (2, 0)
    assert spec.nodes[1].pre_script is not None
    assert spec.nodes[1].pre_script.arguments == ["1"]
    assert spec.nodes[2].workflow is not None
    inner = spec.nodes[2].workflow.nodes[0].condor
    assert inner is not None
    assert inner.input_files == ["nodes/first/out.txt"]
    assert second.parents == [first]


def test_local_files_of_all_nodes_are_brought_once(manager: JobManager, tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text("")
    workflow = manager.create_job("w", job_type="CONDORWORKFLOW", remote_input_files=[script])
    node = CondorWorkflowJobNode("a", workflow, executable="run.sh", remote_input_files=[script, "nodes/b/x"])

    assert isinstance(workflow, CondorWorkflow)
    assert workflow._inputs() == {"run.sh": script}
    assert node.spec()["condor"]["input_files"] == ["nodes/b/x"]


def test_two_nodes_of_one_name_are_refused_where_they_are_made(manager: JobManager) -> None:
    workflow = manager.create_job("w", job_type="CONDORWORKFLOW")
    CondorWorkflowJobNode("a", workflow)
    with pytest.raises(ValueError, match="'a' already"):
        CondorWorkflowJobNode("a", workflow)


class CountedName(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedName.compared += 1
        return str.__eq__(self, other)  # type: ignore[arg-type]

    __hash__ = str.__hash__


def test_a_workflow_of_many_nodes_is_put_together_without_looking_through_them(manager: JobManager) -> None:
    workflow = manager.create_job("w", job_type="CONDORWORKFLOW")
    nodes = [CondorWorkflowJobNode(CountedName(f"n{i}"), workflow, noop=True) for i in range(2000)]
    last = CondorWorkflowJobNode(CountedName("last"), workflow, noop=True)
    last.add_parents(nodes)
    assert len(workflow._spec()["workflow"]["nodes"][-1]["parents"]) == 2000
    assert CountedName.compared < 10 * 2000
    with pytest.raises(ValueError, match="already"):
        CondorWorkflowJobNode("n7", workflow)
    assert workflow.get_node("n7") is nodes[7]
    last.remove_parent(nodes[0])
    with pytest.raises(ValueError, match="does not wait"):
        last.remove_parent(nodes[0])
    assert last.parents == last.parent_nodes == nodes[1:]
