"""The state of a job, and the one fold that decides what every event does to it.

`evolve` is total and pure: it never raises, does no I/O, and reads no clock. Every service folds the same events in the same
order with it, so all agree, without asking one another, on which of two racing requests took effect.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from . import job_events as e
from .envelope import Event
from .ids import run_id
from .recent import identity, remember
from .statuses import FINISHED, PROCESSABLE, Status, parse_status
from .transitions import PROCESSING, REQUESTS, judge_report
from .verdicts import APPLIED, Reason, Verdict, duplicate, refused, superseded


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that the fold knows of one job. Times are the events' own (when it happened), in UTC."""

    job_id: str
    version: int = 0  #: events folded, with those that took no effect
    exists: bool = False
    deleted: bool = False
    created: e.JobCreated | None = None  #: with later changes merged in
    created_digest: bytes = b""  #: of the content it was first created with

    status: Status = Status.PENDING
    status_text: str = ""  #: the custom text of OTHER
    status_message: str = ""
    status_source: str = ""  #: who said so
    status_time: datetime | None = None
    progress: float | None = None

    run: int = 0  #: the current run, from 1; 0 before the first
    desired: str = ""  #: what was asked of the current run: run, pause or stop
    restarts: int = 0
    scheduler_job_ref: str = ""
    exit_code: int | None = None
    exit_signal: int | None = None
    resources: e.Resources | None = None

    pending_end: Status | None = None  #: the end that the run takes once its results are processed; None: nothing waits for that
    processing_attempt: int = 0  #: the latest attempt at processing the run's results; 0 before the first
    processing: bool = False  #: that attempt is under way, as far as is known

    creation_time: datetime | None = None
    execute_time: datetime | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None

    recent_ids: tuple[bytes, ...] = ()

    @property
    def self_reporting(self) -> bool:
        """No scheduler of ours runs it: its status is what it, or whoever runs it, reports."""
        return self.created is None or not self.created.scheduler

    @property
    def run_id(self) -> str:
        """The id of the current run; empty before the first."""
        return run_id(self.job_id, self.run) if self.run else ""

    @property
    def display_status(self) -> str:
        """What people read: the status, or the job's own text for it."""
        return self.status_text if self.status is Status.OTHER and self.status_text else self.status.value


def initial_state(job_id: str) -> Job:
    """A job that nothing was ever said about."""
    return Job(job_id=job_id)


def evolve(job: Job, event: Event) -> tuple[Job, Verdict]:
    """Fold one event into a job. The event's key is the job's id: the decoder has checked it."""
    event_id = identity(event)
    if event_id in job.recent_ids:
        return replace(job, version=job.version + 1), duplicate(Reason.SAME_EVENT)
    changes, verdict = _judge(job, event)
    return replace(job, version=job.version + 1, recent_ids=remember(job.recent_ids, event_id), **changes), verdict


_NOT_BEGUN = {Status.SUBMITTED, Status.PAUSED, Status.ABORTED, Status.ERROR}
"""None of these says that the run was ever executing."""

Changes = dict[str, Any]
Processing = e.ResultsProcessingStarted | e.ResultsProcessed | e.ResultsProcessingFailed
_NOTHING: Changes = {}


def _judge(job: Job, event: Event) -> tuple[Changes, Verdict]:
    data = event.data
    if isinstance(data, e.JobCreated):
        return _create(job, event, data)
    if not job.exists:
        return _NOTHING, refused(Reason.UNKNOWN)
    if isinstance(data, e.ResultsCollected):  # kept even of a deleted job: the files are there
        return _NOTHING, APPLIED if data.run <= job.run else refused(Reason.UNKNOWN_RUN)
    if job.deleted:
        return _NOTHING, refused(Reason.DELETED)
    if isinstance(data, e.NodeStatusChanged):
        return _NOTHING, _judge_nodes(job, data)
    if isinstance(data, e.StatusChanged):
        return _report(job, event, data)
    if isinstance(data, e.ResultsProcessingStarted | e.ResultsProcessed | e.ResultsProcessingFailed):
        return _process(job, event, data)
    name = type(data).__name__
    if name not in REQUESTS:
        return _NOTHING, refused(Reason.UNKNOWN)
    verdict = REQUESTS[name][job.status]
    return _REQUESTS[name](job, event) if verdict.applied else (_NOTHING, verdict)


def _judge_nodes(job: Job, data: e.NodeStatusChanged) -> Verdict:
    """Say whether a report on nodes counts at all. What it does to each node is `nodes.fold`'s to say: the state here stays small."""
    if data.run > job.run:
        return refused(Reason.UNKNOWN_RUN)
    return APPLIED if data.run == job.run else superseded(Reason.OLD_RUN)


