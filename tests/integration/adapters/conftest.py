"""Adapters on real schedulers, and Dask clusters of a test's own that may be killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger_contracts.ids import new_job_id, run_id
from tests.support.dask_cluster import DaskCluster


def new_run() -> str:
    return run_id(new_job_id(int(time.time() * 1000), os.urandom(10)), 1)


@pytest.fixture
def dask_cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """A scheduler and one worker with two threads."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = DaskCluster(folder)
    cluster.start_scheduler()
    cluster.start_worker()
    yield cluster
    cluster.end()
