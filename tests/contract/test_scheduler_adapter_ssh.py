"""HTCondor by way of SSH keeps the promises of every scheduler: on a real pool, through a real OpenSSH server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobledger_contracts.job_events import CondorSpec
from jobledger_devstack import Stack
from jobledger_schedulers.adapters import open_adapter
from jobledger_schedulers.adapters.port import RunSpec
from tests.contract import test_scheduler_adapter as suite
from tests.support.access_point import ssh_settings

pytestmark = [pytest.mark.anyio, pytest.mark.stack]


class TestHTCondorBySsh(suite.SchedulerSuite):
    """A real access point."""

    @pytest.fixture(autouse=True)
    def bench(self, access_point: Stack, tmp_path: Path) -> None:
        settings = ssh_settings(access_point, tmp_path / "private")
        self.adapter, self.again, self.folder = open_adapter(settings), lambda: open_adapter(settings), tmp_path
        (tmp_path / "run.sh").write_text("#!/bin/sh\necho 42 > answer.txt\n")

    def _spec(self, **condor: Any) -> RunSpec:
        return RunSpec(run_id=suite.new_run(), job_name="contract", condor=CondorSpec(**condor), input_dir=self.folder)

    def good(self) -> RunSpec:
        return self._spec(executable="run.sh")

    def bad(self) -> RunSpec:
        return self._spec(executable="/bin/sh", arguments=["-c", "exit 3"])

    def long(self) -> RunSpec:
        return self._spec(executable="/bin/sleep", arguments=["120"])

    def impossible(self) -> RunSpec:
        return self._spec(executable="not-there.sh")
