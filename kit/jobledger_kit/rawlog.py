"""Reading the log so that nothing in a record can stop the reader.

Kafka takes any bytes as the name of a header; aiokafka insists on UTF-8, and raises at every poll of that part of the log, having
moved other partitions' positions on. So on such an error all positions go back, and this one stretch is fetched again and decoded
with names whose bytes survive as surrogates (PEP 383): `fold_batch` then refuses the record, and its neighbours are folded.

The same reading answers what a gap between offsets is: transaction markers and aborted records leave gaps, and nothing else may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException, KafkaError, NotLeaderForPartitionError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.structs import ConsumerRecord

from .errors import Broken, CheckpointLost

MAX_FETCH_BYTES: Final = 4 * 1024 * 1024

Polled = dict[TopicPartition, list[ConsumerRecord]]


class LogUnreadable(Broken):
    """The log's bytes are damaged, or the client has skipped records. Nothing after that place is folded."""


class _Text(bytearray):
    """A buffer whose slices, read as text, keep the bytes that are not UTF-8."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return _Text(part) if isinstance(index, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> str:
        return super().decode(encoding, "surrogateescape")


class _Batch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka publishes no types
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Text(self._buffer)


class _Records(_MemoryRecordsPy):  # type: ignore[misc]
    def next_batch(self, *_: Any) -> _Batch:
        raw = self._next_slice
        if raw[self.MAGIC_OFFSET] < 2:
            raise CorruptRecordException("a record batch of a format older than 2")
        self._cache_next()
        return _Batch(raw)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer whole. aiokafka awaits the fetches that it has cancelled: one that was about to try again ends its `stop` half way,
    with a CancelledError that nobody meant for us."""
    task = asyncio.current_task()
    assert task is not None
    meant = task.cancelling()
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        await consumer._client.close()  # noqa: SLF001 - what it had not come to
        if task.cancelling() > meant:
            raise


class RawLog:
    """Fetches through a consumer's own connections, without moving its positions."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def poll(self, expected: Mapping[TopicPartition, int], timeout_ms: int, max_records: int) -> Polled:
        """As `getmany`, for partitions that stand at these offsets, and for any record.

        Raises CheckpointLost when the log no longer has what comes next, LogUnreadable when its bytes are damaged, KafkaError.
        """
        try:
            polled: Polled = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
        except (UnicodeDecodeError, CorruptRecordException):
            return await self.reread(expected)
        return polled

    async def reread(self, expected: Mapping[TopicPartition, int]) -> Polled:
        """Fetch once from each of these places, whatever the records hold, and leave the consumer behind what was found."""
        for tp, offset in expected.items():  # the failed poll may have moved any of them
            self._consumer.seek(tp, offset)
        found = {}
        for tp, offset in expected.items():
            records, following = await self.read(tp, offset)
            if following != offset:
                found[tp] = records
                self._consumer.seek(tp, following)
        return found

    async def read(self, tp: TopicPartition, offset: int) -> tuple[list[ConsumerRecord], int]:
        """Return committed records from an offset on, as many as one fetch brings, and the offset to read on from."""
        client = self._consumer._client  # noqa: SLF001 - the consumer has no public way to fetch beside its positions
        leader = client.cluster.leader_for_partition(tp)
        if leader is None or leader == -1:
            raise NotLeaderForPartitionError(str(tp))
        request = FetchRequest(0, 1, MAX_FETCH_BYTES, READ_COMMITTED, [(tp.topic, [(tp.partition, offset, MAX_FETCH_BYTES)])], rack_id="")
        response = await client.send(leader, request)
        [(_, [(_, code, _, *rest)])] = response.topics
        if (error := for_code(code)) is OffsetOutOfRangeError:
            raise CheckpointLost(tp.topic, tp.partition, offset)
        if code:
            raise error(str(tp))
        aborted = rest[2] if response.API_VERSION >= 11 else rest[-2]
        parts = PartitionRecords(tp, _Records(rest[-1] or b""), aborted, offset, None, None, True, READ_COMMITTED)
        try:
            return list(parts), parts.next_fetch_offset
        except CorruptRecordException as damage:
            raise LogUnreadable(f"{tp.topic}-{tp.partition} cannot be read from offset {parts.next_fetch_offset} on: {damage}") from damage

    async def check_gaps(self, tp: TopicPartition, gaps: Sequence[tuple[int, int]]) -> None:
        """Raise LogUnreadable when a committed record stands in one of these (first, end) gaps: the client has skipped it."""
        offset, end = gaps[0][0], gaps[-1][1]
        while offset < end:
            records, following = await self.read(tp, offset)
            for record in records:
                if any(first <= record.offset < last for first, last in gaps):
                    raise LogUnreadable(f"{tp.topic}-{tp.partition}: the client has skipped the record at offset {record.offset}")
            if following == offset:
                raise KafkaError(f"{tp}: a fetch at {offset} brought nothing, though there are records behind it")
            offset = following


def gaps_in(records: Sequence[ConsumerRecord], expected: int) -> list[tuple[int, int]]:
    """The gaps between offsets, as (first, end): before the first record, which is at `expected` or behind it, and between records."""
    if records[0].offset == expected and records[-1].offset - expected == len(records) - 1:
        return []
    gaps = []
    for record in records:
        if record.offset > expected:
            gaps.append((expected, record.offset))
        expected = record.offset + 1
    return gaps
