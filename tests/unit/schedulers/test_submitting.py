"""What comes next for a run on its way to a scheduler."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobledger_schedulers.domain.runs import Phase
from jobledger_schedulers.domain.submitting import DOUBT_AFTER, Step, after_look, next_step
from tests.support.runs import NOW, a_run

LONG_AGO = NOW - DOUBT_AFTER - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("run", "step"),
    [
        pytest.param(a_run(), Step.PLACE, id="new"),
        pytest.param(a_run(desired="pause"), Step.PLACE, id="a run to be held is held at the scheduler"),
        pytest.param(a_run(desired="stop"), Step.ABORT, id="stopped before anybody asked the scheduler"),
        pytest.param(a_run(submit_begun_at=NOW), Step.LOOK_UP, id="the scheduler was asked, nobody knows what came of it"),
        pytest.param(a_run(submit_begun_at=NOW, desired="stop"), Step.LOOK_UP, id="the same, and it is to end"),
        pytest.param(a_run(asked_at=LONG_AGO), Step.LOOK_UP, id="asked for so long ago that another memory may be lost"),
        pytest.param(a_run(phase=Phase.PLACED, ref="7"), Step.REPORT, id="placed"),
        pytest.param(a_run(phase=Phase.PLACED, ref="7", desired="stop"), Step.REPORT, id="placed, the stop has its own effect"),
        pytest.param(a_run(phase=Phase.COLLECTING, ref="7"), Step.NOTHING, id="over there"),
        pytest.param(a_run(phase=Phase.ENDED), Step.NOTHING, id="ended"),
    ],
)
def test_the_next_step(run: object, step: Step) -> None:
    assert next_step(run, NOW) is step  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("desired", "found", "step"),
    [
        ("run", True, Step.REPORT),
        ("run", False, Step.PLACE),
        ("pause", False, Step.PLACE),
        ("stop", True, Step.REPORT),
        ("stop", False, Step.ABORT),
    ],
)
def test_after_a_look(desired: str, found: bool, step: Step) -> None:
    assert after_look(a_run(desired=desired), found=found) is step
