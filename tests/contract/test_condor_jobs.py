"""What HTCondor jobs promise, whichever way the access point is reached: the same runs through its own protocol, and by SSH."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobledger_contracts.job_events import CondorSpec
from jobledger_contracts.statuses import Status
from jobledger_devstack import Stack
from jobledger_schedulers.adapters import open_adapter
from jobledger_schedulers.adapters.port import AdapterSettings, NotSupported, Observation, Refused, RunSpec, Tail
from tests.contract import test_scheduler_adapter as suite
from tests.support.access_point import ssh_settings
from tests.support.pools import condor_settings

pytestmark = [pytest.mark.anyio, pytest.mark.stack]

REPORTS = """\
#!/usr/bin/python3
import os, socket, time
host, port, cookie = open(os.environ["_CONDOR_CHIRP_CONFIG"]).read().split()
starter = socket.create_connection((host, int(port))).makefile("rw")
attributes = {"Progress": "0.25", "Message": '"reading"'}
for line in (f"cookie {cookie}", *(f"set_job_attr_delayed ChirpJobledger{name} {value}" for name, value in attributes.items())):
    starter.write(line + "\\n")
    starter.flush()
    assert starter.readline().strip() == "0"
time.sleep(5)
"""


class CondorSuite:
    """`settings` says how the pool is reached."""

    settings: AdapterSettings
    folder: Path

    def spec(self, **condor: Any) -> RunSpec:
        return RunSpec(run_id=suite.new_run(), job_name="condor", condor=CondorSpec(**condor), input_dir=self.folder)

    async def seen(self, spec: RunSpec, **wanted: Any) -> Observation:
        """Hand a run over and look until it is as wanted; then let go of it."""
        adapter = open_adapter(self.settings)
        last: list[Observation] = []

        async def look() -> bool:
            last[:] = await adapter.observe([spec.run_id])
            return all(getattr(last[0], name) == value for name, value in wanted.items())

        try:
            await adapter.submit([spec])
            await suite.eventually(look)
            if last[0].results_ready:
                await adapter.collect([spec.run_id], lambda _: self.folder / "out")
            else:
                await adapter.stop([spec.run_id], "enough")
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from error
        finally:
            await adapter.close()
        return last[0]

    async def test_what_a_run_asked_for_and_used_is_told_of(self) -> None:
        spec = self.spec(executable="/bin/sleep", arguments=["1"], attributes={"request_memory": "64MB", "request_disk": "5MB"})
        used = (await self.seen(spec, status=Status.COMPLETE, results_ready=True)).resources
        assert used is not None
        assert (used.cpus_asked, used.memory_asked_bytes, used.disk_asked_bytes) == (1, 64 * 2**20, 5 * 2**20)
        assert used.wall_s is not None
        assert used.wall_s >= 1
        assert used.cpu_user_s is not None
        assert used.memory_used_bytes is not None
        assert used.disk_used_bytes is not None
        assert len(used.hosts) == 1

    async def test_held_for_longer_than_it_allows_a_run_is_an_error_that_says_why(self) -> None:
        (self.folder / "bad.sh").write_text("#!/not/there\n")
        seen = await self.seen(self.spec(executable="bad.sh", hold_limit_s=0), status=Status.ERROR)
        assert seen.message.startswith("given up after 0 s: held because the program could not be started (No such file or directory)")
        assert "[hold code 6.2]" in seen.message

    async def test_without_a_limit_it_stays_paused_with_the_reason(self) -> None:
        (self.folder / "bad.sh").write_text("#!/not/there\n")
        seen = await self.seen(self.spec(executable="bad.sh"), status=Status.PAUSED)
        assert seen.message.startswith("held because the program could not be started")

    async def test_a_run_says_through_its_starter_how_far_it_is(self) -> None:
        (self.folder / "report.py").write_text(REPORTS)
        seen = await self.seen(self.spec(executable="report.py"), progress=0.25)
        assert (seen.status, seen.message) == (Status.RUNNING, "reading")

    async def test_what_it_writes_can_be_read_while_it_runs(self) -> None:
        (self.folder / "talk.sh").write_text("#!/bin/sh\necho hello; echo trouble >&2; exec sleep 60\n")
        spec, adapter = self.spec(executable="talk.sh"), open_adapter(self.settings)
        try:
            await adapter.submit([spec])

            async def spoken() -> bool:
                try:
                    return (await adapter.tail(spec.run_id, "stdout", 0, 100)).size > 0
                except Refused:
                    return False

            await suite.eventually(spoken)
            assert await adapter.tail(spec.run_id, "stdout", 2, 2) == Tail(data=b"ll", offset=2, size=6)
            assert await adapter.tail(spec.run_id, "stdout", 6, 100) == Tail(data=b"", offset=6, size=6)
            assert (await adapter.tail(spec.run_id, "stdout", 999, 100)).offset == 0
            assert (await adapter.tail(spec.run_id, "stderr", 0, 100)).data == b"trouble\n"
            with pytest.raises(NotSupported):
                await adapter.tail(spec.run_id, "condor.log", 0, 100)
            with pytest.raises(Refused):
                await adapter.tail(suite.new_run(), "stdout", 0, 100)
            await adapter.stop([spec.run_id], "enough")
        finally:
            await adapter.close()

    async def test_output_that_is_missing_holds_the_run_with_the_reason(self) -> None:
        seen = await self.seen(self.spec(executable="/bin/true", output_files=["never.txt"]), status=Status.PAUSED)
        assert seen.message.startswith("held because its output files could not be brought back")
        assert "never.txt" in seen.message
        assert "[hold code 12" in seen.message

    async def test_a_disk_that_is_full_is_the_programs_error_and_its_words_come_home(self) -> None:
        spec = self.spec(executable="/bin/sh", arguments=["-c", "dd if=/dev/zero of=/dev/full bs=1k count=1"])
        seen = await self.seen(spec, status=Status.ERROR, results_ready=True)
        assert seen.exit_code == 1
        assert "No space left on device" in (self.folder / "out/stderr.txt").read_text()

    async def test_a_limit_on_the_disk_ends_the_program_by_its_signal(self) -> None:
        script = "ulimit -c 0; ulimit -f 8; exec dd if=/dev/zero of=big bs=1k count=100"
        seen = await self.seen(self.spec(executable="/bin/bash", arguments=["-c", script]), status=Status.ERROR, results_ready=True)
        assert (seen.exit_code, seen.exit_signal) == (None, 25)
        assert "SIGXFSZ" in seen.message

    async def test_processes_that_differ_are_counted_and_keep_their_output_apart(self) -> None:
        spec = self.spec(executable="/bin/sh", arguments=["-c", "echo $(Process); exit $(Process)"], num_jobs=2)
        seen = await self.seen(spec, status=Status.VARIOUS_COMPLETE, results_ready=True)
        assert seen.evidence["counts"] == {"Complete": 1, "Error": 1}
        assert seen.message.startswith("2 processes: 1 Complete, 1 Error")
        for number in (0, 1):
            assert (self.folder / f"out/process-{number}/stdout.txt").read_text() == f"{number}\n"


class TestThroughBindings(CondorSuite):
    """HTCondor's own protocol."""

    @pytest.fixture(autouse=True)
    def bench(self, pool: Stack, tmp_path: Path) -> None:
        self.settings, self.folder = condor_settings(pool, tmp_path / "private"), tmp_path


class TestBySsh(CondorSuite):
    """An account at the access point."""

    async def test_processes_are_made_a_few_at_a_time_and_the_run_ends_with_the_last(self) -> None:
        attributes = {"max_materialize": 2}
        spec = self.spec(executable="/bin/sh", arguments=["-c", "echo $(Process)"], num_jobs=5, attributes=attributes)
        seen = await self.seen(spec, status=Status.COMPLETE, results_ready=True)
        assert seen.message.startswith("5 processes: 5 Complete")
        assert (self.folder / "out/process-4/stdout.txt").read_text() == "4\n"

    @pytest.fixture(autouse=True)
    def bench(self, access_point: Stack, tmp_path: Path) -> None:
        self.settings, self.folder = ssh_settings(access_point, tmp_path / "private"), tmp_path
