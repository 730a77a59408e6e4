"""DASK jobs: a function that the workers can import, or a graph made here that only the workers open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import cloudpickle

from jobledger.errors import InvalidArgument
from jobledger.jobs import Job
from jobledger.results import GRAPH_FILE, open_result
from jobledger.views import JobView


class DaskJob(Job):
    """A job for a Dask scheduler.

    Either `function` (`"module:function"`, importable on the workers, with JSON `args` and `kwargs`), or what is given to `execute()`.
    """

    job_type = "DASK"

    def __init__(
        self, name: str, *, function: str = "", args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **common: Any
    ) -> None:
        super().__init__(name, **common)
        self.function, self.args, self.kwargs = function, list(args), dict(kwargs or {})
        self._graph: bytes | None = None

    def execute(self, work: Any = None, *, by_value: Sequence[ModuleType] = ()) -> None:
        """Save the job and ask for its first run.

        `work` is a callable without arguments, a `dask.delayed` object or another Dask collection. It is pickled here (cloudpickle) and
        opened on a worker, never in Jobledger's services. `by_value` names modules that the workers do not have: their functions are
        sent along. Raises `InvalidArgument` when there is nothing to run.
        """
        if work is None and not self.function:
            raise InvalidArgument("a DASK job needs something to run: a function's name, or a callable or Dask collection for execute()")
        if work is not None:
            self.function, self.args, self.kwargs = "", [], {}
            self._graph = pickle_by_value(work, by_value)
        super().execute()

    def result(self, *, allow_pickle: bool = False) -> Any:
        """The value that the current run returned.

        JSON values are read as such. Anything else comes as a pickle, and opening a pickle runs whatever its maker put in: it is opened
        only with `allow_pickle=True`, which is for you to say, since you know whose code ran on those workers. Raises
        `ResultUnavailable` otherwise, and when there is no result.
        """
        self.refresh()
        return open_result(self, allow_pickle=allow_pickle)

    @property
    def key(self) -> str:
        """The key under which the Dask scheduler has the current run; empty before that."""
        return self.scheduler_job_ref

    def done(self) -> bool:
        """True when the run is over, whatever came of it. Asks the service."""
        return self.refresh().is_terminal

    def retry(self) -> None:
        """Ask for another run of a job whose last one is over, as `resubmit` does."""
        self.resubmit()

    def _check(self) -> None:
        super()._check()
        names = [name for dotted in self.function.split(":") for name in dotted.split(".")]
        named = self.function.count(":") == 1 and all(name.isidentifier() and name.isascii() for name in names)
        if self.function and not named:
            raise InvalidArgument(f"{self.function[:200]!r} is no function that a worker can import: say MODULE:FUNCTION, as in math:sqrt")

    def _spec(self) -> dict[str, Any]:
        if not self.function:
            return {"dask": {"graph_file": GRAPH_FILE}}
        spec = {"function": self.function, "args": self.args, "kwargs": self.kwargs}
        return {"dask": {name: value for name, value in spec.items() if value}}

    def _bring_files(self) -> None:
        if self._graph is not None:
            self.write(GRAPH_FILE, self._graph)
            self._graph = None

    def _load_spec(self, view: JobView) -> None:
        spec = view.dask or {}
        self.function, self.args, self.kwargs = spec.get("function", ""), list(spec.get("args", [])), dict(spec.get("kwargs", {}))
        self._graph = None


def pickle_by_value(work: Any, modules: Sequence[ModuleType]) -> bytes:
    """Pickle with cloudpickle; functions of `modules` are sent as code instead of by name."""
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        raw: bytes = cloudpickle.dumps(work)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return raw
