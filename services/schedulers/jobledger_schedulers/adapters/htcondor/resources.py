"""What a run asked for and used, out of the ads of its processes. Pure.

HTCondor measures memory and disk in KiB, asks for memory in MiB and for disk in KiB; we say bytes. An attribute that is an expression
(what a job asks for may depend on what it used) has no number: what the machine gave the job then stands for what it asked for.
Source: HTCondor manual, "Job ClassAd Attributes".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jobledger_contracts.job_events import Resources

# fmt: off
MEASURES: Final = (
    "RequestCpus", "RequestMemory", "RequestDisk", "RequestGpus", "CpusProvisioned", "MemoryProvisioned", "DiskProvisioned",
    "RemoteUserCpu", "RemoteSysCpu", "CumulativeRemoteUserCpu", "CumulativeRemoteSysCpu", "ResidentSetSize", "DiskUsage",
    "RemoteWallClockTime", "ShadowBday",
)
# fmt: on
COMPLETED: Final = 4
KIB: Final = 2**10
MIB: Final = 2**20
MAX_HOSTS: Final = 20

Row = Mapping[str, Any]


def resources_of(rows: Sequence[Row]) -> Resources:
    """Sums of times, and the largest of what was asked for and used at a time."""
    hosts = dict.fromkeys(str(host)[:256] for row in rows if (host := row.get("RemoteHost") or row.get("LastRemoteHost")))
    return Resources(
        cpus_asked=_most(rows, "RequestCpus", "CpusProvisioned"),
        cpu_user_s=_sum(rows, "RemoteUserCpu", "CumulativeRemoteUserCpu"),
        cpu_system_s=_sum(rows, "RemoteSysCpu", "CumulativeRemoteSysCpu"),
        memory_asked_bytes=_bytes(_most(rows, "RequestMemory", "MemoryProvisioned"), MIB),
        memory_used_bytes=_bytes(_most(rows, "ResidentSetSize"), KIB),
        disk_asked_bytes=_bytes(_most(rows, "RequestDisk", "DiskProvisioned"), KIB),
        disk_used_bytes=_bytes(_most(rows, "DiskUsage"), KIB),
        gpus_asked=_most(rows, "RequestGpus"),
        wall_s=_sum([{"wall": _wall_s(row)} for row in rows], "wall"),
        hosts=list(hosts)[:MAX_HOSTS],
    )


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def _wall_s(row: Row) -> float | None:
    """The time on machines. A job's last execution is added to it only when its shadow has gone, a moment after the job is completed."""
    before, begun, ended = (_number(row, name) for name in ("RemoteWallClockTime", "ShadowBday", "EnteredCurrentStatus"))
    if begun is None or ended is None or row.get("JobStatus") != COMPLETED:
        return before
    return (before or 0.0) + max(0.0, ended - begun)


def _most(rows: Sequence[Row], *names: str) -> float | None:
    """The largest of what the first attribute that is a number says, over all rows."""
    found = [next((value for name in names if (value := _number(row, name)) is not None), None) for row in rows]
    return max((value for value in found if value is not None), default=None)


def _sum(rows: Sequence[Row], *names: str) -> float | None:
    """The sum over all rows of the larger of these attributes: the one is of the last execution, the other of all of them."""
    found = [max((value for name in names if (value := _number(row, name)) is not None), default=None) for row in rows]
    known = [value for value in found if value is not None]
    return sum(known) if known else None


def _bytes(value: float | None, unit: int) -> int | None:
    return None if value is None else int(value * unit)
