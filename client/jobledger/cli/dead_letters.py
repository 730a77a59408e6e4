"""`jobledger dead-letters ...`: records of the log that could not be read as events."""

from __future__ import annotations

import click

from jobledger.cli.output import as_json, connected, dump, local, show_fields, show_table
from jobledger.connection import Connection


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at log records that are no events (administrators only)."""


@dead_letters.command("list")
@click.option("--reason", help="Only with this reason, such as bad_json.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=20, show_default=True)
@as_json
@connected
def list_(connection: Connection, limit: int, reason: str | None, machine: bool) -> None:
    """List them, with the reason."""
    found = list(connection.jobs.pages("/jobs/dead-letters", {"reason": reason}, limit=limit))
    if machine:
        dump(found)
        return
    columns = (("position", "fixed"), ("topic", "fixed"), ("recorded", "fixed"), ("reason", "fixed"), ("detail", "fill"))
    rows = [(item["position"], item["topic"], local(item["recorded_at"]), item["reason"], item["detail"]) for item in found]
    show_table(columns, rows, nothing="no dead letters")


@dead_letters.command("show")
@click.argument("position")
@click.option("--topic", default="jobledger.jobs", show_default=True)
@as_json
@connected
def show(connection: Connection, position: str, topic: str, machine: bool) -> None:
    """Show the one at POSITION (partition:offset), with what the record held."""
    item = connection.jobs.get(f"/jobs/dead-letters/{topic}/{position}")
    if machine:
        dump(item)
    else:
        show_fields(item.items())
