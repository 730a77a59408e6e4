"""What changes at an access point is heard of by SSH from its event log, without a look of ours."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jobledger_contracts.job_events import CondorSpec
from jobledger_contracts.statuses import Status
from jobledger_devstack import Stack
from jobledger_schedulers.adapters.htcondor_ssh.adapter import HTCondorSshAdapter
from jobledger_schedulers.adapters.port import RunSpec
from tests.integration.adapters.conftest import new_run
from tests.support.access_point import ssh_settings
from tests.support.event_log import begins_and_ends, listening
from tests.support.eventually import eventually_async
from tests.support.line import Line

pytestmark = [pytest.mark.anyio, pytest.mark.stack]


def sleeping(folder: Path, seconds: int = 1) -> RunSpec:
    condor = CondorSpec(executable="/bin/sleep", arguments=[str(seconds)])
    return RunSpec(run_id=new_run(), job_name="heard", condor=condor, input_dir=folder)


async def until_collected(adapter: HTCondorSshAdapter, run: str, folder: Path) -> None:
    async def collected() -> bool:
        done = await adapter.collect([run], lambda run: folder / run)
        return run in done and not done[run].error

    await eventually_async(collected, 60, 0.2)


async def test_a_run_that_begins_and_ends_is_heard_of(access_point: Stack, tmp_path: Path) -> None:
    path = str(access_point.layout.condor_event_log)
    adapter, spec = HTCondorSshAdapter(ssh_settings(access_point, tmp_path, event_log=path)), sleeping(tmp_path)
    try:
        await begins_and_ends(adapter, spec)
        await until_collected(adapter, spec.run_id, tmp_path)
    finally:
        await adapter.close()


async def test_it_is_heard_of_again_after_the_line_was_cut(access_point: Stack, tmp_path: Path) -> None:
    endpoints, path = access_point.endpoints(), str(access_point.layout.condor_event_log)
    async with Line(endpoints.ssh_host, endpoints.ssh_port) as line:
        adapter, spec = HTCondorSshAdapter(ssh_settings(access_point, tmp_path, port=line.port, event_log=path)), sleeping(tmp_path, 60)
        try:
            async with listening(adapter) as heard:
                await adapter.submit([spec])
                line.cut()
                async with asyncio.timeout(60):
                    while Status.PAUSED not in {one.status for one in heard}:
                        await adapter.hold([spec.run_id], "a while")
                        await asyncio.sleep(0.5)
                        await adapter.release([spec.run_id], "on")
            await adapter.stop([spec.run_id], "enough")
            await until_collected(adapter, spec.run_id, tmp_path)
        finally:
            await adapter.close()


async def test_a_log_that_is_not_there_costs_its_hints_only(access_point: Stack, tmp_path: Path) -> None:
    adapter, spec = HTCondorSshAdapter(ssh_settings(access_point, tmp_path, event_log=str(tmp_path / "none"))), sleeping(tmp_path)
    assert adapter.events is not None
    heard = asyncio.ensure_future(anext(adapter.events))
    try:
        await adapter.submit([spec])
        assert not (await adapter.observe([spec.run_id]))[0].gone
        assert not heard.done()
        await adapter.stop([spec.run_id], "enough")
        await until_collected(adapter, spec.run_id, tmp_path)
    finally:
        heard.cancel()
        await asyncio.gather(heard, return_exceptions=True)
        await adapter.close()
