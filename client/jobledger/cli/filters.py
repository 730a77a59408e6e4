"""The options that choose jobs, shared by the commands that list them and that act on many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import msgspec

TYPES = ("BASIC", "CONDOR", "CONDORWORKFLOW", "DASK")

_OPTIONS = (
    click.option("--status", "-s", multiple=True, help="Only this status, by name or code; may be given again."),
    click.option("--label", "-l", help="Only this app's."),
    click.option(
        "--type", "job_type", multiple=True, type=click.Choice(TYPES, case_sensitive=False), help="Only this type; may be given again."
    ),
    click.option("--user", "-u", help="Only this owner's."),
    click.option("--group", multiple=True, help="Only this group's; may be given again."),
    click.option("--scheduler", help="Only on this scheduler."),
    click.option("--name", "q", help="Only with this in the name."),
    click.option(
        "--property",
        "properties",
        multiple=True,
        metavar="PATH=VALUE",
        help="Only with this property, such as scenario.year=2026; a value that is no JSON is a text. May be given again.",
    ),
    click.option("--created-after", metavar="TIME", help="Only created at or after this time, such as 2026-03-01T12:00Z."),
    click.option("--created-before", metavar="TIME", help="Only created before this time."),
)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def filter_query(asked: dict[str, Any]) -> dict[str, Any]:
    """The service's query for what was chosen; what was not is absent. Raises UsageError."""
    properties: dict[str, Any] = {}
    for text in asked["properties"]:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise click.UsageError(f"--property takes PATH=VALUE, not {text!r}")
        *steps, last = path.split(".")
        place = properties
        for step in steps:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise click.UsageError(f"--property {path}: {step} has another value already")
        place[last] = _value(value)
    query = {name: list(value) if isinstance(value, tuple) else value for name, value in asked.items() if name != "properties" and value}
    return query | ({"extended_properties": msgspec.json.encode(properties).decode()} if properties else {})


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return text