def _create(job: Job, event: Event, data: e.JobCreated) -> tuple[Changes, Verdict]:
    digest = hashlib.sha256(msgspec.json.encode(data, order="sorted")).digest()
    if job.exists:
        return _NOTHING, duplicate(Reason.SAME_CONTENT) if digest == job.created_digest else refused(Reason.OTHER_CONTENT)
    created = replace(data, name=_name(job, data.name))
    return {
        "exists": True,
        "created": created,
        "created_digest": digest,
        "creation_time": event.time,
        "status_source": event.source,
        "status_time": event.time,
    }, APPLIED


def _name(job: Job, name: str) -> str:
    """`{id}` in a job's name stands for its id."""
    return name.replace("{id}", job.job_id)[: e.MAX_NAME] if "{id}" in name else name


def _report(job: Job, event: Event, data: e.StatusChanged) -> tuple[Changes, Verdict]:
    begins = job.run == 0 and job.self_reporting
    run = data.run or (1 if begins else job.run)
    if job.run == 0 and not begins:
        return _NOTHING, refused(Reason.NOT_STARTED)
    if run > (1 if begins else job.run):
        return _NOTHING, refused(Reason.UNKNOWN_RUN)
    if run < job.run:
        return _NOTHING, superseded(Reason.OLD_RUN)

    status, text = parse_status(data.status)
    restarts = job.restarts if data.restarts is None else data.restarts
    verdict = judge_report(job.status, status, restarted=restarts > job.restarts)
    if not verdict.applied:
        return _NOTHING, verdict
    if job.pending_end and status is not Status.RESULTS_READY:
        return _NOTHING, superseded(Reason.RUN_ENDED)  # only how far the processing has come can be news
    status, held = _hold_back(job, event, status)
    # An end is never late by its time: nothing comes after it, so only a clock that was set back can make it look so.
    by_time = event.source == job.status_source and job.status_time is not None and status not in FINISHED
    if restarts < job.restarts or (by_time and job.status_time is not None and event.time < job.status_time):
        return _NOTHING, superseded(Reason.LATE)

    changes: Changes = {"status": status, "status_text": text, "restarts": restarts, **held}
    for name in ("progress", "scheduler_job_ref", "exit_code", "exit_signal", "resources"):
        if (value := getattr(data, name)) is not None:
            changes[name] = value
    if data.message is not None:
        changes["status_message"] = data.message
    if status is Status.COMPLETE and data.progress is None and job.progress is not None:
        changes["progress"] = 1.0
    if all(getattr(job, name) == value for name, value in changes.items()):
        return _NOTHING, superseded(Reason.UNCHANGED)

    changes["status_source"], changes["status_time"] = event.source, event.time
    if begins:
        changes |= {"run": 1, "desired": "run", "execute_time": event.time}
    if job.start_time is None and status not in _NOT_BEGUN:
        changes["start_time"] = event.time
    if status in FINISHED and job.completion_time is None:
        changes["completion_time"] = event.time
    return changes, APPLIED


def _hold_back(job: Job, event: Event, status: Status) -> tuple[Status, Changes]:
    """Let a run that ended well wait for its results to be processed, when its job names a function for that: Results-Ready until then.

    Of a run that a scheduler of ours has, only that scheduler's word counts, which comes after the output: a run that calls its own end
    is Results-Ready too, but nothing is processed yet.
    """
    if job.created is None or not job.created.process_results_function or job.pending_end:
        return status, _NOTHING
    said_by_itself = event.source == e.CALLBACK_SOURCE
    if status in PROCESSABLE and not (said_by_itself and not job.self_reporting):
        return Status.RESULTS_READY, {"pending_end": status}
    if status is Status.RESULTS_READY and job.self_reporting:
        return status, {"pending_end": Status.COMPLETE}
    return (Status.RESULTS_READY if status in PROCESSABLE else status), _NOTHING


