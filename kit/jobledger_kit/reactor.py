"""A guarded Faust consumer: Faust brings the records, the ledger decides what has happened.

The same duty as `Projector`, for one topic, with faust-streaming in between. Faust is trusted with nothing but bringing records:

* Positions are ours: Faust asks for committed offsets in one place, and there it is given the checkpoints.
* One transaction moves the checkpoint, folds the events and records the effects that they ask for; its first statement is the fence.
* A record that Faust skipped, a partition that stands still, a lost database or a fence ends `run` with an error. It is not repaired in
  flight: a restart reads the checkpoint.
* Effects are carried out from the ledger, never in the agent: Faust acknowledges an event even when its agent raises.

It overrides private methods of faust-streaming 0.15.3 and mode-streaming 0.7.1, which is why both are pinned exactly.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import faust
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, EventT

from jobledger_contracts.envelope import Record

from .database import DATABASE_AWAY
from .deadletters import Fuse
from .errors import Broken, CheckpointLost, Unavailable
from .lifecycle import last_resort
from .pipeline import OnApplied, Pipeline, React
from .projector import HEARTBEAT_MS, SESSION_TIMEOUT_MS, group_id
from .rawlog import LogUnreadable, RawLog, gaps_in, stop_consumer
from .store import LedgerStore

WITHIN_S: Final = 0.05  #: how long an agent step waits for more records
WATCH_S: Final = 15.0
PROBE_S: Final = 10.0
STOP_S: Final = 20.0  #: Faust joins a thread when it stops, and that may block the loop for good

log = structlog.get_logger(__name__)


class StandsStill(Broken):
    """Faust has not brought a record that is in the log."""


class FaustReactor:
    """Folds one topic into a store, through Faust. Same arguments and same `run` as `Projector`."""

    def __init__(
        self,
        *,
        consumer: str,
        topics: Sequence[str],
        bootstrap_servers: str,
        store: LedgerStore,
        instance_id: str,
        react: React | None = None,
        max_records: int = 200,
        fuse: Fuse | None = None,
        on_applied: OnApplied | None = None,
        security: Mapping[str, Any] | None = None,
        topic_prefix: str = "",
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
        watch_s: float = WATCH_S,
    ) -> None:
        """As `Projector`. Raises ValueError for more than one topic."""
        [self._topic] = topics
        self.consumer, self._prefix, self._watch_s = consumer, topic_prefix, watch_s
        self._max_records = max_records
        self._pipeline = Pipeline(consumer, store, react, fuse or Fuse(), on_applied)
        self._kafka: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, **(security or {})}
        self._settings: dict[str, Any] = {
            "id": group_id(consumer, topics, topic_prefix),
            "broker": [f"kafka://{server.strip()}" for server in bootstrap_servers.split(",")],
            "broker_client_id": f"{consumer}-{instance_id}",
            "broker_credentials": _credentials(security or {}),
            "broker_session_timeout": session_timeout_ms / 1000,
            "broker_heartbeat_interval": min(HEARTBEAT_MS, session_timeout_ms // 3) / 1000,
            "broker_max_poll_records": max(2 * max_records, 500),
            "consumer_group_instance_id": f"{consumer}-{instance_id}",
            "consumer_auto_offset_reset": "earliest",  # never used: positions are the ledger's, and compared with the log
        }

    @property
    def claims(self) -> dict[tuple[str, int], int]:
        """The partitions that this instance owns now, with their checkpoints."""
        return {key: claim.next_offset for key, claim in self._pipeline.claims.items()}

    async def run(self) -> None:
        """Consume until cancelled. Raises Broken for what only a restart repairs, and Unavailable when the database or Kafka is away."""
        probe = AIOKafkaConsumer(isolation_level="read_committed", enable_auto_commit=False, **self._kafka)
        try:
            await probe.start()
            await self._count_partitions(probe)
            with tempfile.TemporaryDirectory(prefix="jobledger-reactor-") as folder:
                app = _App(
                    self._pipeline, RawLog(probe), self._topic, self._prefix, self._max_records, self._watch_s, self._settings, folder
                )
                await self._run_app(app)
        except (KafkaError, *DATABASE_AWAY) as error:
            raise Unavailable(f"{self.consumer} has lost the log or the database: {error!r}") from error
        finally:
            self._pipeline.release()
            await stop_consumer(probe)

    async def _count_partitions(self, probe: AIOKafkaConsumer) -> None:
        name = self._prefix + self._topic
        one = TopicPartition(name, 0)
        probe.assign([one])
        probe.pause(one)  # it only looks things up
        try:
            async with asyncio.timeout(PROBE_S):
                await probe.position(one)
        except TimeoutError:
            raise Unavailable(f"{name} cannot be found: there is no such topic, or no leader for it.") from None
        self._pipeline.partitions = {self._topic: len(probe.partitions_for_topic(name) or ())}

    async def _run_app(self, app: _App) -> None:
        failed = asyncio.create_task(app.failed.wait(), name=f"failure of {self.consumer}")
        stopped = asyncio.create_task(app.wait_until_stopped(), name=f"end of {self.consumer}")
        try:
            await app.start()
            await asyncio.wait((failed, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            with last_resort(STOP_S):
                failed.cancel()
                await app.stop()
                await asyncio.wait((failed, stopped))  # not cancelled: mode would leave a task behind
        if error := app.failure or app.crash_reason:
            raise error
        raise Broken(f"Faust has stopped {self.consumer} by itself.")


class _Thread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread: reads only what is committed, is stopped by no record, and always by us."""

    async def on_thread_stop(self) -> None:
        consumer, self._consumer = self._consumer, None  # else Faust stops it in a way that can leave the thread, and its joiner, hanging
        await super().on_thread_stop()
        if consumer is not None:
            await stop_consumer(consumer)

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - Faust has no setting for it
        return consumer

    async def _fetch_records(
        self, consumer: AIOKafkaConsumer, active_partitions: set[TP], timeout: float | None = None, max_records: int | None = None
    ) -> Mapping[TP, list[Any]]:
        positions = _positions(consumer, active_partitions)
        try:
            return await super()._fetch_records(consumer, active_partitions, timeout=timeout, max_records=max_records)
        except (UnicodeDecodeError, CorruptRecordException):
            return await RawLog(consumer).reread(positions)


