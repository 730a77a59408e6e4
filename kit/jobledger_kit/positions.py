"""How far a consumer has come, as it happens: for requests that wait for their own write, and for live feeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final, Self

import asyncpg
import msgspec
import structlog

from jobledger_contracts.ids import Position

from .database import DATABASE_AWAY
from .store import CHANNEL, Announcement, LedgerStore, TopicPartition

RETRY_S: Final = 0.5
CHECK_S: Final = 5.0  #: how often the connection is tried, and the table is read again: a lost announcement costs this at most

log = structlog.get_logger(__name__)


class Moved(msgspec.Struct, frozen=True):
    """A checkpoint has come this far: every record before `next_offset` is folded, and its rows can be read."""

    topic: str
    partition: int
    next_offset: int


class Positions:
    """Listens to one consumer's announcements on one connection, and reconnects. Use as `async with`, or `start` and `stop`."""

    def __init__(self, store: LedgerStore, consumer: str) -> None:
        self._store, self._consumer = store, consumer
        self._next: dict[TopicPartition, int] = {}
        self._waiters: dict[TopicPartition, set[tuple[int, asyncio.Future[None]]]] = {}
        self._feeds: set[_Feed] = set()
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to listen. Returns at once; until the database answers, nothing has passed."""
        if self._task is None:
            self._task = asyncio.create_task(self.run(), name=f"positions {self._consumer}")

    async def stop(self) -> None:
        """End every wait (as not passed) and every feed."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for waiters in self._waiters.values():
            for _, future in waiters:
                future.cancel()
        for feed in self._feeds:
            feed.close()

    async def ready(self, timeout_s: float) -> bool:
        """Wait until announcements are heard."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._listening.wait()
        return self._listening.is_set()

    def next_offset(self, topic: str, partition: int) -> int:
        """The checkpoint, as far as it was heard of."""
        return self._next.get((topic, partition), 0)

    def passed(self, topic: str, position: Position) -> bool:
        """Say whether the record at this position is folded and its rows can be read. True is for ever."""
        return self.next_offset(topic, position.partition) > position.offset

    async def wait(self, topic: str, position: Position, timeout_s: float) -> bool:
        """Wait until the position is passed; False when the time is up first."""
        if self.passed(topic, position):
            return True
        future = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault((topic, position.partition), set())
        waiters.add(entry := (position.offset, future))
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return self.passed(topic, position)
        finally:
            waiters.discard(entry)
        return True

    async def subscribe(self) -> AsyncIterator[Moved]:
        """Yield every partition's checkpoint, then each move. Ends when this is stopped.

        A slow reader gets the latest move of each partition and misses those in between, so it never holds anything up.
        """
        feed = _Feed()
        feed.put({key: Moved(*key, offset) for key, offset in self._next.items()})
        self._feeds.add(feed)
        try:
            while (moves := await feed.get()) is not None:
                for move in moves:
                    yield move
        finally:
            self._feeds.discard(feed)

    async def run(self) -> None:
        """Listen until cancelled. `start` runs this; a service may instead run it as one of its parts."""
        away = False
        while True:
            try:
                await self._listen()
            except DATABASE_AWAY as error:
                if not away:
                    log.warning("Positions are not heard: the database is away", consumer=self._consumer, error=repr(error))
                away = True
            else:
                away = False
            self._listening.clear()
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        """Hear announcements until the connection is lost."""
        connection = await self._store.pool.acquire()
        hear: Callable[..., None] = self._hear
        closed = asyncio.Event()

        def lost(_connection: object) -> None:
            closed.set()

        try:
            connection.add_termination_listener(lost)
            await connection.add_listener(CHANNEL, hear)
            while not closed.is_set():
                # Listening comes first, so whatever is committed after this read is announced.
                for (topic, partition), offset in (await self._store.checkpoints(self._consumer)).items():
                    self._move(topic, partition, offset)
                self._listening.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_S):
                        await closed.wait()
                if not closed.is_set():
                    await connection.execute("select 1")
        finally:
            if not connection.is_closed():
                connection.remove_termination_listener(lost)
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await connection.remove_listener(CHANNEL, hear)
            await self._store.pool.release(connection)

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        try:
            said = msgspec.json.decode(payload, type=Announcement)
        except msgspec.DecodeError:
            log.warning("An announcement that is none", channel=CHANNEL)
            return
        if said.schema == self._store.schema and said.consumer == self._consumer:
            self._move(said.topic, said.partition, said.next_offset)

    def _move(self, topic: str, partition: int, offset: int) -> None:
        key = (topic, partition)
        if offset <= self._next.get(key, -1):
            return
        self._next[key] = offset
        for entry in list(self._waiters.get(key, ())):
            if entry[0] < offset and not entry[1].done():
                entry[1].set_result(None)
        for feed in self._feeds:
            feed.put({key: Moved(topic, partition, offset)})


class _Feed:
    """The latest move of each partition that one subscriber has not seen."""

    def __init__(self) -> None:
        self._unseen: dict[TopicPartition, Moved] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, moves: dict[TopicPartition, Moved]) -> None:
        self._unseen |= moves
        if moves:
            self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    async def get(self) -> list[Moved] | None:
        await self._wake.wait()
        if self._closed:
            return None
        self._wake.clear()
        moves, self._unseen = list(self._unseen.values()), {}
        return moves
