"""The events that the projections are measured with: whole lives of jobs, interleaved as they would be, always the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaProducer

from jobledger_contracts import job_events as e
from jobledger_contracts.envelope import encode, new_event
from jobledger_contracts.ids import derived_id

EVENTS_PER_JOB = 6
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SEED = 20260101


def events(jobs: int) -> Iterator[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
    """Records (key, value, headers) of so many jobs: one in a hundred events is sent twice, one in a hundred comes late."""
    chance = random.Random(SEED)
    open_jobs: list[list[Any]] = []
    begun = 0
    while begun < jobs or open_jobs:
        if begun < jobs and len(open_jobs) < 500:
            open_jobs.append(list(reversed(_life(derived_id("bench", str(begun)), begun))))
            begun += 1
            continue
        index = chance.randrange(len(open_jobs))
        life = open_jobs[index]
        if len(life) > 2 and chance.random() < 0.01:
            life[-1], life[-2] = life[-2], life[-1]
        record = life.pop()
        yield record
        if chance.random() < 0.01:
            yield record
        if not life:
            open_jobs[index] = open_jobs[-1]
            open_jobs.pop()


def _life(job_id: str, n: int) -> list[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
    properties = {"basin": f"B{n % 97}", "scenario": n % 13, "return_period_years": 100}
    data = [
        e.JobCreated(
            job_id=job_id, name=f"flood {n}", user=f"user{n % 40}", label="bench", job_type="CONDOR", scheduler="pool",
            extended_properties=properties, condor=e.CondorSpec(executable="run.sh", arguments=[str(n)]),
        ),
        e.ExecuteRequested(job_id=job_id),
        e.StatusChanged(job_id=job_id, status="Submitted", run=1, restarts=0, scheduler_job_ref=str(n)),
        e.StatusChanged(job_id=job_id, status="Running", run=1, restarts=0),
        e.StatusChanged(job_id=job_id, status="Running", run=1, restarts=0, progress=0.5, message="half way"),
        e.StatusChanged(job_id=job_id, status="Complete", run=1, restarts=0, exit_code=0, evidence={"JobStatus": 4, "ExitCode": 0}),
    ]  # fmt: skip
    return [
        encode(
            new_event(
                item,
                id=derived_id(job_id, str(step)),
                source="/jobledger/jobs" if step < 2 else "/jobledger/schedulers/pool",
                time=BEGIN + timedelta(seconds=n + step),
                actor=f"user:user{n % 40}" if step < 2 else "service:schedulers",
            )
        )
        for step, item in enumerate(data)
    ]


async def fill(bootstrap_servers: str, topic: str, jobs: int) -> int:
    """Publish them; returns how many records that made."""
    count = 0
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True, linger_ms=5) as producer:
        for key, value, headers in events(jobs):
            await producer.send(topic, key=key, value=value, headers=headers)
            count += 1
        await producer.flush()
    return count
