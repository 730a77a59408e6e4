"""One sweep of many runs that wait in a pool's queue, from our rows to what is judged, against one bare query that brings the same ads.

By both transports. Nothing has changed since the last look, as is so for most of 10,000 runs most of the time, so nothing is published.
"""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from pathlib import Path

import asyncssh
import msgspec

from jobledger_contracts.ids import new_job_id, run_id
from jobledger_contracts.job_events import CondorSpec, JobCreated
from jobledger_contracts.scheduler import initial_state
from jobledger_devstack import Stack
from jobledger_kit.clock import SystemClock
from jobledger_kit.config import SecretUrl
from jobledger_kit.effects import EffectLedger
from jobledger_kit.memory import MemoryBus
from jobledger_schedulers.adapters import open_adapter
from jobledger_schedulers.adapters.htcondor.parse import PROJECTION
from jobledger_schedulers.adapters.port import SchedulerAdapter
from jobledger_schedulers.config import SchedulersSettings
from jobledger_schedulers.health import Health
from jobledger_schedulers.lane import Lane
from jobledger_schedulers.staging import Staging
from jobledger_schedulers.store import SchedulersStore
from jobledger_schedulers.sweep import Sweep

from .bare_bindings import Bare, bare_bindings
from .figures import Ratio, Report, median
from .transports import bindings_settings, ssh_settings

POOL = "bench"
AIM = 1 / 1.5


async def measure(report: Report, stack: Stack, *, sizes: tuple[int, ...] = (1000, 10_000), rounds: int) -> None:
    """Append, for each transport and number of runs, the ratio."""
    endpoints = stack.endpoints()
    owner = endpoints.ssh_username  # one identity for all, so that all see the same jobs
    token = stack.mint_token(owner, 3600)
    with tempfile.TemporaryDirectory(prefix="jobledger-bench-") as name:
        folder = Path(name)
        async with bare_bindings(endpoints.collector, endpoints.schedd_name, token, folder / "tokens") as bare:
            store = await SchedulersStore.open(endpoints.database_url)
            adapters = {
                "ssh": open_adapter(ssh_settings(stack, folder / "ssh")),
                "bindings": open_adapter(bindings_settings(stack, folder / "bindings", owner)),
            }
            sweeps = {transport: _sweep(adapter, store, folder / transport) for transport, adapter in adapters.items()}
            constraint = f'JobledgerRunId =!= undefined && Owner == "{owner}"'
            runs: list[str] = []
            try:
                for size in sizes:
                    new = [run_id(new_job_id(time.time_ns() // 1_000_000, os.urandom(10)), 1) for _ in range(size - len(runs))]
                    await bare("fill", runs=new)
                    runs += new
                    await _know(store, new)
                    for sweep in sweeps.values():
                        await sweep.once()  # the first look tells what is new
                    await _rounds(report, stack, sweeps, bare, constraint, size, rounds)
            finally:
                for adapter in adapters.values():
                    await adapter.close()
                await store.close()


async def _rounds(report: Report, stack: Stack, sweeps: dict[str, Sweep], bare: Bare, constraint: str, size: int, rounds: int) -> None:
    endpoints = stack.endpoints()
    ours: dict[str, list[float]] = {transport: [] for transport in sweeps}
    theirs: dict[str, list[float]] = {transport: [] for transport in sweeps}
    known = asyncssh.import_known_hosts(f"* {endpoints.ssh_host_key}\n")
    async with asyncssh.connect(
        endpoints.ssh_host, endpoints.ssh_port, username=endpoints.ssh_username, client_keys=[endpoints.ssh_private_key_file],
        known_hosts=known, config=None, agent_path=None,
    ) as connection:  # fmt: skip
        query = f"condor_q -allusers -json -attributes {','.join(PROJECTION)} -constraint {shlex.quote(constraint)}"
        for _ in range(2 * rounds):
            for transport, sweep in sweeps.items():
                begun = time.perf_counter()
                await sweep.once()
                ours[transport].append(time.perf_counter() - begun)
            answer = await bare("query", constraint=constraint, projection=PROJECTION)
            if answer.rows != size:
                raise RuntimeError(f"{answer.rows} ads for {size} runs")
            theirs["bindings"].append(answer.seconds)
            begun = time.perf_counter()
            await connection.run(query, check=True)
            theirs["ssh"].append(time.perf_counter() - begun)
    for transport in sweeps:
        mine, bare_s = median(ours[transport]), median(theirs[transport])
        name = f"sweep of {size:,} runs by {transport}"
        report.ratios.append(Ratio(name=name, ours=1 / mine, theirs=1 / bare_s, theirs_name="a bare query", unit="/s", aim=AIM))
        report.notes.append(f"{name}: {1000 * mine:.0f} ms, a bare query {1000 * bare_s:.0f} ms ({mine / bare_s:.2f} times)")


def _sweep(adapter: SchedulerAdapter, store: SchedulersStore, folder: Path) -> Sweep:
    clock = SystemClock()
    settings = SchedulersSettings(kafka_bootstrap_servers="-", database_url=SecretUrl("-"), workspaces_url=(folder / "workspaces").as_uri())
    lane = Lane(
        name=POOL,
        adapter=adapter,
        store=store,
        effects=EffectLedger(store.pool),
        bus=MemoryBus(),
        clock=clock,
        settings=settings,
        staging=Staging(folder / "staging", settings.workspaces_url),
        held_until=clock.monotonic() + 1e9,
    )
    return Sweep(lane, Health(lane, initial_state(POOL)))


async def _know(store: SchedulersStore, runs: list[str]) -> None:
    """Write the rows of runs that were handed over."""
    created = JobCreated(
        job_id=runs[0].rpartition(".")[0], name="bench", user="bench", label="bench", job_type="CONDOR", scheduler=POOL,
        condor=CondorSpec(executable="/bin/true"),
    )  # fmt: skip
    await store.pool.execute(
        "insert into runs (run_id, job_id, run, scheduler, created, asked_at, desired_at, correlation_id, causation_id, traceparent)"
        " select r, split_part(r, '.', 1), 1, $2, $3, now(), now(), '', '', '' from unnest($1::text[]) as r",
        runs,
        POOL,
        msgspec.json.encode(created),
    )
    await store.place(dict.fromkeys(runs, "0.0"))
