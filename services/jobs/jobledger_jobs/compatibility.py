"""The callbacks of Tethys Platform, for programs that cannot be changed, such as its Dask scheduler plugin.

They are GETs without a credential. So they are off unless the settings turn them on, and then each is a hint: it asks to have the job's
status looked up, once in an interval. Only where an administrator has named the job's scheduler does what they say move the job. Who
asks does not learn from the answer whether there is such a job.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_contracts.ids import is_job_id
from jobledger_contracts.job_events import StatusChanged
from jobledger_contracts.statuses import FINISHED, Status
from jobledger_kit.clock import Clock
from jobledger_kit.errors import NotFound, OutcomeUnknown, RateLimited
from jobledger_kit.http import Allow, json_response, operation, read_query, request_id_of

from .domain.compatibility import Bucket, may_move, parse_dask_key, status_of_transition, worth_asking
from .domain.rights import Viewer
from .refreshes import Asked, DelayQuery, Refreshes, check_delay
from .requests import Caller, Requests
from .store import JobsStore

SOURCE: Final = "/jobledger/jobs/compatibility"
ACTOR: Final = "anonymous"


class Hint(msgspec.Struct, frozen=True):
    """The hint was taken: `scheduled` when it is for later."""

    success: bool | Literal["scheduled"]


class TransitionQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a Dask scheduler saw of a task."""

    status: Annotated[str, Meta(min_length=3, max_length=64)]  #: from-to, such as processing-memory


_GET: Final[dict[str, Any]] = {"allow": Allow.PUBLIC, "response": Hint, "errors": (NotFound, RateLimited, OutcomeUnknown)}
_HINT: Final = operation("Hint that a job's status has changed (Tethys)", query=DelayQuery, tag="compatibility", **_GET)
_TRANSITION: Final = operation("Tell of a Dask task's transition (Tethys)", query=TransitionQuery, tag="compatibility", **_GET)


class CompatibilityRoutes:
    """See the module's words. `movable` names the schedulers whose jobs a transition may move."""

    def __init__(
        self,
        *,
        store: JobsStore,
        refreshes: Refreshes,
        requests: Requests,
        clock: Clock,
        movable: Collection[str],
        per_s: float,
        max_delay_s: float,
    ) -> None:
        self._store, self._refreshes, self._requests, self._clock = store, refreshes, requests, clock
        self._movable, self._max_delay_s, self._bucket = movable, max_delay_s, Bucket(per_s)

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/update-job-status/{job_id}/", self.hint, methods=["GET"]),
            Route("/update-job-status/{job_id}", self.hint_bare, methods=["GET"]),
            Route("/update-dask-job-status/{key}/", self.transition, methods=["GET"]),
            Route("/update-dask-job-status/{key}", self.transition_bare, methods=["GET"]),
        ]

    @_HINT
    async def hint_bare(self, request: Request) -> Response:
        """As `hint`."""
        return await self.hint(request)

    @_TRANSITION
    async def transition_bare(self, request: Request) -> Response:
        """As `transition`."""
        return await self.transition(request)

    @_HINT
    async def hint(self, request: Request) -> Response:
        job_id, delay_s = str(request.path_params["job_id"]), check_delay(request, self._max_delay_s)
        if not is_job_id(job_id):
            raise NotFound("job", job_id)
        if self._is_asked(request):
            row = await self._store.job(job_id)
            # Of what is to come later nobody can say yet whether there will be a run to look at.
            if row is not None and (delay_s or worth_asking(row["status"], run=row["run"], deleted=row["deleted"])):
                await self._refreshes.schedule(job_id, delay_s, Asked(SOURCE, ACTOR, request_id_of(request)))
        return json_response(Hint("scheduled" if delay_s else True))

    @_TRANSITION
    async def transition(self, request: Request) -> Response:
        key, transition = str(request.path_params["key"]), read_query(request, TransitionQuery).status
        named = parse_dask_key(key)
        if named is None:
            raise NotFound("job with the task", key)
        if self._is_asked(request):
            await self._take(*named, transition, request_id_of(request))
        return json_response(Hint(True))

    async def _take(self, job_id: str, run: int | None, transition: str, request_id: str) -> None:
        row = await self._store.job(job_id)
        if row is None or row["deleted"] or Status(row["status"]) in FINISHED:
            return
        if run is not None and run != max(row["run"], 1):  # of another run: the fold would only note that it is late
            return
        status = status_of_transition(transition, scheduler=row["scheduler"])
        if status is None or not may_move(row["scheduler"], self._movable):
            if worth_asking(row["status"], run=row["run"], deleted=False):
                await self._refreshes.schedule(job_id, 0, Asked(SOURCE, ACTOR, request_id))
        elif status != row["status"]:
            said = StatusChanged(job_id=job_id, run=run, status=status.value, evidence={"transition": transition})
            caller = Caller(viewer=Viewer(ACTOR), actor=ACTOR, correlation_id=request_id)
            await self._requests.report(said, caller=caller, source=SOURCE)

    def _is_asked(self, request: Request) -> bool:
        """False for a HEAD, which asks for nothing. Raises RateLimited."""
        if request.method == "HEAD":
            return False
        if wait_s := self._bucket.take(self._clock.monotonic()):
            raise RateLimited(retry_after_s=wait_s)
        return True
