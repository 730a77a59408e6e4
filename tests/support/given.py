"""given(*events).when(event).then(verdict, status=...): how tests of the folds read.

    given(created(), request(ExecuteRequested)).when(report("Running")).then(APPLIED, status=Status.RUNNING)

Fields that `then` does not name are not compared. `nothing_else_changed` says that only the count of events did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from jobledger_contracts import cluster, job, scheduler, setting
from jobledger_contracts.envelope import Event
from jobledger_contracts.job import Job
from jobledger_contracts.statuses import FINISHED, PROCESSABLE, TERMINAL, Status
from jobledger_contracts.transitions import REQUESTS
from jobledger_contracts.verdicts import Outcome, Reason, Verdict

Evolve = Callable[[Any, Event], tuple[Any, Verdict]]

FOLDS: dict[str, tuple[Callable[[str], Any], Evolve]] = {
    "jobledger.jobs": (job.initial_state, job.evolve),
    "jobledger.schedulers": (scheduler.initial_state, scheduler.evolve),
    "jobledger.clusters": (cluster.initial_state, cluster.evolve),
    "jobledger.settings": (setting.initial_state, setting.evolve),
}
"""Topic -> where its streams begin, and their fold."""


class Then(msgspec.Struct, frozen=True):
    """What an event did."""

    before: Any
    after: Any
    verdict: Verdict

    def then(self, outcome: Outcome, reason: Reason = Reason.NONE, **fields: Any) -> Then:
        """Check the verdict, and the fields that are named."""
        assert self.verdict == Verdict(outcome, reason)
        assert {name: getattr(self.after, name) for name in fields} == fields
        return self

    def nothing_else_changed(self) -> Then:
        """Check that the event was counted and remembered, and changed nothing."""
        assert replace(self.after, version=self.before.version, recent_ids=self.before.recent_ids) == self.before
        assert self.after.version == self.before.version + 1
        return self


class Given(msgspec.Struct, frozen=True):
    """A stream as some events left it."""

    state: Any
    evolve: Evolve

    def when(self, event: Event) -> Then:
        after, verdict = self.evolve(self.state, event)
        return Then(self.state, after, verdict)

    def and_given(self, *events: Event) -> Given:
        return Given(folded(self.evolve, self.state, *events), self.evolve)


def given(*events: Event, topic: str = "jobledger.jobs", key: str = "") -> Given:
    """A stream after these events."""
    initial, evolve = FOLDS[topic]
    return Given(folded(evolve, initial(key or events[0].key), *events), evolve)


def folded(evolve: Evolve, state: Any, *events: Event) -> Any:
    for event in events:
        state, _ = evolve(state, event)
    return state


def validate(state: Job) -> None:
    """Check what must be so of every job, whatever was said about it in whatever order."""
    assert state.exists == (state.created is not None) == (state.creation_time is not None) == bool(state.created_digest)
    assert not state.deleted or state.exists
    assert state.run >= 0
    assert (state.run == 0) == (state.desired == "") == (state.execute_time is None)
    assert state.desired in ("", "run", "pause", "stop")
    assert (state.run == 0) <= (state.status is Status.PENDING)
    assert state.run == 0 or state.status is not Status.PENDING
    assert (state.completion_time is not None) == (state.status in FINISHED)
    assert state.status is Status.OTHER or not state.status_text
    assert (state.status_time is None) == (state.status_source == "")
    assert state.restarts >= 0
    assert state.progress is None or 0 <= state.progress <= 1
    assert len(state.recent_ids) == len(set(state.recent_ids)) <= 256
    assert len(state.recent_ids) <= state.version
    assert state.run_id == (f"{state.job_id}.{state.run}" if state.run else "")
    assert state.display_status
    assert state.pending_end is None or (state.status is Status.RESULTS_READY and state.pending_end in PROCESSABLE)
    assert not state.processing or (state.pending_end is not None and state.processing_attempt > 0)
    assert state.processing_attempt == 0 or state.status in FINISHED
    assert state.pending_end is None or (state.created is not None and bool(state.created.process_results_function))
    if state.status in TERMINAL:
        assert not REQUESTS["StopRequested"][state.status].applied
