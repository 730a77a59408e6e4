"""What the workers of apps call: they claim results that wait to be processed, and say what came of it."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_kit.clock import Clock
from jobledger_kit.errors import Forbidden, NotFound, OutcomeUnknown, Refused
from jobledger_kit.http import json_response, operation, principal_of, read_json
from jobledger_kit.workspace import workspace_url

from .domain.rights import Right
from .inputs import ClaimBody, FailedBody, ProcessedBody, RenewBody
from .processing import Processing
from .reads import Reads
from .requests import Settled
from .routes import KEY_HEADER, POSITION_HEADER, caller_of, job_id_of, viewer_of
from .views import Accepted, Claim, Claims, JobView, Renewed, Row, job_view

_ERRORS: Final = (NotFound, Forbidden, Refused, OutcomeUnknown)
MAX_FAILURE_BYTES: Final = 1 << 20


class ProcessingRoutes:
    """The endpoints on results that wait. Who may change a job may process its results."""

    def __init__(self, *, processing: Processing, reads: Reads, clock: Clock, workspaces_url: str) -> None:
        self._processing, self._reads, self._clock, self._workspaces_url = processing, reads, clock, workspaces_url

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/jobs/processing/claims", self.claim_results, methods=["POST"]),
            Route("/jobs/{job_id}/processing/renew", self.renew_claim, methods=["POST"]),
            Route("/jobs/{job_id}/processing/done", self.results_processed, methods=["POST"]),
            Route("/jobs/{job_id}/processing/failed", self.processing_failed, methods=["POST"]),
        ]

    @operation(
        "Claim results to process",
        description=(
            "For workers of an app: runs that ended well, of jobs with that label which name a function and which you may change. Each "
            "is yours for `lease_s` and must be renewed before; then another worker may be given it, under the next attempt's number."
        ),
        body=ClaimBody,
        response=Claims,
        errors=(OutcomeUnknown,),
        tag="processing",
    )
    async def claim_results(self, request: Request) -> Response:
        body = await read_json(request, ClaimBody)
        stopping: asyncio.Event = request.scope["jobledger.stopping"]
        given = await self._processing.wait(body, caller_of(request), stopping)
        claims = [Claim(job=self._view(one.row), run=one.claimed.run, attempt=one.claimed.attempt, lease_s=body.lease_s) for one in given]
        return json_response(Claims(items=claims))

    @operation("Say that you are still processing", body=RenewBody, response=Renewed, errors=_ERRORS, tag="processing")
    async def renew_claim(self, request: Request) -> Response:
        body = await read_json(request, RenewBody)
        await self._processing.renew(await self._job_id(request), body)
        return json_response(Renewed(lease_s=body.lease_s))

    @operation(
        "Say that the results are processed",
        description="The run takes the end that was held back until now. Refused when another attempt has begun since.",
        headers=KEY_HEADER,
        body=ProcessedBody,
        responses={200: JobView, 202: Accepted},
        errors=_ERRORS,
        tag="processing",
    )
    async def results_processed(self, request: Request) -> Response:
        body = await read_json(request, ProcessedBody)
        return self._answer(await self._processing.processed(await self._job_id(request), body, caller_of(request)))

    @operation(
        "Say that processing failed",
        description="It is tried again later, and after the last attempt the run is an error. The traceback stays in the history.",
        headers=KEY_HEADER,
        body=FailedBody,
        max_body_bytes=MAX_FAILURE_BYTES,
        responses={200: JobView, 202: Accepted},
        errors=_ERRORS,
        tag="processing",
    )
    async def processing_failed(self, request: Request) -> Response:
        body = await read_json(request, FailedBody)
        return self._answer(await self._processing.failed(await self._job_id(request), body, caller_of(request)))

    async def _job_id(self, request: Request) -> str:
        """The job that the path names. Raises NotFound and Forbidden."""
        row = await self._reads.job(job_id_of(request), viewer_of(principal_of(request)), Right.WRITE)
        return str(row["id"])

    def _answer(self, settled: Settled) -> Response:
        headers = {POSITION_HEADER: str(settled.position)}
        if settled.verdict is None or settled.row is None:
            return json_response(Accepted(id=settled.job_id, position=str(settled.position)), 202, headers)
        return json_response(self._view(settled.row), 200, headers)

    def _view(self, row: Row) -> JobView:
        return job_view(row, workspace=workspace_url(self._workspaces_url, row["id"]), now=self._clock.now())
