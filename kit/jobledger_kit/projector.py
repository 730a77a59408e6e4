"""The one consumer loop: poll, decode, fold, commit. What every read model hangs on, and a reactor that needs no Faust.

Positions are the ledger's own. Kafka's group says who reads which partition and nothing else: whenever it has changed its mind, the
assigned partitions are claimed in PostgreSQL, and read from the checkpoints found there. While one batch is committed the next one is
read and folded; it is committed only after the first. What is worth waiting for (the broker or the database is away) is waited for;
whatever else goes wrong ends `run` with an error, and a restart goes on from the checkpoint.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
)

from jobledger_contracts.envelope import Record

from . import metrics
from .database import DATABASE_AWAY
from .deadletters import Fuse
from .errors import Broken, CheckpointLost, Fenced
from .pipeline import OnApplied, Pipeline, Prepared, React
from .rawlog import RawLog, gaps_in, stop_consumer
from .store import LedgerStore

POLL_MS: Final = 500
SESSION_TIMEOUT_MS: Final = 10_000
HEARTBEAT_MS: Final = 1_000
MAX_POLL_INTERVAL_MS: Final = 15 * 60_000  # the database may be away for long; a dead loop ends its process otherwise
GROUP_COMMIT_S: Final = 5.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
SETTLE_S: Final = 10.0  #: for a commit that is under way when the partition goes, or the loop ends
END_CHECKS: Final = 10  #: looks, a second apart, before a log that ends before our checkpoint is taken at its word

_HOPELESS: Final = (GroupAuthorizationFailedError, TopicAuthorizationFailedError, SaslAuthenticationFailed, UnsupportedCodecError)

T = TypeVar("T")
log = structlog.get_logger(__name__)


def group_id(consumer: str, topics: Sequence[str], topic_prefix: str = "") -> str:
    """The Kafka group of a consumer. Other topics make another group: a static member that comes back with other topics is given its old
    partitions, and fails on them. Nothing is lost by a new group, as the positions are not Kafka's."""
    names = ",".join(sorted(topics))
    return f"{topic_prefix}{consumer}.{hashlib.sha256(names.encode()).hexdigest()[:8]}"


class Outage:
    """Says once that something is away, and once that it is back. `wait` backs off."""

    def __init__(self, consumer: str, what: str) -> None:
        self._consumer, self._what = consumer, what
        self._since: float | None = None
        self._wait_s = FIRST_WAIT_S

    async def wait(self, error: BaseException) -> None:
        if self._since is None:
            self._since = time.monotonic()
            metrics.OUTAGES.labels(self._consumer, self._what).inc()
            log.warning("Away; trying again until it is back", consumer=self._consumer, what=self._what, error=repr(error))
        await asyncio.sleep(self._wait_s)
        self._wait_s = min(LONGEST_WAIT_S, self._wait_s * 2)

    def over(self) -> None:
        if self._since is not None:
            log.info("Back", consumer=self._consumer, what=self._what, away_s=round(time.monotonic() - self._since, 1))
        self._since, self._wait_s = None, FIRST_WAIT_S


