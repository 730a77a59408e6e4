"""`jobledger dead-letters ...`: records of the log that could not be read as events."""

from __future__ import annotations

from typing import Any

import click

from jobledger.cli.output import as_json, connected, dump, local, show_fields, show_table
from jobledger.connection import Connection
from jobledger.errors import NotFound


@click.group("dead-letters")
def dead_letters() -> None:
    """Records of the log that could not be read as events (administrators only)."""


@dead_letters.command("list")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=20, show_default=True)
@as_json
@connected
def list_(connection: Connection, limit: int, machine: bool) -> None:
    """List them, with the reason."""
    found = list(connection.jobs.pages("/jobs/dead-letters", limit=limit))
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
    item: dict[str, Any] | None = next(
        (item for item in connection.jobs.pages("/jobs/dead-letters") if (item["position"], item["topic"]) == (position, topic)), None
    )
    if item is None:
        raise NotFound(404, {"title": "Not found", "detail": f"no dead letter of {topic} is at {position}"})
    if machine:
        dump(item)
    else:
        show_fields(item.items())
