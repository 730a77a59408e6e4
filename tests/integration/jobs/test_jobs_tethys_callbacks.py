"""Tethys' callbacks, which nobody signs: off, on, and where they may move jobs; and looks that are put off over a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.jobs.conftest import Create, Ground, service_on
from tests.support.eventually import eventually
from tests.support.jobs_service import JobsService

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def service(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsService]:
    """As administrators may set it: hints are taken, and jobs without a scheduler are moved."""
    settings: dict[str, Any] = {"tethys_callbacks": True, "tethys_callback_schedulers": "-", "refresh_interval_s": 3600}
    one = service_on(ground, tmp_path_factory.mktemp("jobs"), **settings)
    one.start()
    yield one
    one.end()


@pytest.fixture(scope="module")
def anybody(service: JobsService) -> Iterator[httpx.Client]:
    with service.client(None) as client:
        yield client


def history(ada: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = ada.get(f"/jobs/{job_id}/history").json()["items"]
    return items


def test_many_hints_are_one_look(ada: httpx.Client, anybody: httpx.Client, create: Create) -> None:
    job_id = create()["id"]
    assert ada.post(f"/jobs/{job_id}/execute").status_code == 200
    for _ in range(10):
        answer = anybody.get(f"/update-job-status/{job_id}/")
        assert (answer.status_code, answer.json()) == (200, {"success": True})

    eventually(lambda: len(history(ada, job_id)) == 3)
    assert (history(ada, job_id)[2]["type"], history(ada, job_id)[2]["actor"]) == ("RefreshRequested", "anonymous")
    assert ada.get(f"/jobs/{job_id}").json()["status"] == "Submitted"


def test_answer_does_not_tell_whether_there_is_such_a_job(anybody: httpx.Client) -> None:
    nobody = "01990000-0000-7000-8000-00000000000f"
    assert anybody.get(f"/update-job-status/{nobody}").json() == {"success": True}
    assert anybody.get(f"/update-dask-job-status/{nobody}.1/?status=processing-memory").json() == {"success": True}
    assert anybody.get("/update-job-status/17/").status_code == 404
    assert anybody.get("/update-dask-job-status/sum-0a1b/?status=processing-memory").status_code == 404
    assert anybody.get(f"/update-job-status/{nobody}/?delay=86401").status_code == 400


def test_transitions_move_a_job_that_an_administrator_has_allowed(ada: httpx.Client, anybody: httpx.Client, create: Create) -> None:
    job_id = create()["id"]
    for transition in ("waiting-processing", "processing-memory", "memory-released", "waiting-processing"):
        assert anybody.get(f"/update-dask-job-status/{job_id}/?status={transition}").json() == {"success": True}
        eventually(lambda: ada.get(f"/jobs/{job_id}").json()["status"] != "Pending")
        eventually(lambda said=transition: said != "processing-memory" or ada.get(f"/jobs/{job_id}").json()["status"] == "Complete")

    entries = history(ada, job_id)[1:]
    assert [entry["data"]["status"] for entry in entries] == ["Running", "Complete"]
    assert [entry["data"]["evidence"] for entry in entries] == [{"transition": "waiting-processing"}, {"transition": "processing-memory"}]
    assert {(entry["actor"], entry["source"]) for entry in entries} == {("anonymous", "/jobledger/jobs/compatibility")}


def test_look_that_is_put_off_survives_a_restart(service: JobsService, ada: httpx.Client, create: Create) -> None:
    job_id = create()["id"]
    ada.post(f"/jobs/{job_id}/execute")
    answer = ada.post(f"/update-job-status/{job_id}/?delay=4")
    assert (answer.status_code, answer.json()["success"]) == (200, "scheduled")
    assert ada.post(f"/update-job-status/{job_id}/?delay=4", json={"status": "RUN"}).status_code == 400
    assert len(history(ada, job_id)) == 2
    service.kill()
    service.start()

    with service.client("ada") as client:
        eventually(lambda: len(history(client, job_id)) == 3, timeout_s=30)
        asked = history(client, job_id)[2]
        assert (asked["type"], asked["actor"]) == ("RefreshRequested", "user:ada")
