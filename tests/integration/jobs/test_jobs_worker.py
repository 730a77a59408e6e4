"""The worker of an app against the real service: results are processed once, whatever happens to workers, functions and services."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger import App, Connection, Job, JobManager
from jobledger.errors import InvalidArgument, Refused
from tests.integration.jobs.conftest import Ground, service_on
from tests.support.eventually import eventually
from tests.support.jobs_service import JobsService

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

CODE = """
import os, pathlib, signal, time
CALLS = pathlib.Path(__file__).with_name("calls.txt")

def note(job):
    with CALLS.open("a") as calls:
        calls.write(f"{job.id} {job.run} {job.view.processing_attempt}\\n")

def rank(job):
    note(job)
    job.write("ranked.txt", b"1 2 3")
    return "3 pipes are ranked"

def fail(job):
    note(job)
    raise ValueError("the basin is dry")

def crash(job):
    os.kill(os.getpid(), signal.SIGSEGV)

def linger(job):
    note(job)
    time.sleep(3600 if job.view.processing_attempt == 1 else 0)

def patient(job):
    note(job)
    while not CALLS.with_name("go").exists():
        time.sleep(0.1)

def hang(job):
    note(job)
    time.sleep(3600)
"""


class Hydro:
    """An app with its code, its jobs, and its workers as processes."""

    def __init__(self, service: JobsService, folder: Path) -> None:
        self.service, self.folder = service, folder
        self.package = f"flood_{uuid.uuid4().hex[:8]}"
        (folder / f"{self.package}.py").write_text(CODE)
        self.connection = Connection(jobs_url=service.url, api_key=service.keys["ada"])
        self.manager: JobManager = App(self.package, connection=self.connection).get_job_manager()
        self._workers: list[subprocess.Popen[bytes]] = []

    def ended(self, function: str) -> Job:
        """A job whose run has ended well."""
        job = self.manager.create_job("flood", job_type="BASIC", process_results_function=f"{self.package}:{function}")
        job.execute()
        job.update_status("COM")
        assert job.cached_status == "Results-Ready"
        return job

    def worker(self, *options: str, user: str = "ada") -> subprocess.Popen[bytes]:
        environ = os.environ | {"JOBLEDGER_JOBS_URL": self.service.url, "JOBLEDGER_API_KEY": self.service.keys[user]}
        command = [Path(sys.executable).with_name("jobledger"), "worker", "--app", self.package, "--import-path", self.folder, *options]
        with self.log_file.open("ab") as log:
            self._workers.append(subprocess.Popen(command, env=environ, stdout=log, stderr=log))
        return self._workers[-1]

    @property
    def log_file(self) -> Path:
        return self.folder / "worker.log"

    def calls(self) -> list[list[str]]:
        """Job, run and attempt of every call of a function."""
        file = self.folder / "calls.txt"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()
        self.connection.close()


@pytest.fixture(scope="module")
def brisk(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsService]:
    """A service that tries again soon, and has the same address after a restart."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    one = service_on(ground, tmp_path_factory.mktemp("brisk"), http_port=port, processing_attempts=2, processing_retry_s=0.2)
    one.start()
    yield one
    one.end()


@pytest.fixture
def app(brisk: JobsService, tmp_path: Path) -> Iterator[Hydro]:
    one = Hydro(brisk, tmp_path)
    yield one
    one.close()


def events(job: Job) -> list[tuple[str, str]]:
    return [(entry.type, entry.verdict) for entry in job.history() if entry.type.startswith("ResultsProc")]


def test_results_are_processed_and_the_run_is_complete(app: Hydro) -> None:
    job = app.ended("rank")
    assert app.worker("--once").wait(60) == 0, app.log_file.read_text()
    assert (job.status, job.status_message) == ("Complete", "3 pipes are ranked")
    assert job.read("ranked.txt") == b"1 2 3"
    assert app.calls() == [[job.id, "1", "1"]]
    assert job.processing_failure() is None
    job.resubmit()
    job.update_status("COM")
    app.worker("--once").wait(60)
    assert [call[1] for call in app.calls()] == ["1", "2"]
    assert app.service.keys["ada"] not in app.log_file.read_text()


