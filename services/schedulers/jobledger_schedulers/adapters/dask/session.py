"""A client's standing at a Dask scheduler: registered, listening, and known to be compatible."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import structlog
from distributed.versions import get_versions

from jobledger_schedulers.adapters.dask.task import EVENTS_TOPIC
from jobledger_schedulers.adapters.dask.wire import Closed, Connection, Message, Opaque, Rpc, encode, words_in_pickle
from jobledger_schedulers.adapters.port import Incompatible, OutcomeUnknown, SchedulerError, Unreachable

log = structlog.get_logger()

PROBE_TIMEOUT_S = 3.0
"""A scheduler that hangs keeps its connections open; only a question finds out."""
WORKERS_TIMEOUT_S = 3.0

Heard = Callable[[str, Mapping[str, Any]], None]


class Session:
    """One registered client. `heard(op, message)` is called for each message that concerns runs; a heartbeat interval of 0 is none."""

    def __init__(self, rpc: Rpc, heard: Heard, heartbeat_interval_s: float = 0.0) -> None:
        self._rpc, self._heard, self._heartbeat_interval_s = rpc, heard, heartbeat_interval_s
        self.client_id = f"jobledger-{uuid.uuid4()}"
        self.scheduler_id = ""
        self._desired: set[str] = set()
        self._stream: Connection | None = None
        self._listener: asyncio.Task[None] | None = None
        self._heart: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """The scheduler has not closed the connection, as far as is known."""
        return self._listener is not None and not self._listener.done()

    async def open(self) -> Session:
        """Probe, compare versions, register. Raises Unreachable or Incompatible."""
        identity = await self._rpc.call("identity", timeout_s=min(PROBE_TIMEOUT_S, self._rpc.timeout_s), n_workers=0)
        self.scheduler_id = str(identity.get("id", "")) if isinstance(identity, dict) else ""
        await check_versions(self._rpc)
        try:
            async with asyncio.timeout(self._rpc.timeout_s):
                self._stream = await self._rpc.connect()
                hello = {"op": "register-client", "client": self.client_id, "reply": False, "versions": get_versions()}
                await self._stream.write(encode(hello))
                started = await self._stream.read()
                if not any(isinstance(m, dict) and m.get("op") == "stream-start" for m in _messages(started)):
                    raise Closed("the scheduler did not accept us as a client")
                await self._stream.write(encode([{"op": "subscribe-topic", "topic": EVENTS_TOPIC}]))
        except (OSError, TimeoutError) as error:
            await self.close()
            raise Unreachable(f"the Dask scheduler at {self._rpc.address} does not take us as a client: {error or 'no answer'}") from error
        self._listener = asyncio.create_task(self._listen(self._stream), name="dask-session")
        if self._heartbeat_interval_s:
            self._heart = asyncio.create_task(self._beat(), name="dask-heartbeat")
        return self

    async def send(self, *messages: Message) -> None:
        """Say something on the client's stream; there is no answer. Raises OutcomeUnknown."""
        await self.send_encoded(encode(list(messages)))

    async def send_encoded(self, frames: Sequence[bytes]) -> None:
        """Like `send`, for what was encoded elsewhere."""
        if self._stream is None or not self.alive:
            raise OutcomeUnknown(f"the Dask scheduler at {self._rpc.address} has closed the connection")
        try:
            async with asyncio.timeout(self._rpc.timeout_s):
                await self._stream.write(frames)
        except (OSError, TimeoutError) as error:
            await self.close()
            raise OutcomeUnknown(f"the Dask scheduler at {self._rpc.address} was lost: {error or 'it takes nothing more'}") from error

    async def desire(self, runs: Sequence[str]) -> None:
        """Ask, once, to be told when these end."""
        if new := [run for run in runs if run not in self._desired]:
            self._desired.update(new)
            await self.send({"op": "client-desires-keys", "keys": new})

    async def release(self, runs: Sequence[str]) -> None:
        """Have no more to do with these."""
        self._desired.difference_update(runs)
        await self.send({"op": "client-releases-keys", "keys": list(runs)})

    async def call_in_order(self, op: str, **arguments: Any) -> Any:
        """Call a handler of the publish extension, which waits until it has heard all that the stream said before."""
        uid = uuid.uuid4().bytes
        await self.send({"op": "publish_flush_batched_send", "uid": uid})
        return await self._rpc.call(op, changes=True, client=self.client_id, uid=uid, **arguments)

    async def close(self) -> None:
        """Leave. What is published stays."""
        if self._listener is not None and not self._listener.done() and self._listener is not asyncio.current_task():
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
        if self._heart is not None and self._heart is not asyncio.current_task():
            self._heart.cancel()
            await asyncio.gather(self._heart, return_exceptions=True)
        if self._stream is not None:
            await self._stream.close()
            self._stream = None

    async def _beat(self) -> None:
        """Say that we live, until the connection ends; the next session has its own heart."""
        while True:
            await asyncio.sleep(self._heartbeat_interval_s)
            try:
                await self.send({"op": "heartbeat-client"})
            except OutcomeUnknown as error:
                log.debug("The Dask scheduler hears no heartbeat", address=self._rpc.address, reason=str(error))
                return

    async def _listen(self, stream: Connection) -> None:
        try:
            while True:
                for message in _messages(await stream.read()):
                    op = message.get("op") if isinstance(message, dict) else None
                    if op in ("stream-closed", "close"):
                        raise Closed("the scheduler is shutting down")
                    if op in ("event", "key-in-memory", "task-erred", "lost-data", "cancelled-keys", "task-retried"):
                        self._heard(op, message)
        except Closed as error:
            log.info("The connection to a Dask scheduler has ended", address=self._rpc.address, reason=str(error))
        finally:
            stream.abort()


