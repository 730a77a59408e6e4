"""Both consumer loops keep the same promises: the plain one, and the one through Faust."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from jobledger_contracts import job_events as e
from jobledger_contracts import topics
from jobledger_contracts.envelope import encode
from jobledger_contracts.ids import Position, partition_for
from jobledger_kit.bus import KafkaBus
from jobledger_kit.deadletters import DeadLetters, Fuse
from jobledger_kit.effects import EffectLedger
from jobledger_kit.errors import CheckpointLost, Fenced, FuseBlown, JobledgerError
from jobledger_kit.positions import Positions
from jobledger_kit.projector import Projector
from jobledger_kit.reactor import FaustReactor
from jobledger_kit.store import LedgerStore
from tests.conftest import Log
from tests.support.events import created, derived_job_id, event, life, lives, status
from tests.support.eventually import eventually_async
from tests.support.ledger import CONSUMER, SuiteStore, assert_ledger_is_the_fold, react
from tests.support.rawkafka import produce_raw, read_log, transaction

pytestmark = [pytest.mark.anyio, pytest.mark.stack]


class ReactorSuite:
    """What holds for every consumer loop. A subclass names it."""

    loop: Callable[..., Projector | FaustReactor]

    @pytest.fixture
    async def store(self, database_url: str) -> AsyncIterator[SuiteStore]:
        store = await SuiteStore.open(database_url)
        await store.make_tables()
        yield store
        await store.close()

    @pytest.fixture
    async def bus(self, kafka_log: Log) -> AsyncIterator[KafkaBus]:
        bus = KafkaBus(kafka_log.bootstrap_servers, "suite", topic_prefix=kafka_log.topic_prefix)
        await bus.start()
        yield bus
        await bus.stop()

    def make(self, store: LedgerStore, log: Log, instance_id: str = "one", **more: Any) -> Projector | FaustReactor:
        options = {"consumer": CONSUMER, "topics": [topics.JOBS], "react": react, "session_timeout_ms": 6_000, **more}
        return type(self).loop(
            bootstrap_servers=log.bootstrap_servers, topic_prefix=log.topic_prefix, store=store, instance_id=instance_id, **options
        )

    @asynccontextmanager
    async def running(self, *loops: Projector | FaustReactor) -> AsyncIterator[list[asyncio.Task[None]]]:
        tasks = [asyncio.create_task(loop.run()) for loop in loops]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError | JobledgerError) for end in ends), ends

    async def caught_up(self, store: LedgerStore, position: Position, timeout_s: float = 30) -> None:
        async def reached() -> bool:
            checkpoints = await store.checkpoints(CONSUMER)
            return checkpoints.get((topics.JOBS, position.partition), 0) > position.offset

        await eventually_async(reached, timeout_s)

    async def test_the_ledger_is_the_fold_of_the_log(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        positions = await bus.publish(*lives(jobs=60, steps=12))
        async with self.running(self.make(store, kafka_log)):
            more = await bus.publish(*lives(jobs=20, steps=5, seed=1))
            for position in {p.partition: p for p in positions + more}.values():
                await self.caught_up(store, position)
        await assert_ledger_is_the_fold(store, kafka_log.bootstrap_servers, kafka_log.topic_prefix)

    async def test_duplicates_and_refusals_are_folded_and_cause_nothing(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        events = life(job := derived_job_id("twice"), steps=6)
        unknown = event(e.StopRequested(job_id=derived_job_id("unknown")))
        [*_, position] = await bus.publish(*events, *events)
        await bus.publish(unknown)
        async with self.running(self.make(store, kafka_log)):
            await self.caught_up(store, position)
        records, _ = await read_log(kafka_log.bootstrap_servers, topics.JOBS, prefix=kafka_log.topic_prefix)
        assert len(records) == 13
        assert len([r for r in await EffectLedger(store.pool).take(100, 30) if r.effect.stream == job]) == 1

    async def test_a_restart_goes_on_from_the_checkpoint(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        for round_ in range(3):
            positions = await bus.publish(*lives(jobs=10, steps=6, seed=round_))
            async with self.running(self.make(store, kafka_log)):
                for position in {p.partition: p for p in positions}.values():
                    await self.caught_up(store, position)
        await assert_ledger_is_the_fold(store, kafka_log.bootstrap_servers, kafka_log.topic_prefix)

    async def test_garbage_becomes_dead_letters_and_stops_nobody(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        victim, other = derived_job_id("victim", 1), derived_job_id("other", 1)
        await bus.publish(created(victim), created(other))
        garbage: Sequence[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
            (None, b"no key", []),
            (b"\xff", b"{}", []),
            (b"not-a-job-id", b"{}", []),
            (derived_job_id("stranger").encode(), b"not json", []),
            (derived_job_id("stranger").encode(), None, []),
            (b"a\0b", b"{}", [("ce_id", b"\xff")]),
            (b"k" * 5000, b"\0" * 100, [("", None)]),
        ]
        for partition in range(4):
            await produce_raw(kafka_log.bootstrap_servers, kafka_log.topic_prefix + topics.JOBS, partition, garbage)
        [last] = await bus.publish(status(other, "Running"))
        [after] = await bus.publish(status(victim, "Running"))
        async with self.running(self.make(store, kafka_log)) as [task]:
            await self.caught_up(store, last)
            await self.caught_up(store, after)
            assert not task.done()
        truth = await assert_ledger_is_the_fold(store, kafka_log.bootstrap_servers, kafka_log.topic_prefix)
        assert len(truth.dead) == 28
        assert not truth.parked
        letters = DeadLetters(store.pool, CONSUMER)
        raw = [await letters.get(letter.topic, letter.position) for letter in await letters.page(100)]
        assert {(r.key, r.value, tuple(r.headers)) for r in raw if r} == {
            (key, value, tuple((name.encode(), h) for name, h in headers)) for key, value, headers in garbage
        }

    async def test_a_bad_event_parks_its_own_job_only(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        victim = derived_job_id("victim", 2)
        others = [job for job in (derived_job_id("other", n) for n in range(40)) if _partition(job) == _partition(victim)]
        await bus.publish(created(victim), *(created(job) for job in others))
        key, _, headers = encode(status(victim, "Running"))
        await produce_raw(kafka_log.bootstrap_servers, kafka_log.topic_prefix + topics.JOBS, _partition(victim), [(key, b'{"sta', headers)])
        await bus.publish(status(victim, "Complete"))
        positions = await bus.publish(*(status(job, "Running") for job in others))
        async with self.running(self.make(store, kafka_log)):
            await self.caught_up(store, positions[-1])
        async with self.running(self.make(store, kafka_log)):  # it is remembered
            [position] = await bus.publish(status(victim, "Error"))
            await self.caught_up(store, position)
        truth = await assert_ledger_is_the_fold(store, kafka_log.bootstrap_servers, kafka_log.topic_prefix)
        assert [d.reason.value for d in truth.dead] == ["bad_json", "parked", "parked"]
        [parked] = await DeadLetters(store.pool).parked()
        assert (parked.key, parked.behind) == (victim, truth.dead[0].record.offset)

    async def test_a_header_name_that_is_no_text_stops_nobody(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        topic = kafka_log.topic_prefix + topics.JOBS
        first = lives(jobs=10, steps=4, seed=1)
        await bus.publish(*first)
        victim = derived_job_id("victim", 3)
        [begin] = await bus.publish(created(victim))
        key, value, headers = encode(status(victim, "Running"))
        neighbour = derived_job_id(next(n for n in range(99) if partition_for(derived_job_id(n).encode(), 4) == begin.partition))
        good = encode(created(neighbour))
        bad = (key, value, [*headers, ("x-\udcff", b"1")])
        await produce_raw(kafka_log.bootstrap_servers, topic, begin.partition, [good, bad, encode(status(neighbour, "Running"))])
        positions = await bus.publish(*lives(jobs=10, steps=4, seed=2))
        async with self.running(self.make(store, kafka_log)):
            for position in {p.partition: p for p in positions}.values():
                await self.caught_up(store, position)
            [position] = await bus.publish(status(neighbour, "Complete"))
            await self.caught_up(store, position)
        truth = await assert_ledger_is_the_fold(store, kafka_log.bootstrap_servers, kafka_log.topic_prefix)
        assert [d.reason.value for d in truth.dead] == ["not_utf8"]
        assert truth.states[topics.JOBS, neighbour].status.value == "Complete"
        letter = await DeadLetters(store.pool).get(topics.JOBS, truth.dead[0].record.position)
        assert letter is not None
        assert letter.headers[-1] == (b"x-\xff", b"1")

    async def test_aborted_records_and_markers_are_passed_over(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        topic, name = kafka_log.topic_prefix + topics.JOBS, f"{kafka_log.topic_prefix}tx"
        kept, dropped = lives(jobs=12, steps=4, seed=1), lives(jobs=12, steps=4, seed=2)
        await transaction(kafka_log.bootstrap_servers, name, topic, [encode(one) for one in kept[:24]], commit=True)
        await transaction(kafka_log.bootstrap_servers, name, topic, [encode(one) for one in dropped], commit=False)
        await transaction(kafka_log.bootstrap_servers, name, topic, [encode(one) for one in kept[24:]], commit=True)
        positions = await bus.publish(*lives(jobs=12, steps=4, seed=3))
        async with self.running(self.make(store, kafka_log)):
            for position in {p.partition: p for p in positions}.values():
                await self.caught_up(store, position)
        truth = await assert_ledger_is_the_fold(store, kafka_log.bootstrap_servers, kafka_log.topic_prefix)
        assert len(truth.folded) == 96

    async def test_a_stale_worker_is_fenced(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        job = derived_job_id("fenced")
        async with self.running(self.make(store, kafka_log)) as [task]:
            [position] = await bus.publish(created(job))
            await self.caught_up(store, position)
            await store.claim(CONSUMER, [(topics.JOBS, position.partition)])  # as another instance would
            await bus.publish(status(job, "Running"))
            await asyncio.wait([task], timeout=30)
            with pytest.raises(Fenced):
                task.result()
        assert (await store.checkpoints(CONSUMER))[topics.JOBS, position.partition] == position.offset + 1
        assert await store.pool.fetchval("select count(*) from history") == 1

    async def test_a_checkpoint_outside_the_log_stops_it(self, store: SuiteStore, kafka_log: Log) -> None:
        await store.claim(CONSUMER, [(topics.JOBS, partition) for partition in range(4)])
        await store.pool.execute("update checkpoints set next_offset = 1000 where partition = 2")
        async with self.running(self.make(store, kafka_log)) as [task]:
            await asyncio.wait([task], timeout=40)
            with pytest.raises(CheckpointLost, match="1000"):
                task.result()

    async def test_the_fuse_stops_a_flood_of_garbage(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        topic = kafka_log.topic_prefix + topics.JOBS
        for _ in range(5):
            await produce_raw(kafka_log.bootstrap_servers, topic, 0, [(None, b"garbage", [])] * 30)
        [position] = await bus.publish(created(next(j for j in map(derived_job_id, range(99)) if _partition(j) == 0)))
        async with self.running(self.make(store, kafka_log)) as [task]:
            await self.caught_up(store, position)  # 150 are no flood
            assert not task.done()
        await produce_raw(kafka_log.bootstrap_servers, topic, 0, [(None, b"garbage", [])] * 300)
        async with self.running(self.make(store, kafka_log, fuse=Fuse(consecutive=200))) as [task]:
            await asyncio.wait([task], timeout=30)
            with pytest.raises(FuseBlown):
                task.result()

    async def test_two_instances_share_the_partitions(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        one, two = self.make(store, kafka_log), self.make(store, kafka_log, "two")
        async with self.running(one, two) as tasks:
            await eventually_async(lambda: len(one.claims) == len(two.claims) == 2, timeout_s=40)
            positions = await bus.publish(*lives(jobs=40, steps=6))
            for position in {p.partition: p for p in positions}.values():
                await self.caught_up(store, position)
            assert not any(task.done() for task in tasks), tasks
        await assert_ledger_is_the_fold(store, kafka_log.bootstrap_servers, kafka_log.topic_prefix)

    async def test_on_applied_is_called_after_each_commit(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        seen: list[str] = []
        loop = self.make(store, kafka_log, on_applied=lambda batch: seen.extend(f.event.id for f in batch.folded))
        events = life(derived_job_id("seen"), steps=5)
        async with self.running(loop):
            [*_, position] = await bus.publish(*events)
            await eventually_async(lambda: len(seen) == 5)
            await self.caught_up(store, position, timeout_s=0)
        assert seen == [one.id for one in events]

    async def test_positions_are_announced(self, store: SuiteStore, bus: KafkaBus, kafka_log: Log) -> None:
        async with Positions(store, CONSUMER) as positions, self.running(self.make(store, kafka_log)):
            assert await positions.ready(10)
            [position] = await bus.publish(created(derived_job_id("announced")))
            assert await positions.wait(topics.JOBS, position, 30)
            assert not await positions.wait(topics.JOBS, msgspec.structs.replace(position, offset=position.offset + 1), 0.2)


def _partition(job: str) -> int:
    return partition_for(job.encode(), 4)


class TestProjector(ReactorSuite):
    loop = Projector


class TestFaustReactor(ReactorSuite):
    loop = FaustReactor
