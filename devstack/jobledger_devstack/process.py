"""Processes of a stack: started with a mark, found again by it, and ended without leaving one behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from jobledger_devstack.errors import ToolFailed
from jobledger_devstack.files import write_atomically
from jobledger_devstack.users import User

Argv = list[str | Path]
"""A command and its arguments."""

STACK_MARK = "JOBLEDGER_STACK"
"""Every process of a stack has this in its environment: the data folder."""
PART_MARK = "JOBLEDGER_PART"


@dataclass(frozen=True)
class Launch:
    """How a part's process is started. `env` is all that it gets, apart from the mark: nothing of ours leaks by accident."""

    argv: Sequence[str | Path]
    user: User
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 10.0


def plain_env(home: Path) -> dict[str, str]:
    """An environment with nothing in it but what every program expects."""
    path = os.environ.get("PATH", "")
    usual = [folder for folder in ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin") if folder not in path.split(":")]
    return {"PATH": ":".join([path, *usual]).strip(":"), "HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC"}


def mark(home: Path, part: str) -> dict[str, str]:
    """The environment variables by which a process is known as this stack's."""
    return {STACK_MARK: str(home), PART_MARK: part}


def run_tool(
    home: Path,
    part: str,
    argv: Sequence[str | Path],
    *,
    user: User | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path = Path("/"),
    timeout_s: float = 600.0,
) -> str:
    """Run a tool to its end and return what it wrote to stdout; raises `ToolFailed` with its last words when it fails.

    It carries the stack's mark, so that a stopped `up` leaves no download behind.
    """
    environment = {**(os.environ if env is None else env), **mark(home, part)}
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            **(user.popen() if user else {}),
        )
    except subprocess.TimeoutExpired as error:
        raise ToolFailed(f"{Path(argv[0]).name} did not finish within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        words = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
        raise ToolFailed(f"{Path(argv[0]).name} ended with exit code {done.returncode}: {words}")
    return str(done.stdout)


class PidFile:
    """The children that a supervisor has now, on disk: the second way to find them (a program may overwrite its environment)."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._pids: dict[str, tuple[int, float]] = {}

    def read(self) -> dict[str, tuple[int, float]]:
        """part -> (pid, start time) of the supervisor that last wrote."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, tuple[int, float]])
        except (FileNotFoundError, msgspec.MsgspecError):
            return {}

    def set(self, part: str, pid: int | None) -> None:
        """Note that `part` is process `pid` now, or none."""
        created = started_at(pid) if pid is not None else None
        if pid is None or created is None:
            self._pids.pop(part, None)
        else:
            self._pids[part] = (pid, created)
        write_atomically(self._file, msgspec.json.encode(self._pids))


def started_at(pid: int) -> float | None:
    """When the process started (epoch seconds, the kernel's own); None when there is none or only its zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def is_same(pid: int, created: float) -> bool:
    """True when `pid` is still the process that started at `created`."""
    now = started_at(pid)
    return now is not None and abs(now - created) < 0.05


def find(home: Path, *, parts: Iterable[str] | None = None, cache: Path | None = None, pids: PidFile | None = None) -> list[psutil.Process]:
    """All living processes of the stack (or of some of its parts), with their descendants; never ourselves or our ancestors.

    Found by the mark in their environment; by the pid file; and, where a program writes over its environment (PostgreSQL's
    children do), by running a binary of the cache inside the data folder.
    """
    wanted = None if parts is None else set(parts)
    known = {pid: created for part, (pid, created) in (pids.read() if pids else {}).items() if wanted is None or part in wanted}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if _is_ours(process, home, wanted, cache) or (process.pid in known and is_same(process.pid, known[process.pid])):
                found[process.pid] = process
                for child in process.children(recursive=True):
                    found.setdefault(child.pid, child)
        except psutil.Error:
            continue
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for pid, process in found.items() if pid not in spared]


def _is_ours(process: psutil.Process, home: Path, wanted: set[str] | None, cache: Path | None) -> bool:
    environment = _environment(process.pid)
    if environment.get(STACK_MARK) == str(home):
        return wanted is None or environment.get(PART_MARK) in wanted
    if cache is None or environment.get(STACK_MARK):
        return False
    folder = _link(process.pid, "cwd")
    if not _link(process.pid, "exe").is_relative_to(cache) or not folder.is_relative_to(home):
        return False
    return wanted is None or folder.relative_to(home).parts[:1] in {(part,) for part in wanted}


def _environment(pid: int) -> dict[str, str]:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in raw.decode(errors="replace").split("\0") if "=" in entry)


def _link(pid: int, name: str) -> Path:
    try:
        return Path(f"/proc/{pid}/{name}").readlink()
    except OSError:
        return Path("/nowhere")


def end(processes: Sequence[psutil.Process], *, grace_s: float = 5.0) -> list[str]:
    """End the processes: SIGTERM, then SIGKILL for those that stay. Returns what was ended, as `name (pid)`."""
    said = []
    for signum in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            try:
                name = f"{process.name()} ({process.pid})"
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                process.send_signal(signum)
                if name not in said:
                    said.append(name)
            except psutil.Error:
                continue
        _, processes = psutil.wait_procs(_without_zombies(processes), timeout=grace_s)
        processes = _without_zombies(processes)
        if not processes:
            break
    return said


def _without_zombies(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if started_at(process.pid) is not None]


def sweep(home: Path, *, cache: Path, pids: PidFile | None = None, timeout_s: float = 20.0, grace_s: float = 5.0) -> list[str]:
    """End every process of the stack, looking again until there is none. Returns what was ended."""
    said: list[str] = []
    deadline = time.monotonic() + timeout_s
    while (left := find(home, cache=cache, pids=pids)) and time.monotonic() < deadline:
        said += end(left, grace_s=grace_s)
    return said
