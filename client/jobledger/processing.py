"""Processing the results of runs that ended well: the functions that apps name for it, and claims on what waits.

A function is named by where it can be imported from: `package.module:function`, or `package.module.function` as Tethys has it. It is called
with the job, in the app's own process (`jobledger worker`), never in Jobledger's services. A claim is a lease: it is renewed while the
function runs, and when it is lost (the job was stopped, or another worker has taken over) what the function did no longer counts.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from jobledger.errors import ApiError, InvalidArgument, Refused, ServerError, Unreachable
from jobledger.views import JobView

if TYPE_CHECKING:
    from jobledger.connection import Connection
    from jobledger.jobs import Job

Function = Callable[..., Any]
LEASE_S: Final = 60.0
INSIST_S: Final = 600.0
"""How long a word is repeated to a service that is away; by then another worker has the results."""
PAUSE_S: Final = 1.0
MAX_TRACEBACK: Final = 60_000
MAX_ERROR: Final = 2_000
_NAME = r"[A-Za-z_]\w*"
_PATH: Final = re.compile(rf"{_NAME}(\.{_NAME})*(:{_NAME}(\.{_NAME})*|\.{_NAME})", re.ASCII)


class ProcessingFailure(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt at processing a run's results that failed."""

    run: int
    attempt: int
    last: bool = False  #: it was not tried again
    worker: str = ""
    error: str = ""
    traceback: str = ""
    occurred_at: datetime | None = None


def path_of(function: str | Function | None) -> str:
    """Where a function can be imported from. Raises `InvalidArgument` for one that cannot be found by name."""
    if function is None:
        return ""
    if isinstance(function, str):
        if function and not _PATH.fullmatch(function):
            raise InvalidArgument(f"{function[:200]!r} names no function: say PACKAGE.MODULE:FUNCTION")
        return function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not name or "<" in name:
        raise InvalidArgument(f"{function!r} cannot be imported by name: use a function that stands in a module of the app")
    if module == "__main__":
        raise InvalidArgument(f"{name} stands in the script that is running, which a worker cannot import: move it to a module of the app")
    return path_of(f"{module}:{name}")


def module_of(path: str) -> str:
    """The module that a path names."""
    return path.partition(":")[0] if ":" in path else path.rpartition(".")[0]


def resolve(path: str) -> Function:
    """Import a function. Raises ImportError, AttributeError, and whatever importing its module raises."""
    module = module_of(path)
    found: Any = importlib.import_module(module)
    for name in path[len(module) + 1 :].split("."):
        found = getattr(found, name)
    if not callable(found):
        raise TypeError(f"{path} is no function but {type(found).__name__}")
    function: Function = found
    return function


def resolve_or_none(path: str) -> Function | None:
    """As `resolve`; None when there is none, or it cannot be imported here."""
    try:
        return resolve(path) if path else None
    except (ImportError, AttributeError, TypeError):
        return None


def worker_name() -> str:
    """What the history calls this process."""
    return f"{socket.gethostname()[:200]}:{os.getpid()}"


class Claim:
    """Results that are ours to process for a while."""

    def __init__(self, item: dict[str, Any], connection: Connection, worker: str) -> None:
        self.view = msgspec.convert(item["job"], JobView, strict=False)
        self.run, self.attempt, self.lease_s = int(item["run"]), int(item["attempt"]), float(item["lease_s"])
        self.lost = threading.Event()  #: set when the results are not ours any more
        self._connection, self._worker, self._key = connection, worker, str(uuid.uuid4())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease meanwhile, in a thread."""
        over = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(over,), name=f"lease {self.view.id}", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def done(self, message: str | None = None) -> dict[str, Any] | None:
        """Say that the results are processed; returns the job as it now stands. Raises `Refused` when it comes too late."""
        return self._say("done", {} if message is None else {"message": message[:MAX_ERROR]})

    def failed(self, error: str, trace: str = "", *, hopeless: bool = False) -> dict[str, Any] | None:
        """Say that processing failed, and (when it is not `hopeless`) is to be tried again."""
        trace = trace if len(trace) <= MAX_TRACEBACK else f"(the beginning is left out)\n{trace[-MAX_TRACEBACK:]}"
        return self._say("failed", {"error": error[:MAX_ERROR], "traceback": trace, "hopeless": hopeless})

    def _say(self, word: str, more: dict[str, Any]) -> dict[str, Any] | None:
        body = {"run": self.run, "attempt": self.attempt, "worker": self._worker, **more}
        deadline = time.monotonic() + INSIST_S
        while True:
            try:
                answer: dict[str, Any] | None = self._connection.jobs.post(self._path(word), body, idempotency_key=f"{self._key}-{word}")
            except (Unreachable, ServerError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_S)
            else:
                return answer

    def _keep(self, over: threading.Event) -> None:
        body = {"run": self.run, "attempt": self.attempt, "lease_s": self.lease_s}
        pause_s = self.lease_s / 3
        while not over.wait(pause_s):
            try:
                self._connection.jobs.post(self._path("renew"), body)
            except (Unreachable, ServerError):
                pause_s = min(PAUSE_S, self.lease_s / 3)
            except ApiError:
                self.lost.set()
                return
            else:
                pause_s = self.lease_s / 3

    def _path(self, word: str) -> str:
        return f"/jobs/{self.view.id}/processing/{word}"


def claim_results(
    connection: Connection,
    label: str,
    *,
    worker: str,
    user: str = "",
    job_id: str = "",
    limit: int = 1,
    lease_s: float = LEASE_S,
    wait_s: float = 0.0,
) -> list[Claim]:
    """Claim results that wait (only of that user's jobs, or of that one job), and wait for some for so long.

    Raises as the connection does; what was lost on its way comes again.
    """
    narrowed = {name: value for name, value in (("user", user), ("job_id", job_id)) if value}
    body = {"label": label, "worker": worker, "limit": limit, "lease_s": lease_s, "wait_s": wait_s, **narrowed}
    answer = connection.jobs.post("/jobs/processing/claims", body)
    return [Claim(item, connection, worker) for item in answer["items"]]


def process_here(job: Job, path: str, connection: Connection, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Process a job's results in this process. Raises `InvalidArgument`, `Refused`, and whatever the function raises."""
    if not path:
        raise InvalidArgument(f"{job.name!r} names no process_results_function")
    claims = claim_results(connection, job.label, worker=worker_name(), job_id=job.id)
    if not claims:
        job.refresh()
        problem = {
            "title": "Nothing to process",
            "detail": f"The results of {job.name} cannot be processed now: it is {job.cached_status}.",
        }
        if job.status_code == "RES":
            problem["detail"] = f"The results of {job.name} are being processed, or their next attempt is not due yet."
        raise Refused(409, problem)
    (claim,) = claims
    try:
        with claim.kept():
            result = resolve(path)(job, *args, **kwargs)
    except BaseException as error:
        claim.failed(last_line(error), traceback.format_exc())
        raise
    claim.done(result if isinstance(result, str) else None)
    return result


def last_line(error: BaseException) -> str:
    """What a traceback ends with."""
    return "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
