"""Looking at an HTCondor pool through its bindings: for people, and for finding out what is wrong. Changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from jobledger_schedulers.adapters.htcondor import findings, pool_worker
from jobledger_schedulers.adapters.htcondor.client import Bindings
from jobledger_schedulers.adapters.htcondor.parse import version_of
from jobledger_schedulers.adapters.port import AdapterSettings, SchedulerError, Unreachable
from jobledger_schedulers.adapters.views import (
    MAX_ROWS,
    VIEW_TIMEOUT_S,
    AccessLevel,
    Ads,
    BadQuery,
    Daemon,
    Finding,
    Priorities,
    Priority,
    Queue,
    QueueLine,
    Slot,
    SlotGroup,
    Slots,
)

Row = Mapping[str, Any]


class HTCondorPoolView:
    """One pool, seen with one identity. See `views.PoolView`."""

    def __init__(self, settings: AdapterSettings, timeout_s: float = VIEW_TIMEOUT_S) -> None:
        self._settings = replace(settings, timeout_s=min(settings.timeout_s, timeout_s))
        self._bindings = Bindings(self._settings, pool_worker.__file__)
        self._timeout_s = timeout_s
        self._prepared = False

    async def daemons(self) -> list[Daemon]:
        """Those that the collector knows."""
        rows, _ = await self._ask("daemons", limit=MAX_ROWS)
        return sorted((_daemon(row) for row in rows), key=lambda daemon: (daemon.type, daemon.name))

    async def slots(self, limit: int = MAX_ROWS) -> Slots:
        """Count the slots by state, and name the first `limit`."""
        rows, done = await self._ask("slots", limit=_bounded(limit))
        groups = [SlotGroup(**group) for group in done["groups"]]
        return Slots(total=done["total"], groups=groups, items=[_slot(row) for row in rows], truncated=done["truncated"])

    async def queue(self, limit: int = MAX_ROWS) -> Queue:
        """Count the jobs by user and status."""
        rows, done = await self._ask("queue", limit=_bounded(limit))
        return Queue(total=done["total"], users=[QueueLine(**row) for row in rows], truncated=done["truncated"])

    async def query(self, constraint: str, projection: Sequence[str], limit: int) -> Ads:
        """Job ads of the queue. Raises `BadQuery` too."""
        return await self._ads("jobs", constraint, projection, limit)

    async def history(self, constraint: str, projection: Sequence[str], limit: int) -> Ads:
        """Job ads of the history, latest first. Raises `BadQuery` too."""
        return await self._ads("past", constraint, projection, limit)

    async def priorities(self, limit: int = MAX_ROWS) -> Priorities:
        """Users' priorities, the best first."""
        rows, done = await self._ask("priorities", limit=_bounded(limit))
        return Priorities(items=[_priority(row) for row in rows], truncated=done["truncated"])

    async def access_levels(self) -> list[AccessLevel]:
        """Who we are to each daemon; one that does not answer in time is told as such."""
        rows: list[dict[str, Any]] = []
        try:
            await self._call("access_levels", rows.extend)
        except SchedulerError as error:
            if not rows:
                raise
            rows.append({"daemon": "", "name": "", "level": "READ", "allowed": False, "error": f"the others were not asked: {error}"})
        names = AccessLevel.__struct_fields__
        return [AccessLevel(**{name: value for name, value in row.items() if name in names}) for row in rows]

    async def examine(self) -> list[Finding]:
        """From the collector's answer to the clock; ends where the next step would make no sense."""
        rows: list[dict[str, Any]] = []
        failure: SchedulerError | None = None
        try:
            await self._call("examine", rows.extend)
        except SchedulerError as error:
            failure = error
        return findings.of(rows, failure, self._settings.token, datetime.now(UTC))

    async def close(self) -> None:
        """End the child process."""
        await self._bindings.close()

    async def _ads(self, op: str, constraint: str, projection: Sequence[str], limit: int) -> Ads:
        rows, done = await self._ask(op, constraint=constraint, projection=list(projection), limit=_bounded(limit))
        if "bad" in done:
            raise BadQuery(done["bad"], done["text"])
        return Ads(items=rows, truncated=done["truncated"])

    async def _ask(self, op: str, **arguments: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        return rows, await self._call(op, rows.extend, **arguments)

    async def _call(self, op: str, on_items: Callable[[list[Any]], None], **arguments: Any) -> dict[str, Any]:
        async with self._in_time():
            if not self._prepared:
                await asyncio.to_thread(self._bindings.prepare)
                self._prepared = True
            return await self._bindings.look(op, on_items, **arguments)

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """One bound for the turn, the start of the child and the answer; a child that is cut off is ended."""
        try:
            async with asyncio.timeout(self._timeout_s + 1.0):
                yield
        except TimeoutError as error:
            raise Unreachable(f"the pool did not answer within {self._timeout_s:g} s") from error


def _bounded(limit: int) -> int:
    return max(1, min(limit, MAX_ROWS))


def _daemon(row: Row) -> Daemon:
    return Daemon(
        type=row.get("MyType") or "",
        name=row.get("Name") or "",
        machine=row.get("Machine") or "",
        version=version_of(row.get("CondorVersion") or ""),
        started_time=_time(row.get("DaemonStartTime")),
        heard_time=_time(row.get("LastHeardFrom")),
    )


def _slot(row: Row) -> Slot:
    return Slot(
        name=row.get("Name") or "",
        state=row.get("State") or "",
        activity=row.get("Activity") or "",
        type=row.get("SlotType") or "",
        cpus=_int(row.get("Cpus")),
        memory_mb=_int(row.get("Memory")),
        disk_kb=_int(row.get("Disk")),
        gpus=_int(row.get("GPUs")),
        os=row.get("OpSys") or "",
        arch=row.get("Arch") or "",
        remote_owner=row.get("RemoteOwner") or "",
    )


def _priority(row: Row) -> Priority:
    return Priority(
        name=row.get("Name") or "",
        effective_priority=_float(row.get("Priority")),
        factor=_float(row.get("PriorityFactor")),
        slots_in_use=_float(row.get("WeightedResourcesUsed")),
        usage_h=round(_float(row.get("WeightedAccumulatedUsage")) / 3600, 3),
        is_group=row.get("IsAccountingGroup") is True,
        last_usage_time=_time(row.get("LastUsageTime")),
    )


def _time(value: Any) -> datetime | None:
    """Seconds since 1970, as HTCondor has them; 0 is never."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 34:
        return None
    return datetime.fromtimestamp(value, UTC)


def _int(value: Any) -> int:
    return int(_float(value))


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
