"""Jobs, as an app sees them: set attributes, `save()` or `execute()`, then ask for the status, the history and the files.

The names are those of Tethys Platform's Jobs API. A job is local until it is saved. Its Idempotency-Key is chosen when the object is
made, so `save()` may be repeated after any error without ever making two jobs.
"""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec

from jobledger import files, processing
from jobledger.compute import check_scheduler_name
from jobledger.connection import Connection
from jobledger.errors import NotSaved, Refused
from jobledger.seen import Seen
from jobledger.tailing import tail
from jobledger.tethys_names import TethysNames
from jobledger.views import CallbackCredential, FileInfo, HistoryEntry, JobView
from jobledger.watching import wait_for
from jobledger_contracts.job_events import Resources
from jobledger_contracts.statuses import ACTIVE, TERMINAL, parse_status

OnChange = Callable[["Job"], None]


class Job(TethysNames):
    """Base of all job types. Attributes below are as the service last said; `status` asks it now."""

    job_type: ClassVar[str] = ""

    id = Seen[str]()  #: empty until saved
    creation_time = Seen[datetime | None]()
    execute_time = Seen[datetime | None]()
    start_time = Seen[datetime | None]()
    completion_time = Seen[datetime | None]()
    status_message = Seen[str]()
    progress = Seen[float | None]()
    run = Seen[int]()  #: counted from 1; 0 before the first
    run_id = Seen[str | None]()
    exit_code = Seen[int | None]()
    exit_signal = Seen[int | None]()
    restarts = Seen[int]()  #: how often the run's execution was begun anew
    resources = Seen[Resources | None]()  #: what the run asked for and used, told at its end
    scheduler_job_ref = Seen[str]()
    workspace = Seen[str]()  #: where the service keeps the job's files
    position = Seen[str]()

    def __init__(
        self,
        name: str,
        *,
        connection: Connection,
        label: str,
        user: str = "",
        groups: Iterable[str] = (),
        description: str = "",
        extended_properties: Mapping[str, Any] | None = None,
        scheduler: Any = None,
        process_results_function: str | Callable[..., Any] | None = None,
    ) -> None:
        self.name, self.label, self.user, self.description = name, label, user, description
        self.groups, self.extended_properties = list(groups), dict(extended_properties or {})
        self.scheduler: Any = scheduler
        self._process_results_function = processing.path_of(process_results_function)
        self.view, self._connection = JobView(), connection
        self.idempotency_key = str(uuid.uuid4())  #: of its creation
        self._saved_body: dict[str, Any] = {}

    # --- keeping it -------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Create the job, or send what was changed since. Safe to repeat after any error. Raises `InvalidArgument`."""
        body = self.creation_body()
        if not self.id:
            self.take_created(self._connection.jobs.post("/jobs", body, idempotency_key=self.idempotency_key))
            return
        changed = {name: value for name, value in body.items() if value != self._saved_body.get(name)}
        if changed:
            self.take(self._connection.jobs.patch(f"/jobs/{self.id}", changed, idempotency_key=str(uuid.uuid4())))
            self._saved_body = body
        self._bring_files()

    def execute(self) -> None:
        """Save what was not, and ask for the job's first run. Returns when the ledger has decided; raises `Refused` when it says no."""
        self.save()
        self._ask("execute")

    def delete(self) -> None:
        """Take the job out of the list; its history stays. Refused while a run is active."""
        self._connection.jobs.delete(f"/jobs/{self._id()}", idempotency_key=str(uuid.uuid4()))

    def refresh(self) -> Self:
        """Fetch the job anew, not older than what this object has seen already."""
        self.take(self._connection.jobs.get(f"/jobs/{self._id()}", {"after": self.position}))
        return self

    # --- what is asked of a run ------------------------------------------------------------------------------------------------

    def stop(self, reason: str = "") -> None:
        """Ask to end the current run."""
        self._ask("stop", reason)

    def pause(self, reason: str = "") -> None:
        """Ask to hold the current run."""
        self._ask("pause", reason)

    def resume(self, reason: str = "") -> None:
        """Ask to let a held run go on."""
        self._ask("resume", reason)

    def resubmit(self, reason: str = "") -> None:
        """Ask for another run of a job whose last one is over."""
        self._ask("resubmit", reason)

    # --- status ---------------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The status now, as people read it. Asks the service; changes nothing. Setting it reports it, as `update_status` does."""
        return self.refresh().view.status if self.id else self.view.status

    @status.setter
    def status(self, status: str) -> None:
        self.update_status(status)

    @property
    def cached_status(self) -> str:
        """The status when it was last fetched."""
        return self.view.status

    @property
    def status_code(self) -> str:
        """The three-letter code of `cached_status`."""
        return self.view.status_code

    @property
    def is_terminal(self) -> bool:
        """True when the run was over for good when last fetched."""
        return parse_status(self.view.status_code)[0] in TERMINAL

    @property
    def is_active(self) -> bool:
        """True when a run was under way when last fetched."""
        return parse_status(self.view.status_code)[0] in ACTIVE

    @property
    def run_time(self) -> timedelta | None:
        """How long the run has executed, or did."""
        return None if self.view.run_time_s is None else timedelta(seconds=self.view.run_time_s)

    @property
    def type(self) -> str:
        """The name of the job's type, as Tethys has it."""
        return type(self).__name__

    def update_status(self, status: str | None = None, message: str | None = None, progress: float | None = None) -> None:
        """Without a status: have the scheduler asked now. With one: report it, as who runs a BASIC job does.

        A name, a three-letter code, or any text of the job's own. `progress` goes from 0 to 1.
        """
        if status is None:
            self._ask("refresh")
        else:
            report = {"status": status, "message": message, "progress": progress}
            body = {name: value for name, value in report.items() if value is not None}
            answer = self._connection.jobs.post(f"/update-job-status/{self._id()}/", body, idempotency_key=str(uuid.uuid4()))
            self.view = msgspec.structs.replace(self.view, position=answer["position"])
        self.refresh()

    def wait(self, timeout_s: float | None = None, on_change: OnChange | None = None) -> str:
        """Wait until the run is over and return its last status; `on_change` is called at the start and at each change.

        Raises `TimedOut`; the run goes on then.
        """
        wait_for([self], self._connection, timeout_s=timeout_s, on_change=on_change)
        return self.cached_status

    def history(self, limit: int | None = None) -> list[HistoryEntry]:
        """Everything that was ever said about the job, oldest first, with who said it and the ledger's verdict."""
        entries = self._connection.jobs.pages(f"/jobs/{self._id()}/history", limit=limit)
        return [msgspec.convert(entry, HistoryEntry, strict=False) for entry in entries]

    # --- results --------------------------------------------------------------------------------------------------------------

    @property
    def process_results_function(self) -> Callable[..., Any] | None:
        """What processes the results of each run that ends well, before it is Complete. Imported here; None when there is none to import.

        Set it to a function of a module that the app's worker (`jobledger worker`) can import, or to its name: `package.module:function`.
        It is called with the job. A text that it returns becomes the job's message.
        """
        return processing.resolve_or_none(self._process_results_function)

    @process_results_function.setter
    def process_results_function(self, function: str | Callable[..., Any] | None) -> None:
        self._process_results_function = processing.path_of(function)

    @property
    def process_results_path(self) -> str:
        """Where that function is imported from; empty when there is none. Imports nothing."""
        return self._process_results_function

    def process_results(self, *args: Any, **kwargs: Any) -> Any:
        """Process the results of the current run now and here instead of by a worker, and return what the function returns.

        The function gets the job, then `args` and `kwargs`. Raises `Refused` when no results wait to be processed, and whatever the
        function raises, which counts as a failed attempt.
        """
        self._id()
        path, connection = self._process_results_function, self._connection
        try:
            return processing.process_here(self, path, connection, args, kwargs)
        finally:
            self.refresh()

    def processing_failure(self) -> processing.ProcessingFailure | None:
        """The latest failed attempt at processing the job's results, with its traceback; None when none has failed."""
        for entry in self._connection.jobs.pages(f"/jobs/{self._id()}/history", {"order_by": "-position"}):
            if entry["type"] == "ResultsProcessingFailed" and entry["verdict"] == "applied":
                about = {**entry["data"], "occurred_at": entry["occurred_at"]}
                return msgspec.convert(about, processing.ProcessingFailure, strict=False)
        return None

    # --- callbacks --------------------------------------------------------------------------------------------------------------

    @property
    def callback_url(self) -> str:
        """Where the job's status can be reported."""
        return f"{self._connection.jobs.base_url}/update-job-status/{self._id()}/"

    def callback_credential(
        self, *, run: int | None = None, statuses: Iterable[str] | None = None, expires_in_s: int | None = None
    ) -> CallbackCredential:
        """A credential that can report the status of one run (the current one), nothing else, and expires.

        `statuses` narrows what it may report.
        """
        wanted = {"run": run, "statuses": None if statuses is None else list(statuses), "expires_in_s": expires_in_s}
        body = {name: value for name, value in wanted.items() if value is not None}
        return msgspec.convert(self._connection.jobs.post(f"/jobs/{self._id()}/credentials", body), CallbackCredential, strict=False)

    # --- files ------------------------------------------------------------------------------------------------------------------

    def upload(self, path: str | Path, as_: str = "") -> str:
        """Put a local file into the job's workspace; returns its path there (the file's own name, or `as_`)."""
        return files.upload(self._connection.jobs, self._id(), Path(path), as_ or Path(path).name)

    def write(self, path: str, content: bytes) -> None:
        """Put bytes into the job's workspace."""
        files.write(self._connection.jobs, self._id(), path, content)

    def files(self, folder: str = "") -> list[FileInfo]:
        """What is in the workspace, or in a folder of it. Output of the n-th run is below `run-<n>/`."""
        return files.listing(self._connection.jobs, self._id(), folder)

    def read(self, path: str) -> bytes:
        """The content of a file of the workspace."""
        return files.read(self._connection.jobs, self._id(), path)

    def download(self, path: str, to: str | Path = ".") -> Path:
        """Bring a file here: into the folder `to`, or under that name. Returns where it is; never leaves half a file."""
        return files.download(self._connection.jobs, self._id(), path, Path(to))

    def chunks(self, path: str) -> Iterator[bytes]:
        """The content of a large file, piece by piece."""
        return files.chunks(self._connection.jobs, self._id(), path)

    def tail(self, stream: str = "stdout", *, follow: bool = False, process: int = 0, offset: int = 0) -> Iterator[bytes]:
        """What the current run, or one of its processes, has written so far, in pieces; with `follow` until it is over."""
        return tail(self, self._connection, stream=stream, follow=follow, process=process, offset=offset)

    # --- inside -----------------------------------------------------------------------------------------------------------------

    @classmethod
    def from_view(cls, view: JobView, connection: Connection) -> Self:
        """The object for a job that the service has told about."""
        job = cls(view.name, connection=connection, label=view.label)
        job.load(view)
        return job

    def load(self, view: JobView) -> None:
        """Fill every attribute from a view; what was changed here and not saved is lost."""
        self.name, self.label, self.user, self.description = view.name, view.label, view.user, view.description
        self.groups, self.extended_properties = list(view.groups), copy.deepcopy(view.extended_properties)
        self.scheduler = view.scheduler or None
        self._process_results_function = view.process_results_function
        self.view, self._fetched_at = view, time.monotonic()
        self._load_spec(view)
        self._saved_body = self._body()

    def _load_spec(self, view: JobView) -> None:
        """Job types read their own part of the view here."""

    def _check(self) -> None:
        """Refuse what can never be accepted, before anything is sent; job types add their own. Raises `InvalidArgument`."""
        if scheduler := self._scheduler_name():
            check_scheduler_name(scheduler)

    def _scheduler_name(self) -> str:
        return str(getattr(self.scheduler, "name", self.scheduler) or "")

    def _spec(self) -> dict[str, Any]:
        """Job types add their own part of the body here."""
        return {}

    def _bring_files(self) -> None:
        """Job types bring their files into the workspace here. Called by every `save`; quick when nothing changed."""

    def _body(self) -> dict[str, Any]:
        body = {
            "name": self.name,
            "label": self.label,
            "job_type": self.job_type,
            "user": self.user,
            "description": self.description,
            "groups": list(self.groups),
            "extended_properties": copy.deepcopy(self.extended_properties),
            "scheduler": self._scheduler_name(),
            "process_results_function": self._process_results_function,
            **self._spec(),
        }
        return {name: value for name, value in body.items() if value or name in self._saved_body}

    def _ask(self, what: str, reason: str = "") -> None:
        body = {"reason": reason} if reason else None
        try:
            self.take(self._connection.jobs.post(f"/jobs/{self._id()}/{what}", body, idempotency_key=str(uuid.uuid4())))
        except Refused:
            self.refresh()
            raise

    def creation_body(self) -> dict[str, Any]:
        """What the service is told of the job. Raises `InvalidArgument`."""
        self._check()
        return self._body()

    def take_created(self, answer: Mapping[str, Any] | None) -> None:
        """Remember what the service said when it had created the job, and bring the job's files."""
        self.take(answer)
        self.user = self.view.user or self.user
        self.name = self.view.name or self.name  # `{id}` in it was filled in
        self._saved_body = self._body()
        self._bring_files()

    def take(self, answer: Mapping[str, Any] | None) -> None:
        """Remember what the service said; an answer without a body of a job (the projection is late) moves the position only."""
        if not answer:
            return
        if "status" in answer and "id" in answer:
            self.view, self._fetched_at = msgspec.convert(answer, JobView, strict=False), time.monotonic()
        else:
            known = {name: answer[name] for name in ("id", "position") if answer.get(name)}
            self.view = msgspec.structs.replace(self.view, **known)

    def _id(self) -> str:
        if not self.id:
            raise NotSaved(f"the job {self.name!r} is not saved yet: call save() or execute() first")
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.id or 'not saved'}: {self.cached_status}>"


class BasicJob(Job):
    """A job without a scheduler: whoever runs it reports its status to its callback address."""

    job_type = "BASIC"
