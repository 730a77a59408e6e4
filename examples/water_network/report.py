"""The answer, as tables and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from progress import console
from rank import share
from rich.table import Table
from rich.text import Text

from jobledger import Job
from jobledger_devstack.model import Endpoints

Closure = dict[str, Any]
FIRST, LAST = 10, 8  # entries of a long history that are shown
VERDICTS = {"applied": "green", "duplicate": "dim", "superseded": "yellow", "refused": "red"}


def ranking(closures: Sequence[Closure], facts: dict[str, Any]) -> None:
    """The ten pipes that hurt most: the first ones of what the workflow's last node has ranked."""
    hours, town = facts["closed_hours"], sum(facts["people"].values())
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "pipe", "diameter", "junctions", "people", "of the town", "person-hours"):
        table.add_column(heading, justify="left" if heading == "pipe" else "right")
    for rank, closure in enumerate(closures[:10], 1):
        diameter = f"{facts['pipes'][closure['pipe']]['diameter_mm']} mm"
        numbers = (f"{closure['people']:,}", f"{share(closure, facts):.1%}", f"{closure['person_hours']:,}")
        table.add_row(str(rank), closure["pipe"], diameter, str(closure["junctions"]), *numbers, style="bold" if rank == 1 else "")
    console.rule(f"[bold]Which pipe can {facts['network']} least do without?", align="left")
    console.print(table)
    harmless = sum(not closure["person_hours"] for closure in closures)
    left_out = len(facts["pipes"]) - len(closures)
    console.print(
        f"\nPeople with less than {facts['required_m']:.0f} m of pressure in the worst of {hours} hours, and enough otherwise; of {town:,}."
    )
    console.print(
        f"Simulated: {len(closures):,} closures of {len(facts['pipes']):,} pipes ({left_out} left out: check valves cannot be closed). "
        f"{harmless:,} of them hurt nobody.\n"
    )


def history(job: Job) -> None:
    """What the ledger knows of one job: everything that anybody said, and what became of it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("position", "recorded", "who", "event", "says", "verdict"):
        table.add_column(heading, no_wrap=heading != "says", overflow="fold")
    entries = job.history()
    for number, entry in enumerate(entries):
        left_out = len(entries) - FIRST - LAST
        if left_out > 1 and FIRST <= number < FIRST + left_out:
            if number == FIRST:
                table.add_row("...", "", "", "", f"{left_out} more: jobledger jobs history {job.id[:13]}", "", style="dim")
            continue
        verdict = Text(f"{entry.verdict}: {entry.reason}" if entry.reason else entry.verdict, style=VERDICTS.get(entry.verdict, ""))
        says = Text(_nodes(entry.data["nodes"]) if "nodes" in entry.data else _words(entry.data))
        time = entry.recorded_at.astimezone().strftime("%H:%M:%S") if entry.recorded_at else ""
        table.add_row(entry.position, time, _who(entry.actor or entry.source), entry.type, says, verdict)
    console.rule(f"[bold]The history of {job.name!r}", align="left")
    console.print(table)
    console.print()


def _words(data: dict[str, Any]) -> str:
    return " ".join(str(data[name]) for name in ("name", "status", "message", "reason") if data.get(name))


def _nodes(reports: Sequence[dict[str, Any]]) -> str:
    """What one event says of several nodes."""
    named: dict[str, list[str]] = {}
    for report in reports:
        named.setdefault(report["status"], []).append(report["node"])
    shown = {status: names if len(names) <= 3 else [names[0], "...", names[-1]] for status, names in named.items()}
    return "; ".join(f"{', '.join(names)}: {status}" for status, names in shown.items())


def _who(actor: str) -> str:
    """`run:<job id>.1` is the job itself, in its first run."""
    kind, _, name = actor.partition(":")
    return f"run {name.rpartition('.')[2]}" if kind == "run" else name or actor


def what_next(endpoints: Endpoints, job: Job, out: Path, *, started_s: float, asked_s: float) -> None:
    """Where everything is, and what to try."""
    console.rule("[bold]Everything is still running", align="left")
    table = Table.grid(padding=(0, 2))
    rows = {
        "map": str(out / "map.png"),
        "results": f"{out / 'ranking.csv'} and closures.json; all output of all nodes is in the job's workspace",
        "jobs": f"{endpoints.jobs_url}/jobs",
        "their API": f"{endpoints.jobs_url}/jobs/openapi.json",
        "Dask": endpoints.dask_dashboard,
        "API key": endpoints.admin_key_file,
    }
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    console.print(table, soft_wrap=True)
    console.print("\nTry next (in .venv/bin):", style="bold")
    short = job.id[:13]
    for command in (
        "jobledger jobs list",
        f"jobledger jobs nodes {short}",
        f"jobledger jobs history {short}",
        f"jobledger jobs files {short}",
        f"jobledger jobs resubmit {short} --reason 'once more' && jobledger jobs watch {short}",
        "jobledger schedulers list",
        "jobledger down",
    ):
        console.print(f"  {command}", markup=False, soft_wrap=True)
    console.print(f"\nStarting took {started_s:.0f} s, the answer {asked_s:.0f} s.")
