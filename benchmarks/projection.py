"""The jobs service's projector: log to rows. Against the same SQL fed from memory, and against a Faust agent that does nothing.

Each round uses a database of its own, so every one of them fills empty tables. The time runs from the first batch that was begun to
the last that was committed; what joining the consumer group takes is left out, of ours and of Faust's.
"""

from __future__ import annotations

import asyncio
import sys
import time
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from jobledger_contracts import topics
from jobledger_contracts.envelope import Record
from jobledger_jobs.store import CONSUMER, JobsStore
from jobledger_kit.folds import FoldedBatch, fold_batch
from jobledger_kit.projector import Projector

from . import load
from .figures import Ratio, Report, median

BATCH = 2000


async def measure(report: Report, *, bootstrap_servers: str, database_url: str, jobs: int, rounds: int) -> None:
    """Append the two ratios to the report."""
    count = await load.fill(bootstrap_servers, topics.JOBS, jobs)
    ours: list[float] = []
    from_memory: list[float] = []
    faust: list[float] = []
    for round_ in range(rounds):
        for figures, run in ((ours, _projector), (from_memory, _sql_from_memory)):
            url = await _fresh_database(database_url, f"bench_{run.__name__.strip('_')}_{round_}")
            figures.append(count / await run(bootstrap_servers, url, f"bench-{round_}"))
        faust.append(await _faust_agent(bootstrap_servers, count, round_))
    aims = ((median(from_memory), "same SQL from memory", 0.7), (median(faust), "no-op Faust agent", 3.0))
    report.ratios += [
        Ratio(name="projector", ours=median(ours), theirs=theirs, theirs_name=name, unit="events/s", aim=aim) for theirs, name, aim in aims
    ]
    report.notes.append(f"projector: {count:,} events of {jobs:,} jobs, batches of up to {BATCH:,}, PostgreSQL with fsync")


async def _projector(bootstrap_servers: str, database_url: str, instance: str) -> float:
    begun: list[float] = []
    ended = asyncio.Event()
    ends = await _ends(bootstrap_servers)

    class Timed(JobsStore):
        async def load(self, consumer, streams):  # type: ignore[no-untyped-def] # as JobsStore has it
            begun.append(time.perf_counter())
            return await super().load(consumer, streams)

    store = await Timed.open(database_url)

    def applied(_: FoldedBatch) -> None:
        if sum(projector.claims.values()) >= sum(ends.values()):
            ended.set()

    projector = Projector(
        consumer=f"{CONSUMER}-{instance}",
        topics=[topics.JOBS],
        bootstrap_servers=bootstrap_servers,
        store=store,
        instance_id="0",
        max_records=BATCH,
        on_applied=applied,
    )
    running = asyncio.create_task(projector.run())
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    took = time.perf_counter() - begun[0]
    if running.done():
        await running
    running.cancel()
    await asyncio.wait((running,))
    await store.close()
    return took


async def _sql_from_memory(bootstrap_servers: str, database_url: str, instance: str) -> float:
    """The floor: batches that are folded already, committed one after the other."""
    ends = await _ends(bootstrap_servers)
    records = await _read_all(bootstrap_servers, ends)
    store = await JobsStore.open(database_url)
    names = [(tp.topic, tp.partition) for tp in ends]
    claims = await store.claim(f"{CONSUMER}-{instance}", names)
    states: dict[tuple[str, str], object] = {}
    batches = []
    offsets = dict.fromkeys(names, 0)
    for start in range(0, len(records), BATCH):
        chunk = records[start : start + BATCH]
        batch = fold_batch(chunk, {topics.JOBS: len(ends)}, states, set())
        states |= batch.states
        offsets |= {(r.topic, r.partition): r.offset + 1 for r in chunk}
        batches.append((batch, dict(offsets)))
    begun = time.perf_counter()
    for batch, next_offsets in batches:
        await store.apply(f"{CONSUMER}-{instance}", claims.values(), batch, next_offsets)
    took = time.perf_counter() - begun
    await store.close()
    return took


async def _faust_agent(bootstrap_servers: str, count: int, round_: int) -> float:
    """Events per second of an agent that only counts, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.noop_agent", bootstrap_servers, topics.JOBS, str(count), f"bench-noop-{round_}",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the Faust agent ended with {process.returncode}")
    return float(out)


async def _ends(bootstrap_servers: str) -> dict[TopicPartition, int]:
    async with AIOKafkaConsumer(topics.JOBS, bootstrap_servers=bootstrap_servers) as consumer:
        partitions = [TopicPartition(topics.JOBS, p) for p in sorted(consumer.partitions_for_topic(topics.JOBS) or ())]
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return ends


async def _read_all(bootstrap_servers: str, ends: dict[TopicPartition, int]) -> list[Record]:
    records: list[Record] = []
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False) as consumer:
        consumer.assign(list(ends))
        await consumer.seek_to_beginning(*ends)
        while len(records) < sum(ends.values()):
            for found in (await consumer.getmany(timeout_ms=1000, max_records=BATCH)).values():
                records += [Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in found]
    return records


async def _fresh_database(url: str, name: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'create database "{name}"')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
