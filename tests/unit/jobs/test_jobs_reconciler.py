"""A deleted job's folder goes, whatever stands in the way at first; nothing else is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jobledger_contracts import job_events as e
from jobledger_contracts import scheduler_events as s
from jobledger_contracts import topics
from jobledger_contracts.envelope import Event
from jobledger_jobs.reactors import REMOVE_WORKSPACE, WORKSPACES, react
from jobledger_jobs.reconciler import BATCH, LEASE_S, MAX_ATTEMPTS, Reconciler, remove_folder
from jobledger_kit.effects import Due, Effect
from jobledger_kit.errors import JobledgerError, NotFound, Unavailable
from jobledger_kit.folds import fold_log
from tests.support.events import created, event, job_id, records_of

PARTITIONS = dict.fromkeys(topics.ALL, 4)
JOB = job_id(1)


def effects_of(*events: Event, topic: str = topics.JOBS) -> list[Effect]:
    return [effect for folded in fold_log(records_of(events, topic=topic), PARTITIONS).folded for effect in react(folded)]


def test_deletion_asks_for_the_folder_to_go_once() -> None:
    deleted = event(e.JobDeleted(job_id=JOB))

    assert effects_of(created(JOB), deleted, event(e.JobDeleted(job_id=JOB)), deleted) == [
        Effect(key=f"remove_workspace:{JOB}", lane=WORKSPACES, stream=JOB, kind=REMOVE_WORKSPACE)
    ]


@pytest.mark.parametrize(
    "events",
    [
        [event(e.JobDeleted(job_id=JOB))],
        [created(JOB), event(e.ExecuteRequested(job_id=JOB)), event(e.JobDeleted(job_id=JOB))],
        [created(JOB), event(e.ExecuteRequested(job_id=JOB)), event(e.StopRequested(job_id=JOB))],
    ],
)
def test_deletion_that_is_refused_and_other_events_ask_for_nothing(events: list[Event]) -> None:
    assert effects_of(*events) == []


def test_events_about_schedulers_ask_for_nothing() -> None:
    assert effects_of(event(s.SchedulerRegistered(name="pool", type="condor", host="h")), topic=topics.SCHEDULERS) == []


class Ledger:
    """One effect that is due, and what became of it."""

    def __init__(self, attempt: int = 1) -> None:
        self.due: list[Due] = [Due(Effect(f"remove_workspace:{JOB}", WORKSPACES, JOB, REMOVE_WORKSPACE), attempt, 1)]
        self.outcome = ""

    async def take(self, limit: int, lease_s: float, lanes: Any = None, kinds: Any = None) -> list[Due]:
        assert (limit, lease_s, lanes, kinds) == (BATCH, LEASE_S, None, [REMOVE_WORKSPACE])
        taken, self.due = self.due, []
        return taken

    async def done(self, dues: list[Due]) -> set[str]:
        self.outcome = "done"
        return set()

    async def retry(self, due: Due, after_s: float | None = None, error: str = "") -> bool:
        self.outcome = "retried"
        return True

    async def give_up(self, due: Due, error: str) -> bool:
        self.outcome = "given up"
        return True


def carry_out(ledger: Ledger, fail: Callable[[], JobledgerError] | None = None) -> list[str]:
    removed: list[str] = []

    async def remove(job: str) -> None:
        if fail is not None:
            raise fail()
        removed.append(job)

    async def run() -> None:
        reconciler = Reconciler(ledger, {REMOVE_WORKSPACE: remove_folder(remove)})  # type: ignore[arg-type]  # stands in for EffectLedger
        assert await reconciler.carry_out_due()
        assert not await reconciler.carry_out_due()

    asyncio.run(run())
    return removed


def test_folder_goes_and_the_effect_is_done() -> None:
    ledger = Ledger()

    assert carry_out(ledger) == [JOB]
    assert ledger.outcome == "done"


@pytest.mark.parametrize(
    ("attempt", "error", "outcome"),
    [
        (1, lambda: Unavailable("The workspaces cannot be read or written now."), "retried"),
        (MAX_ATTEMPTS, lambda: Unavailable("The workspaces cannot be read or written now."), "given up"),
        (1, lambda: NotFound("job", "x"), "given up"),
    ],
)
def test_what_may_succeed_later_is_tried_again(attempt: int, error: Callable[[], JobledgerError], outcome: str) -> None:
    ledger = Ledger(attempt)

    assert carry_out(ledger, error) == []
    assert ledger.outcome == outcome
