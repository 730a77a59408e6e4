"""The transition table of a job: the fold, the exhaustive test and the diagram in the docs all read it.

Three kinds of events move a job. A *request* asks for something; `REQUESTS` says, for each kind and status, whether it is granted.
A *report* says what was seen; `REPORTS` says to which statuses one may lead within one execution, and `AFTER_RESTART` what is
possible besides when the scheduler has begun the run's execution anew. What a worker says of *processing* a run's results counts while
the run waits for that; `PROCESSING` says what it is worth at other times, and `PROCESSED` where it may lead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .statuses import PROCESSABLE, TERMINAL, Status
from .verdicts import APPLIED, Reason, Verdict, refused, superseded

S = Status

_ENDS = TERMINAL | {S.RESULTS_READY}
_AT_WORK = frozenset({S.RUNNING, S.PAUSED, S.VARIOUS, S.OTHER})

REPORTS: Final[Mapping[Status, frozenset[Status]]] = {
    S.PENDING: frozenset({S.SUBMITTED}) | _AT_WORK | _ENDS,  # only a job that nobody else runs may report without being asked to run
    S.SUBMITTED: frozenset({S.SUBMITTED}) | _AT_WORK | _ENDS,
    S.RUNNING: _AT_WORK | _ENDS,
    S.PAUSED: frozenset({S.SUBMITTED}) | _AT_WORK | _ENDS,  # a released run waits for a machine again
    S.VARIOUS: _AT_WORK | _ENDS,
    S.OTHER: _AT_WORK | _ENDS,
    S.RESULTS_READY: _ENDS,
    S.VARIOUS_COMPLETE: frozenset(),
    S.COMPLETE: frozenset(),
    S.ERROR: frozenset(),
    S.ABORTED: frozenset(),
}

AFTER_RESTART: Final[Mapping[Status, frozenset[Status]]] = {
    status: frozenset({S.SUBMITTED}) if status in _AT_WORK | {S.SUBMITTED} else frozenset() for status in Status
}


def judge_report(status: Status, reported: Status, *, restarted: bool) -> Verdict:
    """Say what a report of `reported` is worth to a run that has `status`."""
    if reported in REPORTS[status] or (restarted and reported in AFTER_RESTART[status]):
        return APPLIED
    if status in TERMINAL:
        return superseded(Reason.RUN_ENDED)
    return superseded(Reason.UNCHANGED if reported is status else Reason.STEP_BACK)


def _row(granted: frozenset[Status], otherwise: Mapping[Status, Reason], default: Reason) -> dict[Status, Verdict]:
    return {status: APPLIED if status in granted else refused(otherwise.get(status, default)) for status in Status}


_LIVE = frozenset({S.SUBMITTED}) | _AT_WORK
_NOT_BEGUN = {S.PENDING: Reason.NOT_STARTED}

REQUESTS: Final[Mapping[str, Mapping[Status, Verdict]]] = {
    "JobChanged": _row(frozenset(Status), {}, Reason.NONE),
    "ExecuteRequested": _row(frozenset({S.PENDING}), {}, Reason.ALREADY_STARTED),
    "StopRequested": _row(_LIVE | {S.RESULTS_READY}, _NOT_BEGUN, Reason.RUN_ENDED),
    "PauseRequested": _row(_LIVE, _NOT_BEGUN, Reason.RUN_ENDED),
    "ResumeRequested": _row(_LIVE, _NOT_BEGUN, Reason.RUN_ENDED),
    "ResubmitRequested": _row(_ENDS, _NOT_BEGUN, Reason.STILL_ACTIVE),
    "RefreshRequested": _row(_LIVE | {S.RESULTS_READY}, _NOT_BEGUN, Reason.RUN_ENDED),
    "JobDeleted": _row(_ENDS | {S.PENDING}, {}, Reason.STILL_ACTIVE),
}
"""Kind of request -> status of the job -> verdict."""

PROCESSING: Final[Mapping[Status, Verdict]] = {
    status: superseded(Reason.RUN_ENDED)
    if status in TERMINAL
    else APPLIED
    if status is S.RESULTS_READY
    else refused(Reason.NOT_STARTED if status is S.PENDING else Reason.STILL_ACTIVE)
    for status in Status
}
"""Status of the job -> verdict on a worker's word, whichever it is."""

PROCESSED: Final[Mapping[str, frozenset[Status]]] = {
    "ResultsProcessingStarted": frozenset({S.RESULTS_READY}),
    "ResultsProcessed": PROCESSABLE,
    "ResultsProcessingFailed": frozenset({S.RESULTS_READY, S.ERROR}),  # to be tried again, or for good
}
"""A worker's word that counts -> the statuses that it may lead to."""
