"""A library that repeats itself is heard once in a while."""

from __future__ import annotations

import logging

from jobledger_kit.clock import ManualClock
from jobledger_kit.repeats import Repeats
from tests.support.events import BEGIN


def heard(repeats: Repeats, name: str, message: str, *args: object) -> str:
    record = logging.LogRecord(name, logging.ERROR, "", 0, message, args, None)
    return record.getMessage() if repeats.filter(record) else ""


def test_the_same_complaint_is_heard_once_in_a_while() -> None:
    clock = ManualClock(BEGIN)
    repeats = Repeats(every_s=60, clock=clock)
    assert heard(repeats, "aiokafka.client", "no node %s", 1) == "no node 1"
    for node in range(5):
        clock.advance(10)
        assert heard(repeats, "aiokafka.client", "no node %s", node) == ""
    clock.advance(10)
    assert heard(repeats, "aiokafka.client", "no node %s", 7) == "no node 7 (and 5 times more since it was last said)"


def test_another_complaint_is_heard() -> None:
    repeats = Repeats(clock=ManualClock(BEGIN))
    assert all((heard(repeats, "aiokafka", "one"), heard(repeats, "aiokafka", "two"), heard(repeats, "aiokafka.conn", "one")))


def test_what_we_say_is_always_heard() -> None:
    repeats = Repeats(clock=ManualClock(BEGIN))
    assert all(heard(repeats, "jobledger_kit.projector", "said") for _ in range(3))
