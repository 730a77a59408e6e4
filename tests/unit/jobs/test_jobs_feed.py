"""The feed joins past and present without a gap, whatever happens while a client is still reading the past."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from jobledger_contracts import topics
from jobledger_contracts.ids import Position, partition_for
from jobledger_jobs.domain.rights import Viewer
from jobledger_jobs.feed import Feed, parse_position, parse_vector, vector_text
from jobledger_kit.errors import InvalidRequest, Unavailable
from jobledger_kit.positions import Moved

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 1, tzinfo=UTC)
JOB, OTHER = "01990000-0000-7000-8000-000000000001", "01990000-0000-7000-8000-000000000002"
ADMIN, ADA = Viewer("root", admin=True), Viewer("ada")


class World:
    """The history in memory. `add` is a committed batch of one event; `before_read` runs whenever a page is read."""

    def __init__(self, partitions: int = 2) -> None:
        self.partitions = partitions
        self.rows: list[dict[str, Any]] = []
        self.moves: asyncio.Queue[Moved] = asyncio.Queue()
        self.next: dict[int, int] = dict.fromkeys(range(partitions), 0)
        self.before_read: Callable[[], None] = lambda: None
        self.reads = 0

    def add(self, job_id: str = JOB, owner: str = "ada") -> str:
        partition = partition_for(job_id.encode(), self.partitions)
        offset = self.next[partition]
        self.rows.append(
            {
                "partition": partition,
                "log_offset": offset,
                "job_id": job_id,
                "type": "StatusChanged",
                "status": "Running",
                "status_text": "",
                "status_message": "",
                "progress": None,
                "run": 1,
                "outcome": "applied",
                "reason": "",
                "occurred_at": NOW,
                "recorded_at": NOW,
                "owner": owner,
                "groups": [],
                "nodes": None,
            }
        )
        self.next[partition] = offset + 1
        self.moves.put_nowait(Moved(topics.JOBS, partition, offset + 1))
        return f"{partition}:{offset}"

    # what the feed needs of positions and store

    async def ready(self, timeout_s: float) -> bool:
        return True

    def next_offset(self, topic: str, partition: int) -> int:
        return self.next[partition]

    async def subscribe(self) -> AsyncIterator[Moved]:
        while True:
            yield await self.moves.get()

    async def feed_of_partition(self, partition: int, start: int, end: int, limit: int) -> list[Any]:
        return await self._read(lambda row: row["partition"] == partition and start <= row["log_offset"] < end, limit)

    async def feed_of_job(self, job_id: str, start: int, end: int, limit: int) -> list[Any]:
        return await self._read(lambda row: row["job_id"] == job_id and start <= row["log_offset"] < end, limit)

    async def _read(self, wanted: Callable[[dict[str, Any]], bool], limit: int) -> list[Any]:
        self.reads += 1
        found = [row for row in self.rows if wanted(row)][:limit]
        self.before_read()
        await asyncio.sleep(0)
        return found


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Feed]:
    feed = Feed(world, world, world.partitions)  # type: ignore[arg-type]  # stands in for Positions
    task = asyncio.create_task(feed.run())
    await asyncio.sleep(0)
    yield feed
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def take(source: AsyncIterator[bytes], count: int) -> list[tuple[str, str]]:
    """The ids and positions of the next events; ids without data are passed over."""
    seen: list[tuple[str, str]] = []
    async with asyncio.timeout(5):
        while len(seen) < count:
            lines = (await anext(source)).decode().splitlines()
            data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
            if data:
                seen.append((lines[0].removeprefix("id: "), json.loads(data[0])["position"]))
    return seen


async def test_events_that_come_while_the_past_is_read_are_neither_lost_nor_told_twice() -> None:
    world = World()
    sent = [world.add() for _ in range(3)]
    late = iter(range(5))

    def meanwhile() -> None:
        if next(late, None) is not None:
            sent.append(world.add())

    world.before_read = meanwhile
    async with running(world) as feed, aclosing(feed.of_job(JOB, ADA, Position.parse(sent[0]))) as source:
        seen = await take(source, 7)
        sent.append(world.add())
        seen += await take(source, 1)

    assert [position for _, position in seen] == sent[1:]
    assert all(event_id == position for event_id, position in seen)


async def test_vector_of_the_last_event_resumes_in_every_partition() -> None:
    world = World()
    sent = [world.add(JOB), world.add(OTHER), world.add(JOB)]
    async with running(world) as feed:
        async with aclosing(feed.of_all(ADMIN, {})) as source:
            seen = await take(source, 2)
            resume_at = seen[-1][0]
        sent += [world.add(OTHER), world.add(JOB)]
        async with aclosing(feed.of_all(ADMIN, parse_vector(resume_at, 2, "id"))) as source:
            seen += await take(source, 3)

    assert sorted(position for _, position in seen) == sorted(sent)


async def test_only_what_may_be_seen_is_told() -> None:
    world = World()
    start = dict.fromkeys(range(2), 0)
    shown = [world.add(JOB, owner="ada"), world.add(OTHER, owner="bob"), world.add(JOB, owner="ada")]
    async with running(world) as feed, aclosing(feed.of_all(ADA, start)) as source:
        seen = await take(source, 2)
        world.add(OTHER, owner="bob")
        last = world.add(JOB, owner="ada")
        seen += await take(source, 1)

    assert [position for _, position in seen] == [shown[0], shown[2], last]


async def test_nothing_is_read_when_nobody_listens() -> None:
    world = World()
    async with running(world):
        for _ in range(10):
            world.add()
        await asyncio.sleep(0.01)

    assert world.reads == 0


async def test_client_from_an_instance_that_is_ahead_is_not_told_twice() -> None:
    world = World(partitions=1)
    sent = [world.add() for _ in range(2)]
    async with running(world) as feed, aclosing(feed.of_all(ADMIN, {0: 4})) as source:
        task = asyncio.ensure_future(take(source, 1))
        await asyncio.sleep(0.01)
        sent += [world.add() for _ in range(3)]
        seen = await task

    assert seen == [("0:4", sent[4])]


async def test_database_that_goes_away_is_waited_for() -> None:
    world = World(partitions=1)
    failures = iter([True])

    def fail_once() -> None:
        if next(failures, False):
            raise Unavailable(what="The database")

    async with running(world) as feed, aclosing(feed.of_job(JOB, ADA, None)) as source:
        task = asyncio.ensure_future(take(source, 1))
        await asyncio.sleep(0.01)
        world.before_read = fail_once
        sent = world.add()
        assert (await task)[0][1] == sent


def test_vector_is_written_and_read_alike() -> None:
    vector = {0: 5, 3: 1}

    assert parse_vector(vector_text(vector), 4, "id") == vector


@pytest.mark.parametrize("text", ["", "0", "0:1,", "0:1,0:2", "4:0", "-1:0", "0:-1", "0:1 ,1:1", "0:" + "9" * 40])
def test_bad_vector_is_a_problem(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_vector(text, 4, "id")
    if "," not in text:
        with pytest.raises(InvalidRequest):
            parse_position(text, 4, "id")
