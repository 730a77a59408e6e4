"""What follows from a failed attempt at processing results."""

from __future__ import annotations

from jobledger_jobs.domain.processing import LONGEST_RETRY_S, MESSAGE_CHARS, outlook


def test_the_wait_doubles_up_to_a_bound_and_ends_with_the_attempts() -> None:
    waits = [outlook(n, "no", hopeless=False, attempts=9, first_retry_s=10.0).retry_after_s for n in range(1, 11)]
    assert waits == [10, 20, 40, 80, 160, LONGEST_RETRY_S, LONGEST_RETRY_S, LONGEST_RETRY_S, None, None]


def test_what_is_hopeless_is_not_tried_again() -> None:
    assert outlook(1, "not allowed", hopeless=True, attempts=9, first_retry_s=10.0).message == "Processing its results failed: not allowed"


def test_a_long_error_is_cut_in_the_message() -> None:
    assert len(outlook(1, "x" * 8000, hopeless=False, attempts=5, first_retry_s=1.0).message) < MESSAGE_CHARS + 200
