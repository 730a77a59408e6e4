"""The roles as processes of their own, several of each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration.jobs.conftest import Ground, service_on
from tests.support.eventually import eventually
from tests.support.jobs_service import JobsService

pytestmark = pytest.mark.stack

BODY = {"name": "n", "label": "roles", "job_type": "BASIC"}


@pytest.fixture(scope="module")
def instances(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, JobsService]]:
    """Two of the API, two projectors, one for the reactors."""
    first = service_on(ground, tmp_path_factory.mktemp("jobs"))
    wanted = {"api1": "api", "api2": "api", "projector1": "projector", "projector2": "projector", "reactors1": "reactors"}
    running = {name: first.sibling(name) for name in wanted}
    try:
        for name, role in wanted.items():
            running[name].start(role)
        yield running
    finally:
        for instance in running.values():
            instance.end()


def test_what_one_instance_takes_every_other_shows(instances: dict[str, JobsService]) -> None:
    with instances["api1"].client("ada") as one, instances["api2"].client("ada") as two:
        for n in range(12):
            made = eventually(lambda: r if (r := one.post("/jobs", json=BODY)).status_code == 201 else None, timeout_s=60)
            assert made is not None
            job = made.json()
            seen = two.get(f"/jobs/{job['id']}", params={"after": job["position"]})
            assert seen.json()["id"] == job["id"], n


def test_projector_that_is_killed_is_replaced_by_the_other(instances: dict[str, JobsService]) -> None:
    with instances["api1"].client("ada") as client:
        instances["projector1"].kill()
        accepted = [client.post("/jobs", json=BODY) for _ in range(4)]
        assert {response.status_code for response in accepted} <= {201, 202}
        for response in accepted:
            position = response.json()["position"]

            def shown(at: str = position) -> bool:
                return client.get("/jobs", params={"after": at}).status_code == 200

            eventually(shown, timeout_s=90)
        instances["projector1"].start("projector")


def test_reactors_carry_out_what_the_projector_noted(instances: dict[str, JobsService]) -> None:
    service = instances["api1"]
    with service.client("ada") as client:
        made = client.post("/jobs", json=BODY).json()
        eventually(lambda: client.get(f"/jobs/{made['id']}").status_code == 200, timeout_s=60)
        assert client.put(f"/jobs/{made['id']}/files/x", content=b"x").status_code == 201
        assert client.delete(f"/jobs/{made['id']}").status_code in (200, 202)
    eventually(lambda: not (service.workspaces / made["id"]).exists(), timeout_s=60)


def test_instances_without_the_api_serve_their_health_only(instances: dict[str, JobsService]) -> None:
    with instances["projector2"].client("admin") as client:
        assert client.get("/jobs/health/ready").status_code == 200
        assert "jobledger_checkpoint_lag_records" in client.get("/jobs/metrics").text
        assert client.get("/jobs").status_code == 404


def test_bad_settings_are_all_named_and_end_with_78() -> None:
    environ = {"JOBLEDGER_HTTP_PORT": "x", "JOBLEDGER_DATABASE_URL": "mysql://u:secret@h/d"}

    ended = subprocess.run([sys.executable, "-m", "jobledger_jobs"], env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 78
    for name in ("JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS", "JOBLEDGER_HTTP_PORT", "JOBLEDGER_DATABASE_URL"):
        assert name in ended.stderr
    assert "secret@" not in ended.stderr
