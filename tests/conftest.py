"""Fixtures that every folder of tests may use: real Kafka and PostgreSQL, a database and topics of one's own, no leaked task."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import socket
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from jobledger_contracts import topics
from jobledger_devstack import Stack, StackOptions
from jobledger_devstack.model import Endpoints
from jobledger_devstack.temporary import temporary_stack
from jobledger_kit.bus import ensure_topics
from tests.support.access_point import access_point
from tests.support.pools import dask_scheduler, pool

__all__ = ["access_point", "dask_scheduler", "pool"]  # fixtures that are defined elsewhere

PARTITIONS = 4


class Log(msgspec.Struct, frozen=True):
    """Topics of one test's own. Pass `topic_prefix` to whatever reads or writes them."""

    bootstrap_servers: str
    topic_prefix: str
    partitions: int = PARTITIONS


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio is what we run on."""
    return "asyncio"


@pytest.fixture(scope="session")
def backbone() -> Iterator[Endpoints]:
    """Kafka and PostgreSQL, once per session. With JOBLEDGER_TEST_STACK (a data folder) those of a stack that is up already."""
    if home := os.environ.get("JOBLEDGER_TEST_STACK"):
        yield Stack(Path(home)).endpoints()
        return
    with temporary_stack(StackOptions(parts=frozenset({"kafka", "postgres"}), fsync=False)) as stack:
        yield stack.endpoints()


@pytest.fixture
def database_url(backbone: Endpoints) -> Iterator[str]:
    """The URL of a fresh, empty database."""
    name = f"test_{uuid.uuid4().hex}"
    asyncio.run(_execute(backbone.database_url, f'create database "{name}"'))
    yield urlunsplit(urlsplit(backbone.database_url)._replace(path=f"/{name}"))
    asyncio.run(_execute(backbone.database_url, f'drop database "{name}" with (force)'))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """A pool on a fresh, empty database."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as pool:
        yield pool


@pytest.fixture
def kafka_log(backbone: Endpoints) -> Iterator[Log]:
    """All our topics, fresh and empty, under a prefix of the test's own."""
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    asyncio.run(ensure_topics(backbone.kafka_bootstrap, PARTITIONS, topic_prefix=prefix))
    yield Log(backbone.kafka_bootstrap, prefix)
    asyncio.run(_delete_topics(backbone.kafka_bootstrap, prefix))


@pytest.fixture
def unused_port() -> int:
    """A port of this machine on which nobody listens: it is bound, and closed, a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """A test that leaves a task running fails: in a service it would be an error that nobody sees."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _without_leaks(pyfuncitem.obj)
    return (yield)


def _without_leaks(test: Any) -> Any:
    @functools.wraps(test)
    async def checked(*args: Any, **kwargs: Any) -> None:
        before = asyncio.all_tasks()
        await test(*args, **kwargs)
        for _ in range(10):  # what was cancelled a moment ago may end
            await asyncio.sleep(0)
        leaked = [task for task in asyncio.all_tasks() - before if not task.done() and not _is_a_pools(task)]
        assert not leaked, f"tasks still running: {leaked}"

    return checked


def _is_a_pools(task: asyncio.Task[Any]) -> bool:
    """A pool of a fixture's replaces connections that were lost in the test; it ends with the pool."""
    return getattr(task.get_coro(), "__qualname__", "") == "Pool._maintain_min_size"


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
