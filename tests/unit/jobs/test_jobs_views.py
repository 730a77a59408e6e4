"""What a row looks like to a caller."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from jobledger_contracts.statuses import Status
from jobledger_jobs.views import display_status, job_view, utc

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def row(**changes: Any) -> dict[str, Any]:
    return {
        "id": "01990000-0000-7000-8000-000000000001",
        "partition": 3,
        "log_offset": 17,
        "name": "n",
        "description": "",
        "owner": "ada",
        "groups": ["ops"],
        "label": "hydro",
        "job_type": "BASIC",
        "status": "Running",
        "status_text": "",
        "status_message": "",
        "progress": None,
        "run": 2,
        "desired": "run",
        "scheduler": "",
        "scheduler_job_ref": "",
        "exit_code": None,
        "exit_signal": None,
        "restarts": 0,
        "resources": None,
        "workspace": "",
        "extended_properties": '{ "a" : 1 }',
        "condor": None,
        "dask": None,
        "workflow": None,
        "node_counts": None,
        "process_results_function": "",
        "processing_attempt": 0,
        "processing": False,
        "creation_time": NOW,
        "execute_time": None,
        "start_time": NOW,
        "completion_time": None,
    } | changes


def test_json_members_stay_the_rows_text() -> None:
    assert b'{ "a" : 1 }' in msgspec.json.encode(job_view(row(), workspace="file:///w", now=NOW))


def test_view_names_run_code_position_and_folder() -> None:
    view = job_view(row(), workspace="file:///w", now=NOW)

    assert (view.run_id, view.status_code, view.position, view.workspace) == (f"{view.id}.2", "RUN", "3:17", "file:///w")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"start_time": None}, None),
        ({}, 60.0),
        ({"completion_time": NOW + timedelta(seconds=5)}, 5.0),
        ({"completion_time": NOW - timedelta(seconds=5)}, 0.0),
    ],
)
def test_run_time_goes_on_until_the_run_ends(changes: dict[str, Any], expected: float | None) -> None:
    assert job_view(row(**changes), workspace="", now=NOW + timedelta(seconds=60)).run_time_s == expected


def test_own_text_is_what_people_read() -> None:
    assert display_status(Status.OTHER, "Calibrating") == "Calibrating"
    assert display_status(Status.OTHER, "") == "Other"
    assert display_status(Status.RUNNING, "stale") == "Running"


def test_time_that_the_driver_gives_without_a_zone_gets_one() -> None:
    assert utc(datetime.max).tzinfo is UTC  # noqa: DTZ901 - what asyncpg makes of infinity
    assert utc(None) is None
