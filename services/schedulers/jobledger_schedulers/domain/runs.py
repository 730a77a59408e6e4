"""A run as this service knows it: what was asked of it, and what was seen of it.

A run goes through four phases:

    asked -> placed -> collecting -> ended
      |  ^      |                      ^
      |  +------+ lost, and its owner wants it done again
      +---------+----------------------+

`asked`: to be handed to its scheduler. `placed`: the scheduler has it, and each sweep looks at it. `collecting`: it is over there, and
its output is on its way into the workspace. `ended`: its end is reported; nothing remains to be done.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from jobledger_contracts.job_events import Resources
from jobledger_contracts.statuses import TERMINAL, Status


class Phase(StrEnum):
    """Where a run is in its life, as far as this service is concerned."""

    ASKED = "asked"
    PLACED = "placed"
    COLLECTING = "collecting"
    ENDED = "ended"


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one look at a run showed. The last one that was reported is kept, to tell what is new."""

    status: Status = Status.SUBMITTED
    restarts: int = 0
    message: str = ""
    exit_code: int | None = None
    exit_signal: int | None = None
    ref: str = ""
    progress: float | None = None
    resources: Resources | None = None  #: only of a run that is over: they change with every look

    @property
    def over(self) -> bool:
        """The scheduler will not go on with the run."""
        return self.status in TERMINAL


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as its row has it."""

    run_id: str
    job_id: str
    run: int
    scheduler: str
    desired: str  #: what its owner wants: run, pause or stop
    asked_at: datetime  #: when the log got the request to run it
    desired_at: datetime  #: when it was last said what is wanted
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""

    phase: Phase = Phase.ASKED
    ref: str = ""
    submit_begun_at: datetime | None = None  #: set before the scheduler is first asked: from then on it may have the run
    stop_sent_at: datetime | None = None
    seen: Seen | None = None  #: the last look that was reported
    reports: int = 0  #: how many looks were reported
    reported_at: datetime | None = None
    missing_since: datetime | None = None
    missing_looks: int = 0
    ending: Seen | None = None  #: how it ended, while its output is collected
    collect_attempts: int = 0
