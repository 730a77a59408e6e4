"""`jobledger events ...`: events of other services, checked before they are published."""

from __future__ import annotations

from typing import Any, BinaryIO

import click
import msgspec

from jobledger.cli.output import as_json, dump, show_table
from jobledger.event_files import CheckedEvent, check_events
from jobledger_contracts.topics import ALL


@click.group()
def events() -> None:
    """Check events that another service means to publish."""


@events.command("validate")
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
@click.option("--topic", type=click.Choice(ALL), help="Where they are to go; default: the topic of their type.")
@click.option("--strict", is_flag=True, help="Members of the data that mean nothing to Jobledger are faults.")
@as_json
@click.pass_context
def validate(context: click.Context, files: tuple[BinaryIO, ...], topic: str | None, strict: bool, machine: bool) -> None:
    """Say of every event in FILES (- for standard input) whether Jobledger would fold it, and if not, why.

    A file holds one JSON value, an array, or JSON Lines: CloudEvents in their JSON format, or records with key, headers and value as the
    golden samples have them. No service is asked. Exits with 1 when one is not good, or when there is none.
    """
    found = [(file.name, checked) for file in files for checked in check_events(file.read(), topic or "")]
    if machine:
        dump([{"file": name, **msgspec.to_builtins(checked), "good": _good(checked, strict)} for name, checked in found])
    else:
        columns = (("event", "fixed"), ("type", "fixed"), ("reason", "fixed"), ("detail", "fill"))
        rows = [(f"{name}:{c.number}", c.type, c.reason or "good", c.detail or _unknown(c)) for name, c in found]
        show_table(columns, rows, nothing="there is no event in these files")
    if not found or not all(_good(checked, strict) for _, checked in found):
        context.exit(1)


def _good(checked: CheckedEvent, strict: bool) -> bool:
    return checked.good and not (strict and checked.unknown)


def _unknown(checked: CheckedEvent) -> Any:
    return f"not known here: {', '.join(checked.unknown)}" if checked.unknown else ""
