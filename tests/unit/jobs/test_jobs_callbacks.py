"""What a run's credential covers, and what a callback says."""

from __future__ import annotations

import pytest

from jobledger_contracts.job_events import RefreshRequested, StatusChanged
from jobledger_contracts.statuses import Status
from jobledger_jobs.domain.callbacks import Denial, callback_event, credential_statuses, judge_callback

JOB = "01990000-0000-7000-8000-000000000001"
OTHER = "01990000-0000-7000-8000-000000000002"


@pytest.mark.parametrize("status", ["Running", "run", "COM", "My own", None])
def test_unnarrowed_credential_covers_every_status_of_its_job(status: str | None) -> None:
    assert judge_callback(JOB, None, JOB, status) is None


@pytest.mark.parametrize("status", ["Running", None])
def test_credential_of_another_job_covers_nothing(status: str | None) -> None:
    assert judge_callback(OTHER, None, JOB, status) is Denial.OTHER_JOB


@pytest.mark.parametrize(
    ("allowed", "status", "denial"),
    [
        ({Status.RUNNING}, "RUN", None),
        ({Status.RUNNING}, " running ", None),
        ({Status.RUNNING}, "Complete", Denial.OTHER_STATUS),
        ({Status.RUNNING}, "Calibrating", Denial.OTHER_STATUS),
        ({Status.OTHER}, "Calibrating", None),
        ({Status.COMPLETE}, None, None),
        (set(), "Running", Denial.OTHER_STATUS),
    ],
)
def test_narrowed_credential_covers_its_statuses(allowed: set[Status], status: str | None, denial: Denial | None) -> None:
    assert judge_callback(JOB, allowed, JOB, status) is denial


def test_callback_with_a_status_is_a_report_under_the_known_name() -> None:
    event = callback_event(JOB, 2, "com", "done", 1.0)

    assert event == StatusChanged(job_id=JOB, run=2, status="Complete", message="done", progress=1.0)


def test_callback_without_a_status_asks_to_look() -> None:
    assert callback_event(JOB, 2, None, "ignored", None) == RefreshRequested(job_id=JOB)


def test_credential_statuses_are_names_or_codes() -> None:
    assert credential_statuses(["RUN", "complete", "Running"]) == frozenset({Status.RUNNING, Status.COMPLETE})
    assert credential_statuses(["RUN", "Calibrating"]) is None
