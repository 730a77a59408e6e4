"""Results that wait to be processed: which ends are held back, whose word counts, and what ends the wait."""

from __future__ import annotations

from typing import Any

import pytest

from jobledger_contracts import job_events as e
from jobledger_contracts.job import Job
from jobledger_contracts.statuses import PROCESSABLE, TERMINAL, Status
from jobledger_contracts.transitions import PROCESSED, PROCESSING
from jobledger_contracts.verdicts import Outcome, Reason
from tests.support.events import event
from tests.support.given import Given, given, validate

APPLIED, DUPLICATE, SUPERSEDED, REFUSED = Outcome
JOB = "01934f2e-7a1c-7d11-8a52-0f1e2d3c4b5a"
POOL, CALLBACK = "/jobledger/schedulers/pool", "/jobledger/jobs/callback"
WORDS = (e.ResultsProcessingStarted, e.ResultsProcessed, e.ResultsProcessingFailed)


def created(scheduler: str = "pool", function: str = "flood.results:rank") -> Any:
    about: Any = {"job_type": "CONDOR" if scheduler else "BASIC", "scheduler": scheduler, "process_results_function": function}
    return event(e.JobCreated(job_id=JOB, name="Flood", user="ada", label="hydro", **about))


def request(kind: type[Any], at_s: float = 1, **more: Any) -> Any:
    return event(kind(job_id=JOB, **more), at_s=at_s)


def report(status: str, at_s: float = 2, source: str = POOL, **more: Any) -> Any:
    return event(e.StatusChanged(job_id=JOB, status=status, **more), at_s=at_s, source=source)


def word(kind: type[Any], attempt: int = 1, at_s: float = 10, run: int = 1, **more: Any) -> Any:
    return event(kind(job_id=JOB, run=run, attempt=attempt, **more), at_s=at_s)


def executed(**about: Any) -> Given:
    return given(created(**about), request(e.ExecuteRequested))


def waiting(end: str = "Complete") -> Given:
    """A run that ended well and whose results wait."""
    return executed().and_given(report("Running", progress=0.5), report(end, at_s=5))


def started(attempt: int = 1) -> Given:
    return waiting().and_given(word(e.ResultsProcessingStarted, attempt))


@pytest.mark.parametrize("reported", Status)
def test_only_a_good_end_is_held_back(reported: Status) -> None:
    got = executed().when(report(reported.value, at_s=3))
    validate(got.after)
    if reported is Status.PENDING:
        got.then(SUPERSEDED, Reason.STEP_BACK)
    elif reported is Status.SUBMITTED:
        got.then(SUPERSEDED, Reason.UNCHANGED)
    elif reported in PROCESSABLE:
        got.then(APPLIED, status=Status.RESULTS_READY, pending_end=reported, processing_attempt=0)
    else:
        got.then(APPLIED, status=reported, pending_end=None)


def test_without_a_function_nothing_is_held_back() -> None:
    executed(function="").when(report("Complete")).then(APPLIED, status=Status.COMPLETE, pending_end=None)
    executed(function="", scheduler="").when(report("Results-Ready")).then(APPLIED, status=Status.RESULTS_READY, pending_end=None)


@pytest.mark.parametrize("end", ["Complete", "Results-Ready", "RES"])
def test_a_job_that_reports_for_itself_says_when_its_results_are_there(end: str) -> None:
    got = executed(scheduler="").when(report(end, source=CALLBACK))
    got.then(APPLIED, status=Status.RESULTS_READY, pending_end=Status.COMPLETE)


def test_a_run_of_a_scheduler_cannot_have_its_output_processed_before_the_scheduler_brought_it() -> None:
    said = executed().when(report("Complete", source=CALLBACK)).then(APPLIED, status=Status.RESULTS_READY, pending_end=None)
    by_itself = Given(said.after, executed().evolve)
    by_itself.when(word(e.ResultsProcessingStarted)).then(REFUSED, Reason.STILL_ACTIVE).nothing_else_changed()
    by_itself.when(report("Complete", at_s=3)).then(APPLIED, status=Status.RESULTS_READY, pending_end=Status.COMPLETE)
    by_itself.when(report("Error", at_s=3, exit_code=1)).then(APPLIED, status=Status.ERROR, pending_end=None)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("kind", WORDS)
def test_every_word_of_a_worker_in_every_status(kind: type[Any], status: Status) -> None:
    life = executed(function="") if status is not Status.RESULTS_READY else executed()
    if status is Status.PENDING:
        life = given(created())
    elif status is Status.RESULTS_READY:
        life = waiting()
    elif status is not Status.SUBMITTED:
        life = life.and_given(report(status.value))
    assert life.state.status is status
    got = life.when(word(kind))
    validate(got.after)
    if status is Status.PENDING:  # there is no run yet that it could be about
        got.then(REFUSED, Reason.UNKNOWN_RUN).nothing_else_changed()
    elif PROCESSING[status].applied:
        got.then(APPLIED)
        assert got.after.status in PROCESSED[kind.__name__]
    else:
        got.then(PROCESSING[status].outcome, PROCESSING[status].reason).nothing_else_changed()


def test_the_tables_name_every_status_and_every_word() -> None:
    assert set(PROCESSING) == set(Status)
    assert set(PROCESSED) == {kind.__name__ for kind in WORDS}
    assert {status for status, verdict in PROCESSING.items() if verdict.reason is Reason.RUN_ENDED} == TERMINAL


