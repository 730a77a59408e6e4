"""The status callback: what it accepts, from whom, and what the history then says."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.integration.jobs.conftest import Create
from tests.support.jobs_service import JobsService

pytestmark = pytest.mark.stack


def credential(ada: httpx.Client, job_id: str, **body: Any) -> dict[str, Any]:
    response = ada.post(f"/jobs/{job_id}/credentials", json=body)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_run_reports_and_the_job_moves(service: JobsService, ada: httpx.Client, create: Create) -> None:
    job = create()
    issued = credential(ada, job["id"])
    assert issued["callback_url"] == f"http://jobs.example/update-job-status/{job['id']}/"
    assert (issued["run"], issued["statuses"]) == (1, None)

    with service.with_token(issued["token"]) as run:
        first = run.post(f"/update-job-status/{job['id']}/", json={"status": "RUN", "message": "step 1", "progress": 0.5})
        last = run.post(f"/update-job-status/{job['id']}", data={"status": "Complete", "progress": "1"})

    assert first.json() == {"success": True, "position": first.json()["position"]}
    seen = ada.get(f"/jobs/{job['id']}", params={"after": last.json()["position"]}).json()
    assert (seen["status"], seen["status_message"], seen["progress"], seen["run"]) == ("Complete", "step 1", 1.0, 1)
    entry = ada.get(f"/jobs/{job['id']}/history").json()["items"][1]
    assert (entry["actor"], entry["source"], entry["run"]) == (f"run:{job['id']}.1", "/jobledger/jobs/callback", 1)


def test_late_report_is_kept_as_superseded(service: JobsService, ada: httpx.Client, create: Create) -> None:
    job = create()
    with service.with_token(credential(ada, job["id"])["token"]) as run:
        run.post(f"/update-job-status/{job['id']}/", json={"status": "Complete"})
        late = run.post(f"/update-job-status/{job['id']}/", json={"status": "Running"})

    assert late.status_code == 200
    history = ada.get(f"/jobs/{job['id']}/history", params={"after": late.json()["position"]}).json()["items"]
    assert [(e["verdict"], e["reason"]) for e in history[1:]] == [("applied", ""), ("superseded", "run_ended")]
    assert ada.get(f"/jobs/{job['id']}").json()["status"] == "Complete"


def test_report_of_an_earlier_run_is_superseded(service: JobsService, ada: httpx.Client, create: Create) -> None:
    job = create()
    ada.post(f"/jobs/{job['id']}/execute")
    old = credential(ada, job["id"])["token"]
    ada.post(f"/jobs/{job['id']}/stop")
    ada.post(f"/jobs/{job['id']}/resubmit")

    with service.with_token(old) as run:
        position = run.post(f"/update-job-status/{job['id']}/", json={"status": "Complete"}).json()["position"]

    last = ada.get(f"/jobs/{job['id']}/history", params={"after": position, "order_by": "-position"}).json()["items"][0]
    assert (last["position"], last["verdict"], last["reason"], last["run"]) == (position, "superseded", "old_run", 1)
    assert ada.get(f"/jobs/{job['id']}").json()["status"] == "Submitted"


def test_callback_without_a_status_asks_to_look(service: JobsService, ada: httpx.Client, create: Create) -> None:
    job = create()
    ada.post(f"/jobs/{job['id']}/execute")
    with service.with_token(credential(ada, job["id"], statuses=["Complete"])["token"]) as run:
        answers = [run.post(f"/update-job-status/{job['id']}/"), run.post(f"/update-job-status/{job['id']}/", json={})]

    assert [answer.status_code for answer in answers] == [200, 200]
    history = ada.get(f"/jobs/{job['id']}/history", params={"after": answers[-1].json()["position"]}).json()["items"]
    assert [entry["type"] for entry in history[-2:]] == ["RefreshRequested"] * 2


def test_report_that_is_repeated_under_its_key_counts_once(service: JobsService, ada: httpx.Client, create: Create) -> None:
    job = create()
    with service.with_token(credential(ada, job["id"])["token"]) as run:
        for _ in range(2):
            answer = run.post(f"/update-job-status/{job['id']}/", json={"status": "step 1"}, headers={"idempotency-key": "r1"})
            assert answer.status_code == 200

    history = ada.get(f"/jobs/{job['id']}/history", params={"after": answer.json()["position"]}).json()["items"]
    assert [(e["verdict"], e["reason"]) for e in history[1:]] == [("applied", ""), ("duplicate", "same_event")]


def test_credential_covers_its_job_and_its_statuses_only(service: JobsService, ada: httpx.Client, create: Create) -> None:
    job, other = create(), create()
    with service.with_token(credential(ada, job["id"], statuses=["RUN", "Other"])["token"]) as run:
        answers = {
            "own": run.post(f"/update-job-status/{job['id']}/", json={"status": "Running"}).status_code,
            "own text": run.post(f"/update-job-status/{job['id']}/", json={"status": "Calibrating"}).status_code,
            "other status": run.post(f"/update-job-status/{job['id']}/", json={"status": "Complete"}).status_code,
            "other job": run.post(f"/update-job-status/{other['id']}/", json={"status": "Running"}).status_code,
            "no job": run.post("/update-job-status/17/", json={"status": "Running"}).status_code,
            "other route": run.get(f"/jobs/{job['id']}").status_code,
        }

    assert answers == {"own": 200, "own text": 200, "other status": 403, "other job": 404, "no job": 404, "other route": 403}
    assert len(ada.get(f"/jobs/{other['id']}/history").json()["items"]) == 1


def test_expired_credential_is_not_accepted(service: JobsService, ada: httpx.Client, create: Create) -> None:
    job = create()
    issued = credential(ada, job["id"], expires_in_s=1)
    deadline = time.monotonic() + 15
    with service.with_token(issued["token"]) as run:
        while (status := run.post(f"/update-job-status/{job['id']}/").status_code) == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert status == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"json": {"status": ""}}, 400),
        ({"json": {"status": "  "}}, 400),
        ({"json": {"status": "x" * 257}}, 400),
        ({"json": {"status": "RUN", "progress": 2}}, 400),
        ({"json": {"status": "RUN", "progress": "0.5"}}, 400),
        ({"json": {"status": "RUN", "run": 1}}, 400),
        ({"json": []}, 400),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ({"json": {"status": "a\0b"}}, 400),
        ({"data": {"status": "RUN", "progress": "much"}}, 400),
        ({"data": {"state": "RUN"}}, 400),
        ({"content": b"status=RUN&status=COM", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 400),
        ({"content": b"status=%ff", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 400),
        ({"content": b"status=a%00b", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 400),
        ({"content": b"RUN", "headers": {"content-type": "text/plain"}}, 415),
        ({"json": {"status": "RUN", "message": "x" * 70_000}}, 413),
    ],
)
def test_bad_report_is_a_problem_and_no_event(ada: httpx.Client, create: Create, body: dict[str, Any], status: int) -> None:
    job = create()

    response = ada.post(f"/update-job-status/{job['id']}/", **body)

    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert len(ada.get(f"/jobs/{job['id']}/history").json()["items"]) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"run": 2}, 422),
        ({"run": 0}, 400),
        ({"statuses": []}, 400),
        ({"statuses": ["Nope"]}, 400),
        ({"expires_in_s": 0}, 400),
        ({"x": 1}, 400),
    ],
)
def test_bad_wish_for_a_credential_is_a_problem(ada: httpx.Client, create: Create, body: dict[str, Any], status: int) -> None:
    assert ada.post(f"/jobs/{create()['id']}/credentials", json=body).status_code == status
