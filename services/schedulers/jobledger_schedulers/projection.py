"""From folded events to changes of this service's rows; pure.

The log says which runs exist and what is wanted of them. What was seen of them is written by the reconciler, beside; only when the rows
are rebuilt from the log (a new database) do our own earlier reports tell it: then a run that ended once is not begun again.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from jobledger_contracts.envelope import Event
from jobledger_contracts.ids import parse_run_id, run_id
from jobledger_contracts.job import Job
from jobledger_contracts.job_events import JobCreated, StatusChanged
from jobledger_contracts.statuses import TERMINAL, parse_status
from jobledger_contracts.verdicts import Outcome, Verdict

from .domain.reports import source_of


class RunBegun(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants a run on a scheduler."""

    run_id: str
    created: JobCreated  #: what to run, as it stood when the run was asked for
    asked_at: datetime
    correlation_id: str
    causation_id: str
    traceparent: str

    @property
    def run(self) -> int:
        return parse_run_id(self.run_id)[1]


class Wanted(msgspec.Struct, frozen=True):
    """What is wanted of a run has changed: run, pause or stop."""

    run_id: str
    desired: str
    at: datetime


class ReportedByUs(msgspec.Struct, frozen=True):
    """We said this of a run; on the usual path its row knows it already."""

    run_id: str
    ref: str
    over: bool
    at: datetime


RunChange = RunBegun | Wanted | ReportedByUs


def project(before: Job, after: Job, event: Event, verdict: Verdict, recorded_at: datetime) -> list[RunChange]:
    """The changes that one folded event about a job makes to the runs."""
    data = event.data
    if isinstance(data, StatusChanged):
        return _reported(after, event, data, verdict)
    if not verdict.applied or after.created is None or not after.created.scheduler or after.run == 0:
        return []
    if after.run != before.run:
        begun = RunBegun(
            run_id=after.run_id,
            created=after.created,
            asked_at=recorded_at,
            correlation_id=event.correlation_id or event.id,
            causation_id=event.id,
            traceparent=event.traceparent,
        )
        return [begun]
    return [Wanted(after.run_id, after.desired, recorded_at)] if after.desired != before.desired else []


def _reported(job: Job, event: Event, data: StatusChanged, verdict: Verdict) -> list[RunChange]:
    """An end that came too late to count (the run itself had said it first) is an end all the same."""
    if verdict.outcome is Outcome.REFUSED or data.run is None or job.created is None or event.source != source_of(job.created.scheduler):
        return []
    over = parse_status(data.status)[0] in TERMINAL
    return [ReportedByUs(run_id(job.job_id, data.run), data.scheduler_job_ref or "", over, event.time)]
