"""Making a read model again beside the live one, comparing the two row by row, and putting the new one in the old one's place.

The rows are a fold of the log, so they can be made again from it at any time. They are made in a schema of their own
(`<schema>_rebuilt`), by several processes, each with partitions of its own; the live service goes on meanwhile. Then both are compared as
of the same position: the live side in a snapshot, the new one folded exactly as far as that snapshot has come. To swap, the live
checkpoints are locked, what little has come since is folded, and the tables change places in one transaction. All that the consumer
claimed before is fenced: its projectors begin anew, on the new rows. The old ones stay in `<schema>_before`, to go back to.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from jobledger_contracts.envelope import Record

from .database import DATABASE_AWAY, Connection
from .deadletters import Fuse
from .differences import Comparison, Row, compare
from .errors import Broken, CheckpointLost, Conflict, JobledgerError, Unavailable
from .folds import DeadLetter
from .pipeline import Pipeline
from .queries import load_queries
from .rawlog import RawLog, gaps_in, stop_consumer
from .store import LedgerStore

Offsets = Mapping[tuple[str, int], int]
"""(topic, partition) -> next offset."""

LEDGER_TABLES: Final = ("streams", "dead_letters")
"""The kit's own tables that are made from the log alone, like the service's."""
_NOT_COMPARED: Final = {"dead_letters": ("buried_at", "resolution", "resolved_by", "resolved_at")}
"""What people and clocks have added."""
MAX_RECORDS: Final = 2000
POLL_MS: Final = 500
PROGRESS_S: Final = 0.5
PREFETCH_ROWS: Final = 2000


class NotAsBefore(Broken):
    """A record that was folded then cannot be folded now: the log, or the code that reads it, is not what it was."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Whose rows are made again, and from which log. Everything in it can be pickled, for the processes that do the work."""

    store: type[LedgerStore]
    database_url: str
    consumer: str
    topics: tuple[str, ...]
    bootstrap_servers: str
    security: Mapping[str, Any] = {}
    topic_prefix: str = ""

    @property
    def schema(self) -> str:
        return self.store.schema

    @property
    def rebuilt(self) -> str:
        return f"{self.schema}_rebuilt"

    @property
    def before(self) -> str:
        return f"{self.schema}_before"

    async def open_rebuilt(self) -> LedgerStore:
        """The store of the rebuilt rows."""
        return await self.store.open(self.database_url, schema=self.rebuilt, max_size=2)

    def uncompared(self, table: str) -> tuple[str, ...]:
        """The columns of a table that are not from the log."""
        return _NOT_COMPARED.get(table) or self.store.uncompared.get(table, ())

    @property
    def tables(self) -> tuple[str, ...]:
        return (*LEDGER_TABLES, *self.store.projected)


class Progress(msgspec.Struct, frozen=True):
    """How far the rebuild is."""

    records: int
    of: int
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.elapsed_s if self.elapsed_s else 0.0


OnProgress = Callable[[Progress], None]


async def rebuild(
    source: Source, *, processes: int = 0, on_progress: OnProgress | None = None, initializer: Callable[[], None] | None = None
) -> Progress:
    """Make the rows again in `<schema>_rebuilt`, as far as the live ones have come. 0 processes: one for each core.

    `initializer` is called in each process first; it can be pickled.
    Raises Broken: at the first record that is a dead letter now and was none then, when the log's head was cut, or when something is away.
    """
    began = time.monotonic()
    connection = await asyncpg.connect(source.database_url)
    try:
        await connection.execute(_sql("drop", schema=source.rebuilt))
        ends = await _checkpoints(connection, source, source.schema)
        await (await source.open_rebuilt()).close()
        portions = _portions(ends, processes or os.cpu_count() or 1)
        total = sum(ends.values())
        with ProcessPoolExecutor(max(1, len(portions)), mp_context=multiprocessing.get_context("spawn"), initializer=initializer) as pool:
            loop = asyncio.get_running_loop()
            work = asyncio.gather(*(loop.run_in_executor(pool, _work, source, portion) for portion in portions))
            while not work.done():
                await asyncio.wait((work,), timeout=PROGRESS_S)
                done = sum((await _checkpoints(connection, source, source.rebuilt)).values())
                if on_progress is not None:
                    on_progress(Progress(done, total, time.monotonic() - began))
            await work
        return Progress(total, total, time.monotonic() - began)
    finally:
        await connection.close()


