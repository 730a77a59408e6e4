"""What is sent to have runs done: a graph of one task each, as distributed 2026.8's own Client sends it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import cloudpickle
from dask._expr import LLGExpr
from dask._task_spec import Task
from distributed import Future
from distributed.protocol.serialize import Serialize, Serialized, ToPickle, serialize

from jobledger_schedulers.adapters.dask import task
from jobledger_schedulers.adapters.dask.wire import encode
from jobledger_schedulers.adapters.port import RunSpec

MAX_RESULT_BYTES = 64 * 2**20
MAX_GRAPH_BYTES = 64 * 2**20
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z", re.ASCII)


def serialized(value: Any) -> Serialized:
    """Something of ours, for the far side to open."""
    return Serialized(*serialize(Serialize(value), on_error="raise"))  # type: ignore[no-untyped-call]


class Published:
    """Becomes a Future of this key for whoever opens the published dataset: `client.get_dataset(run_id)`."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __reduce__(self) -> tuple[Any, ...]:
        return Future, (self._key,)


class _ByValue:
    """Our task function, which is unpickled into itself: workers and scheduler do not have our package."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def __call__(self, *args: Any) -> Any:
        raise AssertionError("this runs on workers only")

    def __reduce__(self) -> tuple[Any, ...]:
        return cloudpickle.loads, (self._payload,)


@cache
def _task_function() -> _ByValue:
    cloudpickle.register_pickle_by_value(task)
    try:
        return _ByValue(cloudpickle.dumps(task.run))
    finally:
        cloudpickle.unregister_pickle_by_value(task)


def encoded_graph(requests: Mapping[str, tuple[bytes, bytes]]) -> list[bytes]:
    """The message that hands runs over, as distributed 2026.8's Client sends it. Blocks while it pickles."""
    function = _task_function()
    graph = LLGExpr({run: Task(run, function, *arguments) for run, arguments in requests.items()})  # type: ignore[no-untyped-call]
    return encode(
        [
            {
                "op": "update-graph",
                "expr_ser": serialized(graph),
                "keys": set(requests),
                "internal_priority": dict.fromkeys(requests, 0),
                "submitting_task": None,
                "fifo_timeout": 0,
                "actors": None,
                "code": ToPickle(()),
                "annotations": ToPickle({}),
                "span_metadata": ToPickle({"collections": [{"type": "Future"}]}),
            }
        ]
    )


def request_of(spec: RunSpec) -> tuple[bytes, bytes]:
    """What the task is given. Raises ValueError for what can never run."""
    dask = spec.dask
    if dask is None or bool(dask.function) == bool(dask.graph_file):
        raise ValueError("the job must name either a function (module:function) or a graph file for Dask")
    if dask.function and not _FUNCTION.match(dask.function):
        raise ValueError(f"{dask.function[:200]!r} is no module:function")
    request = {
        "run_id": spec.run_id,
        "function": dask.function,
        "args": dask.args,
        "kwargs": dask.kwargs,
        "environment": spec.environment,
        "credential": spec.credential,
        "max_result_bytes": MAX_RESULT_BYTES,
    }
    return json.dumps(request, allow_nan=False).encode(), _graph(spec.input_dir, dask.graph_file) if dask.graph_file else b""


def _graph(input_dir: Path, name: str) -> bytes:
    root = input_dir.resolve()
    path = (root / name).resolve()
    if PurePosixPath(name).is_absolute() or not path.is_relative_to(root):
        raise ValueError(f"the graph file {name[:200]!r} must be a path below the job's folder")
    if not path.is_file():
        raise ValueError(f"the graph file {name[:200]!r} is not in the job's folder")
    if path.stat().st_size > MAX_GRAPH_BYTES:
        raise ValueError(f"the graph file {name[:200]!r} is larger than {MAX_GRAPH_BYTES} bytes")
    return path.read_bytes()
