"""What was measured, and how it is shown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
from rich.console import Console
from rich.table import Table


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """Ours against theirs: medians of the rounds, and what we aim at (at least)."""

    name: str
    ours: float
    theirs: float
    theirs_name: str
    unit: str
    aim: float

    @property
    def value(self) -> float:
        return self.ours / self.theirs


class Memory(msgspec.Struct, frozen=True):
    """A process's resident memory after the load."""

    process: str
    rss_mib: float


class Report(msgspec.Struct, kw_only=True):
    """All of a run."""

    machine: str
    taken: str  #: when it began
    rounds: int
    ratios: list[Ratio] = []
    notes: list[str] = []
    memory: list[Memory] = []


def median(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def machine() -> str:
    """Where this was measured, and how many processes wanted its cores before we began."""
    memory_gib = psutil.virtual_memory().total / 2**30
    where = f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"
    return f"{where}, Python {platform.python_version()}, load before {os.getloadavg()[0]:.1f}"


def memory_of(process: str, pid: int) -> Memory:
    """The memory of a process and its children. Raises psutil.NoSuchProcess."""
    parent = psutil.Process(pid)
    return Memory(process, sum(p.memory_info().rss for p in (parent, *parent.children(recursive=True))) / 2**20)


def show(report: Report, console: Console) -> None:
    table = Table(title=f"{report.rounds} interleaved rounds, medians; {report.machine}")
    for column in ("what", "ours", "against", "", "ratio", "aim"):
        table.add_column(column, justify="left" if column in ("what", "against") else "right")
    for ratio in report.ratios:
        met = ratio.value >= ratio.aim
        table.add_row(
            ratio.name,
            f"{ratio.ours:,.0f} {ratio.unit}",
            ratio.theirs_name,
            f"{ratio.theirs:,.0f} {ratio.unit}",
            f"[{'green' if met else 'yellow'}]{ratio.value:.2f}",
            f">= {ratio.aim:g}",
        )
    console.print(table)
    for note in report.notes:
        console.print(note)
    if report.memory:
        console.print("memory: " + ", ".join(f"{m.process} {m.rss_mib:.0f} MiB" for m in report.memory))


def save(report: Report, path: Path) -> None:
    """Keep the raw figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
