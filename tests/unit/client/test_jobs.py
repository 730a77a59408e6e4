"""What a job sends: local until saved, one key for its creation, only what changed afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import httpx
import msgspec
import pytest

from jobledger import BasicJob, CondorJob, Connection, DaskJob, JobManager
from jobledger.dask_job import task_page
from jobledger.errors import InvalidArgument, NotSaved, Refused, ResultUnavailable
from jobledger.http import ServiceClient

JOB_ID = "0198c0de-0000-8000-8000-000000000001"


class Jobs:
    """A jobs service that keeps one job and every request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any, str]] = []
        self.view: dict[str, Any] = {"id": JOB_ID, "user": "ada", "status": "Pending", "status_code": "PEN", "position": "0:1", "run": 0}
        self.refuse = ""
        self.files: dict[str, bytes] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        raw, path = request.read(), request.url.path
        if "/files" in path:
            return self._file(request.method, path.partition("/files")[2].strip("/"), raw)
        body = msgspec.json.decode(raw) if raw else None
        self.requests.append((request.method, path, body, request.headers.get("idempotency-key", "")))
        if self.refuse and request.method == "POST":
            return httpx.Response(409, json={"title": "Refused", "detail": "no", "reason": self.refuse})
        if request.method in ("POST", "PATCH") and body:
            self.view |= body
        return httpx.Response(200, json=self.view)

    def _file(self, method: str, path: str, raw: bytes) -> httpx.Response:
        if method == "PUT":
            self.files[path] = raw
            return httpx.Response(201, json={"path": path})
        if path:
            return httpx.Response(200, content=self.files[path])
        items = [{"path": name, "type": "file", "size_bytes": len(content)} for name, content in self.files.items()]
        return httpx.Response(200, json={"items": items, "next_cursor": None})

    def manager(self) -> JobManager:
        connection = Connection(jobs_url="http://jobs.test", api_key="k")
        client = ServiceClient("http://jobs.test", "k", name="jobs", transport=httpx.MockTransport(self), sleep=lambda _: None)
        connection._clients["jobs"] = client
        return JobManager("my_app", connection)


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


def test_a_job_is_local_until_it_is_saved(jobs: Jobs) -> None:
    job = jobs.manager().create_job("calibrate", job_type="BASIC")
    assert (job.id, job.cached_status, jobs.requests) == ("", "Pending", [])
    with pytest.raises(NotSaved):
        job.history()
    job.extended_properties = {"one": 1}
    job.save()
    method, path, body, key = jobs.requests[0]
    assert (method, path) == ("POST", "/jobs")
    assert body == {"name": "calibrate", "label": "my_app", "job_type": "BASIC", "extended_properties": {"one": 1}}
    assert key
    assert (job.id, job.user) == (JOB_ID, "ada")


def test_saving_again_sends_what_changed_and_nothing_else(jobs: Jobs) -> None:
    job = jobs.manager().create_job("calibrate", job_type="BASIC", extended_properties={"one": 1})
    job.save()
    job.save()
    job.extended_properties["two"] = 2
    job.save()
    assert [request[:3] for request in jobs.requests[1:]] == [("PATCH", f"/jobs/{JOB_ID}", {"extended_properties": {"one": 1, "two": 2}})]


def test_the_creation_keeps_its_key_after_an_error(jobs: Jobs) -> None:
    job = jobs.manager().create_job("calibrate", job_type="BASIC")
    jobs.refuse = "conflict"
    with pytest.raises(Refused):
        job.save()
    jobs.refuse = ""
    job.save()
    assert jobs.requests[0][3] == jobs.requests[1][3]


def test_a_refusal_is_raised_with_its_reason_and_the_job_is_fetched(jobs: Jobs) -> None:
    job = jobs.manager().create_job("calibrate", job_type="BASIC")
    job.save()
    jobs.refuse, jobs.view["status"] = "already_started", "Running"
    with pytest.raises(Refused) as caught:
        job.execute()
    assert (caught.value.reason, job.cached_status) == ("already_started", "Running")