class TestProcessing:
    def test_a_processed_run_takes_the_end_that_was_held_back(self) -> None:
        got = started().when(word(e.ResultsProcessed, message="3 maps"))
        got.then(APPLIED, status=Status.COMPLETE, status_message="3 maps", pending_end=None, processing=False, progress=1.0)
        validate(got.after)

    def test_a_run_that_ended_well_in_part_stays_that(self) -> None:
        waiting("Various-Complete").when(word(e.ResultsProcessed)).then(APPLIED, status=Status.VARIOUS_COMPLETE, progress=0.5)

    def test_when_it_ended_is_when_the_computation_did(self) -> None:
        state: Job = started().and_given(word(e.ResultsProcessed, at_s=99)).state
        assert state.completion_time == waiting().state.completion_time

    def test_starting_says_so(self) -> None:
        got = waiting().when(word(e.ResultsProcessingStarted, worker="w", message="being processed"))
        got.then(APPLIED, status=Status.RESULTS_READY, processing=True, processing_attempt=1, status_message="being processed")

    def test_a_failure_that_is_not_the_last_leaves_it_waiting(self) -> None:
        got = started().when(word(e.ResultsProcessingFailed, message="again in 10 s"))
        got.then(APPLIED, status=Status.RESULTS_READY, processing=False, processing_attempt=1, pending_end=Status.COMPLETE)

    def test_the_last_failure_is_an_error(self) -> None:
        got = started().when(word(e.ResultsProcessingFailed, last=True, message="no"))
        got.then(APPLIED, status=Status.ERROR, status_message="no", pending_end=None, processing=False)
        validate(got.after)

    def test_only_the_latest_attempt_counts(self) -> None:
        second = started().and_given(word(e.ResultsProcessingStarted, 2))
        for kind in WORDS:
            second.when(word(kind, 1)).then(SUPERSEDED, Reason.OLD_ATTEMPT).nothing_else_changed()
        second.when(word(e.ResultsProcessed, 2)).then(APPLIED, status=Status.COMPLETE)

    def test_numbers_may_be_left_out(self) -> None:
        started().when(word(e.ResultsProcessingStarted, 7)).then(APPLIED, processing_attempt=7)

    def test_the_same_start_twice_says_nothing_new(self) -> None:
        started().when(word(e.ResultsProcessingStarted)).then(SUPERSEDED, Reason.UNCHANGED).nothing_else_changed()

    def test_an_attempt_that_failed_is_over(self) -> None:
        failed = started().and_given(word(e.ResultsProcessingFailed))
        for kind in WORDS:
            failed.when(word(kind)).then(SUPERSEDED, Reason.OLD_ATTEMPT).nothing_else_changed()
        failed.when(word(e.ResultsProcessingStarted, 2)).then(APPLIED, processing=True)

    def test_an_attempt_whose_start_was_lost_counts_all_the_same(self) -> None:
        waiting().when(word(e.ResultsProcessed, 3)).then(APPLIED, status=Status.COMPLETE, processing_attempt=3)
        waiting().when(word(e.ResultsProcessingFailed, 3)).then(APPLIED, processing_attempt=3, processing=False)

    def test_processed_twice_is_processed_once(self) -> None:
        done = started().and_given(word(e.ResultsProcessed))
        done.when(word(e.ResultsProcessed)).then(SUPERSEDED, Reason.RUN_ENDED).nothing_else_changed()
        done.when(word(e.ResultsProcessingFailed, last=True)).then(SUPERSEDED, Reason.RUN_ENDED).nothing_else_changed()

    def test_another_runs_results_are_another_matter(self) -> None:
        again = started().and_given(request(e.ResubmitRequested, at_s=11))
        assert (again.state.status, again.state.pending_end, again.state.processing_attempt) == (Status.SUBMITTED, None, 0)
        again.when(word(e.ResultsProcessed)).then(SUPERSEDED, Reason.OLD_RUN).nothing_else_changed()
        again.when(word(e.ResultsProcessed, run=3)).then(REFUSED, Reason.UNKNOWN_RUN).nothing_else_changed()


class TestMeanwhile:
    @pytest.mark.parametrize("status", [status for status in Status if status is not Status.RESULTS_READY])
    def test_the_end_stands_whatever_is_reported(self, status: Status) -> None:
        got = waiting().when(report(status.value, at_s=20, restarts=1))
        assert got.verdict.outcome is SUPERSEDED
        got.nothing_else_changed()

    def test_how_far_the_processing_has_come_is_news(self) -> None:
        got = started().when(report("Results-Ready", at_s=20, source=CALLBACK, progress=0.7, message="drawing"))
        got.then(APPLIED, progress=0.7, status_message="drawing", processing=True, pending_end=Status.COMPLETE)

    def test_it_can_be_stopped(self) -> None:
        got = started().when(request(e.StopRequested, at_s=20)).then(APPLIED, status=Status.ABORTED, desired="stop", pending_end=None)
        validate(got.after)
        assert got.after.completion_time == waiting().state.completion_time
        Given(got.after, started().evolve).when(word(e.ResultsProcessed)).then(SUPERSEDED, Reason.RUN_ENDED)

    def test_it_can_be_deleted(self) -> None:
        started().and_given(request(e.JobDeleted, at_s=20)).when(word(e.ResultsProcessed)).then(REFUSED, Reason.DELETED)

    def test_the_function_can_be_replaced_but_not_taken_away(self) -> None:
        waiting().when(request(e.JobChanged, process_results_function="")).then(REFUSED, Reason.FIXED).nothing_else_changed()
        waiting().when(request(e.JobChanged, process_results_function="flood:other")).then(APPLIED)
        executed().when(request(e.JobChanged, process_results_function="")).then(APPLIED)

    def test_a_function_that_is_named_while_the_run_goes_on_counts_at_its_end(self) -> None:
        named = executed(function="").and_given(request(e.JobChanged, process_results_function="flood:rank"))
        named.when(report("Complete", at_s=5)).then(APPLIED, status=Status.RESULTS_READY, pending_end=Status.COMPLETE)
