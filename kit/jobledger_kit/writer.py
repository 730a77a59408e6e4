"""Group commit: what is published while a partition's last batch is on its way travels together in the next one.

aiokafka's own `send` handles each record by itself, and with many callers that is most of what a durable write costs us. Here a lone
caller waits for nobody, and sixty-four share one request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import aiokafka
import msgspec

MAX_BATCH_BYTES: Final = 512 * 1024
"""Of one batch; a larger record travels alone."""

Producer = Callable[[], Awaitable[aiokafka.AIOKafkaProducer]]


class Entry(msgspec.Struct, eq=False):
    """A record that waits for its offset."""

    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    offset: asyncio.Future[int]  #: or what the batch failed with
    sent: bool = False  #: from now on the log may have it


class PartitionWriter:
    """Writes one partition, in the order of `add`, one batch at a time. `producer` gives the one that is in use, connected."""

    def __init__(self, topic: str, partition: int, producer: Producer) -> None:
        self._topic, self._partition, self._producer = topic, partition, producer
        self._waiting: deque[Entry] = deque()
        self._task: asyncio.Task[None] | None = None

    def add(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> Entry:
        """Queue a record. Cancel its `offset` to take it back, as long as it was not sent."""
        entry = Entry(key, value, headers, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if self._task is None:
            self._task = asyncio.create_task(self._write(), name=f"write {self._topic}-{self._partition}")
        return entry

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        while self._task is not None:
            await asyncio.wait((self._task,))

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._write_batch()
        finally:
            self._task = None

    async def _write_batch(self) -> None:
        """Send what fits into one batch. Whatever goes wrong is told to those who wait for it."""
        taken: list[Entry] = []
        try:
            producer = await self._producer()
            batch = producer.create_batch()
            while self._waiting:
                entry = self._waiting[0]
                if not entry.offset.done():
                    if batch.append(key=entry.key, value=entry.value, headers=entry.headers, timestamp=None) is None:
                        break
                    taken.append(entry)
                self._waiting.popleft()
            if not taken:
                return
            for entry in taken:
                entry.sent = True
            metadata = await (await producer.send_batch(batch, self._topic, partition=self._partition))
            for index, entry in enumerate(taken):
                _tell(entry.offset, metadata.offset + index if metadata.offset >= 0 else -1)
        except BaseException as error:
            for entry in taken or self._waiting:
                _fail(entry.offset, error)
            if not taken:
                self._waiting.clear()
            if not isinstance(error, Exception):
                raise


def _tell(future: asyncio.Future[int], offset: int) -> None:
    if not future.done():
        future.set_result(offset)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
        future.exception()  # whoever waits gets it; when nobody waits any more, it is of no interest
