"""What both consumer loops do with records, whoever brings them: fold, ask for effects, commit; under claims, with a cache of states."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from jobledger_contracts.envelope import Invalid, Record

from . import metrics
from .deadletters import Fuse
from .effects import Effect
from .folds import Folded, FoldedBatch, StreamKey, fold_batch, streams_of
from .store import Claim, LedgerStore, TopicPartition

CHUNK: Final = 100  #: records folded before other tasks get their turn: some 3 ms
CACHED_STREAMS: Final = 20_000

React = Callable[[Folded], Iterable[Effect]]
OnApplied = Callable[[FoldedBatch], None]


class Prepared(msgspec.Struct):
    """A batch that is folded, and not committed yet."""

    batch: FoldedBatch
    effects: list[Effect]
    claims: list[Claim]
    next_offsets: dict[TopicPartition, int]


class StateCache:
    """The latest states of the streams that were used last. Holds at least `size` and at most twice as many.

    Two generations: what is used moves to the young one; when that is full, the old one is forgotten. `size` must be more than two
    batches have streams, as the states of a batch that is being committed are nowhere else.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[StreamKey, Any] = {}
        self._old: dict[StreamKey, Any] = {}

    def find(self, streams: Iterable[StreamKey]) -> tuple[dict[StreamKey, Any], list[StreamKey]]:
        """Return the states that are known, and the streams whose states are not."""
        known, missing = {}, []
        young, old = self._young, self._old
        for stream in streams:
            state = young.get(stream)
            if state is None:
                state = old.get(stream)
                if state is None:
                    missing.append(stream)
                    continue
                young[stream] = state
            known[stream] = state
        return known, missing

    def put(self, states: Mapping[StreamKey, Any]) -> None:
        self._young.update(states)
        if len(self._young) >= self._size:
            self._young, self._old = {}, self._young

    def clear(self) -> None:
        self._young, self._old = {}, {}


class Pipeline:
    """Folds and commits for one consumer. Not for use by several tasks at once, but one batch may be folded while one is committed."""

    def __init__(
        self,
        consumer: str,
        store: LedgerStore,
        react: React | None,
        fuse: Fuse,
        on_applied: OnApplied | None,
        cached_streams: int = CACHED_STREAMS,
    ) -> None:
        self.consumer, self.store = consumer, store
        self._react, self._fuse, self._on_applied = react, fuse, on_applied
        self.claims: dict[TopicPartition, Claim] = {}
        self.partitions: dict[str, int] = {}  #: of each topic; to be set before records come
        self._cache = StateCache(cached_streams)
        self._parked: set[StreamKey] = set()  # of the cached streams; a stream that is parked stays so

    async def claim(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Claim]:
        """Take partitions over, and forget all others and every state. asyncpg's errors pass."""
        self.release()
        self.claims = await self.store.claim(self.consumer, partitions)
        return self.claims

    def release(self) -> None:
        """Own nothing."""
        self.claims = {}
        self._cache.clear()
        self._parked.clear()
        self._fuse.reset()

    async def fold(self, records: Sequence[Record], next_offsets: Mapping[TopicPartition, int]) -> Prepared:
        """Fold records of claimed partitions; commit the result, or `release`. Raises FuseBlown; asyncpg's errors pass: call again."""
        begun = time.perf_counter()
        states, missing = self._cache.find(streams_of(records))
        if missing:
            loaded, parked = await self.store.load(self.consumer, missing)
            states |= loaded
            self._parked |= parked
            self._cache.put(loaded)
        batch = FoldedBatch()
        for start in range(0, len(records), CHUNK):
            fold_batch(records[start : start + CHUNK], self.partitions, states, self._parked, batch)
            await asyncio.sleep(0)
        bad = sum(letter.reason is not Invalid.PARKED for letter in batch.dead)
        self._fuse.feed(good=len(records) - bad, bad=bad)
        self._cache.put(batch.states)
        self._parked |= batch.parked.keys()
        effects = [effect for folded in batch.folded for effect in self._react(folded)] if self._react else []
        metrics.BATCH_SECONDS.labels(self.consumer, "fold").observe(time.perf_counter() - begun)
        return Prepared(batch, effects, [self.claims[key] for key in next_offsets], dict(next_offsets))

    async def commit(self, prepared: Prepared) -> None:
        """Commit a batch. Raises Fenced; asyncpg's errors pass: call again with the same batch."""
        begun = time.perf_counter()
        await self.store.apply(self.consumer, prepared.claims, prepared.batch, prepared.next_offsets, prepared.effects)
        metrics.BATCH_SECONDS.labels(self.consumer, "commit").observe(time.perf_counter() - begun)
        self._count(prepared)
        if self._on_applied is not None:
            self._on_applied(prepared.batch)

    def _count(self, prepared: Prepared) -> None:
        batch = prepared.batch
        metrics.BATCH_RECORDS.labels(self.consumer).observe(len(batch.folded) + len(batch.dead))
        for (topic, outcome), number in Counter((f.record.topic, f.verdict.outcome.value) for f in batch.folded).items():
            metrics.RECORDS.labels(self.consumer, topic, outcome).inc(number)
        for (topic, reason), number in Counter((d.record.topic, d.reason.value) for d in batch.dead).items():
            metrics.DEAD_LETTERS.labels(self.consumer, topic, reason).inc(number)
        for (topic, partition), offset in prepared.next_offsets.items():
            metrics.CHECKPOINT.labels(self.consumer, topic, str(partition)).set(offset)
