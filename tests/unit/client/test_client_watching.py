"""Reading event streams."""

from __future__ import annotations

from typing import Any

import httpx

from jobledger import BasicJob, Connection
from jobledger.http import ServiceClient
from jobledger.watching import ServerSentEvent, parse_events


def test_events_are_read_as_the_standard_has_them() -> None:
    lines = [
        "id: 0:1",
        "event: status",
        'data: {"a":',
        "data: 1}",
        "",
        ": keep-alive",
        "id: 0:2",
        "",
        "data:x",
        "retry: 10",
        "",
        "data: cut",
    ]
    assert list(parse_events(iter(lines))) == [
        ServerSentEvent("0:1", "status", '{"a":\n1}'),
        ServerSentEvent("0:1"),
        ServerSentEvent("0:2", "message", ""),
        ServerSentEvent("0:2", "message", "x"),
    ]


def test_a_change_is_told_once_and_only_when_there_is_something_new() -> None:
    views: list[dict[str, Any]] = [
        {"status": "Submitted", "status_code": "SUB", "desired": "run"},
        {"status": "Submitted", "status_code": "SUB", "desired": "run", "scheduler_job_ref": "1.0"},
        {"status": "Submitted", "status_code": "SUB", "desired": "pause"},
        {"status": "Running", "status_code": "RUN", "desired": "pause", "run_time_s": 1.0},
        {"status": "Running", "status_code": "RUN", "desired": "pause", "run_time_s": 2.0},
        {"status": "Complete", "status_code": "COM", "desired": "pause"},
    ]
    reads = iter(views)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(200, text="id: 0:1\nevent: status\ndata: {}\n\n" * len(views))
        return httpx.Response(200, json={"id": "a", "position": "0:1", **next(reads)})

    connection = Connection(jobs_url="http://jobs.test", api_key="k")
    connection._clients["jobs"] = ServiceClient("http://jobs.test", "k", name="jobs", transport=httpx.MockTransport(answer))
    job = BasicJob("x", connection=connection, label="l")
    job.take({"id": "a", "status": "Pending"})
    told: list[tuple[str, str]] = []
    job.wait(timeout_s=30, on_change=lambda job: told.append((job.cached_status, job.view.desired)))
    assert told == [("Submitted", "run"), ("Submitted", "pause"), ("Running", "pause"), ("Complete", "pause")]
