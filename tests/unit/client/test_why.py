"""How a job came to stand as it does, from its history."""

from __future__ import annotations

import pytest

from jobledger.cli.why import MOST_IN_VAIN, explain, show_explanation
from jobledger.views import HistoryEntry


def entry(number: int, type: str, verdict: str = "applied", actor: str = "user:ada", **data: str) -> HistoryEntry:
    return HistoryEntry(
        position=f"0:{number}", sequence=number, type=type, verdict=verdict, actor=actor, data=data,
        reason="run_ended" if verdict == "superseded" else "",
    )  # fmt: skip


CREATED, EXECUTED = entry(1, "JobCreated"), entry(2, "ExecuteRequested")
RUNNING = entry(3, "StatusChanged", actor="service:schedulers", status="Running")
STOPPED = entry(4, "StopRequested", actor="user:bob", reason="wrong basin")
ABORTED = entry(5, "StatusChanged", actor="service:schedulers", status="Aborted")
LATE = entry(6, "StatusChanged", "superseded", actor="run:x.1", status="Complete")
STORY = [CREATED, EXECUTED, RUNNING, STOPPED, ABORTED, LATE]


def test_who_stopped_it_and_why_is_one_answer(capsys: pytest.CaptureFixture[str]) -> None:
    found = explain(reversed(STORY))
    assert (found.asked, found.seen, found.in_vain) == (STOPPED, ABORTED, [LATE])
    show_explanation(found)
    said = " ".join(capsys.readouterr().out.split())
    assert "StopRequested by bob" in said
    assert "wrong basin" in said
    assert "superseded: run_ended" in said


@pytest.mark.parametrize(
    ("story", "asked", "seen"),
    [([], None, None), ([CREATED], CREATED, None), (STORY[:3], EXECUTED, RUNNING), (STORY[:2], EXECUTED, None)],
)
def test_what_has_not_come_about_is_not_said(story: list[HistoryEntry], asked: HistoryEntry | None, seen: HistoryEntry | None) -> None:
    found = explain(reversed(story))
    assert (found.asked, found.seen, found.in_vain) == (asked, seen, [])


def test_a_refused_request_decides_nothing() -> None:
    refused = entry(7, "StopRequested", "refused", actor="user:eve")
    found = explain([refused, *reversed(STORY[:3])])
    assert (found.asked, found.in_vain) == (EXECUTED, [refused])


def test_it_reads_no_further_than_it_must() -> None:
    def story() -> object:
        yield from [LATE] * (MOST_IN_VAIN + 5)
        yield STOPPED
        raise AssertionError("read on")

    assert len(explain(story()).in_vain) == MOST_IN_VAIN  # type: ignore[arg-type]
