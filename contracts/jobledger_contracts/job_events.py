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
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Text = Annotated[str, Meta(max_length=8192)]
JobId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)")]
Run = Annotated[int, Meta(ge=1, le=2_147_483_647)]

JOB_TYPES = ("BASIC", "CONDOR", "DASK")
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


class DaskSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to hand to Dask: a function that the workers can import, or a graph that only they open."""

    function: Text = ""  #: `module:function`
    args: list[Any] = []  #: JSON values
    kwargs: dict[str, Any] = {}
    graph_file: Text = ""  #: a path in the workspace that holds a cloudpickled callable or collection


class JobCreated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants a job to exist. It starts Pending and does not run before it is asked to."""

    job_id: JobId
    name: Name
    user: Name  #: its owner
    label: Name  #: the app that it belongs to
    job_type: Annotated[str, Meta(pattern=r"^(BASIC|CONDOR|DASK)$(?!\n)")]
    description: Text = ""
    groups: list[Name] = []  #: groups whose members may see it
    workspace: Text = ""  #: an fsspec URL; empty: its own folder below the service's workspaces
    extended_properties: dict[str, Any] = {}
    scheduler: Annotated[str, Meta(max_length=1024)] = ""  #: the name of the scheduler that runs it
    condor: CondorSpec | None = None
    dask: DaskSpec | None = None


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
    | ResultsCollected
)
"""Any event about a job."""
