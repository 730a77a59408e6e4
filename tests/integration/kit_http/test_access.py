"""Users and keys in a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from jobledger_kit.auth import Access, migrate_access
from jobledger_kit.clock import ManualClock
from jobledger_kit.credentials import parse_api_key
from jobledger_kit.database import Pool
from jobledger_kit.errors import InvalidRequest, NotFound, Unauthenticated, Unavailable

pytestmark = [pytest.mark.anyio, pytest.mark.stack]

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


async def ready(pool: Pool, clock: ManualClock | None = None) -> Access:
    async with pool.acquire() as connection:
        await migrate_access(connection)
    return Access(pool, clock=clock or ManualClock(NOW))


async def test_the_schema_is_made_once_however_many_ask(database: Pool) -> None:
    async def migrate() -> list[str]:
        async with database.acquire() as connection:
            return await migrate_access(connection)

    done = await asyncio.gather(*(migrate() for _ in range(4)))
    assert sorted(map(len, done)) == [0, 0, 0, 1]


async def test_a_key_opens_the_door_with_its_users_rights(database: Pool) -> None:
    access = await ready(database)
    await access.put_user("ada", groups=["water", "air"])
    info, token = await access.create_key("ada", label="laptop")
    principal = await access.verify(token)
    assert (principal.name, principal.groups, principal.admin, principal.key_id) == ("ada", frozenset({"water", "air"}), False, info.id)
    await access.ping()


async def test_only_a_digest_is_stored(database: Pool) -> None:
    access = await ready(database)
    await access.put_user("ada")
    _, token = await access.create_key("ada")
    key = parse_api_key(token)
    assert key is not None
    stored = await database.fetchrow("select k::text from access.api_keys k")
    assert stored is not None
    assert key.secret not in stored[0]
    assert key.digest.hex() in stored[0]


async def test_a_revoked_key_is_refused_here_at_once_and_elsewhere_within_the_ttl(database: Pool) -> None:
    clock = ManualClock(NOW)
    here, there = await ready(database, clock), Access(database, clock=clock)
    await here.put_user("ada")
    info, token = await here.create_key("ada")
    await here.verify(token)
    await there.verify(token)
    revoked = await here.revoke_key(info.id)
    assert revoked.revoked_at == NOW
    with pytest.raises(Unauthenticated):
        await here.verify(token)
    clock.advance(5)
    with pytest.raises(Unauthenticated):
        await there.verify(token)
    assert (await here.revoke_key(info.id)).revoked_at == NOW  # again is no error, and keeps the time


async def test_rights_change_and_a_shut_out_user_stays_out(database: Pool) -> None:
    access = await ready(database)
    await access.put_user("ada", groups=["water"])
    _, token = await access.create_key("ada")
    await access.verify(token)
    await access.put_user("ada", groups=["air"], admin=True)
    principal = await access.verify(token)
    assert (principal.groups, principal.admin) == (frozenset({"air"}), True)
    await access.disable_user("ada")
    with pytest.raises(Unauthenticated):
        await access.verify(token)
    with pytest.raises(NotFound):
        await access.create_key("ada")
    assert [(user.name, user.disabled) for user in (await access.list_users())[0]] == [("ada", True)]


async def test_a_key_ends_when_it_says(database: Pool) -> None:
    clock = ManualClock(NOW)
    access = await ready(database, clock)
    await access.put_user("ada")
    _, token = await access.create_key("ada", expires_at=NOW + timedelta(hours=1))
    await access.verify(token)
    clock.advance(3601)
    with pytest.raises(Unauthenticated):
        await access.verify(token)


async def test_keys_are_listed_by_page_and_by_user(database: Pool) -> None:
    clock = ManualClock(NOW)
    access = await ready(database, clock)
    for user in ("ada", "eva"):
        await access.put_user(user)
        for n in range(3):
            await access.create_key(user, label=f"{user}{n}")
            clock.advance(1)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page, cursor = await access.list_keys(limit=4, cursor=cursor)
        seen += [key.label for key in page]
    assert seen == ["ada0", "ada1", "ada2", "eva0", "eva1", "eva2"]
    assert [key.label for key in (await access.list_keys(user="eva"))[0]] == ["eva0", "eva1", "eva2"]
    with pytest.raises(InvalidRequest):
        await access.list_keys(cursor="no-cursor")


async def test_only_the_owners_key_is_revoked_for_an_owner(database: Pool) -> None:
    access = await ready(database)
    await access.put_user("ada")
    info, _ = await access.create_key("ada")
    with pytest.raises(NotFound):
        await access.revoke_key(info.id, user="eva")
    with pytest.raises(NotFound):
        await access.revoke_key("nothing")
    assert (await access.revoke_key(info.id, user="ada")).revoked_at


@pytest.mark.parametrize("name", ["", "a b", "-a", "x" * 101, "a\n", "a:b", "a'b"])
async def test_bad_names_are_refused(database: Pool, name: str) -> None:
    access = await ready(database)
    for attempt in (access.put_user(name), access.put_user("ada", groups=[name]), access.ensure_admin(name)):
        with pytest.raises(InvalidRequest):
            await attempt


async def test_a_database_that_is_away_is_unavailable(database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
        access = await ready(pool)
        await access.put_user("ada")
        _, token = await access.create_key("ada")
        await pool.close()
        with pytest.raises(Unavailable):
            await access.verify(token)
        with pytest.raises(Unavailable):
            await access.ping()
