"""The ledger of effects: what events ask us to do in the world, noted before it is done.

An effect is recorded in the transaction that moves the checkpoint over the event that asks for it, so it is recorded once. It is
carried out at least once: a worker leases it, acts, and says how it ended; when it never says, the lease runs out and somebody acts
again. So acting must be idempotent by the effect's key, and an attempt after the first looks the key up before it acts.
Effects of one stream are carried out in the order in which they were asked for, one at a time.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from . import metrics
from .errors import RateLimited
from .queries import load_queries

if TYPE_CHECKING:
    from .database import Pool

FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 300.0
MAX_ERROR_CHARS: Final = 4_000


class Effect(msgspec.Struct, frozen=True):
    """Something to do."""

    key: str  #: unique in the service, and the same for ever: `submit:<run id>`
    lane: str  #: what is carried out together, such as a scheduler's name
    stream: str  #: what is carried out in order, such as a job id
    kind: str  #: what to do
    payload: bytes = b""  #: the service's own


class Due(msgspec.Struct, frozen=True):
    """An effect that was leased to us."""

    effect: Effect
    attempt: int  #: 1 = the first
    position: int  #: in the ledger


class FailedEffect(msgspec.Struct, frozen=True):
    """An effect that was given up."""

    position: int
    key: str
    lane: str
    stream: str
    kind: str
    attempt: int
    error: str
    recorded_at: datetime
    ended_at: datetime


def backoff_s(attempt: int, jitter: float | None = None) -> float:
    """How long to wait after so many failed attempts: doubles from 1 s to 5 min, less up to a quarter (`jitter`, 0 to 1; random)."""
    longest = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempt - 1, 16))
    return longest * (1 - (random.random() if jitter is None else jitter) / 4)  # noqa: S311 - spreads load, keeps no secret


class LaneFull(RateLimited):
    """Too many of these wait already."""


class EffectLedger:
    """The effects in one service's schema: the pool's search_path says which. asyncpg's errors pass through every method."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = load_queries("jobledger_kit", "sql/effects.sql")

    async def take(
        self, limit: int, lease_s: float, lanes: Collection[str] | None = None, kinds: Collection[str] | None = None
    ) -> list[Due]:
        """Lease due effects, oldest first: of each stream only the oldest open one. They must end within the lease."""
        rows = await self._pool.fetch(
            self._sql["take"], limit, lease_s, None if lanes is None else list(lanes), None if kinds is None else list(kinds)
        )
        due = [Due(Effect(r["key"], r["lane"], r["stream"], r["kind"], r["payload"]), r["attempt"], r["position"]) for r in rows]
        return sorted(due, key=lambda d: d.position)

    async def schedule(self, effect: Effect, due_at: datetime, *, most_open: int) -> bool:
        """Record an effect that no event asked for, due at a time. False: it was recorded before.

        Raises LaneFull when its lane has `most_open` open effects already; who asks at once with others may exceed it by as many.
        """
        row = await self._pool.fetchrow(
            self._sql["schedule"], effect.key, effect.lane, effect.stream, effect.kind, effect.payload, due_at, most_open
        )
        assert row is not None
        if not row["free"]:
            raise LaneFull
        return bool(row["recorded"])

    async def lanes(self) -> list[str]:
        """The lanes that have due effects."""
        return [row["lane"] for row in await self._pool.fetch(self._sql["lanes"])]

    async def done(self, dues: Iterable[Due]) -> set[str]:
        """They ended well. Returns the keys that this ended; the others had been leased to somebody else meanwhile."""
        ended: Sequence[Due] = list(dues)
        rows = await self._pool.fetch(self._sql["done"], [d.position for d in ended], [d.attempt for d in ended])
        for due in ended:
            metrics.EFFECTS.labels(due.effect.kind, "done").inc()
        return {row["key"] for row in rows}

    async def retry(self, due: Due, after_s: float | None = None, error: str = "") -> bool:
        """It did not end, or nobody knows: try again after so many seconds (`backoff_s` of the attempt). False: no longer ours."""
        wait_s = backoff_s(due.attempt) if after_s is None else after_s
        metrics.EFFECTS.labels(due.effect.kind, "retried").inc()
        return bool(await self._pool.fetchval(self._sql["retry"], due.position, due.attempt, wait_s, _short(error)))

    async def give_up(self, due: Due, error: str) -> bool:
        """It cannot succeed. It stays visible as failed, and the stream's next effect becomes due. False: no longer ours."""
        ended = await self._pool.fetchval(self._sql["give_up"], due.position, due.attempt, _short(error))
        metrics.EFFECTS.labels(due.effect.kind, "given_up").inc()
        if ended:
            await self._pool.execute(self._sql["free_stream"], due.effect.stream)
        return bool(ended)

    async def failed(self, limit: int = 50, before: int | None = None) -> list[FailedEffect]:
        """Effects that were given up, newest first; `before` is the last page's smallest position."""
        rows = await self._pool.fetch(self._sql["failed"], 2**62 if before is None else before, limit)
        return [FailedEffect(**dict(row)) for row in rows]

    async def open_keys(self, keys: Collection[str]) -> set[str]:
        """Which of these effects are still to be carried out."""
        return {row["key"] for row in await self._pool.fetch(self._sql["open_keys"], list(keys))}

    async def open_by_lane(self) -> dict[str, int]:
        """How many effects are open, per lane."""
        return {row["lane"]: row["open"] for row in await self._pool.fetch(self._sql["count"])}


def _short(error: str) -> str:
    return error[:MAX_ERROR_CHARS].encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
