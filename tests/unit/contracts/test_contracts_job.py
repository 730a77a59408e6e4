"""What every event does to a job: the exhaustive table, and the cases that a table cannot say."""

from __future__ import annotations

from typing import Any

import pytest

from jobledger_contracts import job_events as e
from jobledger_contracts.job import Job
from jobledger_contracts.recent import REMEMBERED_IDS
from jobledger_contracts.statuses import FINISHED, TERMINAL, Status
from jobledger_contracts.transitions import AFTER_RESTART, REPORTS, REQUESTS
from jobledger_contracts.verdicts import Outcome, Reason
from tests.support.events import event
from tests.support.given import Given, given, validate

APPLIED, DUPLICATE, SUPERSEDED, REFUSED = Outcome
JOB = "01934f2e-7a1c-7d11-8a52-0f1e2d3c4b5a"
POOL = "/jobledger/schedulers/pool"


def created(**more: Any) -> Any:
    return event(
        e.JobCreated(**{"job_id": JOB, "name": "Flood", "user": "ada", "label": "hydro", "job_type": "CONDOR", "scheduler": "pool"} | more)
    )


def by_itself(**more: Any) -> Any:
    return created(job_type="BASIC", scheduler="", **more)


def request(kind: type[Any], at_s: float = 1, **more: Any) -> Any:
    return event(kind(job_id=JOB, **more), at_s=at_s)


def report(status: str, at_s: float = 2, source: str = POOL, **more: Any) -> Any:
    return event(e.StatusChanged(job_id=JOB, status=status, **more), at_s=at_s, source=source)


def in_status(status: Status) -> Given:
    """A job of a scheduler that has this status; beyond Pending, in its first run."""
    start = given(created())
    if status is Status.PENDING:
        return start
    begun = start.and_given(request(e.ExecuteRequested))
    return begun if status is Status.SUBMITTED else begun.and_given(report(status.value))


@pytest.mark.parametrize("status", Status)
def test_every_status_can_be_reached(status: Status) -> None:
    state: Job = in_status(status).state
    assert state.status is status
    validate(state)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("restarts", [0, 1])
@pytest.mark.parametrize("reported", Status)
def test_every_report_from_every_status(status: Status, reported: Status, restarts: int) -> None:
    got = in_status(status).when(report(reported.value, at_s=3, restarts=restarts, message="seen"))
    validate(got.after)
    if status is Status.PENDING:
        got.then(REFUSED, Reason.NOT_STARTED).nothing_else_changed()
    elif reported in REPORTS[status] or (restarts and reported in AFTER_RESTART[status]):
        got.then(APPLIED, status=reported, status_message="seen", restarts=restarts)
    elif status in TERMINAL:
        got.then(SUPERSEDED, Reason.RUN_ENDED).nothing_else_changed()
    else:
        got.then(SUPERSEDED, Reason.STEP_BACK).nothing_else_changed()


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("kind", REQUESTS)
def test_every_request_from_every_status(status: Status, kind: str) -> None:
    more = {"description": "new"} if kind == "JobChanged" else {}
    got = in_status(status).when(request(getattr(e, kind), at_s=3, **more))
    validate(got.after)
    expected = REQUESTS[kind][status]
    if kind == "ResumeRequested" and expected.applied and status is not Status.PAUSED:
        got.then(REFUSED, Reason.NOT_PAUSED).nothing_else_changed()
    elif expected.applied:
        got.then(APPLIED)
    else:
        got.then(expected.outcome, expected.reason).nothing_else_changed()


@pytest.mark.parametrize("status", Status)
def test_every_table_has_every_status(status: Status) -> None:
    assert status in REPORTS
    assert status in AFTER_RESTART
    assert all(status in row for row in REQUESTS.values())


class TestCreated:
    def test_it_is_pending_and_was_never_run(self) -> None:
        given(key=JOB).when(created()).then(APPLIED, exists=True, status=Status.PENDING, run=0, run_id="", desired="")

    def test_the_id_stands_in_its_name_where_it_is_asked_for(self) -> None:
        after: Job = given(key=JOB).when(created(name="Flood {id}")).then(APPLIED).after
        assert after.created is not None
        assert after.created.name == f"Flood {JOB}"

    def test_a_name_full_of_ids_stays_a_name(self) -> None:
        after: Job = given(key=JOB).when(created(name="{id}" * 256)).then(APPLIED).after
        assert after.created is not None
        assert len(after.created.name) == e.MAX_NAME

    def test_again_with_the_same_content_is_a_duplicate(self) -> None:
        given(created()).when(created()).then(DUPLICATE, Reason.SAME_CONTENT).nothing_else_changed()

    def test_again_with_the_first_content_after_a_change_is_a_duplicate(self) -> None:
        given(created(), request(e.JobChanged, name="Drought")).when(created()).then(DUPLICATE, Reason.SAME_CONTENT)

    def test_again_with_other_content_is_refused(self) -> None:
        given(created()).when(created(name="Drought")).then(REFUSED, Reason.OTHER_CONTENT).nothing_else_changed()

    def test_nothing_can_be_asked_of_what_was_never_created(self) -> None:
        given(key=JOB).when(request(e.ExecuteRequested)).then(REFUSED, Reason.UNKNOWN, exists=False)
        given(key=JOB).when(report("Running")).then(REFUSED, Reason.UNKNOWN)


