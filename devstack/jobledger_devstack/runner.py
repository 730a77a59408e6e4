"""The life of one part: prepared, started when what it needs is ready, watched, started again when it dies, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from jobledger_devstack.board import Board
from jobledger_devstack.errors import PartFailed
from jobledger_devstack.files import tail
from jobledger_devstack.model import Phase
from jobledger_devstack.part import Part
from jobledger_devstack.process import Launch, PidFile, end, find, mark

FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.2, 10.0
START_ATTEMPTS = 3
"""How often a part may fail before it was ever ready; after that the whole start is given up."""
MAX_LOG_BYTES = 20 * 2**20
"""A log that is longer when its part starts is put aside as `.1`, in place of the one before."""

log = structlog.get_logger("supervisor")


class Runner:
    """Runs one part. `ready` is set the first time it is ready and stays set; who needs it copes with a restart."""

    def __init__(self, part: Part, board: Board, pids: PidFile) -> None:
        self.part = part
        self.ready = asyncio.Event()
        self._board, self._pids = board, pids
        self._process: asyncio.subprocess.Process | None = None
        self._launch: Launch | None = None
        self._restarts = 0

    async def run(self, others: Mapping[str, Runner]) -> None:
        """Live until cancelled; raises `StackError` when the part cannot be started at all. A step returns when it is done."""
        name, loop = self.part.name, asyncio.get_running_loop()

        def report(message: str, percent: int | None) -> None:
            loop.call_soon_threadsafe(lambda: self._board.update(name, Phase.FETCHING, message=message, percent=percent))

        try:
            await asyncio.to_thread(self.part.prepare, report)
        except OSError as error:
            raise PartFailed(name, str(error), tail(self._log_path, 20)) from error
        missing = [need for need in self.part.needs if not others[need].ready.is_set()]
        self._board.update(name, Phase.WAITING, message=f"for {', '.join(missing)}" if missing else "")
        for need in missing:
            await others[need].ready.wait()
        await (self._run_once() if self.part.once else self._run_for_ever())

    async def _run_once(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                await self._take_step()
            except PartFailed as error:
                if attempt == START_ATTEMPTS:
                    raise
                await log.awarning("a step failed and is tried again", part=self.part.name, reason=error.reason)
                await asyncio.sleep(backoff_s)
                backoff_s *= 4
            else:
                return

    async def _take_step(self) -> None:
        await self._choose_ports()
        self._board.update(self.part.name, Phase.STARTING)
        launch = await asyncio.to_thread(self.part.launch)
        if launch is None:
            await self.part.work()
        else:
            await self._spawn(launch)
            code = await self._wait(self.part.ready_timeout_s)
            if code != 0:
                reason = f"did not finish within {self.part.ready_timeout_s:.0f} s" if code is None else f"ended with exit code {code}"
                raise PartFailed(self.part.name, reason, tail(self._log_path, 20))
        self._become_ready()

    async def _run_for_ever(self) -> None:
        backoff_s, failures = FIRST_BACKOFF_S, 0
        while True:
            try:
                await self._start()
                self._become_ready()
                began = time.monotonic()
                code = await self._wait(None)
                reason = f"ended with exit code {code}"
                if time.monotonic() - began > 3 * MAX_BACKOFF_S:
                    backoff_s = FIRST_BACKOFF_S
            except PartFailed as error:
                reason = error.reason
                if not self.ready.is_set():
                    failures += 1
                    if failures >= START_ATTEMPTS:
                        raise PartFailed(self.part.name, reason, tail(self._log_path, 20)) from error
            self._restarts += 1
            await log.awarning("a part died and is started again", part=self.part.name, reason=reason, backoff_s=backoff_s)
            self._board.update(self.part.name, Phase.RESTARTING, message=reason, pid=None, restarts=self._restarts)
            await self._end_leftovers()
            await asyncio.sleep(backoff_s)
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)

    async def _start(self) -> None:
        """Start the process and wait until it answers; raises `PartFailed`."""
        if not self.ready.is_set():
            # Later on the port stays: everybody else has its address by then.
            await self._choose_ports()
        self._board.update(self.part.name, Phase.STARTING)
        launch = await asyncio.to_thread(self.part.launch)
        if launch is None:
            raise PartFailed(self.part.name, "has nothing to start")
        await self._spawn(launch)
        deadline = time.monotonic() + self.part.ready_timeout_s
        while not await self.part.probe():
            if self._process is not None and self._process.returncode is not None:
                raise PartFailed(self.part.name, f"ended with exit code {self._process.returncode} before it was ready")
            if time.monotonic() > deadline:
                raise PartFailed(self.part.name, f"did not answer within {self.part.ready_timeout_s:.0f} s")
            await asyncio.sleep(self.part.probe_interval_s)
        # A stranger on our port may have answered in place of a process that could not bind it.
        if self._process is not None and self._process.returncode is not None:
            raise PartFailed(self.part.name, f"ended with exit code {self._process.returncode} before it was ready")

    async def _choose_ports(self) -> None:
        for name in self.part.port_names():
            await asyncio.to_thread(self.part.context.ports.ensure, name)

    def _become_ready(self) -> None:
        self._board.update(self.part.name, Phase.READY, pid=self._process.pid if self._process and not self.part.once else None)
        self.ready.set()

    async def _spawn(self, launch: Launch) -> None:
        environment = {**launch.env, **mark(self.part.context.home, self.part.name)}
        if self._log_path.exists() and self._log_path.stat().st_size > MAX_LOG_BYTES:
            self._log_path.replace(self._log_path.with_suffix(".log.1"))
        with self._log_path.open("ab") as file:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *[str(word) for word in launch.argv],
                    env=environment,
                    cwd=launch.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                    **launch.user.popen(),
                )
            except OSError as error:
                raise PartFailed(self.part.name, f"cannot be started: {error}") from error
        self._launch = launch
        self._pids.set(self.part.name, self._process.pid)
        self._board.update(self.part.name, pid=self._process.pid)

    async def _wait(self, timeout_s: float | None) -> int | None:
        """The exit code; None when it did not end in time."""
        if self._process is None:
            return None
        try:
            return await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            return None

    async def restart_if_stale(self) -> None:
        """Start the part again if it was told an address that has changed since, and wait until it is ready again."""
        if self._process is not None and self.part.stale():
            self.ready.clear()
            self._process.terminate()
            await self.ready.wait()

    async def stop(self) -> None:
        """Ask the process to end, insist after its grace, and end what it left behind."""
        process, launch = self._process, self._launch
        if process is not None and launch is not None and process.returncode is None:
            self._board.update(self.part.name, Phase.STOPPING)
            process.send_signal(launch.stop_signal)
            if await self._wait(launch.stop_grace_s) is None:
                await log.awarning("a part did not stop in time and is killed", part=self.part.name)
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        await self._end_leftovers()
        self._pids.set(self.part.name, None)
        if self._board.phase(self.part.name) is not Phase.FAILED:
            self._board.update(self.part.name, Phase.STOPPED, pid=None)

    async def _end_leftovers(self) -> None:
        """What the part's process left behind when it went (HTCondor's daemons outlive a killed master)."""
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        context = self.part.context
        left = await asyncio.to_thread(find, context.home, parts=[self.part.name], cache=context.cache)
        if left:
            await asyncio.to_thread(end, left, grace_s=3)

    @property
    def _log_path(self) -> Path:
        return self.part.context.layout.log(self.part.name)
