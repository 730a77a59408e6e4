"""Server-sent events about jobs: first what happened since the client's last id, from the history, then what happens, as it happens.

One reader per process follows the projection's checkpoints, reads each new event once, and hands it to every client. A client that is
behind reads the history by itself until it has come to where that reader is, and joins there: nothing is missed, nothing comes twice.

Ids: of a feed of one job, the position of the event; of a feed of all jobs, a vector: the last position seen in each partition,
joined by commas. A partition that a vector does not name is one of which nothing was seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import structlog

from jobledger_contracts import topics
from jobledger_contracts.ids import Position, partition_for
from jobledger_kit.errors import FieldError, InvalidRequest, Unavailable
from jobledger_kit.sse import Fanout, ServerEvent

from .domain.rights import Right, Viewer, right_to
from .views import status_event

if TYPE_CHECKING:
    from jobledger_kit.positions import Positions

EVENT: Final = "status"
"""The name of every server-sent event here; `type` in its data says what happened."""
PAGE: Final = 500
RETRY_S: Final = 0.5
SKIPPED_BETWEEN_IDS: Final = 500
"""After so many events that a client may not see it is told where it stands, so that resuming does not read them again."""

Vector = dict[int, int]
"""Partition -> the next offset."""

log = structlog.get_logger(__name__)


class FeedReader(Protocol):
    """The rows that feeds are made of: `store.JobsStore`."""

    async def feed_of_partition(self, partition: int, start: int, end: int, limit: int) -> list[Any]: ...
    async def feed_of_job(self, job_id: str, start: int, end: int, limit: int) -> list[Any]: ...


class Happened(msgspec.Struct, frozen=True, dict=True):
    """One event, as every client's feed shares it. `vector` is where the reader stands after it, as text."""

    row: Any  #: of the feed's queries
    vector: str

    @property
    def job_id(self) -> str:
        return str(self.row["job_id"])

    @cached_property
    def data(self) -> bytes:
        return msgspec.json.encode(status_event(self.row))

    @cached_property
    def with_position(self) -> bytes:
        return ServerEvent(self.data, EVENT, f"{self.row['partition']}:{self.row['log_offset']}").encode()

    @cached_property
    def with_vector(self) -> bytes:
        return self.under(self.vector)

    def under(self, id: str) -> bytes:
        """As it goes over the wire under an id of the client's own."""
        return ServerEvent(self.data, EVENT, id).encode()

    def visible(self, viewer: Viewer) -> bool:
        return right_to(viewer, self.row["owner"], self.row["groups"] or ()) >= Right.READ


