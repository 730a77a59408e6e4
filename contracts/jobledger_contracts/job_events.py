"""What can be said about a job. One struct per event type: the shape of its `data`, at its current version.

Past tense is a fact; `...Requested` is the fact that somebody asked. Every event names its job, and is keyed by it.
Fields are only ever added, with defaults; a change of meaning is a new version with an upcaster. A pattern ends in `$(?!\\n)`
because Python's `$` alone lets one newline through.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

MAX_NAME = 1024
MAX_TRACEBACK = 65_536  #: characters
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Text = Annotated[str, Meta(max_length=8192)]
JobId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)")]
Run = Annotated[int, Meta(ge=1, le=2_147_483_647)]

Attempt = Annotated[int, Meta(ge=1, le=2_147_483_647)]
_NAME = "[A-Za-z_][A-Za-z0-9_]*"
FunctionPath = Annotated[str, Meta(max_length=1024, pattern=rf"^({_NAME}(\.{_NAME})*(:{_NAME}(\.{_NAME})*|\.{_NAME}))?$(?!\n)")]
"""A function of an app's code, as `package.module.function` or `package.module:function`; empty: none."""
CALLBACK_SOURCE = "/jobledger/jobs/callback"
"""The source of the reports that runs, or whoever runs them, make of themselves over HTTP."""

JOB_TYPES = ("BASIC", "CONDOR", "CONDORWORKFLOW", "DASK")
"""The values of `job_type`. A BASIC job has no scheduler of ours: it, or whoever runs it, reports its status."""


class CondorSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to hand to HTCondor."""

    executable: Text = ""  #: a path in the workspace, or an absolute path on the execution point
    arguments: list[Text] = []  #: one entry an argument; quoting is ours to do
    environment: dict[str, Text] = {}
    input_files: list[Text] = []  #: paths in the workspace that travel to the sandbox
    output_files: list[Text] = []  #: paths in the sandbox that come back; empty: every new file
    attributes: dict[str, Text | int | float | bool] = {}  #: more submit commands; `+Name` sets a job ClassAd attribute
    num_jobs: Annotated[int, Meta(ge=1, le=100_000)] = 1  #: processes of the one cluster
    pause_by: Annotated[str, Meta(pattern=r"^(hold|suspend)$(?!\n)")] = (
        "hold"  #: suspend: what runs stops where it is and keeps its machine
    )
    hold_limit_s: Annotated[int, Meta(ge=0, le=315_360_000)] | None = None
    """Held by HTCondor itself (not on request) for so many seconds, the run ends with an error. Absent: it stays Paused until released."""


class ScriptSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A program that the access point itself runs before or after a node."""

    executable: Text = ""  #: a path in the workspace
    arguments: list[Text] = []


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node of a workflow. What makes a good one is said, and checked, in `workflows.py`."""

    name: Text
    type: Annotated[str, Meta(max_length=16)] = "JOB"  #: JOB, SUBDAG or SPLICE (a workflow within), or FINAL (runs last, whatever happened)
    condor: CondorSpec | None = None  #: of a JOB and a FINAL; `nodes/<name>/<file>` among its input files is what another node left
    workflow: WorkflowSpec | None = None  #: of a SUBDAG and a SPLICE
    parents: list[Text] = []  #: names of the nodes that must have ended well before it
    pre_script: ScriptSpec | None = None
    post_script: ScriptSpec | None = None  #: its exit code, not the job's, then says whether the node ended well
    variables: dict[str, Text] = {}  #: `$(name)` in the node's texts stands for the value
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0  #: the highest is submitted first
    category: Annotated[str, Meta(max_length=100)] = ""  #: whose nodes `max_jobs` limits together
    retry: Annotated[int, Meta(ge=0, le=1000)] = 0  #: how often it is tried again
    retry_unless_exit: Annotated[int, Meta(ge=-1000, le=1000)] | None = None  #: this exit code ends the tries
    pre_skip: Annotated[int, Meta(ge=1, le=255)] | None = None  #: with this exit code of the pre script the node is done
    abort_dag_on: Annotated[int, Meta(ge=-1000, le=1000)] | None = None  #: this exit code of the node ends the whole workflow
    abort_dag_on_return_value: Annotated[int, Meta(ge=0, le=255)] | None = None  #: with this exit code; 0: well
    dir: Annotated[str, Meta(max_length=100)] = ""  #: the folder below `nodes` that it works in; empty: one of its own name
    noop: bool = False  #: nothing is run: it only joins
    done: bool = False  #: taken as done before


class WorkflowSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to hand to HTCondor's DAGMan.

    Every event of a job is folded over the job's whole state, so a large workflow must not be part of that: beyond
    `workflows.MAX_INLINE_BYTES` the nodes lie in a file of the workspace, as a WorkflowSpec in JSON, and here stand its path and digest.
    """

    nodes: list[NodeSpec] = []
    max_jobs: dict[str, Annotated[int, Meta(ge=0, le=1_000_000)]] = {}  #: category -> how many of its nodes at once; 0: any number
    max_jobs_total: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  #: how many nodes at once; 0: any number
    max_idle: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  #: how many nodes that wait for a machine; 0: as DAGMan is configured
    config: dict[str, Text] = {}  #: DAGMan's own settings, of those in `workflows.CONFIG`
    file: Text = ""  #: the path of the workflow in the workspace, when it is not here
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$(?!\n)")] = ""  #: of that file
    node_count: Annotated[int, Meta(ge=0)] = 0  #: of that file, those of workflows within included


class DaskSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to hand to Dask: a function that the workers can import, or a graph that only they open."""

    function: Text = ""  #: `module:function`
    args: list[Any] = []  #: JSON values
    kwargs: dict[str, Any] = {}
    graph_file: Text = ""  #: a path in the workspace that holds a cloudpickled callable or collection
    retries: Annotated[int, Meta(ge=0, le=1000)] = 0  #: how often it is tried again when it raises
    resources: dict[str, Annotated[float, Meta(ge=0)]] = {}  #: what its worker must have of each, as workers declare it
    workers: list[Text] = []  #: addresses, names of hosts: only these workers do it
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0  #: the highest is begun first
    on_lost: Annotated[str, Meta(pattern=r"^(error|resubmit)$(?!\n)")] = "error"  #: what becomes of it when the scheduler has lost it


class JobCreated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants a job to exist. It starts Pending and does not run before it is asked to."""

    job_id: JobId
    name: Name
    user: Name  #: its owner
    label: Name  #: the app that it belongs to
    job_type: Annotated[str, Meta(pattern=r"^(BASIC|CONDOR|CONDORWORKFLOW|DASK)$(?!\n)")]
    description: Text = ""
    groups: list[Name] = []  #: groups whose members may see it
    workspace: Text = ""  #: an fsspec URL; empty: its own folder below the service's workspaces
    extended_properties: dict[str, Any] = {}
    scheduler: Annotated[str, Meta(max_length=1024)] = ""  #: the name of the scheduler that runs it
    condor: CondorSpec | None = None
    dask: DaskSpec | None = None
    workflow: WorkflowSpec | None = None
    process_results_function: FunctionPath = ""  #: what the app's own worker calls once a run has ended well, before it is Complete


class JobChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Attributes were changed; what is absent stays. How to run can change only before the first run."""

    job_id: JobId
    name: Name | None = None
    description: Text | None = None
    groups: list[Name] | None = None
    extended_properties: dict[str, Any] | None = None
    scheduler: Annotated[str, Meta(max_length=1024)] | None = None
    condor: CondorSpec | None = None
    dask: DaskSpec | None = None
    workflow: WorkflowSpec | None = None
    process_results_function: FunctionPath | None = None


class ExecuteRequested(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked for the job's first run."""

    job_id: JobId


