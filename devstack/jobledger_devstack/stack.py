"""A whole Jobledger on one machine: start it, look at it, stop it. What the command, the demo and the tests all use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from jobledger_devstack.board import read_snapshot
from jobledger_devstack.condor import binaries_of, token
from jobledger_devstack.errors import NotRunning, PartFailed, StackError
from jobledger_devstack.files import locked, tail
from jobledger_devstack.layout import Layout, default_cache, default_home
from jobledger_devstack.model import Endpoints, Phase, Snapshot
from jobledger_devstack.options import StackOptions, load, merge, resolve, save
from jobledger_devstack.process import PidFile, end, find, is_same, mark, sweep
from jobledger_devstack.users import ensure_users

POLL_INTERVAL_S = 0.1


class Stack:
    """The stack whose data folder is `home`. Holds no process itself: any number of `Stack`s may look at one folder."""

    def __init__(self, home: Path | None = None, *, options: StackOptions | None = None) -> None:
        self.layout = Layout((home or default_home()).absolute())
        self._asked = options or StackOptions()

    def up(self, on_progress: Callable[[Snapshot], None] | None = None, timeout_s: float = 600) -> Endpoints:
        """Start what is not running and wait until everything is ready; a stack that is up already is left alone.

        Raises `PartFailed` (then nothing is left running), `StackError` when the stack runs with other options than asked now,
        and `TimeoutError` after `timeout_s` (then it goes on starting; `status` shows how far it is).
        """
        deadline = time.monotonic() + timeout_s
        self._make_home()
        with locked(self.layout.up_lock):
            remembered = load(self.layout)
            wanted = merge(remembered, self._asked)
            running = self.status().running
            if running and resolve(wanted) != resolve(remembered):
                raise StackError(f"the stack in {self.layout.home} is running with other options; stop it first (jobledger down)")
            if not running:
                resolve(wanted)
                save(self.layout, wanted)
                self._spawn_supervisor()
        return self._follow(on_progress, deadline)

    def status(self) -> Snapshot:
        """What is known of the stack now; changes nothing, and works when it is down."""
        snapshot = read_snapshot(self.layout)
        if snapshot.supervisor_pid is not None and is_same(snapshot.supervisor_pid, snapshot.supervisor_started):
            return snapshot
        parts = [msgspec.structs.replace(part, phase=_at_rest(part.phase), pid=None) for part in snapshot.parts]
        return msgspec.structs.replace(snapshot, running=False, supervisor_pid=None, parts=parts)

    def down(self, timeout_s: float = 60) -> list[str]:
        """Stop everything; returns what was stopped (empty when nothing ran). Afterwards no process of the stack is left.

        Raises `StackError` when one is left all the same.
        """
        if not self.layout.home.is_dir():
            return []
        cache, pids = default_cache(), PidFile(self.layout.pids)
        with locked(self.layout.up_lock):
            snapshot = self.status()
            said = [f"{part.name} ({part.pid})" for part in snapshot.parts if part.pid is not None and snapshot.running]
            if snapshot.running and snapshot.supervisor_pid is not None:
                said.append(f"supervisor ({snapshot.supervisor_pid})")
                # It stops the parts in order; killed half-way it would leave that to the sweep below.
                end([psutil.Process(snapshot.supervisor_pid)], grace_s=timeout_s)
            said += sweep(self.layout.home, cache=cache, pids=pids)
            if left := find(self.layout.home, cache=cache, pids=pids):
                raise StackError(f"these processes do not end: {', '.join(f'{process.name()} ({process.pid})' for process in left)}")
        return said

    def logs(self, part: str, lines: int = 200) -> str:
        """The last lines of a part's log; raises `StackError`, naming the logs there are, when there is no such part."""
        if not self.layout.log(part).exists():
            raise StackError(f"there is no log of {part}; there are: {', '.join(self.log_names()) or 'none'}")
        return tail(self.layout.log(part), lines)

    def log_names(self) -> list[str]:
        """The parts that have a log."""
        return sorted(path.stem for path in self.layout.logs.glob("*.log"))

    def endpoints(self) -> Endpoints:
        """Where the parts answer; raises `NotRunning` when the stack is not up."""
        if not self.status().complete or not self.status().running:
            raise NotRunning(f"the stack in {self.layout.home} is not up (jobledger up starts it)")
        return msgspec.json.decode(self.layout.endpoints.read_bytes(), type=Endpoints)

    def mint_token(self, identity: str, lifetime_s: int | None = None) -> str:
        """An HTCondor IDTOKEN for `identity`; see `mint_token`."""
        return mint_token(self.layout.home, identity, lifetime_s)

    def _make_home(self) -> None:
        home = self.layout.home
        if not re.fullmatch(r"[\w./@+-]+", str(home)):
            raise StackError(f"the data folder {home} has a character in its path that HTCondor's or Kafka's configuration cannot carry")
        if home.is_dir() and any(home.iterdir()) and not self.layout.options.exists() and not self.layout.up_lock.exists():
            raise StackError(f"{home} is neither empty nor a data folder of Jobledger; choose another")
        # As root other users work in folders below; as anybody else it is nobody's business.
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755 if os.geteuid() == 0 else 0o700)
        self.layout.logs.mkdir(exist_ok=True)
        self.layout.logs.chmod(0o700)

    def _spawn_supervisor(self) -> None:
        """Start the supervisor and wait until it has written its first snapshot; raises `StackError` when it dies before."""
        argv = [sys.executable, "-m", "jobledger_devstack.supervisor", str(self.layout.home)]
        environment = {**os.environ, **mark(self.layout.home, "supervisor")}
        started = subprocess.run(argv, env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if started.returncode != 0:
            raise StackError(f"the supervisor cannot be started: {started.stderr.strip()}")
        pid = int(started.stdout.split()[-1])
        while read_snapshot(self.layout).supervisor_pid != pid:
            if not psutil.pid_exists(pid):
                raise PartFailed("supervisor", "died at once", tail(self.layout.log("supervisor"), 20))
            time.sleep(0.02)

    def _follow(self, on_progress: Callable[[Snapshot], None] | None, deadline: float) -> Endpoints:
        last: Snapshot | None = None
        while True:
            snapshot = self.status()
            if snapshot != last and on_progress is not None:
                on_progress(snapshot)
            last = snapshot
            if snapshot.ready:
                return self.endpoints()
            if not snapshot.running:
                if snapshot.failure:
                    raise PartFailed(snapshot.failure, snapshot.failure_reason, snapshot.failure_log)
                raise PartFailed("supervisor", "ended while the stack was starting", tail(self.layout.log("supervisor"), 20))
            if time.monotonic() > deadline:
                raise TimeoutError("the stack is not ready in time; it goes on starting")
            time.sleep(POLL_INTERVAL_S)


def _at_rest(phase: Phase) -> Phase:
    return Phase.FAILED if phase is Phase.FAILED else Phase.STOPPED


def mint_token(home: Path, identity: str, lifetime_s: int | None = None) -> str:
    """An HTCondor IDTOKEN for `identity` (`name` or `name@trust-domain`), signed by the key of the pool in `home`.

    It never expires unless `lifetime_s` is given. Raises `NotRunning` when there never was a pool.
    """
    layout = Layout(home.absolute())
    return token(layout, binaries_of(layout), ensure_users(default_cache()).jobs, identity, lifetime_s)
