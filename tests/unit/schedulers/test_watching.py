"""What a look at a run is worth."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from jobledger_contracts.job_events import CondorSpec, DaskSpec, JobCreated
from jobledger_contracts.statuses import Status
from jobledger_schedulers.domain.runs import Phase, Run, Seen
from jobledger_schedulers.domain.watching import (
    MISSING_FOR,
    MISSING_LOOKS,
    MOST_RESTARTS,
    STOP_AGAIN_AFTER,
    Change,
    again_seen,
    begins_again,
    judge,
    lost,
    lost_seen,
    missed,
    stop_again,
)
from tests.support.runs import NOW, a_run

WAITING = Seen(status=Status.SUBMITTED, message="waiting", ref="7")
RUNNING = Seen(status=Status.RUNNING, message="running", ref="7")


def placed(**more: object) -> Run:
    return a_run(**{"phase": Phase.PLACED, "ref": "7", **more})


@pytest.mark.parametrize(
    ("run", "seen", "ready", "told"),
    [
        pytest.param(placed(), WAITING, False, WAITING, id="the first look"),
        pytest.param(placed(seen=WAITING), WAITING, False, None, id="nothing new"),
        pytest.param(placed(seen=WAITING), RUNNING, False, RUNNING, id="another status"),
        pytest.param(
            placed(seen=RUNNING),
            Seen(status=Status.RUNNING, message="running, again", ref="7"),
            False,
            Seen(status=Status.RUNNING, message="running, again", ref="7"),
            id="another message",
        ),
        pytest.param(
            placed(seen=Seen(status=Status.RUNNING, restarts=2, ref="7")),
            Seen(status=Status.RUNNING, restarts=1, ref="7"),
            False,
            None,
            id="restarts never go back",
        ),
        pytest.param(placed(seen=RUNNING), Seen(status=Status.RUNNING, message="running"), False, None, id="a look without the handle"),
        pytest.param(
            placed(seen=RUNNING),
            Seen(status=Status.COMPLETE, exit_code=3, ref="7"),
            True,
            Seen(status=Status.ERROR, exit_code=3, ref="7", message="The program ended with exit code 3."),
            id="an end with another exit code than 0 is no good end",
        ),
        pytest.param(
            placed(seen=RUNNING),
            Seen(status=Status.ERROR, exit_signal=9, ref="7"),
            False,
            Seen(status=Status.ERROR, exit_signal=9, ref="7", message="The program was ended by signal 9."),
            id="a signal",
        ),
        pytest.param(placed(phase=Phase.COLLECTING), RUNNING, False, None, id="its end is known, and told elsewhere"),
        pytest.param(placed(phase=Phase.ENDED), RUNNING, False, None, id="its end is told"),
    ],
)
def test_what_is_told(run: Run, seen: Seen, ready: bool, told: Seen | None) -> None:
    change = judge(run, seen, results_ready=ready)
    assert change == (None if told is None else Change(run, told, collect=ready))


def test_the_same_end_is_told_again_until_it_is_remembered() -> None:
    end = Seen(status=Status.COMPLETE, exit_code=0, ref="7")
    assert judge(placed(seen=end), end, results_ready=False) == Change(placed(seen=end), end)


def test_a_run_is_lost_only_after_many_looks_over_a_while() -> None:
    run = placed()
    for number in range(MISSING_LOOKS - 1):
        run = missed(run, NOW + timedelta(seconds=number))
    long_after = NOW + MISSING_FOR + timedelta(seconds=1)
    assert not lost(run, long_after)
    run = missed(run, NOW + timedelta(seconds=MISSING_LOOKS))
    assert not lost(run, NOW + MISSING_FOR - timedelta(seconds=1))
    assert lost(run, long_after)


@pytest.mark.parametrize(("desired", "status"), [("run", Status.ERROR), ("pause", Status.ERROR), ("stop", Status.ABORTED)])
def test_how_a_lost_run_ends(desired: str, status: Status) -> None:
    seen = lost_seen(placed(desired=desired, missing_looks=6), "pool")
    assert seen.status is status
    assert "pool" in seen.message


@pytest.mark.parametrize(
    ("desired", "sent_before_s", "wanted_before_s", "seen", "again"),
    [
        ("stop", 11, 60, RUNNING, True),
        ("stop", 9, 60, RUNNING, False),
        ("stop", None, 11, RUNNING, True),
        ("stop", None, 9, RUNNING, False),
        ("stop", 60, 60, Seen(status=Status.COMPLETE), False),
        ("run", 60, 60, RUNNING, False),
    ],
)
def test_a_run_that_is_to_end_is_told_again(desired: str, sent_before_s: int | None, wanted_before_s: int, seen: Seen, again: bool) -> None:
    assert timedelta(seconds=10) == STOP_AGAIN_AFTER
    sent = None if sent_before_s is None else NOW - timedelta(seconds=sent_before_s)
    run = placed(desired=desired, stop_sent_at=sent, desired_at=NOW - timedelta(seconds=wanted_before_s))
    assert stop_again(run, seen, NOW) is again


ANEW = DaskSpec(function="math:sqrt", on_lost="resubmit")


@pytest.mark.parametrize(
    ("run", "spec", "again"),
    [
        pytest.param(placed(), {"dask": ANEW}, True, id="asked for"),
        pytest.param(placed(), {"dask": DaskSpec(function="math:sqrt")}, False, id="not asked for"),
        pytest.param(placed(), {"condor": CondorSpec(executable="a")}, False, id="HTCondor keeps its queue on a disk"),
        pytest.param(placed(desired="stop"), {"dask": ANEW}, False, id="to be stopped"),
        pytest.param(placed(desired="pause"), {"dask": ANEW}, False, id="to be held"),
        pytest.param(placed(seen=Seen(restarts=MOST_RESTARTS - 1)), {"dask": ANEW}, True, id="often begun"),
        pytest.param(placed(seen=Seen(restarts=MOST_RESTARTS)), {"dask": ANEW}, False, id="too often begun"),
    ],
)
def test_a_lost_run_begins_again_if_its_owner_wants_it(run: Run, spec: dict[str, object], again: bool) -> None:
    job = msgspec.convert({"job_id": run.job_id, "name": "x", "user": "a", "label": "l", "job_type": "DASK"}, JobCreated)
    assert begins_again(run, msgspec.structs.replace(job, **spec)) is again


def test_a_run_that_begins_again_waits_and_counts_one_more_execution() -> None:
    seen = again_seen(placed(seen=Seen(status=Status.RUNNING, restarts=2, ref="7")), "dask")
    assert (seen.status, seen.restarts, seen.ref) == (Status.SUBMITTED, 3, "7")
    assert "dask has lost the run" in seen.message
