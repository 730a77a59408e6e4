"""The three services as processes over one empty database and empty topics, for all tests of rights."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from jobledger_kit.auth import Access
from jobledger_kit.database import connect_pool
from tests.integration.jobs.conftest import Ground, ground, service_on
from tests.support.jobs_service import JobsService

__all__ = ["ground"]  # the fixture


class SchedulersService(JobsService):
    """The same process handling, of another service."""

    module, noun = "jobledger_schedulers", "schedulers"


class ProvisionerService(JobsService):
    """The same process handling, of another service."""

    module, noun = "jobledger_provisioner", "clusters"


Services = dict[str, JobsService]


@pytest.fixture(scope="module")
def services(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Noun -> the service. Keys and secrets are the same for all three; `keys["expired"]` was good once."""
    jobs = service_on(ground, tmp_path_factory.mktemp("rights"), verdict_wait_s=1, access_log=False)
    sealing = jobs.secrets_dir / "sealing.key"
    sealing.touch(mode=0o600)
    sealing.write_bytes(secrets.token_bytes(32))
    jobs.keys["expired"] = asyncio.run(_expired_key(ground.database_url))
    running: Services = {"jobs": jobs}
    for kind in (SchedulersService, ProvisionerService):
        other = jobs.sibling(kind.noun)
        other.__class__ = kind
        running[kind.noun] = other
    try:
        for one in running.values():
            one.start()
        yield running
    finally:
        for one in running.values():
            one.end()


async def _expired_key(url: str) -> str:
    pool: asyncpg.Pool[asyncpg.Record] = await connect_pool(url, schema="access", max_size=1)
    try:
        return (await Access(pool).create_key("ada", expires_at=datetime.now(UTC) - timedelta(seconds=1)))[1]
    finally:
        await pool.close()
