"""Lists: what a page costs over the whole HTTP path, at 10k, 100k and 1M jobs, against the bare statement on the same rows."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx

from jobledger_jobs.store import JobsStore
from jobledger_kit.database import Connection

from .callbacks import prepare, server
from .figures import Ratio, Report, median, memory_of

REQUESTS = 300

FILL = """
INSERT INTO jobs (job_id, version, partition, log_offset, name, description, owner, groups, label, job_type, status, status_text,
    status_message, run, desired, scheduler, scheduler_job_ref, workspace, extended_properties, creation_time, execute_time,
    completion_time, deleted)
SELECT ('01990000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 6, n % 4, n, 'run ' || md5(n::text), '',
    CASE WHEN n % 10 = 0 THEN 'ada' ELSE 'user-' || n % 997 END, CASE WHEN n % 50 = 1 THEN '{ops}' ELSE '{}' END::text[], 'app-' || n % 3,
    CASE n % 4 WHEN 0 THEN 'BASIC' ELSE 'CONDOR' END, s.status, '', '', 1, 'run', '', '', '',
    json_build_object('scenario', json_build_object('id', n % 5003, 'dry', n % 2 = 0)), t.created,
    CASE WHEN s.status <> 'Pending' THEN t.created + interval '1 minute' END,
    CASE WHEN s.status IN ('Complete', 'Error') THEN t.created + (n * 7919 % 86400) * interval '1 second' END, false
FROM generate_series($1::bigint, $2::bigint) AS n,
    LATERAL (SELECT CASE WHEN n % 100 < 90 THEN 'Complete' WHEN n % 100 < 95 THEN 'Error' WHEN n % 100 < 98 THEN 'Running'
        ELSE 'Pending' END AS status) s,
    LATERAL (SELECT '2026-01-01Z'::timestamptz + n * interval '1 second' AS created) t
"""
"""Jobs from a number to another: a tenth are ada's, the others' owners have a thousandth each; one in fifty is shared with `ops`."""

BESIDE = (
    "INSERT INTO job_groups SELECT job_id, unnest(groups), creation_time FROM jobs",
    "INSERT INTO job_search SELECT job_id, label, owner, name, extended_properties::jsonb FROM jobs",
    "INSERT INTO job_counts SELECT 'owner', owner, label, status, partition, count(*) FROM jobs GROUP BY 2, 3, 4, 5",
    "INSERT INTO job_counts SELECT 'any', '', '', status, partition, count(*) FROM jobs GROUP BY 4, 5",
    "VACUUM ANALYZE jobs, job_groups, job_search, job_counts",
)

QUERIES: dict[str, tuple[dict[str, Any], str]] = {
    "the latest of an owner": (
        {"user": "ada", "label": "app-1"},
        "left(j.label, 256) = 'app-1' AND left(j.owner, 256) = 'ada' ORDER BY j.creation_time DESC",
    ),
    "with a rare status": (
        {"user": "ada", "label": "app-1", "status": "Pending"},
        "left(j.label, 256) = 'app-1' AND left(j.owner, 256) = 'ada' AND j.status = 'Pending' ORDER BY j.creation_time DESC",
    ),
    "who ended last": (
        {"user": "ada", "order_by": "-completion_time"},
        "left(j.owner, 256) = 'ada' AND j.completion_time IS NOT NULL ORDER BY j.completion_time DESC",
    ),
}
"""What is asked -> the query, and the heart of the bare statement for the same rows."""


async def fill(connection: Connection, jobs: int) -> None:
    """Put so many jobs into the rows of an empty read model, which `connection` means by unqualified names."""
    for first in range(1, jobs + 1, 100_000):
        await connection.execute(FILL, first, min(first + 99_999, jobs))
    for statement in BESIDE:
        await connection.execute(statement)


async def measure(
    report: Report, *, bootstrap_servers: str, database_url: str, sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
) -> None:
    """Append the ratios of each size: latencies one after another, service and bare statement in turns."""
    for size in sizes:
        url = await _database(database_url, f"bench_lists_{size}")
        with tempfile.TemporaryDirectory() as folder:
            environment = await prepare(Path(folder), bootstrap_servers, url)
            key = (Path(folder) / "admin.key").read_text().strip()
            store = await JobsStore.open(url)
            async with store.pool.acquire() as connection:
                await fill(connection, size)
                async with (
                    server(["-m", "jobledger_jobs", "api"], environment) as ours,
                    httpx.AsyncClient(base_url=f"http://127.0.0.1:{ours.port}", headers={"authorization": f"Bearer {key}"}) as client,
                ):
                    for name, (query, heart) in QUERIES.items():
                        took, bare = await _compare(client, connection, query, heart)
                        name = f"list of {size:,}, {name}"
                        report.ratios.append(
                            Ratio(name=name, ours=1 / took, theirs=1 / bare, theirs_name="bare SQL", unit="pages/s", aim=0.5)
                        )
                    report.memory.append(memory_of(f"jobs api over {size:,} jobs", ours.pid))
            await store.close()


async def _compare(client: httpx.AsyncClient, connection: Connection, query: dict[str, Any], heart: str) -> tuple[float, float]:
    """Medians of a request and of the bare statement, in seconds."""
    statement = f"SELECT j.* FROM jobs j WHERE NOT j.deleted AND {heart}, j.job_id DESC LIMIT 50"
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(REQUESTS):
        begun = time.perf_counter()
        response = await client.get("/jobs", params={**query, "limit": 50})
        ours.append(time.perf_counter() - begun)
        assert response.status_code == 200, response.text
        begun = time.perf_counter()
        rows = await connection.fetch(statement)
        bare.append(time.perf_counter() - begun)
        assert len(rows) == len(response.json()["items"])
    return median(ours), median(bare)


async def _database(url: str, name: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'create database "{name}"')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
