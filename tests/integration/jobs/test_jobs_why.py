"""Who stopped a job, and why, by one command over the real service."""

from __future__ import annotations

import json

import httpx
import pytest
from click.testing import CliRunner

from jobledger.cli.main import cli
from tests.integration.jobs.conftest import Create
from tests.support.jobs_service import JobsService

pytestmark = pytest.mark.stack


def test_who_stopped_it_and_why(service: JobsService, ada: httpx.Client, create: Create) -> None:
    job = create()
    assert ada.post(f"/jobs/{job['id']}/execute").status_code == 200
    assert ada.post(f"/jobs/{job['id']}/stop", json={"reason": "wrong basin"}).status_code == 200
    environment = {"JOBLEDGER_JOBS_URL": service.url, "JOBLEDGER_API_KEY": service.keys["ada"]}

    said = CliRunner().invoke(cli, ["jobs", "why", job["id"], "--json"], env=environment)
    for_people = CliRunner().invoke(cli, ["jobs", "why", job["id"]], env=environment)

    assert said.exit_code == 0, said.output
    asked = json.loads(said.output)["asked"]
    assert (asked["type"], asked["actor"], asked["data"]["reason"]) == ("StopRequested", "user:ada", "wrong basin")
    assert "StopRequested by ada" in for_people.output
    assert "wrong basin" in for_people.output
