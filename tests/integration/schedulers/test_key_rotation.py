"""A new sealing key: what was sealed under the old one opens, is sealed anew, and then the old key can go."""

from __future__ import annotations

import secrets
from pathlib import Path

import asyncpg
import pytest

from jobledger_kit.keyring import SEALING_KEY
from tests.support.schedulers import Service, client, make_key, register

pytestmark = [pytest.mark.stack, pytest.mark.anyio]


async def test_credentials_move_to_a_new_key_and_the_old_one_can_go(
    service: Service, admin_key: str, environment: dict[str, str], database: asyncpg.Pool[asyncpg.Record]
) -> None:
    body = {"type": "condor", "host": "127.0.0.1", "port": 1, "token": "s3cr3t-t0ken"}
    key = Path(environment["JOBLEDGER_SECRETS_DIR"]) / SEALING_KEY
    service.start()
    user_key = await make_key(environment, database, "ada", admin=False)
    for name in ("one", "two"):
        await register(service, admin_key, {"name": name, **body})
    await database.execute("update schedulers.credentials set sealed = 'nonsense' where scheduler = 'two'")
    revision = "select revision, sealed from schedulers.credentials where scheduler = 'one'"
    before = await database.fetchrow(revision)
    service.stop()

    key.rename(key.with_name(f"{SEALING_KEY}.previous"))
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(32))
    service.start()
    async with client(service, admin_key) as http:
        first = (await http.post("/schedulers/credentials/reseal")).json()
        again = (await http.post("/schedulers/credentials/reseal")).json()
    async with client(service, user_key) as http:
        assert (await http.post("/schedulers/credentials/reseal")).status_code == 403
    after = await database.fetchrow(revision)
    service.stop()

    assert (first["resealed"], first["current"], first["unreadable"]) == (["one"], [], ["two"])
    assert (again["resealed"], again["current"], again["unreadable"]) == ([], ["one"], ["two"])
    assert before is not None
    assert after is not None
    assert before["sealed"] != after["sealed"]
    assert before["revision"] == after["revision"], "nothing that was opened with them has to be opened again"

    key.with_name(f"{SEALING_KEY}.previous").unlink()
    service.start()
    async with client(service, admin_key) as http:
        kept = await http.post("/schedulers", json={"name": "one", **body})
    assert kept.status_code == 200, "the same credentials are known as the same, under the new key alone"
