"""What callbacks of Tethys' kind say, and how many of them count."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobledger_contracts.statuses import Status
from jobledger_jobs.domain.callbacks import refresh_slots
from jobledger_jobs.domain.compatibility import Bucket, may_move, parse_dask_key, status_of_transition, worth_asking

JOB = "01990000-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("transition", "status"),
    [
        ("waiting-processing", Status.RUNNING),
        ("queued-processing", Status.RUNNING),
        ("no-worker-processing", Status.RUNNING),
        ("waiting-no-worker", Status.SUBMITTED),
        ("processing-memory", Status.COMPLETE),
        ("processing-erred", Status.ERROR),
        ("processing-released", None),
        ("memory-released", None),
        ("erred-forgotten", None),
        ("nonsense", None),
        ("---", None),
    ],
)
def test_transition_stands_for_a_status_or_for_none(transition: str, status: Status | None) -> None:
    assert status_of_transition(transition, scheduler="") is status


def test_computed_task_of_a_scheduler_of_ours_has_its_results_still_to_come() -> None:
    assert status_of_transition("processing-memory", scheduler="dask1") is Status.RESULTS_READY


@pytest.mark.parametrize(("key", "named"), [(JOB, (JOB, None)), (f"{JOB}.2", (JOB, 2)), ("sum-0a1b", None), (f"{JOB}.0", None), ("", None)])
def test_key_names_a_job_or_a_run_of_it(key: str, named: tuple[str, int | None] | None) -> None:
    assert parse_dask_key(key) == named


def test_only_jobs_of_named_schedulers_are_moved() -> None:
    assert may_move("dask1", {"dask1"})
    assert may_move("", {"-"})
    assert not may_move("", {"dask1"})
    assert not may_move("dask2", {"dask1", "-"})
    assert not may_move("dask1", ())


def test_only_a_run_that_goes_on_is_worth_asking() -> None:
    assert worth_asking("Running", run=1, deleted=False)
    assert not worth_asking("Pending", run=0, deleted=False)
    assert not worth_asking("Complete", run=1, deleted=False)
    assert not worth_asking("Running", run=1, deleted=True)


def test_bucket_lets_so_many_through() -> None:
    bucket = Bucket(10)
    assert [bucket.take(100.0) for _ in range(20)] == [0.0] * 20
    assert bucket.take(100.0) == pytest.approx(0.1)
    assert bucket.take(100.101) == 0.0
    assert bucket.take(100.101) > 0


def test_second_look_of_an_interval_waits_for_the_next_one() -> None:
    def at(second: int) -> datetime:
        return datetime(2026, 3, 1, 12, 0, second, tzinfo=UTC)

    (first, moment), (second, later) = refresh_slots(at(17), 10.0)

    assert (second - first, moment, later) == (1, at(17), at(20))
    assert refresh_slots(at(19), 10.0)[0][0] == first
    assert refresh_slots(at(20), 10.0)[0][0] == second
