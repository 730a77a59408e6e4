"""What a run may do on its worker: print, say how far it is, notice that it was stopped, be tried again, and bring files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobledger_contracts.job_events import DaskSpec
from jobledger_contracts.statuses import Status
from jobledger_schedulers.adapters.dask.adapter import DaskAdapter
from jobledger_schedulers.adapters.port import Handle, Refused, RunSpec
from tests.integration.adapters.conftest import new_run
from tests.integration.adapters.test_dask_adapter import call, opened, outcome, until
from tests.support.dask_cluster import DaskCluster
from tests.support.eventually import eventually_async

pytestmark = [pytest.mark.anyio, pytest.mark.stack]


def having(spec: RunSpec, **more: Any) -> RunSpec:
    assert spec.dask is not None
    return msgspec.structs.replace(spec, dask=msgspec.structs.replace(spec.dask, **more))


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """While this file is there, a run goes on."""
    path = tmp_path / "gate"
    path.touch()
    return path


async def printed(adapter: DaskAdapter, run: str, stream: str, wanted: bytes, offset: int = 0) -> None:
    async def look() -> bool:
        try:
            return (await adapter.tail(run, stream, offset, 1000)).data == wanted
        except Refused:  # it has not begun
            return False

    wait: Any = eventually_async
    await wait(look, 30, 0.1)


async def test_each_run_keeps_what_it_prints_and_can_be_followed(dask_cluster: DaskCluster, tmp_path: Path, gate: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        first, second = call("helpers:chatty", str(gate)), call("helpers:slow", 0.2)  # two threads of one worker
        await adapter.submit([first, second])
        await printed(adapter, first.run_id, "stdout", b"to stdout\n")
        await printed(adapter, first.run_id, "stdout", b"stdout\n", offset=3)
        await printed(adapter, first.run_id, "stderr", b"to stderr\nto the log\n")
        gate.unlink()
        for spec, files in ((first, ["result.json", "stderr.txt", "stdout.txt"]), (second, ["result.json"])):
            await until(adapter, spec.run_id, lambda o: o.results_ready)
            assert (await adapter.collect([spec.run_id], lambda run: tmp_path / run))[spec.run_id].files == files
        assert (tmp_path / first.run_id / "stdout.txt").read_bytes() == b"to stdout\nthe end\n"
        log = (tmp_path / "cluster" / "worker.log").read_text()
        assert "to stdout" not in log


async def test_of_too_much_output_the_middle_is_left_out(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        _, files = await outcome(adapter, call("helpers:loud"), tmp_path / "a")
    assert len(files["stdout.txt"]) < 1_100_000
    assert files["stdout.txt"].startswith(b"begin\nxxx")
    assert files["stdout.txt"].endswith(b"xxx\nend\n")
    assert b"bytes are left out here" in files["stdout.txt"]


async def test_a_run_that_raises_is_tried_again(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        seen, files = await outcome(adapter, having(call("helpers:unstable", str(tmp_path / "a"), 2), retries=2), tmp_path / "out-a")
        assert (seen.status, seen.restarts, files["result.json"]) == (Status.COMPLETE, 2, b"3")
        assert files["stderr.txt"].count(b"RuntimeError: not yet\nIt is tried again") == 2
        seen, files = await outcome(adapter, having(call("helpers:unstable", str(tmp_path / "b"), 2), retries=1), tmp_path / "out-b")
        assert (seen.status, seen.restarts, seen.message) == (Status.ERROR, 1, "RuntimeError: not yet")


async def test_a_function_that_asks_notices_the_stop_and_frees_its_worker(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        runs = [call("helpers:patient", str(tmp_path / name)) for name in ("a", "b")]  # they take both threads
        await adapter.submit(runs)
        for spec in runs:
            await until(adapter, spec.run_id, lambda o: o.status is Status.RUNNING)
        await adapter.stop([spec.run_id for spec in runs], "enough")
        await until(adapter, runs[0].run_id, lambda o: o.status is Status.ABORTED)
        seen, _ = await outcome(adapter, call("helpers:add", 1, 1), tmp_path / "out")
        assert seen.status is Status.COMPLETE
        assert (tmp_path / "a").exists()


async def test_progress_is_told_of_functions_and_of_graphs(dask_cluster: DaskCluster, tmp_path: Path, gate: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        function, graph = call("helpers:halfway", str(gate)), call("helpers:steps", str(gate))
        await adapter.submit([function])
        seen = await until(adapter, function.run_id, lambda o: o.progress is not None)
        assert (seen.status, seen.progress) == (Status.RUNNING, 0.5)
        assert seen.message.endswith(": half of it")
        await adapter.submit([graph])
        seen = await until(adapter, graph.run_id, lambda o: (o.progress or 0) > 0.8)
        assert seen.progress == 0.9
        assert seen.message.endswith(": 9 of 10 tasks")
        async with opened(dask_cluster, tmp_path) as other:  # who comes later knows it, too
            (again,) = await other.observe([graph.run_id])
            assert again.progress == seen.progress
        gate.unlink()
        for spec in (function, graph):
            assert (await until(adapter, spec.run_id, lambda o: o.results_ready)).progress == 1.0


async def test_runs_wait_for_a_worker_that_has_what_they_need(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        picky, plain = having(call("helpers:add", 1, 1), resources={"GPU": 1}, priority=5), call("helpers:add", 1, 1)
        assert [type(answer) for answer in await adapter.submit([picky, plain])] == [Handle, Handle]
        await until(adapter, plain.run_id, lambda o: o.results_ready)
        seen = await until(adapter, picky.run_id, lambda o: "no worker has what it needs" in o.message)
        assert seen.status is Status.SUBMITTED
        dask_cluster.start_worker("gpu", 1, "--resources", "GPU=1")
        assert (await until(adapter, picky.run_id, lambda o: o.results_ready)).status is Status.COMPLETE


class _Receiver(BaseHTTPRequestHandler):
    """Takes uploads as the jobs service does; its first answer to each path is that it cannot now."""

    took: dict[str, tuple[str, bytes]]
    failed: set[str]

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        busy = self.path not in self.failed
        self.failed.add(self.path)
        if not busy:
            self.took[self.path] = (self.headers["authorization"], body)
        self.send_response(503 if busy else 201)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[ThreadingHTTPServer]:
    handler = type("Receiver", (_Receiver,), {"took": {}, "failed": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_large_results_and_files_are_brought_by_the_worker(
    dask_cluster: DaskCluster, tmp_path: Path, receiver: ThreadingHTTPServer
) -> None:
    spec = call("helpers:brings", credential="jlr_hush")
    spec = msgspec.structs.replace(spec, environment={"JOBLEDGER_FILES_URL": f"http://127.0.0.1:{receiver.server_port}/files/run-1/"})
    handler: Any = receiver.RequestHandlerClass
    async with opened(dask_cluster, tmp_path) as adapter:
        await adapter.submit([spec])
        seen = await until(adapter, spec.run_id, lambda o: o.results_ready)
        assert seen.status is Status.COMPLETE, seen
        collected = (await adapter.collect([spec.run_id], lambda _: tmp_path / "out"))[spec.run_id]
    result = json.dumps("x" * (17 * 2**20)).encode()
    assert handler.took == {
        "/files/run-1/plots/map%20one.png": ("Bearer jlr_hush", b"png"),
        "/files/run-1/result.json": ("Bearer jlr_hush", result),
    }
    assert collected.files == []
    assert [(file.path, file.size, file.sha256) for file in collected.delivered] == [
        ("plots/map one.png", 3, hashlib.sha256(b"png").hexdigest()),
        ("result.json", len(result), hashlib.sha256(result).hexdigest()),
    ]


async def test_of_a_run_that_is_not_there_nothing_can_be_read(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    async with opened(dask_cluster, tmp_path) as adapter:
        with pytest.raises(Refused, match="not at work"):
            await adapter.tail(new_run(), "stdout", 5, 100)
        spec = RunSpec(run_id=new_run(), job_name="x", dask=DaskSpec(function="helpers:loud"), input_dir=tmp_path)
        await adapter.submit([spec])
        await until(adapter, spec.run_id, lambda o: o.results_ready)
        assert (await adapter.tail(spec.run_id, "stdout", 0, 6)).data == b"begin\n"
