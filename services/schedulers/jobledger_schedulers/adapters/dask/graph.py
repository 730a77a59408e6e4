"""What is sent to have runs done: a graph of one task each, as distributed 2026.8's own Client sends it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import cloudpickle
import msgspec
from dask._expr import LLGExpr
from dask._task_spec import Task
from distributed import Future
from distributed.protocol.serialize import Serialize, Serialized, ToPickle, serialize

from jobledger_contracts.job_events import DaskSpec
from jobledger_schedulers.adapters.dask import capture, context, task
from jobledger_schedulers.adapters.dask.wire import encode
from jobledger_schedulers.adapters.port import RunSpec

MAX_RESULT_BYTES = 16 * 2**20
"""A larger result is brought to the workspace by the worker itself."""
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
def by_value(function: Callable[..., Any]) -> bytes:
    """A pickle of a function of our task's modules that needs none of them where it is opened."""
    modules = (task, context, capture)
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(function))
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


@cache
def _task_function() -> _ByValue:
    return _ByValue(by_value(task.run))


class Request(msgspec.Struct, frozen=True):
    """What a task is given, and what the scheduler is told about it."""

    spec: bytes  #: JSON; see `task.run`
    graph: bytes = b""
    annotations: bytes = b"{}"  #: JSON: Dask's annotations of the task


def encoded_graph(requests: Mapping[str, Request]) -> list[bytes]:
    """The message that hands runs over: a graph for all that are to be placed alike. Blocks while it pickles."""
    alike: dict[bytes, dict[str, Request]] = defaultdict(dict)
    for run, request in requests.items():
        alike[request.annotations][run] = request
    return encode([_update_graph(group, json.loads(annotations)) for annotations, group in alike.items()])


def _update_graph(requests: Mapping[str, Request], annotations: dict[str, Any]) -> dict[str, Any]:
    """As distributed 2026.8's Client says it."""
    function = _task_function()
    graph = LLGExpr({run: Task(run, function, request.spec, request.graph) for run, request in requests.items()})  # type: ignore[no-untyped-call]
    return {
        "op": "update-graph",
        "expr_ser": serialized(graph),
        "keys": set(requests),
        "internal_priority": dict.fromkeys(requests, 0),
        "submitting_task": None,
        "fifo_timeout": 0,
        "actors": None,
        "code": ToPickle(()),
        "annotations": ToPickle(annotations),
        "span_metadata": ToPickle({"collections": [{"type": "Future"}]}),
    }


def annotations_of(dask: DaskSpec) -> bytes:
    """Where and when the scheduler is to have a run done, in Dask's words."""
    said = {"resources": dask.resources, "workers": dask.workers, "priority": dask.priority}
    return msgspec.json.encode({name: value for name, value in said.items() if value}, order="sorted")


def request_of(spec: RunSpec) -> Request:
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
        "files_url": spec.environment.get("JOBLEDGER_FILES_URL", ""),
        "retries": dask.retries,
        "max_result_bytes": MAX_RESULT_BYTES,
    }
    graph = _graph(spec.input_dir, dask.graph_file) if dask.graph_file else b""
    return Request(json.dumps(request, allow_nan=False).encode(), graph, annotations_of(dask))


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
