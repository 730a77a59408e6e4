"""What operators and apps do beside running jobs, by the SDK and the command on a running stack."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from jobledger import App, Connection, SchedulerSetting, SettingNotAssigned, get_scheduler
from jobledger.errors import InvalidRequest, Refused
from jobledger.scheduler_settings import assign, declare
from tests.integration.client.test_command import Command, command

__all__ = ["command"]

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
CONDOR, DASK = "local-condor", "local-dask"


@pytest.fixture
def app(connection: Connection) -> Iterator[App]:
    """An app that needs a pool; its settings are withdrawn afterwards."""
    label = f"needs_{uuid.uuid4().hex[:8]}"
    yield App(label, connection=connection, scheduler_settings=[SchedulerSetting("primary", "where models run", required=True)])
    declare(connection, label, [])


def test_a_job_runs_on_the_scheduler_that_was_assigned_to_the_app(app: App, command: Command) -> None:
    with pytest.raises(SettingNotAssigned):
        app.get_scheduler("primary")
    assert "no scheduler is assigned" in command("schedulers", "settings", app.package, COLUMNS="120")
    assert "condor" in command("schedulers", "assign", f"{app.package}/primary", DASK, code=1)
    assert CONDOR in command("schedulers", "assign", f"{app.package}/primary", CONDOR)
    job = app.get_job_manager().create_job("settled", job_type="CONDOR", scheduler=app.get_scheduler("primary"))
    job.set_attribute("executable", "/bin/true")
    job.execute()
    assert job.wait(timeout_s=90) == "Complete"
    (item,) = json.loads(command("schedulers", "settings", app.package, "--json"))
    assert (item["scheduler"], item["assigned"]) == (CONDOR, True)
    command("schedulers", "assign", f"{app.package}/primary", "--none")
    with pytest.raises(SettingNotAssigned):
        app.get_scheduler("primary")


def test_an_assignment_of_another_engine_is_refused(app: App, connection: Connection) -> None:
    app.declare_scheduler_settings()
    with pytest.raises(InvalidRequest, match="condor"):
        assign(connection, app.package, "primary", DASK)


def test_a_pool_is_looked_at(connection: Connection) -> None:
    pool = get_scheduler(CONDOR, connection=connection)
    assert pool is not None
    assert {"Collector", "Negotiator", "Scheduler", "StartD"} <= {daemon.type for daemon in pool.daemons()}
    assert pool.slots().total >= 1
    queue = pool.queue()
    assert queue.total == sum(line.total for line in queue.users)
    assert all(set(ad) == {"ClusterId", "Owner"} for ad in pool.history(projection=["ClusterId", "Owner"], limit=5))
    assert len(pool.query("false")) == 0
    assert all(level.identity for level in pool.identity() if level.allowed)
    assert all(item.name for item in pool.priorities())
    with pytest.raises(InvalidRequest, match="constraint"):
        pool.query("Owner ==")
    with pytest.raises(Refused):
        pool.workers()
    assert [step.name for step in pool.check().steps][:3] == ["dns", "tcp", "answer"]


def test_a_dask_scheduler_is_looked_at(connection: Connection) -> None:
    dask = get_scheduler(DASK, connection=connection)
    assert dask is not None
    assert dask.workers().total >= 1
    assert isinstance(dask.tasks().items, list)


def test_pools_are_shown_as_tables_that_fit(command: Command) -> None:
    said = {
        words: command("pool", *words)
        for words in (
            ("status", CONDOR),
            ("status", DASK),
            ("queue", CONDOR),
            ("queue", DASK),
            ("slots", CONDOR, "--all"),
            ("priorities", CONDOR),
            ("history", CONDOR, "--limit", "3"),
        )
    }
    assert max(len(line) for text in said.values() for line in text.splitlines()) <= 80
    assert "Negotiator" in said["status", CONDOR]
    assert "slot1" in said["slots", CONDOR, "--all"]
    assert "no ClassAd expression" in command("pool", "history", CONDOR, "--constraint", "1 +", code=1)
    command("pool", "queue", "nobody", code=5)
    assert json.loads(command("pool", "slots", CONDOR, "--json"))["total"] >= 1
