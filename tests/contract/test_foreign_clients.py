"""What other people's clients send is read, and ours is read by them: the real CloudEvents SDK, the real librdkafka, a real Kafka."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings import kafka as core
from cloudevents.core.v1.event import CloudEvent as CoreEvent
from cloudevents.v1 import kafka as v1
from cloudevents.v1.http import CloudEvent as V1Event
from confluent_kafka import Producer

from jobledger_contracts import catalogue, topics
from jobledger_contracts.envelope import Event, Invalid, InvalidEvent, Record, decode, encode, new_event
from jobledger_contracts.examples import EXAMPLES, JOB_ID
from jobledger_contracts.ids import derived_id, partition_for
from jobledger_contracts.job_events import StatusChanged
from tests.conftest import PARTITIONS, Log
from tests.support.rawkafka import read_log

TIME = datetime(2026, 11, 20, 12, 30, 15, 120000, tzinfo=UTC)
DATA = {"job_id": JOB_ID, "status": "Running", "message": "Pegel fällt", "progress": 0.5}
ATTRIBUTES = {"id": "1", "source": "/model/ümlaut", "type": "StatusChanged", "partitionkey": JOB_ID}
EXPECTED = StatusChanged(job_id=JOB_ID, status="Running", message="Pegel fällt", progress=0.5)


def as_record(message: Any, topic: str = topics.JOBS) -> Record:
    """The record that a Kafka client makes of an SDK's message."""
    key = message.key.encode() if isinstance(message.key, str) else message.key
    return Record(topic, partition_for(key or b"", PARTITIONS), 0, 1_790_000_000_000, key, message.value, tuple(message.headers.items()))


def by_core(**more: Any) -> CoreEvent:
    return CoreEvent({**ATTRIBUTES, "datacontenttype": "application/json", "time": TIME, **more}, DATA)


def by_v1(**more: Any) -> V1Event:
    return V1Event({**ATTRIBUTES, "datacontenttype": "application/json", "time": TIME.isoformat(), **more}, DATA)


class TestSdkWrites:
    """Records of the CloudEvents Python SDK, in its two generations and both content modes."""

    @pytest.mark.parametrize(
        "message",
        [
            pytest.param(lambda: core.to_binary_event(by_core()), id="core-binary"),
            pytest.param(lambda: core.to_structured_event(by_core()), id="core-structured"),
            pytest.param(lambda: v1.to_binary(by_v1()), id="v1-binary"),
            pytest.param(lambda: v1.to_structured(by_v1()), id="v1-structured"),
        ],
    )
    def test_it_is_read(self, message: Callable[[], Any]) -> None:
        event = decode(as_record(message()), PARTITIONS)
        assert (event.id, event.source, event.key, event.data) == ("1", "/model/ümlaut", JOB_ID, EXPECTED)
        assert event.time == TIME
        assert datetime.fromisoformat(event.time_text) == TIME

    def test_a_time_elsewhere_is_the_same_instant(self) -> None:
        there = TIME.astimezone(timezone(timedelta(hours=5, minutes=45)))
        event = decode(as_record(core.to_binary_event(by_core(time=there))), PARTITIONS)
        assert (event.time, event.time_text) == (TIME, there.isoformat())

    def test_structured_without_any_header_is_told_by_its_value(self) -> None:
        event = by_v1()
        del event["datacontenttype"]
        message = v1.to_structured(event)
        assert message.headers == {}
        assert decode(as_record(message), PARTITIONS).data == EXPECTED

    def test_json_as_bytes_comes_in_base64(self) -> None:
        event = V1Event({**ATTRIBUTES, "datacontenttype": "application/json"}, json.dumps(DATA).encode())
        message = v1.to_structured(event)
        assert b"data_base64" in message.value
        assert decode(as_record(message), PARTITIONS).data == EXPECTED

    def test_flags_and_numbers_are_read_as_text(self) -> None:
        event = decode(as_record(core.to_binary_event(by_core(dry=True, retry=5))), PARTITIONS)
        assert event.extensions == {"dry": "True", "retry": "5"}
        event = decode(as_record(core.to_structured_event(by_core(dry=True, retry=5))), PARTITIONS)
        assert event.extensions == {"dry": "true", "retry": "5"}

    def test_an_unset_media_type_is_json(self) -> None:
        event = CoreEvent(dict(ATTRIBUTES), DATA)
        assert decode(as_record(core.to_binary_event(event)), PARTITIONS).data == EXPECTED

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            pytest.param(lambda: core.to_binary_event(CoreEvent(dict(ATTRIBUTES), None)), Invalid.NO_DATA, id="core-no-data"),
            pytest.param(
                lambda: v1.to_binary(V1Event({**ATTRIBUTES, "datacontenttype": "application/json"}, None)), Invalid.NO_DATA, id="v1-no-data"
            ),
            pytest.param(
                lambda: v1.to_binary(V1Event({**ATTRIBUTES, "datacontenttype": "application/json"}, json.dumps(DATA))),
                Invalid.BAD_DATA,
                id="v1-encoded-twice",
            ),
            pytest.param(
                lambda: core.to_binary_event(by_core(), key_mapper=lambda _: None),
                Invalid.NO_KEY,
                id="no-key",
            ),
            pytest.param(
                lambda: core.to_binary_event(by_core(), key_mapper=lambda _: derived_id("another")),
                Invalid.KEY_MISMATCH,
                id="another-key",
            ),
        ],
    )
    def test_mistakes_are_told_apart(self, message: Callable[[], Any], reason: Invalid) -> None:
        with pytest.raises(InvalidEvent) as caught:
            decode(as_record(message()), PARTITIONS)
        assert caught.value.reason is reason


