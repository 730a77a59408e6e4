"""The rows are made again beside the live ones, compared, swapped, and swapped back, while the service runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import asyncpg
import httpx
import pytest

from jobledger_contracts import topics
from jobledger_contracts.envelope import encode
from jobledger_jobs.store import JobsStore
from jobledger_kit.rebuild import LEDGER_TABLES
from tests.integration.jobs.conftest import Create, Ground
from tests.support.events import status
from tests.support.eventually import eventually
from tests.support.jobs_service import JobsService
from tests.support.rawkafka import produce_raw

pytestmark = pytest.mark.stack


def replay(service: JobsService, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobledger_jobs", "replay", *arguments]
    return subprocess.run(command, env=service.environment, capture_output=True, text=True, timeout=120, check=False)


def tables(said: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert said.stdout, said.stderr
    return {table["table"]: table for table in json.loads(said.stdout)["tables"]}


def execute(ground: Ground, statement: str, *arguments: Any) -> list[Any]:
    async def run() -> list[Any]:
        connection = await asyncpg.connect(ground.database_url)
        try:
            return [tuple(row) for row in await connection.fetch(statement, *arguments)]
        finally:
            await connection.close()

    return asyncio.run(run())


def a_life(ada: httpx.Client, create: Create) -> str:
    """A job that was executed, reported of, and repeated a report; its id."""
    job_id = str(create(extended_properties={"b": 1, "a": {"ü": 1.5e300}})["id"])
    assert ada.post(f"/jobs/{job_id}/execute").status_code == 200
    for said in ("Running", "Running", "halfway", "Complete", "Running"):
        assert ada.post(f"/update-job-status/{job_id}/", json={"status": said}).status_code == 200
    return job_id


def shown(ada: httpx.Client, job_id: str) -> tuple[str, list[str]]:
    history = ada.get(f"/jobs/{job_id}/history").json()["items"]
    return ada.get(f"/jobs/{job_id}").json()["status"], [entry["verdict"] for entry in history]


def test_every_table_is_either_made_from_the_log_or_kept(ground: Ground, service: JobsService) -> None:
    ledger = {*LEDGER_TABLES, "checkpoints", "effects", "migrations"}
    found = {name for (name,) in execute(ground, "select tablename::text from pg_tables where schemaname = 'jobs'")}
    assert found == ledger | {*JobsStore.projected, *JobsStore.kept}


def test_rows_that_are_what_the_log_says_are_the_same(ground: Ground, service: JobsService, ada: httpx.Client, create: Create) -> None:
    jobs = [a_life(ada, create) for _ in range(5)]
    key, value, headers = encode(status(jobs[0], "Running"))
    produced = [(key, b"{nonsense", headers), (key, value, headers)]
    partition = int(ada.get(f"/jobs/{jobs[0]}").json()["position"].split(":")[0])
    asyncio.run(produce_raw(ground.bootstrap_servers, ground.topic_prefix + topics.JOBS, partition, produced))
    eventually(lambda: execute(ground, "select count(*) from jobs.dead_letters") == [(2,)], timeout_s=30)

    said = replay(service, "--json", "--processes", "2")

    assert said.returncode == 0, said.stderr
    found = tables(said)
    assert (found["jobs"]["rows"], found["history"]["rows"], found["dead_letters"]["rows"]) == (5, 5 * 7, 2)
    assert all((t["changed"], t["missing"], t["extra"]) == (0, 0, 0) for t in found.values())
    assert not json.loads(said.stdout)["swapped"]


def test_what_was_changed_behind_the_services_back_is_named_repaired_and_can_be_had_back(
    ground: Ground, service: JobsService, ada: httpx.Client, create: Create
) -> None:
    job_id, gone = a_life(ada, create), a_life(ada, create)
    before = shown(ada, job_id)
    execute(ground, "update jobs.jobs set status = 'Error' where job_id = $1::text::uuid", job_id)
    execute(ground, "delete from jobs.history where job_id = $1::text::uuid and version = 3", gone)

    found = tables(said := replay(service, "--json", "--swap"))
    assert said.returncode == 1
    assert [(d["kind"], d["key"]) for d in found["jobs"]["examples"]] == [("changed", job_id)]
    assert (found["history"]["missing"], found["history"]["extra"], found["history"]["changed"]) == (1, 0, 0)
    assert shown(ada, job_id)[0] == "Error", "rows that differ are not swapped unless one says so"

    assert replay(service, "--swap-anyway").returncode == 0
    assert shown(ada, job_id) == before
    assert len(shown(ada, gone)[1]) == 7
    with service.client("ada") as client:  # its projector is fenced at the next event, and the process ends; something starts it again
        client.post(f"/jobs/{job_id}/resubmit")
    assert service.wait(timeout_s=30) == 70
    service.start()
    with service.client("ada") as client:
        assert client.get(f"/jobs/{job_id}").json()["run"] == 2
        assert replay(service, "--json").returncode == 0

        assert replay(service, "--roll-back").returncode == 0
        assert client.get(f"/jobs/{job_id}").json()["status"] == "Error"
        again = replay(service, "--roll-back")
    assert (again.returncode, again.stdout) == (70, "")
    assert "no rows from before a swap" in again.stderr
    service.kill()
    service.start()
    with service.client("ada") as client:  # what came since the swap is folded again, on the rows that were put back
        eventually(lambda: client.get(f"/jobs/{job_id}").json()["run"] == 2, timeout_s=30)


def test_a_log_whose_head_was_cut_is_refused(ground: Ground, service: JobsService) -> None:
    with service.client("ada") as client:
        created = client.post("/jobs", json={"name": "n", "label": "l", "job_type": "BASIC"}).json()
    partition = int(created["position"].split(":")[0])
    asyncio.run(cut_head(ground, partition))

    said = replay(service)

    assert said.returncode == 70
    assert f"{topics.JOBS}-{partition}" in said.stderr


async def cut_head(ground: Ground, partition: int) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
    from aiokafka.structs import TopicPartition

    admin = AIOKafkaAdminClient(bootstrap_servers=ground.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(ground.topic_prefix + topics.JOBS, partition): RecordsToDelete(before_offset=1)})
    finally:
        await admin.close()
