"""What holds of a job whatever is said about it, in whatever order, however often."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from jobledger_contracts import job
from jobledger_contracts.envelope import Event, new_event
from jobledger_contracts.examples import JOB_ID
from jobledger_contracts.job import Job
from jobledger_contracts.job_events import JobCreated, ResultsProcessed, ResultsProcessingStarted, StatusChanged
from jobledger_contracts.recent import REMEMBERED_IDS
from jobledger_contracts.statuses import TERMINAL, Status
from jobledger_contracts.topics import ALL
from jobledger_contracts.transitions import PROCESSED
from jobledger_contracts.verdicts import Outcome, Reason, Verdict
from tests.support.events import BEGIN
from tests.support.given import FOLDS, folded, validate
from tests.support.strategies import any_data, events, functions, job_data, job_processing, job_reports, job_requests, some_status

some_events = st.lists(events(job_data), max_size=25)


@given(st.sampled_from(ALL), st.lists(events(any_data), max_size=25))
@settings(max_examples=100, deadline=None)
def test_no_event_in_any_order_breaks_any_fold(topic: str, said: Sequence[Event]) -> None:
    initial, evolve = FOLDS[topic]
    state = initial("a key")
    for number, event in enumerate(said, start=1):
        before, (state, verdict) = state, evolve(state, event)
        assert isinstance(verdict, Verdict)
        assert (verdict.outcome is Outcome.APPLIED) == (verdict.reason is Reason.NONE)
        assert state.version == number
        assert len(state.recent_ids) <= REMEMBERED_IDS
        if not verdict.applied:
            assert replace(state, version=before.version, recent_ids=before.recent_ids) == before


@given(some_events)
@settings(max_examples=100, deadline=None)
def test_what_must_be_so_of_every_job_is_so_after_every_event(said: Sequence[Event]) -> None:
    state = job.initial_state(JOB_ID)
    validate(state)
    for event in said:
        state, _ = job.evolve(state, event)
        validate(state)


@given(some_events, st.data())
@settings(max_examples=50, deadline=None)
def test_batches_do_not_matter_nor_does_keeping_the_state_between_them(said: Sequence[Event], data: st.DataObject) -> None:
    whole = folded(job.evolve, job.initial_state(JOB_ID), *said)
    state, rest = job.initial_state(JOB_ID), list(said)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        state = folded(job.evolve, state, *rest[:size])
        rest = rest[size:]
        state = msgspec.json.decode(msgspec.json.encode(state), type=Job)
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Job)
    assert state == whole


@given(some_events)
@settings(max_examples=50, deadline=None)
def test_a_log_that_is_published_again_changes_nothing(said: Sequence[Event]) -> None:
    once = folded(job.evolve, job.initial_state(JOB_ID), *said)
    again = folded(job.evolve, once, *said)
    assert replace(again, version=once.version) == once


class JobLife(RuleBasedStateMachine):
    """A job to which everything may happen: requests, reports, repetitions, late and stale news."""

    def __init__(self) -> None:
        super().__init__()
        self.state = job.initial_state(JOB_ID)
        self.said: list[Event] = []
        self.number = 0

    def say(self, data: Any, source: str = "/jobledger/jobs", at_s: float | None = None) -> tuple[Job, Verdict]:
        self.number += 1
        seconds = self.number if at_s is None else at_s
        return self.hear(new_event(data, id=str(self.number), source=source, time=BEGIN + timedelta(seconds=seconds)))

    def hear(self, event: Event) -> tuple[Job, Verdict]:
        before = self.state
        self.state, verdict = job.evolve(before, event)
        self.said.append(event)
        assert self.state.version == before.version + 1
        assert self.state.run >= before.run
        if before.status in TERMINAL and self.state.run == before.run:
            assert self.state.status is before.status
            assert self.state.completion_time == before.completion_time
        if not verdict.applied:
            assert replace(self.state, version=before.version, recent_ids=before.recent_ids) == before
        return before, verdict

    @initialize(scheduler=st.sampled_from(["", "pool"]), function=functions)
    def create(self, scheduler: str, function: str) -> None:
        about: Any = {"job_type": "CONDOR" if scheduler else "BASIC", "scheduler": scheduler, "process_results_function": function}
        _, verdict = self.say(JobCreated(job_id=JOB_ID, name="Flood", user="ada", label="hydro", **about))
        assert verdict.applied

    @rule(request=job_requests)
    def ask(self, request: Any) -> None:
        self.say(request)

    @rule(report=job_reports, source=st.sampled_from(["/jobledger/schedulers/pool", "/jobledger/jobs/callback"]))
    def report(self, report: StatusChanged, source: str) -> None:
        self.say(report, source)

    @rule(status=some_status)
    def report_an_old_run(self, status: str) -> None:
        if self.state.run > 1 and not self.state.deleted:
            _, verdict = self.say(StatusChanged(job_id=JOB_ID, status=status, run=self.state.run - 1), "/jobledger/schedulers/pool")
            assert verdict == Verdict(Outcome.SUPERSEDED, Reason.OLD_RUN)

    @rule(status=st.sampled_from([Status.RUNNING, Status.PAUSED, Status.SUBMITTED, Status.OTHER]))
    def report_late(self, status: Status) -> None:
        if self.state.run and self.state.status not in TERMINAL:
            _, verdict = self.say(StatusChanged(job_id=JOB_ID, status=status.value, run=self.state.run), self.state.status_source, at_s=-1)
            assert not verdict.applied

    @rule(data=st.data())
    def say_again(self, data: st.DataObject) -> None:
        _, verdict = self.hear(data.draw(st.sampled_from(self.said[-REMEMBERED_IDS // 2 :])))
        assert verdict == Verdict(Outcome.DUPLICATE, Reason.SAME_EVENT)

    @rule(end=st.sampled_from(sorted(TERMINAL)))
    def end(self, end: Status) -> None:
        _, verdict = self.say(StatusChanged(job_id=JOB_ID, status=end.value), "/jobledger/schedulers/pool")
        if verdict.applied:
            assert end in (self.state.status, self.state.pending_end)

    @rule(said=job_processing)
    def hear_a_worker(self, said: Any) -> None:
        before, verdict = self.say(said, "/jobledger/jobs")
        if verdict.applied:
            assert before.pending_end is not None
            assert before.processing_attempt <= said.attempt == self.state.processing_attempt
            assert self.state.status in PROCESSED[type(said).__name__]

    @rule()
    def process_to_the_end(self) -> None:
        if self.state.pending_end and not self.state.deleted:
            about: Any = {"job_id": JOB_ID, "run": self.state.run, "attempt": self.state.processing_attempt + 1}
            assert self.say(ResultsProcessingStarted(**about))[1].applied
            before, verdict = self.say(ResultsProcessed(**about))
            assert verdict.applied
            assert self.state.status is before.pending_end
            assert not self.say(ResultsProcessed(**about))[1].applied

    @invariant()
    def what_must_be_so(self) -> None:
        validate(self.state)

    def teardown(self) -> None:
        assert folded(job.evolve, job.initial_state(JOB_ID), *self.said) == self.state


JobLife.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestJobLife = JobLife.TestCase
