"""Schema changes: numbered SQL files, applied once each, in order.

A service's schema is the sum of the kit's files (the ledger's tables) and then its own, from `<package>/migrations/NNNN_name.sql`.
What was applied is remembered with its checksum, so a file that changes afterwards is an error and not a surprise.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import Final

import msgspec
import structlog

from .database import Connection
from .errors import Broken, MigrationChanged
from .queries import load_queries

KIT: Final = "jobledger_kit"
_FILE: Final = re.compile(r"(?P<number>\d{4})_[a-z0-9_]+\.sql\Z")
_SCHEMA: Final = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")

log = structlog.get_logger(__name__)


class MigrationError(Broken):
    """The database's schema and this release's files do not go together; says how."""


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    package: str
    name: str
    sql: str

    @property
    def checksum(self) -> bytes:
        return hashlib.sha256(self.sql.encode()).digest()


def migrations_of(package: str) -> list[Migration]:
    """A package's files, in order. Raises MigrationError when their numbers are not 1, 2, 3 ..."""
    folder = files(package).joinpath("migrations")
    if not folder.is_dir():
        return []
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    for expected, name in enumerate(found, start=1):
        match = _FILE.match(name)
        if not match or int(match["number"]) != expected:
            raise MigrationError(f"{package}/migrations/{name}: {expected:04d}_<name>.sql was expected here")
    return [Migration(package, name, folder.joinpath(name).read_text(encoding="utf-8")) for name in found]


async def migrate(connection: Connection, schema: str, package: str | None = None) -> list[str]:
    """Bring a schema up to date: the kit's tables, then the package's. Returns the names of the files that were applied.

    Any number of processes may call it at once: they take turns, and each file is applied by one. All files of a call are one
    transaction. Raises MigrationError or MigrationChanged; asyncpg's errors pass through.
    """
    return await migrate_files(connection, schema, [*migrations_of(KIT), *(migrations_of(package) if package else [])])


async def migrate_files(connection: Connection, schema: str, wanted: list[Migration]) -> list[str]:
    """Apply those of the files that are new to the schema. As `migrate`, for any list of files."""
    if not _SCHEMA.match(schema):
        raise MigrationError(f"{schema!r} is no name for a schema: lower-case letters, digits and _ are")
    sql = load_queries(KIT, "sql/migrations.sql")
    async with connection.transaction():
        await connection.execute(sql["lock"], f"jobledger:{schema}")
        await connection.execute(await connection.fetchval(sql["schema_statement"], schema))
        await connection.execute(sql["search_path"], schema)
        await connection.execute(sql["table"])
        applied = {(row["package"], row["name"]): row["checksum"] for row in await connection.fetch(sql["applied"])}
        known = {(m.package, m.name) for m in wanted}
        packages = {m.package for m in wanted}
        if strange := sorted(key for key in applied if key not in known and key[0] in packages):
            raise MigrationError(
                f"schema {schema} has {strange[0][0]}/{strange[0][1]}, which this release does not: it is from a newer one"
            )
        done = []
        for migration in wanted:
            checksum = applied.get((migration.package, migration.name))
            if checksum is None:
                await connection.execute(migration.sql)
                await connection.execute(sql["remember"], migration.package, migration.name, migration.checksum)
                done.append(migration.name)
            elif checksum != migration.checksum:
                raise MigrationChanged(schema, f"{migration.package}/{migration.name}")
    if done:
        log.info("Schema migrated", schema=schema, files=done)
    return done
