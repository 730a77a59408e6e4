"""A Dask scheduler that hangs, and one that is killed, with a hundred runs at work: each ends right, and none is told wrong meanwhile."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger_contracts.job_events import DaskSpec
from jobledger_contracts.statuses import Status
from tests.support.dask_cluster import DaskCluster
from tests.support.eventually import eventually_async
from tests.support.schedulers import LogView, Service, register

pytestmark = [pytest.mark.stack, pytest.mark.anyio, pytest.mark.timeout(300)]
RUNS = 100


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """One worker with room for all runs."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = DaskCluster(folder)
    cluster.start_scheduler()
    cluster.start_worker("first", RUNS)
    yield cluster
    cluster.end()


async def test_a_hundred_runs_survive_a_scheduler_that_hangs_and_one_that_dies(
    running: Service, admin_key: str, view: LogView, cluster: DaskCluster, tmp_path: Path, workspaces: Path
) -> None:
    await register(running, admin_key, {"name": "dask", "type": "dask", "host": cluster.address, "timeout_s": 2})
    gate = tmp_path / "gate"
    gate.touch()
    # Half of them may be done twice, and say so.
    specs = [DaskSpec(function="helpers:hold", args=[str(gate)], on_lost=("error", "resubmit")[number % 2]) for number in range(RUNS)]
    jobs = [await view.run("dask", dask=spec) for spec in specs]

    def counted() -> Counter[Status]:
        return Counter(view.job(job_id).status for job_id in jobs)

    await eventually_async(lambda: counted() == {Status.RUNNING: RUNS}, 90, 1)

    cluster.signal("scheduler", signal.SIGSTOP)
    await eventually_async(lambda: view.healths("dask")[-1:] == ["down"], 40, 0.5)
    assert counted() == {Status.RUNNING: RUNS}
    cluster.signal("scheduler", signal.SIGCONT)
    await eventually_async(lambda: view.healths("dask")[-1] != "down", 60, 0.5)
    assert counted() == {Status.RUNNING: RUNS}

    cluster.signal("scheduler", signal.SIGKILL)
    await eventually_async(lambda: view.healths("dask")[-1] == "down", 40, 0.5)
    assert counted() == {Status.RUNNING: RUNS}
    gate.unlink()
    cluster.signal("first", signal.SIGKILL)  # it would leave by itself
    cluster.start_scheduler()
    cluster.start_worker("second", 8)
    await eventually_async(lambda: counted() == {Status.COMPLETE: RUNS // 2, Status.ERROR: RUNS // 2}, 120, 1)

    for job_id, spec in zip(jobs, specs, strict=True):
        job, said = view.job(job_id), view.statuses(job_id)
        if spec.on_lost == "resubmit":
            assert (job.status, job.restarts) == (Status.COMPLETE, 1)
            assert said == [
                Status.SUBMITTED,
                Status.RUNNING,
                Status.SUBMITTED,
                *([Status.RUNNING] if len(said) == 5 else []),
                Status.COMPLETE,
            ]
            assert json.loads((workspaces / job_id / "run-1" / "result.json").read_text()) == "done"
        else:
            assert (job.status, job.restarts) == (Status.ERROR, 0)
            assert "The run is lost" in job.status_message
            assert not view.collected(job_id)
