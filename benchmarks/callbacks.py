"""Durable status callbacks over HTTP: answered only when Kafka has them. Against a POST that does nothing, on the same kind of server.

Twice: the role `api` alone, as it runs where each role has its process, and all roles in one process, as on one small machine, where
the projector folds and stores each callback on the same core meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec

from jobledger_contracts.ids import derived_id
from jobledger_kit.credentials import RunClaims, sign_run_credential
from jobledger_kit.keyring import RUN_CREDENTIAL_KEY, KeyRing

from .figures import Ratio, Report, median, memory_of
from .http_load import Plan, Result

BODY = '{"status": "Running", "message": "calibrating", "progress": 0.5}'
JOBS = 16
"""Jobs that report, so that all partitions are written."""
ROLES = {"api": "api alone", "all": "all roles in one process"}


async def measure(
    report: Report, *, bootstrap_servers: str, database_url: str, connections: tuple[int, ...], seconds: float, rounds: int
) -> None:
    """Append a ratio for each role and number of connections."""
    with tempfile.TemporaryDirectory() as folder:
        environment = await prepare(Path(folder), bootstrap_servers, database_url)
        ring = KeyRing.load(Path(folder), RUN_CREDENTIAL_KEY)
        expiry = datetime.now(UTC) + timedelta(hours=1)
        for role, name in ROLES.items():
            async with (
                server(["-m", "benchmarks.noop_server"], environment) as noop,
                server(["-m", "jobledger_jobs", role], environment) as ours,
            ):
                for number in connections:
                    figures: dict[int, list[Result]] = {ours.port: [], noop.port: []}
                    for _ in range(rounds):
                        for port, results in figures.items():
                            claims = [RunClaims(job_id=derived_id("bench", str(n)), run=1, expires_at=expiry) for n in range(JOBS)]
                            plan = Plan(
                                host="127.0.0.1",
                                port=port,
                                paths=[f"/update-job-status/{c.job_id}/" for c in claims],
                                headers=[_headers(sign_run_credential(ring.current, c)) for c in claims],
                                body=BODY,
                                connections=number,
                                seconds=seconds,
                            )
                            results.append(await _load(plan))
                    _note(report, f"durable callbacks, {name}, {number} connections", figures[ours.port], figures[noop.port])
                report.memory.append(memory_of(f"jobs ({name})", ours.pid))


def _note(report: Report, name: str, ours: list[Result], noop: list[Result]) -> None:
    per_second = [median([r.per_second for r in results]) for results in (ours, noop)]
    report.ratios.append(Ratio(name=name, ours=per_second[0], theirs=per_second[1], theirs_name="no-op POST", unit="req/s", aim=0.5))
    times = " | ".join(
        f"{who} p50 {median([r.p50_ms for r in results]):.1f} ms, p99 {median([r.p99_ms for r in results]):.1f} ms"
        for who, results in (("ours", ours), ("no-op", noop))
    )
    report.notes.append(f"{name}: {times}")


def _headers(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "content-type": "application/json"}


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


async def prepare(folder: Path, bootstrap_servers: str, database_url: str) -> dict[str, str]:
    """Make the topics, the schemas and the keys."""
    for name in (RUN_CREDENTIAL_KEY, "sealing.key"):
        (folder / name).write_bytes(secrets.token_bytes(32))
        (folder / name).chmod(0o600)
    environment = {
        "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "JOBLEDGER_DATABASE_URL": database_url,
        "JOBLEDGER_SECRETS_DIR": str(folder),
        "JOBLEDGER_WORKSPACES_URL": (folder / "workspaces").as_uri(),
        "JOBLEDGER_LOG_LEVEL": "info",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jobledger_kit.init", "--admin-key-file", str(folder / "admin.key"),
        env={**os.environ, **environment}, stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    if await process.wait() != 0:
        raise RuntimeError(f"the initialisation ended with {process.returncode}")
    return environment


class Server(msgspec.Struct, frozen=True):
    """A server under load."""

    port: int
    pid: int


@asynccontextmanager
async def server(arguments: list[str], environment: Mapping[str, str]) -> AsyncIterator[Server]:
    """Run a server on a free port, which it writes into the file `port` of its data folder."""
    with tempfile.TemporaryDirectory() as folder:
        own = {"JOBLEDGER_HTTP_PORT": "0", "JOBLEDGER_DATA_DIR": folder, "JOBLEDGER_INSTANCE_ID": "bench"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env={**os.environ, **environment, **own}, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            yield Server(await _ready(Path(folder)), process.pid)
        finally:
            process.terminate()
            await process.wait()


async def _ready(folder: Path) -> int:
    """Wait until the server answers, and return its port."""
    async with httpx.AsyncClient() as client:
        for _ in range(1200):
            try:
                port = int((folder / "port").read_text())
                if (await client.get(f"http://127.0.0.1:{port}/jobs/health/ready")).status_code == 200:
                    return port
            except (FileNotFoundError, ValueError, httpx.TransportError):
                pass  # not yet
            await asyncio.sleep(0.05)
    raise TimeoutError("the server does not get ready")