class TestIdentity:
    def test_the_same_event_again_changes_nothing(self) -> None:
        twice = report("Running")
        got = in_status(Status.SUBMITTED).and_given(twice).when(twice).then(DUPLICATE, Reason.SAME_EVENT)
        got.nothing_else_changed()

    def test_the_same_id_from_another_source_is_another_event(self) -> None:
        first, second = (event(e.StatusChanged(job_id=JOB, status=s), id="1", source=f"/{s}") for s in ("Running", "Complete"))
        in_status(Status.SUBMITTED).and_given(first).when(second).then(APPLIED)

    def test_only_the_latest_ids_are_remembered(self) -> None:
        state = (
            in_status(Status.RUNNING)
            .and_given(*(report("Running", at_s=3 + n, progress=n / 999) for n in range(REMEMBERED_IDS + 10)))
            .state
        )
        assert len(state.recent_ids) == REMEMBERED_IDS
        validate(state)


class TestReports:
    def test_an_older_report_of_the_same_reporter_is_late(self) -> None:
        got = in_status(Status.RUNNING).when(report("Paused", at_s=1.5))
        got.then(SUPERSEDED, Reason.LATE).nothing_else_changed()

    def test_another_reporters_clock_is_not_compared(self) -> None:
        in_status(Status.RUNNING).when(report("Paused", at_s=1.5, source="/jobledger/jobs/callback")).then(APPLIED)

    @pytest.mark.parametrize("end", sorted(FINISHED))
    def test_an_end_is_not_late_even_when_the_reporters_clock_was_set_back(self, end: Status) -> None:
        in_status(Status.RUNNING).when(report(end.value, at_s=-1000)).then(APPLIED, status=end)

    def test_a_report_of_an_earlier_execution_is_late_even_when_it_is_an_end(self) -> None:
        evicted = in_status(Status.RUNNING).and_given(report("Submitted", at_s=3, restarts=1))
        evicted.when(report("Error", at_s=4, restarts=0)).then(SUPERSEDED, Reason.LATE).nothing_else_changed()

    def test_what_says_nothing_new_is_superseded(self) -> None:
        in_status(Status.RUNNING).when(report("RUN", at_s=3)).then(SUPERSEDED, Reason.UNCHANGED).nothing_else_changed()

    def test_a_run_that_ends_well_has_made_all_its_progress(self) -> None:
        half = in_status(Status.RUNNING).and_given(report("Running", at_s=3, progress=0.5))
        half.when(report("Complete", at_s=4)).then(APPLIED, progress=1.0)
        half.when(report("Error", at_s=4)).then(APPLIED, progress=0.5)
        in_status(Status.RUNNING).when(report("Complete", at_s=4)).then(APPLIED, progress=None)

    def test_the_same_status_may_bring_news(self) -> None:
        got = in_status(Status.RUNNING).when(report("Running", at_s=3, progress=0.5, message="half"))
        got.then(APPLIED, progress=0.5, status_message="half")

    def test_an_unknown_status_is_the_jobs_own(self) -> None:
        got = in_status(Status.RUNNING).when(report("Calibrating", at_s=3))
        got.then(APPLIED, status=Status.OTHER, status_text="Calibrating", display_status="Calibrating")

    def test_a_report_about_an_old_run_is_superseded_and_one_about_a_run_to_come_refused(self) -> None:
        second = in_status(Status.ERROR).and_given(request(e.ResubmitRequested, at_s=4))
        second.when(report("Complete", at_s=5, run=1)).then(SUPERSEDED, Reason.OLD_RUN).nothing_else_changed()
        second.when(report("Complete", at_s=5, run=3)).then(REFUSED, Reason.UNKNOWN_RUN).nothing_else_changed()
        second.when(report("Running", at_s=5)).then(APPLIED, run=2)

    def test_times_are_those_of_the_first_execution_and_the_first_end(self) -> None:
        state: Job = in_status(Status.RUNNING).and_given(report("Results-Ready", at_s=9), report("Complete", at_s=12)).state
        assert [t.second for t in (state.execute_time, state.start_time, state.completion_time) if t] == [1, 2, 9]

    def test_a_run_that_failed_before_it_ran_has_no_start(self) -> None:
        in_status(Status.SUBMITTED).when(report("Error")).then(APPLIED, start_time=None)

    def test_a_job_without_a_scheduler_may_report_without_being_asked_to_run(self) -> None:
        got = given(by_itself()).when(report("Running")).then(APPLIED, run=1, desired="run", status=Status.RUNNING)
        validate(got.after)

    def test_but_not_about_a_second_run(self) -> None:
        given(by_itself()).when(report("Running", run=2)).then(REFUSED, Reason.UNKNOWN_RUN)