class Projector:
    """Folds topics into a store. `await run()`; every instance of a consumer needs an `instance_id` of its own, stable over restarts."""

    def __init__(
        self,
        *,
        consumer: str,
        topics: Sequence[str],
        bootstrap_servers: str,
        store: LedgerStore,
        instance_id: str,
        react: React | None = None,
        max_records: int = 2000,
        fuse: Fuse | None = None,
        on_applied: OnApplied | None = None,
        security: Mapping[str, Any] | None = None,
        topic_prefix: str = "",
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
    ) -> None:
        """`consumer` names the checkpoints; `react` is pure, and asked about every folded event; `on_applied` is called after each commit.

        `security` is what `ServiceSettings.kafka_security()` gives. `topic_prefix` goes before every topic's name in Kafka.
        """
        self.consumer, self._topics, self._prefix = consumer, tuple(topics), topic_prefix
        self._max_records = max_records
        self._pipeline = Pipeline(consumer, store, react, fuse or Fuse(), on_applied)
        self._options: dict[str, Any] = {
            "bootstrap_servers": bootstrap_servers,
            "client_id": f"{consumer}-{instance_id}",
            "group_id": group_id(consumer, self._topics, topic_prefix),
            "group_instance_id": f"{consumer}-{instance_id}",
            "session_timeout_ms": session_timeout_ms,
            "heartbeat_interval_ms": min(HEARTBEAT_MS, session_timeout_ms // 3),
            **(security or {}),
        }
        self._database, self._log = Outage(consumer, "database"), Outage(consumer, "log")
        self._changed = True  # the group has changed its mind since we last claimed
        self._joining = True  # and has not yet said what is ours now
        self._cursor: dict[TopicPartition, int] = {}  # what is folded, committed or not
        self._commit: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._tell_at = 0.0

    @property
    def claims(self) -> dict[tuple[str, int], int]:
        """The partitions that this instance owns now, with their checkpoints."""
        return {key: claim.next_offset for key, claim in self._pipeline.claims.items()}

    async def run(self) -> None:
        """Consume until cancelled. Raises Broken (Fenced, CheckpointLost, FuseBlown, LogUnreadable) for what only a restart repairs."""
        while True:
            try:
                await self._consume()
            except _HOPELESS as error:
                raise Broken(f"{self.consumer} may not read the log: {error!r}") from error
            except (KafkaError, OSError) as error:
                await self._log.wait(error)

    async def _consume(self) -> None:
        """One consumer's life, until Kafka or we end it."""
        consumer = AIOKafkaConsumer(
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            **self._options,
        )
        self._changed = self._joining = True
        consumer.subscribe([self._prefix + topic for topic in self._topics], listener=_Listener(self))
        try:
            await consumer.start()
            self._log.over()
            await self._loop(consumer, RawLog(consumer))
        finally:
            await self._wait_for_commit()
            self._pipeline.release()
            await self._stop(consumer)

    async def _loop(self, consumer: AIOKafkaConsumer, raw: RawLog) -> None:
        while True:
            if self._changed and not self._joining:
                await self._take_over(consumer, raw)
            try:
                polled = await raw.poll(self._cursor, POLL_MS, self._max_records)
            except NoOffsetForPartitionError:
                continue  # aiokafka had asked the group for a position before we set it
            except OffsetOutOfRangeError as error:
                await self._check_range(error.args[0])
                continue
            if not self._changed and polled:
                await self._take(polled, raw)
            if not polled:
                await self._settle()
            self._measure(consumer)
            self._tell_group(consumer)

    async def _take(self, polled: Mapping[TopicPartition, Sequence[Any]], raw: RawLog) -> None:
        """Fold what was polled while the last batch is committed; then commit this one in its turn."""
        records: list[Record] = []
        next_offsets: dict[tuple[str, int], int] = {}
        for tp, found in polled.items():
            expected = self._cursor[tp]
            fresh = found if found and found[0].offset >= expected else [r for r in found if r.offset >= expected]
            if not fresh:
                continue
            if gaps := gaps_in(fresh, expected):
                await raw.check_gaps(tp, gaps)
            topic = tp.topic.removeprefix(self._prefix)
            records += [Record(topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in fresh]
            next_offsets[topic, tp.partition] = fresh[-1].offset + 1
        if not records:
            return
        prepared = await self._insist(lambda: self._pipeline.fold(records, next_offsets))
        await self._settle()
        if self._changed:  # the claims are old; what was folded is folded again from the checkpoint, by whoever has it then
            return
        for (topic, partition), offset in next_offsets.items():
            self._cursor[TopicPartition(self._prefix + topic, partition)] = offset
        self._commit = asyncio.create_task(self._insist_on_commit(prepared), name=f"commit {self.consumer}")

    async def _insist_on_commit(self, prepared: Prepared) -> None:
        await self._insist(lambda: self._pipeline.commit(prepared))

    async def _insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do it, waiting as long as the database is away."""
        while True:
            try:
                result = await attempt()
            except DATABASE_AWAY as error:
                await self._database.wait(error)
            else:
                self._database.over()
                return result

    async def _settle(self) -> None:
        """Wait for the commit that is under way. Raises what it raised, but not Fenced when the partitions were taken from us in order."""
        task, self._commit = self._commit, None
        if task is None:
            return
        try:
            await task
        except Fenced as error:
            if not self._changed:
                raise
            log.info("A batch was left to the partition's next owner", consumer=self.consumer, error=str(error))

    async def _wait_for_commit(self) -> None:
        """At the end of a consumer's life: a commit that is under way may still succeed, but not hold us up."""
        task, self._commit = self._commit, None
        if task is None:
            return
        await asyncio.wait([task], timeout=SETTLE_S)
        task.cancel()
        with suppress(asyncio.CancelledError, Fenced, *DATABASE_AWAY):  # the checkpoint says whether it happened
            await task

    async def revoked(self) -> None:
        """The group takes partitions away: let the batch in hand be committed, within a bound, and start no other.

        Nothing is claimed before `assigned`: until then aiokafka still names the old partitions as ours, and to claim them once more
        would take them from their next owner.
        """
        self._changed = self._joining = True
        if self._commit is not None:
            await asyncio.wait([self._commit], timeout=SETTLE_S)

    def assigned(self) -> None:
        """The group has assigned partitions."""
        self._changed, self._joining = True, False

    async def _take_over(self, consumer: AIOKafkaConsumer, raw: RawLog) -> None:
        """Claim what the group assigned, and read it from our checkpoints."""
        await self._settle()
        self._changed = False
        assigned = consumer.assignment()
        names = {tp: (tp.topic.removeprefix(self._prefix), tp.partition) for tp in assigned}
        claims = await self._insist(lambda: self._pipeline.claim(names.values()))
        self._pipeline.partitions = {
            topic: len(consumer.partitions_for_topic(self._prefix + topic) or ()) for topic in {topic for topic, _ in names.values()}
        }
        self._cursor = {tp: claims[name].next_offset for tp, name in names.items()}
        try:
            await self._check_range(self._cursor, consumer)
            for tp, offset in self._cursor.items():
                consumer.seek(tp, offset)
        except IllegalStateError:  # assigned otherwise meanwhile
            self._changed = True
        if assigned:
            log.info("Partitions claimed", consumer=self.consumer, partitions={f"{t}-{p}": c.next_offset for (t, p), c in claims.items()})

    async def _check_range(self, offsets: Mapping[TopicPartition, int], consumer: AIOKafkaConsumer | None = None) -> None:
        """Raise CheckpointLost when a checkpoint is not in the log."""
        if consumer is None:  # Kafka itself has said so, of an offset that we may have left meanwhile
            for tp, offset in offsets.items():
                if self._cursor.get(tp) == offset:
                    raise CheckpointLost(tp.topic, tp.partition, offset)
            return
        first = await consumer.beginning_offsets(offsets)
        for check in range(END_CHECKS):
            end = await consumer.end_offsets(offsets)
            # A broker that has just come back may not yet have found its end again.
            if all(offset <= end[tp] for tp, offset in offsets.items()):
                break
            await asyncio.sleep(1.0 if check + 1 < END_CHECKS else 0)
        for tp, offset in offsets.items():
            if not first[tp] <= offset <= end[tp]:
                raise CheckpointLost(tp.topic, tp.partition, offset, f"it has {first[tp]} to {end[tp]}")

    def _measure(self, consumer: AIOKafkaConsumer) -> None:
        for (topic, partition), claim in self._pipeline.claims.items():
            with suppress(IllegalStateError, AssertionError):
                end = consumer.highwater(TopicPartition(self._prefix + topic, partition))
                if end is not None:
                    metrics.LAG.labels(self.consumer, topic, str(partition)).set(max(0, end - claim.next_offset))

    def _tell_group(self, consumer: AIOKafkaConsumer) -> None:
        """Tell Kafka how far we have come, for lag tools; nobody reads it back, and nothing waits for it."""
        if time.monotonic() < self._tell_at or not self._pipeline.claims or (self._telling is not None and not self._telling.done()):
            return
        self._tell_at = time.monotonic() + GROUP_COMMIT_S
        offsets = {TopicPartition(self._prefix + topic, p): claim.next_offset for (topic, p), claim in self._pipeline.claims.items()}
        self._telling = asyncio.create_task(self._tell(consumer, offsets), name=f"group commit {self.consumer}")

    async def _tell(self, consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
        try:
            await consumer.commit(offsets)
        except (KafkaError, IllegalStateError) as error:
            log.debug("The group was not told how far we are", consumer=self.consumer, error=repr(error))

    async def _stop(self, consumer: AIOKafkaConsumer) -> None:
        """Stop the consumer, and only then what was being told to the group: aiokafka shields a request under way, and nobody would see
        how it ended. Without connections it ends at once; what may go on for ever is aiokafka's trying again."""
        await stop_consumer(consumer)
        task, self._telling = self._telling, None
        if task is not None:
            await asyncio.wait([task], timeout=1)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no types
    """Notes that the group has changed its mind; the loop acts on it."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._projector.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._projector.assigned()
