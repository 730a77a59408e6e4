"""Durable status callbacks over HTTP: answered only when Kafka has them. Against a POST that does nothing, on the same server."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec

from jobledger import BasicJob

from .figures import Ratio, Report, median
from .http_load import Plan, Result

BODY = '{"status": "Running", "message": "calibrating", "progress": 0.5}'


async def measure(report: Report, job: BasicJob, *, connections: tuple[int, ...], seconds: float, rounds: int) -> None:
    """Append the ratio at each number of connections."""
    credential = await asyncio.to_thread(job.callback_credential)
    address = urlsplit(credential.callback_url)
    headers = {"authorization": f"Bearer {credential.token}", "content-type": "application/json"}
    async with _noop_server() as port:
        for number in connections:
            ours: list[Result] = []
            noop: list[Result] = []
            for _ in range(rounds):
                for results, host, to_port in ((ours, address.hostname or "", address.port or 80), (noop, "127.0.0.1", port)):
                    plan = Plan(host=host, port=to_port, path=address.path, headers=headers, body=BODY, connections=number, seconds=seconds)
                    results.append(await _load(plan))
            report.ratios.append(
                Ratio(
                    name=f"durable callbacks, {number} connections",
                    ours=median([r.per_second for r in ours]),
                    theirs=median([r.per_second for r in noop]),
                    theirs_name="no-op POST",
                    unit="req/s",
                    aim=0.5,
                )
            )
            report.notes.append(
                f"callbacks at {number}: p50 {median([r.p50_ms for r in ours]):.1f} ms, p99 {median([r.p99_ms for r in ours]):.1f} ms; "
                f"no-op: p50 {median([r.p50_ms for r in noop]):.1f} ms, p99 {median([r.p99_ms for r in noop]):.1f} ms"
            )


async def _load(plan: Plan) -> Result:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.http_load", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(msgspec.json.encode(plan))
    if process.returncode != 0:
        raise RuntimeError(f"the load ended with {process.returncode}")
    result = msgspec.json.decode(out, type=Result)
    if set(result.statuses) != {200}:
        raise RuntimeError(f"not every answer was a success: {result.statuses}")
    return result


@asynccontextmanager
async def _noop_server() -> AsyncIterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.noop_server", str(port))
    try:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            break
        yield port
    finally:
        process.terminate()
        await process.wait()
