"""Whether a scheduler that answers is well. Pure.

It is degraded when it answers slowly, or lacks what runs need. One bad look proves nothing (a collector that was just restarted knows
no slots yet), and one good look does not either: so a reason counts once it was there in `LOOKS` looks in a row, and until it was gone
in as many.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

LOOKS = 2
CALM = 0.5
"""Of the slow threshold: below it an answer counts as quick again. Between the two, what was said before stands."""


class Condition(msgspec.Struct, frozen=True):
    """What the looks so far come to."""

    reasons: tuple[str, ...] = ()  #: why it is degraded, sorted; none: it is well
    streaks: Mapping[str, int] = {}  #: reason -> looks in a row that say otherwise than `reasons`

    def after(self, found: Collection[str], unknown: Collection[str] = ()) -> Condition:
        """The condition after another look that found these reasons. Those in `unknown` could not be looked for: they stay as they are."""
        reasons, streaks = set(self.reasons), {}
        for reason in {*self.reasons, *self.streaks, *found}:
            if reason in unknown:
                if reason in self.streaks:
                    streaks[reason] = self.streaks[reason]
                continue
            if (reason in found) == (reason in reasons):
                continue
            streak = self.streaks.get(reason, 0) + 1
            if streak < LOOKS:
                streaks[reason] = streak
            else:
                reasons ^= {reason}
        return Condition(tuple(sorted(reasons)), streaks)


def slow(limit_s: float) -> str:
    """The reason of a scheduler that answers slowly; the same words each time."""
    return f"it takes more than {limit_s:g} s to answer"


def answered(condition: Condition, took_s: float, limit_s: float, shortages: Collection[str] | None) -> Condition:
    """The condition after an answer that took so long. `shortages` is None when it did not say what it lacks."""
    reason = slow(limit_s)
    found, unknown = set(shortages or ()), set()
    if took_s > limit_s:
        found.add(reason)
    elif took_s > limit_s * CALM:
        unknown.add(reason)
    if shortages is None:
        unknown |= {known for known in (*condition.reasons, *condition.streaks) if known != reason}
    return condition.after(found, unknown)
