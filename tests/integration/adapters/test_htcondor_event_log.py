"""What changes on a real pool is heard of from its event log, without a look of ours."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from jobledger_contracts.job_events import CondorSpec
from jobledger_devstack import Stack
from jobledger_schedulers.adapters.htcondor.adapter import HTCondorAdapter
from jobledger_schedulers.adapters.port import RunSpec
from tests.integration.adapters.conftest import new_run
from tests.support.event_log import begins_and_ends
from tests.support.pools import condor_settings

pytestmark = [pytest.mark.anyio, pytest.mark.stack]


def adapter_of(pool: Stack, folder: Path, event_log: Path) -> HTCondorAdapter:
    return HTCondorAdapter(msgspec.structs.replace(condor_settings(pool, folder), event_log=str(event_log)))


def sleeping(folder: Path) -> RunSpec:
    condor = CondorSpec(executable="/bin/sleep", arguments=["1"])
    return RunSpec(run_id=new_run(), job_name="heard", condor=condor, input_dir=folder)


async def test_a_run_that_begins_and_ends_is_heard_of(pool: Stack, tmp_path: Path) -> None:
    adapter, spec = adapter_of(pool, tmp_path, pool.layout.condor_event_log), sleeping(tmp_path)
    try:
        ended = await begins_and_ends(adapter, spec)
        assert ended.results_ready
        await adapter.collect([spec.run_id], lambda run: tmp_path / run)
    finally:
        await adapter.close()


async def test_a_log_that_is_not_there_costs_its_hints_only(pool: Stack, tmp_path: Path) -> None:
    adapter, spec = adapter_of(pool, tmp_path, tmp_path / "none"), sleeping(tmp_path)
    assert adapter.events is not None
    heard = asyncio.ensure_future(anext(adapter.events))
    try:
        await adapter.submit([spec])
        assert not (await adapter.observe([spec.run_id]))[0].gone
        assert not heard.done()
        await adapter.stop([spec.run_id], "enough")
    finally:
        heard.cancel()
        await asyncio.gather(heard, return_exceptions=True)
        await adapter.close()