class TestRequests:
    def test_executing_begins_the_first_run(self) -> None:
        given(created()).when(request(e.ExecuteRequested)).then(APPLIED, status=Status.SUBMITTED, run=1, run_id=f"{JOB}.1", desired="run")

    def test_resubmitting_begins_another_run_with_nothing_of_the_last_ones(self) -> None:
        ended = in_status(Status.OTHER).and_given(
            report("Error", at_s=3, exit_code=1, progress=0.9, message="no", scheduler_job_ref="12.0")
        )
        got = ended.when(request(e.ResubmitRequested, at_s=4))
        got.then(
            APPLIED,
            run=2,
            status=Status.SUBMITTED,
            exit_code=None,
            progress=None,
            status_message="",
            scheduler_job_ref="",
            completion_time=None,
        )
        validate(got.after)

    def test_a_scheduler_has_the_last_word_on_a_stop(self) -> None:
        in_status(Status.RUNNING).when(request(e.StopRequested)).then(APPLIED, desired="stop", status=Status.RUNNING)
        stopping = in_status(Status.RUNNING).and_given(request(e.StopRequested))
        stopping.when(request(e.StopRequested)).then(SUPERSEDED, Reason.UNCHANGED)
        stopping.when(request(e.PauseRequested)).then(SUPERSEDED, Reason.LATE)
        stopping.when(request(e.ResumeRequested)).then(SUPERSEDED, Reason.LATE)
        stopping.when(report("Complete", at_s=5)).then(APPLIED, status=Status.COMPLETE)

    def test_a_job_without_a_scheduler_stops_at_once(self) -> None:
        running = given(by_itself(), request(e.ExecuteRequested), report("Counting"))
        got = running.when(request(e.StopRequested, at_s=3)).then(APPLIED, status=Status.ABORTED, status_text="", desired="stop")
        validate(got.after)

    def test_a_job_without_a_scheduler_pauses_and_resumes_at_once(self) -> None:
        paused = given(by_itself(), request(e.ExecuteRequested)).and_given(request(e.PauseRequested))
        assert paused.state.status is Status.PAUSED
        paused.when(request(e.PauseRequested)).then(SUPERSEDED, Reason.UNCHANGED)
        paused.when(request(e.ResumeRequested)).then(APPLIED, status=Status.RUNNING, desired="run")

    def test_stopping_what_was_ready_keeps_when_it_was_done(self) -> None:
        ready = given(by_itself(), request(e.ExecuteRequested), report("Results-Ready", at_s=5))
        got = ready.when(request(e.StopRequested, at_s=60)).then(APPLIED, status=Status.ABORTED)
        assert got.after.completion_time == ready.state.completion_time

    def test_how_to_run_changes_only_before_the_first_run(self) -> None:
        given(created()).when(request(e.JobChanged, scheduler="other")).then(APPLIED)
        in_status(Status.RUNNING).when(request(e.JobChanged, scheduler="other")).then(REFUSED, Reason.ALREADY_STARTED)
        in_status(Status.RUNNING).when(request(e.JobChanged, description="x")).then(APPLIED)
        in_status(Status.RUNNING).when(request(e.JobChanged, name="Flood")).then(SUPERSEDED, Reason.UNCHANGED)

    def test_of_a_deleted_job_only_results_are_kept(self) -> None:
        deleted = in_status(Status.COMPLETE).and_given(request(e.JobDeleted))
        deleted.when(request(e.ResubmitRequested)).then(REFUSED, Reason.DELETED)
        deleted.when(report("Error", at_s=9)).then(REFUSED, Reason.DELETED)
        deleted.when(event(e.ResultsCollected(job_id=JOB, run=1))).then(APPLIED, deleted=True)
        deleted.when(event(e.ResultsCollected(job_id=JOB, run=2))).then(REFUSED, Reason.UNKNOWN_RUN)
