"""A Dask scheduler and workers of a test's own, which may be killed; over TLS, if it likes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.certificates import Certificates
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
def hold(path):
    while os.path.exists(path): time.sleep(0.2)
    return "done"
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


class DaskCluster:
    """A scheduler and its workers as processes; `helpers` can be imported by the workers."""

    def __init__(self, folder: Path, certificates: Certificates | None = None) -> None:
        (folder / "helpers.py").write_text(HELPERS)
        self._folder = folder
        self._tls = certificates.options() if certificates else []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]

    @property
    def address(self) -> str:
        return f"{'tls' if self._tls else 'tcp'}://127.0.0.1:{self._port}"

    def start_scheduler(self) -> None:
        self._start(
            "scheduler",
            "dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            str(self._port),
            "--no-dashboard",
            "--dashboard-address",
            ":0",
            *self._tls,
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
            *self._tls,
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
