"""What the page on moving from Tethys promises is there: every name, with the parameters that it gives."""

from __future__ import annotations

import inspect
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import jobledger
from jobledger import App, Connection, DaskJob, Job
from jobledger.errors import NotFound
from jobledger.views import FileInfo, JobView

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "come-from-tethys.md"
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.startswith(("| `", "| the "))
]
PROMISES = [promise for row in ROWS for promise in re.findall(r"`([^`]+)`", row[1])]

SEEDS = {
    "JobManager": "create_job get_job list_jobs get_job_status_callback_url",
    "Job": (
        "cached_status execute is_time_to_update pause process_results process_results_function resume status stop type update_status "
        "update_status_interval resubmit get_logs save delete DoesNotExist creation_time execute_time start_time completion_time"
    ),
    "App": "get_job_manager get_scheduler",
}
"""What Tethys' Jobs API documents of its classes."""


def test_the_page_has_its_tables() -> None:
    assert len(ROWS) > 40
    assert len(PROMISES) > 50
    assert {len(row) for row in ROWS} == {3}


@pytest.mark.parametrize("promise", PROMISES)
def test_what_is_promised_is_there(promise: str) -> None:
    path, _, rest = promise.partition("(")
    found: Any = jobledger
    for name in path.split("."):
        if found is App and name == "scheduler_settings":  # set by the constructor
            found = App("x").scheduler_settings
            continue
        found = inspect.getattr_static(found, name) if inspect.isclass(found) else getattr(found, name)
    if not rest:
        return
    wanted = [name.strip() for name in rest.rstrip(")").split(",") if name.strip()]
    function = found.__func__ if isinstance(found, staticmethod | classmethod) else found
    given = inspect.signature(function).parameters
    names = [{"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(given[name].kind.name, "") + name for name in given if name != "self"]
    assert [name for name in wanted if name not in names] == []


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in SEEDS.items() for name in names.split()])
def test_what_tethys_documents_is_there_and_on_the_page(owner: str, name: str) -> None:
    assert hasattr(getattr(jobledger, owner), name)
    assert re.search(rf"\b{name}\b", PAGE.read_text())


MANAGER = App("flood", connection=Connection(jobs_url="http://nowhere.example", api_key="k")).get_job_manager()


def test_it_is_time_to_update_what_was_not_fetched_for_a_while() -> None:
    job = MANAGER.create_job("n", job_type="BASIC")
    assert job.is_time_to_update()
    job.load(JobView(id="1", name="n"))
    assert not job.is_time_to_update()
    assert job.update_status_interval == timedelta(seconds=10)
    job.update_status_interval = timedelta(0)
    assert job.is_time_to_update()
    job.update_status_interval = timedelta(milliseconds=1)
    time.sleep(0.002)
    assert job.is_time_to_update()


def test_a_job_that_is_not_there_does_not_exist() -> None:
    assert Job.DoesNotExist is NotFound


def test_logs_are_those_of_the_current_run() -> None:
    class Written(Job):
        def files(self, folder: str = "") -> list[FileInfo]:
            assert folder == "run-2"
            return [FileInfo(path=f"run-2/{name}", size_bytes=1) for name in ("a.stdout.txt", "condor.log", "result.csv", "stderr.txt")]

        def read(self, path: str) -> bytes:
            return f"of {path}".encode() + b"\xff"

    job = Written("n", connection=MANAGER.connection, label="flood")
    assert job.get_logs() == {}
    job.load(JobView(id="1", run=2))
    assert sorted(job.get_logs()) == ["a.stdout.txt", "condor.log", "stderr.txt"]
    assert job.get_logs()["condor.log"] == "of run-2/condor.log\ufffd"


def test_a_run_of_condor_is_known_by_its_number() -> None:
    job = MANAGER.create_job("n", job_type="CONDOR")
    assert job.cluster_id == 0
    job.load(JobView(id="1", scheduler_job_ref="12.0"))
    assert job.cluster_id == 12
    assert job.get_condorpy_template("vanilla_base") == {"universe": "vanilla"}
    with pytest.raises(ValueError, match="no template"):
        job.get_condorpy_template("no-such")


def test_a_run_of_dask_is_known_by_its_key() -> None:
    job = DaskJob("n", connection=MANAGER.connection, label="flood")
    job.load(JobView(id="1", scheduler_job_ref="key-1"))
    assert job.key == "key-1"
