"""The log itself, read by a plain consumer that knows nothing of our services."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from jobledger_contracts.envelope import Record


def read_topic(bootstrap_servers: str, topic: str) -> tuple[list[Record], int]:
    """All records of a topic that are there now, in the order of each partition, and how many partitions it has."""
    return asyncio.run(_read(bootstrap_servers, topic))


async def _read(bootstrap_servers: str, topic: str) -> tuple[list[Record], int]:
    options = {"bootstrap_servers": bootstrap_servers, "isolation_level": "read_committed", "enable_auto_commit": False}
    async with AIOKafkaConsumer(**options) as consumer:
        await consumer._client.add_topic(topic)
        partitions = consumer.partitions_for_topic(topic)
        assert partitions, f"there is no topic {topic}"
        assigned = [TopicPartition(topic, partition) for partition in sorted(partitions)]
        consumer.assign(assigned)
        ends = await consumer.end_offsets(assigned)
        await consumer.seek_to_beginning(*assigned)
        records: list[Record] = []
        while any([await consumer.position(tp) < ends[tp] for tp in assigned]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += [Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in batch]
        return sorted(records, key=lambda r: (r.partition, r.offset)), len(partitions)
