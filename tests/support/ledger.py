"""A small service over the ledger, and the comparison that every consumer must stand: its rows against a fold of the whole log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from jobledger_contracts import topics
from jobledger_kit.database import Connection
from jobledger_kit.deadletters import DeadLetters
from jobledger_kit.effects import Effect
from jobledger_kit.folds import Folded, FoldedBatch, fold_log
from jobledger_kit.store import LedgerStore
from tests.support.rawkafka import read_log

CONSUMER = "suite"
_HISTORY = "create table if not exists history (key text, log_offset bigint, event_id text, outcome text, primary key (key, log_offset))"


class SuiteStore(LedgerStore):
    """A store with a table of its own, into which a row can go once only."""

    schema: ClassVar[str] = "suite"

    async def make_tables(self) -> None:
        await self.pool.execute(_HISTORY)

    async def write(self, connection: Connection, batch: FoldedBatch) -> None:
        rows = [(f.event.key, f.record.offset, f.event.id, f.verdict.outcome.value) for f in batch.folded]
        await connection.executemany("insert into history values ($1, $2, $3, $4)", rows)


def react(folded: Folded) -> Iterable[Effect]:
    """Ask for one effect for each applied event."""
    if folded.verdict.applied:
        yield Effect(key=f"do:{folded.event.id}", lane="lane", stream=folded.event.key, kind=folded.event.type)


async def assert_ledger_is_the_fold(store: LedgerStore, bootstrap_servers: str, topic_prefix: str) -> FoldedBatch:
    """Compare every row of the consumer with a pure fold of the whole log of jobs. Returns that fold."""
    records, partitions = await read_log(bootstrap_servers, topics.JOBS, prefix=topic_prefix)
    truth = fold_log(records, {topics.JOBS: partitions})
    states, parked = await store.load(CONSUMER, {f.stream for f in truth.folded} | truth.parked.keys())
    assert states == truth.states
    assert parked == set(truth.parked)
    history = {(r["key"], r["log_offset"]): (r["event_id"], r["outcome"]) for r in await store.pool.fetch("select * from history")}
    assert history == {(f.event.key, f.record.offset): (f.event.id, f.verdict.outcome.value) for f in truth.folded}
    effects = [(r["stream"], r["key"]) for r in await store.pool.fetch("select stream, key from effects order by position")]
    asked = [(effect.stream, effect.key) for f in truth.folded for effect in react(f)]
    assert sorted(effects, key=lambda row: row[0]) == sorted(asked, key=lambda row: row[0])  # once each, in their streams' order
    dead = {(letter.partition, letter.offset): letter.reason for letter in await DeadLetters(store.pool, CONSUMER).page(100_000)}
    assert dead == {(d.record.partition, d.record.offset): d.reason.value for d in truth.dead}
    return truth
