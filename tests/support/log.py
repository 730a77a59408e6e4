"""The log itself, read by another client than our services': librdkafka's."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from jobledger_contracts.envelope import Record


def read_topic(bootstrap_servers: str, topic: str, *, timeout_s: float = 60) -> tuple[list[Record], int]:
    """All records of a topic that are there now, in the order of each partition, and how many partitions it has."""
    options = {"bootstrap.servers": bootstrap_servers, "group.id": "read-only", "enable.auto.commit": False}
    consumer = Consumer({**options, "isolation.level": "read_committed"})
    deadline = time.monotonic() + timeout_s
    try:
        partitions = sorted(consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions)
        assert partitions == list(range(len(partitions))), f"{topic} has the partitions {partitions}"
        ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=timeout_s)[1] for p in partitions}
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        records: list[Record] = []
        read = dict.fromkeys(partitions, 0)
        while any(read[p] < ends[p] for p in partitions):
            assert time.monotonic() < deadline, f"read {read} of {ends}"
            message = consumer.poll(0.5)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            read[partition] = offset + 1
            headers: Any = tuple(message.headers() or ())
            records.append(Record(topic, partition, offset, message.timestamp()[1], message.key(), message.value(), headers))
    finally:
        consumer.close()
    return sorted(records, key=lambda record: (record.partition, record.offset)), len(partitions)
