"""Keeping libraries from saying the same thing at every try: aiokafka logs several errors a second for as long as a broker is away."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from .clock import Clock, SystemClock

EVERY_S: Final = 60.0
MAX_REMEMBERED: Final = 1_000
LOUD: Final = ("aiokafka", "faust", "mode", "kafka")


class Repeats(logging.Filter):
    """Lets each message of the named libraries pass once in a while, with how often it was held back; others pass.

    To be added to a handler: a filter on a logger does not see what its children log. Messages are told apart by logger and template, so
    the same complaint about another node or offset is the same message.
    """

    def __init__(self, names: Sequence[str] = LOUD, every_s: float = EVERY_S, clock: Clock | None = None) -> None:
        super().__init__()
        self._names, self._every_s, self._clock = frozenset(names), every_s, clock or SystemClock()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in self._names:
            return True
        now, what = self._clock.monotonic(), (record.name, str(record.msg))
        at, held_back = self._said.get(what, (None, 0))
        if at is not None and now - at < self._every_s:
            self._said[what] = (at, held_back + 1)
            return False
        if len(self._said) >= MAX_REMEMBERED:
            self._said.clear()
        self._said[what] = (now, 0)
        if held_back:
            record.msg = f"{record.msg} (and {held_back} times more since it was last said)"
        return True
