"""What we say of runs: the same ids for the same words, and what the fold makes of them."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from jobledger_contracts.envelope import Event, Record, decode, encode
from jobledger_contracts.ids import partition_for
from jobledger_contracts.job import evolve, initial_state
from jobledger_contracts.job_events import ExecuteRequested, JobCreated, ResultFile
from jobledger_contracts.statuses import Status
from jobledger_contracts.topics import JOBS, MAX_RECORD_BYTES
from jobledger_contracts.verdicts import Reason
from jobledger_schedulers.domain import reports
from jobledger_schedulers.domain.runs import Phase, Seen
from tests.support.events import BEGIN, event
from tests.support.runs import JOB, NOW, a_run

RUN = a_run(phase=Phase.PLACED, ref="7", correlation_id="story", causation_id="request")
RUNNING = Seen(status=Status.RUNNING, message="running", ref="7")


def asked_to_run():  # type: ignore[no-untyped-def]
    state = initial_state(JOB)
    created = JobCreated(job_id=JOB, name="Flood", user="ada", label="hydro", job_type="CONDOR", scheduler="pool")
    for said in (event(created), event(ExecuteRequested(job_id=JOB))):
        state, _ = evolve(state, said)
    return state


def readable(said: Event) -> Event:
    key, value, headers = encode(said)
    return decode(Record(JOBS, partition_for(key, 4), 0, 0, key, value, headers), 4)


def test_saying_it_again_is_a_duplicate() -> None:
    state, first = evolve(asked_to_run(), reports.changed(RUN, RUNNING, NOW))
    _, again = evolve(state, reports.changed(RUN, RUNNING, NOW + timedelta(seconds=5)))
    assert first.applied
    assert again.reason is Reason.SAME_EVENT


def test_a_run_that_is_suspended_twice_is_told_of_twice() -> None:
    state, run, said = asked_to_run(), RUN, []
    for number, status in enumerate((Status.RUNNING, Status.PAUSED, Status.RUNNING, Status.PAUSED)):
        seen = Seen(status=status, ref="7")
        now = NOW + timedelta(seconds=number)
        state, verdict = evolve(state, reports.changed(run, seen, now))
        said.append(verdict.applied)
        run = msgspec.structs.replace(run, seen=seen, reports=run.reports + 1, reported_at=now)
    assert said == [True] * 4


def test_a_clock_that_goes_back_makes_no_report_late() -> None:
    run = msgspec.structs.replace(RUN, reported_at=NOW, reports=1)
    state, _ = evolve(asked_to_run(), reports.changed(RUN, Seen(ref="7", message="waiting"), NOW))
    _, verdict = evolve(state, reports.changed(run, RUNNING, NOW - timedelta(hours=1)))
    assert verdict.applied


def test_the_handle_is_known_even_when_the_first_report_came_second() -> None:
    state, _ = evolve(asked_to_run(), reports.changed(RUN, RUNNING, NOW))
    state, late = evolve(state, reports.submitted(RUN, "7", NOW))
    assert state.scheduler_job_ref == "7"
    assert not late.applied


def test_what_the_run_says_of_itself_stays_when_we_have_nothing_to_say() -> None:
    said = readable(reports.changed(RUN, Seen(status=Status.RUNNING, ref="7"), NOW))
    assert said.data.message is None
    run = msgspec.structs.replace(RUN, seen=Seen(status=Status.PAUSED, message="held", ref="7"))
    assert readable(reports.changed(run, Seen(status=Status.RUNNING, ref="7"), NOW)).data.message == ""


def test_reports_carry_on_the_story_of_the_request() -> None:
    said = reports.submitted(RUN, "7", NOW)
    assert (said.correlation_id, said.causation_id, said.source) == ("story", "request", "/jobledger/schedulers/pool")


@pytest.mark.parametrize(
    "evidence",
    [{"reason": "a\0b"}, {"deep": {"list": ["\0"]}}, {"much": "x" * 1_000_000}, {"number": 2**63}],
)
def test_whatever_a_scheduler_says_can_be_read_by_all(evidence: dict[str, object]) -> None:
    seen = Seen(status=Status.ERROR, message="x\0" * 9000, ref="7")
    said = readable(reports.ended(RUN, seen, BEGIN, evidence))
    assert len(said.data.message) <= reports.MESSAGE_CHARS
    assert len(msgspec.json.encode(said.data)) < 100_000


def test_many_files_are_told_in_several_events_each_of_which_the_log_takes() -> None:
    files = [ResultFile(path=f"run-1/{'f' * 300}{number}", size=1, sha256="0" * 64) for number in range(5000)]
    said = reports.collected(RUN, files, ["lost.txt"], NOW)
    assert [file for one in said for file in readable(one).data.files] == files
    assert len(said) > 1
    assert all(len(encode(one)[1]) < MAX_RECORD_BYTES * 9 // 10 for one in said)
    assert [one.data.missing for one in said] == [["lost.txt"], *[[] for _ in said[1:]]]
    assert len({one.id for one in said}) == len(said)


def test_no_file_at_all_is_told_as_well() -> None:
    [said] = reports.collected(RUN, [], [], NOW)
    assert said.data.files == []