async def compare_with_live(source: Source) -> list[Comparison]:
    """Compare every table with its live twin, both as of one moment. Raises Conflict when nothing was rebuilt."""
    live, rebuilt = await asyncpg.connect(source.database_url), await asyncpg.connect(source.database_url)
    try:
        await _require(live, source.rebuilt, "there are no rebuilt rows: rebuild them first")
        async with live.transaction(isolation="repeatable_read", readonly=True):
            await _fold_to(source, await _checkpoints(live, source, source.schema))
            async with rebuilt.transaction(isolation="repeatable_read", readonly=True):
                return [
                    await compare(table, _rows(live, source, source.schema, table), _rows(rebuilt, source, source.rebuilt, table))
                    for table in source.tables
                ]
    finally:
        await live.close()
        await rebuilt.close()


async def swap(source: Source) -> None:
    """Put the rebuilt tables in the live ones' place, in one transaction; those stay in `<schema>_before`. Raises Conflict."""
    names = {"live": source.schema, "rebuilt": source.rebuilt, "before": source.before}
    connection = await asyncpg.connect(source.database_url)
    try:
        await _require(connection, source.rebuilt, "there are no rebuilt rows: rebuild them first")
        async with connection.transaction():
            await _fold_to(source, await _checkpoints(connection, source, source.schema, lock=True))
            await connection.execute(_sql("begin_anew", schema=source.before))
            await connection.execute(_sql("keep_checkpoints", **names))
            await connection.execute(_sql("keep_resolutions", **names))
            await _move(connection, source, source.schema, source.before)
            await _move(connection, source, source.rebuilt, source.schema)
            await connection.execute(_sql("fence", **names), source.consumer)
            await connection.execute(_sql("drop", schema=source.rebuilt))
    finally:
        await connection.close()


async def roll_back(source: Source) -> None:
    """Put the rows from before the last swap back, with the checkpoints that they had: what came since is folded again. Raises Conflict."""
    connection = await asyncpg.connect(source.database_url)
    try:
        await _require(connection, source.before, "there are no rows from before a swap")
        async with connection.transaction():
            await _checkpoints(connection, source, source.schema, lock=True)
            await connection.execute(_sql("begin_anew", schema=source.rebuilt))
            await _move(connection, source, source.schema, source.rebuilt)
            await _move(connection, source, source.before, source.schema)
            await connection.execute(_sql("go_back", live=source.schema, before=source.before), source.consumer)
            await connection.execute(_sql("drop", schema=source.before))
            await connection.execute(_sql("drop", schema=source.rebuilt))
    finally:
        await connection.close()


def _work(source: Source, ends: Offsets) -> None:
    """One process's share. Raises Broken, whatever was wrong: not every error of ours can be handed to another process."""
    try:
        uvloop.run(_fold_to(source, ends))
    except JobledgerError as error:
        raise Broken(error.message) from None


def _portions(ends: Offsets, processes: int) -> list[dict[tuple[str, int], int]]:
    """Share partitions out, the longest first, each to whoever has least."""
    portions: list[dict[tuple[str, int], int]] = [{} for _ in range(processes)]
    for key, end in sorted(ends.items(), key=lambda item: (-item[1], item[0])):
        min(portions, key=lambda portion: sum(portion.values()))[key] = end
    return [portion for portion in portions if portion]


async def _fold_to(source: Source, ends: Offsets) -> None:
    """Fold partitions into the rebuilt rows, from where those stand up to `ends`."""
    store = await source.open_rebuilt()
    kafka = AIOKafkaConsumer(
        bootstrap_servers=source.bootstrap_servers, enable_auto_commit=False, isolation_level="read_committed", **source.security
    )
    try:
        await kafka.start()
        await _fold(source, store, kafka, ends)
    except (KafkaError, *DATABASE_AWAY) as error:
        raise Unavailable(f"The log or the database is away: {error!r}") from error
    finally:
        await stop_consumer(kafka)
        await store.close()


