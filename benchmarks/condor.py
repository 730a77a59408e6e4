"""HTCondor by the whole way: an HTTP request, the log, the schedulers service, the queue; and back, from the machine to the row.

The time of a job's start and end is the job's own, which it writes to its standard output; that of a row is when its event comes out of
the stream of `/jobs/events`, which follows the commit.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import httpx
import msgspec

from jobledger_devstack import Stack

from .bare_bindings import Bare, Op, bare_bindings
from .figures import Ratio, Report, median

AT_ONCE = 16
SUBMITTED = 1000
SINGLE = 15
FOLLOWED = 24
AIM = 0.5
IN_QUEUE = "JobledgerRunId =!= undefined"
NEVER = {"executable": "/bin/true", "attributes": {"requirements": "false"}}
CLOCK = {"executable": "/bin/sh", "arguments": ["-c", "date +%s.%N; sleep 3; date +%s.%N"]}


async def measure(report: Report, stack: Stack) -> None:
    """Append the ratio of submission, and notes of how long a request and a change of status take."""
    endpoints = stack.endpoints()
    key = Path(endpoints.admin_key_file).read_text().strip()
    limits = httpx.Limits(max_connections=AT_ONCE + 2)
    with tempfile.TemporaryDirectory(prefix="jobledger-bench-") as folder:
        (Path(folder) / "input.txt").write_text("42\n" * 20)
        token = stack.mint_token("bench", 3600)
        async with (
            httpx.AsyncClient(base_url=endpoints.jobs_url, headers={"authorization": f"Bearer {key}"}, limits=limits, timeout=60) as api,
            bare_bindings(endpoints.collector, endpoints.schedd_name, token, Path(folder) / "tokens") as bare,
        ):
            await _latency(report, api)
            await _single(report, api, bare)
            await _bulk(report, api, bare, Path(folder) / "input.txt")


async def _bulk(report: Report, api: httpx.AsyncClient, bare: Bare, input_file: Path) -> None:
    """Once: it takes long enough to be a mean of its own."""
    jobs = await _each([_create(api, NEVER) for _ in range(SUBMITTED)])
    there = (await bare("query", constraint=IN_QUEUE, projection=["ClusterId"])).rows
    begun = time.perf_counter()
    await _each([_post(api, f"/jobs/{job['id']}/execute") for job in jobs])
    asked_s = time.perf_counter() - begun
    await _arrival(bare, IN_QUEUE, there + SUBMITTED, pause_s=0.05)
    took_s = time.perf_counter() - begun
    report.notes.append(f"submit: {SUBMITTED:,} execute requests answered in {asked_s:.1f} s, all in the queue after {took_s:.1f} s")
    ways: dict[Op, str] = {"bulk": "bindings, procs of one transaction", "one by one": "bindings, a cluster each"}
    for way, name in ways.items():
        answer = await bare(way, count=SUBMITTED, input_file=str(input_file))
        await bare("remove", constraint="Bench =?= true")
        rates = SUBMITTED / took_s, SUBMITTED / answer.seconds
        report.ratios.append(
            Ratio(name=f"submit {SUBMITTED:,} runs", ours=rates[0], theirs=rates[1], theirs_name=name, unit="runs/s", aim=AIM)
        )


async def _single(report: Report, api: httpx.AsyncClient, bare: Bare) -> None:
    times: list[float] = []
    for _ in range(SINGLE):
        job = await _create(api, NEVER)
        constraint = f'{IN_QUEUE} && JobledgerRunId == "{job["id"]}.1"'
        begun = time.perf_counter()
        await _post(api, f"/jobs/{job['id']}/execute")
        await _arrival(bare, constraint, 1, pause_s=0.005)
        times.append(1000 * (time.perf_counter() - begun))
        await _post(api, f"/jobs/{job['id']}/stop")
    report.notes.append(f"execute to HTCondor's queue: p50 {median(times):.0f} ms, longest of {SINGLE} {max(times):.0f} ms")


async def _arrival(bare: Bare, constraint: str, count: int, *, pause_s: float) -> None:
    """Wait until so many ads are in the queue."""
    while (await bare("query", constraint=constraint, projection=["ClusterId"])).rows < count:  # noqa: ASYNC110 - the schedd tells nobody
        await asyncio.sleep(pause_s)


async def _latency(report: Report, api: httpx.AsyncClient) -> None:
    seen: dict[tuple[str, str], float] = {}
    listening = asyncio.create_task(_listen(api, seen))
    jobs = []
    for _ in range(FOLLOWED):
        job = await _create(api, CLOCK)
        await _post(api, f"/jobs/{job['id']}/execute")
        jobs.append(job["id"])
        await asyncio.sleep(0.3)
    deadline = time.monotonic() + 240
    while not all((job, "Complete") in seen for job in jobs):
        if listening.done() or time.monotonic() > deadline:
            raise RuntimeError(f"not every job has ended: {len(seen)} changes were seen")
        await asyncio.sleep(0.2)
    listening.cancel()
    late: dict[str, list[float]] = {"Running": [], "Complete": []}
    for job in jobs:
        answer = await api.get(f"/jobs/{job}/files/run-1/stdout.txt")
        answer.raise_for_status()
        for (status, times), at in zip(late.items(), map(float, answer.text.split()), strict=True):
            if (job, status) in seen:
                times.append(seen[job, status] - at)
    for status, times in late.items():
        ordered = sorted(times)
        figures = f"p50 {median(ordered):.1f} s, p99 {ordered[len(ordered) * 99 // 100]:.1f} s" if ordered else "never seen"
        report.notes.append(f"added latency of {status}, HTCondor to row, {len(ordered)} of {FOLLOWED} jobs: {figures}")


async def _listen(api: httpx.AsyncClient, seen: dict[tuple[str, str], float]) -> None:
    async with api.stream("GET", "/jobs/events", timeout=None) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                event = msgspec.json.decode(line[5:])
                seen.setdefault((event["job_id"], event["status"]), time.time())


async def _create(api: httpx.AsyncClient, condor: dict[str, Any]) -> dict[str, Any]:
    body = {"name": "bench", "label": "bench", "job_type": "CONDOR", "scheduler": "local-condor", "condor": condor}
    return await _post(api, "/jobs", body)


async def _post(api: httpx.AsyncClient, path: str, body: Any = None) -> dict[str, Any]:
    answer = await api.post(path, json=body)
    answer.raise_for_status()
    return msgspec.json.decode(answer.content, type=dict[str, Any])


async def _each(calls: list[Awaitable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Await all, so many at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(call: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        async with places:
            return await call

    return await asyncio.gather(*(one(call) for call in calls))
