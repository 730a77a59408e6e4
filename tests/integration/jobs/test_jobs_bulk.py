"""Many jobs at once: each has the outcome that it would have had alone, and the log has one event for each."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from jobledger import Connection
from jobledger.errors import SomeFailed
from jobledger.job_manager import JobManager
from tests.integration.jobs.conftest import Create
from tests.support.jobs_service import JobsService

pytestmark = pytest.mark.stack

BODY = {"name": "calibration", "label": "bulk", "job_type": "BASIC"}


def test_thousand_jobs_are_created_and_started_in_one_request(ada: httpx.Client) -> None:
    jobs = [BODY | {"label": "thousand", "name": f"n{n} {{id}}"} for n in range(1000)]
    begun = time.monotonic()

    answer = ada.post("/jobs/bulk", json={"jobs": jobs, "execute": True}, headers={"idempotency-key": "thousand"})

    assert answer.status_code == 200, answer.text
    items = answer.json()["items"]
    assert [item["status"] for item in items] == [201] * 1000
    assert answer.json()["failed"] == 0
    assert [item["job"]["name"].split()[0] for item in items] == [f"n{n}" for n in range(1000)]
    assert {item["job"]["status"] for item in items} == {"Submitted"}
    assert ada.get("/jobs/counts", params={"label": "thousand"}).json()["statuses"] == {"Submitted": 1000}
    assert time.monotonic() - begun < 20

    again = ada.post("/jobs/bulk", json={"jobs": jobs, "execute": True}, headers={"idempotency-key": "thousand"}).json()
    assert [item["id"] for item in again["items"]] == [item["id"] for item in items]
    history = ada.get(f"/jobs/{items[7]['id']}/history").json()["items"]
    assert [(entry["type"], entry["verdict"]) for entry in history[:2]] == [("JobCreated", "applied"), ("ExecuteRequested", "applied")]
    assert {entry["verdict"] for entry in history[2:]} == {"duplicate"}


def test_each_job_has_an_outcome_of_its_own(ada: httpx.Client, admin: httpx.Client) -> None:
    bad = BODY | {"job_type": "CONDOR", "scheduler": "nowhere", "condor": {"executable": "run.sh"}}
    others = BODY | {"user": "somebody"}

    items = ada.post("/jobs/bulk", json={"jobs": [BODY, bad, others, BODY]}).json()["items"]
    assert [item["status"] for item in items] == [201, 422, 403, 201]
    assert items[1]["errors"][0]["path"] == "$.scheduler"
    assert "job" not in items[1]
    assert admin.post("/jobs/bulk", json={"jobs": [others]}).json()["items"][0]["job"]["user"] == "somebody"

    for body in ({"jobs": []}, {"jobs": [BODY] * 1001}, {"jobs": [{}]}, {"jobs": [BODY], "more": 1}):
        assert ada.post("/jobs/bulk", json=body).status_code == 400


def test_same_is_asked_of_many_by_id(service: JobsService, ada: httpx.Client, bob: httpx.Client, create: Create) -> None:
    pending, running, gone = create(label="act"), create(label="act"), create(label="act")
    ada.post(f"/jobs/{running['id']}/execute")
    ada.delete(f"/jobs/{gone['id']}")
    unknown = "01990000-0000-7000-8000-00000000dead"
    ids = [running["id"], pending["id"], gone["id"], unknown, "rubbish", running["id"]]

    answer = ada.post("/jobs/bulk/actions", json={"action": "stop", "ids": ids, "reason": "enough"}).json()

    assert [(item["id"], item["status"]) for item in answer["items"]] == [
        (running["id"], 200), (pending["id"], 409), (gone["id"], 404), (unknown, 404), ("rubbish", 404),
    ]  # fmt: skip
    assert answer["items"][0]["job"]["status"] == "Aborted"
    assert answer["items"][1]["reason"] == "not_started"
    shared = bob.post("/jobs/bulk/actions", json={"action": "delete", "ids": [running["id"]]}).json()
    assert [item["status"] for item in shared["items"]] == [403]
    with service.client("eve") as eve:
        assert eve.post("/jobs/bulk/actions", json={"action": "delete", "ids": [running["id"]]}).json()["items"][0]["status"] == 404
    assert ada.get(f"/jobs/{running['id']}").status_code == 200


def test_filter_chooses_among_what_one_may_change(ada: httpx.Client, bob: httpx.Client, admin: httpx.Client, create: Create) -> None:
    mine = [create(label="chosen", extended_properties={"sweep": n})["id"] for n in range(3)]
    bobs = bob.post("/jobs", json=BODY | {"label": "chosen", "groups": ["hydro"]}).json()["id"]

    def act(client: httpx.Client, action: str, chosen: dict[str, Any], **more: Any) -> tuple[list[str], bool]:
        answer = client.post("/jobs/bulk/actions", json={"action": action, "filter": {"label": "chosen"} | chosen} | more)
        assert answer.status_code == 200, answer.text
        assert answer.json()["failed"] == 0
        return [item["id"] for item in answer.json()["items"]], answer.json()["more"]

    assert act(ada, "execute", {"status": ["PEN"]}, limit=2) == (mine[:2], True)
    assert act(ada, "execute", {"extended_properties": {"sweep": 2}}) == ([mine[2]], False)
    assert act(admin, "execute", {"status": ["Pending"]}) == ([bobs], False)
    assert act(bob, "stop", {}) == ([bobs], False)
    assert act(ada, "stop", {}) == (mine, False)
    assert act(ada, "delete", {"user": "ada"}) == (mine, False)
    assert bob.post("/jobs/bulk/actions", json={"action": "delete", "filter": {"user": "ada"}}).status_code == 403
    for body in ({"action": "delete"}, {"action": "delete", "ids": ["x"], "filter": {}}, {"action": "destroy", "ids": ["x"]}):
        assert ada.post("/jobs/bulk/actions", json=body).status_code == 400


def test_sdk_saves_starts_and_stops_many(service: JobsService) -> None:
    with Connection(jobs_url=service.url, api_key=service.keys["ada"]) as connection:
        manager = JobManager("sdk-bulk", connection)
        jobs = [manager.create_job(f"n{n} {{id}}", job_type="BASIC") for n in range(5)]
        manager.save_jobs(jobs, execute=True)
        manager.save_jobs(jobs)

        assert {job.cached_status for job in jobs} == {"Submitted"}
        assert all(job.id in job.name for job in jobs)
        assert manager.count_jobs() == {"Submitted": 5}
        manager.act_on_jobs("stop", jobs[:4], "enough")
        with pytest.raises(SomeFailed) as caught:
            manager.act_on_jobs("stop", jobs)
        assert len(caught.value.failures) == 4
        assert {job.cached_status for job in manager.list_jobs()} == {"Aborted"}
