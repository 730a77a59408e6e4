"""What a fold says of an event."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """Every folded event gets exactly one of these, and stays in the history with it."""

    APPLIED = "applied"  #: it took effect
    DUPLICATE = "duplicate"  #: it was said before
    SUPERSEDED = "superseded"  #: a late or stale report, or one that says nothing new
    REFUSED = "refused"  #: not allowed from where the stream stands


class Reason(StrEnum):
    """Why an event did not take effect. APPLIED has none."""

    NONE = ""
    SAME_EVENT = "same_event"  #: an event with this source and id was folded already
    SAME_CONTENT = "same_content"  #: created again with the same content
    OTHER_CONTENT = "other_content"  #: created again under the same id with other content
    UNKNOWN = "unknown"  #: nothing was created under this key
    DELETED = "deleted"  #: it was deleted
    NOT_STARTED = "not_started"  #: there is no run yet
    ALREADY_STARTED = "already_started"  #: there is a run already
    STILL_ACTIVE = "still_active"  #: the run has not ended
    RUN_ENDED = "run_ended"  #: the run ended before
    OLD_RUN = "old_run"  #: about an earlier run
    OLD_ATTEMPT = "old_attempt"  #: about an attempt at processing the results that another one has taken the place of
    UNKNOWN_RUN = "unknown_run"  #: about a run that was never asked for
    LATE = "late"  #: the reporter, or the run's later life, has been heard of since
    STEP_BACK = "step_back"  #: would lead back to a status that the run has left
    UNCHANGED = "unchanged"  #: says what is known already
    NOT_PAUSED = "not_paused"  #: nothing is held
    FIXED = "fixed"  #: this cannot change any more


class Verdict(msgspec.Struct, frozen=True):
    """The outcome, and the reason when it is not APPLIED."""

    outcome: Outcome
    reason: Reason = Reason.NONE

    @property
    def applied(self) -> bool:
        return self.outcome is Outcome.APPLIED


APPLIED = Verdict(Outcome.APPLIED)


def duplicate(reason: Reason) -> Verdict:
    return Verdict(Outcome.DUPLICATE, reason)


def superseded(reason: Reason) -> Verdict:
    return Verdict(Outcome.SUPERSEDED, reason)


def refused(reason: Reason) -> Verdict:
    return Verdict(Outcome.REFUSED, reason)
