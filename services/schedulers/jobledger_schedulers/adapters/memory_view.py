"""Looking at a scheduler in memory as at a pool of HTCondor's. For tests; held to the same contract suite as the real views.

Its runs are shown as job ads, and constraints are HTCondor's own, evaluated by the ClassAd library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import classad2

from jobledger_contracts.statuses import FINISHED, Status
from jobledger_schedulers.adapters.memory import MemoryRun, MemoryScheduler
from jobledger_schedulers.adapters.views import (
    MAX_ROWS,
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

OWNER = "memory"
_CODES: Mapping[Status, int] = {Status.RUNNING: 2, Status.ABORTED: 3, Status.PAUSED: 5}
_WORDS: Mapping[int, str] = {1: "idle", 2: "running", 4: "completed", 5: "held"}


class MemoryPoolView:
    """See `views.PoolView`."""

    def __init__(self, scheduler: MemoryScheduler) -> None:
        self.scheduler = scheduler
        self.closed = False

    async def daemons(self) -> list[Daemon]:
        """One that is everything."""
        self.scheduler.begin("daemons")
        return [Daemon(type="Scheduler", name="memory", version="1.0")]

    async def slots(self, limit: int = MAX_ROWS) -> Slots:
        """One slot for each machine; those with a running run are claimed."""
        self.scheduler.begin("slots")
        running = min(sum(_code(run) == 2 for run in self.scheduler.runs.values()), self.scheduler.machines)
        states = [("Claimed", "Busy")] * running + [("Unclaimed", "Idle")] * (self.scheduler.machines - running)
        items = [Slot(name=f"slot{n}@memory", state=state, activity=act, cpus=1) for n, (state, act) in enumerate(states, start=1)]
        groups = [
            SlotGroup(state=state, activity=act, slots=states.count((state, act)), cpus=states.count((state, act)), memory_mb=0)
            for state, act in sorted(set(states))
        ]
        return Slots(total=len(items), groups=groups, items=items[:limit], truncated=len(items) > limit)

    async def queue(self, limit: int = MAX_ROWS) -> Queue:
        """All of them belong to one user."""
        self.scheduler.begin("queue")
        words = [_WORDS.get(_code(run), "other") for run in self._queued()]
        lines = [QueueLine(user=OWNER, total=len(words), **{word: words.count(word) for word in set(words)})] if words else []
        return Queue(total=len(words), users=lines, truncated=False)

    async def query(self, constraint: str, projection: Sequence[str], limit: int) -> Ads:
        """Runs in the queue."""
        self.scheduler.begin("query")
        return _asked(self._queued(), constraint, projection, limit)

    async def history(self, constraint: str, projection: Sequence[str], limit: int) -> Ads:
        """Runs that have left the queue, the latest first."""
        self.scheduler.begin("history")
        return _asked([run for run in reversed(self.scheduler.runs.values()) if not run.in_queue], constraint, projection, limit)

    async def priorities(self, limit: int = MAX_ROWS) -> Priorities:
        """The one user's."""
        self.scheduler.begin("priorities")
        one = Priority(name=OWNER, effective_priority=500.0, factor=1000.0, slots_in_use=0.0, usage_h=0.0)
        return Priorities(items=[one], truncated=False)

    async def access_levels(self) -> list[AccessLevel]:
        """Everything is allowed."""
        self.scheduler.begin("access_levels")
        return [AccessLevel(daemon="Schedd", name="memory", level=level, allowed=True, identity=OWNER) for level in ("READ", "WRITE")]

    async def examine(self) -> list[Finding]:
        """It answers, and has machines or not."""
        self.scheduler.begin("examine")
        machines = self.scheduler.machines
        return [
            Finding(step="answer", ok=True, time_ms=0.0, explanation="it answers", version="1.0", identity=OWNER),
            Finding(step="slots", ok=machines > 0, time_ms=0.0, explanation=f"{machines} machines"),
        ]

    async def close(self) -> None:
        """Take no more questions seriously."""
        self.closed = True

    def _queued(self) -> list[MemoryRun]:
        return [run for run in self.scheduler.runs.values() if run.in_queue]


def _code(run: MemoryRun) -> int:
    return _CODES.get(run.status, 4 if run.status in FINISHED else 1)


def _asked(runs: Sequence[MemoryRun], constraint: str, projection: Sequence[str], limit: int) -> Ads:
    try:
        classad2.ExprTree(f"({constraint.strip() or 'true'})")  # as pool_worker does
        wanted = classad2.ExprTree(constraint.strip() or "true")
    except classad2.ClassAdException as error:
        raise BadQuery("constraint", f"it is no ClassAd expression: {constraint[:200]}") from error
    for name in projection:
        if not (name.isascii() and name.isidentifier()):
            raise BadQuery("projection", f"{name[:80]!r} is no name of a ClassAd attribute")
    ads = [ad for ad in map(_ad, runs) if wanted.eval(classad2.ClassAd(ad)) is True]
    shown = [{name: ad.get(name) for name in projection} if projection else ad for ad in ads[:limit]]
    return Ads(items=shown, truncated=len(ads) > limit)


def _ad(run: MemoryRun) -> dict[str, Any]:
    return {"ClusterId": int(run.ref), "ProcId": 0, "Owner": OWNER, "JobStatus": _code(run), "JobledgerRunId": run.spec.run_id}
