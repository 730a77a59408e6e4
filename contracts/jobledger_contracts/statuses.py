"""The statuses of a job: Tethys Platform's names and codes, which apps already know."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """A job's status. The value is the name that people see and that events carry."""

    PENDING = "Pending"  #: created, not yet asked to run
    SUBMITTED = "Submitted"  #: asked to run; waiting in a scheduler's queue or on the way there
    RUNNING = "Running"  #: executing
    PAUSED = "Paused"  #: held or suspended
    VARIOUS = "Various"  #: several processes or nodes that differ
    VARIOUS_COMPLETE = "Various-Complete"  #: all processes or nodes have ended, not all of them well
    RESULTS_READY = "Results-Ready"  #: the computation is over, its results are not processed yet
    COMPLETE = "Complete"  #: ended well
    ERROR = "Error"  #: ended badly
    ABORTED = "Aborted"  #: stopped on request
    OTHER = "Other"  #: a status of the job's own; its text is kept beside

    @property
    def code(self) -> str:
        """The three-letter code, such as `RUN`."""
        return CODES[self]


CODES: dict[Status, str] = {
    Status.PENDING: "PEN",
    Status.SUBMITTED: "SUB",
    Status.RUNNING: "RUN",
    Status.PAUSED: "PAS",
    Status.VARIOUS: "VAR",
    Status.VARIOUS_COMPLETE: "VCP",
    Status.RESULTS_READY: "RES",
    Status.COMPLETE: "COM",
    Status.ERROR: "ERR",
    Status.ABORTED: "ABT",
    Status.OTHER: "OTH",
}

TERMINAL = frozenset({Status.COMPLETE, Status.ERROR, Status.ABORTED, Status.VARIOUS_COMPLETE})
"""A run that has one of these never leaves it."""

FINISHED = TERMINAL | {Status.RESULTS_READY}
"""The computation is over. Results-Ready still has its processing before it."""

ACTIVE = frozenset({Status.SUBMITTED, Status.RUNNING, Status.PAUSED, Status.VARIOUS, Status.OTHER})
"""A scheduler, or the job itself, is at work on a run."""

PROCESSABLE = frozenset({Status.COMPLETE, Status.VARIOUS_COMPLETE})
"""Ends that leave results worth processing. A run takes one of these only after that, when its job names a function for it."""

_BY_TEXT = {text.lower(): status for status in Status for text in (status.value, CODES[status])}


def parse_status(text: str) -> tuple[Status, str]:
    """Read a name or a code in any case; whatever else it says is a custom status: OTHER with its text.

    >>> parse_status("RUN"), parse_status("Calibrating")
    ((<Status.RUNNING: 'Running'>, ''), (<Status.OTHER: 'Other'>, 'Calibrating'))
    """
    known = _BY_TEXT.get(text.strip().lower())
    return (known, "") if known else (Status.OTHER, text.strip())
