"""Every scheduler keeps the same promises: the one in memory, an HTCondor pool, and a Dask scheduler."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from jobledger_contracts.ids import new_job_id, run_id
from jobledger_contracts.job_events import CondorSpec, DaskSpec
from jobledger_contracts.statuses import Status
from jobledger_devstack import Stack
from jobledger_schedulers.adapters import open_adapter
from jobledger_schedulers.adapters.memory import MemoryAdapter, MemoryScheduler
from jobledger_schedulers.adapters.port import Handle, Observation, RunSpec, SchedulerAdapter, SubmitRefused, Unreachable
from tests.support.eventually import eventually_async
from tests.support.pools import condor_settings, dask_settings

pytestmark = pytest.mark.anyio

WAIT_S = 60.0


def new_run() -> str:
    return run_id(new_job_id(int(time.time() * 1000), os.urandom(10)), 1)


async def eventually(fn: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    wait: Any = eventually_async  # mypy makes nothing of its union of a value and an awaitable
    await wait(fn, WAIT_S, 0.1)


Test = Callable[..., Coroutine[Any, Any, None]]


def closes(test: Test) -> Test:
    """Close the adapter with the test: what it runs in the background is the test's."""

    @functools.wraps(test)
    async def closing(self: SchedulerSuite, *args: Any, **kwargs: Any) -> None:
        try:
            await test(self, *args, **kwargs)
        finally:
            await self.adapter.close()

    return closing


def all_close(suite: type[SchedulerSuite]) -> type[SchedulerSuite]:
    for name, test in list(vars(suite).items()):
        if name.startswith("test_"):
            setattr(suite, name, closes(test))
    return suite


