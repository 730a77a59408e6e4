"""How the command shows things: tables that fit 80 columns for people, JSON for machines. Times are local for people, UTC in JSON."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobledger.connection import Connection

STYLES = {
    "PEN": "dim", "SUB": "cyan", "RUN": "bold cyan", "PAS": "yellow", "VAR": "cyan", "VCP": "yellow",
    "RES": "green", "COM": "green", "ERR": "bold red", "ABT": "magenta", "OTH": "cyan",
}  # fmt: skip
VERDICT_STYLES = {"applied": "green", "duplicate": "dim", "superseded": "yellow", "refused": "red"}


def console() -> Console:
    """Standard output, at the terminal's width; 80 columns where there is no terminal, unless COLUMNS says more."""
    return Console(highlight=False, soft_wrap=False)


def as_json(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--json`."""
    return click.option("--json", "machine", is_flag=True, help="Print JSON for machines; times in UTC.")(function)


def connected(function: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the connection that the environment names as the first argument, and close it afterwards."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with Connection.discover() as connection:
            return function(connection, *args, **kwargs)

    return call


def dump(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def dump_lines(values: Iterable[Any]) -> None:
    """Print one line of JSON for each value, as it comes."""
    for value in values:
        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
        sys.stdout.flush()


def local(time: datetime | str | None, *, seconds: bool = True) -> str:
    """A time as people at this machine read it."""
    if not time:
        return ""
    moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S" if seconds else "%m-%d %H:%M")


def duration(seconds: float | None) -> str:
    """`4.2 s`, `12 min 5 s`, `3 h 5 min`."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(count: int) -> str:
    """A number of bytes."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def status_text(status: str, code: str) -> Text:
    """A status in its colour."""
    return Text(status, style=STYLES.get(code, ""))


def show_table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]], *, nothing: str) -> None:
    """Print rows. A column is a heading and its behaviour: `fixed` is never cut, `number` is to the right, `fill` takes the rest."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, kind in columns:
        table.add_column(
            heading,
            no_wrap=True,
            overflow="ellipsis" if kind == "fill" else "ignore",
            justify="right" if kind == "number" else "left",
            ratio=1 if kind == "fill" else None,
            min_width=8 if kind == "fill" else None,
        )
    table.expand = any(kind == "fill" for _, kind in columns) and console().is_terminal
    count = 0
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell if cell is not None else "")) for cell in row))
        count += 1
    console().print(table if count else nothing)


def show_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one a line; empty values are left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        if value not in (None, "", [], {}):
            table.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    console().print(table)
