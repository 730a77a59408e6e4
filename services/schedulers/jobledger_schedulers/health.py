"""Whether a scheduler answers, and is well: told once when it changes, never guessed from one failed call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from jobledger_contracts.envelope import new_event
from jobledger_contracts.ids import derived_id
from jobledger_contracts.scheduler import Scheduler
from jobledger_contracts.scheduler_events import SchedulerHealthChanged

from .adapters.port import SchedulerError, SchedulerIdentity, Unreachable
from .adapters.views import Surveyed
from .domain.condition import Condition, answered
from .domain.reports import ACTOR, HEALTH_SOURCE, shortened
from .lane import Lane
from .troubles import in_words

UP, DEGRADED, DOWN = "up", "degraded", "down"
PING_TIMEOUT_S: Final = 60.0  #: adapters keep their own, shorter deadlines; this one catches an adapter that does not
SURVEY_TIMEOUT_S: Final = 10.0


class Health:
    """Follows one scheduler. Each of its calls keeps a deadline of its own."""

    def __init__(self, lane: Lane, state: Scheduler) -> None:
        self._lane = lane
        self._said = state.health
        self._said_detail = state.health_detail
        # What was said before we came stands until it is seen to be otherwise, and no longer than anything else does.
        self._condition = Condition(tuple(state.health_detail.split("; ")) if state.health == DEGRADED else ())
        self._examined_at = -1e9  # on the monotonic clock

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Around a look at the scheduler: it answers, or a second question makes sure that it does not."""
        try:
            yield
        except SchedulerError:
            await self._ask()
            raise
        if self._said not in (UP, DEGRADED) or self._due():
            await self._ask()

    async def check_when_due(self) -> None:
        """Ask a scheduler that nothing else asks, every `health_interval_s`. Raises SchedulerError when it does not answer."""
        if self._due():
            error = await self._ask()
            if error is not None:
                raise error

    def _due(self) -> bool:
        return self._lane.clock.monotonic() - self._examined_at >= self._lane.settings.health_interval_s

    async def _ask(self) -> SchedulerError | None:
        """Ask who is there and what is missing, and tell when that is news."""
        began_s = self._lane.clock.monotonic()
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                identity = await self._lane.adapter.ping()
        except TimeoutError:
            return await self._down(Unreachable(f"{self._lane.name} did not answer within {PING_TIMEOUT_S:.0f} s"))
        except SchedulerError as error:
            return await self._down(error)
        took_s = self._lane.clock.monotonic() - began_s
        self._condition = answered(self._condition, took_s, self._lane.settings.slow_answer_s, await self._shortages())
        self._examined_at = self._lane.clock.monotonic()
        reasons = self._condition.reasons
        await self._tell(DEGRADED if reasons else UP, "; ".join(reasons), identity)
        return None

    async def _shortages(self) -> list[str] | None:
        """What the scheduler lacks; None when it does not say, which is no trouble in itself."""
        if not isinstance(self._lane.adapter, Surveyed):
            return []
        try:
            async with asyncio.timeout(SURVEY_TIMEOUT_S):
                return await self._lane.adapter.shortages()
        except (SchedulerError, TimeoutError) as error:
            self._lane.log.info("The scheduler does not say what it lacks", action="survey_failed", error=in_words(error))
            return None

    async def _down(self, error: SchedulerError) -> SchedulerError:
        await self._tell(DOWN, in_words(error), None)
        return error

    async def _tell(self, health: str, detail: str, identity: SchedulerIdentity | None) -> None:
        lane = self._lane
        detail = shortened(detail)
        # Once: not again for each other wording of the same trouble. Reasons of being degraded are worded the same each time.
        if self._said == health and (health != DEGRADED or self._said_detail == detail):
            return
        row = await lane.store.scheduler(lane.name)
        version = row.state.version if row else 0
        data = SchedulerHealthChanged(
            name=lane.name, health=health, detail=detail, version=shortened(identity.version)[:200] if identity else ""
        )
        event_id = derived_id("health", lane.name, str(version), health, detail)
        await lane.publish([new_event(data, id=event_id, source=HEALTH_SOURCE, time=lane.clock.now(), actor=ACTOR)])
        self._said, self._said_detail = health, detail
        lane.log.info("The scheduler's health has changed", action="scheduler_health", health=health, detail=detail)
