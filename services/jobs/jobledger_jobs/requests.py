"""A checked request becomes the event that states it, the event goes into the log, and the caller learns what the fold said of it.

Nothing here writes a row. After the log has the event, the request waits (bounded) for the projection to pass it and reads the
verdict from the history: the same verdict that every other reader of the log comes to.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

import asyncpg
import msgspec

from jobledger_contracts import topics
from jobledger_contracts.envelope import Event, Invalid, InvalidEvent, Record, decode, encode, new_event
from jobledger_contracts.ids import Position, derived_id, new_job_id, partition_for
from jobledger_contracts.job_events import CALLBACK_SOURCE, CondorSpec, DaskSpec, JobChanged, JobCreated, WorkflowSpec
from jobledger_contracts.verdicts import Outcome, Reason, Verdict
from jobledger_contracts.workflows import MAX_INLINE_BYTES, count_nodes
from jobledger_kit.bus import Bus
from jobledger_kit.clock import Clock
from jobledger_kit.errors import (
    Conflict,
    FieldError,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    Refused,
    TooLarge,
    Unprocessable,
    UnprocessableKey,
)

from .domain.rights import Viewer
from .domain.submission import Fault, check_scheduler, check_spec
from .inputs import ChangeJob, CreateJob
from .views import Row

Spec = TypeVar("Spec", CondorSpec, DaskSpec, WorkflowSpec)

SOURCE: Final = "/jobledger/jobs"
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")

REFUSALS: Final[dict[str, str]] = {
    Reason.NOT_STARTED: "The job was not asked to run yet.",
    Reason.ALREADY_STARTED: "The job was asked to run already.",
    Reason.STILL_ACTIVE: "The job's run has not ended; stop it first.",
    Reason.RUN_ENDED: "The job's run has ended.",
    Reason.NOT_PAUSED: "The job is not paused.",
    Reason.LATE: "The job was asked to stop before.",
    Reason.OLD_RUN: "The job has another run since.",
    Reason.OLD_ATTEMPT: "Another attempt at processing these results has begun, or this one was over.",
    Reason.FIXED: "The results of the job's run wait to be processed: name another function, or stop the job.",
    Reason.OTHER_CONTENT: "A job with this id was created before with other content.",
}
"""What a refusal means, in words."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """On whose behalf something is asked, and which story it belongs to."""

    viewer: Viewer
    actor: str
    correlation_id: str = ""
    traceparent: str = ""
    idempotency_key: str = ""


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request. Without a verdict the projection had not come to it in time: it is in the log, and will."""

    job_id: str
    position: Position
    verdict: Verdict | None = None
    row: asyncpg.Record | None = None


class CreationUnknown(OutcomeUnknown):
    """The job may or may not have been created; it would have this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"The job may or may not have been created; if it was, its id is {job_id}. Ask again with the same Idempotency-Key."
        )
        self.job_id = job_id


class PassedPositions(Protocol):
    """How long to wait until the projection has passed a position: the kit's `Positions`."""

    async def wait(self, topic: str, position: Position, timeout_s: float) -> bool: ...


class VerdictReader(Protocol):
    """The rows that requests look at: `store.JobsStore`."""

    async def job(self, job_id: str) -> asyncpg.Record | None: ...
    async def verdict(self, position: Position) -> asyncpg.Record | None: ...
    async def first_verdict(self, job_id: str, source: str, event_id: str) -> asyncpg.Record | None: ...
    async def usable_schedulers(self) -> dict[str, str]: ...


Keep = Callable[[str, str, bytes], Awaitable[None]]
"""Puts a file into a job's folder: job id, path, content. Raises what `Workspaces.write` does."""


