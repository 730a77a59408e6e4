"""Every bus keeps the same promises: the one in memory, and Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jobledger_contracts import job_events, scheduler_events, topics
from jobledger_contracts.envelope import Invalid, InvalidEvent, Record, decode
from jobledger_contracts.ids import partition_for
from jobledger_kit.bus import Bus, KafkaBus, ensure_topics
from jobledger_kit.errors import TopicMismatch, Unavailable
from jobledger_kit.memory import MemoryBus
from tests.conftest import PARTITIONS, Log
from tests.support.events import created, event, job_id, life, lives
from tests.support.rawkafka import read_log

pytestmark = pytest.mark.anyio

Read = Callable[[str], Awaitable[list[Record]]]


class BusSuite:
    """What holds for every bus. A subclass gives `bus`, and `read` of a topic's records."""

    async def test_an_event_comes_back_as_it_was_sent(self, bus: Bus, read: Read) -> None:
        sent = created(job_id(), actor="user:ada", correlation_id="story")
        [position] = await bus.publish(sent)
        [record] = await read(topics.JOBS)
        assert record.position == position
        back = decode(record, PARTITIONS)
        assert (back.id, back.source, back.key, back.data, back.time, back.actor) == (
            sent.id,
            sent.source,
            sent.key,
            sent.data,
            sent.time,
            sent.actor,
        )

    async def test_events_of_one_key_keep_their_order(self, bus: Bus, read: Read) -> None:
        events = life(job := job_id(), steps=40)
        positions = await bus.publish(*events)
        assert positions == sorted(positions)
        assert {p.partition for p in positions} == {partition_for(job.encode(), PARTITIONS)}
        assert [decode(r, PARTITIONS).id for r in await read(topics.JOBS)] == [one.id for one in events]

    async def test_positions_are_in_the_order_of_the_events(self, bus: Bus, read: Read) -> None:
        events = lives(jobs=10, steps=5)
        positions = await bus.publish(*events)
        where = {decode(r, PARTITIONS).id: r.position for r in await read(topics.JOBS)}
        assert positions == [where[one.id] for one in events]

    async def test_each_event_goes_to_its_topic(self, bus: Bus, read: Read) -> None:
        scheduler = event(scheduler_events.SchedulerRegistered(name="pool", type="condor", host="cm"))
        await bus.publish(created(job_id()), scheduler)
        assert [len(await read(topic)) for topic in (topics.JOBS, topics.SCHEDULERS)] == [1, 1]

    async def test_nothing_is_sent_when_one_event_is_too_large(self, bus: Bus, read: Read) -> None:
        large = job_events.JobChanged(job_id=job_id(), extended_properties={"x": "y" * 1_000_000})
        with pytest.raises(InvalidEvent) as raised:
            await bus.publish(created(job_id()), event(large))
        assert raised.value.reason is Invalid.TOO_LARGE
        assert await read(topics.JOBS) == []

    async def test_publishing_nothing_is_nothing(self, bus: Bus) -> None:
        assert await bus.publish() == []


class TestMemoryBus(BusSuite):
    @pytest.fixture
    def bus(self) -> MemoryBus:
        return MemoryBus(PARTITIONS)

    @pytest.fixture
    def read(self, bus: MemoryBus) -> Read:
        async def read(topic: str) -> list[Record]:
            return bus.records(topic)

        return read

    async def test_one_that_is_away_takes_nothing(self, bus: MemoryBus) -> None:
        bus.away = True
        with pytest.raises(Unavailable):
            await bus.publish(created(job_id()))
        assert bus.records(topics.JOBS) == []


@pytest.mark.stack
class TestKafkaBus(BusSuite):
    @pytest.fixture
    async def bus(self, kafka_log: Log) -> AsyncIterator[KafkaBus]:
        bus = KafkaBus(kafka_log.bootstrap_servers, "test", topic_prefix=kafka_log.topic_prefix)
        await bus.start()
        yield bus
        await bus.stop()

    @pytest.fixture
    def read(self, kafka_log: Log) -> Read:
        async def read(topic: str) -> list[Record]:
            return (await read_log(kafka_log.bootstrap_servers, topic, prefix=kafka_log.topic_prefix))[0]

        return read

    async def test_without_a_broker_nothing_was_sent(self, unused_port: int) -> None:
        bus = KafkaBus(f"127.0.0.1:{unused_port}", "test", timeout_s=1)
        with pytest.raises(Unavailable):
            await bus.publish(created(job_id()))
        await bus.stop()

    async def test_another_number_of_partitions_is_refused(self, kafka_log: Log) -> None:
        with pytest.raises(TopicMismatch, match=f"has {PARTITIONS} partitions, 7 are configured"):
            await ensure_topics(kafka_log.bootstrap_servers, 7, topic_prefix=kafka_log.topic_prefix)

    async def test_topics_are_made_once(self, kafka_log: Log) -> None:
        assert await ensure_topics(kafka_log.bootstrap_servers, PARTITIONS, topic_prefix=kafka_log.topic_prefix) == []
