"""Functions by name, and which of them a worker runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobledger import App, Connection
from jobledger.cli.show import processing
from jobledger.errors import InvalidArgument, NotSaved
from jobledger.processing import last_line, module_of, path_of, resolve, resolve_or_none
from jobledger.views import JobView
from jobledger.worker import Worker
from jobledger.worker_child import Outcome, call


def plot(job: Any) -> str:
    return f"plotted {job}"


class Results:
    @staticmethod
    def plot(job: Any) -> None: ...


def test_a_function_is_named_by_where_it_is_imported_from() -> None:
    assert path_of(plot) == f"{__name__}:plot"
    assert path_of(Results.plot) == f"{__name__}:Results.plot"
    assert resolve(path_of(Results.plot)) is Results.plot
    assert resolve(f"{__name__}.plot") is plot
    assert (path_of("a.b:c.d"), path_of("a.b"), path_of(""), path_of(None)) == ("a.b:c.d", "a.b", "", "")
    assert (module_of("a.b:c.d"), module_of("a.b.c")) == ("a.b", "a.b")


@pytest.mark.parametrize("bad", ["plot", "a b:c", "a:b:c", "a.", ":b", "a:b\n", "ä:b", "os.system('x')", lambda job: None, 7])
def test_what_cannot_be_found_by_name_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidArgument):
        path_of(bad)


def test_a_function_of_the_running_script_is_refused_with_advice() -> None:
    def script(job: Any) -> None: ...

    script.__module__, script.__qualname__ = "__main__", "script"
    with pytest.raises(InvalidArgument, match="move it to a module"):
        path_of(script)


@pytest.mark.parametrize("path", ["", "no_such_module:f", f"{__name__}:no_such", "os:name"])
def test_what_cannot_be_resolved_is_none(path: str) -> None:
    assert resolve_or_none(path) is None


class TestJob:
    MANAGER = App("flood", connection=Connection(jobs_url="http://nowhere.example", api_key="k")).get_job_manager()

    def test_the_function_is_set_as_one_or_by_name_and_read_as_a_handle(self) -> None:
        job = self.MANAGER.create_job("n", job_type="BASIC", process_results_function=plot)
        assert (job.process_results_path, job.process_results_function) == (f"{__name__}:plot", plot)
        assert job._body()["process_results_function"] == f"{__name__}:plot"
        job.process_results_function = "flood.results.rank"  # type: ignore[assignment]  # the setter takes more than the getter gives
        assert (job.process_results_path, job.process_results_function) == ("flood.results.rank", None)
        job.process_results_function = None
        assert "process_results_function" not in job._body()

    def test_taking_it_away_again_is_sent(self) -> None:
        job = self.MANAGER.create_job("n", job_type="BASIC")
        job.load(JobView(id="1", name="n", label="flood", job_type="BASIC", process_results_function="a:b"))
        job.process_results_function = None
        assert job._body()["process_results_function"] == ""

    def test_nothing_can_be_processed_of_what_is_not_saved(self) -> None:
        with pytest.raises(NotSaved):
            self.MANAGER.create_job("n", job_type="BASIC", process_results_function=plot).process_results()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "a:b"),
        ({"status_code": "RES"}, "a:b, waits for a worker of flood"),
        ({"status_code": "RES", "processing_attempt": 1}, "a:b, waits for attempt 2 by a worker of flood"),
        ({"status_code": "RES", "processing_attempt": 2, "processing": True}, "a:b, attempt 2 is under way"),
        ({"process_results_function": ""}, ""),
    ],
)
def test_the_command_says_how_far_processing_is(changes: dict[str, Any], expected: str) -> None:
    assert processing(msgspec.structs.replace(JobView(label="flood", process_results_function="a:b"), **changes)) == expected


class TestWorker:
    @staticmethod
    def worker(*allow: str) -> Worker:
        return Worker("flood", Connection(jobs_url="http://nowhere.example", api_key="k"), allow=allow)

    @pytest.mark.parametrize(
        ("path", "runs"), [("flood:f", True), ("flood.results.f", True), ("floods:f", False), ("other.flood:f", False)]
    )
    def test_with_packages_it_runs_what_is_in_them(self, path: str, runs: bool) -> None:
        assert (self.worker("flood", "gis")._refusal(path) == "") is runs
        assert self.worker()._refusal(path) == ""

    def test_the_child_finds_the_same_services_and_the_code(self, tmp_path: Path) -> None:
        one = Worker("flood", Connection(jobs_url="http://nowhere.example", api_key="k"), import_paths=[tmp_path])
        environ = one._environment()
        assert (environ["JOBLEDGER_JOBS_URL"], environ["JOBLEDGER_API_KEY"]) == ("http://nowhere.example", "k")
        assert environ["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path)


class TestChild:
    def test_whatever_happens_in_it_is_told(self) -> None:
        outcome = call("no-such-job", "no_such_module:f")
        assert outcome.error in outcome.traceback.splitlines()[-1]

    def test_an_outcome_is_small_when_all_went_well(self) -> None:
        assert msgspec.json.encode(Outcome()) == b"{}"

    def test_the_last_line_is_what_a_traceback_ends_with(self) -> None:
        assert last_line(ValueError("two\nlines")) == "lines"
        assert last_line(KeyError("x")) == "KeyError: 'x'"

    def test_it_ends_with_its_worker(self, tmp_path: Path) -> None:
        (tmp_path / "slow.py").write_text("import time, jobledger.worker_child as c\nc.call = lambda *_: time.sleep(600)\nc.main()\n")
        child = subprocess.Popen(
            [sys.executable, tmp_path / "slow.py", "job", "a:b", tmp_path / "outcome"], stdin=subprocess.PIPE, start_new_session=True
        )
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(30) == -signal.SIGKILL