class TestSdkReads:
    """Our records, as the SDK reads them."""

    @staticmethod
    def events() -> list[Event]:
        more = {"actor": "user:ada", "correlation_id": "story", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
        extensions = {"tenant": "Größe"}
        return [
            new_event(data, id=f"e{n}", source="/jobledger/jobs", time=TIME, extensions=extensions, **more)
            for n, data in enumerate(EXAMPLES)
        ]

    def test_the_core_reads_every_type(self) -> None:
        for event in self.events():
            key, value, headers = encode(event)
            got = core.from_kafka_event(core.KafkaMessage(dict(headers), key, value))
            assert (got.get_id(), got.get_source(), got.get_type(), got.get_time()) == (event.id, event.source, event.type, TIME)
            assert got.get_dataschema() == f"urn:jobledger:{event.type}:1"
            assert got.get_extension("partitionkey") == event.key
            assert got.get_extension("tenant") == "Größe"
            assert got.get_data() == msgspec.to_builtins(event.data)

    def test_v1_reads_every_type(self) -> None:
        for event in self.events():
            key, value, headers = encode(event)
            got = v1.from_binary(v1.KafkaMessage(dict(headers), key.decode(), value))
            assert (got["id"], got["type"], got["partitionkey"], got["tenant"]) == (event.id, event.type, event.key, "Größe")
            assert got.get_data() == msgspec.to_builtins(event.data)

    def test_what_the_sdk_sends_on_is_the_same_event(self) -> None:
        for event in self.events():
            key, value, headers = encode(event)
            message = core.to_binary_event(core.from_kafka_event(core.KafkaMessage(dict(headers), key, value)))
            topic = catalogue.by_struct(type(event.data)).topic
            got = decode(as_record(message, topic), PARTITIONS)
            assert msgspec.structs.replace(got, raw_data=b"", time_text="") == event


@pytest.mark.stack
@pytest.mark.anyio
class TestLibrdkafka:
    """confluent-kafka on a real Kafka: with the right partitioner, and with the one that it has by default."""

    JOBS = tuple(derived_id("foreign", str(n)) for n in range(60))

    def publish(self, log: Log, **settings: str) -> None:
        failed: list[object] = []
        producer = Producer({"bootstrap.servers": log.bootstrap_servers, "acks": "all", "enable.idempotence": True, **settings})
        for job in self.JOBS:
            message = core.to_binary_event(by_core(id=f"of {job}", partitionkey=job))
            value = json.dumps(DATA | {"job_id": job}).encode()
            producer.produce(
                log.topic_prefix + topics.JOBS,
                key=message.key,
                value=value,
                headers=list(message.headers.items()),
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
        assert producer.flush(30) == 0
        assert failed == []

    async def read(self, log: Log) -> tuple[list[Event], list[InvalidEvent]]:
        records, partitions = await read_log(log.bootstrap_servers, topics.JOBS, prefix=log.topic_prefix)
        events, refused = [], []
        for record in records:
            try:
                events.append(decode(record, partitions))
            except InvalidEvent as error:
                refused.append(error)
        return events, refused

    async def test_with_murmur2_every_record_is_an_event(self, kafka_log: Log) -> None:
        self.publish(kafka_log, partitioner="murmur2_random")
        events, refused = await self.read(kafka_log)
        assert refused == []
        assert {event.key for event in events} == {event.data.job_id for event in events} == set(self.JOBS)

    async def test_with_its_default_most_land_elsewhere_and_are_told_why(self, kafka_log: Log) -> None:
        self.publish(kafka_log)
        events, refused = await self.read(kafka_log)
        assert len(events) + len(refused) == len(self.JOBS)
        assert len(refused) > len(self.JOBS) / 2
        assert {error.reason for error in refused} == {Invalid.WRONG_PARTITION}
        assert all("partitioner=murmur2_random" in error.detail and "/model/ümlaut" in error.detail for error in refused)
