"""Which runs there are, what is wanted of them and what is to be done: what follows from the log alone."""

from __future__ import annotations

from typing import Any

import pytest

from jobledger_contracts import job_events as e
from jobledger_contracts.ids import run_id
from jobledger_kit.folds import Folded, fold_log
from jobledger_schedulers.projection import ReportedByUs, RunBegun, Wanted, project
from jobledger_schedulers.reactors import asked, react
from tests.support.events import event, records_of
from tests.support.runs import JOB

OURS = "/jobledger/schedulers/pool"
CREATED = e.JobCreated(job_id=JOB, name="Flood", user="ada", label="hydro", job_type="CONDOR", scheduler="pool")
BASIC = e.JobCreated(job_id=JOB, name="Flood", user="ada", label="hydro", job_type="BASIC")
EXECUTE, STOP = e.ExecuteRequested(job_id=JOB), e.StopRequested(job_id=JOB, reason="enough")
PAUSE, RESUME, AGAIN = e.PauseRequested(job_id=JOB), e.ResumeRequested(job_id=JOB), e.ResubmitRequested(job_id=JOB)
REFRESH = e.RefreshRequested(job_id=JOB)
END = e.StatusChanged(job_id=JOB, status="Complete", run=1, exit_code=0)


def folded(*said: Any) -> list[Folded]:
    """Fold a log of these; a pair is data and its source."""
    events = [event(one[0], source=one[1], at_s=n) if isinstance(one, tuple) else event(one, at_s=n) for n, one in enumerate(said)]
    return fold_log(records_of(events), {"jobledger.jobs": 4}).folded


def changes(*said: Any) -> list[str]:
    words = []
    for f in folded(*said):
        for change in project(f.before, f.after, f.event, f.verdict, f.record.recorded_at):
            if isinstance(change, RunBegun):
                words.append(f"begun {change.run}")
            elif isinstance(change, Wanted):
                words.append(f"{change.run_id[-1]} {change.desired}")
            else:
                assert isinstance(change, ReportedByUs)
                words.append(f"{change.run_id[-1]} reported {change.ref or '-'} {'over' if change.over else 'on'}")
    return words


def effects(*said: Any) -> list[str]:
    return [effect.key.replace(JOB, "job") for f in folded(*said) for effect in react(f)]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param([CREATED], [], id="a job alone is no run"),
        pytest.param([CREATED, EXECUTE], ["begun 1"], id="a run"),
        pytest.param([CREATED, EXECUTE, EXECUTE], ["begun 1"], id="asked for twice"),
        pytest.param([BASIC, EXECUTE, STOP], [], id="a job that reports for itself is none of ours"),
        pytest.param([EXECUTE, CREATED], [], id="too early"),
        pytest.param([CREATED, EXECUTE, STOP, STOP], ["begun 1", "1 stop"], id="stopped"),
        pytest.param([CREATED, EXECUTE, PAUSE, RESUME], ["begun 1", "1 pause", "1 run"], id="paused and resumed"),
        pytest.param([CREATED, EXECUTE, STOP, PAUSE], ["begun 1", "1 stop"], id="what is to end is not paused"),
        pytest.param([CREATED, EXECUTE, (END, OURS), AGAIN], ["begun 1", "1 reported - over", "begun 2"], id="once more"),
        pytest.param(
            [CREATED, EXECUTE, (e.StatusChanged(job_id=JOB, status="Submitted", run=1, scheduler_job_ref="7"), OURS)],
            ["begun 1", "1 reported 7 on"],
            id="our own report",
        ),
        pytest.param([CREATED, EXECUTE, (END, "/jobledger/jobs/callback")], ["begun 1"], id="the run says that it is over"),
        pytest.param(
            [CREATED, EXECUTE, (END, "/jobledger/jobs/callback"), (END, OURS)],
            ["begun 1", "1 reported - over"],
            id="our report of the end counts, though the run said it first",
        ),
        pytest.param(
            [CREATED, EXECUTE, (END, "/jobledger/jobs/callback"), AGAIN, (END, OURS)],
            ["begun 1", "begun 2", "1 reported - over"],
            id="our report of an old run's end",
        ),
        pytest.param([CREATED, EXECUTE, (END, "/jobledger/schedulers/other")], ["begun 1"], id="another scheduler has no say"),
        pytest.param([CREATED, (END, OURS)], [], id="a report of a run that was never asked for"),
    ],
)
def test_what_changes(said: list[Any], expected: list[str]) -> None:
    assert changes(*said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param([CREATED, EXECUTE], ["submit:job.1"], id="submit"),
        pytest.param([CREATED, EXECUTE, EXECUTE], ["submit:job.1"], id="a refused request asks for nothing"),
        pytest.param([BASIC, EXECUTE], [], id="no scheduler of ours"),
        pytest.param([CREATED, EXECUTE, STOP], ["submit:job.1", "stop:job.1"], id="stop"),
        pytest.param(
            [CREATED, EXECUTE, PAUSE, RESUME, PAUSE],
            ["submit:job.1", "pause:job.1:3", "resume:job.1:4", "pause:job.1:5"],
            id="each pause is one of its own",
        ),
        pytest.param([CREATED, EXECUTE, REFRESH, REFRESH], ["submit:job.1", "refresh:job.1:3", "refresh:job.1:4"], id="refresh"),
        pytest.param([CREATED, EXECUTE, (END, OURS), AGAIN], ["submit:job.1", "submit:job.2"], id="resubmit"),
        pytest.param([CREATED, EXECUTE, (END, OURS)], ["submit:job.1"], id="reports ask for nothing"),
    ],
)
def test_what_is_to_be_done(said: list[Any], expected: list[str]) -> None:
    assert effects(*said) == expected


def test_an_effect_says_which_lane_and_stream_it_is_of_and_why() -> None:
    [_, _, stop] = [list(react(f)) for f in folded(CREATED, EXECUTE, STOP)]
    [effect] = stop
    assert (effect.lane, effect.stream, effect.kind) == ("pool", JOB, "stop")
    assert (asked(effect).run_id, asked(effect).reason) == (run_id(JOB, 1), "enough")


def test_a_run_is_what_the_job_was_when_it_was_asked_for() -> None:
    changed = e.JobChanged(job_id=JOB, condor=e.CondorSpec(executable="other.sh"))
    begun = [c for f in folded(CREATED, changed, EXECUTE) for c in project(f.before, f.after, f.event, f.verdict, f.record.recorded_at)]
    [run] = begun
    assert isinstance(run, RunBegun)
    assert run.created.condor == e.CondorSpec(executable="other.sh")
    assert run.causation_id