def test_a_function_that_raises_is_tried_again_and_then_an_error(app: Hydro) -> None:
    job, crash = app.ended("fail"), app.ended("crash")
    app.worker("--concurrency", "2")
    app.manager.wait([job, crash], timeout_s=60)
    assert (job.cached_status, crash.cached_status) == ("Error", "Error"), app.log_file.read_text()
    assert job.status_message == "Processing its results failed, after 2 attempts: ValueError: the basin is dry"
    assert crash.status_message.endswith("the process of the function was ended by SIGSEGV")
    assert [call[2] for call in app.calls()] == ["1", "2"]
    failure = job.processing_failure()
    assert failure is not None
    assert (failure.attempt, failure.last, failure.error) == (2, True, "ValueError: the basin is dry")
    assert 'raise ValueError("the basin is dry")' in failure.traceback
    assert [name for name, _ in events(job)] == ["ResultsProcessingStarted", "ResultsProcessingFailed"] * 2


def test_a_worker_that_is_killed_in_the_middle_is_replaced(app: Hydro) -> None:
    job = app.ended("linger")
    first = app.worker("--lease", "1")
    eventually(app.calls, timeout_s=30)
    first.kill()
    app.worker("--lease", "1")
    assert job.wait(timeout_s=60) == "Complete"
    assert [call[2] for call in app.calls()] == ["1", "2"]
    assert events(job) == [("ResultsProcessingStarted", "applied")] * 2 + [("ResultsProcessed", "applied")]
    eventually(lambda: not processes_with(job.id), timeout_s=10)


def test_a_function_that_hangs_or_was_stopped_is_ended(app: Hydro) -> None:
    job = app.ended("hang")
    worker = app.worker("--lease", "1", "--deadline", "600")
    eventually(app.calls, timeout_s=30)
    job.stop("enough")
    assert job.cached_status == "Aborted"
    eventually(lambda: not processes_with(job.id), timeout_s=20)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    late = app.ended("hang")
    app.worker("--deadline", "1")
    assert late.wait(timeout_s=60) == "Error"
    assert late.status_message.endswith("the function took longer than 1 s and was ended")


def test_a_restart_of_the_service_in_between_costs_nothing(app: Hydro) -> None:
    job, later = app.ended("patient"), app.ended("rank")
    app.worker("--lease", "30")
    eventually(app.calls, timeout_s=30)
    app.service.kill()
    (app.folder / "go").touch()
    app.service.start()
    app.manager.wait([job, later], timeout_s=60)
    assert [one.cached_status for one in (job, later)] == ["Complete"] * 2, app.log_file.read_text()
    assert [call[2] for call in app.calls()] == ["1", "1"]


def test_two_workers_that_race_process_each_of_fifty_jobs_once(app: Hydro) -> None:
    jobs = [app.ended("rank") for _ in range(50)]
    workers = [app.worker("--once", "--concurrency", "3") for _ in range(2)]
    assert [worker.wait(200) for worker in workers] == [0, 0], app.log_file.read_text()
    assert {job.status for job in jobs} == {"Complete"}
    assert Counter(call[0] for call in app.calls()) == dict.fromkeys((job.id for job in jobs), 1)


def test_a_worker_runs_only_what_it_may(app: Hydro) -> None:
    job = app.ended("rank")
    assert app.worker("--once", user="eve").wait(60) == 0
    assert job.status == "Results-Ready"
    assert app.worker("--once", "--allow", "elsewhere").wait(60) == 8
    assert "runs functions in elsewhere only" in job.refresh().status_message
    other = app.ended("rank")
    assert app.worker("--once", user="admin").wait(60) == 0
    assert (other.status, other.view.processing_attempt) == ("Results-Ready", 0)
    assert app.calls() == []
    assert app.worker("--once", "--allow", app.package, user="admin").wait(60) == 0
    assert other.status == "Complete"


def test_results_can_be_processed_in_ones_own_process(app: Hydro) -> None:
    sys.path.insert(0, str(app.folder))
    try:
        job = app.ended("rank")
        assert job.process_results_function is not None
        assert job.process_results() == "3 pipes are ranked"
        assert (job.cached_status, job.status_message) == ("Complete", "3 pipes are ranked")
        with pytest.raises(Refused, match="it is Complete"):
            job.process_results()
        failing = app.ended("fail")
        with pytest.raises(ValueError, match="dry"):
            failing.process_results()
        assert "is tried again" in failing.status_message
    finally:
        sys.path.remove(str(app.folder))
    with pytest.raises(InvalidArgument):
        app.manager.create_job("x", job_type="BASIC", process_results_function="no function")


def processes_with(text: str) -> list[str]:
    """The processes of this machine whose command line holds a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found
