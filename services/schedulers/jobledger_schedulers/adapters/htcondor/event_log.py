"""HTCondor's event log (EVENT_LOG): chunks of its bytes in, events out. Pure.

An event is a header such as `001 (012.000.000) 2026-11-26 21:00:00 Job executing on host: ...`, lines that say more, and a line `...`.
What begins with anything else is skipped to the next `...`. Source: HTCondor manual, "Job Event Log Codes".
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

MAX_LINE_BYTES: Final = 2**16
BREAK: Final = b"\n...\n"
"""Stands where a part of the log is missing, or another file begins: what was cut off there is over."""
_END: Final = b"..."
_HEADER: Final = re.compile(rb"(\d{3}) \((\d{1,18})\.(\d{1,18})\.(\d{1,18})\) ")


class LogEvent(msgspec.Struct, frozen=True):
    """Something has happened to a job. `number` is HTCondor's event code: 1 executing, 5 terminated, 12 held; there may be new ones."""

    number: int
    cluster: int
    proc: int


class EventLogParser:
    """Reads one log. Events come out when their header is whole; where the pieces are cut makes no difference."""

    def __init__(self) -> None:
        self._rest = b""
        self._within = False  #: an event, or garbage: its end is awaited
        self._too_long = False  #: the line that has begun

    def feed(self, chunk: bytes) -> list[LogEvent]:
        """The events that are whole with `chunk`."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = [event for line in lines if (event := self._line(line)) is not None]
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest, self._too_long = b"", True
        return events

    def _line(self, line: bytes) -> LogEvent | None:
        if self._too_long or len(line) > MAX_LINE_BYTES:
            self._too_long, self._within = False, True
            return None
        line = line.removesuffix(b"\r")
        if line == _END:
            self._within = False
        elif line and not self._within:
            self._within = True
            if header := _HEADER.match(line):
                number, cluster, proc, _ = map(int, header.groups())
                return LogEvent(number, cluster, proc)
        return None