def _positions(consumer: AIOKafkaConsumer, partitions: Iterable[TP] | None) -> dict[TopicPartition, int]:
    subscription = consumer._subscription.subscription  # noqa: SLF001 - `position()` would wait for one
    assignment = subscription.assignment if subscription is not None else None
    if assignment is None:
        return {}
    states = {tp: assignment.state_value(tp) for tp in assignment.tps if not partitions or tp in partitions}
    return {tp: state.position for tp, state in states.items() if state is not None and state.has_valid_position}


class _Consumer(driver.Consumer):
    """Faust's consumer, with the ledger's positions in place of the group's committed offsets."""

    app: _App

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        try:  # first of all: Faust's own callbacks start the task that seeks
            await self.app.pipeline.claim((self.app.source, tp.partition) for tp in assigned)
        except Exception as error:  # noqa: BLE001 - aiokafka would log what a listener raises, and go on
            self.app.fail(error)
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)  # waits for the batch in hand
        self.app.pipeline.release()

    async def seek_to_committed(self) -> dict[TP, int]:
        """Faust calls this after each rebalance, and wherever else it wants to know where to read on."""
        positions = self._checkpoints(self.assignment())
        first, end = await self.earliest_offsets(*positions), await self.highwaters(*positions)
        for tp, offset in positions.items():
            if not first[tp] <= offset <= end[tp]:  # auto.offset.reset would jump and say nothing
                self.app.fail(CheckpointLost(tp.topic, tp.partition, offset, f"it has {first[tp]} to {end[tp]}"))
        await self.seek_wait(positions)
        return positions

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Publish our checkpoints as the group's offsets, for lag tools; nothing reads them back."""
        ours = {} if self.should_stop else self._checkpoints(offsets)  # after a crash the thread that commits is gone
        return bool(ours) and bool(await super()._commit(ours))

    def _checkpoints(self, tps: Iterable[TP]) -> dict[TP, int]:
        claims = self.app.pipeline.claims
        return {tp: claims[self.app.source, tp.partition].next_offset for tp in tps if (self.app.source, tp.partition) in claims}