class Feed:
    """Hands out feeds. `run` must be running; it is one of the service's parts."""

    def __init__(self, store: FeedReader, positions: Positions, partitions: int) -> None:
        self._store, self._positions, self._partitions = store, positions, partitions
        self._fanout = Fanout[Happened]()
        self._vector: Vector = {}
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """Follow the projection until cancelled."""
        while not await self._positions.ready(timeout_s=60):
            log.warning("The feed waits for the database")
        self._vector = {p: self._positions.next_offset(topics.JOBS, p) for p in range(self._partitions)}
        self._ready.set()
        async for moved in self._positions.subscribe():
            if moved.topic == topics.JOBS:
                await self._read(moved.partition, moved.next_offset)

    def close(self) -> None:
        """End every client's feed."""
        self._fanout.close()

    async def _read(self, partition: int, end: int) -> None:
        """Hand out a partition's events up to an offset. Without clients there is nothing to read."""
        while self._vector.get(partition, 0) < end:
            if not len(self._fanout):
                self._vector[partition] = end
                return
            try:
                rows = await self._store.feed_of_partition(partition, self._vector.get(partition, 0), end, PAGE)
            except Unavailable as error:
                log.warning("The feed cannot read the history", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            for row in rows:
                self._vector[partition] = row["log_offset"] + 1
                self._fanout.publish(Happened(row, vector_text(self._vector)))
            if len(rows) < PAGE:
                self._vector[partition] = end

    async def of_job(self, job_id: str, viewer: Viewer, after: Position | None) -> AsyncGenerator[bytes]:
        """One job's events behind a position; without one, from now on. Ends when the client is too slow."""
        await self._ready.wait()
        partition = partition_for(job_id.encode(), self._partitions)
        seen = self._vector.get(partition, 0) if after is None else after.offset + 1
        if seen:
            yield id_alone(f"{partition}:{seen - 1}")
        while seen < (end := self._vector.get(partition, 0)):
            rows = await self._store.feed_of_job(job_id, seen, end, PAGE)
            for row in rows:
                seen = row["log_offset"] + 1
                if (past := Happened(row, "")).visible(viewer):
                    yield past.with_position
            if len(rows) < PAGE:
                seen = end
        # Nothing is awaited between the last look at the vector and this, so nothing falls between the past and the present.
        with self._fanout.subscribe(lambda item: item.job_id == job_id) as live:
            async for item in live:
                if item.row["log_offset"] >= seen and item.visible(viewer):
                    yield item.with_position

    async def of_all(self, viewer: Viewer, after: Vector | None) -> AsyncGenerator[bytes]:
        """The events of every job that the viewer may see, behind a vector; without one, from now on. Ends when the client is too slow."""
        await self._ready.wait()
        seen = dict(self._vector) if after is None else dict(after)
        if any(seen.values()):
            yield id_alone(vector_text(seen))
        while behind := [(p, end) for p, end in self._vector.items() if seen.get(p, 0) < end]:
            for partition, end in behind:
                rows = await self._store.feed_of_partition(partition, seen.get(partition, 0), end, PAGE)
                for row in rows:
                    seen[partition] = row["log_offset"] + 1
                    if (past := Happened(row, "")).visible(viewer):
                        yield past.under(vector_text(seen))
                if len(rows) < PAGE:
                    seen[partition] = end
            yield id_alone(vector_text(seen))
        with self._fanout.subscribe() as live:
            # A client that comes from an instance that is ahead of this one has seen more than this one will hand out first.
            ahead = seen if any(offset > self._vector.get(p, 0) for p, offset in seen.items()) else None
            skipped = 0
            async for item in live:
                partition, offset = item.row["partition"], item.row["log_offset"]
                if ahead is not None:
                    if offset < ahead.get(partition, 0):
                        continue
                    ahead[partition] = offset + 1
                if item.visible(viewer):
                    skipped = 0
                    yield item.with_vector if ahead is None else item.under(vector_text(ahead))
                elif (skipped := skipped + 1) >= SKIPPED_BETWEEN_IDS:
                    skipped = 0
                    yield id_alone(item.vector if ahead is None else vector_text(ahead))


def id_alone(id: str) -> bytes:
    """Tell a client where it stands: an id without data is remembered and raises no event (WHATWG HTML, 9.2.6)."""
    return f"id: {id}\n\n".encode()


def vector_text(vector: Vector) -> str:
    """Write a vector as the last position seen in each partition.

    >>> vector_text({0: 5, 1: 0, 2: 1})
    '0:4,2:0'
    """
    return ",".join(f"{partition}:{offset - 1}" for partition, offset in sorted(vector.items()) if offset)


def parse_vector(text: str, partitions: int, path: str) -> Vector:
    """Read what `vector_text` wrote. Raises InvalidRequest; `path` says where the text stood."""
    vector: Vector = {}
    for part in text.split(","):
        position = parse_position(part, partitions, path)
        if position.partition in vector:
            raise InvalidRequest(errors=[FieldError(path, f"names partition {position.partition} twice")])
        vector[position.partition] = position.offset + 1
    return vector


def parse_position(text: str, partitions: int, path: str) -> Position:
    """Read a position. Raises InvalidRequest; `path` says where the text stood."""
    try:
        position = Position.parse(text)
    except ValueError as error:
        raise InvalidRequest(errors=[FieldError(path, str(error)[:200])]) from None
    if position.partition >= partitions:
        raise InvalidRequest(errors=[FieldError(path, f"there is no partition {position.partition}; there are {partitions}")])
    return position
