"""`jobledger jobs why`: how a job came to stand as it does, read from its history."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from jobledger.cli.output import local, show_fields
from jobledger.cli.show import says, verdict, who
from jobledger.views import HistoryEntry

REQUESTS = frozenset({"ExecuteRequested", "StopRequested", "PauseRequested", "ResumeRequested", "ResubmitRequested", "JobDeleted"})
"""The events by which somebody asks something of a job; a refresh asks nothing of it."""
MOST_IN_VAIN = 10


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What decided. Of each kind the latest that took effect; None where there was none."""

    asked: HistoryEntry | None = None  #: what was asked, by whom and why
    seen: HistoryEntry | None = None  #: the report that gave the job its status
    in_vain: list[HistoryEntry] = []  #: since it was asked: what did not take effect, latest first, at most so many


def explain(latest_first: Iterable[HistoryEntry]) -> Explanation:
    """Find what decided. Reads no further back than it must."""
    asked: HistoryEntry | None = None
    seen: HistoryEntry | None = None
    in_vain: list[HistoryEntry] = []
    for entry in latest_first:
        if entry.verdict in ("refused", "superseded"):
            in_vain.append(entry)
        elif entry.verdict == "applied" and entry.type == "StatusChanged":
            seen = seen or entry
        elif entry.verdict == "applied" and (entry.type in REQUESTS or entry.type == "JobCreated"):
            asked = entry
            break
    return Explanation(asked=asked, seen=seen, in_vain=in_vain[:MOST_IN_VAIN])


def show_explanation(explanation: Explanation) -> None:
    """Say it in a few lines."""
    fields = [("asked", _line(explanation.asked)), ("seen", _line(explanation.seen))]
    fields += [("in vain", f"{_line(entry)} ({verdict(entry)})") for entry in explanation.in_vain]
    show_fields(fields)


def _line(entry: HistoryEntry | None) -> str:
    if entry is None:
        return ""
    said = says(entry)
    return f"{entry.type} by {who(entry)} at {local(entry.recorded_at)} ({entry.position}){f': {said}' if said else ''}"
