"""What runs on a Dask worker: one task that opens the user's work there, and hands back bytes only.

Shipped by value, so workers need nothing of ours: everything must live here, in `context.py` or in `capture.py`, or come with dask
itself.

A result is bytes: `JLR2`, the length of a header (4 bytes, little endian), the header, and three parts one after the other: what came
of it, what it printed, and what it printed on stderr. The header is JSON: `kind`, the `sizes` of the parts, and the files that were
`saved` in the workspace. Of the kinds,

    J   is a value as JSON
    P   a value as cloudpickle: for users to open, never for a service
    E   an error as JSON: type, message, traceback
    W   nothing: the value is too large to travel like this, and was saved in the workspace
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import shutil
import struct
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from jobledger_schedulers.adapters.dask.capture import Kept, captured
from jobledger_schedulers.adapters.dask.context import RunContext

MAGIC = b"JLR2"
EVENTS_TOPIC = "jobledger-runs"
MAX_TRACEBACK_CHARS = 16_384
MAX_MESSAGE_CHARS = 2_048
POLL_S = 1.0
KEYS_PER_S = 5_000
"""Of how many tasks of a graph the scheduler is asked in a second, to say how much is done."""
CREDENTIAL_FILE = ".jobledger-credential"
UNDONE = frozenset({"waiting", "queued", "processing", "no-worker"})


class RunCancelled(Exception):
    """The run was stopped while it waited for what it had started."""


def run(request: bytes, graph: bytes) -> bytes:
    """Do one run and return its result; only what kills the worker makes the task itself fail.

    `request` is JSON: run_id, function (`module:function`), args, kwargs, environment, credential, files_url, retries,
    max_result_bytes. `graph` is a cloudpickled callable, delayed value or collection; empty when `function` is given.
    """
    spec = json.loads(request)
    saved: list[dict[str, Any]] = []
    with captured(spec["run_id"]) as output:
        folder = ""
        try:
            folder = tempfile.mkdtemp(prefix="jobledger-")  # 0700
            context = _context(spec, folder)
            saved = context.saved
            kind, body = _tries(spec, graph, context)
        except BaseException as error:  # noqa: BLE001 - SystemExit too: a user's sys.exit() must not take the worker along
            kind, body = b"E", _error(error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return _packed(kind, body, output, saved)


def _context(spec: Mapping[str, Any], folder: str) -> RunContext:
    """What the function may have, with the run's credential in a file that only this account can read; gone with the run."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def stopped() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    def tell(event: dict[str, Any]) -> None:
        worker.log_event(EVENTS_TOPIC, {"run_id": spec["run_id"], "worker": worker.address, **event})

    environment = {**spec["environment"], "JOBLEDGER_SCRATCH_DIR": folder}
    if spec["credential"]:
        file = environment["JOBLEDGER_CREDENTIAL_FILE"] = f"{folder}/{CREDENTIAL_FILE}"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(spec["credential"] + "\n")
    return RunContext(environment, credential=spec["credential"], files_url=spec["files_url"], stopped=stopped, tell=tell)


def _tries(spec: Mapping[str, Any], graph: bytes, context: RunContext) -> tuple[bytes, bytes]:
    """Do the work; what raises is tried again as often as was asked for, each time as a new execution."""
    for left in range(spec["retries"], -1, -1):
        context.tell({"event": "started", "execution": uuid.uuid4().hex})
        try:
            work = _open_function(spec["function"]) if spec["function"] else _open_graph(graph)
            value = _perform(work, spec["args"], spec["kwargs"], context)
            break
        except Exception as error:
            if not left or context.stopped():
                raise
            sys.stderr.write(f"{_error_text(error)}It is tried again; {left} tries are left.\n")
    return _delivered(value, spec["max_result_bytes"], context)


def _open_function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{name} is not callable")
    return found  # type: ignore[no-any-return]


def _open_graph(graph: bytes) -> Any:
    import cloudpickle

    return cloudpickle.loads(graph)


def _perform(work: Any, args: list[Any], kwargs: dict[str, Any], context: RunContext) -> Any:
    """Call what can be called, and compute what comes of it as long as that is a Dask collection."""
    from dask.base import is_dask_collection

    if not is_dask_collection(work) and callable(work):
        with contextlib.suppress(TypeError, ValueError):  # a builtin may have no signature
            if "jobledger" in inspect.signature(work).parameters:
                kwargs = {**kwargs, "jobledger": context}
        work = work(*args, **kwargs)
    if is_dask_collection(work) or (isinstance(work, (list, tuple)) and any(is_dask_collection(item) for item in work)):
        return _compute(work, context)
    return work


