"""Results that wait, over HTTP: who is given them, what a worker's word does, and what becomes of a worker that is not heard of."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.jobs.conftest import Create, Ground, service_on
from tests.support.eventually import eventually
from tests.support.jobs_service import JobsService

pytestmark = pytest.mark.stack
FUNCTION = "flood.results:rank"


def ended(client: httpx.Client, create: Create, label: str, **members: Any) -> str:
    """A job whose run ended well; its results wait."""
    job = create(label=label, process_results_function=FUNCTION, **members)
    eventually(lambda: client.get(f"/jobs/{job['id']}").status_code == 200, timeout_s=60)  # a busy machine answers 202 first
    for path, body in ((f"/jobs/{job['id']}/execute", None), (f"/update-job-status/{job['id']}/", {"status": "Complete"})):
        answer = client.post(path, json=body) if body else client.post(path)
        assert answer.status_code == 200, answer.text
    after = {"after": answer.json()["position"]}
    found = client.get(f"/jobs/{job['id']}", params=after).json()
    assert (found["status_code"], found["process_results_function"]) == ("RES", FUNCTION)
    return str(job["id"])


def claim(client: httpx.Client, label: str, **more: Any) -> list[dict[str, Any]]:
    answer = client.post("/jobs/processing/claims", json={"label": label, "worker": "w"} | more)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def say(client: httpx.Client, job_id: str, word: str, attempt: int, **more: Any) -> httpx.Response:
    return client.post(f"/jobs/{job_id}/processing/{word}", json={"run": 1, "attempt": attempt} | more)


@pytest.fixture
def label() -> str:
    return f"app_{uuid.uuid4().hex[:8]}"


def history(client: httpx.Client, job_id: str) -> list[tuple[str, str, str]]:
    items = client.get(f"/jobs/{job_id}/history").json()["items"]
    return [(item["type"], item["verdict"], item["reason"]) for item in items if item["type"].startswith("ResultsProc")]


def test_results_are_claimed_once_and_processed(ada: httpx.Client, create: Create, label: str) -> None:
    job_id = ended(ada, create, label)
    (one,) = claim(ada, label)
    assert (one["job"]["id"], one["run"], one["attempt"], one["job"]["processing"]) == (job_id, 1, 1, True)
    assert claim(ada, label) == []
    assert say(ada, job_id, "renew", 1).json() == {"lease_s": 60.0}
    done = say(ada, job_id, "done", 1, message="3 maps")
    assert (done.json()["status"], done.json()["status_message"], done.json()["processing"]) == ("Complete", "3 maps", False)
    again = say(ada, job_id, "done", 1)
    assert (again.status_code, again.json()["reason"]) == (409, "run_ended")
    assert say(ada, job_id, "renew", 1).status_code == 409
    assert claim(ada, label) == []


def test_a_report_that_is_repeated_is_answered_as_at_first(ada: httpx.Client, create: Create, label: str) -> None:
    job_id = ended(ada, create, label)
    claim(ada, label)
    body, key = {"run": 1, "attempt": 1}, {"Idempotency-Key": "one"}
    answers = [ada.post(f"/jobs/{job_id}/processing/done", json=body, headers=key).status_code for _ in range(2)]
    assert answers == [200, 200]


def test_a_claim_waits_for_something_to_come(ada: httpx.Client, create: Create, label: str, service: JobsService) -> None:
    async def both() -> tuple[list[dict[str, Any]], str]:
        async with service.async_client("ada") as client:
            waiting = asyncio.create_task(client.post("/jobs/processing/claims", json={"label": label, "wait_s": 30}))
            job_id = await asyncio.to_thread(ended, ada, create, label)
            return (await waiting).json()["items"], job_id

    items, job_id = asyncio.run(both())
    assert [one["job"]["id"] for one in items] == [job_id]
    began = time.monotonic()
    assert claim(ada, label, wait_s=0.7) == []
    assert time.monotonic() - began >= 0.7


def test_who_is_not_heard_of_is_replaced_and_then_too_late(ada: httpx.Client, create: Create, label: str) -> None:
    job_id = ended(ada, create, label)
    assert claim(ada, label, lease_s=1)[0]["attempt"] == 1
    second = eventually(lambda: claim(ada, label))
    assert second[0]["attempt"] == 2
    for word, more in (("done", {}), ("failed", {"error": "late"})):
        late = say(ada, job_id, word, 1, **more)
        assert (late.status_code, late.json()["reason"]) == (409, "old_attempt")
    assert say(ada, job_id, "renew", 1).status_code == 409
    assert say(ada, job_id, "done", 2).json()["status"] == "Complete"
    assert history(ada, job_id) == [
        ("ResultsProcessingStarted", "applied", ""),
        ("ResultsProcessingStarted", "applied", ""),
        ("ResultsProcessed", "superseded", "old_attempt"),
        ("ResultsProcessingFailed", "superseded", "old_attempt"),
        ("ResultsProcessed", "applied", ""),
    ]


def test_who_renews_keeps_it(ada: httpx.Client, create: Create, label: str) -> None:
    job_id = ended(ada, create, label)
    claim(ada, label, lease_s=1)
    assert say(ada, job_id, "renew", 1, lease_s=60).status_code == 200
    assert claim(ada, label, wait_s=1.5) == []


def test_a_stopped_job_is_taken_from_its_worker(ada: httpx.Client, create: Create, label: str) -> None:
    job_id = ended(ada, create, label)
    claim(ada, label)
    assert ada.post(f"/jobs/{job_id}/stop", json={"reason": "enough"}).json()["status"] == "Aborted"
    assert say(ada, job_id, "renew", 1).status_code == 409
    assert say(ada, job_id, "done", 1).json()["reason"] == "run_ended"


def test_a_resubmitted_job_waits_anew_and_a_deleted_one_no_more(ada: httpx.Client, create: Create, label: str) -> None:
    job_id = ended(ada, create, label)
    claim(ada, label)
    assert ada.post(f"/jobs/{job_id}/resubmit").status_code == 200
    assert say(ada, job_id, "done", 1).json()["reason"] == "old_run"
    assert claim(ada, label) == []
    ada.post(f"/update-job-status/{job_id}/", json={"status": "Complete"})
    assert [(one["run"], one["attempt"]) for one in eventually(lambda: claim(ada, label))] == [(2, 1)]
    gone = ended(ada, create, label)
    assert ada.delete(f"/jobs/{gone}").status_code == 200
    assert claim(ada, label) == []
    assert say(ada, gone, "done", 1).status_code == 404


def test_only_those_who_may_change_the_job_process_its_results(
    service: JobsService, ada: httpx.Client, bob: httpx.Client, eve: httpx.Client, admin: httpx.Client, create: Create, label: str
) -> None:
    job_id = ended(ada, create, label)
    assert claim(bob, label) == claim(eve, label) == claim(ada, f"{label}x") == []
    words = (("renew", {}), ("done", {}), ("failed", {"error": "no"}))
    assert [say(bob, job_id, word, 1, **more).status_code for word, more in words] == [403] * 3
    assert [say(eve, job_id, word, 1, **more).status_code for word, more in words] == [404] * 3
    token = ada.post(f"/jobs/{job_id}/credentials", json={}).json()["token"]
    with service.with_token(token) as run, service.client(None) as nobody:
        body = {"label": label}
        assert (run.post("/jobs/processing/claims", json=body).status_code, say(run, job_id, "done", 1).status_code) == (403, 403)
        assert (nobody.post("/jobs/processing/claims", json=body).status_code, say(nobody, job_id, "done", 1).status_code) == (401, 401)
    assert claim(admin, label, user="admin") == claim(eve, label, user="ada") == []
    assert claim(admin, label, user="ada")[0]["job"]["id"] == job_id


def test_what_is_wrong_with_a_request_is_said(ada: httpx.Client, create: Create) -> None:
    assert (
        ada.post("/jobs", json={"name": "n", "label": "l", "job_type": "BASIC", "process_results_function": "no function"}).status_code
        == 400
    )
    assert ada.post("/jobs/processing/claims", json={}).status_code == 400
    assert ada.post("/jobs/processing/claims", json={"label": "l", "limit": 0}).status_code == 400
    job_id = create()["id"]
    assert say(ada, job_id, "done", 1).json()["reason"] == "unknown_run"
    assert say(ada, job_id, "failed", 1).status_code == 400


def test_failures_are_retried_then_an_error_and_a_restart_forgets_nothing(ground: Ground, tmp_path: Path) -> None:
    service = service_on(ground, tmp_path, processing_attempts=3, processing_retry_s=0.2)
    service.start()
    label = f"app_{uuid.uuid4().hex[:8]}"
    try:
        with service.client("ada") as ada:

            def create(**members: Any) -> dict[str, Any]:
                job: dict[str, Any] = ada.post("/jobs", json={"name": "n", "job_type": "BASIC"} | members).json()
                return job

            job_id, lost = ended(ada, create, label), ended(ada, create, label)
            assert len(claim(ada, label, limit=2, lease_s=1)) == 2
            failed = say(ada, job_id, "failed", 1, error="ValueError: no", traceback="Traceback\nValueError: no\n").json()
            assert failed["status_code"] == "RES"
            assert failed["status_message"] == "Processing its results failed (attempt 1 of 3) and is tried again in 0.2 s: ValueError: no"
        service.kill()
        service.start()
        with service.client("ada") as ada:
            eventually(lambda: claim(ada, label, job_id=job_id))
            say(ada, job_id, "failed", 2, error="ValueError: no")
            eventually(lambda: claim(ada, label, job_id=job_id))
            failed = say(ada, job_id, "failed", 3, error="ValueError: no").json()
            assert (failed["status"], failed["processing_attempt"]) == ("Error", 3)
            assert failed["status_message"] == "Processing its results failed, after 3 attempts: ValueError: no"
            items = ada.get(f"/jobs/{job_id}/history").json()["items"]
            first = next(item["data"] for item in items if item["type"] == "ResultsProcessingFailed")
            assert first["traceback"] == "Traceback\nValueError: no\n"

            def is_lost() -> bool:
                claim(ada, label, lease_s=1)
                return bool(ada.get(f"/jobs/{lost}").json()["status"] == "Error")

            eventually(is_lost, timeout_s=30, interval_s=0.3)
            assert "its worker was not heard of any more" in ada.get(f"/jobs/{lost}").json()["status_message"]
            hopeless = ended(ada, create, label)
            claim(ada, label)
            assert say(ada, hopeless, "failed", 1, error="not allowed", hopeless=True).json()["status"] == "Error"
    finally:
        service.end()