@all_close
class SchedulerSuite:
    """What holds for every scheduler. A subclass gives `adapter`, `again` (another adapter to the same scheduler) and kinds of runs."""

    adapter: SchedulerAdapter
    again: Callable[[], SchedulerAdapter]
    folder: Path

    def good(self) -> RunSpec:
        """A run that ends well and leaves the file `self.output`."""
        raise NotImplementedError

    def bad(self) -> RunSpec:
        """A run that ends badly."""
        raise NotImplementedError

    def long(self) -> RunSpec:
        """A run that goes on for a minute or more."""
        raise NotImplementedError

    def impossible(self) -> RunSpec:
        """A run that can never be accepted."""
        raise NotImplementedError

    output = "answer.txt"

    async def arrives(self, run: str, *statuses: Status, ready: bool = False) -> Observation:
        last: list[Observation] = []

        async def look() -> bool:
            last[:] = await self.adapter.observe([run])
            return last[0].status in statuses and (last[0].results_ready or not ready)

        try:
            await eventually(look)
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from error
        return last[0]

    async def finds(self, adapter: SchedulerAdapter, *runs: str) -> dict[str, Observation]:
        """Look runs up, as often as the scheduler asks for patience."""
        found: dict[str, Observation] = {}

        async def look() -> bool:
            try:
                found.update(await adapter.find(runs))
            except Unreachable:
                return False
            return True

        await eventually(look)
        return found

    async def hand_over(self, *specs: RunSpec) -> None:
        answers = await self.adapter.submit(specs)
        assert [type(answer) for answer in answers] == [Handle] * len(specs), answers
        assert [answer.run_id for answer in answers] == [spec.run_id for spec in specs]

    # -- promises ----------------------------------------------------------------------------------------------------------------

    async def test_it_says_who_it_is(self) -> None:
        assert (await self.adapter.ping()).version

    async def test_a_run_goes_through_to_its_end(self) -> None:
        spec = self.good()
        await self.hand_over(spec)
        seen = await self.arrives(spec.run_id, Status.COMPLETE, Status.ERROR, ready=True)
        assert (seen.status, seen.restarts, seen.gone) == (Status.COMPLETE, 0, False)
        json.dumps(seen.evidence)
        target = self.folder / "results"
        collected = (await self.adapter.collect([spec.run_id], lambda _: target))[spec.run_id]
        assert (collected.error, collected.missing) == ("", [])
        assert self.output in collected.files
        assert b"42" in (target / self.output).read_bytes()

    async def test_a_run_that_fails_is_an_error_with_words(self) -> None:
        spec = self.bad()
        await self.hand_over(spec)
        seen = await self.arrives(spec.run_id, Status.COMPLETE, Status.ERROR, ready=True)
        assert seen.status is Status.ERROR
        assert seen.message

    async def test_collecting_lets_go_of_a_run_and_twice_does_no_harm(self) -> None:
        spec = self.good()
        await self.hand_over(spec)
        await self.arrives(spec.run_id, Status.COMPLETE, ready=True)
        assert spec.run_id in await self.adapter.collect([spec.run_id], lambda _: self.folder / "once")

        async def let_go() -> bool:
            (seen,) = await self.adapter.observe([spec.run_id])
            return not seen.results_ready

        await eventually(let_go)
        assert await self.adapter.collect([spec.run_id], lambda _: self.folder / "twice") == {}

    async def test_what_is_not_over_has_nothing_to_collect(self) -> None:
        spec = self.long()
        await self.hand_over(spec)
        assert await self.adapter.collect([spec.run_id], lambda _: self.folder / "early") == {}
        await self.adapter.stop([spec.run_id], "enough")

    async def test_each_run_gets_its_own_answer(self) -> None:
        good, impossible, bad = self.good(), self.impossible(), self.bad()
        first, second, third = await self.adapter.submit([good, impossible, bad])
        assert isinstance(first, Handle)
        assert isinstance(second, SubmitRefused)
        assert isinstance(third, Handle)
        assert [answer.run_id for answer in (first, second, third)] == [good.run_id, impossible.run_id, bad.run_id]
        assert second.message
        assert impossible.run_id not in await self.adapter.find([impossible.run_id])

    async def test_a_run_is_found_by_its_id_from_elsewhere(self) -> None:
        spec, unknown = self.long(), new_run()
        await self.hand_over(spec)
        other = self.again()
        try:
            found = await self.finds(other, spec.run_id, unknown)
            assert set(found) == {spec.run_id}
            assert found[spec.run_id].ref
            assert not found[spec.run_id].gone
            await other.stop([spec.run_id], "enough")
        finally:
            await other.close()

    async def test_a_run_outlives_the_adapter_that_handed_it_over(self) -> None:
        spec = self.good()
        first = self.again()
        await first.submit([spec])
        await first.close()
        seen = await self.arrives(spec.run_id, Status.COMPLETE, Status.ERROR, ready=True)
        assert seen.status is Status.COMPLETE

    async def test_unknown_runs_are_gone_and_known_ones_are_not(self) -> None:
        spec, unknown = self.long(), new_run()
        await self.hand_over(spec)
        known, gone = await self.adapter.observe([spec.run_id, unknown])
        assert (known.run_id, known.gone) == (spec.run_id, False)
        assert (gone.run_id, gone.gone, gone.status) == (unknown, True, None)
        await self.adapter.stop([spec.run_id], "enough")

    async def test_a_stopped_run_is_aborted_and_says_why(self) -> None:
        spec = self.long()
        await self.hand_over(spec)
        await self.arrives(spec.run_id, Status.RUNNING)
        await self.adapter.stop([spec.run_id], "the river changed")
        seen = await self.arrives(spec.run_id, Status.ABORTED)
        assert "the river changed" in seen.message
        await self.adapter.stop([spec.run_id, new_run()], "again")

    async def test_stopping_keeps_the_output_of_what_has_ended(self) -> None:
        spec = self.good()
        await self.hand_over(spec)
        await self.arrives(spec.run_id, Status.COMPLETE, ready=True)
        await self.adapter.stop([spec.run_id], "too late")
        seen = await self.arrives(spec.run_id, Status.COMPLETE)
        assert seen.results_ready

    async def test_a_held_run_is_paused_until_it_is_released(self) -> None:
        spec = self.long()
        await self.hand_over(spec)
        await self.arrives(spec.run_id, Status.RUNNING)
        await self.adapter.hold([spec.run_id], "wait for data")
        seen = await self.arrives(spec.run_id, Status.PAUSED)
        assert "wait for data" in seen.message
        await self.adapter.release([spec.run_id], "data is here")
        await self.arrives(spec.run_id, Status.SUBMITTED, Status.RUNNING)
        await self.adapter.stop([spec.run_id], "enough")

    async def test_a_suspended_run_keeps_its_place_and_goes_on(self) -> None:
        spec = self.long()
        await self.hand_over(spec)
        await self.arrives(spec.run_id, Status.RUNNING)
        await self.adapter.suspend([spec.run_id], "a moment")
        seen = await self.arrives(spec.run_id, Status.PAUSED)
        assert (seen.message, seen.restarts) == ("suspended", 0)
        await self.adapter.release([spec.run_id], "go on")
        seen = await self.arrives(spec.run_id, Status.RUNNING)
        assert seen.restarts == 0
        await self.adapter.stop([spec.run_id], "enough")

    async def test_asking_for_nothing_is_nothing(self) -> None:
        assert await self.adapter.submit([]) == []
        assert await self.adapter.observe([]) == []
        assert await self.adapter.find([]) == {}
        assert await self.adapter.collect([], lambda _: self.folder) == {}
        await self.adapter.stop([], "")

    async def test_closing_twice_does_no_harm(self) -> None:
        other = self.again()
        await other.ping()
        await other.close()
        await other.close()


