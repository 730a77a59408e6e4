"""Listening to what an adapter pushes, and to nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from jobledger_contracts.statuses import TERMINAL, Status
from jobledger_schedulers.adapters.port import Handle, Observation, RunSpec, SchedulerAdapter
from tests.support.eventually import eventually_async


@asynccontextmanager
async def listening(adapter: SchedulerAdapter) -> AsyncIterator[list[Observation]]:
    """What is pushed meanwhile, as it comes."""
    heard: list[Observation] = []
    events: Any = adapter.events

    async def listen() -> None:
        async with contextlib.aclosing(events):
            async for observation in events:
                heard.append(observation)  # noqa: PERF401  others look at it meanwhile

    listener = asyncio.create_task(listen())
    try:
        yield heard
        assert not listener.done(), listener
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


async def begins_and_ends(adapter: SchedulerAdapter, spec: RunSpec, timeout_s: float = 60) -> Observation:
    """Hand a run over, and hear of its running and its end by pushes alone. Returns the latter."""
    await adapter.ping()
    async with listening(adapter) as heard:
        (answer,) = await adapter.submit([spec])
        assert isinstance(answer, Handle), answer

        async def over() -> bool:
            return any(one.status in TERMINAL for one in heard)

        wait: Any = eventually_async
        await wait(over, timeout_s, 0.05)
    assert {one.run_id for one in heard} == {spec.run_id}
    assert Status.RUNNING in {one.status for one in heard}
    return next(one for one in heard if one.status in TERMINAL)
