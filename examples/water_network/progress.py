"""What the terminal shows while we wait: live on a terminal, a line per change elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobledger import Job
from jobledger_devstack.model import Snapshot
from jobledger_devstack.view import Progress

console = Console(highlight=False)
STYLES = {"Pending": "dim", "Submitted": "cyan", "Running": "bold cyan", "Complete": "green", "Error": "bold red"}


@contextmanager
def stack_progress() -> Iterator[Callable[[Snapshot], None]]:
    """The start of the stack, part by part."""
    console.rule("[bold]Starting Jobledger on this machine", align="left")
    began = time.monotonic()
    with Progress(console) as show:
        yield show
    console.print(f"Everything is up after {time.monotonic() - began:.0f} s.\n")


class Board:
    """Jobs by status, closures done, how fast, and who is last."""

    def __init__(self, condor: Sequence[Job], dask: Job, pipes: int) -> None:
        self._jobs: dict[str, Job] = {job.id: job for job in [*condor, dask]}
        self._condor, self._dask, self._pipes = list(condor), dask, pipes
        self._began = time.monotonic()
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._said: dict[str, str] = {}

    def __enter__(self) -> Self:
        console.rule("[bold]Closing pipes", align="left")
        console.print(f"{self._pipes:,} pipes in {len(self._condor)} HTCondor jobs, a sample of them in a Dask job.")
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._live:
            self._live.stop()
        if kind is None:
            took = time.monotonic() - self._began
            console.print(f"{self._done():,} closures on HTCondor in {took:.0f} s: {self._done() / took:.0f} a second.\n")

    def update(self, job: Job) -> None:
        """A job has changed."""
        if self._live is None and self._said.get(job.id) != job.cached_status:
            self._said[job.id] = job.cached_status
            console.print(f"{time.monotonic() - self._began:5.0f} s  {job.name}: {job.cached_status}", markup=False)

    def _done(self) -> int:
        share = self._pipes / len(self._condor)
        return round(sum(share * (1.0 if job.status_code == "COM" else job.progress or 0.0) for job in self._condor))

    def _draw(self) -> Group:
        done, took = self._done(), time.monotonic() - self._began
        counts = Counter(job.cached_status for job in self._jobs.values())
        statuses = Text("  ").join(Text(f"{count} {status}", style=STYLES.get(status, "")) for status, count in sorted(counts.items()))
        line = Table.grid(padding=(0, 2))
        line.add_row(
            ProgressBar(total=self._pipes, completed=done, width=30),
            f"{done:,} of {self._pipes:,} closures",
            f"{done / took:.0f}/s",
            f"{took:.0f} s",
        )
        rows = Table.grid(padding=(0, 2))
        running = [job for job in self._jobs.values() if job.cached_status == "Running"]
        for job in sorted(running, key=lambda job: job.progress or 0.0)[:4]:
            rows.add_row(Text("…", style="cyan"), job.name, job.status_message or "")
        return Group(statuses, line, rows)
