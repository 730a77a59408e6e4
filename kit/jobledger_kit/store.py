"""The ledger of one consumer in PostgreSQL: checkpoints, states of streams, dead letters, effects, and the service's own rows.

All that one batch changes is one transaction, and its first statement is the fence: it moves a checkpoint on only from the offset we
expect and under the epoch that we claimed. So a batch happens once or not at all, and an instance that has lost a partition without
knowing (it was frozen, or cut off) writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import asyncpg
import msgspec

from .database import Connection, Pool, connect_pool
from .effects import Effect
from .errors import Fenced
from .folds import FOLDS, DeadLetter, FoldedBatch, StreamKey
from .migrations import migrate
from .queries import load_queries

CHANNEL: Final = "jobledger_positions"
"""The PostgreSQL channel on which `Announcement`s are sent."""

TopicPartition = tuple[str, int]


class Claim(msgspec.Struct):
    """Our right to write one partition, and how far we have come. `next_offset` moves with each batch that was committed."""

    topic: str
    partition: int
    next_offset: int
    epoch: int

    @property
    def key(self) -> TopicPartition:
        return self.topic, self.partition


class Announcement(msgspec.Struct, frozen=True):
    """What is said on `CHANNEL`, as JSON, when a batch is committed."""

    schema: str
    consumer: str
    topic: str
    partition: int
    next_offset: int


class LedgerStore:
    """One PostgreSQL schema per service. A service's store subclasses it, and overrides `schema`, `package` and `write`."""

    schema: ClassVar[str]
    package: ClassVar[str | None] = None  #: the package with the service's `migrations/`
    projected: ClassVar[tuple[str, ...]] = ()  #: the service's tables that are made from the log alone, and can be made again
    kept: ClassVar[tuple[str, ...]] = ()  #: its other tables: what no log holds
    uncompared: ClassVar[Mapping[str, tuple[str, ...]]] = {}  #: projected table -> those of its columns that are not from the log

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._announced_schema = self.schema
        self._sql = load_queries("jobledger_kit", "sql/ledger.sql")

    @classmethod
    async def open(cls, url: str, *, schema: str = "", max_size: int = 8, **options: Any) -> Self:
        """Bring the schema up to date and connect. Close with `await store.close()`. Raises MigrationError; asyncpg's errors pass.

        `schema` is another one than the service's own: rows that are made again beside the live ones.
        """
        schema = schema or cls.schema
        connection = await asyncpg.connect(url)
        try:
            await migrate(connection, schema, cls.package)
        finally:
            await connection.close()
        store = cls(await connect_pool(url, schema=schema, application=f"jobledger {schema}", max_size=max_size, **options))
        store._announced_schema = schema
        return store

    async def close(self) -> None:
        await self.pool.close()

    async def write(self, connection: Connection, batch: FoldedBatch) -> None:
        """Write the service's own rows for a batch, in the batch's transaction.

        To override. Called again with the same batch when the database went away in between. Sort rows by key: two writers that lock
        the same rows in different orders deadlock.
        """

    async def claim(self, consumer: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Claim]:
        """Take partitions over, each at its checkpoint (0 when it has none)."""
        wanted = sorted(set(partitions))
        rows = await self.pool.fetch(self._sql["claim"], consumer, [t for t, _ in wanted], [p for _, p in wanted])
        return {(row["topic"], row["partition"]): Claim(*row) for row in rows}

    async def checkpoints(self, consumer: str) -> dict[TopicPartition, int]:
        """The next offset of each partition that the consumer ever claimed."""
        rows = await self.pool.fetch(self._sql["checkpoints"], consumer)
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def load(self, consumer: str, streams: Iterable[StreamKey]) -> tuple[dict[StreamKey, Any], set[StreamKey]]:
        """Return the states of streams, and which of them are parked. A stream that was never heard of is in neither."""
        wanted = list(streams)
        rows = await self.pool.fetch(self._sql["load"], consumer, [t for t, _ in wanted], [k for _, k in wanted])
        states = {(r["topic"], r["key"]): FOLDS[r["topic"]].decode(r["state"]) for r in rows if r["state"] is not None}
        return states, {(r["topic"], r["key"]) for r in rows if r["parked_behind"] is not None}

    async def apply(
        self,
        consumer: str,
        claims: Iterable[Claim],
        batch: FoldedBatch,
        next_offsets: Mapping[TopicPartition, int],
        effects: Sequence[Effect] = (),
    ) -> None:
        """Commit a batch whole, or nothing of it; then move the claims on. Raises Fenced; asyncpg's errors pass.

        After an error that cut the connection it is not known which: call it again. When it had happened, the same call finds the
        checkpoints where they are to be, and does nothing.
        """
        moved = sorted((c for c in claims if next_offsets.get(c.key, c.next_offset) != c.next_offset), key=lambda c: c.key)
        async with self.pool.acquire() as connection, connection.transaction():
            if await self._advance(connection, consumer, moved, next_offsets):
                await self._save(connection, consumer, batch)
                if effects:
                    await self._record(connection, effects)
                await self.write(connection, batch)
                await self._announce(connection, consumer, moved, next_offsets)
        for claim in moved:
            claim.next_offset = next_offsets[claim.key]

    async def _advance(
        self, connection: Connection, consumer: str, moved: Sequence[Claim], next_offsets: Mapping[TopicPartition, int]
    ) -> bool:
        """Move the checkpoints. Returns False when they had been moved by us before; raises Fenced when somebody else has."""
        arguments = (
            consumer,
            [c.topic for c in moved],
            [c.partition for c in moved],
            [c.epoch for c in moved],
            [c.next_offset for c in moved],
            [next_offsets[c.key] for c in moved],
        )
        rows = {tuple(row) for row in await connection.fetch(self._sql["advance"], *arguments)}
        if len(rows) == len(moved):
            return True
        stands = {
            (r["topic"], r["partition"]): (r["next_offset"], r["epoch"]) for r in await connection.fetch(self._sql["checkpoints"], consumer)
        }
        if all(stands.get(c.key) == (next_offsets[c.key], c.epoch) for c in moved):
            return False
        topic, partition = next(c.key for c in moved if c.key not in rows)
        raise Fenced(consumer, topic, partition)

    async def _save(self, connection: Connection, consumer: str, batch: FoldedBatch) -> None:
        if batch.states:
            states = sorted(batch.states.items(), key=lambda item: item[0])
            await connection.execute(
                self._sql["save"],
                consumer,
                [stream[0] for stream, _ in states],
                [stream[1] for stream, _ in states],
                [state.version for _, state in states],
                [FOLDS[stream[0]].encode(state) for stream, state in states],
            )
        if batch.parked:
            parked = sorted(batch.parked.items())
            await connection.execute(
                self._sql["park"], consumer, [s[0] for s, _ in parked], [s[1] for s, _ in parked], [offset for _, offset in parked]
            )
        if batch.dead:
            await connection.execute(self._sql["bury"], consumer, *_columns(batch.dead))

    async def _record(self, connection: Connection, effects: Sequence[Effect]) -> None:
        await connection.execute(
            self._sql["record_effects"],
            [e.key for e in effects],
            [e.lane for e in effects],
            [e.stream for e in effects],
            [e.kind for e in effects],
            [e.payload for e in effects],
        )

    async def _announce(
        self, connection: Connection, consumer: str, moved: Sequence[Claim], next_offsets: Mapping[TopicPartition, int]
    ) -> None:
        said = [Announcement(self._announced_schema, consumer, c.topic, c.partition, next_offsets[c.key]) for c in moved]
        await connection.execute(self._sql["announce"], CHANNEL, [msgspec.json.encode(a).decode() for a in said])


def _columns(dead: Sequence[DeadLetter]) -> tuple[list[Any], ...]:
    records = [letter.record for letter in dead]
    return (
        [r.topic for r in records],
        [r.partition for r in records],
        [r.offset for r in records],
        [r.key for r in records],
        [r.value for r in records],
        [msgspec.msgpack.encode([(name.encode("utf-8", "surrogateescape"), value) for name, value in r.headers]) for r in records],
        [letter.reason.value for letter in dead],
        [letter.detail for letter in dead],
        [r.recorded_at for r in records],
    )
