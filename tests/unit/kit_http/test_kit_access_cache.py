"""What `Access` remembers, and for how long; the database is a double that counts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobledger_kit.auth import MAX_REFUSED_CACHED, Access
from jobledger_kit.clock import ManualClock
from jobledger_kit.credentials import ApiKey, RunClaims, new_api_key
from jobledger_kit.errors import BadSecret, Unauthenticated, Unavailable
from jobledger_kit.keyring import Key, KeyRing

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RING = KeyRing([Key(b"x" * 32, "run-credential")])


class CountingPool:
    """Knows one key. `gate` holds queries up."""

    def __init__(self, key: ApiKey) -> None:
        self.key, self.queries, self.revoked, self.down = key, 0, False, False
        self.expires_at: datetime | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, _query: str, id: str, _now: datetime, *, timeout: float) -> list[dict[str, Any]]:
        assert timeout
        self.queries += 1
        await self.gate.wait()
        if self.down:
            raise ConnectionRefusedError
        if self.revoked or id != self.key.id:
            return []
        rights = {"name": "ada", "groups": ["water"], "admin": False, "service": False}
        return [{"id": id, "digest": self.key.digest, "expires_at": self.expires_at, **rights}]


def make() -> tuple[Access, CountingPool, ManualClock]:
    pool, clock = CountingPool(new_api_key()), ManualClock(NOW)
    return Access(pool, RING, clock=clock, cache_ttl_s=3.0), pool, clock  # type: ignore[arg-type]  # a double of the one method used


async def test_a_key_is_looked_up_once_and_revocation_is_honoured_within_the_ttl() -> None:
    access, pool, clock = make()
    assert access.remembered(pool.key.token) is None
    for _ in range(5):
        assert (await access.verify(pool.key.token)).name == "ada"
    assert access.remembered(pool.key.token) is not None
    pool.revoked = True
    clock.advance(3.1)
    assert access.remembered(pool.key.token) is None
    with pytest.raises(Unauthenticated):
        await access.verify(pool.key.token)
    assert pool.queries == 2


async def test_a_refusal_is_remembered_too_and_forgotten_in_time() -> None:
    access, pool, clock = make()
    stranger = new_api_key().token
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await access.verify(stranger)
    assert pool.queries == 1
    clock.advance(3.1)
    with pytest.raises(Unauthenticated):
        await access.verify(stranger)
    assert pool.queries == 2


async def test_the_right_id_with_another_secret_is_refused() -> None:
    access, pool, _ = make()
    with pytest.raises(Unauthenticated):
        await access.verify(ApiKey(pool.key.id, new_api_key().secret).token)


async def test_many_who_ask_at_once_are_one_query_even_if_the_first_goes_away() -> None:
    access, pool, _ = make()
    pool.gate.clear()
    asking = [asyncio.create_task(access.verify(pool.key.token)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    pool.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(not isinstance(answer, BaseException) for answer in answers[1:])
    assert pool.queries == 1


async def test_a_database_that_is_away_refuses_nobody_and_is_not_remembered() -> None:
    access, pool, _ = make()
    pool.down = True
    with pytest.raises(Unavailable):
        await access.verify(pool.key.token)
    pool.down = False
    assert (await access.verify(pool.key.token)).name == "ada"


async def test_what_is_no_token_of_ours_costs_no_query_and_little_memory() -> None:
    access, pool, _ = make()
    for n in range(MAX_REFUSED_CACHED + 50):
        with pytest.raises(Unauthenticated):
            await access.verify(f"guess-{n}")
    with pytest.raises(Unauthenticated):
        await access.verify("x" * 10_000)
    assert pool.queries == 0
    assert len(access._refused) <= MAX_REFUSED_CACHED


async def test_a_key_is_not_remembered_beyond_its_end() -> None:
    access, pool, clock = make()
    pool.expires_at = NOW + timedelta(seconds=1)
    await access.verify(pool.key.token)
    clock.advance(1.1)
    assert access.remembered(pool.key.token) is None


async def test_a_runs_credential_needs_no_query_and_ends_when_it_says() -> None:
    access, pool, clock = make()
    token = access.sign_run(RunClaims(job_id="01890000-0000-7000-8000-000000000000", run=1, expires_at=NOW + timedelta(seconds=2)))
    principal = await access.verify(token)
    assert principal.run is not None
    assert principal.actor == "run:01890000-0000-7000-8000-000000000000.1"
    assert access.remembered(token) is not None
    clock.advance(2)
    assert access.remembered(token) is None
    with pytest.raises(Unauthenticated):
        await access.verify(token)
    assert pool.queries == 0


async def test_without_a_key_no_runs_credential_is_made_or_accepted() -> None:
    access, pool, clock = make()
    claims = RunClaims(job_id="01890000-0000-7000-8000-000000000000", run=1, expires_at=NOW + timedelta(seconds=2))
    without = Access(pool, clock=clock)  # type: ignore[arg-type]  # as above
    with pytest.raises(BadSecret):
        without.sign_run(claims)
    with pytest.raises(Unauthenticated):
        await without.verify(access.sign_run(claims))


async def test_no_secret_is_kept_in_memory() -> None:
    access, pool, _ = make()
    await access.verify(pool.key.token)
    assert pool.key.secret not in repr(vars(access))
