"""The fuse lets bursts pass and stops floods."""

from __future__ import annotations

import pytest

from jobledger_kit.deadletters import Fuse
from jobledger_kit.errors import FuseBlown


def test_a_burst_of_garbage_passes() -> None:
    fuse = Fuse()
    for _ in range(10):
        fuse.feed(good=0, bad=60)
        fuse.feed(good=1, bad=0)


def test_too_many_in_a_row_blow_it() -> None:
    fuse = Fuse(consecutive=100)
    fuse.feed(good=5, bad=99)
    with pytest.raises(FuseBlown, match="100 records in a row"):
        fuse.feed(good=0, bad=1)


def test_good_records_start_a_new_row() -> None:
    fuse = Fuse(consecutive=100)
    for _ in range(10):
        fuse.feed(good=0, bad=60)
        fuse.feed(good=1, bad=20)
        fuse.feed(good=100, bad=0)


def test_too_large_a_share_of_a_window_blows_it() -> None:
    fuse = Fuse(consecutive=1000, ratio=0.5, window=200)
    for _ in range(9):
        fuse.feed(good=9, bad=11)
    with pytest.raises(FuseBlown, match="of the last 200"):
        fuse.feed(good=9, bad=11)


def test_old_batches_leave_the_window() -> None:
    fuse = Fuse(consecutive=1000, ratio=0.5, window=100)
    fuse.feed(good=0, bad=90)
    for _ in range(20):
        fuse.feed(good=100, bad=0)
    fuse.feed(good=0, bad=40)


def test_a_window_that_is_not_full_says_nothing() -> None:
    Fuse(consecutive=1000, window=1000).feed(good=1, bad=900)


@pytest.mark.parametrize("bad", [{"consecutive": 0}, {"ratio": 0.0}, {"ratio": 1.5}, {"window": 0}])
def test_settings_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Fuse(**bad)  # type: ignore[arg-type]
