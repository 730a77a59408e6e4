"""HTTP in and out: many jobs at once. Each gets the answer that it would have got alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_contracts import job_events as e
from jobledger_kit.errors import FieldError, InvalidRequest, JobledgerError, OutcomeUnknown, Refused
from jobledger_kit.http import classify, json_response, operation, principal_of, read_json

from .bulk import Bulk, Outcome
from .inputs import ActOnJobs, ChooseJobs, CreateJobs, ListQuery
from .reads import Reads
from .requests import Settled
from .routes import ACTIONS, KEY_HEADER, MAX_JOB_BYTES, caller_of, viewer_of
from .views import BulkItem, BulkResult, JobView

BULK_ACTIONS: Final[dict[str, Callable[[str, str], Any]]] = {name: state for name, (state, _) in ACTIONS.items()} | {
    "delete": lambda job_id, reason: e.JobDeleted(job_id=job_id, reason=reason)
}


class BulkRoutes:
    """The endpoints on many jobs. `view` shows a job's row."""

    def __init__(self, *, bulk: Bulk, reads: Reads, view: Callable[[Any], JobView]) -> None:
        self._bulk, self._reads, self._view = bulk, reads, view

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/jobs/bulk", self.create_jobs, methods=["POST"]),
            Route("/jobs/bulk/actions", self.act_on_jobs, methods=["POST"]),
        ]

    @operation(
        "Create many jobs",
        description="Up to 1000, each with its own outcome. With an Idempotency-Key, repeating the request finds those that were created. "
        "With `execute`, what is not settled in time (202) is not asked to run.",
        body=CreateJobs,
        max_body_bytes=MAX_JOB_BYTES,
        headers=KEY_HEADER,
        response=BulkResult,
        errors=(OutcomeUnknown,),
        tag="jobs",
    )
    async def create_jobs(self, request: Request) -> Response:
        body = await read_json(request, CreateJobs)
        caller = caller_of(request)
        outcomes = await self._bulk.create(body.jobs, caller)
        if not body.execute:
            return json_response(self._result(outcomes, 201))
        made = {n: outcome.job_id for n, outcome in enumerate(outcomes) if isinstance(outcome, Settled) and outcome.row is not None}
        started = await self._bulk.ask(list(made.values()), lambda job_id: e.ExecuteRequested(job_id=job_id), caller)
        for n, outcome in zip(made, started, strict=True):
            outcomes[n] = outcome
        return json_response(self._result(outcomes, 201))

    @operation(
        "Ask the same of many jobs",
        description="Of up to 1000, by their ids or by a filter; each with its own outcome. A filter chooses among the jobs that you own, "
        "an administrator's among all.",
        body=ActOnJobs,
        headers=KEY_HEADER,
        response=BulkResult,
        errors=(OutcomeUnknown,),
        tag="actions",
    )
    async def act_on_jobs(self, request: Request) -> Response:
        body = await read_json(request, ActOnJobs)
        if (body.ids is None) == (body.filter is None):
            raise InvalidRequest(errors=[FieldError("$.ids", "either ids or a filter")])
        more = False
        if body.filter is not None:
            ids, more = await self._chosen(request, body.filter, body.limit)
        else:
            ids = list(dict.fromkeys(body.ids or ()))
        state = BULK_ACTIONS[body.action]
        outcomes = await self._bulk.ask(ids, lambda job_id: state(job_id, body.reason), caller_of(request))
        return json_response(self._result(outcomes, 200, ids, more=more))

    async def _chosen(self, request: Request, chosen: ChooseJobs, limit: int) -> tuple[list[str], bool]:
        """The ids of the oldest jobs that a filter chooses, and whether there are more."""
        values = msgspec.structs.asdict(chosen)
        properties = values.pop("extended_properties")
        query = ListQuery(
            **values,
            extended_properties=None if properties is None else msgspec.json.encode(properties).decode(),
            order_by="creation_time",
            limit=limit,
        )
        rows, cursor = await self._reads.own_page(viewer_of(principal_of(request)), query)
        return [row["id"] for row in rows], cursor is not None

    def _result(self, outcomes: list[Outcome], done: int, ids: Sequence[str] = (), *, more: bool = False) -> BulkResult:
        named = ids or [""] * len(outcomes)
        items = [self._item(outcome, done, job_id) for outcome, job_id in zip(outcomes, named, strict=True)]
        return BulkResult(items=items, failed=sum(item.status >= 400 for item in items), more=more)

    def _item(self, outcome: Outcome, done: int, job_id: str) -> BulkItem:
        if isinstance(outcome, JobledgerError):
            status, slug, title = classify(type(outcome))
            return BulkItem(
                status=status,
                id=job_id,
                type=f"urn:jobledger:problem:{slug}",
                detail=outcome.message or title,
                reason=outcome.verdict.reason if isinstance(outcome, Refused) else "",
                position=outcome.position if isinstance(outcome, Refused) else "",
                errors=list(outcome.errors) if isinstance(outcome, InvalidRequest) else [],
            )
        status = 202 if outcome.verdict is None else done if outcome.verdict.applied else 200
        job = None if outcome.row is None or outcome.row["deleted"] else self._view(outcome.row)
        return BulkItem(status=status, id=outcome.job_id, position=str(outcome.position), job=job)
