"""The commands `up`, `status`, `logs`, `down` and `replay`; the client's command `jobledger` adds them to its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from jobledger_devstack.errors import NotRunning, PartFailed, StackError
from jobledger_devstack.layout import default_home
from jobledger_devstack.model import Snapshot
from jobledger_devstack.options import PARTS, StackOptions
from jobledger_devstack.stack import Stack
from jobledger_devstack.view import Progress, addresses, duration, table

NOT_READY = 3
"""Exit code of `status` when the stack is down, starting or not whole."""

_home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="JOBLEDGER_HOME",
    help="The data folder: everything of one stack lives there.  [default: /var/lib/jobledger as root, else ~/.local/share/jobledger]",
)


def _stack(home: Path | None, options: StackOptions | None = None) -> Stack:
    return Stack(home or default_home(), options=options)


def _parts(_context: click.Context, _parameter: click.Parameter, value: str | None) -> frozenset[str] | None:
    if value is None:
        return None
    chosen = frozenset(name.strip() for name in value.split(",") if name.strip())
    if unknown := sorted(chosen - set(PARTS)):
        raise click.BadParameter(f"there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    return chosen


def _up_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("--parts", callback=_parts, metavar="PART,...", help=f"Only these parts, of {', '.join(PARTS)}.  [default: all]"),
        click.option(
            "--slots", type=click.IntRange(min=1), help="CPUs that the HTCondor pool offers.  [default: this machine's, at least 2]"
        ),
        click.option("--dask-workers", type=click.IntRange(min=1), help="Dask worker processes.  [default: 1]"),
        click.option("--dask-threads", type=click.IntRange(min=1), help="Threads per Dask worker.  [default: 2]"),
        click.option(
            "--job-requirements",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            multiple=True,
            help="A requirements file for the Python environment of the jobs; may be given again.",
        ),
        click.option(
            "--database-url",
            envvar="JOBLEDGER_DATABASE_URL",
            show_envvar=True,
            help="Use this PostgreSQL instead of starting one. Prefer the variable: a command line can be read by everybody.",
        ),
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(min=1),
            default=600,
            show_default=True,
            help="Seconds to wait until all is ready.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@_home
@_up_options
def up(home: Path | None, timeout_s: float, job_requirements: tuple[Path, ...], **asked: Any) -> None:
    """Start Jobledger on this machine and wait until it is ready.

    Kafka, PostgreSQL, an HTCondor pool, a Dask scheduler with workers and Jobledger's three services, all on loopback. The first
    start downloads what is missing (about 75 MB); a later one takes seconds. What is running already is left alone. Options are
    remembered for the next start.
    """
    console = Console(highlight=False, soft_wrap=True)
    stack = _stack(home, StackOptions(job_requirements=job_requirements or None, **asked))
    before = stack.status()
    began = time.monotonic()
    try:
        with Progress(console) as show:
            endpoints = stack.up(None if before.ready else show, timeout_s=timeout_s)
    except PartFailed as error:
        _fail(f"{error.part} failed: {error.reason}", error.log, f"the whole log: {stack.layout.log(error.part)}" if error.log else "")
    except (StackError, TimeoutError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("not waiting any longer; the stack goes on starting (`jobledger status` shows how far it is, `jobledger down` stops it)")
    took_s = time.monotonic() - began
    console.print(f"already up in {stack.layout.home}" if before.ready else f"ready after {took_s:.1f} s")
    console.print(addresses(endpoints))


@click.command()
@_home
@click.option("--json", "machine", is_flag=True, help="Print JSON for machines; times in UTC.")
def status(home: Path | None, machine: bool) -> None:
    """Show every part and the addresses.

    Exit code 0 when everything is ready, 3 when the stack is down or not whole.
    """
    console = Console(highlight=False, soft_wrap=True)
    stack = _stack(home)
    snapshot = stack.status()
    if machine:
        click.echo(_report(stack, snapshot))
        sys.exit(0 if snapshot.ready else NOT_READY)
    if not snapshot.parts and not snapshot.running:
        click.echo(_never(stack))
        sys.exit(NOT_READY)
    console.print(table(snapshot, datetime.now(UTC)))
    if not snapshot.running:
        console.print(
            f"\ndown ({stack.layout.home}); `jobledger up` starts it"
            + (f"; {snapshot.failure} failed last time" if snapshot.failure else "")
        )
    elif not snapshot.complete:
        console.print("\nstill starting")
    elif snapshot.complete:
        console.print()
        console.print(addresses(stack.endpoints()))
    sys.exit(0 if snapshot.ready else NOT_READY)


def _never(stack: Stack) -> str:
    return f"no stack was ever started in {stack.layout.home}; `jobledger up` starts one"


def _report(stack: Stack, snapshot: Snapshot) -> str:
    """The snapshot and the addresses as JSON. The database's address stays in endpoints.json, for this account only: it has a password."""
    try:
        endpoints = msgspec.to_builtins(stack.endpoints())
        del endpoints["database_url"]
    except NotRunning:
        endpoints = None
    report = {
        "home": str(stack.layout.home),
        "ready": snapshot.ready,
        **msgspec.to_builtins(snapshot),
        "endpoints_file": str(stack.layout.endpoints) if endpoints else None,
        "endpoints": endpoints,
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


@click.command()
@_home
@click.argument("part", required=False)
@click.option("-n", "--lines", type=click.IntRange(min=0), default=100, show_default=True, help="How many of its last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until interrupted.")
def logs(home: Path | None, part: str | None, lines: int, follow: bool) -> None:
    """Show the log of PART; without PART, say which logs there are."""
    stack = _stack(home)
    names = stack.log_names()
    none_yet = f"there are no logs yet: {_never(stack)}"
    if part is None:
        click.echo("\n".join(f"{name:16} {stack.layout.log(name)}" for name in names) or none_yet)
        return
    if not names:
        _fail(none_yet)
    try:
        click.echo(stack.logs(part, lines))
    except StackError as error:
        _fail(str(error))
    if follow:
        _follow(stack.layout.log(part))


def _follow(file: Path) -> None:
    with file.open(errors="replace") as log:
        log.seek(0, 2)
        while True:
            if text := log.read():
                click.echo(text, nl=False)
            else:
                time.sleep(0.2)


@click.command()
@_home
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=1), default=60, show_default=True, help="Seconds to stop in order before killing."
)
def down(home: Path | None, timeout_s: float) -> None:
    """Stop everything. The data stays; `up` continues with it."""
    stack = _stack(home)
    began = time.monotonic()
    try:
        stopped = stack.down(timeout_s=timeout_s)
    except StackError as error:
        _fail(str(error))
    for name in stopped:
        click.echo(f"stopped {name}")
    click.echo(
        f"down after {duration(time.monotonic() - began)}; no process is left" if stopped else f"nothing was running in {stack.layout.home}"
    )


