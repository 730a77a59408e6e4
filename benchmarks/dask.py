"""Dask jobs from end to end through us (asked for, run, results in the workspace, told Complete) against bare `client.submit` of the same.

Each is a task of its own in both cases; ours are besides recorded, published, collected into files and reported, one by one.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from distributed import Client

from jobledger import App, Connection
from jobledger_devstack import Stack

from .figures import Ratio, Report, median

JOBS = 1000
AIM = 0.5
LIMIT_S = 300.0
POLL_S = 0.2


def measure(report: Report, stack: Stack, *, rounds: int) -> None:
    """Append the ratio of jobs per second. Raises RuntimeError when not all went well."""
    endpoints = stack.endpoints()
    ours: list[float] = []
    bare: list[float] = []
    with (
        Connection.discover(home=Path(endpoints.home), environ={}) as connection,
        Client(endpoints.dask_address) as client,  # type: ignore[no-untyped-call]
    ):
        for number in range(rounds + 1):
            times = _ours(connection), _bare(client)
            if number:  # the first round opens connections, and is not counted
                ours.append(JOBS / times[0])
                bare.append(JOBS / times[1])
    name = f"dask: {JOBS:,} jobs end to end"
    report.ratios.append(Ratio(name=name, ours=median(ours), theirs=median(bare), theirs_name="bare client.submit", unit="jobs/s", aim=AIM))


def _ours(connection: Connection) -> float:
    app = App(f"bench_{uuid.uuid4().hex}", connection=connection)
    manager = app.get_job_manager()
    jobs = [
        manager.create_job(f"job {n}", job_type="DASK", scheduler="local-dask", function="math:hypot", args=[n, 4]) for n in range(JOBS)
    ]
    began = time.monotonic()
    manager.save_jobs(jobs, execute=True)
    while (counts := manager.count_jobs()).get("Complete") != JOBS:
        took = time.monotonic() - began
        if took > LIMIT_S or counts.get("Error"):
            raise RuntimeError(f"after {took:.0f} s: {counts}")
        time.sleep(POLL_S)
    return time.monotonic() - began


def _bare(client: Client) -> float:
    from math import hypot

    began = time.monotonic()
    futures = [client.submit(hypot, number, 4, pure=False) for number in range(JOBS)]
    client.gather(futures)  # type: ignore[no-untyped-call]
    return time.monotonic() - began
