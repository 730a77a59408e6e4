"""The two ways to an HTCondor pool against one another: SSH to its access point, and HTCondor's own protocol. One pool, one set of runs.

The runs' requirements are never met, so that nothing starts and disturbs; each has one input file, as real ones do.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from jobledger_contracts.ids import new_job_id, run_id
from jobledger_contracts.job_events import CondorSpec
from jobledger_devstack import Stack
from jobledger_schedulers.adapters import open_adapter
from jobledger_schedulers.adapters.port import AdapterSettings, Handle, RunSpec, SchedulerAdapter

from .figures import Ratio, Report, median

AIMS = {1: 0.2, 100: 0.5, 1000: 0.5}
"""A single run by SSH is a few round trips and a process; many are mostly condor_submit's own time."""
SWEEP_AIM = 0.3


async def measure(report: Report, stack: Stack, *, sizes: Sequence[int] = (1, 100, 1000), rounds: int) -> None:
    """Append, for each number of runs, the ratio of submission; and that of one look at the most of them."""
    with tempfile.TemporaryDirectory(prefix="jobledger-bench-") as name:
        folder = Path(name)
        (folder / "input.txt").write_text("42\n" * 300)
        adapters = [
            open_adapter(settings) for settings in (ssh_settings(stack, folder / "ssh"), bindings_settings(stack, folder / "bindings"))
        ]
        submitted: dict[int, tuple[list[float], list[float]]] = {size: ([], []) for size in sizes}
        looked: tuple[list[float], list[float]] = ([], [])
        try:
            for adapter in adapters:
                await _round(adapter, folder, 1)  # what is done once per connection
            for _ in range(rounds):
                for size in sizes:
                    for number, adapter in enumerate(adapters):
                        submit_s, look_s = await _round(adapter, folder, size)
                        submitted[size][number].append(size / submit_s)
                        if size == max(sizes):
                            looked[number].append(size / look_s)
        finally:
            for adapter in adapters:
                await adapter.close()
    for size, (ours, theirs) in submitted.items():
        report.ratios.append(_ratio(f"ssh: submit {size:,} at once", ours, theirs, AIMS.get(size, 0.5)))
    report.ratios.append(_ratio(f"ssh: look at {max(sizes):,}", *looked, SWEEP_AIM))
    looks_ms = [1000 * max(sizes) / median(rate) for rate in looked]
    report.notes.append(f"one look at {max(sizes):,} runs: {looks_ms[0]:.0f} ms by ssh, {looks_ms[1]:.0f} ms by the bindings")


def _ratio(name: str, ours: list[float], theirs: list[float], aim: float) -> Ratio:
    return Ratio(name=name, ours=median(ours), theirs=median(theirs), theirs_name="bindings", unit="runs/s", aim=aim)


async def _round(adapter: SchedulerAdapter, folder: Path, size: int) -> tuple[float, float]:
    """Submit, look, and remove; how many seconds the first two took."""
    specs = [_spec(folder) for _ in range(size)]
    runs = [spec.run_id for spec in specs]
    started = time.perf_counter()
    answers = await adapter.submit(specs)
    submitted = time.perf_counter()
    seen = await adapter.observe(runs)
    looked = time.perf_counter()
    if not all(isinstance(answer, Handle) for answer in answers) or any(one.gone for one in seen):
        raise RuntimeError("not every run arrived")
    await adapter.stop(runs, "measured")
    await adapter.collect(runs, lambda run: folder / "results" / run)
    return submitted - started, looked - submitted


def _spec(folder: Path) -> RunSpec:
    run = run_id(new_job_id(time.time_ns() // 1_000_000, os.urandom(10)), 1)
    condor = CondorSpec(executable="/bin/true", input_files=["input.txt"], attributes={"requirements": "false"})
    return RunSpec(run_id=run, job_name="bench", condor=condor, input_dir=folder, credential="jlr_bench")


def ssh_settings(stack: Stack, private_dir: Path) -> AdapterSettings:
    """How to reach the stack's pool by SSH."""
    endpoints = stack.endpoints()
    return AdapterSettings(
        name="ssh",
        type="condor",
        transport="ssh",
        host=endpoints.ssh_host,
        port=endpoints.ssh_port,
        username=endpoints.ssh_username,
        known_host_key=endpoints.ssh_host_key,
        private_key=Path(endpoints.ssh_private_key_file).read_text(),
        private_dir=private_dir,
    )


def bindings_settings(stack: Stack, private_dir: Path, identity: str = "bench") -> AdapterSettings:
    """How to reach the same pool by HTCondor's own protocol."""
    endpoints = stack.endpoints()
    host, _, port = endpoints.collector.partition(":")
    return AdapterSettings(
        name="bindings",
        type="condor",
        host=host,
        port=int(port),
        schedd_name=endpoints.schedd_name,
        token=stack.mint_token(identity, 3600),
        private_dir=private_dir,
    )
