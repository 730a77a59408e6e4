"""Publishing to the log, and laying out its topics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import aiokafka
import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordTooLargeError, for_code

from jobledger_contracts import topics
from jobledger_contracts.catalogue import by_struct
from jobledger_contracts.envelope import Event, encode
from jobledger_contracts.ids import Position, partition_for

from . import metrics
from .errors import OutcomeUnknown, TooLarge, TopicMismatch, Unavailable
from .writer import MAX_BATCH_BYTES, Entry, PartitionWriter

PUBLISH_TIMEOUT_S: Final = 10.0
PING_TIMEOUT_S: Final = 2.0
LEADERS_TIMEOUT_S: Final = 15.0

_ACKNOWLEDGED: Final = metrics.PUBLISHED.labels("acknowledged")  # found once, because labels are slow to find

log = structlog.get_logger(__name__)


class Bus(Protocol):
    """Where events are published."""

    async def publish(self, *events: Event) -> list[Position]:
        """Append events to their topics, and return where each one stands, in the order given.

        Returns only when the log has them all. Raises Unavailable when none was sent; OutcomeUnknown when some may have been: publish
        the same events (with the same ids) again, the fold tells duplicates. Raises InvalidEvent or TooLarge for one that can never be
        published; then none was sent.
        """
        ...


class KafkaBus:
    """The log in Kafka. Idempotent producer, acknowledged by all in-sync replicas; batches form by themselves (see `writer`)."""

    def __init__(
        self,
        bootstrap_servers: str,
        client_id: str,
        *,
        security: Mapping[str, Any] | None = None,
        topic_prefix: str = "",
        timeout_s: float = PUBLISH_TIMEOUT_S,
    ) -> None:
        """`security` is what `ServiceSettings.kafka_security()` gives. `topic_prefix` goes before every topic's name."""
        self._options = {"bootstrap_servers": bootstrap_servers, "client_id": client_id, **(security or {})}
        self._prefix, self._timeout_s = topic_prefix, timeout_s
        self._producer: aiokafka.AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._counts: dict[str, int] = {}
        self._writers: dict[tuple[str, int], PartitionWriter] = {}

    async def start(self) -> None:
        """Connect. Raises Unavailable; `publish` then tries again."""
        await self._ready()

    async def ping(self) -> None:
        """For readiness: raises Unavailable when the brokers do not answer now (a frozen one keeps its connections)."""
        producer = await self._ready()
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(what="Kafka") from error

    async def stop(self) -> None:
        """Send what is under way, and disconnect."""
        for writer in self._writers.values():
            await writer.settle()
        async with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def publish(self, *events: Event) -> list[Position]:
        try:
            positions = await self._publish(*events)
        except Exception as error:
            metrics.PUBLISHED.labels(type(error).__name__).inc(len(events))
            raise
        _ACKNOWLEDGED.inc(len(events))
        return positions

    async def _publish(self, *events: Event) -> list[Position]:
        records = [(self._prefix + by_struct(type(event.data)).topic, *encode(event)) for event in events]
        producer = await self._ready()
        try:
            counts = {topic: await self._partitions(producer, topic) for topic in {topic for topic, *_ in records}}
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(what="Kafka") from error
        entries: list[tuple[int, Entry]] = []
        for topic, key, value, headers in records:
            partition = partition_for(key, counts[topic])
            entries.append((partition, self._writer(topic, partition).add(key, value, headers)))
        try:
            async with asyncio.timeout(self._timeout_s):
                offsets = [await entry.offset for _, entry in entries]
        except (KafkaError, TimeoutError, Unavailable) as error:
            for _, entry in entries:
                entry.offset.cancel()  # those that wait for their turn are not sent any more
            await self._discard(producer, error)
            raise self._failure(error, sent=any(entry.sent for _, entry in entries)) from error
        if any(offset < 0 for offset in offsets):  # a duplicate that the broker remembers without its place
            raise OutcomeUnknown("The events are in the log, but the broker did not say where.")
        return [Position(partition, offset) for (partition, _), offset in zip(entries, offsets, strict=True)]

    async def _partitions(self, producer: aiokafka.AIOKafkaProducer, topic: str) -> int:
        """How many partitions a topic has; that never changes."""
        if topic not in self._counts:
            async with asyncio.timeout(self._timeout_s):
                self._counts[topic] = len(await producer.partitions_for(topic))
        return self._counts[topic]

    def _writer(self, topic: str, partition: int) -> PartitionWriter:
        writer = self._writers.get((topic, partition))
        if writer is None:
            writer = self._writers[topic, partition] = PartitionWriter(topic, partition, self._ready)
        return writer

    async def _ready(self) -> aiokafka.AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        async with self._lock:
            if self._producer is None:
                producer = aiokafka.AIOKafkaProducer(
                    acks="all",
                    enable_idempotence=True,
                    max_batch_size=MAX_BATCH_BYTES,
                    request_timeout_ms=int(self._timeout_s * 1000),
                    max_request_size=topics.MAX_RECORD_BYTES + 64 * 1024,
                    **self._options,
                )
                try:
                    async with asyncio.timeout(self._timeout_s):
                        await producer.start()
                except (KafkaError, TimeoutError, OSError) as error:
                    await producer.stop()
                    raise Unavailable(what="Kafka") from error
                self._producer = producer
            return self._producer

    async def _discard(self, producer: aiokafka.AIOKafkaProducer, error: BaseException) -> None:
        """Start anew after an error that an idempotent producer does not survive, such as a lost sequence."""
        if isinstance(error, (MessageSizeTooLargeError, RecordTooLargeError, TimeoutError, KafkaTimeoutError, KafkaConnectionError)):
            return
        if isinstance(error, KafkaError) and error.retriable:
            return
        async with self._lock:
            current = self._producer is producer
            if current:
                self._producer = None
        if not current:
            return
        log.warning("The producer is replaced", error=repr(error))
        try:
            await producer.stop()
        except KafkaError as stopping:
            log.warning("The old producer did not stop well", error=repr(stopping))

    @staticmethod
    def _failure(error: BaseException, *, sent: bool) -> Exception:
        if isinstance(error, (MessageSizeTooLargeError, RecordTooLargeError)) and not sent:
            return TooLarge(topics.MAX_RECORD_BYTES)
        if isinstance(error, (KafkaError, TimeoutError, Unavailable)):
            return OutcomeUnknown() if sent else Unavailable(what="Kafka")
        return error if isinstance(error, Exception) else OutcomeUnknown()


