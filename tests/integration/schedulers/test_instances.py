"""Several instances: one works on a scheduler at a time, and another takes over when it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger_contracts.job_events import CondorSpec
from jobledger_contracts.statuses import Status
from jobledger_devstack import Stack
from tests.support.pool import submissions_by_run
from tests.support.schedulers import LogView, Service, condor_body, register

pytestmark = [pytest.mark.stack, pytest.mark.anyio]


@pytest.fixture
def instances(tmp_path: Path, environment: dict[str, str], admin_key: str) -> Iterator[list[Service]]:
    services = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        settings = {**environment, "JOBLEDGER_INSTANCE_ID": name, "JOBLEDGER_LANE_LEASE_S": "4", "JOBLEDGER_REACTOR": "loop"}
        services.append(Service(folder, settings))
    yield services
    for service in services:
        service.end()


async def test_the_other_instance_takes_over(instances: list[Service], admin_key: str, pool: Stack, view: LogView) -> None:
    one, two = instances
    one.start()
    await register(one, admin_key, condor_body(pool))
    sleep = CondorSpec(executable="/bin/sleep", arguments=["2"])
    jobs = [await view.run("pool", condor=sleep) for _ in range(4)]
    await view.until(jobs[-1], lambda job: bool(job.scheduler_job_ref))
    two.start()
    one.kill()
    jobs += [await view.run("pool", condor=sleep) for _ in range(4)]
    for job_id in jobs:
        await view.until(job_id, Status.COMPLETE, timeout_s=90)

    submissions = submissions_by_run(pool)
    assert [len(submissions[f"{job_id}.1"]) for job_id in jobs] == [1] * 8


async def test_an_instance_that_stops_in_good_order_hands_over_at_once(
    instances: list[Service], admin_key: str, pool: Stack, view: LogView
) -> None:
    one, two = instances
    one.start()
    await register(one, admin_key, condor_body(pool))
    two.start()
    assert one.stop() == 0
    job_id = await view.run("pool", condor=CondorSpec(executable="/bin/true"))
    await view.until(job_id, Status.COMPLETE, timeout_s=90)


async def test_roles_apart_do_the_same(instances: list[Service], admin_key: str, pool: Stack, view: LogView) -> None:
    api, reactors = instances
    reactors.start("reactors")
    api.start("api")
    await register(api, admin_key, condor_body(pool))
    job_id = await view.run("pool", condor=CondorSpec(executable="/bin/true"))
    await view.until(job_id, Status.COMPLETE)
