"""When a scheduler that answers is degraded, and when it is well again."""

from __future__ import annotations

import pytest

from jobledger_schedulers.domain.condition import CALM, LOOKS, Condition, answered, slow

LIMIT_S = 2.0
SLOW = slow(LIMIT_S)
NO_SLOTS = "no slots"


def after(*looks: tuple[float, list[str] | None], begin: Condition | None = None) -> tuple[str, ...]:
    condition = begin or Condition()
    for took_s, shortages in looks:
        condition = answered(condition, took_s, LIMIT_S, shortages)
    return condition.reasons


@pytest.mark.parametrize(
    ("looks", "reasons"),
    [
        ([(0.1, [])], ()),
        ([(9.0, [])], ()),
        ([(9.0, []), (9.0, [])], (SLOW,)),
        ([(9.0, []), (0.1, []), (9.0, [])], ()),
        ([(0.1, [NO_SLOTS])], ()),
        ([(0.1, [NO_SLOTS]), (0.1, [NO_SLOTS])], (NO_SLOTS,)),
        ([(9.0, [NO_SLOTS]), (9.0, [NO_SLOTS])], (SLOW, NO_SLOTS)),
        ([(9.0, [NO_SLOTS]), (0.1, [NO_SLOTS])], (NO_SLOTS,)),
    ],
)
def test_a_reason_counts_once_it_was_there_twice_in_a_row(looks: list[tuple[float, list[str] | None]], reasons: tuple[str, ...]) -> None:
    assert after(*looks) == tuple(sorted(reasons))


def test_one_good_look_does_not_make_it_well() -> None:
    assert LOOKS == 2
    ill = Condition((NO_SLOTS,))
    assert after((0.1, []), begin=ill) == (NO_SLOTS,)
    assert after((0.1, []), (0.1, [NO_SLOTS]), (0.1, []), begin=ill) == (NO_SLOTS,)
    assert after((0.1, []), (0.1, []), begin=ill) == ()


def test_between_quick_and_slow_stands_what_was_said_before() -> None:
    between = LIMIT_S * (1 + CALM) / 2
    assert after(*[(between, [])] * 5) == ()
    assert after(*[(between, [])] * 5, begin=Condition((SLOW,))) == (SLOW,)
    assert after((9.0, []), (between, []), (9.0, [])) == (SLOW,)


def test_what_could_not_be_asked_stays_as_it_was() -> None:
    ill = Condition((NO_SLOTS,))
    assert after((0.1, None), (0.1, None), (0.1, None), begin=ill) == (NO_SLOTS,)
    assert after((0.1, [NO_SLOTS]), (0.1, None), (0.1, [NO_SLOTS])) == (NO_SLOTS,)
    assert after((0.1, None), (0.1, None)) == ()
