"""What the services answer, as data. Fields that a newer service adds are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from jobledger_contracts.job_events import Resources


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the jobs service shows it. Times are in UTC."""

    id: str = ""
    name: str = ""
    description: str = ""
    user: str = ""
    groups: list[str] = []
    label: str = ""
    job_type: str = ""
    status: str = "Pending"  #: what people read; a job's own text when the code is OTH
    status_code: str = "PEN"
    status_message: str = ""
    progress: float | None = None  #: 0 to 1
    run: int = 0  #: the current run, from 1; 0 before the first
    run_id: str | None = None
    desired: str = ""  #: what was asked of the run: run, pause or stop
    scheduler: str = ""
    scheduler_job_ref: str = ""
    exit_code: int | None = None
    exit_signal: int | None = None
    restarts: int = 0  #: executions of the run that were over before this one, such as evictions
    resources: Resources | None = None  #: what the run asked for and used, told at its end
    workspace: str = ""
    extended_properties: dict[str, Any] = {}
    condor: dict[str, Any] | None = None
    dask: dict[str, Any] | None = None
    workflow: dict[str, Any] | None = None
    node_counts: dict[str, int] | None = None  #: of the current run: how many nodes have which status
    process_results_function: str = ""
    processing_attempt: int = 0  #: of the current run: the latest attempt at processing its results
    processing: bool = False  #: that attempt is under way
    creation_time: datetime | None = None
    execute_time: datetime | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    run_time_s: float | None = None
    position: str = ""  #: the last event of the job that this view has seen


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a job, with what the ledger made of it. Nothing is ever missing here, refused events included."""

    position: str
    sequence: int = 0  #: its number among the job's events, from 1
    type: str
    event_id: str = ""
    version: int = 1  #: of the type, as it was written
    source: str = ""
    actor: str = ""
    occurred_at: datetime | None = None  #: when it happened, as its reporter says
    recorded_at: datetime | None = None  #: when the log took it, by the broker's clock
    correlation_id: str = ""
    causation_id: str = ""
    run: int | None = None
    verdict: str = ""  #: applied, duplicate, superseded or refused
    reason: str = ""
    data: dict[str, Any] = {}


class FileInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a job's workspace."""

    path: str
    size_bytes: int
    modified_at: datetime | None = None


class CallbackCredential(msgspec.Struct, frozen=True, kw_only=True):
    """What a run needs to report its own status: send `token` in an Authorization header to `callback_url`. Never in a URL."""

    token: str
    callback_url: str
    expires_at: datetime | None = None

    @property
    def header(self) -> str:
        """The whole header line, as `curl --header @file` reads it."""
        return f"Authorization: Bearer {self.token}"

    def __repr__(self) -> str:
        return f"CallbackCredential(callback_url={self.callback_url!r}, expires_at={self.expires_at})"  # never the token