async def ensure_topics(
    bootstrap_servers: str, partitions: int, *, security: Mapping[str, Any] | None = None, topic_prefix: str = "", replicas: int = 0
) -> list[str]:
    """Make the topics that are missing, and check those that are there. Returns the names of those that were made.

    A key's partition follows from their number, so it can never change: another number is an error (TopicMismatch), and so are settings
    that the record's safety depends on. Raises Unavailable when Kafka does not answer. Several may call it at once. `replicas` 0: as many
    as there are brokers, at most 3.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **(security or {}))
    try:
        await admin.start()
        names = [topic_prefix + topic for topic in topics.ALL]
        copies = replicas or min(3, len((await admin.describe_cluster())["brokers"]))
        wanted = [NewTopic(name, partitions, copies, topic_configs=topics.CONFIG) for name in names]
        response = await admin.create_topics(wanted)
        made = []
        for name, code, *message in response.topic_errors:
            error = for_code(code)
            if code == 0:
                made.append(name)
            elif error.__name__ != "TopicAlreadyExistsError":
                raise TopicMismatch(name, f"cannot be made: {error.__name__} {' '.join(str(m) for m in message if m)}")
        described = await _describe(admin, names)
        for name in names:
            if name not in made:
                await _check_topic(admin, name, described[name], partitions)
    except (KafkaError, OSError) as error:
        raise Unavailable(what="Kafka") from error
    finally:
        await admin.close()
    if made:
        log.info("Topics made", topics=made, partitions=partitions)
    return made


async def _describe(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """Return how many partitions each topic has, once each of them has a leader. A topic that was just made takes a moment."""
    async with asyncio.timeout(LEADERS_TIMEOUT_S):
        while True:
            found = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics(list(names))}
            if all(found.get(name) and all(partition["leader"] >= 0 for partition in found[name]) for name in names):
                return {name: len(found[name]) for name in names}
            await asyncio.sleep(0.1)


async def _check_topic(admin: AIOKafkaAdminClient, name: str, found: int, partitions: int) -> None:
    if found != partitions:
        raise TopicMismatch(
            name, f"has {found} partitions, {partitions} are configured; a key's partition depends on it, so it stays as it is"
        )
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    settings = {entry[0]: entry[1] for response in responses for resource in response.resources for entry in resource[4]}
    for setting in ("cleanup.policy", "message.timestamp.type"):
        if settings.get(setting) != topics.CONFIG[setting]:
            raise TopicMismatch(name, f"has {setting}={settings.get(setting)}, {topics.CONFIG[setting]} is needed")
