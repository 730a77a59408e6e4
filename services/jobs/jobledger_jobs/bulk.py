"""Many requests at once: each has its own verdict, but all are one batch of events, one wait and one look at the rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol

import asyncpg
import msgspec

from jobledger_contracts import topics
from jobledger_contracts.envelope import Event
from jobledger_contracts.ids import Position, is_job_id
from jobledger_kit.bus import Bus
from jobledger_kit.errors import Forbidden, JobledgerError, NotFound

from .domain.rights import Right, right_to
from .inputs import CreateJob
from .requests import Caller, PassedPositions, Requests, Settled, buried, judge_creation, verdict_of

MAX_AT_ONCE: Final = 1000
_TURN: Final = 50  #: requests that are stated before others get their turn

Outcome = Settled | JobledgerError
"""What came of one of the requests."""


class BulkReader(Protocol):
    """The rows that requests for many jobs look at: `store.JobsStore`."""

    async def jobs(self, job_ids: Sequence[str]) -> dict[str, asyncpg.Record]: ...
    async def verdicts(self, positions: Sequence[Position]) -> dict[Position, asyncpg.Record]: ...
    async def usable_schedulers(self) -> dict[str, str]: ...


class Bulk:
    """States many requests. `wait_s` bounds the wait for all verdicts together."""

    def __init__(self, *, requests: Requests, bus: Bus, positions: PassedPositions, store: BulkReader, wait_s: float) -> None:
        self._requests, self._bus, self._positions, self._store, self._wait_s = requests, bus, positions, store, wait_s

    async def create(self, bodies: Sequence[CreateJob], caller: Caller) -> list[Outcome]:
        """Create jobs; the n-th one's idempotency key is the caller's with `/n` behind it. Raises the bus's errors."""
        schedulers = await self._store.usable_schedulers() if any(body.scheduler for body in bodies) else {}
        stated: list[Event | JobledgerError] = []
        callers = [one_of(caller, n) for n in range(len(bodies))]
        for n, (body, one) in enumerate(zip(bodies, callers, strict=True)):
            try:
                if body.user is not None and body.user != caller.viewer.user and not caller.viewer.admin:
                    raise Forbidden("Only an administrator creates jobs for others.")
                stated.append(await self._requests.creation_event(body, one, schedulers))
            except JobledgerError as error:
                _let_through(error)
                stated.append(error)
            if n % _TURN == _TURN - 1:
                await asyncio.sleep(0)
        outcomes = await self._settle(stated)
        for n, outcome in enumerate(outcomes):
            if isinstance(outcome, Settled):
                try:
                    outcomes[n] = judge_creation(outcome, callers[n].idempotency_key)
                except JobledgerError as error:
                    outcomes[n] = error
        return outcomes

    async def ask(self, job_ids: Sequence[str], state: Callable[[str], Any], caller: Caller) -> list[Outcome]:
        """Ask the same of many jobs; `state(job_id)` is the event's data. Each job is named once. Raises the bus's errors."""
        rows = await self._store.jobs([job_id for job_id in job_ids if is_job_id(job_id)])
        stated: list[Event | JobledgerError] = []
        for n, job_id in enumerate(job_ids):
            denial = _denial(rows.get(job_id), job_id, caller)
            stated.append(denial or self._requests.request_event(state(job_id), caller))
            if n % _TURN == _TURN - 1:
                await asyncio.sleep(0)
        outcomes = await self._settle(stated)
        for n, (event, outcome) in enumerate(zip(stated, outcomes, strict=True)):
            if isinstance(outcome, Settled) and isinstance(event, Event):
                try:
                    outcomes[n] = await self._requests.judge_request(outcome, event.id)
                except JobledgerError as error:
                    _let_through(error)
                    outcomes[n] = error
        return outcomes

    async def _settle(self, stated: Sequence[Event | JobledgerError]) -> list[Outcome]:
        """Publish what could be stated, wait for it, and read what the fold said."""
        events = [event for event in stated if isinstance(event, Event)]
        if not events:
            return [error for error in stated if isinstance(error, JobledgerError)]
        positions = await self._bus.publish(*events)
        passed = await self._wait(positions)
        said = await self._store.verdicts(positions) if passed else {}
        rows = await self._store.jobs([event.key for event in events]) if passed else {}
        outcomes: list[Outcome] = []
        each = iter(zip(events, positions, strict=True))
        for one in stated:
            if isinstance(one, JobledgerError):
                outcomes.append(one)
                continue
            event, position = next(each)
            if position.partition not in passed:
                outcomes.append(Settled(job_id=event.key, position=position))
            elif position not in said:
                outcomes.append(buried(position))
            else:
                outcomes.append(Settled(job_id=event.key, position=position, verdict=verdict_of(said[position]), row=rows.get(event.key)))
        return outcomes

    async def _wait(self, positions: Sequence[Position]) -> Collection[int]:
        """Wait for the last position of each partition. Returns the partitions in which it was passed in time."""
        last: dict[int, Position] = {}
        for position in positions:
            if position.partition not in last or last[position.partition].offset < position.offset:
                last[position.partition] = position
        waits = [self._positions.wait(topics.JOBS, position, self._wait_s) for position in last.values()]
        return {partition for partition, passed in zip(last, await asyncio.gather(*waits), strict=True) if passed}


def one_of(caller: Caller, n: int) -> Caller:
    """The caller of the n-th of many requests."""
    key = caller.idempotency_key
    return msgspec.structs.replace(caller, idempotency_key=f"{key}/{n}") if key else caller


def _denial(row: asyncpg.Record | None, job_id: str, caller: Caller) -> JobledgerError | None:
    right = Right.NONE if row is None or row["deleted"] else right_to(caller.viewer, row["owner"], row["groups"])
    if right is Right.NONE:
        return NotFound("job", job_id)
    return None if right is Right.WRITE else Forbidden("Only the job's owner or an administrator may do this.")


def _let_through(error: JobledgerError) -> None:
    """What is wrong with a part of the system is no verdict on one of the requests."""
    if error.retryable:
        raise error
