"""How long to wait before trying again."""

from __future__ import annotations


def delay_s(failures: int, randomness: float, *, first_s: float = 1.0, most_s: float = 60.0) -> float:
    """Double from `first_s` to `most_s`, spread over the upper half by `randomness` (0 to 1), so that not all try at the same moment.

    >>> delay_s(1, 1.0), delay_s(3, 1.0), delay_s(3, 0.0), delay_s(99, 1.0)
    (1.0, 4.0, 2.0, 60.0)
    """
    whole = min(most_s, first_s * 2.0 ** min(max(failures, 1) - 1, 30))
    return whole * (0.5 + 0.5 * randomness)
