"""Records that could not be folded: reading them, and the fuse that stops a consumer before everything ends up here."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from jobledger_contracts.ids import Position

from .errors import FuseBlown
from .queries import load_queries

if TYPE_CHECKING:
    from .database import Pool

RawHeaders = list[tuple[bytes, bytes | None]]


class BuriedLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter in a list: without its bytes."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    reason: str  #: a value of `jobledger_contracts.envelope.Invalid`
    detail: str
    value_bytes: int | None  #: None: a tombstone
    recorded_at: datetime  #: by the broker's clock
    buried_at: datetime

    @property
    def position(self) -> Position:
        return Position(self.partition, self.offset)


class RawLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter as it stands in the log, byte for byte."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: RawHeaders
    reason: str
    detail: str
    recorded_at: datetime
    buried_at: datetime

    @property
    def position(self) -> Position:
        return Position(self.partition, self.offset)


class ParkedStream(msgspec.Struct, frozen=True):
    """A stream whose later events wait behind a dead letter."""

    topic: str
    key: str
    behind: int  #: offset of that dead letter, in the key's partition


class DeadLetters:
    """The dead letters in one service's schema, of one consumer or (None) of all. asyncpg's errors pass through every method."""

    def __init__(self, pool: Pool, consumer: str | None = None) -> None:
        self._pool, self._consumer = pool, consumer
        self._sql = load_queries("jobledger_kit", "sql/dead_letters.sql")

    async def page(
        self,
        limit: int = 50,
        *,
        after: tuple[str, int, int] | None = None,
        reason: str | None = None,
        key: bytes | None = None,
    ) -> list[BuriedLetter]:
        """Return the next open letters in the order of (topic, partition, offset); `after` is the last page's last one."""
        topic, partition, offset = after or ("", -1, -1)
        rows = await self._pool.fetch(self._sql["page"], self._consumer, reason, key, topic, partition, offset, limit)
        return [
            BuriedLetter(
                topic=r["topic"],
                partition=r["partition"],
                offset=r["log_offset"],
                key=r["key"],
                reason=r["reason"],
                detail=r["detail"],
                value_bytes=r["value_bytes"],
                recorded_at=r["recorded_at"],
                buried_at=r["buried_at"],
            )
            for r in rows
        ]

    async def get(self, topic: str, position: Position) -> RawLetter | None:
        """One letter with its raw bytes; None when there is none at this place."""
        r = await self._pool.fetchrow(self._sql["one"], self._consumer, topic, position.partition, position.offset)
        if r is None:
            return None
        return RawLetter(
            topic=r["topic"],
            partition=r["partition"],
            offset=r["log_offset"],
            key=r["key"],
            value=r["value"],
            headers=msgspec.msgpack.decode(r["headers"], type=RawHeaders),
            reason=r["reason"],
            detail=r["detail"],
            recorded_at=r["recorded_at"],
            buried_at=r["buried_at"],
        )

    async def count(self) -> dict[str, int]:
        """How many open letters there are, by reason."""
        return {r["reason"]: r["letters"] for r in await self._pool.fetch(self._sql["count"], self._consumer)}

    async def parked(self, limit: int = 50, *, after: tuple[str, str] = ("", "")) -> list[ParkedStream]:
        """Return the next parked streams, by topic and key."""
        rows = await self._pool.fetch(self._sql["parked"], self._consumer, *after, limit)
        return [ParkedStream(r["topic"], r["key"], r["parked_behind"]) for r in rows]


class Fuse:
    """Stops a consumer when so much is refused that the fault is likely ours, or one producer's for every record.

    Dead letters keep single bad events out of the way. When everything becomes one, going on only hides the fault and makes the
    mending longer. Parked events do not count: they are good, and one busy parked job must not stop the others.
    The defaults let bursts of a few hundred bad records pass, even with nothing good in between.
    """

    CONSECUTIVE: Final = 1_000
    RATIO: Final = 0.5
    WINDOW: Final = 10_000

    def __init__(self, consecutive: int = CONSECUTIVE, ratio: float = RATIO, window: int = WINDOW) -> None:
        """Blow at so many bad records in a row, or when more than `ratio` of the last `window` records are bad."""
        if consecutive < 1 or not 0 < ratio <= 1 or window < 1:
            raise ValueError("consecutive and window are at least 1, ratio is above 0 and at most 1")
        self.consecutive, self.ratio, self.window = consecutive, ratio, window
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._row = self._bad = self._seen = 0
        self._steps: deque[tuple[int, int]] = deque()

    def feed(self, good: int, bad: int) -> None:
        """Note a batch. Raises FuseBlown.

        A batch with anything good in it starts a new row of bad ones. Memory is bounded by the number of batches in a window.
        """
        self._row = bad if good else self._row + bad
        self._steps.append((good, bad))
        self._bad += bad
        self._seen += good + bad
        while self._steps and self._seen - sum(self._steps[0]) >= self.window:
            old_good, old_bad = self._steps.popleft()
            self._bad -= old_bad
            self._seen -= old_good + old_bad
        if self._row >= self.consecutive:
            raise FuseBlown(f"{self._row} records in a row could not be folded ({self.consecutive} is the limit): see the dead letters.")
        if self._seen >= self.window and self._bad > self.ratio * self._seen:
            raise FuseBlown(f"{self._bad} of the last {self._seen} records could not be folded: see the dead letters.")
