"""Runs on a real Dask scheduler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobledger_contracts.job_events import DaskSpec, PauseRequested, StopRequested
from jobledger_contracts.statuses import Status
from jobledger_devstack import Stack
from tests.support.schedulers import LogView, Service, dask_body, register

pytestmark = [pytest.mark.stack, pytest.mark.anyio]


@pytest.fixture
async def dask(running: Service, admin_key: str, parts: Stack) -> Service:
    await register(running, admin_key, dask_body(parts))
    return running


async def test_a_function_is_called_and_its_result_comes_home(dask: Service, view: LogView, workspaces: Path) -> None:
    job_id = await view.run("dask", dask=DaskSpec(function="operator:mul", args=[6, 7]))
    await view.until(job_id, Status.COMPLETE)

    [results] = view.collected(job_id)
    texts = {file.path: (workspaces / job_id / file.path).read_text(errors="replace") for file in results.files}
    assert any(path.endswith(".json") and json.loads(text) == 42 for path, text in texts.items()), texts


async def test_a_function_that_fails_is_an_error_with_its_words(dask: Service, view: LogView) -> None:
    job = await view.until(await view.run("dask", dask=DaskSpec(function="operator:truediv", args=[1, 0])), Status.ERROR)
    assert "ZeroDivisionError" in job.status_message


async def test_a_run_is_stopped(dask: Service, view: LogView) -> None:
    job_id = await view.run("dask", dask=DaskSpec(function="time:sleep", args=[12]))
    await view.until(job_id, Status.RUNNING)
    await view.say(StopRequested(job_id=job_id))
    await view.until(job_id, Status.ABORTED)


async def test_what_dask_cannot_do_is_told(dask: Service, view: LogView) -> None:
    job_id = await view.run("dask", dask=DaskSpec(function="time:sleep", args=[12]))
    await view.until(job_id, Status.RUNNING)
    await view.say(PauseRequested(job_id=job_id))
    await view.until(job_id, lambda job: "not carried out" in job.status_message)
    await view.say(StopRequested(job_id=job_id))
    await view.until(job_id, Status.ABORTED)


async def test_killed_and_started_again_it_finds_its_runs(dask: Service, view: LogView) -> None:
    jobs = [await view.run("dask", dask=DaskSpec(function="time:sleep", args=[3])) for _ in range(3)]
    await view.until(jobs[0], Status.RUNNING, timeout_s=60)  # earlier tests may still have the worker: nothing ends running Python
    jobs += [await view.run("dask", dask=DaskSpec(function="operator:add", args=[number, 1])) for number in range(10)]
    dask.kill()
    dask.start()
    for job_id in jobs:
        await view.until(job_id, Status.COMPLETE, timeout_s=90)
        assert len(view.collected(job_id)) == 1
