"""Schedulers and clusters as apps make them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobledger import Connection, create_condor_scheduler, create_dask_scheduler, create_scheduler, get_cluster_manager
from jobledger.compute import Scheduler

NOWHERE = Connection()


def test_a_condor_scheduler_by_ssh_sends_the_key_and_not_its_path(tmp_path: Path) -> None:
    key = tmp_path / "id"
    key.write_text("PRIVATE")
    scheduler = create_condor_scheduler("a", "example.org", username="root", private_key_path=str(key), connection=NOWHERE)
    assert (scheduler.transport, scheduler.port, scheduler._secrets) == ("ssh", 22, {"private_key": "PRIVATE"})
    assert "PRIVATE" not in repr(scheduler)


def test_secrets_that_are_empty_are_none() -> None:
    scheduler = Scheduler("a", "condor", "localhost", connection=NOWHERE, token="", password=None, private_key_pass="x")
    assert scheduler._secrets == {"private_key_pass": "x"}


def test_both_spellings_of_the_type_work() -> None:
    assert create_scheduler("a", "localhost:8786", type="dask", connection=NOWHERE).host == "tcp://localhost:8786"
    assert create_scheduler("a", "localhost", "condor", connection=NOWHERE).transport == "bindings"
    with pytest.raises(ValueError, match="condor or dask"):
        create_scheduler("a", "localhost", "slurm", connection=NOWHERE)


def test_a_heartbeat_that_has_no_effect_is_said_to_have_none() -> None:
    with pytest.warns(UserWarning, match="no effect"):
        create_dask_scheduler("a", "localhost:8786", timeout=30, heartbeat_interval=2, connection=NOWHERE)


def test_old_cluster_configuration_is_not_silently_ignored() -> None:
    with pytest.raises(ValueError, match="not read"):
        get_cluster_manager("/etc/tethyscluster", connection=NOWHERE)
