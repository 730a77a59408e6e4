"""What the terminal shows while we wait: live on a terminal, a line per change elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobledger import CondorWorkflow, Job, NodeView
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


@contextmanager
def waiting_for(job: Job) -> Iterator[None]:
    """One job, from here to its end."""
    began = time.monotonic()
    with console.status(f"Dask: {job.name}"):
        yield
    console.print(f"  dask  {job.name}: {job.cached_status} after {time.monotonic() - began:.0f} s", style="dim", markup=False)


class Board:
    """The nodes of the workflow, step by step: a mark for each, in the colour of its status."""

    STEPS: ClassVar = {"prepare": "prepare the network", "close": "close its pipes", "rank": "rank and plot"}

    def __init__(self, workflow: CondorWorkflow) -> None:
        self._workflow, self._nodes = workflow, dict[str, NodeView]()
        self._began = time.monotonic()
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        console.rule("[bold]Closing pipes", align="left")
        console.print(f"A workflow of {self._workflow.num_jobs} nodes on HTCondor: {', '.join(self.STEPS.values())}.")
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._live:
            self._live.stop()
        if kind is None:
            took = time.monotonic() - self._began
            console.print(f"{self._workflow.name}: {self._workflow.cached_status} after {took:.0f} s.\n", markup=False)

    def update(self, job: Job) -> None:
        """Something has changed: look at all nodes."""
        for node in self._workflow.nodes():
            before = self._nodes.get(node.name)
            self._nodes[node.name] = node
            if self._live is None and node.status in ("Running", "Complete", "Error") and (before is None or before.status != node.status):
                console.print(f"{time.monotonic() - self._began:5.0f} s  {node.name}: {node.message or node.status}", markup=False)

    def _draw(self) -> Group:
        nodes = list(self._nodes.values())
        counts = Counter(node.status for node in nodes)
        statuses = Text("  ").join(Text(f"{count} {status}", style=STYLES.get(status, "")) for status, count in sorted(counts.items()))
        steps = Table.grid(padding=(0, 2))
        for step, words in self.STEPS.items():
            own = [node for node in nodes if node.name.partition("-")[0] == step]
            done = sum(node.status == "Complete" for node in own)
            marks = Text("").join(Text("\u25cf" if node.start_time else "\u25cb", style=STYLES.get(node.status, "")) for node in own)
            steps.add_row(words, marks, f"{done} of {len(own)}")
        line = Table.grid(padding=(0, 2))
        done = counts["Complete"]
        line.add_row(ProgressBar(total=max(1, len(nodes)), completed=done, width=30), f"{done} of {len(nodes)} nodes", self._took())
        return Group(statuses, steps, line)

    def _took(self) -> str:
        return f"{time.monotonic() - self._began:.0f} s"
