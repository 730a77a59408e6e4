"""How the command shows things: tables that fit 80 columns for people, whole ones for pipes, JSON for machines.

Times are local for people, UTC in JSON.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
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
GAP = 2
"""Columns between two columns of a table."""
LEAST_FILL = 6
"""A column that is cut keeps so much, even if the line gets longer than the terminal: it wraps there, and nothing else is lost."""


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


def width() -> int | None:
    """The columns of the terminal; None where standard output is none: what reads it there needs it whole."""
    out = console()
    return out.width if out.file.isatty() else None


def show_table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]], *, nothing: str) -> None:
    """Print rows. A column is a heading and its behaviour: `fixed` is never cut, `number` is to the right, `fill` takes the rest."""
    cells = [tuple(_one_line(cell) for cell in row) for row in rows]
    if not cells:
        console().print(nothing)
        return
    for line in table_lines(columns, cells, width()):
        console().print(line, soft_wrap=True)


def table_lines(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Text]], limit: int | None) -> Iterator[Text]:
    """The lines of a table, headings first. With a `limit` (columns), the fill columns share what the others leave and are cut."""
    headed = [tuple(Text(heading, style="bold") for heading, _ in columns), *rows]
    widths = [max(row[number].cell_len for row in headed) for number in range(len(columns))]
    if limit is not None:
        fills = [number for number, (_, kind) in enumerate(columns) if kind == "fill"]
        left = limit - GAP * (len(columns) - 1) - sum(size for number, size in enumerate(widths) if number not in fills)
        # The narrowest first: what it does not need is the others'.
        for position, number in enumerate(sorted(fills, key=lambda number: widths[number])):
            widths[number] = min(widths[number], max(left // (len(fills) - position), LEAST_FILL))
            left -= widths[number]
    for row in headed:
        line = Text()
        for cell, size, (_, kind) in zip(row, widths, columns, strict=True):
            piece = cell.copy()
            piece.truncate(size, overflow="ellipsis")
            space = Text(" " * (size - piece.cell_len))
            line.append_text(space + piece if kind == "number" else piece + space)
            line.append(" " * GAP)
        line.rstrip()
        yield line


def _one_line(value: Any) -> Text:
    """A cell's text on one line, without what could move the cursor."""
    text = value.plain if isinstance(value, Text) else str("" if value is None else value)
    plain = "".join(char if char.isprintable() else " " for char in text)
    return Text(plain, style=value.style if isinstance(value, Text) else "")


def show_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one a line; empty values are left out. Long values are folded at a terminal only."""
    shown = [(name, value) for name, value in fields if value not in (None, "", [], {})]
    if width() is None:
        longest = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            sys.stdout.write(f"{name:<{longest}}  {value}\n")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in shown:
        table.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    console().print(table)
