"""Our side of the child processes that hold the bindings: deadlines, restarts, and what an error means.

Two lanes, each a process that is started when first needed: `control` for what is quick (queries, acts, ping), and `transfer` for
what moves files (submit, retrieve), so that a large upload does not keep anybody from seeing how things stand.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from jobledger_schedulers.adapters.htcondor import worker
from jobledger_schedulers.adapters.htcondor.parse import token_facts
from jobledger_schedulers.adapters.port import AdapterSettings, AuthenticationFailed, OutcomeUnknown, Refused, SchedulerError, Unreachable

log = structlog.get_logger()

START_TIMEOUT_S = 30.0
MAX_LINE_BYTES = 64 * 2**20
_MAY_CHANGE = frozenset({"submit", "act", "edit", "retrieve"})
_STDERR_LINES = 20

OnItems = Callable[[list[Any]], None]

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class WorkerFailed(Exception):
    """The worker said that a call failed; `kind` and `sent` as in worker.py."""

    def __init__(self, kind: str, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.kind, self.sent = kind, sent


class Lane:
    """One child process; calls take turns."""

    def __init__(self, name: str, configure: dict[str, Any], environment: dict[str, str], script: str) -> None:
        self.name = name
        self._script = script
        self._configure = configure
        self._environment = environment
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._said: deque[str] = deque(maxlen=_STDERR_LINES)
        self._number = 0

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        return self._process.pid if self._process is not None else None

    async def call(self, op: str, *, silence_s: float, on_items: OnItems, **arguments: Any) -> dict[str, Any]:
        """Have `op` done. `silence_s` bounds the time without any word from the child; then it is killed.

        Raises WorkerFailed, Unreachable, or, when the child was lost in the middle of something that changes, OutcomeUnknown.
        """
        async with self._turn:
            process = await self._running()
            try:
                return await self._converse(process, op, silence_s, on_items, arguments)
            except WorkerFailed:
                raise
            except (TimeoutError, ConnectionError, EOFError, ValueError, msgspec.MsgspecError) as error:
                await self._end(process)
                why = f"HTCondor did not answer within {silence_s:g} s" if isinstance(error, TimeoutError) else self._obituary(error)
                log.warning("An HTCondor worker was ended", lane=self.name, op=op, reason=why, exit_code=process.returncode)
                raise (OutcomeUnknown if op in _MAY_CHANGE else Unreachable)(why) from error
            except BaseException:  # a cancelled call leaves an answer behind that the next one must not take for its own
                await asyncio.shield(self._end(process))
                raise

    async def close(self) -> None:
        """End the child."""
        if self._process is not None:
            await self._end(self._process)

    async def _converse(
        self,
        process: asyncio.subprocess.Process,
        op: str,
        silence_s: float,
        on_items: OnItems,
        arguments: dict[str, Any],
    ) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        self._number += 1
        async with asyncio.timeout(silence_s):
            process.stdin.write(_encode({"id": self._number, "op": op, **arguments}) + b"\n")
            await process.stdin.drain()
        while True:
            async with asyncio.timeout(silence_s):
                line = await process.stdout.readline()
            if not line.endswith(b"\n"):
                raise EOFError("it ended")
            answer = _decode(line)
            if answer["id"] != self._number:
                raise ValueError("it answered another request")
            if items := answer.get("items"):
                on_items(items)
            elif "done" in answer:
                done: dict[str, Any] = answer["done"]
                return done
            elif error := answer.get("error"):
                raise WorkerFailed(error["kind"], error["text"], sent=error["sent"])

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        if self._process is not None:
            await self._end(self._process)
        # -I: nothing of the current folder or of PYTHON* variables can get between the child and the bindings.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            self._script,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            cwd="/",
            limit=MAX_LINE_BYTES,
        )
        self._process = process
        self._said.clear()
        self._listener = asyncio.create_task(self._listen(process), name=f"htcondor-{self.name}-stderr")
        try:
            done = await self._converse(process, "configure", START_TIMEOUT_S, lambda _: None, self._configure)
        except (TimeoutError, ConnectionError, EOFError, ValueError, msgspec.MsgspecError, WorkerFailed) as error:
            await self._end(process)
            raise Unreachable(f"HTCondor's bindings could not be started: {self._obituary(error)}") from error
        except BaseException:
            await asyncio.shield(self._end(process))
            raise
        log.debug("An HTCondor worker has started", lane=self.name, pid=process.pid, bindings=done.get("bindings"))
        return process

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Pass on what the bindings write to stderr; a full pipe would stop the child."""
        assert process.stderr is not None
        while chunk := await process.stderr.read(65_536):
            for line in chunk.decode(errors="replace").splitlines():
                self._said.append(line)
                log.warning("An HTCondor worker says", lane=self.name, line=line[:1000])

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
        if self._listener is not None:
            await self._listener
        if process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(ConnectionError):
                await process.stdin.wait_closed()
        if self._process is process:
            self._process = self._listener = None

    def _obituary(self, error: BaseException) -> str:
        last = f"; its last words: {self._said[-1][:500]}" if self._said else ""
        return f"the process that talks to HTCondor failed: {error or type(error).__name__}{last}"


