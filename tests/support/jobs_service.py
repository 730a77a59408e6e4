"""The jobs service as a real process on a free port, with users of its own, over a given Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import copy
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from jobledger_kit.auth import Access, migrate_access
from jobledger_kit.database import connect_pool
from jobledger_kit.keyring import RUN_CREDENTIAL_KEY, KeyRing

USERS: dict[str, dict[str, Any]] = {
    "admin": {"admin": True},
    "ada": {"groups": ["hydro"]},
    "bob": {"groups": ["ops"]},
    "eve": {},
}
"""User -> rights. Jobs in the tests are ada's, and shared with the group ops."""


class JobsService:
    """Start, stop, kill and start again. `keys` has an API key for each of `USERS`."""

    module, noun = "jobledger_jobs", "jobs"

    def __init__(self, folder: Path, *, bootstrap_servers: str, database_url: str, topic_prefix: str, **settings: Any) -> None:
        self.folder, self.database_url = folder, database_url
        self.secrets_dir, self.data_dir, self.workspaces = folder / "secrets", folder / "data", folder / "workspaces"
        self.secrets_dir.mkdir(parents=True, mode=0o700)
        key_file = self.secrets_dir / RUN_CREDENTIAL_KEY
        key_file.touch(mode=0o600)
        key_file.write_bytes(secrets.token_bytes(32))
        self.keys = asyncio.run(self._make_users())
        self._process: subprocess.Popen[bytes] | None = None
        self._environ = os.environ | {
            "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "JOBLEDGER_DATABASE_URL": database_url,
            "JOBLEDGER_TOPIC_PREFIX": topic_prefix,
            "JOBLEDGER_HTTP_PORT": "0",
            "JOBLEDGER_SECRETS_DIR": str(self.secrets_dir),
            "JOBLEDGER_DATA_DIR": str(self.data_dir),
            "JOBLEDGER_WORKSPACES_URL": f"file://{self.workspaces}",
            "JOBLEDGER_JOBS_URL": "http://jobs.example",
            **{f"JOBLEDGER_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def sibling(self, name: str, **settings: Any) -> JobsService:
        """Another instance of the same service: the same database, topics, secrets and folders."""
        other = copy.copy(self)
        other._process = None
        other.folder, other.data_dir = self.folder / name, self.folder / name / "data"
        other.folder.mkdir()
        other._environ = self._environ | {
            "JOBLEDGER_DATA_DIR": str(other.data_dir),
            "JOBLEDGER_INSTANCE_ID": name,
            **{f"JOBLEDGER_{setting.upper()}": str(value) for setting, value in settings.items()},
        }
        return other

    async def _make_users(self) -> dict[str, str]:
        connection = await asyncpg.connect(self.database_url)
        await migrate_access(connection)
        await connection.close()
        pool = await connect_pool(self.database_url, schema="access", max_size=1)
        try:
            access = Access(pool, KeyRing.load(self.secrets_dir, RUN_CREDENTIAL_KEY))
            keys = {}
            for name, rights in USERS.items():
                await access.put_user(name, **rights)
                keys[name] = (await access.create_key(name))[1]
            return keys
        finally:
            await pool.close()

    @property
    def log_file(self) -> Path:
        return self.folder / "service.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{(self.data_dir / 'port').read_text().strip()}"

    def start(self, role: str = "all", timeout_s: float = 60.0) -> JobsService:
        """Start the process and wait until it is ready."""
        with suppress(FileNotFoundError):
            (self.data_dir / "port").unlink()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, role], env=self._environ, stdout=log, stderr=log, cwd=self.folder
            )
        deadline = time.monotonic() + timeout_s
        while not self._ready():
            assert self._process.poll() is None, f"the service has ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"the service is not ready:\n{self.log()}"
            time.sleep(0.1)
        return self

    def _ready(self) -> bool:
        with suppress(httpx.TransportError, FileNotFoundError):
            return httpx.get(f"{self.url}/{self.noun}/health/ready", timeout=5).status_code == 200
        return False

    def log(self, last: int = 60) -> str:
        """The last lines that the service has logged."""
        return "\n".join(self.log_file.read_text().splitlines()[-last:])

    def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    @property
    def environment(self) -> dict[str, str]:
        """What the process is told."""
        return dict(self._environ)

    def wait(self, timeout_s: float) -> int:
        """Wait until it has ended by itself, and return its exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def end(self) -> None:
        """Make sure that nothing is left running."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def client(self, user: str | None, **options: Any) -> httpx.Client:
        """An HTTP client with a user's key, or with none."""
        return httpx.Client(base_url=self.url, headers=_bearer(self.keys[user]) if user else {}, timeout=30, **options)

    def async_client(self, user: str, **options: Any) -> httpx.AsyncClient:
        """The same for an event loop."""
        return httpx.AsyncClient(base_url=self.url, headers=_bearer(self.keys[user]), timeout=30, **options)

    def with_token(self, token: str) -> httpx.Client:
        """An HTTP client with any token."""
        return httpx.Client(base_url=self.url, headers=_bearer(token), timeout=30)


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