class TestMemory(SchedulerSuite):
    """The double; it moves its runs along by itself here."""

    @pytest.fixture(autouse=True)
    def bench(self, tmp_path: Path) -> None:
        scheduler = SelfDriving()
        self.adapter, self.again, self.folder = MemoryAdapter(scheduler), lambda: MemoryAdapter(scheduler), tmp_path

    def _spec(self, what: str) -> RunSpec:
        return RunSpec(run_id=new_run(), job_name=what, condor=CondorSpec(executable=what), input_dir=self.folder)

    def good(self) -> RunSpec:
        return self._spec("good")

    def bad(self) -> RunSpec:
        return self._spec("bad")

    def long(self) -> RunSpec:
        return self._spec("long")

    def impossible(self) -> RunSpec:
        return RunSpec(run_id=new_run(), job_name="nothing", input_dir=self.folder)


class SelfDriving(MemoryScheduler):
    """Each look finds a run one step further."""

    def observation(self, run_id: str) -> Observation:
        run = self.runs.get(run_id)
        if run is not None and run.status is Status.SUBMITTED:
            self.start(run_id)
        elif run is not None and run.status is Status.RUNNING and run.spec.job_name != "long":
            self.end(run_id, 0 if run.spec.job_name == "good" else 3, {"answer.txt": b"42"})
        return super().observation(run_id)

    def move(self, run_id: str, status: Status, message: str) -> None:
        run = self.runs[run_id]
        run.status, run.message = status, message


@pytest.mark.stack
class TestHTCondor(SchedulerSuite):
    """A real pool."""

    @pytest.fixture(autouse=True)
    def bench(self, pool: Stack, tmp_path: Path) -> None:
        settings = condor_settings(pool, tmp_path / "private")
        self.adapter, self.again, self.folder = open_adapter(settings), lambda: open_adapter(settings), tmp_path
        (tmp_path / "run.sh").write_text("#!/bin/sh\necho 42 > answer.txt\n")

    def _spec(self, **condor: Any) -> RunSpec:
        return RunSpec(run_id=new_run(), job_name="contract", condor=CondorSpec(**condor), input_dir=self.folder)

    def good(self) -> RunSpec:
        return self._spec(executable="run.sh")

    def bad(self) -> RunSpec:
        return self._spec(executable="/bin/sh", arguments=["-c", "exit 3"])

    def long(self) -> RunSpec:
        return self._spec(executable="/bin/sleep", arguments=["120"])

    def impossible(self) -> RunSpec:
        return self._spec(executable="not-there.sh")


def _forty_two() -> int:
    return 42


def _fail() -> None:
    raise RuntimeError("on purpose")


def _dawdle() -> None:
    import time

    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (task := worker.state.tasks.get(key)) is not None and task.state == "executing":
        time.sleep(0.1)


@pytest.mark.stack
class TestDask(SchedulerSuite):
    """A real scheduler with workers."""

    output = "result.json"

    @pytest.fixture(autouse=True)
    def bench(self, dask_scheduler: str, tmp_path: Path) -> None:
        settings = dask_settings(dask_scheduler, tmp_path / "private")
        self.adapter, self.again, self.folder = open_adapter(settings), lambda: open_adapter(settings), tmp_path
        for function in (_forty_two, _fail, _dawdle):
            (tmp_path / function.__name__).write_bytes(_by_value(function))

    def _spec(self, graph: str) -> RunSpec:
        return RunSpec(run_id=new_run(), job_name="contract", dask=DaskSpec(graph_file=graph), input_dir=self.folder)

    def good(self) -> RunSpec:
        return self._spec("_forty_two")

    def bad(self) -> RunSpec:
        return self._spec("_fail")

    def long(self) -> RunSpec:
        return self._spec("_dawdle")

    def impossible(self) -> RunSpec:
        return self._spec("not-there")

    @closes
    @pytest.mark.xfail(reason="Dask has no way to suspend a task", strict=True)
    async def test_a_suspended_run_keeps_its_place_and_goes_on(self) -> None:
        spec = self.long()
        await self.hand_over(spec)
        try:
            await self.adapter.suspend([spec.run_id], "a moment")
        finally:
            await self.adapter.stop([spec.run_id], "enough")

    @closes
    @pytest.mark.xfail(reason="Dask has no way to hold a task", strict=True)
    async def test_a_held_run_is_paused_until_it_is_released(self) -> None:
        spec = self.long()
        await self.hand_over(spec)
        try:
            await self.adapter.hold([spec.run_id], "wait for data")
        finally:
            await self.adapter.stop([spec.run_id], "enough")


def _by_value(function: Callable[..., Any]) -> bytes:
    """Workers cannot import this module."""
    import sys

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(function))
    finally:
        cloudpickle.unregister_pickle_by_value(module)