async def check_versions(rpc: Rpc) -> str:
    """Compare what runs there with what runs here; returns the scheduler's version of distributed. Raises Incompatible.

    Python's minor version must agree, as functions travel as bytecode; dask and distributed must agree to the month, as their
    protocol is not versioned. A patch release may differ.
    """
    ours = {"python": _python(".".join(map(str, sys.version_info[:2]))), "dask": _month(version("dask"))}
    ours["distributed"] = _month(version("distributed"))
    theirs = _of(await rpc.call("versions"))
    _compare(ours, theirs, f"the Dask scheduler at {rpc.address}")
    try:
        workers = await rpc.call("broadcast", timeout_s=min(WORKERS_TIMEOUT_S, rpc.timeout_s), msg={"op": "versions"}, on_error="return")
    except SchedulerError as error:  # a worker that hangs is no reason to refuse the others
        log.warning("The versions of Dask workers are not known", address=rpc.address, error=str(error))
        workers = {}
    for name, versions in sorted(workers.items()) if isinstance(workers, dict) else []:
        if isinstance(versions, dict) and "packages" in versions:
            _compare(ours, _of(versions), f"the Dask worker {name}")
    return str(theirs.get("full", ""))


def _compare(ours: Mapping[str, str], theirs: Mapping[str, str], who: str) -> None:
    wrong = [f"{name} {theirs[name] or 'unknown'} (here {mine})" for name, mine in ours.items() if theirs[name] != mine]
    if wrong:
        raise Incompatible(f"{who} runs {', '.join(wrong)}: the same versions are needed on both sides")


def _of(versions: Any) -> dict[str, str]:
    host, packages = versions.get("host") or {}, versions.get("packages") or {}
    return {
        "python": _python(str(host.get("python", ""))),
        "dask": _month(str(packages.get("dask", ""))),
        "distributed": _month(str(packages.get("distributed", ""))),
        "full": str(packages.get("distributed", "")),
    }


def _python(text: str) -> str:
    return ".".join(text.split(".")[:2])


_month = _python


def _messages(received: Any) -> Sequence[Any]:
    return received if isinstance(received, (tuple, list)) else (received,)


def error_text(message: Mapping[str, Any]) -> str:
    """What a `task-erred` message is about, from a pickled exception that stays closed."""
    exception = message.get("exception")
    if isinstance(exception, Opaque):
        with contextlib.suppress(ValueError):
            exception = exception.raw()
    if isinstance(exception, bytes):
        return words_in_pickle(exception)
    return str(exception or "")[:500]