def _process(job: Job, event: Event, data: Processing) -> tuple[Changes, Verdict]:
    """Judge a worker's word by its run and its attempt: of two workers that race, the later attempt counts."""
    if data.run != job.run:
        return _NOTHING, refused(Reason.UNKNOWN_RUN) if data.run > job.run else superseded(Reason.OLD_RUN)
    verdict = PROCESSING[job.status]
    if verdict.applied and job.pending_end is None:
        verdict = refused(Reason.STILL_ACTIVE)  # the scheduler has not told the run's end yet
    if not verdict.applied:
        return _NOTHING, verdict
    known = data.attempt == job.processing_attempt
    if data.attempt < job.processing_attempt or (known and not job.processing):
        return _NOTHING, superseded(Reason.OLD_ATTEMPT)
    if known and isinstance(data, e.ResultsProcessingStarted):
        return _NOTHING, superseded(Reason.UNCHANGED)

    changes: Changes = {
        "processing_attempt": data.attempt,
        "processing": isinstance(data, e.ResultsProcessingStarted),
        "status_source": event.source,
        "status_time": event.time,
    }
    if data.message is not None:
        changes["status_message"] = data.message
    if isinstance(data, e.ResultsProcessed):
        changes |= {"status": job.pending_end, "pending_end": None}
        if job.pending_end is Status.COMPLETE and job.progress is not None:
            changes["progress"] = 1.0
    elif isinstance(data, e.ResultsProcessingFailed) and data.last:
        changes |= {"status": Status.ERROR, "pending_end": None}
    return changes, APPLIED


def _change(job: Job, event: Event) -> tuple[Changes, Verdict]:
    data = event.data
    assert isinstance(data, e.JobChanged)
    assert job.created is not None
    given = {f: v for f in data.__struct_fields__ if f != "job_id" and (v := getattr(data, f)) is not None}
    if job.run and given.keys() & {"scheduler", "condor", "dask", "workflow"}:
        return _NOTHING, refused(Reason.ALREADY_STARTED)
    if job.pending_end and data.process_results_function == "":
        return _NOTHING, refused(Reason.FIXED)  # the run waits for it: another one may take its place, and stopping ends the wait
    if data.name is not None:
        given["name"] = _name(job, data.name)
    created = replace(job.created, **given)
    return ({"created": created}, APPLIED) if created != job.created else (_NOTHING, superseded(Reason.UNCHANGED))


def _begin_run(job: Job, event: Event) -> tuple[Changes, Verdict]:
    """A new run starts with nothing of the last one's."""
    return {
        **_status(Status.SUBMITTED, event),
        "run": job.run + 1,
        "desired": "run",
        "status_message": "",
        "progress": None,
        "restarts": 0,
        "scheduler_job_ref": "",
        "exit_code": None,
        "exit_signal": None,
        "resources": None,
        "pending_end": None,
        "processing_attempt": 0,
        "processing": False,
        "execute_time": event.time,
        "start_time": None,
        "completion_time": None,
    }, APPLIED


def _stop(job: Job, event: Event) -> tuple[Changes, Verdict]:
    if job.self_reporting or job.pending_end:  # no scheduler of ours has it, or has it any more
        ended = {"desired": "stop", "completion_time": job.completion_time or event.time, "pending_end": None, "processing": False}
        return {**_status(Status.ABORTED, event), **ended}, APPLIED
    return _want("stop", job)


def _pause(job: Job, event: Event) -> tuple[Changes, Verdict]:
    if job.desired == "stop":
        return _NOTHING, superseded(Reason.LATE)
    if not job.self_reporting:
        return _want("pause", job)
    if job.status is Status.PAUSED:
        return _NOTHING, superseded(Reason.UNCHANGED)
    return {**_status(Status.PAUSED, event), "desired": "pause"}, APPLIED


def _resume(job: Job, event: Event) -> tuple[Changes, Verdict]:
    if job.desired == "stop":
        return _NOTHING, superseded(Reason.LATE)
    if job.status is not Status.PAUSED and job.desired != "pause":
        return _NOTHING, refused(Reason.NOT_PAUSED)
    if job.self_reporting:
        return {**_status(Status.RUNNING, event), "desired": "run", "start_time": job.start_time or event.time}, APPLIED
    return {"desired": "run"}, APPLIED  # also of a run that the scheduler held by itself


def _want(desired: str, job: Job) -> tuple[Changes, Verdict]:
    """The scheduler has the last word; until it speaks the status stays."""
    return ({"desired": desired}, APPLIED) if job.desired != desired else (_NOTHING, superseded(Reason.UNCHANGED))


def _status(status: Status, event: Event) -> Changes:
    return {"status": status, "status_text": "", "status_source": event.source, "status_time": event.time}


def _delete(job: Job, event: Event) -> tuple[Changes, Verdict]:
    return {"deleted": True}, APPLIED


def _note(job: Job, event: Event) -> tuple[Changes, Verdict]:
    """Changes nothing by itself; a reactor acts on it."""
    return _NOTHING, APPLIED


_REQUESTS = {
    "JobChanged": _change,
    "ExecuteRequested": _begin_run,
    "StopRequested": _stop,
    "PauseRequested": _pause,
    "ResumeRequested": _resume,
    "ResubmitRequested": _begin_run,
    "RefreshRequested": _note,
    "JobDeleted": _delete,
}
