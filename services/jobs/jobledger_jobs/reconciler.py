"""Carries out the effects that events and callbacks asked for: the folders of deleted jobs go, and statuses are looked up when it is time.

An attempt after a crash repeats what it cannot know to have done: removing a folder that is gone is no error, and a request that is made
twice counts once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from jobledger_kit.database import DATABASE_AWAY
from jobledger_kit.effects import Due, EffectLedger
from jobledger_kit.errors import JobledgerError

POLL_S: Final = 1.0
LEASE_S: Final = 600.0
BATCH: Final = 16
MAX_ATTEMPTS: Final = 50  #: with the ledger's back-off, some three hours

Act = Callable[[Due], Awaitable[None]]
"""Carries one effect out. Raises JobledgerError, which says whether trying again can help."""

log = structlog.get_logger(__name__)


class Reconciler:
    """Takes due effects of some kinds and carries them out, one after another."""

    def __init__(self, effects: EffectLedger, acts: Mapping[str, Act], *, poll_s: float = POLL_S) -> None:
        self._effects, self._acts, self._poll_s = effects, acts, poll_s

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
        dues = await self._effects.take(BATCH, LEASE_S, kinds=list(self._acts))
        for due in dues:
            await self._carry_out(due)
        return bool(dues)

    async def _carry_out(self, due: Due) -> None:
        try:
            await self._acts[due.effect.kind](due)
        except JobledgerError as error:
            hopeless = not error.retryable or due.attempt >= MAX_ATTEMPTS
            log.warning("An effect could not be carried out", effect=due.effect.key, attempt=due.attempt, error=repr(error))
            if hopeless:
                await self._effects.give_up(due, repr(error))
            else:
                await self._effects.retry(due, error=repr(error))
            return
        await self._effects.done([due])
        log.info("An effect was carried out", effect=due.effect.key)


def remove_folder(remove: Callable[[str], Awaitable[None]]) -> Act:
    """The act that takes a deleted job's own folder away; `remove` is given the job's id."""

    async def act(due: Due) -> None:
        await remove(due.effect.stream)

    return act
