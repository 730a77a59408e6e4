"""Looking at a Dask scheduler over its own protocol, as `wire.py` speaks it: nothing that comes in is unpickled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from msgspec.structs import replace

from jobledger_schedulers.adapters.dask.session import check_versions
from jobledger_schedulers.adapters.dask.wire import Rpc
from jobledger_schedulers.adapters.port import Incompatible, Refused, SchedulerError, Unreachable
from jobledger_schedulers.adapters.views import MAX_ROWS, Finding, TaskLine, Tasks, Worker, Workers

CLOCKS_APART_S = 30.0
STATES = ("memory", "erred", "released", "processing", "waiting")


class DaskView:
    """One Dask scheduler. See `views.WorkersView`."""

    def __init__(self, rpc: Rpc) -> None:
        self._timeout_s, self._rpc = rpc.timeout_s, rpc

    async def workers(self, limit: int = MAX_ROWS) -> Workers:
        """Its workers, by name."""
        async with self._in_time():
            identity = await self._mapping("identity", n_workers=-1)
        known = identity.get("workers")
        workers = [_worker(str(address), about) for address, about in known.items() if isinstance(about, Mapping)] if known else []
        workers.sort(key=lambda worker: (worker.name, worker.address))
        return Workers(
            total=_int(identity.get("n_workers")),
            threads=_int(identity.get("total_threads")),
            memory_limit_bytes=_int(identity.get("total_memory")),
            items=workers[:limit],
            truncated=len(workers) > limit,
        )

    async def tasks(self, limit: int = MAX_ROWS) -> Tasks:
        """Its tasks, counted by name and state; the most busy names first."""
        async with self._in_time():
            prefixes = await self._mapping("get_task_prefix_states")
        lines = [
            TaskLine(prefix=str(prefix)[:200], **{state: _int(counts.get(state)) for state in STATES})
            for prefix, counts in prefixes.items()
            if isinstance(counts, Mapping)
        ]
        lines.sort(key=lambda line: (-(line.processing + line.waiting), -(line.memory + line.erred + line.released), line.prefix))
        return Tasks(items=lines[:limit], truncated=len(lines) > limit)

    async def examine(self) -> list[Finding]:
        """From the scheduler's answer to its workers' clocks; ends where the next step would make no sense."""
        found: list[Finding] = []
        steps = (
            ("answer", self._answers),
            ("version", self._compatible),
            ("queue", self._busy),
            ("workers", self._staffed),
            ("clock", self._in_step),
        )
        for name, step in steps:
            finding = await _taken(name, step)
            if finding is not None:
                found.append(finding)
                if not finding.ok and finding.step in ("answer", "version"):
                    break
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._rpc.close()

    # -- steps --------------------------------------------------------------------------------------------------------------------

    async def _answers(self) -> Finding:
        try:
            identity = await self._mapping("identity", n_workers=0)
        except SchedulerError as error:
            advice = (
                "See that a Dask scheduler (not a worker, not its dashboard) listens there, and that tcp:// or tls:// is as it is there."
            )
            return _finding("answer", str(error), ok=False, advice=advice)
        who = str(identity.get("id", ""))
        return _finding("answer", f"a Dask scheduler answers: {who}", identity=who)

    async def _compatible(self) -> Finding:
        try:
            version = await check_versions(self._rpc)
        except Incompatible as error:
            advice = "Install the same versions of Python, dask and distributed there: functions travel as bytecode."
            return _finding("version", str(error), ok=False, advice=advice)
        except SchedulerError as error:
            return _finding("version", str(error), ok=False, advice="Check again: it answered a moment ago.")
        return _finding("version", f"distributed {version} there and on its workers, compatible with ours", version=version)

    async def _busy(self) -> Finding:
        tasks = await self.tasks(10**9)
        counts = {state: sum(getattr(line, state) for line in tasks.items) for state in STATES}
        words = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"
        return _finding("queue", f"{sum(counts.values())} tasks: {words}" if words != "none" else "no tasks")

    async def _staffed(self) -> Finding:
        workers = await self.workers()
        if not workers.total:
            advice = "Tasks will wait. Start workers (`dask worker tcp://...`) or scale the cluster."
            return _finding("workers", "it has no workers", ok=False, advice=advice)
        who = f"{workers.total} workers" if workers.total != 1 else "1 worker"
        return _finding("workers", f"{who} with {workers.threads} threads in all")

    async def _in_step(self) -> Finding | None:
        """The scheduler does not tell its time, but when, by its clock, it last heard of a worker: the latest is moments ago."""
        heard = [worker.seen_time for worker in (await self.workers(10**9)).items if worker.seen_time is not None]
        if not heard:
            return None
        ahead_s = (max(heard) - datetime.now(UTC)).total_seconds()
        if abs(ahead_s) < CLOCKS_APART_S:
            return _finding("clock", "its clock agrees with ours, as far as its workers' heartbeats tell")
        words = f"it last heard of a worker {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'before'} our time"
        advice = "Either the clocks are apart (let both machines follow a time server), or its workers have fallen silent."
        return _finding("clock", words, ok=False, advice=advice)

    # -- the connection -----------------------------------------------------------------------------------------------------------

    async def _mapping(self, op: str, **arguments: Any) -> Mapping[Any, Any]:
        answer = await self._rpc.call(op, **arguments)
        if not isinstance(answer, dict):
            raise Refused(f"the Dask scheduler answered {op} with something else than was asked for")
        return answer

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            raise Unreachable(f"the Dask scheduler did not answer within {self._timeout_s:g} s") from error


async def _taken(name: str, step: Callable[[], Awaitable[Finding | None]]) -> Finding | None:
    """Take a step, and its time."""
    began = time.monotonic()
    try:
        finding = await step()
    except SchedulerError as error:
        finding = _finding(name, str(error), ok=False, advice="Check again: it answered a moment ago.")
    if finding is None:
        return None
    return replace(finding, time_ms=round((time.monotonic() - began) * 1000, 1))


def _finding(step: str, explanation: str, *, ok: bool = True, advice: str = "", identity: str = "", version: str = "") -> Finding:
    return Finding(step=step, ok=ok, time_ms=0.0, explanation=explanation, advice=advice, identity=identity, version=version)


def _worker(address: str, about: Mapping[Any, Any]) -> Worker:
    metrics = about.get("metrics")
    metrics = metrics if isinstance(metrics, Mapping) else {}
    counts = metrics.get("task_counts")
    counts = counts if isinstance(counts, Mapping) else {}
    spilled = metrics.get("spilled_bytes")
    resources = about.get("resources")
    return Worker(
        name=str(about.get("name") or address)[:200],
        address=address,
        status=str(about.get("status") or ""),
        threads=_int(about.get("nthreads")),
        cpu_percent=_float(metrics.get("cpu")),
        memory_bytes=_int(metrics.get("memory")),
        memory_limit_bytes=_int(about.get("memory_limit")),
        managed_bytes=_int(metrics.get("managed_bytes")),
        spilled_bytes=_int(spilled.get("disk")) if isinstance(spilled, Mapping) else 0,
        executing=_int(counts.get("executing")),
        tasks=sum(_int(count) for count in counts.values()),
        seen_time=_time(about.get("last_seen")),
        resources={str(name): _float(value) for name, value in resources.items()} if isinstance(resources, Mapping) else {},
    )


def _time(value: Any) -> datetime | None:
    seconds = _float(value)
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds < 1 << 34 else None


def _int(value: Any) -> int:
    return int(_float(value))


def _float(value: Any) -> float:
    """A number that came from there, whatever else may have come instead."""
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    return 0.0
