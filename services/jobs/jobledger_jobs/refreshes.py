"""Looks at jobs' statuses that are to come later: `?delay=`, and the hints of callbacks that nobody signed.

Each is an effect in the ledger, so it survives a restart. A job has one in an interval and `MOST_WAITING` at once, however often it is
asked for. When it is due it becomes a RefreshRequested, whose id follows from the effect: twice in the log, it counts once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request

from jobledger_contracts.envelope import new_event
from jobledger_contracts.ids import derived_id
from jobledger_contracts.job_events import RefreshRequested
from jobledger_kit.bus import Bus
from jobledger_kit.clock import Clock
from jobledger_kit.effects import Due, Effect, EffectLedger
from jobledger_kit.errors import FieldError, InvalidRequest
from jobledger_kit.http import read_query

from .domain.callbacks import refresh_slots
from .domain.compatibility import worth_asking
from .reactors import REFRESH
from .store import database_away
from .views import Row

MOST_WAITING: Final = 20


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an effect carries: who asked, and where."""

    source: str
    actor: str
    correlation_id: str = ""


class DelayQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to look."""

    delay: Annotated[float, Meta(ge=0)] = 0.0  #: seconds from now


def check_delay(request: Request, most_s: float) -> float:
    """The seconds to wait before a look. Raises InvalidRequest for a delay that is too long."""
    delay_s = read_query(request, DelayQuery).delay
    if not delay_s <= most_s:
        raise InvalidRequest(errors=[FieldError("?delay", f"{most_s:g} seconds are the most")])
    return delay_s


class Refreshes:
    """Notes what is to be looked up, and asks for it when it is due. `job` reads a job's row."""

    def __init__(
        self, effects: EffectLedger, bus: Bus, clock: Clock, job: Callable[[str], Awaitable[Row | None]], *, interval_s: float
    ) -> None:
        self._effects, self._bus, self._clock, self._job, self._interval_s = effects, bus, clock, job, interval_s

    async def schedule(self, job_id: str, delay_s: float, asked: Asked) -> None:
        """Have a job's status looked up after so many seconds. Raises LaneFull, Unavailable."""
        due_at = self._clock.now() + timedelta(seconds=delay_s)
        payload = msgspec.msgpack.encode(asked)
        for slot, moment in refresh_slots(due_at, self._interval_s):
            key = f"{REFRESH}:{job_id}:{slot}"
            effect = Effect(key=key, lane=f"{REFRESH}:{job_id}", stream=key, kind=REFRESH, payload=payload)
            with database_away():
                if await self._effects.schedule(effect, moment, most_open=MOST_WAITING):
                    return

    async def carry_out(self, due: Due) -> None:
        """Ask for the look, unless the run has ended meanwhile. Raises the bus's errors, Unavailable."""
        job_id = due.effect.lane.removeprefix(f"{REFRESH}:")
        row = await self._job(job_id)
        if row is None or not worth_asking(row["status"], run=row["run"], deleted=row["deleted"]):
            return
        asked = msgspec.msgpack.decode(due.effect.payload, type=Asked)
        await self._bus.publish(
            new_event(
                RefreshRequested(job_id=job_id),
                id=derived_id(due.effect.key),
                source=asked.source,
                time=self._clock.now(),
                actor=asked.actor,
                correlation_id=asked.correlation_id,
            )
        )
