"""Status callbacks: what a run's credential allows, and what a callback says.

A run credential names one job, one run and, when it is narrowed, the statuses it may report. It is checked from its own claims
alone, so that the hot path needs no database.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from enum import StrEnum

from jobledger_contracts.job_events import RefreshRequested, StatusChanged
from jobledger_contracts.statuses import Status, parse_status


class Denial(StrEnum):
    """Why a credential does not cover a callback."""

    OTHER_JOB = "other_job"  #: it was issued for another job; that this one exists is none of its bearer's business
    OTHER_STATUS = "other_status"  #: it may not report this status


def judge_callback(claimed_job: str, statuses: Collection[Status] | None, job_id: str, status: str | None) -> Denial | None:
    """Say why a run credential does not cover a callback, or None when it does.

    `statuses` are the credential's; None allows all, and OTHER any text of the job's own. `status` is what the callback reports; None
    asks to look the status up, which every credential of the job may.
    """
    if claimed_job != job_id:
        return Denial.OTHER_JOB
    if status is None or statuses is None or parse_status(status)[0] in statuses:
        return None
    return Denial.OTHER_STATUS


def credential_statuses(texts: Collection[str]) -> frozenset[Status] | None:
    """Read the statuses that a credential is to allow: names or codes. None when one of them is neither."""
    parsed = [parse_status(text) for text in texts]
    return None if any(custom for _, custom in parsed) else frozenset(status for status, _ in parsed)


def normal_status(text: str) -> str:
    """Bring a status to the form that events carry: the name of a known one, else the text itself.

    >>> normal_status("run"), normal_status(" Calibrating ")
    ('Running', 'Calibrating')
    """
    status, custom = parse_status(text)
    return custom or status.value


def callback_event(
    job_id: str, run: int | None, status: str | None, message: str | None, progress: float | None
) -> StatusChanged | RefreshRequested:
    """State a callback as the event it is: with a status a report, without one the wish to have it looked up."""
    if status is None:
        return RefreshRequested(job_id=job_id)
    return StatusChanged(job_id=job_id, run=run, status=normal_status(status), message=message, progress=progress)


def refresh_slots(due_at: datetime, interval_s: float) -> tuple[tuple[int, datetime], tuple[int, datetime]]:
    """Where a look at a job's status that is due at a time may be noted: in that time's interval, or at the start of the next one.

    An interval has one look. Who finds it taken cannot know whether that look comes too early, so the next interval's is asked for.

    >>> [(slot, at.second) for slot, at in refresh_slots(datetime(1970, 1, 1, 0, 0, 17, tzinfo=UTC), 10.0)]
    [(1, 17), (2, 20)]
    """
    slot = int(due_at.timestamp() // interval_s)
    return (slot, due_at), (slot + 1, datetime.fromtimestamp((slot + 1) * interval_s, UTC))
