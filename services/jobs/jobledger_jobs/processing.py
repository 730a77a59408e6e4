"""Who processes which results: an app's worker leases a run whose results wait, and says what came of it.

Leases stand in a table of ours and only keep two workers from doing the same at the same time. What counts is said in the log and judged
by the fold, by the number of the attempt: a worker that was taken for dead and reports all the same is told that it is too late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import asyncpg
import msgspec
import structlog

from jobledger_contracts.job_events import ResultsProcessed, ResultsProcessingFailed, ResultsProcessingStarted
from jobledger_contracts.verdicts import Reason, refused
from jobledger_kit.errors import NotFound, OutcomeUnknown, Refused, Unavailable

from .domain.processing import outlook
from .inputs import ClaimBody, FailedBody, ProcessedBody, RenewBody
from .requests import REFUSALS, Caller, Requests, Settled
from .store import Claimed

POLL_S: Final = 0.5  #: how often a worker that waits has the table looked at
LOST: Final = "its worker was not heard of any more"

log = structlog.get_logger(__name__)


class Leases(Protocol):
    """The table of leases: `store.JobsStore`."""

    async def claim_results(self, label: str, owner: str | None, job_id: str | None, limit: int, lease_s: float) -> list[Claimed]: ...
    async def lease_results(self, claimed: Claimed, lease_s: float) -> bool: ...
    async def return_results(self, claimed: Claimed) -> None: ...
    async def job(self, job_id: str) -> asyncpg.Record | None: ...


class Given(msgspec.Struct, frozen=True):
    """What a worker was given, with the job as it stands."""

    claimed: Claimed
    row: asyncpg.Record


class Processing:
    """Hands results out and takes in what became of them. `attempts` bounds the attempts, `first_retry_s` the first wait between them."""

    def __init__(self, *, leases: Leases, requests: Requests, attempts: int, first_retry_s: float) -> None:
        self._leases, self._requests = leases, requests
        self._attempts, self._first_retry_s = attempts, first_retry_s

    async def wait(self, body: ClaimBody, caller: Caller, stopping: asyncio.Event) -> list[Given]:
        """Claim, and wait for something to claim as long as the worker wants to. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + body.wait_s
        while not (given := await self.claim(body, caller)):
            left = deadline - loop.time()
            if left <= 0 or stopping.is_set():
                break
            try:
                await asyncio.wait_for(stopping.wait(), min(POLL_S, left))
            except TimeoutError:
                continue
        return given

    async def claim(self, body: ClaimBody, caller: Caller) -> list[Given]:
        """Lease what is due among the jobs that the caller may change, and state each attempt. Raises Unavailable."""
        owner = body.user if caller.viewer.admin else caller.viewer.user
        if body.user is not None and owner != body.user:
            return []  # others' jobs do not exist for this caller
        caller = msgspec.structs.replace(caller, idempotency_key="")
        claims = await self._leases.claim_results(body.label, owner, body.job_id, body.limit, body.lease_s)
        given: list[Given] = []
        for number, claimed in enumerate(claims):
            try:
                row = await self._begin(claimed, body.worker, caller)
            except (Unavailable, OutcomeUnknown):
                await self._give_back(claims[number:])
                if not given:
                    raise
                break
            if row is not None:
                given.append(Given(claimed, row))
        return given

    async def _begin(self, claimed: Claimed, worker: str, caller: Caller) -> asyncpg.Record | None:
        """State an attempt. None when the fold says that nothing waits (any more), or when there were attempts enough."""
        job_id, run, attempt = claimed.job_id, claimed.run, claimed.attempt
        try:
            if attempt > self._attempts:
                await self._fail(claimed, FailedBody(run=run, attempt=attempt, error=LOST), caller)
                return None
            settled = await self._requests.ask(ResultsProcessingStarted(job_id=job_id, run=run, attempt=attempt, worker=worker), caller)
        except (Refused, NotFound) as error:
            log.info("Results are not to be processed any more", job_id=job_id, run=run, attempt=attempt, why=str(error))
            return None
        # Without a verdict the projection is late. The lease is ours all the same, and what the attempt leads to is judged when it is told.
        return settled.row or await self._leases.job(job_id)

    async def _give_back(self, claims: Sequence[Claimed]) -> None:
        try:
            for claimed in claims:
                await self._leases.return_results(claimed)
        except Unavailable:
            log.warning("Claims could not be given back: their leases have to run out", jobs=[claimed.job_id for claimed in claims])

    async def renew(self, job_id: str, body: RenewBody) -> None:
        """Give a worker that is still at it more time. Raises Refused when the results are not its own any more."""
        if not await self._leases.lease_results(Claimed(job_id, body.run, body.attempt), body.lease_s):
            raise Refused(REFUSALS[Reason.OLD_ATTEMPT], refused(Reason.OLD_ATTEMPT))

    async def processed(self, job_id: str, body: ProcessedBody, caller: Caller) -> Settled:
        """The results are processed. Raises Refused when that comes too late, NotFound, OutcomeUnknown."""
        message = "" if body.message is None and body.attempt > 1 else body.message  # else an earlier failure would stay the last word
        data = ResultsProcessed(job_id=job_id, run=body.run, attempt=body.attempt, worker=body.worker, message=message)
        return await self._requests.ask(data, caller)

    async def failed(self, job_id: str, body: FailedBody, caller: Caller) -> Settled:
        """Processing failed: try again later, or never. Raises as `processed`."""
        return await self._fail(Claimed(job_id, body.run, body.attempt), body, caller)

    async def _fail(self, claimed: Claimed, body: FailedBody, caller: Caller) -> Settled:
        what = outlook(body.attempt, body.error, hopeless=body.hopeless, attempts=self._attempts, first_retry_s=self._first_retry_s)
        settled = await self._requests.ask(
            ResultsProcessingFailed(
                job_id=claimed.job_id,
                run=body.run,
                attempt=body.attempt,
                last=what.retry_after_s is None,
                worker=body.worker,
                error=body.error,
                traceback=body.traceback,
                message=what.message,
            ),
            caller,
        )
        if what.retry_after_s is not None:
            await self._leases.lease_results(claimed, what.retry_after_s)
        return settled
