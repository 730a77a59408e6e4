"""What is done to jobs, by constraint, whichever way the access point is reached: remove, hold, suspend, let go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from jobledger_schedulers.adapters.htcondor.node_looks import NO_NODE
from jobledger_schedulers.adapters.htcondor.parse import SPOOLING, JobStatus
from jobledger_schedulers.adapters.port import OutcomeUnknown

Act = Callable[[str, Sequence[str], str, str], Awaitable[None]]
"""Do something (Remove, Hold, Release, Suspend, Continue) to those jobs of these runs that meet a condition, for a reason."""
Rows = Callable[[Sequence[str], str], Awaitable[Sequence[Mapping[str, Any]]]]
"""The ads in the queue of those jobs of these runs that meet a condition."""

HELD_WHEN_SPOOLED_S: Final = 10.0
"""How long `hold` waits for an upload to be over: the schedd would undo a hold before that."""
SUSPENDED_WITHIN_S: Final = 10.0
"""How long `suspend` asks again: HTCondor passes over a job whose program has not quite begun, and says nothing of it."""
PAUSE_S: Final = 0.5

_SPOOLING: Final = f"JobStatus =?= {JobStatus.HELD} && HoldReasonCode =?= {SPOOLING}"


def _one_of(*statuses: JobStatus) -> str:
    return "(" + " || ".join(f"JobStatus =?= {status}" for status in statuses) + ")"


class Actions:
    """`spools`: input files arrive after the submission, and no hold lasts before that."""

    def __init__(self, act: Act, rows: Rows, *, spools: bool) -> None:
        self._act, self._rows, self._spools = act, rows, spools

    async def stop(self, run_ids: Sequence[str], reason: str) -> None:
        """Remove jobs, but not completed ones, whose output waits to be collected. Nodes go with the DAGMan that they belong to."""
        over = f"JobStatus =!= {JobStatus.COMPLETED} && JobStatus =!= {JobStatus.REMOVING}"
        await self._act("Remove", run_ids, f"{NO_NODE} && {over}", reason)

    async def hold(self, run_ids: Sequence[str], reason: str) -> None:
        """Hold jobs, once their input files have arrived. Raises OutcomeUnknown while they have not."""
        await self._spooled(run_ids)
        await self._act("Hold", run_ids, _one_of(JobStatus.IDLE, JobStatus.RUNNING, JobStatus.SUSPENDED), reason)

    async def suspend(self, run_ids: Sequence[str], reason: str) -> None:
        """Stop running jobs where they are, and hold those that wait. Raises OutcomeUnknown when some still run after a while."""
        await self._spooled(run_ids)
        await self._act("Hold", run_ids, _one_of(JobStatus.IDLE), reason)
        running, deadline = _one_of(JobStatus.RUNNING), time.monotonic() + SUSPENDED_WITHIN_S
        while await self._rows(run_ids, running):
            if time.monotonic() > deadline:
                raise OutcomeUnknown("HTCondor has not suspended it yet: a program that has not quite begun is passed over")
            await self._act("Suspend", run_ids, running, reason)
            await asyncio.sleep(PAUSE_S)

    async def release(self, run_ids: Sequence[str], reason: str) -> None:
        """Let held and suspended jobs go on."""
        await self._act("Release", run_ids, f"JobStatus =?= {JobStatus.HELD} && HoldReasonCode =!= {SPOOLING}", reason)
        await self._act("Continue", run_ids, _one_of(JobStatus.SUSPENDED), reason)

    async def _spooled(self, run_ids: Sequence[str]) -> None:
        deadline = time.monotonic() + HELD_WHEN_SPOOLED_S
        while self._spools and await self._rows(run_ids, _SPOOLING):
            if time.monotonic() > deadline:
                raise OutcomeUnknown("input files are still on their way: HTCondor holds no job before they have arrived")
            await asyncio.sleep(PAUSE_S / 2)
