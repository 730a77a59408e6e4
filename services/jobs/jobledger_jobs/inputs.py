"""What the API takes: bodies and queries, as the OpenAPI document describes them. Members that nobody knows are refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from jobledger_contracts.job_events import (
    MAX_TRACEBACK,
    Attempt,
    CondorSpec,
    DaskSpec,
    FunctionPath,
    JobId,
    Name,
    NodeSpec,
    Run,
    ScriptSpec,
    Text,
    WorkflowSpec,
)
from jobledger_kit.pagination import DEFAULT_LIMIT, MAX_LIMIT

from .views import PositionText

Groups = Annotated[list[Name], Meta(max_length=100)]
Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]
MAX_VECTOR_CHARS = 300_000  #: a position for each of 10,000 partitions
SchedulerName = Annotated[str, Meta(max_length=128)]
JobType = Annotated[str, Meta(pattern="^(BASIC|CONDOR|CONDORWORKFLOW|DASK)$")]


class CondorBody(CondorSpec, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to hand to HTCondor."""


class DaskBody(DaskSpec, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to hand to Dask."""


class ScriptBody(ScriptSpec, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A program that the access point itself runs before or after a node."""


class NodeBody(NodeSpec, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A node of a workflow."""

    condor: CondorBody | None = None
    workflow: WorkflowBody | None = None
    pre_script: ScriptBody | None = None
    post_script: ScriptBody | None = None


class WorkflowBody(WorkflowSpec, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to hand to HTCondor's DAGMan."""

    nodes: list[NodeBody] = []  # type: ignore[assignment]  # narrower, and never written to


class CreateJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job to create. It starts Pending and runs when it is asked to."""

    name: Name  #: `{id}` in it becomes the job's id
    label: Name
    job_type: JobType
    description: Text = ""
    groups: Groups = []
    extended_properties: dict[str, Any] = {}
    scheduler: SchedulerName = ""
    condor: CondorBody | None = None
    dask: DaskBody | None = None
    workflow: WorkflowBody | None = None
    process_results_function: FunctionPath = ""
    user: Name | None = None  #: its owner, if that is not who asks: admins only


class CreateJobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Jobs to create at once, each as if it came alone."""

    jobs: Annotated[list[CreateJob], Meta(min_length=1, max_length=1000)]
    execute: bool = False  #: ask for the first run of each that was created


class ChooseJobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs are meant, as a list chooses them; of these the ones that who asks may change."""

    status: Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=50)] = []  #: names or codes
    label: Name | None = None
    job_type: list[JobType] = []
    user: Name | None = None
    group: Annotated[list[Name], Meta(max_length=50)] = []
    scheduler: SchedulerName | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    executed_after: datetime | None = None
    executed_before: datetime | None = None
    completed_after: datetime | None = None
    completed_before: datetime | None = None
    q: Annotated[str, Meta(max_length=1024)] | None = None
    extended_properties: dict[str, Any] | None = None


class ActOnJobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of many jobs: of those with these ids, or of those that a filter chooses, the oldest first."""

    action: Annotated[str, Meta(pattern="^(execute|stop|pause|resume|resubmit|refresh|delete)$")]
    ids: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(min_length=1, max_length=1000)] | None = None
    filter: ChooseJobs | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000  #: jobs that the filter chooses, at most
    reason: Text = ""


class ChangeJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attributes to change; what is absent stays. How to run can change only before the first run."""

    name: Name | None = None
    description: Text | None = None
    groups: Groups | None = None
    extended_properties: dict[str, Any] | None = None
    scheduler: SchedulerName | None = None
    condor: CondorBody | None = None
    dask: DaskBody | None = None
    workflow: WorkflowBody | None = None
    process_results_function: FunctionPath | None = None


class ListQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs to list, in which order. What is given several times means any of these."""

    status: Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=50)] = []  #: names or codes
    label: Name | None = None
    job_type: list[JobType] = []
    user: Name | None = None  #: the owner
    group: Annotated[list[Name], Meta(max_length=50)] = []
    scheduler: SchedulerName | None = None
    created_after: datetime | None = None  #: at or after
    created_before: datetime | None = None
    executed_after: datetime | None = None  #: when the last run was asked for
    executed_before: datetime | None = None
    completed_after: datetime | None = None
    completed_before: datetime | None = None
    q: Annotated[str, Meta(max_length=1024)] | None = None  #: text within the name
    #: a JSON object that the job's properties contain, such as `{"scenario": {"year": 2026}}`
    extended_properties: Annotated[str, Meta(max_length=8192)] | None = None
    #: jobs that were never asked to run have no execute_time, and are in no list by it; likewise completion_time
    order_by: Annotated[str, Meta(pattern="^-?(creation_time|execute_time|completion_time|name|status)$")] = "-creation_time"
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None
    after: PositionText | None = None


class CountQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs are counted: of one owner or of one group, or, for administrators, of everybody."""

    label: Name | None = None
    user: Name | None = None  #: absent: who asks; for administrators: everybody
    group: Name | None = None
    after: PositionText | None = None


class JobQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fresh the answer is to be."""

    after: PositionText | None = None


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of a job's history to show."""

    order_by: Annotated[str, Meta(pattern="^-?position$")] = "position"
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None
    after: PositionText | None = None


class NodeQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which nodes of a workflow to list."""

    status: list[Annotated[str, Meta(max_length=256)]] = []  #: names or codes
    run: Annotated[int, Meta(ge=1, lt=1 << 31)] | None = None  #: absent: the current one
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None
    after: PositionText | None = None


class FeedQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a feed begins, for clients that cannot send Last-Event-ID: behind this id. Without either it begins now."""

    after: Annotated[str, Meta(max_length=MAX_VECTOR_CHARS)] | None = None


class ActionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why something is asked for; may be left out."""

    reason: Text = ""


WorkerName = Annotated[str, Meta(max_length=256)]
LeaseSeconds = Annotated[float, Meta(ge=1, le=3600)]


class ClaimBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which results a worker would process."""

    label: Name  #: the app's
    worker: WorkerName = ""  #: what the history is to call it
    job_id: JobId | None = None  #: only this job's
    user: Name | None = None  #: only of jobs that this user owns; absent: of all that you may change
    limit: Annotated[int, Meta(ge=1, le=100)] = 1
    lease_s: LeaseSeconds = 60.0  #: when the worker is not heard of for so long, another one gets them
    wait_s: Annotated[float, Meta(ge=0, le=60)] = 0.0  #: how long to wait when there are none


class RenewBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sign of life from a worker that is still at it."""

    run: Run
    attempt: Attempt
    lease_s: LeaseSeconds = 60.0


class ProcessedBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The results are processed."""

    run: Run
    attempt: Attempt
    worker: WorkerName = ""
    message: Text | None = None  #: for people; absent: as it was


class FailedBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Processing the results failed."""

    run: Run
    attempt: Attempt
    error: Text  #: what went wrong, in a line
    worker: WorkerName = ""
    traceback: Annotated[str, Meta(max_length=MAX_TRACEBACK)] = ""
    hopeless: bool = False  #: do not try again


class CredentialBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run's credential may do, and for how long."""

    run: Annotated[int, Meta(ge=1, lt=1 << 31)] | None = None  #: absent: the current run, or the first one to come
    #: names or codes that may be reported; absent: any
    statuses: Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(min_length=1, max_length=50)] | None = None
    expires_in_s: Annotated[int, Meta(ge=1, le=366 * 86_400)] = 7 * 86_400


class StatusReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a status callback says. Without `status` it asks to have the status looked up."""

    status: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"\S")] | None = None
    message: Text | None = None
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None


class KeyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API key to make. With `groups`, `admin` or `service` the user gets exactly these rights, and is created if need be."""

    user: Name
    groups: Groups | None = None
    admin: bool | None = None
    service: bool | None = None  #: a machine that acts for nobody: sees every job, owns its own
    label: Annotated[str, Meta(max_length=200)] = ""
    expires_in_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86_400)] | None = None  #: absent: until it is revoked


class KeyQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which API keys to list."""

    user: Name | None = None
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


class FileQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which folder to list."""

    path: Annotated[str, Meta(max_length=1024)] = ""
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None
