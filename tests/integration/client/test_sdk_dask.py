"""What the SDK does with Dask beyond functions and graphs, on the whole system."""

from __future__ import annotations

import httpx
import pytest

from jobledger import App, Connection, DaskJob, JobManager
from jobledger.errors import InvalidArgument, ResultUnavailable
from jobledger_devstack.model import Endpoints
from tests.support.eventually import eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
DASK = "local-dask"


def test_a_future_is_taken_over_and_outlives_its_owner(manager: JobManager, whole_stack: Endpoints) -> None:
    from distributed import Client

    def slowly(number: int) -> int:
        import time

        time.sleep(2)
        return number * 2

    with Client(whole_stack.dask_address) as client:  # type: ignore[no-untyped-call]
        future = client.submit(slowly, 21)
        job = manager.create_job("a future", job_type="DASK", scheduler=DASK)
        job.execute(future)
        with pytest.raises(InvalidArgument, match="cannot be tried again"):
            manager.create_job("again", job_type="DASK", scheduler=DASK, retries=1).execute(future)
        del future
    assert job.wait(timeout_s=120) == "Complete", job.history()
    assert job.result() == 42
    with Client(whole_stack.dask_address) as client:  # type: ignore[no-untyped-call]
        assert not [name for name in client.list_datasets() if name.startswith("jobledger-")]
    job.resubmit()
    assert job.wait(timeout_s=120) == "Error"
    with pytest.raises(ResultUnavailable, match="used up before"):
        job.result()


def test_a_large_result_comes_by_the_workers_own_way(manager: JobManager) -> None:
    def large(jobledger: object) -> str:
        jobledger.save("plots/map.txt", b"a map")  # type: ignore[attr-defined]
        print("saved a map")
        return "x" * (20 * 2**20)

    job = manager.create_job("large", job_type="DASK", scheduler=DASK)
    job.execute(large)
    assert job.wait(timeout_s=120) == "Complete", job.history()
    assert len(job.result()) == 20 * 2**20
    assert job.read("run-1/plots/map.txt") == b"a map"
    assert job.read("run-1/stdout.txt") == b"saved a map\n"
    [told] = [entry.data["files"] for entry in job.history() if entry.type == "ResultsCollected"]
    assert sorted(file["path"] for file in told) == ["run-1/plots/map.txt", "run-1/result.json", "run-1/stdout.txt"]


def test_what_a_dask_run_prints_is_followed(manager: JobManager) -> None:
    def count() -> None:
        import time

        for number in range(8):
            print(number, flush=True)
            time.sleep(0.5)

    job = manager.create_job("count", job_type="DASK", scheduler=DASK)
    job.execute(count)
    pieces = list(job.tail(follow=True))
    assert b"".join(pieces) == b"".join(b"%d\n" % number for number in range(8))
    assert len(pieces) > 1
    assert job.status == "Complete"


def test_a_job_has_a_page_on_its_schedulers_dashboard(connection: Connection, whole_stack: Endpoints) -> None:
    job = App("client_tests", connection=connection).get_job_manager().create_job("page", job_type="DASK", scheduler=DASK)
    assert isinstance(job, DaskJob)
    assert job.dashboard_link == ""
    job.execute(lambda jobledger: [__import__("time").sleep(0.1) for _ in range(100) if not jobledger.stopped()])

    def page() -> httpx.Response | None:
        answer = httpx.get(job.dashboard_link, timeout=10, trust_env=False)
        return answer if answer.status_code == 200 else None  # the scheduler does not have the run yet

    shown = eventually(page, 60, 0.5)
    assert shown is not None
    assert shown.url.path.endswith(f"/info/task/{job.run_id}.html")
    job.stop("seen")
    assert job.wait(timeout_s=60) == "Aborted"