class Requests:
    """States requests as events. `randomness(n)` gives n random bytes; `wait_s` bounds the wait for a verdict."""

    def __init__(
        self,
        *,
        bus: Bus,
        positions: PassedPositions,
        store: VerdictReader,
        clock: Clock,
        randomness: Callable[[int], bytes],
        wait_s: float,
        keep: Keep,
    ) -> None:
        self._bus, self._positions, self._store = bus, positions, store
        self._clock, self._randomness, self._wait_s, self._keep = clock, randomness, wait_s, keep

    async def create(self, body: CreateJob, caller: Caller) -> Settled:
        """Create a job. Raises Unprocessable, UnprocessableKey, Conflict, CreationUnknown and the bus's errors."""
        event = await self.creation_event(body, caller)
        try:
            settled = await self._publish(event)
        except OutcomeUnknown:
            raise CreationUnknown(event.key) from None
        return judge_creation(settled, caller.idempotency_key)

    async def creation_event(self, body: CreateJob, caller: Caller, schedulers: Mapping[str, str] | None = None) -> Event:
        """Check a wish for a job and state it. Raises Unprocessable, InvalidRequest, TooLarge.

        `schedulers` are those that it may name, if they are known already.
        """
        now = self._clock.now()
        owner = body.user or caller.viewer.user
        key = check_idempotency_key(caller.idempotency_key)
        job_id = derived_id("job", owner, key) if key else self._new_id(now)
        await self._check_spec(body.job_type, body.scheduler, body.condor, body.dask, body.workflow)
        await self._check_scheduler(body.job_type, body.scheduler, schedulers)
        workflow = await self._check_in(job_id, body.workflow)
        # A new event each time: what tells a repetition from a key that is used twice is the content of the job, for ever.
        return self._event(creation(body, owner, job_id, workflow), self._new_id(now), now, caller)

    async def change(self, row: Row, body: ChangeJob, caller: Caller) -> Settled:
        """Change a job's attributes. Raises InvalidRequest when nothing is given, Unprocessable, Refused."""
        if all(value is None for value in msgspec.structs.astuple(body)):
            raise InvalidRequest(errors=[FieldError("$", "names nothing to change")])
        if any(part is not None for part in (body.scheduler, body.condor, body.dask, body.workflow)):
            await self._check_spec(row["job_type"], *merged_spec(row, body))
            if body.scheduler is not None:
                await self._check_scheduler(row["job_type"], body.scheduler)
        return await self.ask(alteration(row["id"], body, await self._check_in(row["id"], body.workflow)), caller)

    async def _check_spec(
        self, job_type: str, scheduler: str, condor: CondorSpec | None, dask: DaskSpec | None, workflow: WorkflowSpec | None
    ) -> None:
        """Raise Unprocessable for what does not fit together. Twenty thousand nodes take half a second, and not the loop's."""
        if workflow is None:
            raise_faults(check_spec(job_type, scheduler, condor, dask))
        else:
            raise_faults(await asyncio.to_thread(check_spec, job_type, scheduler, condor, dask, workflow))

    async def _check_in(self, job_id: str, body: WorkflowSpec | None) -> WorkflowSpec | None:
        """Put a workflow that is large into the job's folder, under its digest; return what the event says of it."""
        workflow = _plain(body, WorkflowSpec)
        if workflow is None:
            return None
        raw = msgspec.json.encode(workflow)
        if len(raw) <= MAX_INLINE_BYTES:
            return workflow
        digest = hashlib.sha256(raw).hexdigest()
        path = f".jobledger/workflow-{digest[:16]}.json"
        await self._keep(job_id, path, raw)
        return WorkflowSpec(file=path, sha256=digest, node_count=count_nodes(workflow))

    async def ask(self, data: Any, caller: Caller) -> Settled:
        """State a request about an existing job and wait for its verdict. Raises NotFound, Refused, Conflict, OutcomeUnknown."""
        event = self.request_event(data, caller)
        return await self.judge_request(await self._publish(event), event.id)

    def request_event(self, data: Any, caller: Caller) -> Event:
        """State a request about an existing job. Raises InvalidRequest, TooLarge."""
        now = self._clock.now()
        key = check_idempotency_key(caller.idempotency_key)
        event_id = repeatable_id(data, caller.viewer.user, key) if key else self._new_id(now)
        return self._event(data, event_id, now, caller)

    async def judge_request(self, settled: Settled, event_id: str) -> Settled:
        """Return what came of a request; a repetition is answered as at first. Raises NotFound, Refused."""
        if settled.verdict is not None and settled.verdict.reason is Reason.SAME_EVENT:
            settled = await self._as_at_first(settled, event_id)
        verdict = settled.verdict
        if verdict is None or verdict.applied or verdict.outcome is Outcome.DUPLICATE or verdict.reason is Reason.UNCHANGED:
            return settled
        raise refusal(settled)

    async def _as_at_first(self, settled: Settled, event_id: str) -> Settled:
        """Answer a repetition as the request was answered at first."""
        first = await self._store.first_verdict(settled.job_id, SOURCE, event_id)
        return settled if first is None else msgspec.structs.replace(settled, verdict=verdict_of(first))

    async def report(self, data: Any, caller: Caller, source: str = CALLBACK_SOURCE) -> Position:
        """Put a callback into the log and return where it stands. Never waits for the projection. Raises the bus's errors."""
        now = self._clock.now()
        key = check_idempotency_key(caller.idempotency_key)
        event = new_event(
            data,
            id=repeatable_id(data, caller.viewer.user, key) if key else self._new_id(now),
            source=source,
            time=now,
            actor=caller.actor,
            correlation_id=caller.correlation_id,
            traceparent=caller.traceparent,
        )
        (position,) = await self._bus.publish(event)
        return position

    def _event(self, data: Any, event_id: str, now: datetime, caller: Caller) -> Event:
        event = new_event(
            data,
            id=event_id,
            source=SOURCE,
            time=now,
            actor=caller.actor,
            correlation_id=caller.correlation_id,
            traceparent=caller.traceparent,
        )
        check_event(event)
        return event

    async def _publish(self, event: Event) -> Settled:
        (position,) = await self._bus.publish(event)
        if not await self._positions.wait(topics.JOBS, position, self._wait_s):
            return Settled(job_id=event.key, position=position)
        said = await self._store.verdict(position)
        if said is None:
            raise buried(position)
        return Settled(job_id=event.key, position=position, verdict=verdict_of(said), row=await self._store.job(event.key))

    async def _check_scheduler(self, job_type: str, scheduler: str, known: Mapping[str, str] | None = None) -> None:
        if not scheduler:
            return
        fault = check_scheduler(job_type, scheduler, await self._store.usable_schedulers() if known is None else known)
        raise_faults([fault] if fault else [])

    def _new_id(self, now: datetime) -> str:
        return new_job_id(int(now.timestamp() * 1000), self._randomness(10))


