"""What runs on a Dask worker: one task that opens the user's work there, and hands back bytes only.

Shipped by value, so workers need nothing of ours: everything here must live in this module or come with dask itself.

A result is bytes: four that say what they are, one that says how they are to be read, and the rest.

    JLR1 J ...   a value as JSON
    JLR1 P ...   a value as cloudpickle: for users to open, never for a service
    JLR1 E ...   an error as JSON: type, message, traceback
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import shutil
import tempfile
import traceback
import uuid
from collections.abc import Callable, Iterator
from typing import Any

MAGIC = b"JLR1"
EVENTS_TOPIC = "jobledger-runs"
MAX_TRACEBACK_CHARS = 16_384
MAX_MESSAGE_CHARS = 2_048
POLL_S = 1.0
CREDENTIAL_FILE = ".jobledger-credential"


class RunCancelled(Exception):
    """The run was stopped while it waited for what it had started."""


def run(request: bytes, graph: bytes) -> bytes:
    """Do one run and return its result; only what kills the worker makes the task itself fail.

    `request` is JSON: run_id, function (`module:function`), args, kwargs, environment, credential, max_result_bytes. `graph` is a
    cloudpickled callable, delayed value or collection; empty when `function` is given.
    """
    spec = json.loads(request)
    with contextlib.ExitStack() as stack:
        try:
            _tell_started(spec["run_id"])
            context = stack.enter_context(_context(spec))
            work = _open_function(spec["function"]) if spec["function"] else _open_graph(graph)
            return _encode(_perform(work, spec["args"], spec["kwargs"], context), spec["max_result_bytes"])
        except BaseException as error:  # noqa: BLE001 - SystemExit too: a user's sys.exit() must not take the worker along
            return _encode_error(error)


def _tell_started(run_id: str) -> None:
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(EVENTS_TOPIC, {"run_id": run_id, "event": "started", "execution": uuid.uuid4().hex, "worker": worker.address})


@contextlib.contextmanager
def _context(spec: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The run's environment, with its credential in a file that only this account can read; gone with the run.

    A mapping, not os.environ: the threads of a worker share that, and each may have a run of its own.
    """
    context = dict(spec["environment"])
    folder = tempfile.mkdtemp(prefix="jobledger-")  # 0700
    try:
        if spec["credential"]:
            file = f"{folder}/{CREDENTIAL_FILE}"
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(spec["credential"] + "\n")
            context["JOBLEDGER_CREDENTIAL_FILE"] = file
        context["JOBLEDGER_SCRATCH_DIR"] = folder
        yield context
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def _perform(work: Any, args: list[Any], kwargs: dict[str, Any], context: dict[str, str]) -> Any:
    """Call what can be called, and compute what comes of it as long as that is a Dask collection."""
    from dask.base import is_dask_collection

    if not is_dask_collection(work) and callable(work):
        with contextlib.suppress(TypeError, ValueError):  # a builtin may have no signature
            if "jobledger" in inspect.signature(work).parameters:
                kwargs = {**kwargs, "jobledger": context}
        work = work(*args, **kwargs)
    if is_dask_collection(work) or (isinstance(work, (list, tuple)) and any(is_dask_collection(item) for item in work)):
        return _compute(work)
    return work


def _compute(collection: Any) -> Any:
    """Compute on this cluster, out of this worker's thread pool, so that the tasks can use the thread; end when the run is stopped."""
    import distributed

    worker = distributed.get_worker()
    key = worker.get_current_task()
    with distributed.worker_client() as client:
        several = isinstance(collection, (list, tuple))
        futures = client.compute(list(collection) if several else [collection])
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    distributed.wait(futures, timeout=POLL_S)  # type: ignore[no-untyped-call]
                    break
                task = worker.state.tasks.get(key)
                if task is None or task.state == "cancelled":
                    raise RunCancelled("the run was stopped")
            results = client.gather(futures)
        except BaseException:
            client.cancel(futures)
            raise
    return results if several else results[0]


def _encode(value: Any, max_bytes: int) -> bytes:
    """JSON where that gives the same value back, cloudpickle otherwise."""
    encoded = b""
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        text = json.dumps(value, allow_nan=False)
        if json.loads(text) == value:  # not so for tuples, or for keys that are no strings
            encoded = MAGIC + b"J" + text.encode()
    if not encoded:
        import cloudpickle

        encoded = MAGIC + b"P" + cloudpickle.dumps(value)
    if len(encoded) > max_bytes:
        raise ValueError(
            f"the result takes {len(encoded)} bytes, more than the {max_bytes} that travel through the scheduler: write it to a file"
        )
    return encoded


def _encode_error(error: BaseException) -> bytes:
    try:
        message = str(error)
    except Exception as unprintable:  # noqa: BLE001 - a user's class may do anything here
        message = f"(its text cannot be had: {type(unprintable).__name__})"
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == run.__code__.co_filename:  # our own frames say nothing to users
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    if len(text) > MAX_TRACEBACK_CHARS:
        text = text[: MAX_TRACEBACK_CHARS // 2] + "\n[...]\n" + text[-MAX_TRACEBACK_CHARS // 2 :]
    fields = {"type": type(error).__qualname__, "message": message[:MAX_MESSAGE_CHARS], "traceback": text}
    return MAGIC + b"E" + json.dumps(fields).encode("utf-8", "replace")