@click.command()
@_home
@click.option("--processes", type=click.IntRange(min=1), help="Processes that share the partitions.  [default: one a core]")
@click.option("--swap", is_flag=True, help="Put the new rows in the old ones' place, if they are the same.")
@click.option("--swap-anyway", is_flag=True, help="Put them there also if they differ: what was wrong is repaired.")
@click.option("--roll-back", is_flag=True, help="Put the rows from before the last swap back, and do nothing else.")
@click.option("--json", "machine", is_flag=True, help="Print JSON for machines.")
def replay(home: Path | None, processes: int | None, swap: bool, swap_anyway: bool, roll_back: bool, machine: bool) -> None:
    """Make the job list again from the log, compare it row by row, and swap.

    The stack goes on meanwhile; after a swap its projector starts anew. Exit code 0 when the rows are what the log says, or were
    swapped; 1 when they differ; 70 when the log cannot be folded as it was.
    """
    stack = _stack(home)
    if not stack.status().ready:
        _fail("the stack is not ready: `jobledger up` starts it, `jobledger status` says what is missing")
    told = dict(line.split("=", 1) for line in stack.layout.services_env.read_text().splitlines())
    chosen = {"--swap": swap, "--swap-anyway": swap_anyway, "--roll-back": roll_back, "--json": machine}
    arguments = [name for name, given in chosen.items() if given] + (["--processes", str(processes)] if processes else [])
    command = [sys.executable, "-m", "jobledger_jobs", "replay", *arguments]
    sys.exit(subprocess.run(command, env={**os.environ, **told}, check=False).returncode)


def _fail(*lines: str) -> Any:
    click.echo("\n".join(line for line in lines if line), err=True)
    sys.exit(1)


COMMANDS = (up, status, logs, down, replay)
"""What the client adds to `jobledger`."""
