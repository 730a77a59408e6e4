"""The jobs service over a real Kafka and PostgreSQL: one for each module of tests, in a database and topics of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from jobledger_contracts import topics
from jobledger_devstack.model import Endpoints
from jobledger_kit.bus import ensure_topics
from tests.support.jobs_service import JobsService

PARTITIONS = 4
Create = Callable[..., dict[str, Any]]


class Ground(msgspec.Struct, frozen=True):
    """An empty database and empty topics."""

    bootstrap_servers: str
    database_url: str
    topic_prefix: str


@pytest.fixture(scope="module")
def ground(backbone: Endpoints) -> Iterator[Ground]:
    """For one module; dropped behind it."""
    name, prefix = f"test_{uuid.uuid4().hex}", f"test-{uuid.uuid4().hex[:12]}."
    asyncio.run(_execute(backbone.database_url, f'create database "{name}"'))
    asyncio.run(ensure_topics(backbone.kafka_bootstrap, PARTITIONS, topic_prefix=prefix))
    yield Ground(backbone.kafka_bootstrap, urlunsplit(urlsplit(backbone.database_url)._replace(path=f"/{name}")), prefix)
    asyncio.run(_execute(backbone.database_url, f'drop database "{name}" with (force)'))
    asyncio.run(_delete_topics(backbone.kafka_bootstrap, prefix))


@pytest.fixture(scope="module")
def service(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsService]:
    """The service, running in one process."""
    one = service_on(ground, tmp_path_factory.mktemp("jobs"))
    one.start()
    yield one
    one.end()


def service_on(ground: Ground, folder: Path, **settings: Any) -> JobsService:
    """A service that is not started yet."""
    return JobsService(
        folder / "service",
        bootstrap_servers=ground.bootstrap_servers,
        database_url=ground.database_url,
        topic_prefix=ground.topic_prefix,
        **settings,
    )


@pytest.fixture(scope="module")
def admin(service: JobsService) -> Iterator[httpx.Client]:
    with service.client("admin") as client:
        yield client


@pytest.fixture(scope="module")
def ada(service: JobsService) -> Iterator[httpx.Client]:
    """The owner of the jobs."""
    with service.client("ada") as client:
        yield client


@pytest.fixture(scope="module")
def bob(service: JobsService) -> Iterator[httpx.Client]:
    """A member of the group `ops`."""
    with service.client("bob") as client:
        yield client


@pytest.fixture(scope="module")
def eve(service: JobsService) -> Iterator[httpx.Client]:
    """A stranger."""
    with service.client("eve") as client:
        yield client


@pytest.fixture
def create(ada: httpx.Client) -> Create:
    """Creates a job of ada's, shared with `ops`."""

    def make(**members: Any) -> dict[str, Any]:
        body = {"name": "calibration", "label": "hydro", "job_type": "BASIC", "groups": ["ops"]} | members
        response = ada.post("/jobs", json=body)
        assert response.status_code == 201, response.text
        job: dict[str, Any] = response.json()
        return job

    return make


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _delete_topics(bootstrap_servers: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([prefix + topic for topic in topics.ALL])
    finally:
        await admin.close()
