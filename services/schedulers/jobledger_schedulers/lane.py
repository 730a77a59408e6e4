"""What the parts of a lane share. A lane is all work on one scheduler; it hangs, fails and waits alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import structlog

from jobledger_contracts.envelope import Event
from jobledger_kit.bus import Bus
from jobledger_kit.clock import Clock
from jobledger_kit.effects import EffectLedger

from .adapters.port import SchedulerAdapter
from .config import SchedulersSettings
from .domain.backoff import delay_s
from .staging import Staging
from .store import SchedulersStore


class LaneLost(Exception):
    """Another instance may look after this scheduler by now: nothing more may be done to it from here."""


class Signal:
    """Wakes one waiter; calls while nobody waits are remembered as one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a call, or so long. Says whether there was one, and forgets it."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        finally:
            self._event.clear()
        return True


class Backoff:
    """Counts failures in a row, and says how long to wait after each."""

    def __init__(self, randomness: Callable[[], float] = random.random) -> None:
        self._randomness, self.failures = randomness, 0

    def failed(self) -> float:
        """Note a failure; return how many seconds to wait."""
        self.failures += 1
        return delay_s(self.failures, self._randomness())

    async def wait(self) -> None:
        """Note a failure and wait."""
        await asyncio.sleep(self.failed())

    def reset(self) -> None:
        self.failures = 0


@dataclass(kw_only=True)
class Lane:
    """One scheduler, and everything that is needed to work on it."""

    name: str
    adapter: SchedulerAdapter
    store: SchedulersStore
    effects: EffectLedger
    bus: Bus
    clock: Clock
    settings: SchedulersSettings
    staging: Staging
    max_runs: int = 0  #: how many runs the scheduler has at a time; 0: any number
    held_until: float = 0.0  #: on the monotonic clock: until then no other instance takes the lane over
    work: Signal = field(default_factory=Signal)  #: there may be effects to carry out
    look: Signal = field(default_factory=Signal)  #: something may have changed at the scheduler
    fetch: Signal = field(default_factory=Signal)  #: there may be output to collect
    came_back: Signal = field(default_factory=Signal)  #: the scheduler answers again

    def __post_init__(self) -> None:
        self.log = structlog.get_logger(__name__).bind(scheduler=self.name)

    def guard(self) -> None:
        """To be called right before anything that must not be done by two. Raises LaneLost."""
        if self.clock.monotonic() >= self.held_until:
            raise LaneLost(f"the lease on {self.name} has run out")

    async def publish(self, events: Collection[Event]) -> None:
        """Publish events and return once the log has them; the order within each job is kept."""
        if events:
            await self.bus.publish(*events)
