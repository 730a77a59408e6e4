"""`jobledger keys ...` and `jobledger whoami`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from jobledger.cli.output import as_json, connected, dump, local, show_fields, show_table
from jobledger.connection import Connection


@click.command()
@as_json
@connected
def whoami(connection: Connection, machine: bool) -> None:
    """Say whose key is used, and where."""
    item = connection.jobs.get("/jobs/whoami")
    if machine:
        dump(item)
    else:
        groups = ", ".join(item.get("groups") or [])
        show_fields(
            [("user", item["user"]), ("groups", groups), ("admin", "yes" if item.get("admin") else "no"), ("at", connection.jobs.base_url)]
        )


@click.group()
def keys() -> None:
    """API keys (administrators only)."""


@keys.command("list")
@as_json
@connected
def list_(connection: Connection, machine: bool) -> None:
    """List keys; their secrets are not kept anywhere."""
    found = list(connection.jobs.pages("/jobs/keys"))
    if machine:
        dump(found)
        return
    rows = [
        (
            item["id"],
            item["user"],
            "admin" if item["admin"] else ", ".join(item["groups"]),
            local(item["created_at"]),
            _state(item),
            item["note"],
        )
        for item in found
    ]
    columns = (("id", "fixed"), ("user", "fixed"), ("groups", "fixed"), ("created", "fixed"), ("", "fixed"), ("note", "fill"))
    show_table(columns, rows, nothing="no keys")


def _state(item: dict[str, object]) -> str:
    return "revoked" if item.get("revoked_at") else "valid"


@keys.command()
@click.argument("user")
@click.option("--group", "groups", multiple=True, help="A group of the user; may be given again.")
@click.option("--admin", is_flag=True, help="May see and change everything.")
@click.option("--note", default="", help="What the key is for.")
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="Write the key to this new file (0600) instead of printing it.")
@connected
def create(connection: Connection, user: str, groups: tuple[str, ...], admin: bool, note: str, to: Path | None) -> None:
    """Make a key for USER. It is shown once."""
    if to is not None:
        handle = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # before the key is made: it cannot be shown again
    item = connection.jobs.post("/jobs/keys", {"user": user, "groups": list(groups), "admin": admin, "note": note})
    if to is None:
        click.echo(item["key"])
    else:
        with os.fdopen(handle, "w") as file:
            file.write(item["key"] + "\n")
        click.echo(f"key {item['id']} of {item['user']} written to {to}")


@keys.command()
@click.argument("key_id")
@connected
def revoke(connection: Connection, key_id: str) -> None:
    """Make a key invalid, at once."""
    connection.jobs.delete(f"/jobs/keys/{key_id}")
    click.echo(f"{key_id} revoked")
