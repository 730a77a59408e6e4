"""Server-sent events: live, resumed without a gap, and only for those who may see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.integration.jobs.conftest import Create
from tests.support.jobs_service import JobsService

pytestmark = [pytest.mark.stack, pytest.mark.anyio]

TIMEOUT_S = 30


class Stream:
    """One open feed. `last_id` is what a browser would send when it comes back."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.last_id = ""
        self.response = response

    async def next(self) -> dict[str, Any]:
        """The next event's data. Ids without data are remembered and passed over, as the standard says."""
        data: list[str] = []
        name = ""
        async with asyncio.timeout(TIMEOUT_S):
            async for line in self._lines:
                if line.startswith("id: "):
                    self.last_id = line.removeprefix("id: ")
                elif line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    data.append(line.removeprefix("data: "))
                elif not line and data:
                    assert name == "status"
                    event: dict[str, Any] = json.loads("\n".join(data))
                    return event
        raise AssertionError("the feed has ended")

    async def first_id(self) -> str:
        """The id that the feed begins with: from then on nothing is missed."""
        async with asyncio.timeout(TIMEOUT_S):
            async for line in self._lines:
                if line.startswith("id: "):
                    self.last_id = line.removeprefix("id: ")
                    return self.last_id
        raise AssertionError("the feed has ended")


@asynccontextmanager
async def feed(service: JobsService, user: str, path: str, last_id: str = "", **query: str) -> AsyncIterator[Stream]:
    headers = {"last-event-id": last_id} if last_id else {}
    async with service.async_client(user) as client, client.stream("GET", path, headers=headers, params=query) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


async def report(service: JobsService, job_id: str, status: str) -> str:
    async with service.async_client("ada") as client:
        response = await client.post(f"/update-job-status/{job_id}/", json={"status": status})
        assert response.status_code == 200
        return str(response.json()["position"])


async def test_what_happens_is_told_as_it_happens(service: JobsService, create: Create) -> None:
    job = create()
    async with feed(service, "bob", f"/jobs/{job['id']}/events") as stream:
        await stream.first_id()
        position = await report(service, job["id"], "Running")
        event = await stream.next()

    assert (event["job_id"], event["type"], event["status"], event["status_code"]) == (job["id"], "StatusChanged", "Running", "RUN")
    assert (event["verdict"], event["position"], event["run"]) == ("applied", position, 1)
    assert stream.last_id == position


async def test_feed_resumes_behind_the_last_id_without_a_gap(service: JobsService, create: Create) -> None:
    job = create()
    path = f"/jobs/{job['id']}/events"
    sent = [await report(service, job["id"], f"step {n}") for n in range(3)]

    async with feed(service, "ada", path, after=job["position"]) as stream:
        assert [(await stream.next())["position"] for _ in range(2)] == sent[:2]
        resume_at = stream.last_id
    sent += [await report(service, job["id"], f"step {n}") for n in range(3, 6)]
    async with feed(service, "ada", path, last_id=resume_at) as stream:
        assert [(await stream.next())["position"] for _ in range(4)] == sent[2:]
        sent.append(await report(service, job["id"], "step 6"))
        assert (await stream.next())["position"] == sent[-1]


async def test_reconnecting_all_the_time_under_load_misses_nothing_and_repeats_nothing(service: JobsService, create: Create) -> None:
    jobs = [create()["id"] for _ in range(6)]
    begun = asyncio.Event()
    sent: list[str] = []

    async def work() -> None:
        await begun.wait()
        async with service.async_client("ada") as client:
            for n in range(40):
                answers = await asyncio.gather(
                    *(client.post(f"/update-job-status/{job_id}/", json={"status": f"step {n}"}) for job_id in jobs)
                )
                sent.extend(answer.json()["position"] for answer in answers)

    seen: list[str] = []
    last_id = ""
    async with feed(service, "ada", "/jobs/events") as stream:
        last_id = await stream.first_id()
    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        begun.set()
        while len(seen) < 40 * len(jobs):
            async with feed(service, "ada", "/jobs/events", last_id=last_id) as stream:
                seen += [(await stream.next())["position"] for _ in range(min(17, 40 * len(jobs) - len(seen)))]
                last_id = stream.last_id

    assert len(seen) == len(set(seen))
    assert set(seen) == set(sent)
    for partition in range(4):
        offsets = [int(text.split(":")[1]) for text in seen if text.startswith(f"{partition}:")]
        assert offsets == sorted(offsets)


async def test_feed_of_all_shows_each_what_each_may_see(service: JobsService, create: Create) -> None:
    private, shared = create(groups=[])["id"], create(groups=["ops"])["id"]
    async with feed(service, "bob", "/jobs/events") as bob, feed(service, "admin", "/jobs/events") as admin:
        await bob.first_id()
        await admin.first_id()
        await report(service, private, "Running")
        await report(service, shared, "Running")

        assert (await bob.next())["job_id"] == shared
        assert {(await admin.next())["job_id"], (await admin.next())["job_id"]} == {private, shared}

        async with service.async_client("ada") as ada:
            await ada.patch(f"/jobs/{shared}", json={"groups": []})  # bob loses sight of it, from this event on
            await ada.patch(f"/jobs/{private}", json={"groups": ["ops"]})
        assert (await bob.next())["job_id"] == private


@pytest.mark.parametrize("last_id", ["rubbish", "0", "99:1", "0:1,0:2", "0:1;1:2"])
async def test_bad_id_is_a_problem(service: JobsService, create: Create, last_id: str) -> None:
    async with service.async_client("ada") as client:
        for path in ("/jobs/events", f"/jobs/{create()['id']}/events"):
            response = await client.get(path, headers={"last-event-id": last_id})
            assert response.status_code == 400, path
            assert response.json()["errors"][0]["path"] == "Last-Event-ID"


async def test_position_of_another_partition_is_a_problem(service: JobsService, create: Create) -> None:
    job = create()
    other = (int(job["position"].split(":")[0]) + 1) % 4
    async with service.async_client("ada") as client:
        assert (await client.get(f"/jobs/{job['id']}/events", headers={"last-event-id": f"{other}:0"})).status_code == 400
