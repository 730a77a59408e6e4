"""Runs on a real HTCondor pool, asked for on a real log, told of by the service as a process."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger_contracts.job import Job
from jobledger_contracts.job_events import CondorSpec, PauseRequested, ResubmitRequested, ResumeRequested, StopRequested
from jobledger_contracts.statuses import Status
from jobledger_devstack import Stack
from tests.support.eventually import eventually_async
from tests.support.pool import submissions_by_run
from tests.support.schedulers import LogView, Service, condor_body, fresh_job_id, register

pytestmark = [pytest.mark.stack, pytest.mark.anyio]


def script(workspaces: Path, job_id: str, text: str, **files: str) -> None:
    folder = workspaces / job_id
    folder.mkdir(parents=True)
    (folder / "run.sh").write_text(f"#!/bin/sh\n{text}\n")
    for name, content in files.items():
        (folder / name).write_text(content)


async def start(view: LogView, workspaces: Path, text: str, **spec: object) -> str:
    job_id = fresh_job_id()
    script(workspaces, job_id, text, data="42")
    return await view.run("pool", condor=CondorSpec(executable="run.sh", **spec), job_id=job_id)


@pytest.fixture
async def condor(running: Service, admin_key: str, pool: Stack) -> Service:
    await register(running, admin_key, condor_body(pool))
    return running


async def test_a_run_goes_to_the_queue_at_once_and_its_output_comes_home_before_its_end_is_told(
    condor: Service, view: LogView, workspaces: Path
) -> None:
    await view.until(await start(view, workspaces, "true"), "Complete")

    asked_at = time.monotonic()
    job_id = await start(view, workspaces, "cat data; echo made > made.txt; env > env.txt; sleep 2", input_files=["data"])
    await view.until(job_id, lambda job: bool(job.scheduler_job_ref))
    to_queue_s = time.monotonic() - asked_at
    job = await view.until(job_id, Status.COMPLETE)

    assert to_queue_s < 1.0
    assert view.statuses(job_id) == ["Submitted", "Running", "Complete"], view.reports(job_id)
    assert (job.exit_code, job.exit_signal) == (0, None)
    [results] = view.collected(job_id)
    order = [type(f.event.data).__name__ for f in view.events(job_id)][-2:]
    assert order == ["ResultsCollected", "StatusChanged"]
    by_name = {file.path: file for file in results.files}
    assert {"run-1/stdout.txt", "run-1/stderr.txt", "run-1/made.txt", "run-1/condor.log"} <= by_name.keys()
    output = workspaces / job_id / "run-1"
    assert (output / "stdout.txt").read_text() == "42"
    assert by_name["run-1/made.txt"].sha256 == hashlib.sha256(b"made\n").hexdigest()
    environment = dict(line.split("=", 1) for line in (output / "env.txt").read_text().splitlines() if "=" in line)
    assert environment["JOBLEDGER_RUN_ID"] == f"{job_id}.1"
    assert environment["JOBLEDGER_CALLBACK_URL"].endswith(f"/update-job-status/{job_id}/")
    assert not any("credential" in name for name in by_name)


async def test_a_failing_program_is_an_error_with_its_exit_code_and_its_output(condor: Service, view: LogView, workspaces: Path) -> None:
    job = await view.until(await start(view, workspaces, "echo no >&2; exit 7"), Status.ERROR)

    assert job.exit_code == 7
    assert "7" in job.status_message
    assert (workspaces / job.job_id / "run-1" / "stderr.txt").read_text() == "no\n"


async def test_a_program_that_kills_itself_is_an_error_with_its_signal(condor: Service, view: LogView, workspaces: Path) -> None:
    job = await view.until(await start(view, workspaces, "kill -9 $$"), Status.ERROR)

    assert job.exit_signal == 9
    assert job.exit_code is None


async def test_a_missing_program_is_refused_in_plain_words(condor: Service, view: LogView) -> None:
    job = await view.until(await view.run("pool", condor=CondorSpec(executable="nothing.sh")), Status.ERROR)

    assert "nothing.sh" in job.status_message
    assert job.scheduler_job_ref == ""


async def test_a_run_is_stopped(condor: Service, view: LogView, workspaces: Path) -> None:
    job_id = await start(view, workspaces, "sleep 300")
    await view.until(job_id, Status.RUNNING)
    asked_at = time.monotonic()
    await view.say(StopRequested(job_id=job_id, reason="enough"))
    await view.until(job_id, Status.ABORTED)
    assert time.monotonic() - asked_at < 8


async def test_a_run_that_is_stopped_at_once_ends_aborted_and_nothing_of_it_is_left(
    condor: Service, view: LogView, workspaces: Path, pool: Stack
) -> None:
    job_ids = []
    for _ in range(5):
        job_id = await start(view, workspaces, "sleep 300")
        await view.say(StopRequested(job_id=job_id))
        job_ids.append(job_id)
    for job_id in job_ids:
        await view.until(job_id, Status.ABORTED)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that jobs may write into, whoever they run as."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


async def test_a_held_run_is_paused_with_the_reason_and_goes_on_when_released(
    condor: Service, view: LogView, workspaces: Path, open_folder: Path
) -> None:
    job_id = await start(view, workspaces, f": > {open_folder}/at-work; exec sleep 600")
    await view.until(job_id, Status.RUNNING)
    # HTCondor says that it runs a moment before it does, and lets a job that was held in that moment wait for minutes when released.
    await eventually_async((open_folder / "at-work").exists, 30, 0.1)
    await view.say(PauseRequested(job_id=job_id, reason="maintenance tonight"))
    paused = await view.until(job_id, Status.PAUSED)
    await view.say(ResumeRequested(job_id=job_id))
    running = await view.until(job_id, Status.RUNNING)
    await view.say(StopRequested(job_id=job_id))
    await view.until(job_id, Status.ABORTED)

    assert "maintenance tonight" in paused.status_message
    assert running.restarts == 1


async def test_a_run_can_be_asked_for_again(condor: Service, view: LogView, workspaces: Path) -> None:
    job_id = await start(view, workspaces, "exit 1")
    await view.until(job_id, Status.ERROR)
    (workspaces / job_id / "run.sh").write_text("#!/bin/sh\necho second\n")
    await view.say(ResubmitRequested(job_id=job_id))
    job: Job = await view.until(job_id, Status.COMPLETE)

    assert job.run == 2
    assert (workspaces / job_id / "run-2" / "stdout.txt").read_text() == "second\n"


async def test_killed_at_any_moment_it_submits_nothing_twice_and_loses_nothing(
    condor: Service, view: LogView, workspaces: Path, pool: Stack
) -> None:
    jobs = [await start(view, workspaces, "sleep 1") for _ in range(10)]
    for round_number in range(4):
        jobs += await asyncio.gather(*(start(view, workspaces, "sleep 1") for _ in range(12)))
        await asyncio.sleep(0.05 + 0.11 * round_number)  # somewhere in the middle of handing them over
        condor.kill()
        condor.start(wait=False)
    for job_id in jobs:
        await view.until(job_id, Status.COMPLETE, timeout_s=120)

    submissions = submissions_by_run(pool)
    for job_id in jobs:
        assert len(submissions[f"{job_id}.1"]) == 1, f"{job_id} was handed over more than once"
        assert len(view.collected(job_id)) == 1
        assert (workspaces / job_id / "run-1" / "stdout.txt").exists()


async def test_it_stops_in_good_order_and_goes_on(condor: Service, view: LogView, workspaces: Path) -> None:
    job_id = await start(view, workspaces, "sleep 3")
    await view.until(job_id, Status.RUNNING)
    assert condor.stop() == 0
    condor.start()
    await view.until(job_id, Status.COMPLETE)


def child_pids(pid: int) -> list[int]:
    return [int(p) for task in Path(f"/proc/{pid}/task").iterdir() for p in (task / "children").read_text().split()]


async def test_its_helpers_do_not_outlive_it(condor: Service, view: LogView, workspaces: Path) -> None:
    await view.until(await start(view, workspaces, "true"), Status.COMPLETE)
    helpers = child_pids(condor.pid)
    assert helpers
    condor.kill()
    deadline = time.monotonic() + 5
    while any(_lives(pid) for pid in helpers):
        assert time.monotonic() < deadline, "a helper process is still there"
        await asyncio.sleep(0.1)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_a_scheduler_that_does_not_answer_is_told_of_once_and_its_runs_are_not_blamed(
    condor: Service, view: LogView, workspaces: Path, pool: Stack
) -> None:
    job_id = await start(view, workspaces, "sleep 4")
    await view.until(job_id, Status.RUNNING)
    schedd = _schedd_pid(pool)
    os.kill(schedd, signal.SIGSTOP)
    try:
        await eventually_down(view)
    finally:
        os.kill(schedd, signal.SIGCONT)
    await view.until(job_id, Status.COMPLETE, timeout_s=90)

    assert view.statuses(job_id) == ["Submitted", "Running", "Complete"]
    assert view.healths("pool") == ["up", "down", "up"]


async def eventually_down(view: LogView) -> None:
    deadline = time.monotonic() + 120
    while view.healths("pool") != ["up", "down"]:
        assert time.monotonic() < deadline, view.healths("pool")
        await asyncio.sleep(0.2)


def _schedd_pid(pool: Stack) -> int:
    home = str(pool.endpoints().home)
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name = (folder / "comm").read_text().strip()
            environment = (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if name == "condor_schedd" and home in environment:
            return int(folder.name)
    raise AssertionError("no schedd of this pool")
