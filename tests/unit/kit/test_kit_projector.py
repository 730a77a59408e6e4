"""When the projector claims partitions: a race, ordered by doubles that stand for the group and the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import pytest
from aiokafka import TopicPartition

from jobledger_kit.projector import Projector
from jobledger_kit.rawlog import RawLog, stop_consumer
from jobledger_kit.store import Claim, LedgerStore

pytestmark = pytest.mark.anyio

OLD, NEW = TopicPartition("t", 0), TopicPartition("t", 1)


class Ended(Exception):
    """The script of polls is over."""


class Group:
    """A consumer of aiokafka's, as far as a claim asks it: it names its old partitions until it is told its new ones."""

    def __init__(self) -> None:
        self.assigned = {OLD}

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0, 1}

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    end_offsets = beginning_offsets

    def seek(self, partition: TopicPartition, offset: int) -> None:
        assert partition in self.assigned

    def highwater(self, partition: TopicPartition) -> None:
        return None

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        pass


class Polls:
    """A log without records. Each poll does the next thing of a script."""

    def __init__(self, *script: Callable[[], Any]) -> None:
        self._script = list(script)

    async def poll(self, *_: object) -> dict[TopicPartition, list[Any]]:
        if not self._script:
            raise Ended
        if asyncio.iscoroutine(done := self._script.pop(0)()):
            await done
        return {}


class Ledger:
    """A store that remembers what was claimed."""

    def __init__(self) -> None:
        self.claimed: list[set[int]] = []

    async def claim(self, consumer: str, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Claim]:
        wanted = set(partitions)
        self.claimed.append({partition for _, partition in wanted})
        return {key: Claim(*key, next_offset=0, epoch=len(self.claimed)) for key in wanted}


async def test_what_was_revoked_is_not_claimed_again_before_the_group_has_assigned_anew() -> None:
    ledger, group = Ledger(), Group()
    projector = Projector(consumer="c", topics=["t"], bootstrap_servers="nowhere:1", store=cast("LedgerStore", ledger), instance_id="i")

    def assign() -> None:
        group.assigned = {NEW}
        projector.assigned()

    def nothing() -> None:
        pass

    script = Polls(projector.assigned, nothing, projector.revoked, nothing, nothing, assign, nothing)
    with pytest.raises(Ended):
        await projector._loop(cast("Any", group), cast("RawLog", script))
    assert ledger.claimed == [{0}, {1}]


class HalfStopped:
    """A consumer whose `stop` ends as aiokafka's does when a fetch of it was about to try again."""

    def __init__(self) -> None:
        self._client = self
        self.closed = False

    async def stop(self) -> None:
        retrying = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        retrying.cancel()
        await retrying

    async def close(self) -> None:
        self.closed = True


async def test_a_consumer_is_stopped_whole_and_its_own_cancellation_is_not_ours() -> None:
    consumer = HalfStopped()
    await stop_consumer(cast("Any", consumer))
    assert consumer.closed
