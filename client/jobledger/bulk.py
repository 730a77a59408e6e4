"""Many jobs in one request: what is sent, and what came of each."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from jobledger.connection import Connection
from jobledger.jobs import Job

MAX_AT_ONCE = 1000
"""Jobs in one request."""

Failure = tuple[Job, dict[str, Any]]
"""A job, and what the service says of it: `status`, `detail`, `reason`, `errors`."""


def create(connection: Connection, jobs: Sequence[Job]) -> list[Failure]:
    """Create jobs that are not saved, and bring their files. Returns those that could not be created."""
    failures: list[Failure] = []
    for some in _parts(jobs):
        bodies = [job.creation_body() for job in some]
        key = hashlib.sha256("".join(job.idempotency_key for job in some).encode()).hexdigest()
        answer = connection.jobs.post("/jobs/bulk", {"jobs": bodies}, idempotency_key=key)
        for job, item in zip(some, answer["items"], strict=True):
            if item["status"] >= 400:
                failures.append((job, item))
            else:
                job.take_created(_said(item))
    return failures


def act(connection: Connection, action: str, jobs: Sequence[Job], reason: str = "") -> list[Failure]:
    """Ask the same of jobs. Returns those that refused."""
    failures: list[Failure] = []
    for some in _parts(jobs):
        body = {"action": action, "ids": [job.id for job in some], "reason": reason}
        answer = connection.jobs.post("/jobs/bulk/actions", body, idempotency_key=str(uuid.uuid4()))
        by_id = {job.id: job for job in some}
        for item in answer["items"]:
            if item["status"] >= 400:
                failures.append((by_id[item["id"]], item))
            else:
                by_id[item["id"]].take(_said(item))
    return failures


def _said(item: dict[str, Any]) -> dict[str, Any]:
    """What an outcome says of its job: all of it, or where to look later."""
    return item.get("job") or {"id": item["id"], "position": item["position"]}


def _parts(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    for start in range(0, len(jobs), MAX_AT_ONCE):
        yield jobs[start : start + MAX_AT_ONCE]
