"""DASK jobs: a function that the workers can import, or a graph made here that only the workers open."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any
from urllib.parse import quote, urlsplit

import cloudpickle

from jobledger.compute import get_scheduler
from jobledger.errors import InvalidArgument
from jobledger.jobs import Job
from jobledger.results import GRAPH_FILE, open_result
from jobledger.views import JobView


class DaskJob(Job):
    """A job for a Dask scheduler.

    Either `function` (`"module:function"`, importable on the workers, with JSON `args` and `kwargs`), or what is given to `execute()`.
    `retries`: how often it is tried again when it raises. `worker_resources` and `workers` say which workers may do it, `priority` (the
    highest first) when, as in Dask. `on_lost`: what becomes of a run that the scheduler has lost, because it was restarted, say:
    `"error"`, or `"resubmit"` for what may be done twice.
    """

    job_type = "DASK"

    def __init__(
        self,
        name: str,
        *,
        function: str = "",
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        retries: int = 0,
        worker_resources: Mapping[str, float] | None = None,
        workers: Iterable[str] = (),
        priority: int = 0,
        on_lost: str = "error",
        **common: Any,
    ) -> None:
        super().__init__(name, **common)
        self.function, self.args, self.kwargs = function, list(args), dict(kwargs or {})
        self.retries, self.priority, self.on_lost = retries, priority, on_lost
        self.worker_resources, self.workers = dict(worker_resources or {}), list(workers)
        self._graph: bytes | None = None

    def execute(self, work: Any = None, *, by_value: Sequence[ModuleType] = ()) -> None:
        """Save the job and ask for its first run.

        `work` is a callable without arguments, a `dask.delayed` object or another Dask collection. It is pickled here (cloudpickle) and
        opened on a worker, never in Jobledger's services. `by_value` names modules that the workers do not have: their functions are
        sent along. Raises `InvalidArgument` when there is nothing to run.

        A `distributed.Future` that you hold on the same scheduler is taken over: from now on the scheduler keeps it for this job, also
        when your process ends; the job waits for it there, and its value becomes the job's result. It cannot be run again.
        """
        if work is None and not self.function:
            raise InvalidArgument("a DASK job needs something to run: a function's name, or a callable or Dask collection for execute()")
        if work is not None:
            self.function, self.args, self.kwargs = "", [], {}
            if (distributed := sys.modules.get("distributed")) is not None and isinstance(work, distributed.Future):
                work = self._taken_over(work)
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
    def dashboard_link(self) -> str:
        """Where the scheduler's own pages show the current run; empty when it has none. Asks the service where they are."""
        name = getattr(self.scheduler, "name", self.scheduler)
        scheduler = get_scheduler(name, connection=self._connection) if name else None
        return task_page(scheduler.dashboard, self.run_id or "") if scheduler is not None else ""

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

    def _taken_over(self, future: Any) -> Callable[..., Any]:
        """Have the scheduler keep a future, and return what waits for it there. Raises `InvalidArgument`."""
        if self.retries or self.on_lost != "error":
            raise InvalidArgument(
                "a future is what it is: it cannot be tried again or resubmitted, so retries and on_lost do not go with it"
            )
        if future.client.asynchronous:
            raise InvalidArgument("a future of an asynchronous client cannot be taken over: publish it, and give a function that gets it")
        if future.cancelled():
            raise InvalidArgument(f"the future {future.key!r} was cancelled")
        name = f"jobledger-{uuid.uuid4()}"
        future.client.publish_dataset(future, name=name)
        return _waits_for(name)

    def _check(self) -> None:
        super()._check()
        if self.on_lost not in ("error", "resubmit"):
            raise InvalidArgument(f"on_lost is 'error' or 'resubmit', not {self.on_lost!r}")
        if self.retries < 0 or any(amount < 0 for amount in self.worker_resources.values()):
            raise InvalidArgument("retries and worker_resources are not negative")
        names = [name for dotted in self.function.split(":") for name in dotted.split(".")]
        named = self.function.count(":") == 1 and all(name.isidentifier() and name.isascii() for name in names)
        if self.function and not named:
            raise InvalidArgument(f"{self.function[:200]!r} is no function that a worker can import: say MODULE:FUNCTION, as in math:sqrt")

    def _spec(self) -> dict[str, Any]:
        what: dict[str, Any] = {"function": self.function, "args": self.args, "kwargs": self.kwargs}
        if not self.function:
            what = {"graph_file": GRAPH_FILE}
        how: dict[str, Any] = {"retries": self.retries, "resources": self.worker_resources, "workers": self.workers}
        how |= {"priority": self.priority, "on_lost": "" if self.on_lost == "error" else self.on_lost}
        return {"dask": {name: value for name, value in {**what, **how}.items() if value}}

    def _bring_files(self) -> None:
        if self._graph is not None:
            self.write(GRAPH_FILE, self._graph)
            self._graph = None

    def _load_spec(self, view: JobView) -> None:
        spec = view.dask or {}
        self.function, self.args, self.kwargs = spec.get("function", ""), list(spec.get("args", [])), dict(spec.get("kwargs", {}))
        self.retries, self.priority, self.on_lost = spec.get("retries", 0), spec.get("priority", 0), spec.get("on_lost", "error")
        self.worker_resources, self.workers = dict(spec.get("resources", {})), list(spec.get("workers", []))
        self._graph = None


def task_page(dashboard: str, key: str) -> str:
    """The page of a task below a Dask scheduler's dashboard, whichever of its pages was given; empty without either.

    >>> task_page("http://dask:8787/status", "job.1")
    'http://dask:8787/info/task/job.1.html'
    """
    if not dashboard or not key:
        return ""
    parts = urlsplit(dashboard if "://" in dashboard else f"http://{dashboard}")
    below = parts.path.partition("/info/")[0].removesuffix("/").removesuffix("/status")
    return parts._replace(path=f"{below}/info/task/{quote(key)}.html", query="", fragment="").geturl()


def _waits_for(name: str) -> Callable[..., Any]:
    """A function for a worker: waits for a published future, and returns its value. It is pickled by value."""

    def wait_for_it(jobledger: Any) -> Any:
        from distributed import wait, worker_client

        with worker_client() as client:
            try:
                future = client.get_dataset(name)
            except KeyError:
                raise LookupError("the future is not kept on this scheduler: it is another one, or the future was used up before") from None
            try:
                while not jobledger.stopped():
                    try:
                        wait(future, timeout=1)  # type: ignore[no-untyped-call]
                    except TimeoutError:
                        continue
                    return future.result()
                client.cancel(future, force=True)
                raise RuntimeError("the run was stopped")
            finally:
                client.unpublish_dataset(name)

    return wait_for_it


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
