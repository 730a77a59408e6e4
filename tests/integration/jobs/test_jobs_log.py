"""The service and the log: what others publish, what cannot be read, and kill -9 in the middle of a load."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from jobledger_contracts import scheduler_events as s
from jobledger_contracts import topics
from jobledger_contracts.envelope import Event, encode
from jobledger_contracts.ids import derived_id
from jobledger_jobs.projection import HistoryRow, JobRow, SchedulerRow, Share, project, project_schedulers
from jobledger_kit.bus import KafkaBus
from jobledger_kit.folds import fold_log
from tests.integration.jobs.conftest import PARTITIONS, Create, Ground
from tests.support.events import created, event, status
from tests.support.eventually import eventually, eventually_async
from tests.support.jobs_service import JobsService
from tests.support.rawkafka import produce_raw, read_log

pytestmark = pytest.mark.stack


def publish(ground: Ground, *events: Any) -> list[str]:
    """As another service would: straight to Kafka."""
    return asyncio.run(_publish(ground, events))


async def _publish(ground: Ground, events: Sequence[Event]) -> list[str]:
    bus = KafkaBus(ground.bootstrap_servers, "somebody-else", topic_prefix=ground.topic_prefix)
    await bus.start()
    try:
        return [str(position) for position in await bus.publish(*events)]
    finally:
        await bus.stop()


def test_what_others_publish_is_folded_and_shown(ground: Ground, ada: httpx.Client) -> None:
    job_id = derived_id("others", secrets.token_hex(8))
    positions = publish(ground, created(job_id), status(job_id, "Running"))

    job = ada.get(f"/jobs/{job_id}", params={"after": positions[-1]}).json()

    assert (job["user"], job["status"], job["position"]) == ("ada", "Running", positions[-1])


def test_known_schedulers_follow_their_topic(ground: Ground, ada: httpx.Client) -> None:
    publish(
        ground,
        event(s.SchedulerRegistered(name="pool", type="condor", host="h"), source="/jobledger/schedulers"),
        event(s.SchedulerRegistered(name="dask1", type="dask", host="tcp://h:1"), source="/jobledger/schedulers"),
    )
    body = {"name": "n", "label": "l", "job_type": "CONDOR", "scheduler": "pool", "condor": {"executable": "run.sh"}}

    created_ = eventually(lambda: r if (r := ada.post("/jobs", json=body)).status_code == 201 else None, timeout_s=20)
    assert created_ is not None
    wrong = ada.post("/jobs", json=body | {"scheduler": "dask1"})

    path = f"/jobs/{created_.json()['id']}"
    assert created_.json()["condor"] == {"executable": "run.sh"}
    assert wrong.status_code == 422
    assert "of type condor there are: pool" in wrong.json()["errors"][0]["message"]
    assert ada.patch(path, json={"scheduler": "dask1"}).status_code == 422
    assert ada.patch(path, json={"condor": {"executable": "b.sh"}}).json()["condor"] == {"executable": "b.sh"}
    stopped = ada.post(f"{path}/execute").json()
    assert (stopped["status"], stopped["desired"]) == ("Submitted", "run")
    assert ada.patch(path, json={"condor": {"executable": "c.sh"}}).json()["reason"] == "already_started"
    publish(ground, event(s.SchedulerRemoved(name="pool"), source="/jobledger/schedulers"))
    eventually(lambda: ada.post("/jobs", json=body).status_code == 422, timeout_s=20)


def test_bad_event_parks_its_own_job_and_nobody_else(ground: Ground, ada: httpx.Client, admin: httpx.Client, create: Create) -> None:
    victim = create()
    partition = int(victim["position"].split(":")[0])
    neighbour = next(job for job in iter(create, None) if int(job["position"].split(":")[0]) == partition)
    key, value, headers = encode(status(victim["id"], "Running"))
    bad_json, good = b"{nonsense", (key, value, headers)
    topic = ground.topic_prefix + topics.JOBS
    records = [(key, bad_json, headers), good, (b"no job id", value, headers), (key, value, [("\udcff", b"1"), *headers])]
    asyncio.run(produce_raw(ground.bootstrap_servers, topic, partition, records))
    position = ada.post(f"/update-job-status/{neighbour['id']}/", json={"status": "Running"}).json()["position"]

    assert ada.get(f"/jobs/{neighbour['id']}", params={"after": position}).json()["status"] == "Running"
    assert ada.get(f"/jobs/{victim['id']}").json()["status"] == "Pending"
    letters = admin.get("/jobs/dead-letters").json()["items"]
    assert Counter(letter["reason"] for letter in letters) == {"bad_json": 1, "parked": 1, "bad_key": 1, "not_utf8": 1}
    first = next(letter for letter in letters if letter["reason"] == "bad_json")
    whole = admin.get(f"/jobs/dead-letters/{first['topic']}/{first['position']}").json()
    assert (whole["key"], whole["value"]) == (victim["id"], "{nonsense")
    assert [letter["reason"] for letter in admin.get("/jobs/dead-letters", params={"reason": "parked"}).json()["items"]] == ["parked"]
    page = admin.get("/jobs/dead-letters", params={"limit": 3}).json()
    rest = admin.get("/jobs/dead-letters", params={"limit": 3, "cursor": page["next_cursor"]}).json()
    assert (page["items"] + rest["items"], rest["next_cursor"]) == (letters, None)
    parked = ada.post(f"/jobs/{victim['id']}/execute")
    assert parked.status_code == 409
    assert "dead letters" in parked.json()["detail"]


async def rows_of(database_url: str) -> dict[str, list[Any]]:
    """The read model as it stands, in an order of its own."""
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "jobs", "timezone": "UTC"})
    try:
        jobs = await connection.fetch(
            "select *, job_id::text as job_id, array_to_json(groups)::text as groups from jobs order by job_id::text"
        )
        return {
            "jobs": [dict(row) for row in jobs],
            "history": [
                dict(row) for row in await connection.fetch("select *, job_id::text as job_id from history order by partition, log_offset")
            ],
            "shares": [
                dict(row)
                for row in await connection.fetch("select *, job_id::text as job_id from job_groups order by job_id::text, group_name")
            ],
            "schedulers": [dict(row) for row in await connection.fetch("select * from schedulers order by name")],
        }
    finally:
        await connection.close()


async def expected_rows(ground: Ground) -> dict[str, list[Any]]:
    """The read model as a plain fold of the whole log has it."""
    records = []
    for topic in (topics.JOBS, topics.SCHEDULERS):
        records += (await read_log(ground.bootstrap_servers, topic, prefix=ground.topic_prefix))[0]
    batch = fold_log(records, dict.fromkeys(topics.ALL, PARTITIONS))
    changes = project([f for f in batch.folded if f.record.topic == topics.JOBS])
    schedulers = project_schedulers(f for f in batch.folded if f.record.topic == topics.SCHEDULERS)
    history = sorted(changes.history, key=lambda row: (row.partition, row.log_offset))
    tables: dict[str, Sequence[msgspec.Struct]] = {
        "jobs": changes.jobs,
        "history": history,
        "shares": sorted(changes.shares),
        "schedulers": schedulers,
    }
    return {name: [msgspec.structs.asdict(row) for row in rows] for name, rows in tables.items()}


def same(found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> None:
    columns = {"jobs": JobRow, "history": HistoryRow, "shares": Share, "schedulers": SchedulerRow}
    for table, struct in columns.items():
        assert len(found[table]) == len(expected[table]), table
        for row, wanted in zip(found[table], expected[table], strict=True):
            assert {name: row[name] for name in struct.__struct_fields__} == wanted, table


def test_rows_are_what_a_fold_of_the_log_says(ground: Ground, service: JobsService, create: Create) -> None:
    job = create(extended_properties={"b": 1, "a": {"ü": 1.5e300}}, groups=["x", "ops"])
    with service.client("ada") as client:
        assert client.post(f"/jobs/{job['id']}/execute").status_code == 200

    same(asyncio.run(rows_of(ground.database_url)), asyncio.run(expected_rows(ground)))


@pytest.mark.anyio
async def test_kill_in_the_middle_of_a_load_leaves_rows_that_equal_the_log(ground: Ground, service: JobsService) -> None:
    """Three times: writers at work, kill -9, start again. No acknowledged report is lost, none is folded twice."""
    acknowledged: list[str] = []
    jobs: list[str] = []
    for _ in range(3):
        async with service.async_client("ada") as client:
            bodies = [{"name": f"n{n}", "label": "killed", "job_type": "BASIC", "groups": ["ops"]} for n in range(10)]
            jobs += [(await client.post("/jobs", json=body)).json()["id"] for body in bodies]
            writers = [asyncio.create_task(write(client, jobs, seed, acknowledged)) for seed in range(8)]
            enough = len(acknowledged) + 600
            await eventually_async(lambda: len(acknowledged) >= enough, timeout_s=120, interval_s=0.01)  # noqa: B023 - called at once
            service.kill()
            await asyncio.gather(*writers)
        service.start()

    expected = await expected_rows(ground)
    ends = {row["partition"]: row["log_offset"] for row in expected["history"]}
    async with service.async_client("admin") as client, asyncio.timeout(60):
        for partition, offset in ends.items():
            while (await client.get("/jobs", params={"after": f"{partition}:{offset}"})).status_code == 503:
                pass  # it has waited for some seconds
    found = await rows_of(ground.database_url)
    same(found, expected)
    positions = Counter(f"{row['partition']}:{row['log_offset']}" for row in found["history"])
    assert set(acknowledged) <= positions.keys()
    assert max(positions.values()) == 1


async def write(client: httpx.AsyncClient, jobs: list[str], seed: int, acknowledged: list[str]) -> None:
    """Report until the service is gone."""
    n = 0
    while True:
        n += 1
        job_id = jobs[(seed * 7 + n) % len(jobs)]
        try:
            response = await client.post(f"/update-job-status/{job_id}/", json={"status": f"step {seed} {n}", "progress": 0.5})
        except httpx.TransportError:
            return
        if response.status_code == 200:
            acknowledged.append(response.json()["position"])