class _Transport(driver.Transport):
    Consumer = _Consumer


class _App(faust.App):
    """One agent over `handle`, and a watch."""

    def __init__(
        self,
        pipeline: Pipeline,
        raw: RawLog,
        source: str,
        prefix: str,
        max_records: int,
        watch_s: float,
        settings: dict[str, Any],
        folder: str,
    ) -> None:
        self.pipeline, self.source, self._raw = pipeline, source, raw
        self._physical, self._max_records = prefix + source, max_records
        self.failure: Exception | None = None
        self.failed = asyncio.Event()
        self._waiting_at: dict[int, int] = {}  # partition -> the checkpoint behind which the last watch saw a record wait
        identity = settings["id"]
        super().__init__(
            identity,
            datadir=folder,
            key_serializer="raw",
            value_serializer="raw",
            table_standby_replicas=0,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            **{name: value for name, value in settings.items() if name != "id" and value is not None},
        )
        self.agent(self.topic(self._physical), concurrency=1)(self.react)
        self.timer(watch_s)(self.watch)

    def _new_transport(self) -> _Transport:
        return _Transport(self.conf.broker_consumer, self)

    def fail(self, reason: Exception) -> None:
        """Fold nothing more, and make `run` end. (Faust's `crash` sets events of its thread's loop from this one.)"""
        self.failure = self.failure or reason
        self.failed.set()

    async def react(self, stream: faust.StreamT[bytes]) -> None:
        async for events in stream.take_events(self._max_records, within=WITHIN_S):  # type: ignore[attr-defined]  # the stream has it
            try:
                if not self.failure:
                    await self.handle(events)
            except Exception as error:  # noqa: BLE001 - Faust would acknowledge these events and carry on behind them
                self.fail(error)

    async def handle(self, events: Sequence[EventT[bytes]]) -> None:
        """Fold what is new of the events, in one transaction."""
        by_partition: dict[int, list[Any]] = {}
        for event in events:
            by_partition.setdefault(event.message.partition, []).append(event.message)
        records: list[Record] = []
        next_offsets: dict[tuple[str, int], int] = {}
        for partition, messages in by_partition.items():
            claim = self.pipeline.claims.get((self.source, partition))
            if claim is None:  # revoked while it lay in a buffer
                continue
            fresh = [m for m in messages if m.offset >= claim.next_offset]
            if not fresh:
                continue
            if gaps := gaps_in(fresh, claim.next_offset):
                await self._raw.check_gaps(TopicPartition(self._physical, partition), gaps)
            records += [_record(self.source, m) for m in fresh]
            next_offsets[self.source, partition] = fresh[-1].offset + 1
        if records:
            await self.pipeline.commit(await self.pipeline.fold(records, next_offsets))

    async def watch(self) -> None:
        """Fail if a record has waited behind the same checkpoint since the last look."""
        for (_, partition), claim in list(self.pipeline.claims.items()):
            offset = claim.next_offset
            try:
                records, _ = await self._raw.read(TopicPartition(self._physical, partition), offset)
            except KafkaError as error:
                log.warning("The watch cannot see the log", consumer=self.pipeline.consumer, error=repr(error))
                return
            except (CheckpointLost, LogUnreadable) as error:
                self.fail(error)
                return
            if records and offset == self._waiting_at.get(partition) == claim.next_offset:
                self.fail(StandsStill(f"{self._physical}-{partition} stands still at offset {offset}, though a record is there."))
            self._waiting_at[partition] = offset if records else -1


def _record(topic: str, message: Any) -> Record:
    """Faust gives times in seconds."""
    timestamp_ms = -1 if message.timestamp is None else round(message.timestamp * 1000)
    return Record(topic, message.partition, message.offset, timestamp_ms, message.key, message.value, tuple(message.headers or ()))


def _credentials(security: Mapping[str, Any]) -> Any:
    """aiokafka's security arguments, as Faust wants them; None for none."""
    protocol, context = security.get("security_protocol", "PLAINTEXT"), security.get("ssl_context")
    if protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=security["sasl_plain_username"],
            password=security["sasl_plain_password"],
            mechanism=security["sasl_mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if protocol == "SSL" else None
