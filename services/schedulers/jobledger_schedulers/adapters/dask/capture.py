"""What a run prints on its worker, kept for that run alone. Shipped by value with `task.py`: nothing here may need our packages.

The threads of a worker share `sys.stdout`. So it is replaced, once and for ever, by a stream that asks who is writing: a run that
has begun to capture (in its thread, and in what copies its context), or anybody else, whose words go where they always went. What
other processes write, and threads that a run starts by itself, cannot be told apart and is not kept.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

KEPT_BYTES = 512 * 1024
"""Of each stream: so much of its beginning, and so much of its end."""


class Kept:
    """A stream of one run: its beginning and its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._head, self._tail, self.size = bytearray(), bytearray(), 0

    def write(self, text: str) -> int:
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            self.size += len(data)
            room = KEPT_BYTES - len(self._head)
            self._head += data[:room]
            self._tail += data[max(room, 0) :]
            if len(self._tail) > 2 * KEPT_BYTES:
                del self._tail[:-KEPT_BYTES]
        return len(text)

    def read(self, offset: int, max_bytes: int) -> tuple[int, int, bytes]:
        """From where on, the size of all, and a piece; of what was not kept the reader is led to where the end begins."""
        with self._lock:
            tail_begins = self.size - len(self._tail)
            offset = max(0, min(offset, self.size))
            if offset < len(self._head):
                return offset, self.size, bytes(self._head[offset : offset + max_bytes])
            offset = max(offset, tail_begins)
            start = offset - tail_begins
            return offset, self.size, bytes(self._tail[start : start + max_bytes])

    def text(self) -> bytes:
        """All that is kept, with a line that says what is not."""
        with self._lock:
            tail = self._tail[-KEPT_BYTES:]
            dropped = self.size - len(self._head) - len(tail)
            gap = f"\n[{dropped} bytes are left out here]\n".encode() if dropped else b""
            return bytes(self._head) + gap + bytes(tail)


class Shared:
    """In the place of a stream that all threads share."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.run: ContextVar[Kept | None] = ContextVar("jobledger_run", default=None)

    def write(self, text: str) -> Any:
        return (self.run.get() or self.original).write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self.run.get() is None:
            self.original.flush()

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


def _shared(name: str) -> Shared:
    """The stream that tells writers apart, put in place when it is first asked for.

    The process keeps it, not this module: each graph that comes brings its own copy of the module along.
    """
    streams: dict[str, Shared] = vars(sys).setdefault("jobledger_streams", {})
    shared = streams.setdefault(name, Shared(getattr(sys, name)))
    if getattr(sys, name) is shared.original:
        setattr(sys, name, shared)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is shared.original:
                handler.setStream(shared)
    return shared


def _runs() -> dict[str, dict[str, Kept]]:
    runs: dict[str, dict[str, Kept]] = vars(sys).setdefault("jobledger_runs", {})
    return runs


@contextlib.contextmanager
def captured(run_id: str) -> Iterator[dict[str, Kept]]:
    """Keep what is printed here meanwhile, by the names `stdout` and `stderr`."""
    kept = {"stdout": Kept(), "stderr": Kept()}
    _runs()[run_id] = kept
    streams = [(_shared(name), kept[name]) for name in kept]
    tokens = [(shared, shared.run.set(stream)) for shared, stream in streams]
    try:
        yield kept
    finally:
        for shared, token in tokens:
            shared.run.reset(token)
        if _runs().get(run_id) is kept:
            del _runs()[run_id]


def read_output(run_id: str, stream: str, offset: int, max_bytes: int) -> bytes:
    """A piece of what a run of this process has printed: where it begins and how much there is, 8 bytes each, then the piece.

    Empty when the run is not here.
    """
    kept = _runs().get(run_id)
    if kept is None:
        return b""
    begins, size, data = kept[stream].read(offset, max_bytes)
    return struct.pack("<QQ", begins, size) + data
