"""Consumers that are killed, frozen and restarted in the middle of their work lose nothing and repeat nothing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobledger_contracts import topics
from jobledger_contracts.ids import Position
from jobledger_kit.bus import KafkaBus
from tests.conftest import Log
from tests.support.events import lives
from tests.support.eventually import eventually_async
from tests.support.ledger import CONSUMER, SuiteStore, assert_ledger_is_the_fold
from tests.support.rawkafka import produce_raw

pytestmark = [pytest.mark.anyio, pytest.mark.stack]

ROOT = Path(__file__).parents[3]
KILLS = 8
ALLOWED_ENDS = {0, 70, -signal.SIGKILL, -signal.SIGTERM}
"""The last: it was told to end before it had begun to listen for that."""


class Fleet:
    """Two instances of a consumer, each started again whenever it ends."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self.processes: dict[str, Process] = {}
        self.ends: list[int] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        self._keepers = [asyncio.create_task(self._keep(name)) for name in ("one", "two")]
        await eventually_async(lambda: len(self.processes) == 2)

    async def _keep(self, name: str) -> None:
        while not self._stopping:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.support.consumer_process", cwd=ROOT, env={**self._environment, "INSTANCE": name}
            )
            self.processes[name] = process
            self.ends.append(await process.wait())

    def send(self, name: str, number: signal.Signals) -> None:
        if self.processes[name].returncode is None:
            self.processes[name].send_signal(number)

    async def stop(self) -> None:
        self._stopping = True
        for name in self.processes:
            self.send(name, signal.SIGCONT)
            self.send(name, signal.SIGTERM)
        try:
            async with asyncio.timeout(30):
                await asyncio.gather(*self._keepers)
        finally:
            for name in self.processes:
                self.send(name, signal.SIGKILL)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SuiteStore]:
    store = await SuiteStore.open(database_url)
    await store.make_tables()
    yield store
    await store.close()


@pytest.mark.parametrize("loop", ["projector", "faust"])
async def test_killed_consumers_leave_the_fold_of_the_log(loop: str, store: SuiteStore, database_url: str, kafka_log: Log) -> None:
    settings = {"KAFKA": kafka_log.bootstrap_servers, "TOPIC_PREFIX": kafka_log.topic_prefix, "DATABASE_URL": database_url, "LOOP": loop}
    fleet, rng = Fleet({**os.environ, **settings}), random.Random(7)
    bus = KafkaBus(kafka_log.bootstrap_servers, "test", topic_prefix=kafka_log.topic_prefix)
    await bus.start()
    last: dict[int, Position] = {}

    async def publish(seed: int) -> None:
        events = lives(jobs=30, steps=10, seed=seed)
        for start in range(0, len(events), 20):
            last.update({p.partition: p for p in await bus.publish(*events[start : start + 20])})
            await asyncio.sleep(0.05)

    async def caught_up() -> bool:
        checkpoints = await store.checkpoints(CONSUMER)
        return all(checkpoints.get((topics.JOBS, p.partition), 0) > p.offset for p in last.values())

    await fleet.start()
    try:
        for kill in range(KILLS):
            await publish(kill)
            await produce_raw(kafka_log.bootstrap_servers, kafka_log.topic_prefix + topics.JOBS, kill % 4, [(b"garbage", b"", [])])
            victim = rng.choice(["one", "two"])
            if kill == KILLS // 2:  # frozen past its session: the other takes over, and the thawed one must write nothing
                fleet.send(victim, signal.SIGSTOP)
                await publish(100)
                await eventually_async(caught_up, timeout_s=60, interval_s=0.2)
                fleet.send(victim, signal.SIGCONT)
            else:
                fleet.send(victim, signal.SIGKILL)
        await publish(200)
        await eventually_async(caught_up, timeout_s=90, interval_s=0.2)
    finally:
        await fleet.stop()
        await bus.stop()
    assert set(fleet.ends) <= ALLOWED_ENDS
    assert fleet.ends.count(-signal.SIGKILL) >= KILLS // 2
    truth = await assert_ledger_is_the_fold(store, kafka_log.bootstrap_servers, kafka_log.topic_prefix)
    assert len(truth.folded) == (KILLS + 2) * 300
    assert len(truth.dead) == KILLS
