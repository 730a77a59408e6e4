"""What the API takes and gives: the bodies and answers that the OpenAPI document describes.

Bodies refuse members that they do not know. JSON members that come from a row stay the text that the row holds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Protocol, overload

import msgspec
from msgspec import Meta

from jobledger_contracts.ids import run_id
from jobledger_contracts.job_events import CondorSpec, DaskSpec, Name, NodeSpec, ScriptSpec, Text, WorkflowSpec
from jobledger_contracts.statuses import CODES, Status
from jobledger_kit.auth import KeyInfo
from jobledger_kit.pagination import DEFAULT_LIMIT, MAX_LIMIT
from jobledger_kit.workspace import Entry

from .node_projection import NodeCounts

JsonArray = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "array", "items": {"type": "object"}})]
JsonObject = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object", "additionalProperties": True})]
PositionText = Annotated[str, Meta(examples=["3:1042"], description="where an event stands in the log: partition:offset")]
Groups = Annotated[list[Name], Meta(max_length=100)]
Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]
MAX_VECTOR_CHARS = 300_000  #: a position for each of 10,000 partitions
SchedulerName = Annotated[str, Meta(max_length=128)]


class Row(Protocol):
    """A row as the driver gives it: members by their columns' names."""

    def __getitem__(self, column: str, /) -> Any: ...


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
    job_type: Annotated[str, Meta(pattern="^(BASIC|CONDOR|CONDORWORKFLOW|DASK)$")]
    description: Text = ""
    groups: Groups = []
    extended_properties: dict[str, Any] = {}
    scheduler: SchedulerName = ""
    condor: CondorBody | None = None
    dask: DaskBody | None = None
    workflow: WorkflowBody | None = None
    user: Name | None = None  #: its owner, if that is not who asks: admins only


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


class ListQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs to list."""

    status: list[Annotated[str, Meta(max_length=256)]] = []  #: names or codes
    label: Name | None = None
    job_type: Annotated[str, Meta(pattern="^(BASIC|CONDOR|CONDORWORKFLOW|DASK)$")] | None = None
    user: Name | None = None
    group: Name | None = None
    scheduler: SchedulerName | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    q: Annotated[str, Meta(max_length=1024)] | None = None  #: text within the name
    order_by: Annotated[str, Meta(pattern="^-?creation_time$")] = "-creation_time"
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None
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


class DeadLetterQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters to list."""

    reason: Annotated[str, Meta(max_length=100)] | None = None
    key: Annotated[str, Meta(max_length=1024)] | None = None
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


class ActionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why something is asked for; may be left out."""

    reason: Text = ""


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
    """An API key to make. With `groups` or `admin` the user gets exactly these rights, and is created if need be."""

    user: Name
    groups: Groups | None = None
    admin: bool | None = None
    label: Annotated[str, Meta(max_length=200)] = ""
    expires_in_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86_400)] | None = None  #: absent: until it is revoked


class KeyQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which API keys to list."""

    user: Name | None = None
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it now stands."""

    id: str
    name: str
    description: str
    user: str
    groups: list[str]
    label: str
    job_type: str
    status: str  #: what people read
    status_code: str
    status_message: str
    progress: float | None
    run: int
    run_id: str | None
    desired: str
    scheduler: str
    scheduler_job_ref: str
    exit_code: int | None
    exit_signal: int | None
    workspace: str
    extended_properties: JsonObject
    condor: JsonObject | None
    dask: JsonObject | None
    workflow: JsonObject | None  #: a large one is in the job's folder, and this names it
    node_counts: dict[str, int] | None  #: of the current run: how many nodes have which status
    creation_time: datetime
    execute_time: datetime | None
    start_time: datetime | None
    completion_time: datetime | None
    run_time_s: float | None
    position: PositionText  #: of the last event about it


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node of a run. `a+b` is a node of the splice `a`, `a/b` one of the workflow within `a`."""

    name: str
    number: int
    type: str  #: JOB, SUBDAG or FINAL; empty when the workflow cannot be read any more
    parents: list[str] | None
    status: str
    status_code: str
    restarts: int = 0
    scheduler_job_ref: str = ""
    exit_code: int | None = None
    exit_signal: int | None = None
    message: str = ""
    start_time: datetime | None = None
    completion_time: datetime | None = None


class NodePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of nodes. `next_cursor` is absent on the last page."""

    items: list[NodeView]
    run: int  #: 0: none has begun
    counts: dict[str, int]  #: of all nodes of the run, whatever was asked for
    next_cursor: str | None = None


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs. `next_cursor` is absent on the last page."""

    items: list[JobView]
    next_cursor: str | None = None


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One event about a job, and what the fold said of it."""

    position: PositionText
    sequence: int  #: its number among the job's events, from 1
    type: str
    version: int  #: the version of the type that it was written in
    event_id: str
    source: str
    actor: str
    occurred_at: datetime  #: as its producer says
    recorded_at: datetime  #: when the log took it
    correlation_id: str
    causation_id: str
    traceparent: str
    run: int | None
    verdict: str
    reason: str
    data: JsonObject  #: as it was sent


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a job's history. `next_cursor` is absent on the last page."""

    items: list[HistoryEntry]
    next_cursor: str | None = None


class StatusEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a server-sent event."""

    job_id: str
    type: str
    status: str
    status_code: str
    status_message: str
    progress: float | None
    run: int | None
    verdict: str
    reason: str
    occurred_at: datetime
    recorded_at: datetime
    position: PositionText
    nodes: JsonArray | None = None  #: of a NodeStatusChanged: what it says of which nodes


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The request is in the log at `position`; ask again with `after=<position>` to see what came of it."""

    id: str
    position: PositionText


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """The report is in the log."""

    success: bool
    position: PositionText


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A credential for the status callback of one run: a secret, shown once."""

    token: str
    callback_url: str
    run: int
    statuses: list[str] | None
    expires_at: datetime


class WhoAmI(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the presented key belongs to."""

    user: str
    groups: list[str]
    admin: bool


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new API key. `key` is the secret, shown this once."""

    id: str
    user: str
    key: str
    expires_at: datetime | None


class KeyPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of API keys, without their secrets."""

    items: list[KeyInfo]
    next_cursor: str | None = None


class FileQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which folder to list."""

    path: Annotated[str, Meta(max_length=1024)] = ""
    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


class FilePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of what is in a folder, by name. `next_cursor` is absent on the last page."""

    items: list[Entry]
    next_cursor: str | None = None


class DeadLetterView(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not be folded. Bytes that are no UTF-8 are shown as `\\xhh`."""

    topic: str
    position: PositionText
    key: str | None
    reason: str
    detail: str
    value_bytes: int | None
    recorded_at: datetime
    buried_at: datetime


class DeadLetterWhole(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not be folded, with its value and headers."""

    topic: str
    position: PositionText
    key: str | None
    reason: str
    detail: str
    value: str | None
    headers: list[tuple[str, str | None]]
    recorded_at: datetime
    buried_at: datetime


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of dead letters. `next_cursor` is absent on the last page."""

    items: list[DeadLetterView]
    next_cursor: str | None = None


def display_status(status: str, status_text: str) -> str:
    """What people read: the status, or the job's own text for it."""
    return status_text if status == Status.OTHER and status_text else status


def job_view(row: Row, *, workspace: str, now: datetime) -> JobView:
    """Show a row of `jobs`. `workspace` is the folder of a job that names none; `now` ends the run time of a run that goes on."""
    started, ended = utc(row["start_time"]), utc(row["completion_time"])
    return JobView(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        user=row["owner"],
        groups=row["groups"],
        label=row["label"],
        job_type=row["job_type"],
        status=display_status(row["status"], row["status_text"]),
        status_code=CODES[Status(row["status"])],
        status_message=row["status_message"],
        progress=row["progress"],
        run=row["run"],
        run_id=run_id(row["id"], row["run"]) if row["run"] else None,
        desired=row["desired"],
        scheduler=row["scheduler"],
        scheduler_job_ref=row["scheduler_job_ref"],
        exit_code=row["exit_code"],
        exit_signal=row["exit_signal"],
        workspace=row["workspace"] or workspace,
        extended_properties=_raw(row["extended_properties"]),
        condor=_raw_or_none(row["condor"]),
        dask=_raw_or_none(row["dask"]),
        workflow=_raw_or_none(row["workflow"]),
        node_counts=node_counts(row),
        creation_time=utc(row["creation_time"]),
        execute_time=utc(row["execute_time"]),
        start_time=started,
        completion_time=ended,
        run_time_s=max(0.0, ((ended or now) - started).total_seconds()) if started else None,
        position=f"{row['partition']}:{row['log_offset']}",
    )


def history_entry(row: Row) -> HistoryEntry:
    """Show a row of `history`."""
    return HistoryEntry(
        position=f"{row['partition']}:{row['log_offset']}",
        sequence=row["version"],
        type=row["type"],
        version=row["type_version"],
        event_id=row["event_id"],
        source=row["source"],
        actor=row["actor"],
        occurred_at=utc(row["occurred_at"]),
        recorded_at=utc(row["recorded_at"]),
        correlation_id=row["correlation_id"],
        causation_id=row["causation_id"],
        traceparent=row["traceparent"],
        run=row["run"],
        verdict=row["outcome"],
        reason=row["reason"],
        data=_raw(row["data"]),
    )


def status_event(row: Row) -> StatusEvent:
    """Show a row of the feed."""
    status = row["status"]
    return StatusEvent(
        job_id=row["job_id"],
        type=row["type"],
        status=display_status(status, row["status_text"]),
        status_code=CODES[Status(status)] if status else "",
        status_message=row["status_message"],
        progress=row["progress"],
        run=row["run"],
        verdict=row["outcome"],
        reason=row["reason"],
        occurred_at=utc(row["occurred_at"]),
        recorded_at=utc(row["recorded_at"]),
        position=f"{row['partition']}:{row['log_offset']}",
        nodes=_raw_or_none(row["nodes"]),
    )


def node_counts(row: Row) -> dict[str, int] | None:
    """How many nodes of a job's current run have which status; None when nothing was reported of them."""
    if row["node_counts"] is None:
        return None
    counts = msgspec.json.decode(row["node_counts"], type=NodeCounts)
    return counts.counts if counts.run == row["run"] else None


@overload
def utc(moment: datetime) -> datetime: ...
@overload
def utc(moment: None) -> None: ...
def utc(moment: datetime | None) -> datetime | None:
    """A time from a row. asyncpg reads the first and the last moment that Python has without their zone."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _raw_or_none(text: str | None) -> msgspec.Raw | None:
    return None if text is None else _raw(text)
