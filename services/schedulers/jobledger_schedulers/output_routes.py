"""HTTP in and out: what a run has written so far, read where it runs, for those who may see its job."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_contracts.ids import parse_run_id
from jobledger_contracts.job import Job
from jobledger_contracts.statuses import ACTIVE
from jobledger_contracts.topics import JOBS
from jobledger_kit.credentials import Principal
from jobledger_kit.errors import Conflict, NotFound, Unavailable, Unprocessable
from jobledger_kit.http import Input, operation, principal_of, read_query

from .adapters.port import NotSupported, Refused
from .inspection import Inspection
from .store import SchedulersStore

MAX_BYTES: Final = 2**20
OFFSET_HEADER: Final = "jobledger-offset"
SIZE_HEADER: Final = "jobledger-size"


class OutputQuery(Input, frozen=True, kw_only=True):
    """Which piece of what."""

    stream: Literal["stdout", "stderr"] = "stdout"
    offset: Annotated[int, Meta(ge=0, le=2**53, description="bytes from the beginning")] = 0
    max_bytes: Annotated[int, Meta(ge=1, le=MAX_BYTES)] = 65_536
    process: Annotated[int, Meta(ge=0, le=99_999, description="of a run with several: which, from 0")] = 0
    node: Annotated[str, Meta(max_length=1000, description="of a workflow: which node's; without it the workflow's own")] = ""


class OutputRoutes:
    """The endpoint on the output of runs that are not over. `consumer` is who folds the events of jobs."""

    def __init__(self, *, inspection: Inspection, store: SchedulersStore, consumer: str) -> None:
        self._inspection, self._store, self._consumer = inspection, store, consumer

    def routes(self) -> list[Route]:
        """The table."""
        return [Route("/schedulers/{name}/runs/{run_id}/output", self.output, methods=["GET"])]

    @operation(
        "Read what a run has written so far",
        description=(
            f"The headers {OFFSET_HEADER} and {SIZE_HEADER} say where the piece begins and how much there is: an offset that is 0 "
            "although a later one was asked for means that the run was begun anew. Once it is over, its output is among the job's files."
        ),
        query=OutputQuery,
        response=bytes,
        response_type="application/octet-stream",
        errors=(NotFound, Conflict, Unprocessable, Unavailable),
        tag="runs",
    )
    async def output(self, request: Request) -> Response:
        query = read_query(request, OutputQuery)
        scheduler, run_id, principal = str(request.path_params["name"]), str(request.path_params["run_id"]), principal_of(request)
        await self._may_be_read(scheduler, run_id, principal)
        async with self._inspection.work(scheduler, frank=principal.admin) as adapter:
            try:
                tail = await adapter.tail(run_id, query.stream, query.offset, query.max_bytes, query.process, query.node)
            except NotSupported as error:
                raise Unprocessable(str(error)) from error
            except Refused as error:
                raise Conflict(str(error)) from error
        headers = {OFFSET_HEADER: str(tail.offset), SIZE_HEADER: str(tail.size), "cache-control": "no-store"}
        headers["content-disposition"] = "attachment"  # a browser must never run what a job wrote
        return Response(tail.data, 200, headers, "application/octet-stream")

    async def _may_be_read(self, scheduler: str, run_id: str, principal: Principal) -> None:
        """Raises NotFound for a run that is not there for these eyes, and Conflict for one that has nothing to be read at its scheduler."""
        job = await self._job(run_id)
        created = job.created if job is not None and job.exists and not job.deleted else None
        if job is None or created is None or created.scheduler != scheduler or not principal.may_see(created.user, created.groups):
            raise NotFound("run", run_id)
        if job.run_id != run_id or job.status not in ACTIVE:
            raise Conflict("This run is not under way: what it left is among the job's files.")

    async def _job(self, run_id: str) -> Job | None:
        """The run's job, as the log has it."""
        try:
            job_id, _ = parse_run_id(run_id)
        except ValueError:
            return None
        states, _ = await self._store.load(self._consumer, [(JOBS, job_id)])
        job: Job | None = states.get((JOBS, job_id))
        return job
