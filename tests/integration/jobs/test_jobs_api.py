"""The jobs API over real parts: create, list, change, act, history."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from jobledger_contracts.ids import derived_id
from tests.integration.jobs.conftest import Create
from tests.support.jobs_service import JobsService

pytestmark = [pytest.mark.stack, pytest.mark.anyio]

BODY = {"name": "calibration", "label": "hydro", "job_type": "BASIC"}
UNKNOWN = "01990000-0000-7000-8000-00000000dead"


def test_created_job_is_there_at_once(ada: httpx.Client) -> None:
    response = ada.post("/jobs", json=BODY | {"name": "run {id}", "extended_properties": {"a": [1, {"b": None}]}, "description": "d"})

    assert response.status_code == 201, response.text
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert response.headers["jobledger-position"] == job["position"]
    assert job["name"] == f"run {job['id']}"
    assert (job["user"], job["status"], job["status_code"], job["run"], job["run_id"]) == ("ada", "Pending", "PEN", 0, None)
    assert job["extended_properties"] == {"a": [1, {"b": None}]}
    assert job["workspace"].endswith(f"/{job['id']}/")
    assert ada.get(f"/jobs/{job['id']}", params={"after": job["position"]}).json() == job


async def test_twenty_creations_at_once_under_one_key_are_one_job(service: JobsService) -> None:
    async with service.async_client("ada") as client:
        headers = {"idempotency-key": "race-1"}
        answers = await asyncio.gather(*(client.post("/jobs", json=BODY, headers=headers) for _ in range(20)))
        other = await client.post("/jobs", json=BODY | {"name": "other"}, headers=headers)

    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 19}
    assert {answer.json()["id"] for answer in answers} == {derived_id("job", "ada", "race-1")}
    assert other.status_code == 422
    assert other.json()["type"].endswith("idempotency-key-reused")


async def test_racing_creations_with_two_contents_under_one_key_are_one_job(service: JobsService) -> None:
    async with service.async_client("ada") as client:
        headers = {"idempotency-key": "race-2"}
        answers = await asyncio.gather(*(client.post("/jobs", json=BODY | {"name": f"n{n % 2}"}, headers=headers) for n in range(20)))

    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 9, 422: 10}


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, {"$.name", "$.label", "$.job_type"}),
        (BODY | {"surprise": 1, "name": 7}, {"$.surprise", "$.name"}),
        (BODY | {"name": ""}, {"$.name"}),
        (BODY | {"name": "x" * 1025}, {"$.name"}),
        (BODY | {"job_type": "SLURM"}, {"$.job_type"}),
        (BODY | {"groups": "ops"}, {"$.groups"}),
        (BODY | {"extended_properties": []}, {"$.extended_properties"}),
        (BODY | {"condor": {"exe": 1}}, {"$.condor"}),
    ],
)
def test_bad_body_is_named_fault_by_fault(ada: httpx.Client, body: dict[str, Any], paths: set[str]) -> None:
    response = ada.post("/jobs", json=body)

    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert {error["path"].split("[")[0].replace("$.condor.exe", "$.condor") for error in response.json()["errors"]} == paths


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b'"\xff"', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b" " * 33_600_000, "application/json", 413),
    ],
)
def test_body_that_cannot_be_read_is_a_problem(ada: httpx.Client, content: bytes, content_type: str, status: int) -> None:
    response = ada.post("/jobs", content=content, headers={"content-type": content_type})

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "query",
    [
        "cursor=rubbish",
        "cursor=kQE",
        "after=rubbish",
        "after=99:1",
        "after=-1:2",
        "limit=0",
        "limit=501",
        "limit=x",
        "status=NOPE",
        "order_by=owner",
        "extended_properties=[1]",
        "extended_properties={",
        "completed_after=2026-01-01T00:00:00",
        "created_after=yesterday",
        "created_after=2026-01-01T00:00:00",
        "job_type=X",
        "unknown=1",
        "label=a&label=b",
    ],
)
def test_bad_query_is_a_problem(ada: httpx.Client, query: str) -> None:
    response = ada.get(f"/jobs?{query}")

    assert response.status_code == 400, response.text
    assert response.json()["errors"][0]["path"].startswith("?")


def test_position_that_is_far_ahead_is_waited_for_and_then_said_to_be_late(service: JobsService, ground: Any) -> None:
    with service.client("ada") as client:
        response = client.get("/jobs", params={"after": "0:999999999"})

    assert response.status_code == 503
    assert "0:999999999" in response.json()["detail"]
    assert "retry-after" in response.headers


def test_pages_hold_every_job_once_in_order(admin: httpx.Client, service: JobsService) -> None:
    ids = [admin.post("/jobs", json=BODY | {"label": "paging", "name": f"n{n}", "user": "ada"}).json()["id"] for n in range(23)]

    for order, expected in (("-creation_time", ids[::-1]), ("creation_time", ids)):
        seen: list[str] = []
        cursor = None
        with service.client("ada") as client:
            while True:
                query: dict[str, Any] = {"label": "paging", "limit": 5, "order_by": order} | ({"cursor": cursor} if cursor else {})
                page = client.get("/jobs", params=query).json()
                seen += [job["id"] for job in page["items"]]
                cursor = page["next_cursor"]
                if cursor is None:
                    break
        assert seen == expected


def test_filters_choose(ada: httpx.Client, create: Create) -> None:
    one = create(label="filters", name="Alpha_100%", groups=["ops", "x"])
    two = create(label="filters", name="beta")
    ada.post(f"/jobs/{two['id']}/execute")

    def ids(**query: Any) -> list[str]:
        response = ada.get("/jobs", params={"label": "filters"} | query)
        assert response.status_code == 200, response.text
        return [job["id"] for job in response.json()["items"]]

    assert ids() == [two["id"], one["id"]]
    assert ids(status="Pending") == [one["id"]]
    assert ids(status=["SUB", "RUN"]) == [two["id"]]
    assert ids(q="a_100%") == [one["id"]]
    assert ids(q="%") == [one["id"]]
    assert ids(group="x") == [one["id"]]
    assert ids(user="bob") == []
    assert ids(scheduler="pool") == []
    assert ids(job_type="BASIC", user="ada") == [two["id"], one["id"]]
    assert ids(created_after=two["creation_time"]) == [two["id"]]
    assert ids(created_before=two["creation_time"]) == [one["id"]]


def test_group_member_pages_through_own_and_shared_jobs_alike(service: JobsService, bob: httpx.Client, create: Create) -> None:
    shared = [create(label="mixed", groups=["ops", "other"])["id"] for _ in range(4)]
    create(label="mixed", groups=["elsewhere"])
    own = [bob.post("/jobs", json=BODY | {"label": "mixed", "groups": ["ops"]}).json()["id"] for _ in range(3)]

    seen, cursor = [], None
    while True:
        page = bob.get(
            "/jobs", params={"label": "mixed", "limit": 2, "cursor": cursor} if cursor else {"label": "mixed", "limit": 2}
        ).json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == own[::-1] + shared[::-1]


def test_change_changes_what_is_given_and_nothing_else(ada: httpx.Client, bob: httpx.Client, create: Create) -> None:
    job = create(description="keep", extended_properties={"a": 1})

    changed = ada.patch(f"/jobs/{job['id']}", json={"name": "new", "groups": []})

    assert changed.status_code == 200, changed.text
    assert (changed.json()["name"], changed.json()["description"], changed.json()["groups"]) == ("new", "keep", [])
    assert changed.json()["extended_properties"] == {"a": 1}
    assert bob.get(f"/jobs/{job['id']}").status_code == 404
    assert ada.patch(f"/jobs/{job['id']}", json={}).status_code == 400
    assert ada.patch(f"/jobs/{job['id']}", json={"name": "new"}).status_code == 200
    assert ada.patch(f"/jobs/{job['id']}", json={"user": "bob"}).status_code == 400


def test_life_of_a_job_and_what_is_refused_on_the_way(ada: httpx.Client, create: Create) -> None:
    job = create()
    path = f"/jobs/{job['id']}"

    early = ada.post(f"{path}/stop")
    assert early.status_code == 409
    assert (early.json()["verdict"], early.json()["reason"]) == ("refused", "not_started")
    assert ada.get("/jobs", params={"after": early.json()["position"]}).status_code == 200

    started = ada.post(f"{path}/execute", json={"reason": "go"})
    assert (started.status_code, started.json()["status"], started.json()["run"]) == (200, "Submitted", 1)
    assert ada.post(f"{path}/execute").json()["reason"] == "already_started"
    assert ada.post(f"{path}/pause").json()["status"] == "Paused"
    assert ada.post(f"{path}/pause").status_code == 200  # says nothing new
    assert ada.post(f"{path}/resume").json()["status"] == "Running"
    assert ada.delete(path).json()["reason"] == "still_active"
    assert ada.post(f"{path}/refresh").status_code == 200
    stopped = ada.post(f"{path}/stop", json={"reason": "enough"}).json()
    assert (stopped["status"], stopped["status_code"], stopped["completion_time"] is not None) == ("Aborted", "ABT", True)
    assert ada.post(f"{path}/resubmit").json()["run_id"] == f"{job['id']}.2"
    assert ada.post(f"{path}/stop", json={"reason": 7}).status_code == 400


def test_deleted_job_is_gone_but_its_history_stays(service: JobsService, ada: httpx.Client, bob: httpx.Client, create: Create) -> None:
    job = create(label="deleting")
    path = f"/jobs/{job['id']}"
    assert ada.put(f"{path}/files/a/b.txt", content=b"x").status_code == 201

    deleted = ada.delete(path)

    assert deleted.status_code == 200, deleted.text
    assert deleted.json()["id"] == job["id"]
    for call in (ada.get(path), ada.delete(path), ada.post(f"{path}/execute"), ada.get(f"{path}/files"), ada.get(f"{path}/events")):
        assert call.status_code == 404
    assert ada.get("/jobs", params={"label": "deleting"}).json()["items"] == []
    history = ada.get(f"{path}/history").json()["items"]
    assert [entry["type"] for entry in history] == ["JobCreated", "JobDeleted", "JobDeleted"][: len(history)]
    assert bob.get(f"{path}/history").status_code == 404


def test_history_has_every_event_with_its_verdict_and_pages(ada: httpx.Client, create: Create) -> None:
    job = create()
    path = f"/jobs/{job['id']}"
    ada.post(f"{path}/stop")
    ada.post(f"{path}/execute", headers={"x-request-id": "my-request-0001", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})

    entries = ada.get(f"{path}/history").json()["items"]

    assert [(e["sequence"], e["type"], e["verdict"], e["reason"]) for e in entries] == [
        (1, "JobCreated", "applied", ""),
        (2, "StopRequested", "refused", "not_started"),
        (3, "ExecuteRequested", "applied", ""),
    ]
    assert (entries[2]["actor"], entries[2]["source"], entries[2]["correlation_id"]) == ("user:ada", "/jobledger/jobs", "my-request-0001")
    assert entries[2]["traceparent"].startswith("00-aaaa")
    assert entries[0]["data"]["name"] == "calibration"

    seen, cursor = [], None
    while True:
        query: dict[str, Any] = {"limit": 1, "order_by": "-position"} | ({"cursor": cursor} if cursor else {})
        page = ada.get(f"{path}/history", params=query).json()
        seen += [entry["sequence"] for entry in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [3, 2, 1]
    assert ada.get(f"{path}/history", params={"cursor": "zzz"}).status_code == 400


@pytest.mark.parametrize("job_id", [UNKNOWN, "17", "not-a-uuid", UNKNOWN.upper(), "x" * 3000, "%2e%2e"])
def test_what_is_no_job_is_not_found(ada: httpx.Client, admin: httpx.Client, job_id: str) -> None:
    for client in (ada, admin):
        for method, tail in (("GET", ""), ("DELETE", ""), ("GET", "/history"), ("POST", "/execute"), ("GET", "/files"), ("GET", "/events")):
            response = client.request(method, f"/jobs/{job_id}{tail}")
            assert response.status_code == 404, (method, tail, response.text)
            assert response.headers["content-type"] == "application/problem+json"


def test_unknown_scheduler_is_refused_with_the_known_ones(ada: httpx.Client) -> None:
    body = {"name": "n", "label": "l", "job_type": "CONDOR", "scheduler": "nowhere", "condor": {"executable": "run.sh"}}

    response = ada.post("/jobs", json=body)

    assert response.status_code == 422
    assert response.json()["errors"] == [
        {"path": "$.scheduler", "message": "no scheduler is called 'nowhere'; there is none of type condor"}
    ]


def test_wrong_method_says_which_are_right(ada: httpx.Client) -> None:
    response = ada.put("/jobs")

    assert response.status_code == 405
    assert {"GET", "POST"} <= set(response.headers["allow"].replace(",", "").split())


def test_openapi_document_is_valid_and_describes_every_route(service: JobsService) -> None:
    from openapi_spec_validator import validate

    document = httpx.get(f"{service.url}/jobs/openapi.json").json()

    validate(document)
    assert {"/jobs", "/jobs/{job_id}", "/jobs/{job_id}/history", "/update-job-status/{job_id}/"} <= document["paths"].keys()
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            assert any(status.startswith(("2", "default")) for status in described["responses"]), (path, method)


def test_service_stops_in_good_order(service: JobsService) -> None:
    with service.client("ada") as client, client.stream("GET", "/jobs/events"):
        assert service.stop() == 0
    service.start()
