"""Carries the effects out that events asked for: the folders of deleted jobs go.

Removing a folder that is gone is no error, so an attempt after a crash repeats what it cannot know to have done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from jobledger_kit.database import DATABASE_AWAY
from jobledger_kit.effects import Due, EffectLedger
from jobledger_kit.errors import JobledgerError
from jobledger_kit.metrics import EFFECTS

from .reactors import REMOVE_WORKSPACE, WORKSPACES

POLL_S: Final = 1.0
LEASE_S: Final = 600.0
BATCH: Final = 16
MAX_ATTEMPTS: Final = 50  #: with the ledger's back-off, some three hours

log = structlog.get_logger(__name__)


class Reconciler:
    """Takes due effects and carries them out, one after another. `remove_folder(job_id)` removes that job's own folder."""

    def __init__(self, effects: EffectLedger, remove_folder: Callable[[str], Awaitable[None]], *, poll_s: float = POLL_S) -> None:
        self._effects, self._remove_folder, self._poll_s = effects, remove_folder, poll_s

    async def run(self) -> None:
        """Work until cancelled; waits while the database is away."""
        while True:
            try:
                busy = await self.carry_out_due()
            except DATABASE_AWAY as error:
                log.warning("Effects wait: the database is away", error=repr(error))
                busy = False
            if not busy:
                await asyncio.sleep(self._poll_s)

    async def carry_out_due(self) -> bool:
        """Carry out what is due now. Says whether there was anything."""
        dues = await self._effects.take(BATCH, LEASE_S, lanes=[WORKSPACES], kinds=[REMOVE_WORKSPACE])
        for due in dues:
            await self._carry_out(due)
        return bool(dues)

    async def _carry_out(self, due: Due) -> None:
        job_id = due.effect.stream
        try:
            await self._remove_folder(job_id)
        except JobledgerError as error:
            hopeless = not error.retryable or due.attempt >= MAX_ATTEMPTS
            log.warning("A deleted job's folder could not be removed", job_id=job_id, attempt=due.attempt, error=repr(error))
            if hopeless:
                await self._effects.give_up(due, repr(error))
            else:
                await self._effects.retry(due, error=repr(error))
            EFFECTS.labels(due.effect.kind, "given_up" if hopeless else "retried").inc()
            return
        await self._effects.done([due])
        EFFECTS.labels(due.effect.kind, "done").inc()
        log.info("A deleted job's folder was removed", job_id=job_id)
