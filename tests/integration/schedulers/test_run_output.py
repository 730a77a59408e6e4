"""What a run writes is read through the API while it runs: by those who may see its job, and by nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobledger_contracts.job_events import CondorSpec, StopRequested
from jobledger_contracts.statuses import Status
from jobledger_devstack import Stack
from tests.support.eventually import eventually_async
from tests.support.schedulers import LogView, Service, client, condor_body, fresh_job_id, make_key, register

pytestmark = [pytest.mark.stack, pytest.mark.anyio]


@pytest.fixture
def environment(environment: dict[str, str], parts: Stack) -> dict[str, str]:
    return {**environment, "JOBLEDGER_CONDOR_TAIL": str(parts.layout.condor / "condor_tail")}


async def test_a_run_that_is_not_over_is_read_by_who_may_see_its_job(
    running: Service,
    admin_key: str,
    pool: Stack,
    view: LogView,
    workspaces: Path,
    environment: dict[str, str],
    database: asyncpg.Pool[asyncpg.Record],
) -> None:
    await register(running, admin_key, condor_body(pool))
    job_id = fresh_job_id()
    (workspaces / job_id).mkdir()
    (workspaces / job_id / "run.sh").write_text("#!/bin/sh\necho hello; exec sleep 60\n")
    await view.run("pool", condor=CondorSpec(executable="run.sh"), job_id=job_id)
    path = f"/schedulers/pool/runs/{job_id}.1/output"
    owner_key = await make_key(environment, database, "ada", admin=False)
    stranger_key = await make_key(environment, database, "eve", admin=False)
    async with client(running, owner_key) as ada, client(running, stranger_key) as eve:

        async def spoken() -> Any:
            answer = await ada.get(path)
            assert answer.status_code in (200, 404, 409), answer.text
            return answer if answer.status_code == 200 and answer.content else None

        await view.until(job_id, Status.RUNNING)
        answer: Any = await eventually_async(spoken, 30, 0.2)
        assert (answer.content, answer.headers["jobledger-offset"], answer.headers["jobledger-size"]) == (b"hello\n", "0", "6")
        assert (await ada.get(path, params={"offset": 3, "max_bytes": 2})).content == b"lo"
        assert (await ada.get(path, params={"stream": "log"})).status_code == 400
        assert (await ada.get(path, params={"node": "of-no-workflow"})).status_code == 409
        assert (await eve.get(path)).status_code == 404
        assert (await ada.get(path.replace("/pool/", "/other/"))).status_code == 404
        assert (await ada.get(path.replace(".1/", ".2/"))).status_code == 409
        assert (await ada.get("/schedulers/pool/runs/nonsense/output")).status_code == 404
        await view.say(StopRequested(job_id=job_id))
        await view.until(job_id, Status.ABORTED)

        async def over() -> bool:  # the service reads the log a moment after us
            answer = await ada.get(path)
            assert answer.status_code == 409
            return "among the job's files" in answer.json()["detail"]

        await eventually_async(over, 20, 0.2)
