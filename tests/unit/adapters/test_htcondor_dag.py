"""What DAGMan is given to read, and what is read of what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobledger_contracts.job_events import CondorSpec, NodeSpec, ScriptSpec, WorkflowSpec
from jobledger_contracts.statuses import Status
from jobledger_schedulers.adapters.htcondor.command import NotSubmittable
from jobledger_schedulers.adapters.htcondor.dag import DAG_FILE, Dag, done_nodes, workflow_inputs, write_dag
from jobledger_schedulers.adapters.htcondor.dag_files import dagman_description, make_folder, read_nodes, settle_output
from jobledger_schedulers.adapters.htcondor.parse_nodes import as_workflow, failure_in_words, judge_nodes, read_status_file
from jobledger_schedulers.adapters.port import Observation, RunSpec

RUN_ID = "01934f2e-7a1c-7d11-8a52-0f1e2d3c4b5a.1"


def spec(workflow: WorkflowSpec | None = None, **more: Any) -> RunSpec:
    return RunSpec(run_id=RUN_ID, job_name="w", workflow=workflow, input_dir=Path("/ws"), environment={"JOBLEDGER_RUN_ID": RUN_ID}, **more)


def node(name: str, *parents: str, **more: Any) -> NodeSpec:
    if more.get("type") not in ("SPLICE", "SUBDAG"):
        more.setdefault("condor", CondorSpec(executable="run.sh"))
    return NodeSpec(name=name, parents=list(parents), **more)


def written(*nodes: NodeSpec, done: tuple[str, ...] = (), **more: Any) -> Dag:
    workflow = WorkflowSpec(nodes=list(nodes), **more)
    return write_dag(spec(workflow), workflow, done)


def vars_of(name: str, full: str = "", folder: str = "") -> str:
    return f'VARS {name} JobledgerNode="{full or name}" JobledgerFolder="nodes/{folder or full or name}" JobledgerRetry="$(RETRY)"'


def test_every_keyword_stands_on_its_line() -> None:
    dag = written(
        node("a", noop=True),
        node(
            "b", "a",
            pre_script=ScriptSpec(executable="check.sh", arguments=["$JOB", "x=1"]), post_script=ScriptSpec(executable="judge.sh"),
            pre_skip=4, retry=2, retry_unless_exit=3, abort_dag_on=5, abort_dag_on_return_value=0, priority=7, category="big",
        ),
        node("c", "a", "b", done=True),
        node("z", type="FINAL"),
        max_jobs={"big": 2, "any": 0},
        config={"DAGMAN_VERBOSITY": "3"},
    )  # fmt: skip
    assert dag.files[DAG_FILE].splitlines() == [
        "CONFIG run/dagman.config",
        "MAXJOBS big 2",
        "JOB a submit/1.sub NOOP",
        vars_of("a"),
        "JOB b submit/2.sub",
        vars_of("b"),
        "SCRIPT PRE b inputs/check.sh $JOB x=1",
        "SCRIPT POST b inputs/judge.sh",
        "PRE_SKIP b 4",
        "RETRY b 2 UNLESS-EXIT 3",
        "ABORT-DAG-ON b 5 RETURN 0",
        "PRIORITY b 7",
        "CATEGORY b big",
        "JOB c submit/3.sub DONE",
        vars_of("c"),
        "FINAL z submit/3.sub",
        vars_of("z"),
        "PARENT a CHILD b",
        "PARENT a b CHILD c",
        "NODE_STATUS_FILE run/node.status 5",
        "JOBSTATE_LOG run/jobstate.log",
    ]
    assert dag.files["run/dagman.config"] == "DAGMAN_VERBOSITY = 3\n"
    assert dag.scripts
    assert set(dag.inputs) == {"check.sh", "judge.sh", "run.sh"}


def test_nodes_that_are_alike_share_a_submit_file_and_those_with_other_values_do_not() -> None:
    each = CondorSpec(executable="run.sh", arguments=["$(year)"])
    dag = written(node("a"), node("b"), *(node(f"y{y}", condor=each, variables={"Year": str(y)}) for y in (1, 2)))
    assert sorted(name for name in dag.files if name.endswith(".sub")) == ["submit/1.sub", "submit/2.sub", "submit/3.sub"]
    assert 'arguments = "1"' in dag.files["submit/2.sub"]
    lines = dag.files["submit/1.sub"].splitlines()
    assert {
        "executable = inputs/run.sh",
        "initialdir = run/$(JobledgerFolder)",
        "output = stdout.txt",
        f'My.JobledgerRunId = "{RUN_ID}"',
        'My.JobledgerNode = "$(JobledgerNode)"',
        "My.JobledgerRetry = $(JobledgerRetry)",
        "getenv = false",
    } <= set(lines)
    assert lines[-1] == "queue"
    assert "JOBLEDGER_NODE=$(JobledgerNode)" in dag.files["submit/1.sub"]


def test_what_another_node_leaves_and_what_the_workspace_holds_travel_from_their_places() -> None:
    dag = written(
        node("a", dir="common"), node("b", "a", condor=CondorSpec(executable="/bin/cat", input_files=["data/x.csv", "nodes/common/y"]))
    )
    assert "transfer_input_files = ../../../inputs/data/x.csv,../../nodes/common/y\n" in dag.files["submit/2.sub"]
    assert dag.inputs == ["run.sh", "data/x.csv"]
    assert "output = $(JobledgerStdout)\n" in dag.files["submit/1.sub"]
    with pytest.raises(NotSubmittable, match="there is none with the folder 'nodes/c'"):
        written(node("b", condor=CondorSpec(executable="/bin/cat", input_files=["nodes/c/y"])))


def test_splices_and_workflows_within_have_files_of_their_own() -> None:
    inner = WorkflowSpec(nodes=[node("x"), node("y", "x")])
    dag = written(node("s", type="SPLICE", workflow=inner), node("d", "s", type="SUBDAG", workflow=inner, retry=1), done=("s+x",))
    assert dag.files[DAG_FILE].splitlines()[:4] == [
        "SPLICE s run/within-s.dag",
        "SUBDAG EXTERNAL d run/within-d.dag",
        "RETRY d 1",
        "PARENT s CHILD d",
    ]
    assert dag.files["run/within-s.dag"].splitlines()[:2] == ["JOB x submit/1.sub DONE", vars_of("x", "s+x")]
    assert f'SET_JOB_ATTR JobledgerRunId = "{RUN_ID}"' in dag.files["run/within-d.dag"]
    assert vars_of("y", "d/y", "d+y") in dag.files["run/within-d.dag"]


def test_nodes_that_share_a_folder_keep_their_output_apart() -> None:
    inner = WorkflowSpec(nodes=[node("x", dir="common"), node("y", dir="common")])
    within = written(node("d", type="SUBDAG", workflow=inner)).files["run/within-d.dag"].splitlines()
    (x,) = (line for line in within if line.startswith("VARS x "))
    assert x.endswith(
        'JobledgerFolder="nodes/d+common" JobledgerRetry="$(RETRY)" JobledgerStdout="d+x.stdout.txt" JobledgerStderr="d+x.stderr.txt"'
    )


HOSTILE = ["x\nJOB evil evil.sub", "x\r\nSCRIPT PRE ALL_NODES /bin/sh", "x\0y", '"; queue 100 #', "$(ENV)", "$$(x)", "$ENV(HOME)", "a\\"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_user_becomes_a_line_or_a_macro_of_its_own(text: str) -> None:
    plain = written(node("a", condor=CondorSpec(executable="run.sh", arguments=["x"], environment={"E": "x"})))
    for condor, variables in (
        (CondorSpec(executable="run.sh", arguments=[text]), {}),
        (CondorSpec(executable="run.sh", environment={"E": text}), {}),
        (CondorSpec(executable="run.sh", arguments=["$(v)"]), {"v": text}),
        (CondorSpec(executable="run.sh", attributes={"+Mine": text}), {}),
    ):
        try:
            dag = written(node("a", condor=condor, variables=variables))
        except NotSubmittable:
            continue
        assert dag.files[DAG_FILE] == plain.files[DAG_FILE]
        names = {line.partition(" = ")[0] for line in dag.files["submit/1.sub"].splitlines()}
        assert names <= {line.partition(" = ")[0] for line in plain.files["submit/1.sub"].splitlines()} | {"My.Mine"}
        assert "$$(" not in dag.files["submit/1.sub"]
        assert "$ENV(" not in dag.files["submit/1.sub"]


@pytest.mark.parametrize("argument", ["a b", "x;y", "$(x)", "x\ny", "'x'", "$HOME", "`x`"])
def test_a_scripts_argument_that_dagman_would_read_otherwise_is_refused(argument: str) -> None:
    with pytest.raises(NotSubmittable, match="knows no quotes"):
        written(node("a", pre_script=ScriptSpec(executable="check.sh", arguments=[argument])))


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x"])
def test_no_file_from_outside_the_workspace_travels(path: str) -> None:
    with pytest.raises(NotSubmittable):
        written(node("a", condor=CondorSpec(executable="run.sh", input_files=[path])))
    with pytest.raises(NotSubmittable):
        written(node("a", pre_script=ScriptSpec(executable=path)))


def test_of_a_rescue_file_only_the_names_of_done_nodes_are_used() -> None:
    workflow = WorkflowSpec(nodes=[node("a"), node("b"), node("d", type="SUBDAG", workflow=WorkflowSpec(nodes=[node("x"), node("y")]))])
    rescues = {
        "workflow.dag.rescue001": "DONE a\nSCRIPT PRE b /bin/evil\n",
        "workflow.dag.rescue002": "# A,B\nDONE a\nDONE b\nDONE nobody\nDONE a b\n",
        "within-d.dag.rescue001": "DONE x\n",
        "elsewhere.rescue001": "DONE y\n",
    }
    assert done_nodes(rescues, workflow) == {"a", "b", "d/x"}


def test_dagman_is_found_by_its_run_and_not_started_for_ever() -> None:
    said = dagman_description(spec(WorkflowSpec(nodes=[node("a")])), "me")
    assert said["My.JobledgerRunId"] == f'"{RUN_ID}"'
    assert said["transfer_output_files"] == "run"
    assert "NumJobStarts >= 5" in said["on_exit_hold"]


def test_the_folder_holds_inputs_empty_folders_and_what_an_earlier_run_has_done(tmp_path: Path) -> None:
    workspace, before = tmp_path / "ws", tmp_path / "ws" / "run-1"
    (before / "nodes" / "a").mkdir(parents=True)
    (before / "nodes" / "a" / "out.txt").write_text("kept")
    (before / "nodes" / "a" / "leak").symlink_to("/etc/passwd")
    for name in ("run.sh", "check.sh"):
        (workspace / name).write_text("#!/bin/sh\n")
    workflow = WorkflowSpec(nodes=[node("a"), node("b", "a", pre_script=ScriptSpec(executable="check.sh"))])
    run = RunSpec(run_id=RUN_ID, job_name="w", workflow=workflow, input_dir=workspace, done_nodes=frozenset({"a"}), previous_dir=before)
    folder = tmp_path / "staged"
    make_folder(folder, write_dag(run, workflow, run.done_nodes), run)

    assert (folder / "run/nodes/a/out.txt").read_text() == "kept"
    assert not (folder / "run/nodes/a/leak").exists()
    assert (folder / "run/nodes/b").is_dir()
    assert (folder / "inputs/run.sh").is_symlink()
    assert (folder / "inputs/check.sh").stat().st_mode & 0o111
    assert "JOB a submit/1.sub DONE" in (folder / DAG_FILE).read_text()


# --- what is said of it ------------------------------------------------------------------------------------------------------------


def ad(cluster: int, name: str, status: int, retry: int = 0, **more: Any) -> dict[str, Any]:
    base = {"ClusterId": cluster, "ProcId": 0, "JobStatus": status, "JobledgerRunId": RUN_ID, "DAGManJobId": 1}
    return {**base, "JobledgerNode": name, "JobledgerRetry": retry, "JobUniverse": 5, **more}


def test_the_last_try_of_each_node_counts() -> None:
    history = [ad(2, "a", 4, ExitCode=0), ad(3, "b", 4, ExitCode=7), ad(5, "c", 4, ExitCode=1, JobledgerPost=True)]
    queue = [ad(4, "b", 2, 1, RemoteHost="slot1@x")]
    a, b, c = judge_nodes(queue, history)[RUN_ID]
    assert (a.status, a.exit_code, a.message) == ("Complete", 0, "")
    assert (b.status, b.restarts, b.scheduler_job_ref) == ("Running", 1, "4")
    assert (c.status, c.message) == ("Running", "its job ended with exit code 1; its post script decides")


def test_a_workflow_is_various_while_dagman_runs_and_says_how_far_it_is() -> None:
    seen = Observation(run_id=RUN_ID, status=Status.RUNNING, evidence={"DAG_NodesTotal": 4, "DAG_NodesDone": 1, "DAG_NodesQueued": 2})
    told = as_workflow(seen, (), in_queue=True)
    assert (told.status, told.progress, told.message) == (Status.VARIOUS, 0.25, "1 of 4 nodes are done, 2 in the queue")


def test_a_workflow_that_is_being_removed_has_not_ended() -> None:
    seen = Observation(run_id=RUN_ID, status=Status.ABORTED, evidence={"JobStatus": 3})
    assert as_workflow(seen, (), in_queue=True).status is Status.VARIOUS
    assert as_workflow(seen, (), in_queue=False).status is Status.ABORTED


STATUS_FILE = """\
[
  Type = "DagStatus";
  DagFiles = {
    "run/workflow.dag"
  };
  NodesTotal = 4;
]
[
  Type = "NodeStatus";
  Node = "A";
  NodeStatus = 5; /* "STATUS_DONE" */
  StatusDetails = "";
  RetryCount = 1;
]
[
  Type = "NodeStatus";
  Node = "C";
  NodeStatus = 6; /* "STATUS_ERROR" */
  StatusDetails = "Job proc (4.0.0) failed with status 4";
  RetryCount = 0;
]
[
  Type = "NodeStatus";
  Node = "E";
  NodeStatus = 6; /* "STATUS_ERROR" */
  StatusDetails = "Job proc (5.0.0) failed with signal 9";
  RetryCount = 0;
]
[
  Type = "NodeStatus";
  Node = "D";
  NodeStatus = 7; /* "STATUS_FUTILE" */
  StatusDetails = "Had an ancestor node fail";
  RetryCount = 0;
]
[
  Type = "StatusEnd";
]
"""
"""As DAGMan of 23.9 writes it."""


def test_the_status_file_says_how_every_node_ended() -> None:
    a, c, e, d = read_status_file(STATUS_FILE)
    assert (a.status, a.restarts, a.message) == ("Complete", 1, "")
    assert (c.status, c.exit_code, c.message) == ("Error", 4, "exit code 4")
    assert (e.exit_signal, e.message) == (9, "ended by signal 9")
    assert (d.status, d.message) == ("Aborted", "not run: a node before it failed")
    assert failure_in_words([a, c, e, d], "") == "2 of 4 nodes failed: C (exit code 4), E (ended by signal 9). 1 were not run."
    assert read_status_file("garbage [ Node") == []
    names = [n.node for n in read_nodes({"node.status": STATUS_FILE, "within-d.dag.status": STATUS_FILE})]
    assert {"A", "d/A"} <= set(names)


def test_while_dagman_works_only_what_will_not_change_is_read() -> None:
    going_on = STATUS_FILE.replace("NodeStatus = 5;", "NodeStatus = 3;").replace("NodeStatus = 7;", "NodeStatus = 1;")
    assert [report.node for report in read_status_file(going_on, live=True)] == ["C", "E"]
    assert [report.node for report in read_status_file(STATUS_FILE, live=True)] == ["A", "C", "E", "D"]


def test_a_node_that_was_at_work_when_the_workflow_ended_has_not_failed() -> None:
    cut_off = STATUS_FILE.replace("Job proc (4.0.0) failed with status 4", "Was STATUS_SUBMITTED")
    (c,) = (report for report in read_status_file(cut_off) if report.node == "C")
    assert (c.status, c.message) == ("Aborted", "the workflow ended while it ran")


def test_without_failed_nodes_dagmans_own_complaint_is_told() -> None:
    assert failure_in_words([], "11/21 ERROR: bad DAG line 3\n") == "DAGMan says: bad DAG line 3"
    assert failure_in_words([], "11/21 Daemon Log is logging: D_ALWAYS D_ERROR D_STATUS\nDAGMAN_LOG_ON_NFS_IS_ERROR setting: False\n") == ""


def test_what_came_back_is_put_in_its_place_once(tmp_path: Path) -> None:
    (tmp_path / "run" / "nodes" / "A").mkdir(parents=True)
    (tmp_path / "run" / "nodes" / "A" / "stdout.txt").write_text("x")
    (tmp_path / "run" / "node.status").write_text(STATUS_FILE)
    first = settle_output(tmp_path, RUN_ID, "")
    assert first.files == ["node.status", "nodes/A/stdout.txt"]
    assert len(first.nodes) == 4
    assert settle_output(tmp_path, RUN_ID, "") == first


def test_five_thousand_nodes_are_written_with_one_submit_file() -> None:
    workflow = WorkflowSpec(nodes=[node("first"), *(node(f"n{i}", "first") for i in range(4999))])
    dag = write_dag(spec(workflow), workflow)
    assert [name for name in dag.files if name.endswith(".sub")] == ["submit/1.sub"]
    assert workflow_inputs(workflow) == ["run.sh"]
