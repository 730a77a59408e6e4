"""What to do about a run that is to be handed to its scheduler."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from .runs import Phase, Run

DOUBT_AFTER = timedelta(seconds=60)
"""A run that was asked for longer ago than this may have been handed over by somebody whose memory is lost (a new database, an older
release): it is looked up first. On the usual path a run is seconds old, and the look (which may scan a long history) is saved."""


class Step(StrEnum):
    """What comes next for a run on its way to a scheduler."""

    NOTHING = "nothing"  #: it is over
    REPORT = "report"  #: the scheduler has it: say so (again)
    ABORT = "abort"  #: stopped before anybody had it: never hand it over
    LOOK_UP = "look_up"  #: the scheduler may have it: look before anything else
    PLACE = "place"  #: the scheduler cannot have it: hand it over


def next_step(run: Run, now: datetime) -> Step:
    """Decide from the record alone; `LOOK_UP` is followed by `after_look`."""
    if run.phase in (Phase.ENDED, Phase.COLLECTING):
        return Step.NOTHING
    if run.phase is Phase.PLACED:
        return Step.REPORT
    if run.submit_begun_at is not None or now - run.asked_at > DOUBT_AFTER:
        return Step.LOOK_UP
    return Step.ABORT if run.desired == "stop" else Step.PLACE


def after_look(run: Run, *, found: bool) -> Step:
    """Decide once the scheduler has been asked whether it has the run."""
    if found:
        return Step.REPORT
    return Step.ABORT if run.desired == "stop" else Step.PLACE