async def _fold(source: Source, store: LedgerStore, kafka: AIOKafkaConsumer, ends: Offsets) -> None:
    names = {TopicPartition(source.topic_prefix + topic, partition): (topic, partition) for topic, partition in ends}
    pipeline, raw = Pipeline(source.consumer, store, None, Fuse(), None), RawLog(kafka)
    claims = await pipeline.claim(ends)
    cursor = {tp: claims[name].next_offset for tp, name in names.items()}
    kafka.assign(list(names))
    for tp, first in (await kafka.beginning_offsets(list(names))).items():
        if cursor[tp] < first:
            raise CheckpointLost(tp.topic, tp.partition, cursor[tp], f"it begins at {first}")
        kafka.seek(tp, cursor[tp])
        pipeline.partitions[names[tp][0]] = len(kafka.partitions_for_topic(tp.topic) or ())
    while open_ := [tp for tp, name in names.items() if cursor[tp] < ends[name]]:
        polled = await raw.poll(cursor, POLL_MS, MAX_RECORDS)
        records: list[Record] = []
        next_offsets: dict[tuple[str, int], int] = {}
        for tp, found in polled.items():
            fresh = [r for r in found if cursor[tp] <= r.offset < ends[names[tp]]]
            if not fresh:
                continue
            if gaps := gaps_in(fresh, cursor[tp]):
                await raw.check_gaps(tp, gaps)
            records += [Record(names[tp][0], r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in fresh]
            next_offsets[names[tp]] = cursor[tp] = fresh[-1].offset + 1
        if records:
            prepared = await pipeline.fold(records, next_offsets)
            await _check_dead(source, store, prepared.batch.dead)
            await pipeline.commit(prepared)
        elif not polled:
            for tp in open_:
                if await kafka.position(tp) >= ends[names[tp]]:  # a transaction's marker at the end is no record
                    cursor[tp] = ends[names[tp]]


async def _check_dead(source: Source, store: LedgerStore, dead: Sequence[DeadLetter]) -> None:
    """Raise NotAsBefore at the first letter that the live ledger does not have, for the same reason."""
    if not dead:
        return
    places = [(letter.record.topic, letter.record.partition, letter.record.offset) for letter in dead]
    rows = await store.pool.fetch(_sql("known_letters", live=source.schema), source.consumer, *map(list, zip(*places, strict=True)))
    known = {tuple(row) for row in rows}
    for letter, place in zip(dead, places, strict=True):
        if (*place, letter.reason.value) not in known:
            where = f"{letter.record.topic} {letter.record.position}"
            raise NotAsBefore(f"{where} was folded before and cannot be now: {letter.reason.value}: {letter.detail}")


async def _checkpoints(connection: Connection, source: Source, schema: str, *, lock: bool = False) -> dict[tuple[str, int], int]:
    query = _sql("lock_checkpoints" if lock else "checkpoints", schema=schema)
    return {(row["topic"], row["partition"]): row["next_offset"] for row in await connection.fetch(query, source.consumer)}


async def _rows(connection: Connection, source: Source, schema: str, table: str) -> AsyncIterator[Row]:
    """A table's rows in the order of their keys. One without a primary key is its own key."""
    columns = [row["name"] for row in await connection.fetch(_sql("key_columns"), f'"{schema}"."{table}"')]
    left_out = "".join(f" - '{name}'" for name in source.uncompared(table))
    content = f"(to_jsonb(t){left_out})::text" if left_out else "t::text"
    key = f"""concat_ws(' ', {", ".join(f't."{name}"::text' for name in columns)})""" if columns else content
    query = _sql("rows", schema=schema, table=table, key=key, content=content)
    async for row in connection.cursor(query, prefetch=PREFETCH_ROWS):
        yield row["key"], row["digest"]


async def _move(connection: Connection, source: Source, origin: str, target: str) -> None:
    for table in source.tables:
        await connection.execute(_sql("move", schema=origin, table=table, target=target))


async def _require(connection: Connection, schema: str, otherwise: str) -> None:
    if not await connection.fetchval(_sql("exists"), schema):
        raise Conflict(otherwise)


def _sql(name: str, **names: str) -> str:
    query = load_queries("jobledger_kit", "sql/rebuild.sql")[name]
    return query.format(**names) if names else query
