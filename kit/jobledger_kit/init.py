"""What has to be there before the services start: the topics, the schema `access`, and an administrator's API key in a file.

    python -m jobledger_kit.init --admin-key-file secrets/admin.key

It may be run again at any time, and by several at once: what is there already stays as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import asyncpg
import structlog

from .auth import Access, migrate_access
from .bus import ensure_topics
from .config import ServiceSettings, describe, without_password
from .database import DATABASE_AWAY, connect_pool
from .errors import BadSettings, JobledgerError, Unauthenticated, Unavailable
from .lifecycle import EX_CONFIG, EX_OK, EX_SOFTWARE
from .migrations import MigrationError
from .telemetry import set_up_logging

T = TypeVar("T")

TIMEOUT_S: Final = 120.0
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
EX_TEMPFAIL: Final = 75

log = structlog.get_logger("jobledger_kit.init")  # `__name__` is `__main__` here


async def until_there(what: str, attempt: Callable[[], Awaitable[T]], deadline_s: float) -> T:
    """Try until it succeeds, with growing pauses, or until the loop's time is `deadline_s`. Raises Unavailable then.

    Only what waiting can mend is tried again: a wrong password or a topic of another shape is raised at once.
    """
    loop = asyncio.get_running_loop()
    pause_s = FIRST_PAUSE_S
    said = False
    while True:
        try:
            async with asyncio.timeout_at(deadline_s):
                return await attempt()
        except (Unavailable, *DATABASE_AWAY) as error:
            cause = error.__cause__ or error
            if loop.time() + pause_s >= deadline_s:
                raise Unavailable(f"{what} did not answer in time: {without_password(str(cause)) or type(cause).__name__}") from error
            if not said:
                log.info("Waiting", what=what, error=repr(cause))
                said = True
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.6, LONGEST_PAUSE_S)


async def initialise(settings: ServiceSettings, *, admin_key_file: Path, admin_user: str, timeout_s: float) -> None:
    """Do all of it. Raises JobledgerError, MigrationError, OSError (the file) and asyncpg's errors that waiting cannot mend."""
    deadline_s = asyncio.get_running_loop().time() + timeout_s

    async def topics() -> list[str]:
        return await ensure_topics(
            settings.kafka_bootstrap_servers,
            settings.partitions,
            security=settings.kafka_security(),
            topic_prefix=settings.topic_prefix,
        )

    made = await until_there("Kafka", topics, deadline_s)
    log.info("The topics are there", made=made, partitions=settings.partitions)
    pool = await until_there("PostgreSQL", lambda: connect_pool(settings.database_url, schema="access", max_size=2), deadline_s)
    try:
        async with pool.acquire() as connection:
            await migrate_access(connection)
            # One at a time: two that find no file would make two keys, and one of them would be lost. Going back to the pool lets go.
            await connection.execute("select pg_advisory_lock(hashtextextended('jobledger:admin-key', 0))")
            await ensure_admin_key(Access(pool), admin_key_file, admin_user)
    finally:
        await pool.close()


async def ensure_admin_key(access: Access, file: Path, user: str) -> bool:
    """Leave a working key of an administrator in the file, mode 0600. Says whether it is a new one. Raises OSError, Unavailable."""
    token = _read(file)
    if token:
        with suppress(Unauthenticated):
            principal = await access.verify(token)
            if principal.admin and principal.name == user:
                file.chmod(0o600)
                log.info("The administrator's key is there", file=str(file), key_id=principal.key_id)
                return False
    await access.ensure_admin(user)
    info, token = await access.create_key(user, label="init")
    write_secret(file, token)
    log.info("An administrator's key was made", file=str(file), user=user, key_id=info.id)
    return True


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        return "?"  # something else lies there; it is replaced as any other key that does not work


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step: whoever looks sees the old content or the new. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "w") as target:
            target.write(text + "\n")
            target.flush()
            os.fsync(target.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def parser() -> argparse.ArgumentParser:
    """The command line."""
    needed = [
        row
        for row in describe(ServiceSettings)
        if row[0].removeprefix(ServiceSettings.prefix).startswith(("KAFKA", "DATABASE", "PARTITIONS", "LOG"))
    ]
    width = max(len(name) for name, _, _ in needed)
    settings = "\n".join(f"  {name:<{width}}  {meaning}{f' (default: {default})' if default else ''}" for name, default, meaning in needed)
    command = argparse.ArgumentParser(
        prog="python -m jobledger_kit.init",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Prepare Kafka and PostgreSQL for the services: make the topics (or check them), the schema `access`, and an\n"
            "administrator's API key. Waits for both. What is there already stays, so it may be run before every start."
        ),
        epilog=(
            f"environment:\n{settings}\n\nsecrets may come from a file: <NAME>_FILE instead of <NAME>\n\n"
            "exit codes:\n  0  all is there\n  70 something is wrong that waiting does not mend\n"
            "  75 Kafka or PostgreSQL did not answer in time\n  78 settings are missing or bad"
        ),
    )
    command.add_argument(
        "--admin-key-file", type=Path, required=True, metavar="PATH", help="where the administrator's key is, or will be (0600)"
    )
    command.add_argument("--admin-user", default="admin", metavar="NAME", help="whose key it is (default: admin)")
    command.add_argument("--timeout-s", type=float, default=TIMEOUT_S, metavar="S", help=f"how long to wait (default: {TIMEOUT_S:g})")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        settings = ServiceSettings.load(os.environ)
    except BadSettings as error:
        sys.stderr.write(f"{error}\n")
        return EX_CONFIG
    set_up_logging("init", format=settings.log_format, level=settings.log_level)
    try:
        asyncio.run(initialise(settings, admin_key_file=options.admin_key_file, admin_user=options.admin_user, timeout_s=options.timeout_s))
    except Unavailable as error:
        log.critical("Not everything is there yet", error=error.message)
        return EX_TEMPFAIL
    except (JobledgerError, MigrationError, OSError, asyncpg.PostgresError) as error:
        log.critical("The initialisation failed", error=f"{type(error).__name__}: {error}")
        return EX_SOFTWARE
    return EX_OK


if __name__ == "__main__":
    sys.exit(main())
