"""Group commit, on a producer whose acks the test gives."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest

from jobledger_kit.writer import PartitionWriter

pytestmark = pytest.mark.anyio


class Metadata(NamedTuple):
    offset: int


class Batch(list[bytes]):
    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def append(self, *, key: bytes, value: bytes, headers: Any, timestamp: Any) -> object | None:  # type: ignore[override]
        if len(self) == self._most:
            return None
        super().append(value)
        return object()


class Producer:
    """Keeps batches until the test acknowledges them."""

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self.sent: list[tuple[list[bytes], asyncio.Future[Metadata]]] = []
        self.arrived = asyncio.Condition()

    def create_batch(self) -> Batch:
        return Batch(self._most)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        future: asyncio.Future[Metadata] = asyncio.get_running_loop().create_future()
        self.sent.append((list(batch), future))
        async with self.arrived:
            self.arrived.notify_all()
        return future

    async def batch(self, number: int) -> tuple[list[bytes], asyncio.Future[Metadata]]:
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.sent) >= number)
        return self.sent[number - 1]


def writer_on(producer: Producer) -> PartitionWriter:
    async def ready() -> Any:
        return producer

    return PartitionWriter("topic", 0, ready)


async def test_what_comes_while_a_batch_is_on_its_way_travels_in_the_next() -> None:
    producer = Producer()
    writer = writer_on(producer)
    first = writer.add(b"k", b"1", [])
    values, acked = await producer.batch(1)
    others = [writer.add(b"k", str(n).encode(), []) for n in (2, 3, 4)]
    assert (values, len(producer.sent)) == ([b"1"], 1)
    acked.set_result(Metadata(7))
    values, acked = await producer.batch(2)
    acked.set_result(Metadata(8))
    assert values == [b"2", b"3", b"4"]
    assert [await entry.offset for entry in (first, *others)] == [7, 8, 9, 10]


async def test_a_full_batch_leaves_the_rest_to_the_next_in_order() -> None:
    producer = Producer(most=2)
    writer = writer_on(producer)
    entries = [writer.add(b"k", str(n).encode(), []) for n in range(5)]
    for number, size in ((1, 2), (2, 2), (3, 1)):
        values, acked = await producer.batch(number)
        assert len(values) == size
        acked.set_result(Metadata(sum(len(v) for v, _ in producer.sent[: number - 1])))
    assert [await entry.offset for entry in entries] == [0, 1, 2, 3, 4]
    await writer.settle()


async def test_a_batch_that_fails_fails_for_all_that_were_in_it_and_nobody_else() -> None:
    producer = Producer()
    writer = writer_on(producer)
    first = writer.add(b"k", b"1", [])
    _, acked = await producer.batch(1)
    second = writer.add(b"k", b"2", [])
    acked.set_exception(OSError("cut"))
    with pytest.raises(OSError, match="cut"):
        await first.offset
    _, acked = await producer.batch(2)
    acked.set_result(Metadata(3))
    assert (first.sent, await second.offset) == (True, 3)


async def test_what_is_taken_back_in_time_is_never_sent() -> None:
    producer = Producer()
    writer = writer_on(producer)
    writer.add(b"k", b"1", [])
    _, acked = await producer.batch(1)
    taken_back, kept = writer.add(b"k", b"2", []), writer.add(b"k", b"3", [])
    taken_back.offset.cancel()
    acked.set_result(Metadata(0))
    values, acked = await producer.batch(2)
    acked.set_result(Metadata(1))
    assert (values, taken_back.sent, await kept.offset) == ([b"3"], False, 1)


async def test_without_a_producer_everybody_is_told_and_later_ones_try_again() -> None:
    producer, away = Producer(), True

    async def ready() -> Any:
        if away:
            raise ConnectionError("away")
        return producer

    writer = PartitionWriter("topic", 0, ready)
    failed = [writer.add(b"k", b"1", []), writer.add(b"k", b"2", [])]
    for entry in failed:
        with pytest.raises(ConnectionError):
            await entry.offset
    away = False
    again = writer.add(b"k", b"1", [])
    _, acked = await producer.batch(1)
    acked.set_result(Metadata(0))
    assert ([entry.sent for entry in failed], await again.offset) == ([False, False], 0)
