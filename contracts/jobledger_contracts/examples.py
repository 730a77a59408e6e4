"""One event of every type and version 1, with every field said: for samples, documentation and tests."""

from __future__ import annotations

from typing import Any, Final

from . import cluster_events as c
from . import job_events as j
from . import scheduler_events as s
from . import setting_events as t

JOB_ID: Final = "01934f2e-7a1c-7d11-8a52-0f1e2d3c4b5a"

EXAMPLES: Final[tuple[Any, ...]] = (
    j.JobCreated(
        job_id=JOB_ID,
        name="Calibration {id}",
        user="ada",
        label="water_network",
        job_type="CONDOR",
        description="Große Kalibrierung",
        groups=["hydrology"],
        workspace="file:///srv/jobledger/workspaces/01934f2e-7a1c-7d11-8a52-0f1e2d3c4b5a/",
        extended_properties={"scenario": 7, "weights": [0.25, 0.75], "dry": False, "parent": None},
        scheduler="pool-1",
        condor=j.CondorSpec(
            executable="run.sh",
            arguments=["--year", "2026"],
            environment={"OMP_NUM_THREADS": "1"},
            input_files=["network.inp"],
            output_files=["result.csv"],
            attributes={"request_cpus": 1, "+ProjectName": "water"},
            num_jobs=2,
        ),
        dask=j.DaskSpec(function="model:run", args=[1], kwargs={"year": 2026}, graph_file="graph.pkl"),
        workflow=j.WorkflowSpec(
            nodes=[
                j.NodeSpec(name="prepare", condor=j.CondorSpec(executable="prepare.sh")),
                j.NodeSpec(
                    name="simulate",
                    condor=j.CondorSpec(executable="run.sh", arguments=["$(year)"], input_files=["nodes/prepare/network.inp"]),
                    parents=["prepare"],
                    pre_script=j.ScriptSpec(executable="check.sh", arguments=["quick"]),
                    post_script=j.ScriptSpec(executable="judge.sh"),
                    variables={"year": "2026"},
                    priority=5,
                    category="big",
                    retry=2,
                    retry_unless_exit=3,
                    pre_skip=4,
                    abort_dag_on=5,
                    abort_dag_on_return_value=1,
                    dir="shared",
                ),
                j.NodeSpec(
                    name="rank",
                    type="SPLICE",
                    workflow=j.WorkflowSpec(nodes=[j.NodeSpec(name="join", noop=True, done=True)]),
                    parents=["simulate"],
                ),
                j.NodeSpec(name="tidy", type="FINAL", condor=j.CondorSpec(executable="tidy.sh")),
            ],
            max_jobs={"big": 2},
            max_jobs_total=10,
            max_idle=5,
            config={"DAGMAN_MAX_PRE_SCRIPTS": "4"},
        ),
        process_results_function="water_network.results:rank",
    ),
    j.JobChanged(
        job_id=JOB_ID,
        name="Calibration, second try",
        description="with finer pipes",
        groups=["hydrology", "planning"],
        extended_properties={"scenario": 8},
        scheduler="pool-2",
        condor=j.CondorSpec(executable="run.sh"),
        dask=j.DaskSpec(function="model:run"),
        workflow=j.WorkflowSpec(file=".jobledger/workflow-0123456789abcdef.json", sha256="01" * 32, node_count=5000),
        process_results_function="water_network.results:rank_all",
    ),
    j.ExecuteRequested(job_id=JOB_ID),
    j.StopRequested(job_id=JOB_ID, reason="wrong network"),
    j.PauseRequested(job_id=JOB_ID, reason="maintenance"),
    j.ResumeRequested(job_id=JOB_ID, reason="maintenance is over"),
    j.ResubmitRequested(job_id=JOB_ID, reason="the pool was down"),
    j.RefreshRequested(job_id=JOB_ID),
    j.JobDeleted(job_id=JOB_ID, reason="tidying up"),
    j.StatusChanged(
        job_id=JOB_ID,
        status="Running",
        run=1,
        restarts=0,
        message="on node 12",
        progress=0.5,
        scheduler_job_ref="12.0",
        exit_code=0,
        exit_signal=0,
        evidence={"JobStatus": 2, "EnteredCurrentStatus": 1790000000, "RemoteHost": "slot1@node12"},
    ),
    j.NodeStatusChanged(
        job_id=JOB_ID,
        run=1,
        nodes=[
            j.NodeReport(node="prepare", status="Complete", scheduler_job_ref="13", exit_code=0),
            j.NodeReport(node="simulate", status="Error", restarts=1, scheduler_job_ref="15", exit_signal=9, message="ended by signal 9"),
        ],
    ),
    j.ResultsCollected(
        job_id=JOB_ID, run=1, files=[j.ResultFile(path="run-1/result.csv", size=1042, sha256="ab" * 32)], missing=["run-1/log.txt"]
    ),
    j.ResultsProcessingStarted(
        job_id=JOB_ID, run=1, attempt=2, worker="portal-1:4711", message="Its results are being processed (attempt 2 of 5)."
    ),
    j.ResultsProcessed(job_id=JOB_ID, run=1, attempt=2, worker="portal-1:4711", message=""),
    j.ResultsProcessingFailed(
        job_id=JOB_ID,
        run=1,
        attempt=1,
        last=True,
        worker="portal-1:4711",
        error="ZeroDivisionError: division by zero",
        traceback="Traceback (most recent call last):\n  ...\nZeroDivisionError: division by zero\n",
        message="Processing its results failed: ZeroDivisionError: division by zero",
    ),
    s.SchedulerRegistered(
        name="pool-1",
        type="condor",
        host="cm.example.org",
        port=9618,
        transport="ssh",
        schedd_name="ap-1.example.org",
        username="jobledger",
        known_host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHDf8voJ1dRClXfBVEIBBpCNDLEc+3LvsJYiWxTfEErN",
        dashboard="https://pool.example.org/",
        timeout_s=30.0,
    ),
    s.SchedulerChanged(
        name="pool-1",
        type="condor",
        host="cm2.example.org",
        port=9619,
        transport="tcp",
        schedd_name="ap-2.example.org",
        username="jobledger",
        known_host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHDf8voJ1dRClXfBVEIBBpCNDLEc+3LvsJYiWxTfEErN",
        dashboard="https://pool.example.org/",
        timeout_s=10.0,
    ),
    s.SchedulerRemoved(name="pool-1", reason="replaced"),
    s.SchedulerHealthChanged(name="pool-1", health="up", detail="3 slots", version="25.0.0"),
    c.ClusterCreated(name="summer-school", provider="aws", kind="dask", size=4, owner="ada"),
    c.ResizeRequested(name="summer-school", size=8, reason="more students"),
    c.TerminateRequested(name="summer-school", reason="it is over"),
    c.ClusterStatusChanged(name="summer-school", status="Running", nodes=4, message="all nodes are up"),
    t.SettingDeclared(setting="water_network/primary", engine="condor", description="where calibrations run", required=True),
    t.SettingAssigned(setting="water_network/primary", scheduler="pool-1", engine="condor"),
    t.SettingUnassigned(setting="water_network/primary", reason="the pool is being moved"),
    t.SettingWithdrawn(setting="water_network/primary", reason="the app does without"),
)
