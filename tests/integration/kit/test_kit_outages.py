"""What is away for a while costs time and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

import pytest
import structlog

from jobledger_contracts import topics
from jobledger_contracts.ids import Position
from jobledger_devstack import StackOptions
from jobledger_devstack.temporary import temporary_stack
from jobledger_kit.bus import KafkaBus, ensure_topics
from jobledger_kit.errors import OutcomeUnknown, Unavailable
from jobledger_kit.positions import Positions
from jobledger_kit.projector import Projector
from tests.conftest import Log
from tests.support.events import lives
from tests.support.eventually import eventually_async
from tests.support.ledger import CONSUMER, SuiteStore, assert_ledger_is_the_fold, react
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.anyio, pytest.mark.stack]


def projector(store: SuiteStore, bootstrap_servers: str, topic_prefix: str) -> Projector:
    return Projector(
        consumer=CONSUMER,
        topics=[topics.JOBS],
        bootstrap_servers=bootstrap_servers,
        topic_prefix=topic_prefix,
        store=store,
        instance_id="one",
        react=react,
        max_records=50,
    )


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    there = urlsplit(database_url)
    with Proxy(there.hostname or "", there.port or 5432) as proxy:
        yield proxy


@pytest.fixture
async def store(database_url: str, proxy: Proxy) -> AsyncIterator[SuiteStore]:
    """A store that reaches its database through the proxy."""
    there = urlsplit(database_url)
    who = there.netloc.rpartition("@")[0]
    store = await SuiteStore.open(urlunsplit(there._replace(netloc=f"{who}@127.0.0.1:{proxy.port}")))
    await store.make_tables()
    yield store
    await store.close()


async def reached(store: SuiteStore, positions: list[Position]) -> None:
    async def caught_up() -> bool:
        checkpoints = await store.checkpoints(CONSUMER)
        return all(checkpoints.get((topics.JOBS, p.partition), 0) > p.offset for p in positions)

    await eventually_async(caught_up, timeout_s=60, interval_s=0.1)


async def test_a_database_that_comes_and_goes_loses_nothing(store: SuiteStore, proxy: Proxy, kafka_log: Log) -> None:
    bus = KafkaBus(kafka_log.bootstrap_servers, "test", topic_prefix=kafka_log.topic_prefix)
    await bus.start()
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(projector(store, kafka_log.bootstrap_servers, kafka_log.topic_prefix).run())
        for seed in range(4):
            events = lives(jobs=30, steps=10, seed=seed)
            positions: list[Position] = []
            for start in range(0, len(events), 30):
                positions += await bus.publish(*events[start : start + 30])
                proxy.cut()  # whatever is under way: a load, a commit, the moment after a commit
                proxy.away = start == 120
                await asyncio.sleep(0.3 if proxy.away else 0.02)
            proxy.away = False
        await reached(store, positions)
        assert not task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await bus.stop()
    truth = await assert_ledger_is_the_fold(store, kafka_log.bootstrap_servers, kafka_log.topic_prefix)
    assert len(truth.folded) == 1200
    said = [(line["event"], line["what"]) for line in logs if line.get("what") == "database"]
    assert said[:2] == [("Away; trying again until it is back", "database"), ("Back", "database")]
    assert all(said[n] != said[n + 1] for n in range(len(said) - 1))  # once per outage, not per try


async def test_positions_are_heard_again_after_a_cut(store: SuiteStore, proxy: Proxy, kafka_log: Log) -> None:
    bus = KafkaBus(kafka_log.bootstrap_servers, "test", topic_prefix=kafka_log.topic_prefix)
    await bus.start()
    task = asyncio.create_task(projector(store, kafka_log.bootstrap_servers, kafka_log.topic_prefix).run())
    async with Positions(store, CONSUMER) as positions:
        for seed in range(3):
            [*_, last] = await bus.publish(*lives(jobs=1, steps=5, seed=seed))
            assert await positions.wait(topics.JOBS, last, 30)
            proxy.cut()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await bus.stop()


async def test_a_broker_that_is_killed_costs_time_only(store: SuiteStore) -> None:
    """A stack of its own: the other tests need theirs."""
    with temporary_stack(StackOptions(parts=frozenset({"kafka"}))) as stack:
        servers = stack.endpoints().kafka_bootstrap
        await ensure_topics(servers, 4)
        bus = KafkaBus(servers, "test", timeout_s=15)
        await bus.start()
        task = asyncio.create_task(projector(store, servers, "").run())
        positions = await bus.publish(*lives(jobs=10, steps=10))
        await reached(store, positions)
        pid = stack.status().part("kafka").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for _ in range(10):  # publishing the same events again is how an unknown outcome is settled
            try:
                positions = await bus.publish(*lives(jobs=10, steps=10, seed=1))
                break
            except (Unavailable, OutcomeUnknown):
                await asyncio.sleep(0.5)
        await reached(store, positions)
        assert not task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await bus.stop()
        await assert_ledger_is_the_fold(store, servers, "")