def creation(body: CreateJob, owner: str, job_id: str, workflow: WorkflowSpec | None = None) -> JobCreated:
    """State the wish for a job. Groups named twice count once."""
    return JobCreated(
        job_id=job_id,
        name=body.name,
        user=owner,
        label=body.label,
        job_type=body.job_type,
        description=body.description,
        groups=list(dict.fromkeys(body.groups)),
        extended_properties=body.extended_properties,
        scheduler=body.scheduler,
        condor=_plain(body.condor, CondorSpec),
        dask=_plain(body.dask, DaskSpec),
        workflow=workflow,
        process_results_function=body.process_results_function,
    )


def alteration(job_id: str, body: ChangeJob, workflow: WorkflowSpec | None = None) -> JobChanged:
    """State the wish to change a job."""
    return JobChanged(
        job_id=job_id,
        name=body.name,
        description=body.description,
        groups=None if body.groups is None else list(dict.fromkeys(body.groups)),
        extended_properties=body.extended_properties,
        scheduler=body.scheduler,
        condor=_plain(body.condor, CondorSpec),
        dask=_plain(body.dask, DaskSpec),
        workflow=workflow,
        process_results_function=body.process_results_function,
    )


def merged_spec(row: Row, body: ChangeJob) -> tuple[str, CondorSpec | None, DaskSpec | None, WorkflowSpec | None]:
    """How a job is to run once it is changed: what the body gives, else what the row has."""
    condor = body.condor if body.condor is not None else row["condor"] and msgspec.json.decode(row["condor"], type=CondorSpec)
    dask = body.dask if body.dask is not None else row["dask"] and msgspec.json.decode(row["dask"], type=DaskSpec)
    workflow = body.workflow if body.workflow is not None else row["workflow"] and msgspec.json.decode(row["workflow"], type=WorkflowSpec)
    return body.scheduler if body.scheduler is not None else row["scheduler"], condor or None, dask or None, workflow or None


