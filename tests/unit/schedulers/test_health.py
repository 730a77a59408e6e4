"""What is told of a scheduler's health, and when."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobledger_contracts import topics
from jobledger_contracts.envelope import Record
from jobledger_contracts.scheduler import Scheduler
from jobledger_kit.clock import ManualClock
from jobledger_kit.folds import fold_log
from jobledger_kit.memory import MemoryBus
from jobledger_schedulers.adapters.memory import MemoryAdapter, MemoryScheduler
from jobledger_schedulers.adapters.port import SchedulerIdentity, Unreachable
from jobledger_schedulers.config import SchedulersSettings
from jobledger_schedulers.domain.condition import slow
from jobledger_schedulers.health import Health
from jobledger_schedulers.lane import Lane

pytestmark = pytest.mark.anyio
SETTINGS = SchedulersSettings(kafka_bootstrap_servers="-", database_url="-", workspaces_url="-")
INTERVAL_S, SLOW_S = SETTINGS.health_interval_s, SETTINGS.slow_answer_s


class NoRows:
    """The registry's rows, of which only the version would matter."""

    async def scheduler(self, name: str) -> None:
        return None


class SlowAdapter(MemoryAdapter):
    """Takes its time to answer."""

    took_s = 0.0
    clock: ManualClock

    async def ping(self) -> SchedulerIdentity:
        identity = await super().ping()
        self.clock.advance(self.took_s)
        return identity


class Ward:
    """A scheduler whose health is followed."""

    def __init__(self, **state: Any) -> None:
        self.far, self.clock = MemoryScheduler(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.adapter = SlowAdapter(self.far)
        self.adapter.clock = self.clock
        self.bus = MemoryBus(1, self.clock)
        nothing: Any = NoRows()
        lane = Lane(
            name="pool",
            adapter=self.adapter,
            store=nothing,
            effects=nothing,
            bus=self.bus,
            clock=self.clock,
            settings=SETTINGS,
            staging=nothing,
        )
        self.health = Health(lane, Scheduler(name="pool", **state))

    async def looks(self, count: int, took_s: float = 0.0) -> None:
        self.adapter.took_s = took_s
        for _ in range(count):
            self.clock.advance(INTERVAL_S)
            await self.health.check_when_due()

    def told(self) -> list[tuple[str, str]]:
        records: list[Record] = self.bus.records(topics.SCHEDULERS)
        folded = fold_log(records, dict.fromkeys(topics.ALL, 1)).folded
        return [(one.event.data.health, one.event.data.detail) for one in folded]


async def test_a_scheduler_without_machines_is_degraded_after_two_looks_and_up_after_two() -> None:
    ward = Ward()
    ward.far.machines = 0
    await ward.looks(1)
    assert ward.told() == [("up", "")]
    await ward.looks(3)
    ward.far.machines = 1
    await ward.looks(1)
    assert ward.told() == [("up", ""), ("degraded", "the scheduler in memory has no machines")]
    await ward.looks(5)
    assert [health for health, _ in ward.told()] == ["up", "degraded", "up"]


async def test_what_comes_and_goes_is_not_told() -> None:
    ward = Ward()
    for machines in (1, 0, 1, 0, 1, 0):
        ward.far.machines = machines
        await ward.looks(1)
    assert ward.told() == [("up", "")]


async def test_slow_answers_are_told_and_another_reason_too() -> None:
    ward = Ward()
    await ward.looks(2, SLOW_S * 2)
    ward.far.machines = 0
    await ward.looks(2, SLOW_S * 2)
    assert ward.told() == [
        ("up", ""),
        ("degraded", slow(SLOW_S)),
        ("degraded", f"{slow(SLOW_S)}; the scheduler in memory has no machines"),
    ]


async def test_a_scheduler_that_does_not_say_what_it_lacks_is_not_degraded_for_that() -> None:
    ward = Ward()
    for _ in range(3):
        ward.far.fail("shortages", Unreachable("not now"))
        await ward.looks(1)
    assert ward.told() == [("up", "")]


async def test_down_is_told_at_once_and_degraded_is_remembered_over_it() -> None:
    ward = Ward(health="degraded", health_detail="the scheduler in memory has no machines")
    ward.far.machines = 0
    ward.far.fail("ping", Unreachable("away"))
    with pytest.raises(Unreachable):
        await ward.looks(1)
    await ward.looks(1)
    assert [health for health, _ in ward.told()] == ["down", "degraded"]


async def test_a_scheduler_that_runs_ask_all_the_time_is_asked_how_it_is_no_more_than_when_due(tmp_path: Path) -> None:
    ward = Ward()
    for _ in range(20):
        async with ward.health.watched():
            pass
        ward.clock.advance(INTERVAL_S / 10)
    assert ward.far.calls.count("ping") == 2
