"""The Dask adapter where things go wrong: lost schedulers and workers, hostile results, other versions."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec
import pytest

from jobledger_contracts.job_events import DaskSpec
from jobledger_contracts.statuses import Status
from jobledger_schedulers.adapters.dask.adapter import DaskAdapter
from jobledger_schedulers.adapters.dask.session import check_versions
from jobledger_schedulers.adapters.port import Handle, Incompatible, Observation, OutcomeUnknown, RunSpec, SubmitRefused, Unreachable
from tests.integration.adapters.conftest import new_run
from tests.support.dask_cluster import DaskCluster
from tests.support.eventually import eventually_async
from tests.support.pools import dask_settings

pytestmark = [pytest.mark.anyio, pytest.mark.stack]

WAIT_S = 60.0


@asynccontextmanager
async def opened(cluster: DaskCluster, tmp_path: Path, timeout_s: float = 10) -> AsyncIterator[DaskAdapter]:
    adapter = DaskAdapter(dask_settings(cluster.address, tmp_path / "private", timeout_s=timeout_s))
    try:
        yield adapter
    finally:
        await adapter.close()


def call(function: str, *args: Any, folder: Path = Path("/"), credential: str = "", **kwargs: Any) -> RunSpec:
    spec = DaskSpec(function=function, args=list(args), kwargs=kwargs)
    return RunSpec(
        run_id=new_run(), job_name="x", dask=spec, input_dir=folder, environment={"JOBLEDGER_JOB_ID": "j1"}, credential=credential
    )


def graph(work: Any, folder: Path) -> RunSpec:
    run = new_run()
    (folder / run).write_bytes(cloudpickle.dumps(work))
    return RunSpec(run_id=run, job_name="x", dask=DaskSpec(graph_file=run), input_dir=folder)


async def until(adapter: DaskAdapter, run: str, wanted: Callable[[Observation], bool]) -> Observation:
    last: list[Observation] = []

    async def look() -> bool:
        last[:] = await adapter.observe([run])
        return wanted(last[0])

    wait: Any = eventually_async
    try:
        await wait(look, WAIT_S, 0.1)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from error
    return last[0]


async def test_the_scheduler_hears_that_we_live(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    from distributed import Client

    settings = msgspec.structs.replace(dask_settings(dask_cluster.address, tmp_path / "private"), heartbeat_interval_s=0.1)
    adapter = DaskAdapter(settings)

    def last_seen(dask_scheduler: Any) -> dict[str, float]:
        return {name: client.last_seen for name, client in dask_scheduler.clients.items() if name.startswith("jobledger-")}

    try:
        await adapter.submit([call("math:sqrt", 4)])
        async with Client(dask_cluster.address, asynchronous=True) as client:  # type: ignore[no-untyped-call]
            first = await client.run_on_scheduler(last_seen)  # type: ignore[no-untyped-call]

            async def later() -> bool:
                seen = await client.run_on_scheduler(last_seen)  # type: ignore[no-untyped-call]
                return first.keys() == seen.keys() and all(seen[name] > first[name] for name in first)

            assert first
            await eventually_async(later, 10, 0.1)
    finally:
        await adapter.close()


async def outcome(adapter: DaskAdapter, spec: RunSpec, target: Path) -> tuple[Observation, dict[str, bytes]]:
    (answer,) = await adapter.submit([spec])
    assert isinstance(answer, Handle), answer
    seen = await until(adapter, spec.run_id, lambda o: o.results_ready)
    collected = (await adapter.collect([spec.run_id], lambda _: target))[spec.run_id]
    assert not collected.error
    return seen, {name: (target / name).read_bytes() for name in collected.files}


async def test_functions_graphs_and_collections_are_opened_on_the_worker(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    import dask

    async with opened(dask_cluster, tmp_path) as adapter:
        _, files = await outcome(adapter, call("helpers:add", 40, b=2), tmp_path / "a")
        assert json.loads(files["result.json"]) == 42
        inc = dask.delayed(_increment())  # type: ignore[attr-defined]
        _, files = await outcome(adapter, graph(dask.delayed(sum)([inc(n) for n in range(10)]), tmp_path), tmp_path / "b")  # type: ignore[attr-defined]
        assert json.loads(files["result.json"]) == 55
        _, files = await outcome(adapter, call("helpers:pair"), tmp_path / "c")
        assert list(files) == ["result.pickle"]


def _increment() -> Callable[[int], int]:
    return lambda n: n + 1


async def test_the_credential_is_a_private_file_on_the_worker(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        _, files = await outcome(adapter, call("helpers:context", credential="jlr_hush"), tmp_path / "a")
    assert json.loads(files["result.json"]) == {"credential": "jlr_hush\n", "mode": "0o600", "job": "j1"}
    assert not [log for log in (tmp_path / "cluster").glob("*.log") if "jlr_hush" in log.read_text()]


async def test_an_error_is_told_with_the_users_own_frames(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        seen, files = await outcome(adapter, call("helpers:add", 1, b="x"), tmp_path / "a")
        assert seen.status is Status.ERROR
        assert seen.message.startswith("TypeError: unsupported operand")
        assert b"helpers.py" in files["error.txt"]
        assert b"jobledger" not in files["error.txt"].replace(str(tmp_path).encode(), b"")
        seen, _ = await outcome(adapter, call("helpers:leave"), tmp_path / "b")
        assert (seen.status, seen.message) == (Status.ERROR, "SystemExit: 3")
        seen, _ = await outcome(adapter, call("no.such:thing"), tmp_path / "c")
        assert seen.status is Status.ERROR
        seen, files = await outcome(adapter, call("helpers:many", 65 * 2**20), tmp_path / "d")
        assert "write it to a file" in seen.message


async def test_hostile_results_are_not_executed_here(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    """A worker may hand back anything, and make anything fail: the marks would be written by whoever unpickles them."""
    from distributed import Client
    from distributed.worker import Worker

    here = tmp_path / "opened-here"

    class Bomb(Exception):
        def __reduce__(self) -> tuple[Any, ...]:
            # Harmless on the worker and the scheduler, which open each other's pickles: only this process has this pid.
            return exec, (f"import os, pathlib\nif os.getpid() == {os_getpid()}: pathlib.Path({str(here)!r}).touch()",)

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = Exception.__hash__

    async with opened(dask_cluster, tmp_path) as adapter:
        good, result, failing = new_run(), new_run(), new_run()
        await adapter.submit([call("helpers:add", 1, 1)])
        bomb = Bomb("boom")
        async with Client(dask_cluster.address, asynchronous=True) as client:  # type: ignore[no-untyped-call]
            # Tasks under run ids that are not our task's: their results and errors are objects.
            def hand_back() -> Any:
                return bomb

            def fail() -> Any:
                raise bomb

            def shout(dask_worker: Worker) -> None:
                dask_worker.log_event("jobledger-runs", {"run_id": good, "event": "started", "execution": "e"})

            first = client.submit(hand_back, key=result, pure=False)
            second = client.submit(fail, key=failing, pure=False)
            await client.run(shout)
            seen = await until(adapter, result, lambda o: o.results_ready)
            assert (seen.status, seen.message) == (Status.ERROR, "the worker handed back something else than the job's result")
            seen = await until(adapter, failing, lambda o: o.results_ready)
            assert seen.status is Status.ERROR
            await adapter.collect([result, failing], lambda run: tmp_path / run)
            assert not here.exists(), "a pickle was opened in the service's process"
            del first, second
        cloudpickle.loads(cloudpickle.dumps(bomb))
        assert here.exists(), "the bomb proves nothing"


def os_getpid() -> int:
    import os

    return os.getpid()


async def test_a_user_pickle_is_not_opened_here(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    here = tmp_path / "opened-here"

    class Work:
        def __reduce__(self) -> tuple[Any, ...]:
            return eval, (f"lambda: __import__('os').getpid() == {os_getpid()} and open({str(here)!r}, 'w')",)

    async with opened(dask_cluster, tmp_path) as adapter:
        seen, files = await outcome(adapter, graph(Work(), tmp_path), tmp_path / "a")
    assert (seen.status, files) == (Status.COMPLETE, {"result.json": b"false"})
    assert not here.exists()


async def test_events_are_pushed(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        spec = call("helpers:slow", 0.5)
        await adapter.submit([spec])
        heard: list[Status | None] = []
        assert adapter.events is not None
        async with asyncio.timeout(WAIT_S):
            async for seen in adapter.events:
                if seen.run_id == spec.run_id:
                    heard.append(seen.status)
                if seen.results_ready:
                    break
        assert heard[-1] is Status.COMPLETE
        await adapter.events.aclose()  # type: ignore[attr-defined]


async def test_a_run_whose_worker_dies_is_done_by_another(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    async with opened(dask_cluster, tmp_path) as adapter:
        spec = call("helpers:once_per_worker", str(marks), 2)
        await adapter.submit([spec])
        await until(adapter, spec.run_id, lambda o: o.status is Status.RUNNING and bool(list(marks.iterdir())))
        dask_cluster.signal("worker", signal.SIGKILL)
        # The scheduler takes the task back a moment before the look that finds its execution over.
        seen = await until(adapter, spec.run_id, lambda o: o.status is not Status.RUNNING and o.restarts > 0)
        assert (seen.status, seen.restarts) == (Status.SUBMITTED, 1)
        dask_cluster.start_worker("second")
        seen = await until(adapter, spec.run_id, lambda o: o.results_ready)
        assert (seen.status, seen.restarts) == (Status.COMPLETE, 1)
        assert len(list(marks.iterdir())) == 2


async def test_a_run_that_kills_workers_is_an_error_with_words(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        spec = call("helpers:die")
        await adapter.submit([spec])
        for number in range(4):
            dask_cluster.start_worker(f"more-{number}")
        seen = await until(adapter, spec.run_id, lambda o: o.results_ready)
        assert seen.status is Status.ERROR
        assert "KilledWorker" in seen.message
        collected = (await adapter.collect([spec.run_id], lambda _: tmp_path / "a"))[spec.run_id]
        assert collected.files == ["error.txt"]


async def test_a_restarted_scheduler_has_forgotten_and_says_so(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        spec = call("helpers:slow", 60)
        await adapter.submit([spec])
        dask_cluster.signal("scheduler", signal.SIGKILL)
        with pytest.raises(Unreachable):
            await adapter.observe([spec.run_id])
        dask_cluster.start_scheduler()
        dask_cluster.start_worker("second")
        (seen,) = await adapter.observe([spec.run_id])
        assert (seen.gone, seen.status) == (True, None)
        again = call("helpers:add", 1, 1)
        seen, _ = await outcome(adapter, again, tmp_path / "a")
        assert seen.status is Status.COMPLETE


async def test_a_scheduler_that_hangs_is_found_out_and_nothing_wrong_is_said(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async with opened(dask_cluster, tmp_path, timeout_s=2) as adapter:
        spec = call("helpers:slow", 1)
        await adapter.submit([spec])
        dask_cluster.signal("scheduler", signal.SIGSTOP)
        try:
            async with asyncio.timeout(20):
                with pytest.raises(Unreachable):
                    await adapter.ping()
                with pytest.raises(Unreachable):
                    await adapter.observe([spec.run_id])
                with pytest.raises((Unreachable, OutcomeUnknown)):
                    await adapter.submit([call("helpers:add", 1, 1)])
        finally:
            dask_cluster.signal("scheduler", signal.SIGCONT)
        seen = await until(adapter, spec.run_id, lambda o: o.results_ready)
        assert seen.status is Status.COMPLETE


async def test_nobody_there_is_unreachable(tmp_path: Path, unused_port: int) -> None:
    adapter = DaskAdapter(dask_settings(f"tcp://127.0.0.1:{unused_port}", tmp_path))
    with pytest.raises(Unreachable, match="does not answer"):
        await adapter.ping()
    with pytest.raises(Unreachable):
        await adapter.submit([call("helpers:add", 1, 1)])
    await adapter.close()


class _Rpc:
    """Answers for versions as some other scheduler would."""

    address = "tcp://elsewhere:8786"
    timeout_s = 1.0

    def __init__(self, python: str, dask: str, worker_python: str | None = None) -> None:
        self._scheduler, self._worker = _versions(python, dask), _versions(worker_python or python, dask)

    async def call(self, op: str, **_: Any) -> Any:
        return self._scheduler if op == "versions" else {"tcp://worker:1": self._worker}


def _versions(python: str, dask: str) -> dict[str, Any]:
    return {"host": {"python": python}, "packages": {"dask": dask, "distributed": dask}}


async def test_other_versions_are_refused_clearly() -> None:
    import platform
    from importlib.metadata import version

    python, dask = platform.python_version(), version("dask")
    check: Any = check_versions
    assert await check(_Rpc(python, dask)) == dask
    with pytest.raises(Incompatible, match=r"scheduler at tcp://elsewhere:8786 runs python 2\.7 \(here 3"):
        await check(_Rpc("2.7.18", dask))
    with pytest.raises(Incompatible, match=r"dask 2020\.1 "):
        await check(_Rpc(python, "2020.1.0"))
    with pytest.raises(Incompatible, match="worker tcp://worker:1 runs python"):
        await check(_Rpc(python, dask, worker_python="3.4.1"))


async def test_what_cannot_be_run_is_refused(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    (tmp_path / "leak").symlink_to("/etc/hostname")
    specs = [
        call("os.system"),
        call("os:system('x')"),
        RunSpec(run_id=new_run(), job_name="x", dask=DaskSpec(), input_dir=tmp_path),
        RunSpec(run_id=new_run(), job_name="x", dask=DaskSpec(graph_file="../x"), input_dir=tmp_path),
        RunSpec(run_id=new_run(), job_name="x", dask=DaskSpec(graph_file="leak"), input_dir=tmp_path),
    ]
    async with opened(dask_cluster, tmp_path) as adapter:
        assert [type(answer) for answer in await adapter.submit(specs)] == [SubmitRefused] * len(specs)
