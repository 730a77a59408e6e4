"""Following an event log: what it says of our runs is looked at, once for all that has changed in a moment."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from jobledger_contracts.statuses import TERMINAL, Status
from jobledger_schedulers.adapters.htcondor.event_log import BREAK, EventLogParser
from jobledger_schedulers.adapters.port import Handle, Observation, SchedulerError

log = structlog.get_logger()

POLL_INTERVAL_S: Final = 0.2
MOMENT_S: Final = 0.2
"""How long news is gathered before a look; the access point, too, writes its log a little before its queue."""
SECOND_LOOK_S: Final = 0.8
"""An end is in the log before it is in the queue: what was looked at too early is looked at again."""
CHUNK_BYTES: Final = 2**16
REMEMBERED_RUNS: Final = 200_000
QUIET: Final = frozenset({6, 40})
"""Events that change no status: how much memory and disk a job uses, and how far its files have come. All others count, known or not."""

Said = Callable[[str], None]
"""Hears why the log cannot be read; empty: it can."""


class Following:
    """The runs of one adapter in an event log. `chunks` follows it for ever; `look` is a look at runs, as `observe` has it."""

    def __init__(
        self,
        where: str,
        chunks: Callable[[Said], AsyncIterator[bytes]],
        look: Callable[[Sequence[str]], Awaitable[list[Observation]]],
    ) -> None:
        self._where, self._chunks, self._look = where, chunks, look
        self._runs: dict[int, str] = {}  #: cluster -> run id
        self._statuses: dict[str, Status] = {}  #: run id -> what it was last seen to be, until it is over
        self._changed: set[str] = set()
        self._news = asyncio.Event()
        self.trouble = ""  #: why the log cannot be read now

    def know(self, seen: Handle | Observation) -> None:
        """A run has this cluster, until it is over."""
        if isinstance(seen, Observation) and (seen.gone or seen.status is None or seen.status in TERMINAL):
            self._statuses.pop(seen.run_id, None)
            if seen.ref.isdigit():
                self._runs.pop(int(seen.ref), None)
        elif seen.ref.isdigit():
            if len(self._runs) > REMEMBERED_RUNS:  # of removed and lost ones, over many months
                self._runs.clear()
                self._statuses.clear()
            self._runs[int(seen.ref)] = seen.run_id
            if isinstance(seen, Observation) and seen.status is not None:
                self._statuses[seen.run_id] = seen.status

    async def observations(self) -> AsyncIterator[Observation]:
        """What is seen of runs whenever the log speaks of them, for ever. One reader."""
        reading = asyncio.create_task(self._read(), name="event log")
        reading.add_done_callback(lambda _: self._news.set())
        again: set[str] = set()
        try:
            while True:
                try:
                    async with asyncio.timeout(SECOND_LOOK_S if again else None):
                        await self._news.wait()
                    await asyncio.sleep(MOMENT_S)
                except TimeoutError:
                    pass
                if reading.done():
                    reading.result()  # raises: a log is followed for ever
                fresh, self._changed = self._changed, set()
                self._news.clear()
                before = {run: self._statuses.get(run) for run in fresh}
                try:
                    seen = await self._look(sorted(fresh | again))
                except SchedulerError as error:
                    log.debug("What an event log says could not be followed up", log=self._where, error=str(error))
                    seen = []
                again = {run for run in fresh if before[run] is not None and self._statuses.get(run) == before[run]} if seen else set()
                for observation in seen:
                    yield observation
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        parser = EventLogParser()
        async for chunk in self._chunks(self._said):
            for event in parser.feed(chunk):
                if event.number not in QUIET and (run := self._runs.get(event.cluster)) is not None:
                    self._changed.add(run)
                    self._news.set()

    def _said(self, trouble: str) -> None:
        if trouble and not self.trouble:
            log.warning("An event log cannot be read: its scheduler is looked at every few seconds only", log=self._where, error=trouble)
        elif self.trouble and not trouble:
            log.info("An event log can be read again", log=self._where)
        self.trouble = trouble


class LogFile:
    """A log on this machine, read from where it ends now; when it is moved away, the one that takes its place is read from its beginning.

    Its methods block.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._from_the_end = True

    def read(self) -> bytes:
        """What is new, if anything. Raises OSError when there is no log that can be read."""
        if self._file is None:
            try:
                self._open()
            finally:
                self._from_the_end = False
        assert self._file is not None
        if chunk := self._file.read(CHUNK_BYTES):
            return chunk
        mine = os.fstat(self._file.fileno())
        try:
            there: os.stat_result | None = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            last = self._file.read()
            self.close()
            return last + BREAK
        if there.st_size < self._file.tell():
            self._file.seek(0)
            return BREAK
        return b""

    def _open(self) -> None:
        if not stat.S_ISREG(self._path.stat().st_mode):
            raise OSError("it is no ordinary file")
        self._file = self._path.open("rb", buffering=0)
        if self._from_the_end:
            self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Let go of it."""
        if self._file is not None:
            self._file.close()
            self._file = None


async def follow_file(path: Path, said: Said) -> AsyncIterator[bytes]:
    """A log on this machine from now on, for ever, in chunks; BREAK stands between one file and the next."""
    file = LogFile(path)
    try:
        while True:
            try:
                chunk = await asyncio.to_thread(file.read)
            except OSError as error:
                said(error.strerror or str(error))
                file.close()
                chunk = b""
            else:
                said("")
            if chunk:
                yield chunk
            else:
                await asyncio.sleep(POLL_INTERVAL_S)
    finally:
        file.close()