def test_what_the_ledger_says_cannot_be_set(jobs: Jobs) -> None:
    job = jobs.manager().create_job("calibrate", job_type="BASIC")
    with pytest.raises(AttributeError, match="ledger"):
        job.exit_code = 0


def test_a_condor_job_says_what_the_seeds_say(jobs: Jobs, tmp_path: Path) -> None:
    for name in ("my_script.py", "input_1"):
        (tmp_path / name).write_text(name)
    job = jobs.manager().create_job(
        name="myjob_{id}",
        job_type="CONDOR",
        attributes={"request_memory": "1GB"},
        condorpy_template_name="vanilla_transfer_files",
        remote_input_files=(tmp_path / "my_script.py", tmp_path / "input_1"),
        scheduler="pool",
    )
    job.set_attribute("executable", "my_script.py")
    job.set_attribute("arguments", "-n 3 'two words'")
    job.set_attribute("should_transfer_files", "YES")
    job.save()
    assert jobs.view["condor"] == {
        "executable": "my_script.py",
        "arguments": ["-n", "3", "two words"],
        "input_files": ["input_1"],
        "attributes": {"universe": "vanilla", "request_memory": "1GB"},
        "num_jobs": 1,
    }
    assert jobs.files == {"my_script.py": b"my_script.py", "input_1": b"input_1"}
    jobs.files.clear()
    (tmp_path / "input_1").write_text("changed")
    job.save()
    assert jobs.files == {"input_1": b"changed"}


def test_two_input_files_of_one_name_are_refused(jobs: Jobs) -> None:
    job = jobs.manager().create_job("x", job_type="CONDOR", remote_input_files=["a/in", "b/in"])
    with pytest.raises(ValueError, match="two input files"):
        job.save()


def test_attributes_are_read_back_and_taken_out(jobs: Jobs) -> None:
    job = jobs.manager().create_job("x", job_type="CONDORJOB")
    assert isinstance(job, CondorJob)
    job.set_attribute("+Project", "water")
    job.set_attribute("transfer_output_files", ["a", "b"])
    assert (job.get_attribute("+Project"), job.get_attribute("transfer_output_files")) == ("water", ["a", "b"])
    job.set_attribute("+Project", None)
    job.delete_attribute("transfer_output_files")
    assert (job.get_attribute("+Project"), job.get_attribute("transfer_output_files")) == (None, [])


def test_dask_work_is_pickled_here_and_uploaded_before_it_is_asked_for(jobs: Jobs) -> None:
    job = jobs.manager().create_job("sum", job_type="DASK", scheduler="dask")
    with pytest.raises(ValueError, match="something to run"):
        job.execute()
    assert isinstance(job, DaskJob)
    job.execute(lambda: 1 + 2)
    assert jobs.view["dask"] == {"graph_file": "graph.pickle"}
    assert cloudpickle.loads(jobs.files["graph.pickle"])() == 3
    assert [request[1] for request in jobs.requests] == ["/jobs", f"/jobs/{JOB_ID}/execute"]


def test_a_dask_job_says_how_it_is_to_be_run(jobs: Jobs) -> None:
    how: dict[str, Any] = {"retries": 2, "workers": ["tcp://w:1"], "priority": 3, "on_lost": "resubmit"}
    job = jobs.manager().create_job("sum", job_type="DASK", scheduler="dask", worker_resources={"GPU": 1}, **how)
    job.execute(lambda: 1)
    assert jobs.view["dask"] == {"graph_file": "graph.pickle", "resources": {"GPU": 1}, **how}
    for wrong in ({"on_lost": "never"}, {"retries": -1}, {"worker_resources": {"GPU": -1}}):
        with pytest.raises(InvalidArgument):
            jobs.manager().create_job("sum", job_type="DASK", scheduler="dask", function="math:sqrt", **wrong).save()


