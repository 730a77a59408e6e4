"""What the API gives: the answers, as the OpenAPI document describes them. JSON members that come from a row stay the row's text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Protocol, overload

import msgspec
from msgspec import Meta

from jobledger_contracts.ids import run_id
from jobledger_contracts.job_events import Resources
from jobledger_contracts.statuses import CODES, Status
from jobledger_kit.auth import KeyInfo
from jobledger_kit.errors import FieldError
from jobledger_kit.workspace import Entry

from .node_projection import NodeCounts

JsonArray = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "array", "items": {"type": "object"}})]
JsonObject = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object", "additionalProperties": True})]
PositionText = Annotated[str, Meta(examples=["3:1042"], description="where an event stands in the log: partition:offset")]


class Row(Protocol):
    """A row as the driver gives it: members by their columns' names."""

    def __getitem__(self, column: str, /) -> Any: ...


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
    restarts: int  #: executions of the run that were over before this one, such as evictions
    resources: Resources | None  #: what the run asked for and used, told at its end
    workspace: str
    extended_properties: JsonObject
    condor: JsonObject | None
    dask: JsonObject | None
    workflow: JsonObject | None  #: a large one is in the job's folder, and this names it
    node_counts: dict[str, int] | None  #: of the current run: how many nodes have which status
    process_results_function: str
    processing_attempt: int  #: of the current run: the latest attempt at processing its results, 0 before the first
    processing: bool  #: that attempt is under way
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
    stdout: str = ""  #: its file in the run's folder of the workspace, when the run has ended; empty when it has none
    stderr: str = ""
    log: str = ""  #: HTCondor's log of it
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


class JobCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs there are, and how many of them have each status."""

    total: int
    statuses: dict[str, int]


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


class BulkItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one of many requests: as it would have been answered alone, `status` being the answer's HTTP status."""

    status: int
    id: str = ""
    position: str = ""
    job: JobView | None = None
    type: str = ""  #: of the problem, when there is one
    detail: str = ""
    reason: str = ""  #: why the fold refused
    errors: list[FieldError] = []


class BulkResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of many requests, in their order."""

    items: list[BulkItem]
    failed: int  #: how many of them were not done
    more: bool = False  #: the filter chooses more jobs than were asked


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """The report is in the log."""

    success: bool
    position: PositionText


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose results are yours to process until the lease runs out. `run` and `attempt` go into every word about it."""

    job: JobView
    run: int
    attempt: int
    lease_s: float


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker was given; empty when nothing waits."""

    items: list[Claim]


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    """It is yours for so much longer."""

    lease_s: float


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A credential for the status callback of one run: a secret, shown once."""

    token: str
    callback_url: str
    run: int
    statuses: list[str] | None
    expires_at: datetime


class WhoAmI(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the presented key or token belongs to."""

    user: str
    groups: list[str]
    admin: bool
    service: bool


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


class FilePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of what is in a folder, by name. `next_cursor` is absent on the last page."""

    items: list[Entry]
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
        restarts=row["restarts"],
        resources=None if row["resources"] is None else msgspec.json.decode(row["resources"], type=Resources),
        workspace=row["workspace"] or workspace,
        extended_properties=_raw(row["extended_properties"]),
        condor=_raw_or_none(row["condor"]),
        dask=_raw_or_none(row["dask"]),
        workflow=_raw_or_none(row["workflow"]),
        node_counts=node_counts(row),
        process_results_function=row["process_results_function"],
        processing_attempt=row["processing_attempt"],
        processing=row["processing"],
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
