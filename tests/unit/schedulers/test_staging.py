"""What a run may use as its workspace, decided from what its job says."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from jobledger_contracts.ids import derived_id
from jobledger_contracts.job_events import CondorSpec, JobCreated
from jobledger_schedulers.staging import Staged, Staging, StagingRefused

JOB_ID = derived_id("job", "staging")


def prepare(folder: Path, workspace: str) -> Staged:
    staging = Staging(folder / "ours", f"file://{folder}/workspaces")
    job = JobCreated(
        job_id=JOB_ID, name="n", user="ada", label="app", job_type="CONDOR", scheduler="pool", condor=CondorSpec(), workspace=workspace
    )
    return anyio.run(staging.prepare, {f"{JOB_ID}.1": job})[f"{JOB_ID}.1"]


@pytest.mark.parametrize(
    "workspace", ["file:///etc", "s3://elsewhere/x", "{base}/workspaces/../secrets", "{base}/workspaces-of-others", "relative"]
)
def test_a_workspace_outside_of_ours_is_refused(workspace: str, tmp_path: Path) -> None:
    """Whoever may publish events must not make us hand out files that only we can read."""
    assert isinstance(prepare(tmp_path, workspace.format(base=f"file://{tmp_path}")), StagingRefused)


@pytest.mark.parametrize("workspace", ["", "{base}/workspaces/shared/study"])
def test_a_workspace_below_ours_is_used_where_it_is(workspace: str, tmp_path: Path) -> None:
    expected = tmp_path / "workspaces" / (workspace.rpartition("workspaces/")[2] or JOB_ID)
    assert prepare(tmp_path, workspace.format(base=f"file://{tmp_path}")) == expected
