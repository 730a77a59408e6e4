"""Records as nobody should send them, and logs read whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from jobledger_contracts.envelope import Record
from jobledger_kit.rawlog import RawLog

NOT_LEADER = 6  # for a moment, by a broker that is just taking the partition over

RawHeaders = Sequence[tuple[str, bytes | None]]


class _Name(str):
    """A header's name whose bytes are as they are: surrogates stand for bytes that are not UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("utf-8", "surrogateescape")


async def produce_raw(
    bootstrap_servers: str, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes | None, RawHeaders]]
) -> None:
    """Write records as one batch, with any bytes in the names of their headers."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 10**6)
    for offset, (key, value, headers) in enumerate(records):
        builder.append(offset, 0, key, value, [(_Name(name), raw) for name, raw in headers])
    batch = bytes(builder.build())
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
    await client.bootstrap()
    try:
        await client.add_topic(topic)
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        request = ProduceRequest(transactional_id=None, required_acks=-1, timeout=5000, topics=[(topic, [(partition, batch)])])
        for _ in range(50):
            response = await client.send(leader, request)
            [(_, [(_, code, *_)])] = response.topics
            if code != NOT_LEADER:
                break
            await asyncio.sleep(0.1)
        assert code == 0, f"the broker refused it with code {code}"
    finally:
        await client.close()


async def transaction(
    bootstrap_servers: str, name: str, topic: str, records: Sequence[tuple[bytes, bytes, RawHeaders]], *, commit: bool
) -> None:
    """Write records in a transaction, and commit or abort it: its marker leaves a gap between offsets."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=name)
    await producer.start()
    try:
        await producer.begin_transaction()
        for key, value, headers in records:
            await producer.send_and_wait(topic, value, key, headers=list(headers))
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


async def read_log(bootstrap_servers: str, topic: str, *, prefix: str = "") -> tuple[list[Record], int]:
    """Return every committed record of a topic, partition after partition, and how many partitions it has. Stopped by no record."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    try:
        await consumer._client.add_topic(prefix + topic)
        numbers = sorted(consumer.partitions_for_topic(prefix + topic) or ())
        consumer.assign(places := [TopicPartition(prefix + topic, number) for number in numbers])
        consumer.pause(*places)
        ends = await consumer.end_offsets(places)
        raw, found = RawLog(consumer), []
        for place in places:
            offset = 0
            while offset < ends[place]:
                records, following = await raw.read(place, offset)
                found += [Record(topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in records]
                assert following > offset
                offset = following
        return found, len(numbers)
    finally:
        await consumer.stop()
