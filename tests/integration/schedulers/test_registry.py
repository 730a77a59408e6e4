"""The registry of schedulers over HTTP: the service as a process, a real pool behind it."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from jobledger_contracts.job_events import CondorSpec
from jobledger_contracts.statuses import Status
from jobledger_devstack import Stack
from tests.support.eventually import eventually_async
from tests.support.schedulers import LogView, Service, client, condor_body, make_key, register

pytestmark = [pytest.mark.stack, pytest.mark.anyio]

SECRET = "s3cr3t-t0ken-0123456789"


def body(**more: Any) -> dict[str, Any]:
    return {"name": "far", "type": "condor", "host": "127.0.0.1", "port": 1, "token": SECRET, **more}


async def test_a_scheduler_is_registered_shown_replaced_and_removed(running: Service, admin_key: str, view: LogView) -> None:
    async with client(running, admin_key) as http:
        created = await http.post("/schedulers", json=body())
        again = await http.post("/schedulers", json=body())
        other = await http.post("/schedulers", json=body(port=2))
        other_secret = await http.post("/schedulers", json=body(token="another"))
        replaced = await http.put("/schedulers/far", json={k: v for k, v in body(port=2).items() if k != "token"})
        without = await http.put("/schedulers/far", json=body(port=2, token=None))
        another_type = await http.put("/schedulers/far", json={"name": "far", "type": "dask", "host": "tcp://127.0.0.1:1"})
        shown = await http.get("/schedulers/far")
        listed = await http.get("/schedulers")
        removed = await http.delete("/schedulers/far")
        gone = await http.get("/schedulers/far")

    assert [a.status_code for a in (created, again, other, other_secret, replaced, without)] == [201, 200, 409, 409, 200, 200]
    assert another_type.status_code == 409
    assert created.headers["location"] == "/schedulers/far"
    assert created.json()["secrets_set"] == ["token"]
    assert replaced.json()["port"] == 2
    assert replaced.json()["secrets_set"] == ["token"], "what a replacement does not name stays"
    assert shown.json()["secrets_set"] == []
    assert [item["name"] for item in listed.json()["items"]] == ["far"]
    assert (removed.status_code, gone.status_code) == (204, 404)
    assert not any(SECRET in answer.text for answer in (created, again, other, replaced, shown, listed))
    assert SECRET not in running.log_file.read_text()
    kinds = [type(f.event.data).__name__ for f in view.events("far") if f.verdict.applied and "Health" not in f.event.type]
    assert kinds == ["SchedulerRegistered", "SchedulerChanged", "SchedulerRemoved"]


async def test_secrets_lie_sealed_and_never_in_the_log(
    running: Service, admin_key: str, view: LogView, database: asyncpg.Pool[asyncpg.Record]
) -> None:
    await register(running, admin_key, body(password="pw-" + SECRET, private_key="key-" + SECRET))
    rows = await database.fetch("select * from schedulers.credentials")
    streams = await database.fetch("select state from schedulers.streams")
    records = [record.value for record in view.records()]

    assert rows[0]["fields"] == ["password", "private_key", "token"]
    assert SECRET.encode() not in rows[0]["sealed"]
    assert not any(SECRET.encode() in (raw or b"") for raw in [*records, *(row["state"] for row in streams)])


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"unknown": 1}, "$.unknown"),
        ({"name": "no/slash"}, "$.name"),
        ({"name": "health"}, "$.name"),
        ({"type": "slurm"}, "$.type"),
        ({"port": 70000}, "$.port"),
        ({"timeout_s": 0}, "$.timeout_s"),
        ({"transport": "ssh"}, "$.username"),
        ({"transport": "tcp"}, "$.transport"),
        ({"type": "dask", "transport": "ssh"}, "$.transport"),
        ({"type": "dask", "event_log": "/var/log/condor/EventLog"}, "$.event_log"),
        ({"event_log": "EventLog"}, "$.event_log"),
        ({"event_log": "/var/log/condor/Event\nLog"}, "$.event_log"),
        ({"heartbeat_interval_s": 2}, "$.heartbeat_interval_s"),
        ({"type": "dask", "heartbeat_interval_s": -1}, "$.heartbeat_interval_s"),
        ({"host": ""}, "$.host"),
        ({"token": 7}, "$.token"),
    ],
)
async def test_a_bad_body_is_refused_with_where(running: Service, admin_key: str, wrong: dict[str, Any], path: str) -> None:
    async with client(running, admin_key) as http:
        answer = await http.post("/schedulers", json=body(**wrong))
    assert answer.status_code == 400
    assert path in [error["path"] for error in answer.json()["errors"]]
    assert SECRET not in answer.text


async def test_who_may_what(running: Service, admin_key: str, environment: dict[str, str], database: asyncpg.Pool[asyncpg.Record]) -> None:
    await register(running, admin_key, body())
    ada = await make_key(environment, database, "ada", admin=False)
    async with client(running, ada) as http:
        listed = await http.get("/schedulers")
        denied = [
            await http.post("/schedulers", json=body()),
            await http.put("/schedulers/far", json=body()),
            await http.delete("/schedulers/far"),
            await http.post("/schedulers/far/check"),
            await http.get("/schedulers/metrics"),
            await http.get("/schedulers/dead-letters"),
        ]
    async with client(running, "jlk_nobody") as http:
        stranger = await http.get("/schedulers")
        open_doors = [await http.get(f"/schedulers/{path}") for path in ("health/live", "health/ready", "openapi.json")]

    [seen] = listed.json()["items"]
    assert seen.keys() <= {"name", "type", "health", "version"}
    assert {answer.status_code for answer in denied} == {403}
    assert stranger.status_code == 401
    assert {answer.status_code for answer in open_doors} == {200}


async def test_a_check_says_who_answers_or_why_nobody_does(running: Service, admin_key: str, pool: Stack) -> None:
    await register(running, admin_key, condor_body(pool))
    await register(running, admin_key, condor_body(pool, "expired") | {"token": "nonsense"})
    await register(running, admin_key, body())
    async with client(running, admin_key) as http:
        good, bad, far = [(await http.post(f"/schedulers/{name}/check")).json() for name in ("pool", "expired", "far")]
        missing = await http.post("/schedulers/nothing/check")

    assert (good["reachable"], good["identity"].partition("@")[0]) == (True, "jobledger")
    assert good["version"]
    assert good["latency_ms"] > 0
    assert not bad["reachable"]
    assert bad["detail"]
    assert not far["reachable"]
    assert far["detail"]
    assert missing.status_code == 404


async def test_a_scheduler_with_runs_is_removed_only_by_force_and_its_runs_end(
    running: Service, admin_key: str, pool: Stack, view: LogView
) -> None:
    await register(running, admin_key, condor_body(pool))
    job_id = await view.run("pool", condor=CondorSpec(executable="/bin/sleep", arguments=["300"]))
    await view.until(job_id, lambda job: bool(job.scheduler_job_ref))
    async with client(running, admin_key) as http:
        refused = await http.delete("/schedulers/pool")
        forced = await http.delete("/schedulers/pool", params={"force": "true"})
    job = await view.until(job_id, Status.ERROR, timeout_s=60)

    assert refused.status_code == 409
    assert "1 runs" in refused.json()["detail"]
    assert forced.status_code == 204
    assert "was removed" in job.status_message


async def test_a_run_on_a_scheduler_that_nobody_knows_ends_after_a_grace(
    service: Service, view: LogView, environment: dict[str, str]
) -> None:
    environment["JOBLEDGER_UNKNOWN_SCHEDULER_GRACE_S"] = "1"
    later = Service(service.folder, environment)
    later.start()
    try:
        job = await view.until(await view.run("nowhere", condor=CondorSpec(executable="/bin/true")), Status.ERROR)
    finally:
        later.end()
    assert "There is no scheduler named nowhere" in job.status_message


async def test_health_is_told(running: Service, admin_key: str, pool: Stack, view: LogView) -> None:
    await register(running, admin_key, condor_body(pool))
    await register(running, admin_key, body())
    await eventually_async(lambda: view.healths("pool") == ["up"] and view.healths("far") == ["down"], 30)
    async with client(running, admin_key) as http:

        async def shown() -> bool:
            seen = (await http.get("/schedulers/far")).json()
            return seen["health"] == "down" and bool(seen["health_detail"])

        await eventually_async(shown, 10)
        seen = (await http.get("/schedulers/pool")).json()
    assert seen["health"] == "up"
    assert seen["version"]


async def test_new_credentials_take_effect(running: Service, admin_key: str, pool: Stack, view: LogView) -> None:
    good = condor_body(pool)
    await register(running, admin_key, good | {"token": "nonsense"})
    job_id = await view.run("pool", condor=CondorSpec(executable="/bin/true"))
    await eventually_async(lambda: view.healths("pool") == ["down"], 30)
    async with client(running, admin_key) as http:
        assert (await http.put("/schedulers/pool", json=good)).status_code == 200
    job = await view.until(job_id, Status.COMPLETE, timeout_s=60)
    assert job.exit_code == 0


async def test_a_service_that_has_just_begun_stops_in_good_order(service: Service) -> None:
    service.start()
    assert service.stop() == 0
    assert "does not stop in time" not in service.log_file.read_text()
