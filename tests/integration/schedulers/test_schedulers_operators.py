"""What operators and apps do with schedulers beside running jobs: checks, looks into pools, settings, and being degraded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from jobledger_contracts import topics
from jobledger_devstack import Stack
from tests.support.eventually import eventually, eventually_async
from tests.support.schedulers import Service, client, condor_body, dask_body, make_key, register

pytestmark = [pytest.mark.anyio, pytest.mark.stack]


@pytest.fixture
async def user_key(environment: dict[str, str], database: asyncpg.Pool[asyncpg.Record]) -> str:
    return await make_key(environment, database, "ada", admin=False)


@pytest.fixture
async def root(running: Service, admin_key: str, pool: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator, with both kinds of schedulers registered."""
    await register(running, admin_key, condor_body(pool))
    await register(running, admin_key, dask_body(pool))
    async with client(running, admin_key) as http:
        yield http


@pytest.fixture
async def ada(running: Service, user_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A user."""
    async with client(running, user_key) as http:
        yield http


async def get(http: httpx.AsyncClient, path: str, status: int = 200, **params: Any) -> Any:
    answer = await http.get(path, params=params)
    assert answer.status_code == status, answer.text
    return answer.json()


# --- checks ---


async def test_a_check_tells_step_by_step_that_all_is_well(root: httpx.AsyncClient, pool: Stack) -> None:
    for name, skipped in (("pool", set()), ("dask", {"authentication", "authorization"})):
        checked = (await root.post(f"/schedulers/{name}/check")).json()
        assert checked["reachable"] is True
        assert checked["version"]
        assert checked["identity"]
        outcomes = {step["name"]: step["outcome"] for step in checked["steps"]}
        assert {step for step, outcome in outcomes.items() if outcome == "skipped"} == skipped
        assert "failed" not in outcomes.values()
        assert all(step["title"] and step["explanation"] for step in checked["steps"])
        assert "eyJ" not in json.dumps(checked)  # how every token begins


async def test_a_check_says_what_is_wrong_and_what_to_do(root: httpx.AsyncClient, pool: Stack, unused_port: int) -> None:
    token = pool.mint_token("jobledger", 3600)
    wrong = token[:-8] + "AAAAAAAA"
    assert (await root.post("/schedulers", json={**condor_body(pool, "locked"), "token": wrong})).status_code == 201
    assert (await root.post("/schedulers", json={**condor_body(pool, "away"), "port": unused_port})).status_code == 201
    for name, step in (("locked", "authentication"), ("away", "tcp")):
        checked = (await root.post(f"/schedulers/{name}/check")).json()
        (failed,) = [found for found in checked["steps"] if found["outcome"] == "failed"]
        assert (checked["reachable"], failed["name"]) == (False, step)
        assert failed["advice"]
        assert checked["detail"] == failed["explanation"]
        assert wrong not in json.dumps(checked)
        assert [found["outcome"] for found in checked["steps"]].index("skipped") > [found["name"] for found in checked["steps"]].index(step)


# --- looks ---


async def test_everybody_may_see_how_things_stand_and_administrators_see_ads(root: httpx.AsyncClient, ada: httpx.AsyncClient) -> None:
    for path in ("pool/pool/daemons", "pool/pool/slots", "pool/pool/queue", "pool/pool/priorities", "dask/workers", "dask/tasks"):
        assert (await get(ada, f"/schedulers/{path}")).keys() >= {"items"} or path.endswith("queue")
    for path in ("pool/pool/jobs", "pool/pool/history", "pool/pool/identity"):
        await get(ada, f"/schedulers/{path}", 403)
        assert isinstance((await get(root, f"/schedulers/{path}"))["items"], list)
    assert (await get(ada, "/schedulers/pool/pool/slots"))["total"] >= 1
    assert (await get(ada, "/schedulers/dask/workers"))["total"] >= 1
    levels = (await get(root, "/schedulers/pool/pool/identity"))["items"]
    assert {level["identity"].partition("@")[0] for level in levels} == {"jobledger"}


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"constraint": "Owner =="}, "?constraint"),
        ({"projection": "Owner,a b"}, "?projection"),
        ({"limit": "1001"}, "?limit"),
        ({"limit": "0"}, "?limit"),
        ({"colour": "red"}, "?colour"),
    ],
)
async def test_a_question_that_cannot_be_asked_is_answered_with_what_is_wrong(
    root: httpx.AsyncClient, params: dict[str, str], where: str
) -> None:
    problem = await get(root, "/schedulers/pool/pool/jobs", 400, **params)
    assert [error["path"] for error in problem["errors"]] == [where]


async def test_a_scheduler_of_another_kind_or_none_cannot_be_looked_at(root: httpx.AsyncClient) -> None:
    await get(root, "/schedulers/dask/pool/slots", 409)
    await get(root, "/schedulers/pool/workers", 409)
    await get(root, "/schedulers/nobody/pool/slots", 404)


async def test_a_pool_that_is_away_is_no_fault_of_ours_and_users_learn_no_addresses(
    root: httpx.AsyncClient, ada: httpx.AsyncClient, pool: Stack, unused_port: int
) -> None:
    await root.post("/schedulers", json={**condor_body(pool, "away"), "port": unused_port})
    assert str(unused_port) in (await get(root, "/schedulers/away/pool/slots", 503))["detail"]
    assert str(unused_port) not in (await get(ada, "/schedulers/away/pool/slots", 503))["detail"]


async def test_a_look_uses_the_settings_of_now_and_leaves_nothing_behind(root: httpx.AsyncClient, running: Service, pool: Stack) -> None:
    await get(root, "/schedulers/pool/pool/slots")
    assert list((running.data_dir / "checks").iterdir())
    wrong = {**condor_body(pool), "token": "x.y.z"}
    assert (await root.put("/schedulers/pool", json=wrong)).status_code == 200
    await get(root, "/schedulers/pool/pool/slots", 409)
    assert (await root.put("/schedulers/pool", json=condor_body(pool))).status_code == 200
    await get(root, "/schedulers/pool/pool/slots")
    assert running.stop() == 0
    assert not list((running.data_dir / "checks").iterdir())


# --- settings ---

PRIMARY = {"name": "primary", "engine": "condor", "required": True, "description": "where models run"}
SECOND = {"name": "second", "engine": "dask"}


async def declare(http: httpx.AsyncClient, *settings: Any, status: int = 200, label: str = "water") -> Any:
    answer = await http.put(f"/schedulers/settings/{label}", json={"settings": list(settings)})
    assert answer.status_code == status, answer.text
    return answer.json()


async def assign(http: httpx.AsyncClient, scheduler: str | None, status: int = 200, name: str = "primary") -> Any:
    answer = await http.put(f"/schedulers/settings/water/{name}", json={"scheduler": scheduler})
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_an_app_declares_and_an_administrator_assigns(root: httpx.AsyncClient, ada: httpx.AsyncClient) -> None:
    declared = await declare(ada, PRIMARY, SECOND)
    assert [(item["name"], item["assigned"], item["declared_by"]) for item in declared["items"]] == [
        ("primary", False, "user:ada"),
        ("second", False, "user:ada"),
    ]
    assert "position" in declared
    assert (await declare(ada, PRIMARY, SECOND))["position"] is None  # nothing had to be said
    await assign(ada, "pool", 403)
    for scheduler in ("dask", "nobody"):
        assert (await assign(root, scheduler, 400))["errors"][0]["path"] == "$.scheduler"
    await assign(root, "pool", 404, name="third")
    await assign(root, "pool")
    found = await get(ada, "/schedulers/settings/water/primary")
    assert (found["scheduler"], found["assigned"], found["problem"], found["assigned_by"]) == ("pool", True, "", "user:root")
    assert (await assign(root, "pool"))["position"] is None
    assert [item["name"] for item in (await get(ada, "/schedulers/settings/water"))["items"]] == ["primary", "second"]
    await assign(root, None)
    assert (await get(ada, "/schedulers/settings/water/primary"))["assigned"] is False


async def test_settings_belong_to_whoever_declared_them(root: httpx.AsyncClient, ada: httpx.AsyncClient) -> None:
    await declare(root, PRIMARY)
    await declare(ada, SECOND, status=403)
    await declare(ada, SECOND, label="other")
    await declare(root, label="other")
    assert (await get(ada, "/schedulers/settings"))["items"] == (await get(ada, "/schedulers/settings/water"))["items"]


async def test_bad_declarations_are_refused(ada: httpx.AsyncClient, root: httpx.AsyncClient) -> None:
    await declare(ada, PRIMARY, PRIMARY, status=400)
    await declare(ada, {**PRIMARY, "engine": "slurm"}, status=400)
    await declare(ada, {**PRIMARY, "name": "a/b"}, status=400)
    await declare(ada, PRIMARY, label="a%20b", status=400)
    await declare(ada, *[{**PRIMARY, "name": f"n{n}"} for n in range(51)], status=400)
    answer = await root.post("/schedulers", json={"name": "settings", "type": "dask", "host": "tcp://127.0.0.1:1"})
    assert answer.status_code == 400


async def test_a_setting_whose_scheduler_is_removed_says_so_and_settings_page(root: httpx.AsyncClient) -> None:
    await declare(root, PRIMARY, SECOND)
    await declare(root, SECOND, label="another")
    await assign(root, "pool")
    assert (await root.delete("/schedulers/pool")).status_code == 204
    found = await get(root, "/schedulers/settings/water/primary")
    assert (found["assigned"], found["scheduler"]) == (False, "pool")
    assert "not registered" in found["problem"]
    page = await get(root, "/schedulers/settings", limit=2)
    rest = await get(root, "/schedulers/settings", limit=2, cursor=page["next_cursor"])
    assert [f"{item['label']}/{item['name']}" for item in page["items"] + rest["items"]] == [
        "another/second",
        "water/primary",
        "water/second",
    ]
    assert rest["next_cursor"] is None


async def test_settings_are_made_anew_from_the_log(
    root: httpx.AsyncClient, running: Service, admin_key: str, database: asyncpg.Pool[asyncpg.Record]
) -> None:
    await declare(root, PRIMARY, SECOND)
    await assign(root, "pool")
    await declare(root, PRIMARY)
    before = await get(root, "/schedulers/settings")
    assert running.stop() == 0
    await database.execute("delete from schedulers.settings")
    await database.execute("delete from schedulers.streams where topic = $1", topics.SETTINGS)
    await database.execute("update schedulers.checkpoints set next_offset = 0 where topic = $1", topics.SETTINGS)
    running.start()
    async with client(running, admin_key) as http:

        async def again() -> bool:
            return bool(await get(http, "/schedulers/settings") == before)

        await eventually_async(again, 20, 0.2)


# --- health ---


@contextmanager
def dask(folder: Path, *words: str) -> Iterator[None]:
    """A process of Dask's, gone afterwards."""
    program = [sys.executable, "-m", "dask", *words]
    with (folder / f"dask-{words[0]}.log").open("wb") as log:
        process = subprocess.Popen(program, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def test_a_dask_scheduler_without_workers_is_degraded_until_one_comes(
    service: Service, environment: dict[str, str], admin_key: str, user_key: str, tmp_path: Path
) -> None:
    service._environment["JOBLEDGER_HEALTH_INTERVAL_S"] = "0.5"
    service._environment["JOBLEDGER_SWEEP_INTERVAL_S"] = "0.5"
    service.start()
    file = tmp_path / "scheduler.json"

    async def health(http: httpx.AsyncClient) -> tuple[str, str | None]:
        (found,) = (await get(http, "/schedulers"))["items"]
        return found["health"], found.get("health_detail")

    def written() -> Any:
        return json.loads(file.read_text())["address"] if file.exists() and file.stat().st_size else None

    with dask(tmp_path, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)):
        address = eventually(written, 30, 0.2)
        await register(service, admin_key, {"name": "lonely", "type": "dask", "host": address})
        async with client(service, user_key) as http:

            async def degraded() -> bool:
                return await health(http) == ("degraded", "the Dask scheduler has no workers")

            async def up() -> bool:
                return (await health(http))[0] == "up"

            await eventually_async(degraded, 30, 0.2)
            with dask(tmp_path, "worker", address, "--no-nanny", "--no-dashboard", "--nthreads", "1"):
                await eventually_async(up, 40, 0.2)


async def test_everything_is_in_the_openapi_document(root: httpx.AsyncClient) -> None:
    document = await get(root, "/schedulers/openapi.json")
    wanted = {
        "pool/daemons",
        "pool/slots",
        "pool/queue",
        "pool/jobs",
        "pool/history",
        "pool/priorities",
        "pool/identity",
        "workers",
        "tasks",
    }
    assert {f"/schedulers/{{name}}/{path}" for path in wanted} <= document["paths"].keys()
    assert {"/schedulers/settings", "/schedulers/settings/{label}", "/schedulers/settings/{label}/{name}"} <= document["paths"].keys()
    assert "steps" in document["components"]["schemas"]["CheckView"]["properties"]