def _compute(collection: Any, context: RunContext) -> Any:
    """Compute on this cluster, out of this worker's thread pool, so that the tasks can use the thread; end when the run is stopped."""
    import distributed

    with distributed.worker_client() as client:
        several = isinstance(collection, (list, tuple))
        collections = list(collection) if several else [collection]
        futures = client.compute(collections)
        try:
            progress = _Progress(client, collections, context)
            while True:
                with contextlib.suppress(TimeoutError):
                    distributed.wait(futures, timeout=POLL_S)  # type: ignore[no-untyped-call]
                    break
                if context.stopped():
                    raise RunCancelled("the run was stopped")
                progress.look()
            results = client.gather(futures)
        except BaseException:
            client.cancel(futures)
            raise
    return results if several else results[0]


class _Progress:
    """Counts the tasks of a graph that are done, and tells."""

    def __init__(self, client: Any, collections: list[Any], context: RunContext) -> None:
        self._client, self._context = client, context
        self._keys: list[Any] | None = None  #: None: the scheduler has not been seen to know any of them
        self._collections, self._next_at = collections, 0.0

    def look(self) -> None:
        """Ask the scheduler, now and then. It is told less of a graph whose tasks have other names there than here."""
        now = time.monotonic()
        if now < self._next_at:
            return
        keys = self._keys if self._keys is not None else self._names()
        self._next_at = now + max(POLL_S, len(keys) / KEYS_PER_S)
        states = self._client.sync(self._client.scheduler.get_task_status, keys=keys)
        if self._keys is None:
            known = [key for key in keys if states.get(key) is not None]
            self._keys, keys = known or None, known
        if keys:
            done = sum(states.get(key) not in UNDONE for key in keys)
            self._context.progress(done / len(keys), f"{done} of {len(keys)} tasks")

    def _names(self) -> list[Any]:
        from dask.base import is_dask_collection, optimize

        graphs = [item.__dask_graph__() for item in optimize(*self._collections) if is_dask_collection(item)]  # type: ignore[no-untyped-call]
        return list({key for graph in graphs for key in graph})


def _delivered(value: Any, max_bytes: int, context: RunContext) -> tuple[bytes, bytes]:
    """JSON where that gives the same value back, cloudpickle otherwise; what is too large to travel is saved in the workspace."""
    kind, encoded = b"J", b""
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        text = json.dumps(value, allow_nan=False)
        if json.loads(text) == value:  # not so for tuples, or for keys that are no strings
            encoded = text.encode()
    if not encoded:
        import cloudpickle

        kind, encoded = b"P", cloudpickle.dumps(value)
    if len(encoded) <= max_bytes:
        return kind, encoded
    try:
        context.save("result.json" if kind == b"J" else "result.pickle", encoded)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the result takes {len(encoded)} bytes, more than the {max_bytes} that travel through the scheduler: write it to a file"
            f" (it could not be brought to the workspace: {error})"
        ) from None
    return b"W", b""


def _error(error: BaseException) -> bytes:
    try:
        message = str(error)
    except Exception as unprintable:  # noqa: BLE001 - a user's class may do anything here
        message = f"(its text cannot be had: {type(unprintable).__name__})"
    fields = {"type": type(error).__qualname__, "message": message[:MAX_MESSAGE_CHARS], "traceback": _error_text(error)}
    return json.dumps(fields).encode("utf-8", "replace")


def _error_text(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == run.__code__.co_filename:  # our own frames say nothing to users
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    if len(text) > MAX_TRACEBACK_CHARS:
        text = text[: MAX_TRACEBACK_CHARS // 2] + "\n[...]\n" + text[-MAX_TRACEBACK_CHARS // 2 :]
    return text


def _packed(kind: bytes, body: bytes, output: Mapping[str, Kept], saved: list[dict[str, Any]]) -> bytes:
    parts = [body, output["stdout"].text(), output["stderr"].text()]
    header = json.dumps({"kind": kind.decode(), "sizes": [len(part) for part in parts], "saved": saved}).encode()
    return b"".join((MAGIC, struct.pack("<I", len(header)), header, *parts))