class Bindings:
    """HTCondor's bindings, for one identity at one access point."""

    def __init__(self, settings: AdapterSettings, script: str = worker.__file__) -> None:
        self._settings = settings
        self.collector = f"{settings.host}:{settings.port}" if settings.port else settings.host
        self._tokens = settings.private_dir / "tokens"
        self.params = _params(self._tokens)
        configure = {"collector": self.collector, "schedd_name": settings.schedd_name, "params": self.params}
        environment = {"CONDOR_CONFIG": "/dev/null", "PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(settings.private_dir)}
        self._lanes = {name: Lane(name, configure, environment, script) for name in ("control", "transfer")}

    def prepare(self) -> None:
        """Write the token where only we, and HTCondor, can read it. Idempotent; blocks briefly."""
        write_private(self._tokens / "token", self._settings.token.strip() + "\n")

    async def rows(self, op: str, **arguments: Any) -> list[dict[str, Any]]:
        """Ask for ads: `query` or `history`."""
        rows: list[dict[str, Any]] = []
        async with self._plainly(op):
            await self._lanes["control"].call(op, silence_s=self._settings.timeout_s, on_items=rows.extend, **arguments)
        return rows

    async def control(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Have something quick done: `ping`, `act`, `edit` or `survey`."""
        async with self._plainly(op):
            return await self._lanes["control"].call(op, silence_s=self._settings.timeout_s, on_items=lambda _: None, **arguments)

    async def look(self, op: str, on_items: OnItems, **arguments: Any) -> dict[str, Any]:
        """Have something looked at by `pool_worker`; `on_items` hears of rows as they come."""
        async with self._plainly(op):
            return await self._lanes["control"].call(op, silence_s=self._settings.timeout_s, on_items=on_items, **arguments)

    async def transfer(self, op: str, *, silence_s: float, on_items: OnItems, **arguments: Any) -> None:
        """Have files moved: `submit` or `retrieve`; `on_items` hears of each as it is done."""
        async with self._plainly(op):
            await self._lanes["transfer"].call(op, silence_s=silence_s, on_items=on_items, **arguments)

    def pids(self) -> dict[str, int]:
        """The children that run now, by lane."""
        return {name: lane.pid for name, lane in self._lanes.items() if lane.pid is not None}

    async def close(self) -> None:
        """End the children."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    @contextlib.asynccontextmanager
    async def _plainly(self, op: str) -> AsyncIterator[None]:
        """Turn what the worker says into the port's errors, in words that help."""
        started = time.monotonic()
        try:
            yield
        except WorkerFailed as failure:
            error = await self._explain(op, failure)
            log.info("HTCondor did not do it", op=op, kind=failure.kind, seconds=round(time.monotonic() - started, 3), error=str(error))
            raise error from failure

    async def _explain(self, op: str, failure: WorkerFailed) -> SchedulerError:
        text, where = str(failure), f"the access point {self._settings.schedd_name or ''}".rstrip()
        if failure.kind == "refused":
            return Refused(text)
        if failure.kind == "unreachable" and text.startswith("collector:"):
            # The bindings have one vague text for a collector that is down and for one that does not let us in.
            if await self._collector_listens():
                failure.kind, where = "authentication", f"the pool's collector at {self.collector}"
            else:
                return Unreachable(f"nothing answers at {self.collector}, where the pool's collector should be")
        if failure.kind == "authentication":
            return AuthenticationFailed(f"{where} does not let us in: {token_facts(self._settings.token, datetime.now(UTC))} ({text})")
        if failure.sent and op in _MAY_CHANGE:
            return OutcomeUnknown(f"the connection to {where} was lost in the middle of it ({text})")
        if "the collector knows no" in text:
            return Unreachable(f"{text}: it is not running, or not yet known to the pool")
        return Unreachable(f"{where} does not answer: it is down, restarting, or not reachable from here ({text})")

    async def _collector_listens(self) -> bool:
        host, _, port = self.collector.rpartition(":")
        try:
            async with asyncio.timeout(2.0):
                _, writer = await asyncio.open_connection(host or self.collector, int(port) if host else 9618)
        except (OSError, ValueError, TimeoutError):
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True


def write_private(file: Path, content: str) -> None:
    """Write a file that nobody else can read, in a folder that nobody else can enter; whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.parent.chmod(0o700)
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(content)
    new.rename(file)


def _params(tokens: Path) -> dict[str, str]:
    return {
        "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
        "SEC_CLIENT_AUTHENTICATION": "REQUIRED",
        "SEC_CLIENT_ENCRYPTION": "REQUIRED",
        "SEC_CLIENT_INTEGRITY": "REQUIRED",
        "SEC_TOKEN_DIRECTORY": str(tokens),
        "SEC_TOKEN_SYSTEM_DIRECTORY": str(tokens),  # else root would also come with the machine's own tokens
    }
