"""The job manager: makes, finds and lists the jobs of one app. Tethys Platform's Jobs API, over the network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, overload

import msgspec

from jobledger import bulk
from jobledger.condor_job import CondorJob
from jobledger.condor_workflow import CondorWorkflow
from jobledger.connection import Connection, default_connection
from jobledger.dask_job import DaskJob
from jobledger.errors import NotFound, SomeFailed
from jobledger.jobs import BasicJob, Job
from jobledger.views import JobView
from jobledger.watching import wait_for

JOB_TYPES: Mapping[str, type[Job]] = {
    "BASIC": BasicJob,
    "CONDOR": CondorJob,
    "CONDORJOB": CondorJob,
    "CONDORWORKFLOW": CondorWorkflow,
    "DASK": DaskJob,
}
"""What `job_type` may be, beside the classes themselves."""

ORDERS = ("id", "creation_time", "execute_time", "completion_time", "name", "status")
"""What jobs can be ordered by; with `-` before it the other way round. Ids are in the order of creation."""


class JobManager:
    """The jobs of one app (`label`)."""

    def __init__(self, label: str, connection: Connection | None = None) -> None:
        self.label = label
        self.connection = connection or default_connection()

    @overload
    def create_job(
        self, name: str, user: Any = None, groups: Any = None, job_type: Literal["CONDOR", "CONDORJOB"] = ..., **kwargs: Any
    ) -> CondorJob: ...
    @overload
    def create_job(
        self, name: str, user: Any = None, groups: Any = None, job_type: Literal["CONDORWORKFLOW"] = ..., **kwargs: Any
    ) -> CondorWorkflow: ...
    @overload
    def create_job(self, name: str, user: Any = None, groups: Any = None, job_type: Literal["DASK"] = ..., **kwargs: Any) -> DaskJob: ...
    @overload
    def create_job(self, name: str, user: Any = None, groups: Any = None, job_type: Literal["BASIC"] = ..., **kwargs: Any) -> BasicJob: ...
    @overload
    def create_job(self, name: str, user: Any = None, groups: Any = None, job_type: str | type[Job] = ..., **kwargs: Any) -> Job: ...
    def create_job(self, name: str, user: Any = None, groups: Any = None, job_type: str | type[Job] | None = None, **kwargs: Any) -> Job:
        """Make a job of a type. It is local until `save()` or `execute()`.

        `{id}` in the name becomes the job's id. `user` (a name, or an object with `username`) is the owner; it defaults to the API key's,
        and only administrators may name somebody else. `groups` may be one group or several. Further attributes of the type may be given
        by name. Raises ValueError for an unknown type, TypeError for an unknown attribute.
        """
        kind = _job_class(job_type)
        return kind(name, connection=self.connection, label=self.label, user=_name_of(user), groups=_names_of(groups), **kwargs)

    def get_job(self, job_id: str, user: Any = None, filters: Mapping[str, Any] | None = None) -> Job | None:
        """The job with that id, or None when there is none in this app (or it is not that user's, or `filters` do not fit)."""
        try:
            view = msgspec.convert(self.connection.jobs.get(f"/jobs/{job_id}"), JobView, strict=False)
        except NotFound:
            return None
        wanted = {"label": self.label, **({"user": _name_of(user)} if user is not None else {}), **(filters or {})}
        if any(getattr(view, name) != value for name, value in wanted.items()):
            return None
        return job_from_view(view, self.connection)

    def list_jobs(
        self,
        user: Any = None,
        groups: Any = None,
        order_by: str = "id",
        filters: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> list[Job]:
        """This app's jobs, all pages of them or the first `limit`.

        `user` and `groups` exclude one another. `filters` are the service's: status, label, job_type, scheduler, created_after,
        created_before, executed_after, executed_before, completed_after, completed_before, q (part of the name), extended_properties (what
        they contain); `extended_properties__scenario__year` names one value by its path. Raises ValueError for an order that there is not.
        """
        if user is not None and groups is not None:
            raise ValueError("list_jobs takes a user or groups, not both")
        if order_by.removeprefix("-") not in ORDERS:
            raise ValueError(f"jobs cannot be ordered by {order_by!r}, only by {', '.join(ORDERS)}")
        order = f"{'-' if order_by.startswith('-') else ''}{order_by.removeprefix('-').replace('id', 'creation_time', 1)}"
        query = {"label": self.label, "user": _name_of(user), "group": _names_of(groups), "order_by": order, **query_of(filters or {})}
        items = self.connection.jobs.pages("/jobs", query, limit=limit)
        return [job_from_view(msgspec.convert(item, JobView, strict=False), self.connection) for item in items]

    def count_jobs(self, user: Any = None, group: Any = None) -> dict[str, int]:
        """How many of this app's jobs have which status: the API key's own (of administrators: all), a user's or a group's."""
        query = {"label": self.label, "user": _name_of(user), "group": _name_of(group)}
        counts: dict[str, int] = self.connection.jobs.get("/jobs/counts", {name: value for name, value in query.items() if value})[
            "statuses"
        ]
        return counts

    def save_jobs(self, jobs: Sequence[Job], execute: bool = False) -> None:
        """Create many jobs at once (those of `create_job` that were never saved), and with `execute` ask for their first runs.

        A thousand go in one request, each with its own outcome: what could be done is done, and `SomeFailed` tells of the rest. Safe to
        repeat with the same jobs after any error.
        """
        failures = bulk.create(self.connection, [job for job in jobs if not job.id])
        if execute:
            failures += bulk.act(self.connection, "execute", [job for job in jobs if job.id and not job.run])
        if failures:
            raise SomeFailed(failures)

    def act_on_jobs(self, action: str, jobs: Sequence[Job], reason: str = "") -> None:
        """Ask the same of many jobs: execute, stop, pause, resume, resubmit, refresh or delete. Raises `SomeFailed`."""
        if failures := bulk.act(self.connection, action, jobs, reason):
            raise SomeFailed(failures)

    def get_job_status_callback_url(self, request: Any, job_id: str) -> str:
        """The address at which the job's status can be reported.

        `request` is what Tethys' method takes and may be None: the address is the jobs service's, whoever asks.
        """
        return f"{self.connection.jobs.base_url}/update-job-status/{job_id}/"

    def wait(self, jobs: Sequence[Job], timeout_s: float | None = None, on_change: Callable[[Job], None] | None = None) -> None:
        """Wait until the runs of all these jobs are over; `on_change` is told each job at first and at each change.

        Raises `TimedOut`; the runs go on then.
        """
        wait_for(jobs, self.connection, timeout_s=timeout_s, on_change=on_change)


def query_of(filters: Mapping[str, Any]) -> dict[str, Any]:
    """The service's query for filters as an app writes them.

    >>> query_of({"status": "RUN", "extended_properties__scenario__year": 2026})
    {'status': 'RUN', 'extended_properties': '{"scenario":{"year":2026}}'}
    """
    query = {name: value for name, value in filters.items() if not name.startswith("extended_properties")}
    properties = copy.deepcopy(dict(filters.get("extended_properties", {})))
    for name, value in filters.items():
        if name.startswith("extended_properties__"):
            *path, last = name.split("__")[1:]
            place = properties
            for step in path:
                place = place.setdefault(step, {})
            place[last] = value
    return query | ({"extended_properties": msgspec.json.encode(properties).decode()} if properties else {})


def job_from_view(view: JobView, connection: Connection) -> Job:
    """The object of the right class for what the service told."""
    return JOB_TYPES.get(view.job_type, Job).from_view(view, connection)


def _job_class(job_type: str | type[Job] | None) -> type[Job]:
    if isinstance(job_type, type) and issubclass(job_type, Job):
        return job_type
    found = JOB_TYPES.get(job_type.upper()) if isinstance(job_type, str) else None
    if found is None:
        raise ValueError(f"job_type is one of {', '.join(JOB_TYPES)}, not {job_type!r}")
    return found


def _name_of(who: Any) -> str:
    """The name of a user or group given as text or as an object of a web framework."""
    if who is None or isinstance(who, str):
        return who or ""
    return str(getattr(who, "username", None) or getattr(who, "name", None) or who)


def _names_of(groups: Any) -> list[str]:
    if groups is None:
        return []
    return [_name_of(group) for group in (groups if isinstance(groups, Iterable) and not isinstance(groups, str) else [groups])]
