"""What every view of a pool promises: on a real HTCondor pool, and in memory. And what Dask's own view does, on a real scheduler."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobledger_contracts.ids import new_job_id, run_id
from jobledger_contracts.job_events import CondorSpec, DaskSpec
from jobledger_devstack import Stack, StackOptions
from jobledger_devstack.temporary import temporary_stack
from jobledger_schedulers.adapters import open_adapter, open_view
from jobledger_schedulers.adapters.dask.view import DaskView
from jobledger_schedulers.adapters.dask.wire import Rpc
from jobledger_schedulers.adapters.htcondor.pool import HTCondorPoolView
from jobledger_schedulers.adapters.memory import MemoryAdapter, MemoryScheduler
from jobledger_schedulers.adapters.memory_view import MemoryPoolView
from jobledger_schedulers.adapters.port import AdapterSettings, Handle, RunSpec, SchedulerAdapter, SchedulerError, Unreachable
from jobledger_schedulers.adapters.views import BadQuery, PoolView, Surveyed, WorkersView
from tests.support.eventually import eventually_async

pytestmark = [pytest.mark.anyio, pytest.mark.stack]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """HTCondor and Dask."""
    if home := os.environ.get("JOBLEDGER_TEST_STACK"):
        yield Stack(Path(home))
        return
    with temporary_stack(StackOptions(parts=frozenset({"condor", "dask"}), fsync=False)) as stack:
        yield stack


def condor_settings(stack: Stack, private: Path, **more: Any) -> AdapterSettings:
    host, _, port = stack.endpoints().collector.partition(":")
    given = {
        "name": "pool",
        "type": "condor",
        "host": host,
        "port": int(port),
        "schedd_name": stack.endpoints().schedd_name,
        "token": stack.mint_token("jobledger", 3600),
        "private_dir": private,
    }
    return AdapterSettings(**{**given, **more})


def dask_settings(stack: Stack, private: Path) -> AdapterSettings:
    return AdapterSettings(name="dask", type="dask", host=stack.endpoints().dask_address, private_dir=private)


def new_run() -> str:
    return run_id(new_job_id(int(datetime.now(UTC).timestamp() * 1000), os.urandom(10)), 1)


class PoolViewSuite:
    """One run is in the queue while the promises are looked at."""

    view: PoolView
    adapter: SchedulerAdapter
    run: str

    @property
    def ours(self) -> str:
        return f'JobledgerRunId == "{self.run}"'

    async def test_the_queue_is_counted_by_user(self) -> None:
        queue = await self.view.queue()
        assert queue.total == sum(line.total for line in queue.users) > 0
        for line in queue.users:
            states = (line.idle, line.running, line.held, line.completed, line.suspended, line.other)
            assert line.user
            assert line.total == sum(states)

    async def test_slots_are_counted_by_state(self) -> None:
        slots = await self.view.slots()
        assert slots.total == sum(group.slots for group in slots.groups) == len(slots.items) > 0
        assert not slots.truncated
        assert all(slot.name and slot.state and slot.activity for slot in slots.items)

    async def test_there_are_daemons(self) -> None:
        assert any(daemon.type == "Scheduler" and daemon.version for daemon in await self.view.daemons())

    async def test_a_constraint_chooses_and_a_projection_cuts(self) -> None:
        ads = await self.view.query(self.ours, ["JobledgerRunId", "NoSuchAttribute"], 10)
        assert ads.items == [{"JobledgerRunId": self.run, "NoSuchAttribute": None}]
        assert not ads.truncated
        assert not (await self.view.query("false", [], 10)).items
        (whole,) = (await self.view.query(self.ours, [], 10)).items
        assert {"ClusterId", "JobStatus", "Owner"} <= whole.keys()

    async def test_more_than_the_limit_is_told(self) -> None:
        assert isinstance((await self.adapter.submit([another()]))[0], Handle)
        ads = await self.view.query("JobledgerRunId =!= undefined", ["ClusterId"], 1)
        assert (len(ads.items), ads.truncated) == (1, True)

    @pytest.mark.parametrize("constraint", ["JobStatus ==", "true; x = false", "a) || (b"])
    async def test_a_bad_constraint_is_refused_and_not_sent(self, constraint: str) -> None:
        for ask in (self.view.query, self.view.history):
            with pytest.raises(BadQuery) as caught:
                await ask(constraint, [], 1)
            assert caught.value.field == "constraint"

    async def test_a_bad_projection_is_refused(self) -> None:
        with pytest.raises(BadQuery) as caught:
            await self.view.query("true", ["a b"], 1)
        assert caught.value.field == "projection"

    async def test_what_has_left_the_queue_is_in_the_history(self) -> None:
        await self.adapter.stop([self.run], "no more")

        async def left() -> list[dict[str, Any]]:
            return (await self.view.history(self.ours, ["JobledgerRunId", "JobStatus"], 5)).items

        assert await eventually_async(left, 30, 0.2) == [{"JobledgerRunId": self.run, "JobStatus": 3}]

    async def test_we_know_who_we_are(self) -> None:
        levels = await self.view.access_levels()
        assert {("Schedd", "READ", True), ("Schedd", "WRITE", True)} <= {(at.daemon, at.level, at.allowed) for at in levels}
        assert all(at.identity for at in levels if at.allowed)

    async def test_priorities_come_the_best_first(self) -> None:
        listed = [item.effective_priority for item in (await self.view.priorities()).items]
        assert listed == sorted(listed)

    async def test_an_examination_finds_all_well(self) -> None:
        found = await self.view.examine()
        assert [finding.step for finding in found if not finding.ok] == []
        assert any(finding.version for finding in found)
        assert any(finding.identity for finding in found)

    async def test_nothing_is_missing(self) -> None:
        assert isinstance(self.adapter, Surveyed)
        assert await self.adapter.shortages() == []

    async def test_closing_twice_does_no_harm(self) -> None:
        await self.view.close()
        await self.view.close()


def another() -> RunSpec:
    return RunSpec(run_id=new_run(), job_name="contract", condor=CondorSpec(executable="/bin/sleep", arguments=["60"]), input_dir=Path("/"))


class TestMemory(PoolViewSuite):
    @pytest.fixture(autouse=True)
    async def bench(self) -> None:
        far = MemoryScheduler()
        self.view, self.adapter = MemoryPoolView(far), MemoryAdapter(far)
        spec = another()
        self.run = spec.run_id
        await self.adapter.submit([spec])


class TestHTCondor(PoolViewSuite):
    @pytest.fixture(autouse=True)
    async def bench(self, stack: Stack, tmp_path: Path) -> AsyncIterator[None]:
        self.settings = condor_settings(stack, tmp_path / "view")
        self.view = HTCondorPoolView(self.settings)
        self.adapter = open_adapter(condor_settings(stack, tmp_path / "work"))
        spec = another()
        self.run = spec.run_id
        assert isinstance((await self.adapter.submit([spec]))[0], Handle)
        await self.adapter.ping()
        await self.view.queue()  # so that what runs for as long as they are open was there before the test
        yield
        queued = (await self.view.query("JobledgerRunId =!= undefined", ["JobledgerRunId"], 1000)).items
        await self.adapter.stop([ad["JobledgerRunId"] for ad in queued], "the test is over")
        await self.view.close()
        await self.adapter.close()

    async def test_a_child_that_hangs_is_ended_in_time_and_the_next_look_works(self) -> None:
        view = HTCondorPoolView(self.settings, timeout_s=1.5)
        await view.queue()
        (pid,) = view._bindings.pids().values()
        os.kill(pid, signal.SIGSTOP)
        began_s = time.monotonic()
        with pytest.raises(Unreachable):
            await view.queue()
        assert time.monotonic() - began_s < 5
        assert (await view.queue()).total > 0
        await view.close()

    async def test_looks_do_not_wait_for_a_look_that_nobody_waits_for_any_more(self) -> None:
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(self.view.slots()) for _ in range(20)]
            looks[3].cancel()
        assert sum(not look.cancelled() for look in looks) == 19

    async def test_whole_ads_are_json_and_hold_nothing_that_opens_doors(self) -> None:
        (ad,) = (await self.view.query(self.ours, [], 1)).items
        assert len(ad) > 40
        assert isinstance(ad["Requirements"], str)
        assert ad["Requirements"].startswith("/Expr(")
        assert not {name.lower() for name in ad} & {"claimid", "capability", "transferkey"}

    async def test_a_bad_token_is_found_out_and_is_in_no_text(self, stack: Stack, tmp_path: Path) -> None:
        token = stack.mint_token("jobledger", 3600)
        bad = token[:-6] + ("AAAAAA" if not token.endswith("AAAAAA") else "BBBBBB")
        view = HTCondorPoolView(condor_settings(stack, tmp_path / "bad", token=bad))
        found = {finding.step: finding for finding in await view.examine()}
        assert not found["authentication"].ok
        assert found["authentication"].advice
        assert bad not in str(found)
        with pytest.raises(SchedulerError) as caught:
            await view.slots()
        assert bad not in str(caught.value)
        await view.close()

    async def test_an_access_point_that_the_pool_does_not_know_is_named(self, stack: Stack, tmp_path: Path) -> None:
        unknown = HTCondorPoolView(condor_settings(stack, tmp_path / "other", schedd_name="no-such@schedd"))
        (finding,) = await unknown.examine()
        assert (finding.step, finding.ok) == ("answer", False)
        assert "no-such@schedd" in finding.explanation
        await unknown.close()


class TestDask:
    @pytest.fixture(autouse=True)
    async def bench(self, stack: Stack, tmp_path: Path) -> AsyncIterator[None]:
        self.settings = dask_settings(stack, tmp_path)
        opened = open_view(self.settings)
        assert isinstance(opened, DaskView)
        self.view: WorkersView = opened
        self.adapter = open_adapter(self.settings)
        await self.adapter.observe([new_run()])  # so that its session was there before the test
        yield
        await self.view.close()
        await self.adapter.close()

    async def test_workers_are_told_with_threads_and_memory(self) -> None:
        workers = await self.view.workers()
        assert workers.total == len(workers.items) >= 1
        assert workers.threads == sum(worker.threads for worker in workers.items) > 0
        assert all(worker.address and worker.status == "running" and worker.memory_limit_bytes for worker in workers.items)
        assert not workers.truncated

    async def test_tasks_are_counted_by_name(self, tmp_path: Path) -> None:
        run = new_run()
        spec = RunSpec(run_id=run, job_name="contract", dask=DaskSpec(function="time:sleep", args=[0.1]), input_dir=tmp_path)
        assert isinstance((await self.adapter.submit([spec]))[0], Handle)
        tasks = await self.view.tasks()
        assert sum(line.processing + line.memory + line.waiting + line.released for line in tasks.items) >= 1

        async def over() -> bool:
            return (await self.adapter.observe([run]))[0].results_ready

        await eventually_async(over, 30, 0.2)
        await self.adapter.collect([run], lambda _: tmp_path / "out")

    async def test_an_examination_finds_all_well(self) -> None:
        found = await self.view.examine()
        assert [(finding.step, finding.ok) for finding in found] == [
            ("answer", True),
            ("version", True),
            ("queue", True),
            ("workers", True),
            ("clock", True),
        ]

    async def test_nothing_is_missing(self) -> None:
        assert isinstance(self.adapter, Surveyed)
        assert await self.adapter.shortages() == []

    async def test_what_is_no_dask_scheduler_is_said_to_be_none(self, unused_port: int) -> None:
        view = DaskView(Rpc(f"tcp://127.0.0.1:{unused_port}", 2.0))
        (finding,) = await view.examine()
        assert (finding.step, finding.ok) == ("answer", False)
        assert finding.advice
        await view.close()
