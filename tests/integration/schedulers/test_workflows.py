"""Workflows on a real HTCondor pool: DAGMan runs them, and the log tells of every node."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import msgspec
import pytest

from jobledger_contracts.job_events import CondorSpec, NodeSpec, ResubmitRequested, ScriptSpec, StopRequested, WorkflowSpec
from jobledger_contracts.statuses import Status
from jobledger_devstack import Stack
from tests.support.pool import submissions_by_run
from tests.support.schedulers import LogView, Service, condor_body, fresh_job_id, register

pytestmark = [pytest.mark.stack, pytest.mark.anyio, pytest.mark.timeout(240)]

SCRIPTS = {
    "make.sh": "echo made by $JOBLEDGER_NODE > $1",
    "join.sh": "cat left.txt right.txt > both.txt; cat both.txt",
    "second.sh": '[ "$JOBLEDGER_RETRY" = 0 ] && exit 3; echo "try $JOBLEDGER_RETRY" > $1',
    "perhaps.sh": "[ -e broken ] && exit 9; echo mended > right.txt",
    "sleep.sh": "sleep 300",
}


def job(executable: str, *arguments: str, inputs: tuple[str, ...] = ()) -> CondorSpec:
    return CondorSpec(executable=executable, arguments=list(arguments), input_files=list(inputs))


def prepare(workspaces: Path, job_id: str, **more: str) -> Path:
    folder = workspaces / job_id
    folder.mkdir(parents=True)
    for name, text in SCRIPTS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    for name, text in more.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
async def condor(running: Service, admin_key: str, pool: Stack) -> Service:
    await register(running, admin_key, condor_body(pool))
    return running


def statuses(view: LogView, job_id: str) -> dict[str, str]:
    return {name: node.status.value for name, node in view.nodes(job_id).items()}


async def test_a_diamond_with_a_retry_passes_its_files_on_and_every_node_is_told_of(
    condor: Service, view: LogView, workspaces: Path, pool: Stack
) -> None:
    job_id = fresh_job_id()
    folder = prepare(workspaces, job_id)
    diamond = WorkflowSpec(
        nodes=[
            NodeSpec(name="top", condor=job("make.sh", "$(what).txt"), variables={"what": "top"}),
            NodeSpec(name="left", condor=job("make.sh", "left.txt", inputs=("nodes/top/top.txt",)), parents=["top"]),
            NodeSpec(name="right", condor=job("second.sh", "right.txt"), parents=["top"], retry=2),
            NodeSpec(
                name="bottom", condor=job("join.sh", inputs=("nodes/left/left.txt", "nodes/right/right.txt")), parents=["left", "right"]
            ),
        ]
    )
    await view.run("pool", workflow=diamond, job_id=job_id)
    await view.until(job_id, lambda job: bool(view.nodes(job_id)))
    assert list(view.nodes(job_id)) == ["top", "left", "right", "bottom"]
    ended = await view.until(job_id, Status.COMPLETE, timeout_s=120)

    assert view.statuses(job_id) == ["Submitted", "Various", "Complete"], view.reports(job_id)
    nodes = view.nodes(job_id)
    assert statuses(view, job_id) == dict.fromkeys(("top", "left", "right", "bottom"), "Complete")
    assert (nodes["right"].restarts, nodes["left"].restarts) == (1, 0)
    assert all(node.scheduler_job_ref for node in nodes.values())
    assert ended.exit_code == 0
    output = folder / "run-1"
    assert (output / "nodes/bottom/stdout.txt").read_text() == "made by left\ntry 1\n"
    assert (output / "nodes/left/left.txt").read_text() == "made by left\n"
    named = {file.path for file in view.collected(job_id)[0].files}
    assert {"run-1/workflow.dag", "run-1/workflow.dag.dagman.out", "run-1/node.status", "run-1/nodes/top/condor.log"} <= named
    assert len(submissions_by_run(pool)[f"{job_id}.1"]) == 6  # DAGMan itself, four nodes, one of them twice


async def test_a_node_that_fails_is_named_and_another_run_goes_on_from_there(condor: Service, view: LogView, workspaces: Path) -> None:
    job_id = fresh_job_id()
    folder = prepare(workspaces, job_id, broken="yes")
    workflow = WorkflowSpec(
        nodes=[
            NodeSpec(name="left", condor=job("make.sh", "left.txt")),
            NodeSpec(name="right", condor=CondorSpec(executable="perhaps.sh", input_files=["broken"])),
            NodeSpec(
                name="bottom", condor=job("join.sh", inputs=("nodes/left/left.txt", "nodes/right/right.txt")), parents=["left", "right"]
            ),
        ]
    )
    await view.run("pool", workflow=workflow, job_id=job_id)
    failed = await view.until(job_id, Status.ERROR, timeout_s=120)
    first = view.nodes(job_id)

    assert failed.status_message == "1 of 3 nodes failed: right (exit code 9). 1 were not run."
    assert {name: node.status.value for name, node in first.items()} == {"left": "Complete", "right": "Error", "bottom": "Aborted"}
    assert first["right"].exit_code == 9
    assert (folder / "run-1/workflow.dag.rescue001").exists()

    (folder / "perhaps.sh").write_text("#!/bin/sh\necho mended > right.txt\n")
    await view.say(ResubmitRequested(job_id=job_id))
    await view.until(job_id, Status.COMPLETE, timeout_s=120)
    second = view.nodes(job_id)
    assert set(statuses(view, job_id).values()) == {"Complete"}
    assert second["left"].message == "done in an earlier run"
    assert second["left"].scheduler_job_ref == ""
    assert (folder / "run-2/nodes/bottom/stdout.txt").read_text() == "made by left\nmended\n"


async def test_a_workflow_that_is_stopped_takes_its_nodes_along(condor: Service, view: LogView, workspaces: Path, pool: Stack) -> None:
    job_id = fresh_job_id()
    prepare(workspaces, job_id)
    workflow = WorkflowSpec(
        nodes=[NodeSpec(name="long", condor=job("sleep.sh")), NodeSpec(name="after", condor=job("sleep.sh"), parents=["long"])]
    )
    await view.run("pool", workflow=workflow, job_id=job_id)
    await view.until(job_id, lambda _: statuses(view, job_id).get("long") == "Running", timeout_s=60)
    asked_at = time.monotonic()
    await view.say(StopRequested(job_id=job_id, reason="enough"))
    await view.until(job_id, Status.ABORTED, timeout_s=60)

    assert time.monotonic() - asked_at < 20
    assert statuses(view, job_id) == {"long": "Aborted", "after": "Aborted"}


async def test_scripts_splices_workflows_within_noops_and_the_final_node_run(condor: Service, view: LogView, workspaces: Path) -> None:
    job_id = fresh_job_id()
    folder = prepare(workspaces, job_id, **{"judge.sh": '#!/bin/sh\n[ "$1" = 3 ] && exit 0\nexit 1\n'})
    inner = WorkflowSpec(
        nodes=[NodeSpec(name="a", condor=job("make.sh", "a.txt")), NodeSpec(name="b", condor=job("make.sh", "b.txt"), parents=["a"])]
    )
    workflow = WorkflowSpec(
        nodes=[
            NodeSpec(
                name="judged",
                condor=job("second.sh", "x"),
                post_script=ScriptSpec(executable="judge.sh", arguments=["$RETURN"]),
                category="few",
            ),
            NodeSpec(name="spliced", type="SPLICE", workflow=inner, parents=["judged"]),
            NodeSpec(name="join", noop=True, parents=["spliced"]),
            NodeSpec(name="sub", type="SUBDAG", workflow=inner, parents=["join"]),
            NodeSpec(name="tidy", type="FINAL", condor=job("make.sh", "tidy.txt")),
        ],
        max_jobs={"few": 1},
        max_jobs_total=3,
        max_idle=2,
        config={"DAGMAN_MAX_POST_SCRIPTS": "2"},
    )
    # A large workflow lies in the workspace, and the event names it.
    raw = msgspec.json.encode(workflow)
    (folder / "workflow.json").write_bytes(raw)
    named = WorkflowSpec(file="workflow.json", sha256=hashlib.sha256(raw).hexdigest(), node_count=9)
    await view.run("pool", workflow=named, job_id=job_id)
    ended = await view.until(job_id, lambda job: job.status in (Status.COMPLETE, Status.ERROR), timeout_s=180)

    assert ended.status is Status.COMPLETE, (ended.status_message, statuses(view, job_id))
    assert statuses(view, job_id) == dict.fromkeys(
        ("judged", "spliced+a", "spliced+b", "join", "sub", "sub/a", "sub/b", "tidy"), "Complete"
    )
    assert (folder / "run-1/nodes/spliced+b/b.txt").exists()
    assert (folder / "run-1/nodes/sub+b/b.txt").exists()


async def test_killed_while_a_workflow_runs_it_hands_nothing_over_twice_and_tells_every_node(
    condor: Service, view: LogView, workspaces: Path, pool: Stack
) -> None:
    job_id = fresh_job_id()
    prepare(workspaces, job_id)
    steps = [NodeSpec(name=f"n{i}", condor=job("make.sh", "x.txt"), parents=[f"n{i - 1}"] if i else []) for i in range(4)]
    await view.run("pool", workflow=WorkflowSpec(nodes=steps), job_id=job_id)
    for seen in (0, 1, 2):
        await view.until(job_id, lambda _, seen=seen: len(view.nodes(job_id)) == 4 and _done(view, job_id) >= seen, timeout_s=60)
        condor.kill()
        condor.start(wait=False)
    await view.until(job_id, Status.COMPLETE, timeout_s=120)

    assert set(statuses(view, job_id).values()) == {"Complete"}
    assert len(submissions_by_run(pool)[f"{job_id}.1"]) == 5


def _done(view: LogView, job_id: str) -> int:
    return sum(1 for node in view.nodes(job_id).values() if node.status is Status.COMPLETE)


async def test_a_workflow_that_was_changed_in_its_file_is_refused(condor: Service, view: LogView, workspaces: Path) -> None:
    job_id = fresh_job_id()
    folder = prepare(workspaces, job_id)
    (folder / "workflow.json").write_text("{}")
    named = WorkflowSpec(file="workflow.json", sha256="0" * 64, node_count=3)
    await view.run("pool", workflow=named, job_id=job_id)
    refused = await view.until(job_id, Status.ERROR)
    assert "is not what it was when the job was created" in refused.status_message
