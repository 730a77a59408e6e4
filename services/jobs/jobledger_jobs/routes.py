"""HTTP in and out: jobs, what is asked of them, and their history. Errors become problem details in the kit's application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_contracts import job_events as e
from jobledger_contracts.ids import Position, is_job_id, partition_for
from jobledger_contracts.statuses import Status
from jobledger_contracts.verdicts import Outcome
from jobledger_kit import workspace
from jobledger_kit.clock import Clock
from jobledger_kit.credentials import Principal
from jobledger_kit.errors import (
    Conflict,
    FieldError,
    Forbidden,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    Refused,
    Unprocessable,
    UnprocessableKey,
)
from jobledger_kit.http import (
    classify,
    etag,
    header_values,
    is_known,
    json_response,
    not_modified,
    operation,
    principal_of,
    problem,
    read_json,
    read_query,
    request_id_of,
    traceparent_of,
)
from jobledger_kit.sse import EventStream

from .domain.rights import Right, Viewer
from .feed import Feed, parse_position, parse_vector
from .inputs import MAX_VECTOR_CHARS, ActionBody, ChangeJob, CountQuery, CreateJob, FeedQuery, HistoryQuery, JobQuery, ListQuery
from .reads import Late, Reads
from .requests import Caller, CreationUnknown, Requests, Settled
from .views import Accepted, HistoryPage, JobCounts, JobPage, JobView, history_entry, job_view

POSITION_HEADER: Final = "jobledger-position"
MAX_JOB_BYTES: Final = 32 * 2**20
"""Of a job's description: a workflow of 20,000 nodes has some 10 MB."""
KEY_HEADER: Final = {"Idempotency-Key": "makes the request safe to repeat: the same key and content take effect once"}
_RESUME_HEADER: Final = {"Last-Event-ID": "the id of the last event that was received; the answer begins behind it"}
_MATCH_HEADER: Final = {"If-None-Match": "the ETag of an answer that you have: 304 when it would be the same"}
_WRITE_ERRORS: Final = (NotFound, Forbidden, Refused, OutcomeUnknown)

ACTIONS: Final[dict[str, tuple[Callable[[str, str], Any], str]]] = {
    "execute": (lambda job_id, _: e.ExecuteRequested(job_id=job_id), "Ask for the job's first run"),
    "stop": (lambda job_id, reason: e.StopRequested(job_id=job_id, reason=reason), "Ask to end the current run"),
    "pause": (lambda job_id, reason: e.PauseRequested(job_id=job_id, reason=reason), "Ask to hold the current run"),
    "resume": (lambda job_id, reason: e.ResumeRequested(job_id=job_id, reason=reason), "Ask to let a held run go on"),
    "resubmit": (
        lambda job_id, reason: e.ResubmitRequested(job_id=job_id, reason=reason),
        "Ask for another run once the last one is over",
    ),
    "refresh": (lambda job_id, _: e.RefreshRequested(job_id=job_id), "Ask to have the run's status looked up now"),
}
"""Action -> the event that states it, and what it asks."""


