"""Which errors pass by themselves: a scheduler, the log or the database that is away or will not have us for now.

A scheduler that does not let us in is among them: its runs are not to blame, and somebody will mend the credentials.
"""

from __future__ import annotations

from typing import Final

from jobledger_kit.database import DATABASE_AWAY
from jobledger_kit.errors import OutcomeUnknown, Unavailable

from .adapters.port import SchedulerError

TROUBLES: Final[tuple[type[Exception], ...]] = (SchedulerError, Unavailable, OutcomeUnknown, *DATABASE_AWAY)


def in_words(error: Exception) -> str:
    """What went wrong, for logs and for people."""
    return str(error) or type(error).__name__
