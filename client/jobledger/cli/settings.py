"""`jobledger schedulers settings` and `... assign`: which schedulers apps need, and which ones they get."""

from __future__ import annotations

import click
from rich.text import Text

from jobledger.cli.output import as_json, connected, dump, show_table
from jobledger.connection import Connection
from jobledger.scheduler_settings import assign as assign_setting
from jobledger.scheduler_settings import list_settings


@click.command("settings")
@click.argument("label", required=False, default="")
@as_json
@connected
def settings(connection: Connection, label: str, machine: bool) -> None:
    """List the schedulers that apps need, or that the app LABEL needs."""
    found = list_settings(connection, label)
    if machine:
        dump(found)
        return
    rows = [
        (
            f"{item.label}/{item.name}",
            item.engine,
            "yes" if item.required else "no",
            Text(item.scheduler or "-", style="green" if item.assigned else "bold red" if item.required else "yellow"),
            item.problem or item.description,
        )
        for item in found
    ]
    columns = (("setting", "fixed"), ("engine", "fixed"), ("required", "fixed"), ("scheduler", "fixed"), ("", "fill"))
    show_table(columns, rows, nothing="no app has declared a scheduler setting")


@click.command("assign")
@click.argument("setting", metavar="LABEL/NAME")
@click.argument("scheduler", required=False)
@click.option("--none", "nothing", is_flag=True, help="Take the scheduler away from the setting.")
@connected
def assign(connection: Connection, setting: str, scheduler: str | None, nothing: bool) -> None:
    """Give the setting NAME of the app LABEL a scheduler. Administrators only."""
    label, slash, name = setting.partition("/")
    if not (label and slash and name):
        raise click.UsageError("a setting is named LABEL/NAME, such as my_first_app/primary")
    if nothing == (scheduler is not None):
        raise click.UsageError("name a scheduler, or say --none")
    assign_setting(connection, label, name, scheduler)
    click.echo(f"{setting} has {scheduler}" if scheduler else f"{setting} has no scheduler any more")