class JobRoutes:
    """The endpoints on jobs."""

    def __init__(self, *, requests: Requests, reads: Reads, feed: Feed, clock: Clock, workspaces_url: str, partitions: int) -> None:
        self._requests, self._reads, self._feed, self._clock = requests, reads, feed, clock
        self._workspaces_url, self._partitions = workspaces_url, partitions

    def routes(self) -> list[Route]:
        """The table. Fixed paths come before those with a job's id."""
        return [
            Route("/jobs", self.create_job, methods=["POST"]),
            Route("/jobs", self.list_jobs, methods=["GET"]),
            Route("/jobs/counts", self.count_jobs, methods=["GET"]),
            Route("/jobs/events", self.all_events, methods=["GET"]),
            Route("/jobs/{job_id}", self.get_job, methods=["GET"]),
            Route("/jobs/{job_id}", self.change_job, methods=["PATCH"]),
            Route("/jobs/{job_id}", self.delete_job, methods=["DELETE"]),
            Route("/jobs/{job_id}/history", self.job_history, methods=["GET"]),
            Route("/jobs/{job_id}/events", self.job_events, methods=["GET"]),
            *(Route(f"/jobs/{{job_id}}/{name}", self._action(name), methods=["POST"]) for name in ACTIONS),
        ]

    @operation(
        "Create a job",
        description="It starts Pending. With an Idempotency-Key the job's id follows from the key, so repeating the request finds the job.",
        body=CreateJob,
        max_body_bytes=MAX_JOB_BYTES,
        headers=KEY_HEADER,
        responses={201: JobView, 200: JobView, 202: Accepted},
        errors=(Forbidden, Unprocessable, UnprocessableKey, Conflict, OutcomeUnknown),
        tag="jobs",
    )
    async def create_job(self, request: Request) -> Response:
        body = await read_json(request, CreateJob)
        principal = principal_of(request)
        if body.user is not None and body.user != principal.name and not principal.admin:
            raise Forbidden("Only an administrator creates jobs for others.")
        try:
            settled = await self._requests.create(body, caller_of(request))
        except CreationUnknown as error:
            status, slug, title = classify(CreationUnknown)
            instance = f"urn:jobledger:request:{request_id_of(request)}"
            headers = {"retry-after": "1"}
            return problem(status, slug, title, error.message, instance=instance, headers=headers, job_id=error.job_id)
        first = settled.verdict is not None and settled.verdict.outcome is not Outcome.DUPLICATE
        return self._answer(settled, 201 if first else 200)

    @operation(
        "List the jobs that you may see",
        description="Lists by the columns of an index, page by page. By `execute_time` and `completion_time` are only jobs that have one.",
        query=ListQuery,
        headers=_MATCH_HEADER,
        responses={200: JobPage, 304: None},
        errors=(Late,),
        tag="jobs",
    )
    async def list_jobs(self, request: Request) -> Response:
        query = read_query(request, ListQuery)
        await self._reads.fresh(self._position(query.after))
        rows, cursor = await self._reads.page(viewer_of(principal_of(request)), query)
        tag = etag(*(f"{row['id']}@{row['partition']}:{row['log_offset']}" for row in rows), cursor or "")
        if is_known(request, tag):
            return not_modified(tag)
        return json_response(JobPage(items=[self.view(row) for row in rows], next_cursor=cursor), headers={"etag": tag})

    @operation(
        "Count jobs by status",
        description="Your own, those of a group of yours, or, for administrators, everybody's. The counts are kept, not counted.",
        query=CountQuery,
        headers=_MATCH_HEADER,
        responses={200: JobCounts, 304: None},
        errors=(Forbidden, Late),
        tag="jobs",
    )
    async def count_jobs(self, request: Request) -> Response:
        query = read_query(request, CountQuery)
        await self._reads.fresh(self._position(query.after))
        counts = await self._reads.counts(viewer_of(principal_of(request)), query)
        tag = etag(*(f"{status}={number}" for status, number in sorted(counts.items())))
        if is_known(request, tag):
            return not_modified(tag)
        statuses = {status.value: counts[status] for status in Status if status in counts}
        return json_response(JobCounts(total=sum(counts.values()), statuses=statuses), headers={"etag": tag})

    @operation(
        "Look at a job",
        query=JobQuery,
        headers=_MATCH_HEADER,
        responses={200: JobView, 304: None},
        errors=(NotFound, Late),
        tag="jobs",
    )
    async def get_job(self, request: Request) -> Response:
        await self._reads.fresh(self._position(read_query(request, JobQuery).after))
        row = await self._reads.job(job_id_of(request), viewer_of(principal_of(request)))
        tag = etag(f"{row['partition']}:{row['log_offset']}")
        return not_modified(tag) if is_known(request, tag) else json_response(self.view(row), headers={"etag": tag})

    @operation(
        "Change a job's attributes",
        body=ChangeJob,
        max_body_bytes=MAX_JOB_BYTES,
        headers=KEY_HEADER,
        responses={200: JobView, 202: Accepted},
        errors=(*_WRITE_ERRORS, Unprocessable),
        tag="jobs",
    )
    async def change_job(self, request: Request) -> Response:
        body = await read_json(request, ChangeJob)
        row = await self._reads.job(job_id_of(request), viewer_of(principal_of(request)), Right.WRITE)
        return self._answer(await self._requests.change(row, body, caller_of(request)))

    @operation(
        "Take a job out of the list",
        description="Its folder is removed; its history stays.",
        headers=KEY_HEADER,
        responses={200: Accepted, 202: Accepted},
        errors=_WRITE_ERRORS,
        tag="jobs",
    )
    async def delete_job(self, request: Request) -> Response:
        job_id = job_id_of(request)
        await self._reads.job(job_id, viewer_of(principal_of(request)), Right.WRITE)
        settled = await self._requests.ask(e.JobDeleted(job_id=job_id), caller_of(request))
        return self._answer(Settled(job_id=job_id, position=settled.position, verdict=settled.verdict))

    def _action(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        state, summary = ACTIONS[name]

        @operation(
            summary, body=ActionBody, headers=KEY_HEADER, responses={200: JobView, 202: Accepted}, errors=_WRITE_ERRORS, tag="actions"
        )
        async def act(request: Request) -> Response:
            reason = await read_reason(request)
            job_id = job_id_of(request)
            await self._reads.job(job_id, viewer_of(principal_of(request)), Right.WRITE)
            return self._answer(await self._requests.ask(state(job_id, reason), caller_of(request)))

        act.__name__ = f"{name}_job"  # what the OpenAPI document calls the operation
        return act

    @operation(
        "Read a job's history",
        description="Every event about it, with what the fold said of each. It outlives the job.",
        query=HistoryQuery,
        response=HistoryPage,
        errors=(NotFound, Late),
        tag="history",
    )
    async def job_history(self, request: Request) -> Response:
        query = read_query(request, HistoryQuery)
        await self._reads.fresh(self._position(query.after))
        rows, cursor = await self._reads.history(job_id_of(request), viewer_of(principal_of(request)), query)
        return json_response(HistoryPage(items=[history_entry(row) for row in rows], next_cursor=cursor))

    @operation(
        "Follow a job",
        description="Server-sent events named `status`, whose data is a StatusEvent and whose id is the event's position.",
        query=FeedQuery,
        headers=_RESUME_HEADER,
        response=str,
        response_type="text/event-stream",
        errors=(NotFound,),
        tag="events",
    )
    async def job_events(self, request: Request) -> Response:
        job_id, viewer = job_id_of(request), viewer_of(principal_of(request))
        text, where = _resume_from(request)
        after = None if text is None else parse_position(text, self._partitions, where)
        if after is not None and is_job_id(job_id) and after.partition != partition_for(job_id.encode(), self._partitions):
            raise InvalidRequest(errors=[FieldError(where, f"this job's events are not in partition {after.partition}")])
        await self._reads.job(job_id, viewer)
        return EventStream(self._feed.of_job(job_id, viewer, after))

    @operation(
        "Follow all jobs that you may see",
        description="As for one job. The id is a vector: the last position seen in each partition, joined by commas.",
        query=FeedQuery,
        headers=_RESUME_HEADER,
        response=str,
        response_type="text/event-stream",
        tag="events",
    )
    async def all_events(self, request: Request) -> Response:
        text, where = _resume_from(request)
        after = None if text is None else parse_vector(text, self._partitions, where)
        return EventStream(self._feed.of_all(viewer_of(principal_of(request)), after))

    def _answer(self, settled: Settled, status: int = 200) -> Response:
        """The job as it now stands; 202 and where to look when the projection has not come so far; 200 and the position of a deletion."""
        headers = {POSITION_HEADER: str(settled.position)}
        if status == 201 or settled.verdict is None:
            headers["location"] = f"/jobs/{settled.job_id}"
        if settled.verdict is None or settled.row is None:
            accepted = Accepted(id=settled.job_id, position=str(settled.position))
            return json_response(accepted, 202 if settled.verdict is None else status, headers)
        return json_response(self.view(settled.row), status, headers)

    def view(self, row: Any) -> JobView:
        """Show a job's row."""
        return job_view(row, workspace=workspace.workspace_url(self._workspaces_url, row["id"]), now=self._clock.now())

    def _position(self, text: str | None) -> Position | None:
        return None if text is None else parse_position(text, self._partitions, "?after")


def job_id_of(request: Request) -> str:
    """The job that the path names. It need not be one."""
    return str(request.path_params["job_id"])


def viewer_of(principal: Principal) -> Viewer:
    """Who asks, as far as rights go."""
    return Viewer(principal.name, principal.groups, principal.admin, principal.service)


def caller_of(request: Request) -> Caller:
    """On whose behalf a request comes. Raises InvalidRequest for two Idempotency-Keys."""
    principal = principal_of(request)
    keys = header_values(request, b"idempotency-key")
    if len(keys) > 1:
        raise InvalidRequest(errors=[FieldError("Idempotency-Key", "given more than once")])
    return Caller(
        viewer=viewer_of(principal),
        actor=principal.actor,
        correlation_id=request_id_of(request),
        traceparent=traceparent_of(request),
        idempotency_key=keys[0] if keys else "",
    )


async def read_reason(request: Request) -> str:
    """Why something is asked for; the whole body may be left out. Raises what `read_json` does."""
    length = request.headers.get("content-length", "0")
    if length == "0" and "transfer-encoding" not in request.headers:
        return ""
    return (await read_json(request, ActionBody)).reason


def _resume_from(request: Request) -> tuple[str | None, str]:
    """Where a feed is to begin: the header, which browsers send by themselves when they reconnect, wins over the query."""
    query = read_query(request, FeedQuery)
    header = request.headers.get("last-event-id")
    if header:
        if len(header) > MAX_VECTOR_CHARS:
            raise InvalidRequest(errors=[FieldError("Last-Event-ID", "too long")])
        return header, "Last-Event-ID"
    return query.after, "?after"
