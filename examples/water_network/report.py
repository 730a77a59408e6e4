"""The answer, as tables and files."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from progress import console
from rich.table import Table
from rich.text import Text

from jobledger import Job, JobledgerError
from jobledger_devstack.model import Endpoints

Closure = dict[str, Any]
VERDICTS = {"applied": "green", "duplicate": "dim", "superseded": "yellow", "refused": "red"}


def ranked(closures: Sequence[Closure]) -> list[Closure]:
    """The worst first; by name where they are equal, so that two runs give the same list."""
    return sorted(closures, key=lambda closure: (-closure["person_hours"], -closure["junctions"], closure["pipe"]))


def save(closures: Sequence[Closure], facts: dict[str, Any], out: Path) -> None:
    """All closures as closures.json and ranking.csv."""
    (out / "closures.json").write_text(json.dumps(ranked(closures), indent=1))
    with (out / "ranking.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["rank", "pipe", "person_hours", "people", "junctions", "share", "length_m", "diameter_mm"])
        for rank, closure in enumerate(ranked(closures), 1):
            pipe = facts["pipes"][closure["pipe"]]
            numbers = [closure[name] for name in ("person_hours", "people", "junctions")]
            rows.writerow([rank, closure["pipe"], *numbers, f"{share(closure, facts):.4f}", pipe["length_m"], pipe["diameter_mm"]])


def share(closure: Closure, facts: dict[str, Any]) -> float:
    """The part of the town that has too little water in the worst hour."""
    return float(closure["people"] / sum(facts["people"].values()))


def ranking(closures: Sequence[Closure], facts: dict[str, Any]) -> None:
    """The ten pipes that hurt most."""
    hours, town = facts["closed_hours"], sum(facts["people"].values())
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "pipe", "diameter", "junctions", "people", "of the town", "person-hours"):
        table.add_column(heading, justify="left" if heading == "pipe" else "right")
    for rank, closure in enumerate(ranked(closures)[:10], 1):
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


def agreement(closures: Sequence[Closure], again: Sequence[Closure]) -> None:
    """Dask's answers must be HTCondor's. Raises JobledgerError when they are not."""
    known = {closure["pipe"]: closure for closure in closures}
    if different := [closure["pipe"] for closure in again if closure != known[closure["pipe"]]]:
        raise JobledgerError(f"Dask and HTCondor disagree about {', '.join(different)}")
    console.print(f"Dask closed {len(again)} of these pipes too: the same people, junctions and hours for every one of them.\n")


def history(job: Job) -> None:
    """What the ledger knows of one job: everything that anybody said, and what became of it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("position", "recorded", "who", "event", "says", "verdict"):
        table.add_column(heading, no_wrap=heading != "says", overflow="fold")
    entries = job.history()
    for entry in entries:
        verdict = Text(f"{entry.verdict}: {entry.reason}" if entry.reason else entry.verdict, style=VERDICTS.get(entry.verdict, ""))
        says = Text(" ".join(str(entry.data[name]) for name in ("name", "status", "message", "reason") if entry.data.get(name)))
        time = entry.recorded_at.astimezone().strftime("%H:%M:%S") if entry.recorded_at else ""
        table.add_row(entry.position, time, _who(entry.actor or entry.source), entry.type, says, verdict)
    console.rule(f"[bold]The history of {job.name!r}", align="left")
    console.print(table)
    console.print()


def _who(actor: str) -> str:
    """`run:<job id>.1` is the job itself, in its first run."""
    kind, _, name = actor.partition(":")
    return f"run {name.rpartition('.')[2]}" if kind == "run" else name or actor


def what_next(endpoints: Endpoints, job: Job, map_job: Job, out: Path, *, started_s: float, asked_s: float) -> None:
    """Where everything is, and what to try."""
    console.rule("[bold]Everything is still running", align="left")
    table = Table.grid(padding=(0, 2))
    rows = {
        "map": f"{out / 'map.png'}, and in the workspace of {map_job.name!r}",
        "results": f"{out / 'ranking.csv'} and closures.json",
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
        f"jobledger jobs history {short}",
        f"jobledger jobs files {short}",
        f"jobledger jobs resubmit {short} --reason 'once more' && jobledger jobs watch {short}",
        "jobledger schedulers list",
        "jobledger down",
    ):
        console.print(f"  {command}", markup=False, soft_wrap=True)
    console.print(f"\nStarting took {started_s:.0f} s, the answer {asked_s:.0f} s.")