@pytest.mark.parametrize(
    ("dashboard", "page"),
    [
        ("http://dask:8787", "http://dask:8787/info/task/j.1.html"),
        ("http://dask:8787/status", "http://dask:8787/info/task/j.1.html"),
        ("http://127.0.0.1:1/info/main/workers.html", "http://127.0.0.1:1/info/task/j.1.html"),
        ("https://portal/proxy/dask/status?x=1#a", "https://portal/proxy/dask/info/task/j.1.html"),
        ("dask:8787", "http://dask:8787/info/task/j.1.html"),
        ("", ""),
    ],
)
def test_a_runs_page_is_found_below_the_dashboard(dashboard: str, page: str) -> None:
    assert task_page(dashboard, "j.1") == page
    assert task_page(dashboard, "") == ""


@pytest.mark.parametrize("function", ["ab", "a:", ":b", "a:b:c", "a b:c", "a..b:c"])
def test_a_function_that_no_worker_can_import_is_refused_before_anything_is_sent(jobs: Jobs, function: str) -> None:
    with pytest.raises(InvalidArgument, match="MODULE:FUNCTION"):
        jobs.manager().create_job("sum", job_type="DASK", scheduler="dask", function=function).save()
    assert jobs.requests == []


@pytest.mark.parametrize("path", ["../x", "a/../b", "/etc/passwd", "", "a//b", "a/", "./a", ".."])
def test_paths_stay_in_the_workspace(jobs: Jobs, tmp_path: Path, path: str) -> None:
    job = jobs.manager().create_job("x", job_type="BASIC")
    job.save()
    (tmp_path / "here").write_text("here")
    calls: list[Callable[[], Any]] = [
        lambda: job.read(path),
        lambda: job.write(path, b""),
        lambda: job.download(path, tmp_path),
        lambda: list(job.chunks(path)),
        *([lambda: job.upload(tmp_path / "here", path)] if path else []),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument, match="must be relative"):
            call()
    assert len(jobs.requests) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["here"]
    if path.rstrip("/") not in ("", "a"):
        with pytest.raises(InvalidArgument):
            job.files(path)


def test_a_pickled_result_is_opened_only_on_request(jobs: Jobs) -> None:
    job = jobs.manager().create_job("sum", job_type="DASK", scheduler="dask", function="math:hypot", args=[3, 4])
    job.save()
    jobs.view["run"] = 1
    with pytest.raises(ResultUnavailable, match="no result"):
        job.result()
    jobs.files["run-1/result.pickle"] = cloudpickle.dumps({1, 2})
    with pytest.raises(ResultUnavailable, match="allow_pickle"):
        job.result()
    assert job.result(allow_pickle=True) == {1, 2}
    jobs.files["run-1/result.json"] = b"[5]"
    assert job.result() == [5]


def test_a_job_of_another_app_or_user_is_none(jobs: Jobs) -> None:
    manager = jobs.manager()
    jobs.view |= {"label": "my_app", "job_type": "BASIC", "name": "x"}
    assert isinstance(manager.get_job(JOB_ID), BasicJob)
    assert manager.get_job(JOB_ID, user="bob") is None
    jobs.view["label"] = "other"
    assert manager.get_job(JOB_ID) is None


@pytest.mark.parametrize("job_type", [None, "SLURM", object])
def test_an_unknown_type_is_named(jobs: Jobs, job_type: Any) -> None:
    with pytest.raises(ValueError, match="job_type is one of BASIC"):
        jobs.manager().create_job("x", job_type=job_type)


def test_users_and_groups_may_be_objects_of_a_framework(jobs: Jobs) -> None:
    class User:
        username = "bob"

    class Group:
        name = "hydro"

    job = jobs.manager().create_job("x", User(), Group(), "BASIC")
    assert (job.user, job.groups) == ("bob", ["hydro"])
    with pytest.raises(ValueError, match="not both"):
        jobs.manager().list_jobs(user=User(), groups=[Group()])