class StopRequested(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked to end the current run."""

    job_id: JobId
    reason: Text = ""


class PauseRequested(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked to hold the current run."""

    job_id: JobId
    reason: Text = ""


class ResumeRequested(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked to let a held run go on."""

    job_id: JobId
    reason: Text = ""


class ResubmitRequested(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked for another run of a job whose last one is over."""

    job_id: JobId
    reason: Text = ""


class RefreshRequested(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked to have the run's status looked up now."""

    job_id: JobId


class JobDeleted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody took the job out of the list. Its history stays."""

    job_id: JobId
    reason: Text = ""


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run asked for and used, as its scheduler measured it; what it does not say is absent.

    Of several processes: times are sums over all of them, cores and sizes those of the process with the most.
    """

    cpus_asked: Annotated[float, Meta(ge=0)] | None = None
    cpu_user_s: Annotated[float, Meta(ge=0)] | None = None
    cpu_system_s: Annotated[float, Meta(ge=0)] | None = None
    memory_asked_bytes: Annotated[int, Meta(ge=0)] | None = None
    memory_used_bytes: Annotated[int, Meta(ge=0)] | None = None
    disk_asked_bytes: Annotated[int, Meta(ge=0)] | None = None
    disk_used_bytes: Annotated[int, Meta(ge=0)] | None = None
    gpus_asked: Annotated[float, Meta(ge=0)] | None = None
    wall_s: Annotated[float, Meta(ge=0)] | None = None  #: on machines, executions that were evicted included
    hosts: Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=20)] = []  #: where it ran last, the first 20 of them


class StatusChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A report: the run was seen to have this status.

    `restarts` orders reports of one run without clocks: how many executions of it were over when it was seen. A report with a
    lower number is late; only one with a higher number may lead back from Running to Submitted (an eviction). Who cannot know it
    leaves it out.
    """

    job_id: JobId
    status: Annotated[str, Meta(min_length=1, max_length=256)]  #: a name, a code, or a text of the job's own
    run: Run | None = None  #: absent: the current run
    restarts: Annotated[int, Meta(ge=0, le=2_147_483_647)] | None = None
    message: Text | None = None  #: for people; absent: as it was
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None
    scheduler_job_ref: Annotated[str, Meta(max_length=1024)] | None = None  #: the scheduler's id of the run
    exit_code: int | None = None
    exit_signal: int | None = None
    evidence: dict[str, Any] = {}  #: what the reporter saw, such as the ClassAd attributes that it judged by
    resources: Resources | None = None  #: what the run used so far; absent: as it was


class NodeReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node of a run was seen to have this status. What is absent stays as it was."""

    node: Name  #: `a+b` for a node of a splice, `a/b` for one of a sub-workflow
    status: Annotated[str, Meta(pattern=r"^(Pending|Submitted|Running|Paused|Complete|Error|Aborted)$(?!\n)")]
    restarts: Annotated[int, Meta(ge=0, le=2_147_483_647)] = 0  #: the tries that are over; a report with a lower number is late
    scheduler_job_ref: Annotated[str, Meta(max_length=1024)] | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    message: Text | None = None


class NodeStatusChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A report on nodes of a workflow's run. It does not move the job's own status; see `nodes.py` for what it does."""

    job_id: JobId
    run: Run
    nodes: Annotated[list[NodeReport], Meta(min_length=1, max_length=1000)]


class ResultFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file that a run left."""

    path: Text  #: relative to the workspace
    size: Annotated[int, Meta(ge=0)]  #: bytes
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]


class ResultsCollected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Output of a run was brought into the job's workspace."""

    job_id: JobId
    run: Run
    files: list[ResultFile] = []
    missing: list[Text] = []  #: files that were asked for and were not there


class ResultsProcessingStarted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A worker of the job's app has begun to process the results of a run that waits for it.

    `attempt` fences: it is higher than that of every attempt before, and what an earlier one says from now on no longer counts.
    """

    job_id: JobId
    run: Run
    attempt: Attempt
    worker: Annotated[str, Meta(max_length=256)] = ""  #: which one, for people
    message: Text | None = None  #: for people; absent: as it was


class ResultsProcessed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The results of a run are processed. The run takes the end that was held back until now."""

    job_id: JobId
    run: Run
    attempt: Attempt
    worker: Annotated[str, Meta(max_length=256)] = ""
    message: Text | None = None  #: for people; absent: as it was


class ResultsProcessingFailed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt at processing a run's results has failed. After the last one the run has ended with an error."""

    job_id: JobId
    run: Run
    attempt: Attempt
    last: bool = False  #: it is not tried again
    worker: Annotated[str, Meta(max_length=256)] = ""
    error: Text = ""  #: the last line of the traceback, or what else went wrong
    traceback: Annotated[str, Meta(max_length=MAX_TRACEBACK)] = ""
    message: Text | None = None  #: for people; absent: as it was


JobEvent = (
    JobCreated
    | JobChanged
    | ExecuteRequested
    | StopRequested
    | PauseRequested
    | ResumeRequested
    | ResubmitRequested
    | RefreshRequested
    | JobDeleted
    | StatusChanged
    | NodeStatusChanged
    | ResultsCollected
    | ResultsProcessingStarted
    | ResultsProcessed
    | ResultsProcessingFailed
)
"""Any event about a job."""
