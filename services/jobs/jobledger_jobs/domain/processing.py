"""Processing of results: how long to wait before another attempt, when to give up, and what people read of it."""

from __future__ import annotations

import msgspec

LONGEST_RETRY_S = 300.0
MESSAGE_CHARS = 2000


class Outlook(msgspec.Struct, frozen=True):
    """What follows from an attempt that failed: another one after so many seconds, or (None) the end."""

    retry_after_s: float | None
    message: str


def outlook(attempt: int, error: str, *, hopeless: bool, attempts: int, first_retry_s: float) -> Outlook:
    """Judge a failure. The wait doubles from `first_retry_s`, to five minutes at most.

    >>> outlook(3, "ValueError: no", hopeless=False, attempts=5, first_retry_s=10.0)
    Outlook(retry_after_s=40.0, message='Processing its results failed (attempt 3 of 5) and is tried again in 40 s: ValueError: no')
    """
    error = error if len(error) <= MESSAGE_CHARS else error[: MESSAGE_CHARS - 1] + "…"
    if hopeless:
        return Outlook(None, f"Processing its results failed: {error}")
    if attempt >= attempts:
        return Outlook(None, f"Processing its results failed, after {attempts} attempts: {error}")
    wait_s = min(LONGEST_RETRY_S, first_retry_s * 2.0 ** min(attempt - 1, 16))
    return Outlook(wait_s, f"Processing its results failed (attempt {attempt} of {attempts}) and is tried again in {wait_s:g} s: {error}")
