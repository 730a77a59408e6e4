"""A check goes step by step, and says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from jobledger_contracts.scheduler import Scheduler
from jobledger_kit.clock import ManualClock
from jobledger_schedulers.adapters.htcondor_ssh.host_keys import ShownKey
from jobledger_schedulers.adapters.memory import MemoryAdapter, MemoryScheduler
from jobledger_schedulers.adapters.memory_view import MemoryPoolView
from jobledger_schedulers.adapters.port import AuthenticationFailed, Incompatible, NotSupported, Unreachable
from jobledger_schedulers.first_aid import STEPS, TITLES, FirstAid, endpoint
from jobledger_schedulers.vault import Credentials
from jobledger_schedulers.views import CheckView

pytestmark = pytest.mark.anyio
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHDf8voJ1dRClXfBVEIBBpCNDLEc+3LvsJYiWxTfEErN"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHDf8voJ1dRClXfBVEIBBpCNDLEc+3LvsJYiWxTfEErX"


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def check(port: int, far: MemoryScheduler, shown: str = KEY, *, view: bool = True, **state: Any) -> CheckView:
    def open_view(*_: Any) -> MemoryPoolView:
        if not view:
            raise NotSupported("no view")
        return MemoryPoolView(far)

    async def ask_key(host: str, port: int) -> ShownKey:
        return ShownKey(shown, "SHA256:x")

    first_aid = FirstAid(
        connect=lambda *_: MemoryAdapter(far), open_view=open_view, ask_key=ask_key, clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    )
    described = {"name": "pool", "type": "condor", "transport": "bindings", "host": "127.0.0.1", "port": port, **state}
    return await first_aid.check(Scheduler(**described), Credentials(token="secret"))


def outcomes(checked: CheckView) -> dict[str, str]:
    return {step.name: step.outcome for step in checked.steps}


async def test_all_steps_are_told_in_order() -> None:
    async with listening() as port:
        checked = await check(port, MemoryScheduler())
    assert checked.reachable
    assert [step.name for step in checked.steps] == list(STEPS["bindings"])
    assert outcomes(checked) | {"dns": "ok", "tcp": "ok", "answer": "ok", "slots": "ok"} == outcomes(checked)
    assert (checked.version, checked.identity) == ("1.0", "memory")


async def test_what_is_degraded_can_still_be_used() -> None:
    far = MemoryScheduler()
    far.machines = 0
    async with listening() as port:
        checked = await check(port, far)
    assert checked.reachable
    assert outcomes(checked)["slots"] == "failed"
    assert checked.detail == "0 machines"


async def test_a_name_without_an_address_skips_the_rest() -> None:
    checked = await check(1, MemoryScheduler(), host="no-such-host.invalid")
    assert not checked.reachable
    assert outcomes(checked)["dns"] == "failed"
    assert set(outcomes(checked).values()) == {"failed", "skipped"}
    assert checked.steps[0].advice


async def test_a_closed_port_skips_the_rest(unused_port: int) -> None:
    far = MemoryScheduler()
    checked = await check(unused_port, far)
    assert outcomes(checked)["tcp"] == "failed"
    assert str(unused_port) in checked.detail
    assert not far.calls


async def test_a_dask_address_that_is_none_is_said_to_be() -> None:
    checked = await check(0, MemoryScheduler(), type="dask", transport="tcp", host="somewhere")
    assert "no Dask address" in checked.detail


async def test_another_host_key_stops_before_we_log_in() -> None:
    far = MemoryScheduler()
    async with listening() as port:
        good = await check(port, far, transport="ssh", known_host_key=KEY, view=False)
        bad = await check(port, far, shown=OTHER_KEY, transport="ssh", known_host_key=KEY, view=False)
    assert (good.reachable, outcomes(good)["host_key"]) == (True, "ok")
    assert (bad.reachable, outcomes(bad)["host_key"], outcomes(bad)["answer"]) == (False, "failed", "skipped")
    assert far.calls == ["ping"]


@pytest.mark.parametrize(
    ("error", "step"),
    [(AuthenticationFailed("no"), "authentication"), (Incompatible("old"), "version"), (Unreachable("away"), "answer")],
)
async def test_without_a_view_one_question_tells_what_it_can(error: Any, step: str) -> None:
    far = MemoryScheduler()
    far.fail("ping", error)
    async with listening() as port:
        checked = await check(port, far, view=False)
    assert [name for name, outcome in outcomes(checked).items() if outcome == "failed"] == [step]
    assert not checked.reachable
    assert "secret" not in str(checked)


def test_every_step_has_a_title() -> None:
    assert {step for steps in STEPS.values() for step in steps} == set(TITLES)


@pytest.mark.parametrize(
    ("state", "where"),
    [
        (Scheduler(name="a", type="condor", host="cm"), ("cm", 9618)),
        (Scheduler(name="a", type="condor", host="cm:1234"), ("cm", 1234)),
        (Scheduler(name="a", type="condor", host="ap", transport="ssh"), ("ap", 22)),
        (Scheduler(name="a", type="condor", host="::1", port=7), ("::1", 7)),
        (Scheduler(name="a", type="dask", host="tcp://[::1]:8786"), ("::1", 8786)),
        (Scheduler(name="a", type="dask", host="dask", port=8786), ("dask", 8786)),
    ],
)
def test_where_the_first_contact_goes(state: Scheduler, where: tuple[str, int]) -> None:
    assert endpoint(state) == where
