"""From folded events to row changes, purely: the same log gives the same rows, byte for byte, whatever the batches were.

Nothing here, and nothing in the rows, comes from a clock or a counter of ours: only from records and from what the fold made of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from jobledger_contracts.envelope import Event, Record
from jobledger_contracts.job import Job
from jobledger_contracts.verdicts import Verdict


class FoldedEvent(Protocol):
    """What the fold made of one record: as the kit's `Folded` has it."""

    @property
    def record(self) -> Record: ...
    @property
    def event(self) -> Event: ...
    @property
    def before(self) -> Any: ...
    @property
    def after(self) -> Any: ...
    @property
    def verdict(self) -> Verdict: ...


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `jobs`: the last state of a job. JSON members are text."""

    job_id: str
    version: int
    partition: int
    log_offset: int
    name: str
    description: str
    owner: str
    groups: str
    label: str
    job_type: str
    status: str
    status_text: str
    status_message: str
    progress: float | None
    run: int
    desired: str
    scheduler: str
    scheduler_job_ref: str
    exit_code: int | None
    exit_signal: int | None
    restarts: int
    resources: str | None
    workspace: str
    extended_properties: str
    condor: str | None
    dask: str | None
    workflow: str | None
    process_results_function: str
    processing_attempt: int
    processing: bool
    creation_time: datetime
    execute_time: datetime | None
    start_time: datetime | None
    completion_time: datetime | None
    deleted: bool


class HistoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `history`: one event, whatever its verdict, and how the job stood after it."""

    partition: int
    log_offset: int
    job_id: str
    version: int
    event_id: str
    source: str
    type: str
    type_version: int
    actor: str
    occurred_at: datetime
    recorded_at: datetime
    correlation_id: str
    causation_id: str
    traceparent: str
    run: int | None
    outcome: str
    reason: str
    status: str
    status_text: str
    status_message: str
    progress: float | None
    data: str


class Share(msgspec.Struct, frozen=True, order=True):
    """A row of `job_groups`: one group that may see a job."""

    job_id: str
    group_name: str
    creation_time: datetime


class SearchRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `job_search`: what lists are searched by."""

    job_id: str
    label: str
    owner: str
    name: str
    properties: str


class CountRow(msgspec.Struct, frozen=True, order=True):
    """What is added to a row of `job_counts`."""

    kind: str
    name: str
    label: str
    status: str
    partition: int
    jobs: int


class WaitingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `results_processing`, as far as the log says: a run whose results wait for a worker of its job's app."""

    job_id: str
    run: int
    label: str
    owner: str
    attempt: int


class WaitingChanges(msgspec.Struct, frozen=True):
    """What one batch changes about the runs whose results wait. `over` are the jobs that have none of these any more."""

    waiting: list[WaitingRow]
    over: list[str]


class RowChanges(msgspec.Struct, frozen=True):
    """What one batch changes. `reshared` are the jobs whose shares and search rows are replaced by `shares` and `searched`."""

    jobs: list[JobRow]
    history: list[HistoryRow]
    reshared: list[str]
    shares: list[Share]
    searched: list[SearchRow]
    counts: list[CountRow]


class SchedulerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `schedulers`: a name that jobs may use, or (not `usable`) no longer may."""

    name: str
    type: str
    health: str
    usable: bool


def project(folded: Sequence[FoldedEvent]) -> RowChanges:
    """Turn folded events about jobs, in the log's order, into row changes.

    Each event gets its history row. A job gets one row, its last state in the batch, unless it was never created.
    """
    last: dict[str, FoldedEvent] = {}
    reshared: dict[str, Job] = {}
    for f in folded:
        job: Job = f.after
        if not job.exists:
            continue
        last[job.job_id] = f
        if f.verdict.applied and f.event.type in _RESHARING:
            reshared[job.job_id] = job
    jobs = [_job_row(last[job_id]) for job_id in sorted(last)]
    shares = [share for job_id in sorted(reshared) for share in _shares(reshared[job_id])]
    searched = [_search_row(job) for job_id in sorted(reshared) if not (job := reshared[job_id]).deleted]
    return RowChanges(jobs, [_history_row(f) for f in folded], sorted(reshared), shares, searched, _counts(folded))


def project_waiting(folded: Iterable[FoldedEvent]) -> WaitingChanges:
    """Turn folded events about jobs into the runs whose results wait, or wait no more. Other jobs cost nothing."""
    last: dict[str, Job] = {}
    for f in folded:
        if f.verdict.applied and (_waits(f.before) or _waits(f.after) or f.after.job_id in last):
            last[f.after.job_id] = f.after
    return WaitingChanges(
        [_waiting_row(last[job_id]) for job_id in sorted(last) if _waits(last[job_id])],
        [job_id for job_id in sorted(last) if not _waits(last[job_id])],
    )


def _waits(job: Job) -> bool:
    return job.pending_end is not None and not job.deleted


def _waiting_row(job: Job) -> WaitingRow:
    assert job.created is not None
    return WaitingRow(job_id=job.job_id, run=job.run, label=job.created.label, owner=job.created.user, attempt=job.processing_attempt)


def project_schedulers(folded: Iterable[FoldedEvent]) -> list[SchedulerRow]:
    """Turn folded events about schedulers into one row a scheduler: its last state in the batch."""
    last = {f.event.key: f.after for f in folded if f.verdict.applied}
    return [_scheduler_row(name, last[name]) for name in sorted(last)]


_RESHARING = {"JobCreated", "JobChanged", "JobDeleted"}


def _shares(job: Job) -> list[Share]:
    if job.deleted or job.created is None or job.creation_time is None:
        return []
    return sorted({Share(job.job_id, group, job.creation_time) for group in job.created.groups})


def _search_row(job: Job) -> SearchRow:
    created = job.created
    assert created is not None
    return SearchRow(
        job_id=job.job_id, label=created.label, owner=created.user, name=created.name, properties=_json(created.extended_properties)
    )


def _counts(folded: Sequence[FoldedEvent]) -> list[CountRow]:
    """Count each job away from where it stood and to where it stands. A count that comes to nothing is kept: so batches do not matter."""
    added: Counter[tuple[str, str, str, str, int]] = Counter()
    for f in folded:
        before, after = _counted(f.before), _counted(f.after)
        if before == after:
            continue
        for keys, number in ((before, -1), (after, 1)):
            for key in keys:
                added[(*key, f.record.partition)] += number
    return [CountRow(*key, number) for key, number in sorted(added.items())]


def _counted(job: Job) -> set[tuple[str, str, str, str]]:
    """Where a job is counted: kind, name, label and status."""
    created, status = job.created, job.status.value
    if created is None or job.deleted:
        return set()
    label = created.label
    counted = {("any", "", "", status), ("any", "", label, status), ("owner", created.user, label, status)}
    return counted | {("group", group, label, status) for group in created.groups}


def _job_row(f: FoldedEvent) -> JobRow:
    job: Job = f.after
    created = job.created
    assert created is not None  # a job exists once it was created
    assert job.creation_time is not None
    return JobRow(
        job_id=job.job_id,
        version=job.version,
        partition=f.record.partition,
        log_offset=f.record.offset,
        name=created.name,
        description=created.description,
        owner=created.user,
        groups=_json(created.groups),
        label=created.label,
        job_type=created.job_type,
        status=job.status.value,
        status_text=job.status_text,
        status_message=job.status_message,
        progress=job.progress,
        run=job.run,
        desired=job.desired,
        scheduler=created.scheduler,
        scheduler_job_ref=job.scheduler_job_ref,
        exit_code=job.exit_code,
        exit_signal=job.exit_signal,
        restarts=job.restarts,
        resources=None if job.resources is None else _json(job.resources),
        workspace=created.workspace,
        extended_properties=_json(created.extended_properties),
        condor=None if created.condor is None else _json(created.condor),
        dask=None if created.dask is None else _json(created.dask),
        workflow=None if created.workflow is None else _json(created.workflow),
        process_results_function=created.process_results_function,
        processing_attempt=job.processing_attempt,
        processing=job.processing,
        creation_time=job.creation_time,
        execute_time=job.execute_time,
        start_time=job.start_time,
        completion_time=job.completion_time,
        deleted=job.deleted,
    )


def _history_row(f: FoldedEvent) -> HistoryRow:
    job: Job = f.after
    event = f.event
    return HistoryRow(
        partition=f.record.partition,
        log_offset=f.record.offset,
        job_id=event.key,
        version=job.version,
        event_id=event.id,
        source=event.source,
        type=event.type,
        type_version=event.version,
        actor=event.actor,
        occurred_at=event.time,
        recorded_at=f.record.recorded_at,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        traceparent=event.traceparent,
        run=getattr(event.data, "run", None) or job.run or None,
        outcome=f.verdict.outcome.value,
        reason=f.verdict.reason.value,
        status=job.status.value if job.exists else "",
        status_text=job.status_text,
        status_message=job.status_message,
        progress=job.progress,
        data=event.raw_data.decode(),  # the decoder has seen to it that this is JSON which PostgreSQL can hold
    )


def _scheduler_row(name: str, state: Any) -> SchedulerRow:
    return SchedulerRow(name=name, type=state.type, health=state.health, usable=state.exists)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
