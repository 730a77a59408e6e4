"""A user of an identity provider works with the service as one with an API key does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from tests.integration.jobs.conftest import Ground, service_on
from tests.support.eventually import eventually_async
from tests.support.identity_provider import IdentityProvider, identity_provider
from tests.support.jobs_service import JobsService

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as one:
        yield one


@pytest.fixture(scope="module")
def trusting(ground: Ground, provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsService]:
    """The service, which trusts the provider."""
    one = service_on(
        ground, tmp_path_factory.mktemp("jobs"), oidc_issuer=provider.issuer, oidc_audience="jobledger", oidc_admin_group="admins"
    )
    one.start()
    yield one
    one.end()


def token(provider: IdentityProvider, user: str, *groups: str, **more: Any) -> str:
    said = {"iss": provider.issuer, "aud": "jobledger", "sub": user, "exp": int(time.time()) + 300, "groups": groups}
    return provider.token(said | more)


def test_tokens_user_has_the_tokens_groups_and_rights(trusting: JobsService, provider: IdentityProvider) -> None:
    body = {"name": "n", "label": "tokens", "job_type": "BASIC", "groups": ["river"]}
    with trusting.with_token(token(provider, "grace")) as grace, trusting.with_token(token(provider, "joan", "river")) as joan:
        made = grace.post("/jobs", json=body)
        assert made.status_code == 201, made.text
        job = made.json()
        assert job["user"] == "grace"
        assert joan.get("/jobs/whoami").json() == {"user": "joan", "groups": ["river"], "admin": False, "service": False}
        assert joan.get(f"/jobs/{job['id']}").status_code == 200
        assert joan.delete(f"/jobs/{job['id']}").status_code == 403
        assert joan.get("/jobs/keys").status_code == 403
        assert grace.get(f"/jobs/{job['id']}/history").json()["items"][0]["actor"] == "user:grace"
    with trusting.with_token(token(provider, "root", "admins")) as admin:
        assert admin.get("/jobs/keys").status_code == 200
    for bad in (token(provider, "grace", exp=int(time.time()) - 100), token(provider, "grace", aud="other"), token(provider, "a b")):
        with trusting.with_token(bad) as nobody:
            assert nobody.get("/jobs").status_code == 401


async def _shut_out(url: str, user: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("insert into access.users (name, disabled) values ($1, true)", user)
    await connection.close()


@pytest.mark.anyio
async def test_user_who_is_shut_out_is_so_with_a_token_too(trusting: JobsService, provider: IdentityProvider) -> None:
    with trusting.with_token(token(provider, "mallory")) as mallory:
        assert mallory.get("/jobs").status_code == 200
        await _shut_out(trusting.database_url, "mallory")
        await eventually_async(lambda: mallory.get("/jobs").status_code == 401, timeout_s=10)


def test_no_token_is_in_the_log(trusting: JobsService, provider: IdentityProvider) -> None:
    secret = token(provider, "grace")
    with trusting.with_token(secret) as grace:
        grace.get("/jobs")
    assert secret.rsplit(".", 1)[1] not in trusting.log(100_000)
