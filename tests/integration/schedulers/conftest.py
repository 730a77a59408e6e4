"""A real HTCondor pool and Dask scheduler once per session; for each test topics, a database and the service as a process."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from jobledger_devstack import Stack, StackOptions
from jobledger_devstack.model import Endpoints
from jobledger_devstack.temporary import temporary_stack
from jobledger_kit.keyring import RUN_CREDENTIAL_KEY, SEALING_KEY
from tests.conftest import Log
from tests.support.schedulers import LogView, Service, empty_pool, make_key


@pytest.fixture(scope="session")
def parts() -> Iterator[Stack]:
    """HTCondor and Dask."""
    if home := os.environ.get("JOBLEDGER_TEST_STACK"):
        yield Stack(Path(home))
        return
    with temporary_stack(StackOptions(parts=frozenset({"condor", "dask"}), fsync=False)) as stack:
        yield stack


@pytest.fixture
def pool(parts: Stack) -> Iterator[Stack]:
    """The pool and the Dask scheduler; afterwards the queue is empty again."""
    yield parts
    empty_pool(parts)


@pytest.fixture
def workspaces(tmp_path: Path) -> Path:
    folder = tmp_path / "workspaces"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(tmp_path: Path, backbone: Endpoints, database_url: str, kafka_log: Log, workspaces: Path) -> dict[str, str]:
    """What the service is told."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    for name in (RUN_CREDENTIAL_KEY, SEALING_KEY):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(secrets.token_bytes(32))
    return {
        "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": backbone.kafka_bootstrap,
        "JOBLEDGER_DATABASE_URL": database_url,
        "JOBLEDGER_TOPIC_PREFIX": kafka_log.topic_prefix,
        "JOBLEDGER_PARTITIONS": str(kafka_log.partitions),
        "JOBLEDGER_SECRETS_DIR": str(folder),
        "JOBLEDGER_WORKSPACES_URL": workspaces.as_uri(),
        "JOBLEDGER_JOBS_URL": "http://127.0.0.1:9",
        "JOBLEDGER_HTTP_PORT": "0",
        "JOBLEDGER_INSTANCE_ID": "one",
    }


@pytest.fixture
async def admin_key(environment: dict[str, str], database: asyncpg.Pool[asyncpg.Record]) -> str:
    """An administrator's API key."""
    return await make_key(environment, database, "root", admin=True)


@pytest.fixture
def view(kafka_log: Log) -> Iterator[LogView]:
    with LogView(kafka_log.bootstrap_servers, kafka_log.topic_prefix, kafka_log.partitions) as view:
        yield view


@pytest.fixture
def service(tmp_path: Path, environment: dict[str, str], admin_key: str) -> Iterator[Service]:
    """The service, not started yet."""
    service = Service(tmp_path, environment)
    yield service
    service.end()


@pytest.fixture
def running(service: Service) -> Service:
    service.start()
    return service