def repeatable_id(data: Any, user: str, key: str) -> str:
    """The id of the event that a request with an Idempotency-Key states: the same request, repeated, folds as a duplicate."""
    content = hashlib.sha256(msgspec.json.encode(data, order="sorted")).hexdigest()
    return derived_id("request", user, key, type(data).__name__, data.job_id, content)


def check_idempotency_key(text: str) -> str:
    """Return a good key, or none. Raises InvalidRequest."""
    if text and not _IDEMPOTENCY_KEY.match(text):
        raise InvalidRequest(errors=[FieldError("Idempotency-Key", "1 to 255 visible ASCII characters are expected")])
    return text


def check_event(event: Event) -> None:
    """Make sure that the log's readers can fold the event: a request must not end as a dead letter. Raises InvalidRequest, TooLarge."""
    try:
        key, value, headers = encode(event)
        decode(Record(topics.JOBS, partition_for(key, 1), 0, 0, key, value, list(headers)), 1)
    except InvalidEvent as error:
        if error.reason is Invalid.TOO_LARGE:
            raise TooLarge(topics.MAX_RECORD_BYTES * 9 // 10) from None
        raise InvalidRequest(errors=[FieldError("$", error.detail)]) from None


def refusal(settled: Settled) -> NotFound | Refused:
    """The error that tells a caller of a verdict by which the request had no effect."""
    assert settled.verdict is not None
    reason = settled.verdict.reason
    if reason in (Reason.UNKNOWN, Reason.DELETED):
        return NotFound("job", settled.job_id)
    status = f" It is {settled.row['status']}." if settled.row is not None else ""
    return Refused(REFUSALS.get(reason, f"Refused: {reason}.") + status, settled.verdict, position=str(settled.position))


def judge_creation(settled: Settled, key: str) -> Settled:
    """Return what came of a wish for a job. Raises UnprocessableKey, Conflict, Refused."""
    if settled.verdict is None or settled.verdict.applied:
        return settled
    if settled.verdict.outcome is Outcome.DUPLICATE:
        if settled.row is None or settled.row["deleted"]:
            raise Conflict("The job that was created with this Idempotency-Key was deleted.")
        return settled
    if settled.verdict.reason == Reason.OTHER_CONTENT and key:
        raise UnprocessableKey(key)
    raise refusal(settled)


def buried(position: Position) -> Conflict:
    """The error for a request that was not folded."""
    return Conflict(
        f"The request is in the log at {position}, but among the dead letters: an earlier event about this job cannot be read. "
        "An administrator has to mend it."
    )


def raise_faults(faults: list[Fault]) -> None:
    """Raise Unprocessable when there are any."""
    if faults:
        raise Unprocessable(errors=[FieldError(fault.path, fault.message) for fault in faults])


def verdict_of(row: Row) -> Verdict:
    """The verdict that a row of the history has."""
    return Verdict(Outcome(row["outcome"]), Reason(row["reason"]))


def _plain(body: Spec | None, struct: type[Spec]) -> Spec | None:
    return None if body is None else struct(**msgspec.structs.asdict(body))
