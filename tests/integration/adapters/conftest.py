"""Adapters on real schedulers, and Dask clusters of a test's own that may be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger_contracts.ids import new_job_id, run_id
from tests.support.eventually import eventually

HELPERS = """
import os, time

def add(a, b): return a + b
def slow(s): time.sleep(s); return s
def die(): os._exit(9)
def many(n): return "x" * n
def leave(): raise SystemExit(3)
def pair(): return (1, 2)
def context(jobledger):
    path = jobledger["JOBLEDGER_CREDENTIAL_FILE"]
    return {"credential": open(path).read(), "mode": oct(os.stat(path).st_mode & 0o777), "job": jobledger["JOBLEDGER_JOB_ID"]}
def chatty(path, jobledger):
    import logging, sys
    print("to stdout"); print("to stderr", file=sys.stderr); logging.getLogger("flood").warning("to the log")
    while os.path.exists(path) and not jobledger.stopped(): time.sleep(0.05)
    print("the end")
def loud(): print("begin"); print("x" * 3_000_000); print("end")
def unstable(path, fails):
    with open(path, "a") as marks: marks.write("x")
    if os.path.getsize(path) <= fails: raise RuntimeError("not yet")
    return os.path.getsize(path)
def patient(path, jobledger):
    while not jobledger.stopped(): time.sleep(0.05)
    open(path, "w").close()
def halfway(path, jobledger):
    jobledger.progress(0.5, "half of it")
    while os.path.exists(path): time.sleep(0.05)
def steps(path):
    import dask
    def total(numbers):
        while os.path.exists(path): time.sleep(0.05)
        return sum(numbers)
    return dask.delayed(total)([dask.delayed(abs)(-n) for n in range(9)])
def brings(jobledger):
    jobledger.save("plots/map one.png", b"png")
    return "x" * (17 * 2**20)
def once_per_worker(folder, s):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(s)
    return "done"
"""


def new_run() -> str:
    return run_id(new_job_id(int(time.time() * 1000), os.urandom(10)), 1)


class DaskCluster:
    """A scheduler and its workers as processes; `helpers` can be imported by the workers."""

    def __init__(self, folder: Path) -> None:
        (folder / "helpers.py").write_text(HELPERS)
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self._port}"

    def start_scheduler(self) -> None:
        self._start(
            "scheduler", "dask_scheduler", "--host", "127.0.0.1", "--port", str(self._port), "--no-dashboard", "--dashboard-address", ":0"
        )
        eventually(self._listens, 30)

    def start_worker(self, name: str = "worker", threads: int = 2, *more: str) -> None:
        options = [
            "--host",
            "127.0.0.1",
            "--nthreads",
            str(threads),
            "--no-nanny",
            "--no-dashboard",
            "--name",
            name,
            "--death-timeout",
            "20",
            *more,
        ]
        self._start(name, "dask_worker", self.address, *options)

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)
        if number is signal.SIGKILL:
            self._processes.pop(name).wait()

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _start(self, name: str, program: str, *arguments: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *arguments],
                env={**os.environ, "PYTHONPATH": str(self._folder)},
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _listens(self) -> bool:
        assert self._processes["scheduler"].poll() is None, (self._folder / "scheduler.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


@pytest.fixture
def dask_cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """A scheduler and one worker with two threads."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = DaskCluster(folder)
    cluster.start_scheduler()
    cluster.start_worker()
    yield cluster
    cluster.end()
