"""Events and records for tests: lives of jobs, and what is no event at all."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from jobledger_contracts import job_events as e
from jobledger_contracts import topics
from jobledger_contracts.envelope import Event, Record, encode, new_event
from jobledger_contracts.ids import derived_id, new_job_id, partition_for

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def job_id(seed: int | None = None) -> str:
    """A new job id; the same one for the same seed."""
    rng = random.Random(seed) if seed is not None else random
    return new_job_id(rng.getrandbits(40), rng.randbytes(10))


def event(data: Any, *, id: str = "", source: str = "/jobledger/jobs", at_s: float = 0.0, **more: Any) -> Event:
    """An event about `data`, that many seconds after `BEGIN`."""
    return new_event(data, id=id or f"e{next(_numbers)}", source=source, time=BEGIN + timedelta(seconds=at_s), **more)


def created(job: str, **more: Any) -> Event:
    return event(e.JobCreated(job_id=job, name="Flood", user="ada", label="hydro", job_type="BASIC"), **more)


def status(job: str, text: str, **more: Any) -> Event:
    return event(e.StatusChanged(job_id=job, status=text), source="/jobledger/jobs/callback", **more)


def life(job: str, steps: int = 10, seed: int = 0) -> list[Event]:
    """A job's whole life: created, executed, reports with progress, the end."""
    rng = random.Random(f"{job} {seed}")
    events = [created(job, id=f"{job}-created"), event(e.ExecuteRequested(job_id=job), id=f"{job}-execute", at_s=1)]
    for step in range(steps - 3):
        data = e.StatusChanged(job_id=job, status="Running", run=1, progress=round(rng.random(), 3))
        events.append(event(data, id=f"{job}-{step}", source="/jobledger/schedulers/pool", at_s=2 + step))
    events.append(status(job, "Complete", id=f"{job}-end", at_s=2 + steps))
    return events


def lives(jobs: int, steps: int = 10, seed: int = 0) -> list[Event]:
    """Many lives, shuffled into one another; each keeps its own order."""
    rng = random.Random(seed)
    queues = [life(derived_job_id(seed, n), steps, seed) for n in range(jobs)]
    mixed = []
    while queues:
        queue = rng.choice(queues)
        mixed.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
    return mixed


def derived_job_id(*parts: object) -> str:
    return derived_id("test", *(str(part) for part in parts))


def records_of(events: Sequence[Event], partitions: int = 4, topic: str = topics.JOBS) -> list[Record]:
    """The events as they would stand in a log that held nothing before."""
    following: dict[int, int] = {}
    records = []
    for one in events:
        key, value, headers = encode(one)
        partition = partition_for(key, partitions)
        offset = following.get(partition, 0)
        following[partition] = offset + 1
        records.append(Record(topic, partition, offset, int(one.time.timestamp() * 1000), key, value, tuple(headers)))
    return records
