"""A schema is the sum of its files, whoever applies them and however often."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from jobledger_kit.errors import MigrationChanged
from jobledger_kit.migrations import Migration, MigrationError, migrate, migrate_files, migrations_of

pytestmark = [pytest.mark.anyio, pytest.mark.stack]

FIRST = Migration("service", "0001_first.sql", "create table things (id int primary key);")
SECOND = Migration("service", "0002_second.sql", "alter table things add name text;")


async def test_files_are_applied_once_each(database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool, pool.acquire() as connection:
        assert await migrate_files(connection, "one", [FIRST]) == ["0001_first.sql"]
        assert await migrate_files(connection, "one", [FIRST, SECOND]) == ["0002_second.sql"]
        assert await migrate_files(connection, "one", [FIRST, SECOND]) == []
        assert await connection.fetch("select id, name from one.things") == []


async def test_each_schema_is_its_own(database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool, pool.acquire() as connection:
        for schema in ("one", "two"):
            assert await migrate(connection, schema) == [m.name for m in migrations_of("jobledger_kit")]
        assert await connection.fetchval("show search_path") == '"$user", public'


async def test_processes_that_start_together_take_turns(database_url: str) -> None:
    async def start() -> list[str]:
        connection = await asyncpg.connect(database_url)
        try:
            return await migrate(connection, "one")
        finally:
            await connection.close()

    applied = await asyncio.gather(*(start() for _ in range(6)))
    assert sorted(map(len, applied)) == [0, 0, 0, 0, 0, len(migrations_of("jobledger_kit"))]


async def test_a_file_that_changed_is_an_error(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await migrate_files(connection, "one", [FIRST])
    changed = Migration(FIRST.package, FIRST.name, FIRST.sql + " -- better")
    with pytest.raises(MigrationChanged, match="0001_first"):
        await migrate_files(connection, "one", [changed])
    await connection.close()


async def test_a_newer_schema_is_an_error(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await migrate_files(connection, "one", [FIRST, SECOND])
    with pytest.raises(MigrationError, match="from a newer one"):
        await migrate_files(connection, "one", [FIRST])
    await connection.close()


async def test_a_file_that_fails_leaves_nothing(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await migrate_files(connection, "one", [FIRST, Migration("service", "0002_bad.sql", "alter nothing;")])
    assert not await connection.fetchval("select exists (select from pg_namespace where nspname = 'one')")
    await connection.close()


@pytest.mark.parametrize("name", ["", "One", "a-b", "a; drop table x", "1a"])
async def test_a_schema_has_a_plain_name(database_url: str, name: str) -> None:
    connection = await asyncpg.connect(database_url)
    with pytest.raises(MigrationError, match="no name for a schema"):
        await migrate(connection, name)
    await connection.close()
