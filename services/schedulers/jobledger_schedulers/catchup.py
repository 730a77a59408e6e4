"""Waiting until our rows know what the log knew when we started.

A service whose rows are behind (it was away for long, or its database is new and is rebuilt from the log) meets requests whose outcome
is further on in the log. Nothing is done to a scheduler before that has been read: else a run that ended last year is begun again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from jobledger_kit.errors import Unavailable
from jobledger_kit.rawlog import stop_consumer
from jobledger_kit.store import LedgerStore

from .lane import Backoff
from .troubles import TROUBLES, in_words

POLL_S: Final = 0.05
STANDSTILL_S: Final = 5.0
"""What is behind and has not moved for so long has nothing to read: a transaction's marker at the end of a partition is no record."""

Offsets = Mapping[tuple[str, int], int]

log = structlog.get_logger(__name__)


async def log_ends(
    bootstrap_servers: str, security: Mapping[str, Any], topics: Sequence[str], partitions: int, topic_prefix: str = ""
) -> Offsets:
    """Where each partition ends now. Raises Unavailable."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, **security)
    try:
        await consumer.start()
        places = [TopicPartition(topic_prefix + topic, number) for topic in topics for number in range(partitions)]
        ends = await consumer.end_offsets(places)
    except (KafkaError, TimeoutError, OSError) as error:
        raise Unavailable(what="Kafka") from error
    finally:
        await stop_consumer(consumer)
    return {(where.topic.removeprefix(topic_prefix), where.partition): end for where, end in ends.items()}


async def caught_up(store: LedgerStore, consumers: Mapping[str, str], ends: Offsets, *, standstill_s: float = STANDSTILL_S) -> None:
    """Return when each topic's consumer has come as far as `ends` says. `consumers` maps topics to consumers."""
    backoff = Backoff()
    loop = asyncio.get_running_loop()
    latest: Offsets = {}
    moved_at = loop.time()
    while True:
        try:
            stands = {consumer: await store.checkpoints(consumer) for consumer in set(consumers.values())}
        except TROUBLES as error:
            log.warning("Checkpoints cannot be read", action="database_away", error=in_words(error))
            await asyncio.sleep(backoff.failed())
            continue
        backoff.reset()
        now = {key: stands[consumers[key[0]]].get(key, 0) for key in ends}
        behind = {key: end - now[key] for key, end in ends.items() if now[key] < end}
        if not behind:
            return
        if now != latest:
            latest, moved_at = now, loop.time()
        elif loop.time() - moved_at > standstill_s and all(now[key] > 0 for key in behind):
            log.warning("Some partitions end without records", action="caught_up", behind={f"{t}-{p}": n for (t, p), n in behind.items()})
            return
        await asyncio.sleep(POLL_S)
