"""The cache of states, gaps between offsets, and waiting times: the small pure parts of the consumer loops."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from jobledger_kit.effects import LONGEST_RETRY_S, backoff_s
from jobledger_kit.pipeline import StateCache
from jobledger_kit.projector import group_id
from jobledger_kit.rawlog import gaps_in


class At(NamedTuple):
    offset: int


def stream(n: int) -> tuple[str, str]:
    return "topic", str(n)


class TestStateCache:
    def test_what_was_put_is_found(self) -> None:
        cache = StateCache(10)
        cache.put({stream(1): "a"})
        assert cache.find([stream(1), stream(2)]) == ({stream(1): "a"}, [stream(2)])

    def test_the_latest_states_are_always_there(self) -> None:
        cache = StateCache(10)
        for n in range(100):
            cache.put({stream(n): n})
            recent = [stream(m) for m in range(max(0, n - 9), n + 1)]
            assert cache.find(recent)[1] == []

    def test_it_holds_at_most_twice_its_size(self) -> None:
        cache = StateCache(10)
        for n in range(1000):
            cache.put({stream(n): n})
        assert len(cache.find([stream(n) for n in range(1000)])[0]) <= 20

    def test_what_is_used_stays(self) -> None:
        cache = StateCache(10)
        cache.put({stream(-1): "used"})
        for n in range(100):
            cache.put({stream(n): n})
            assert stream(-1) in cache.find([stream(-1)])[0]

    def test_a_newer_state_wins(self) -> None:
        cache = StateCache(1)
        cache.put({stream(1): "old"})
        cache.put({stream(1): "new"})
        assert cache.find([stream(1)])[0] == {stream(1): "new"}

    def test_clearing_forgets_everything(self) -> None:
        cache = StateCache(1)
        cache.put({stream(1): "a"})
        cache.put({stream(2): "a"})
        cache.clear()
        assert cache.find([stream(1), stream(2)]) == ({}, [stream(1), stream(2)])


@pytest.mark.parametrize(
    ("offsets", "expected", "gaps"),
    [
        ([5, 6, 7], 5, []),
        ([6, 7], 5, [(5, 6)]),
        ([5, 7, 8, 12], 5, [(6, 7), (9, 12)]),
        ([9], 9, []),
    ],
)
def test_gaps(offsets: list[int], expected: int, gaps: list[tuple[int, int]]) -> None:
    assert gaps_in([At(offset) for offset in offsets], expected) == gaps


def test_backing_off_doubles_to_a_bound() -> None:
    assert [backoff_s(attempt, jitter=0) for attempt in (1, 2, 3, 100)] == [1, 2, 4, LONGEST_RETRY_S]
    assert backoff_s(3, jitter=1) == 3


def test_other_topics_make_another_group() -> None:
    assert group_id("c", ["a", "b"]) == group_id("c", ["b", "a"]) != group_id("c", ["a"])
