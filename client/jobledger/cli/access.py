"""`jobledger keys ...` and `jobledger whoami`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from jobledger.cli.output import as_json, connected, dump, local, show_fields, show_table
from jobledger.connection import Connection
from jobledger.errors import JobledgerError, NotFound


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
        (item["id"], item["user"], _state(item), local(item["created_at"]), local(item.get("expires_at")), item["label"]) for item in found
    ]
    columns = (("id", "fixed"), ("user", "fixed"), ("", "fixed"), ("created", "fixed"), ("expires", "fixed"), ("label", "fill"))
    show_table(columns, rows, nothing="no keys")


def _state(item: dict[str, Any]) -> str:
    if item.get("revoked_at"):
        return "revoked"
    expires = item.get("expires_at")
    return "expired" if expires and datetime.fromisoformat(expires) <= datetime.now(UTC) else "valid"


@keys.command()
@click.argument("user")
@click.option("--group", "groups", multiple=True, help="Put the user into exactly these groups; may be given again.")
@click.option("--admin", is_flag=True, help="Make the user an administrator.")
@click.option("--label", default="", help="What the key is for.")
@click.option("--expires-in-days", type=click.IntRange(1, 3660), help="Until then; without it until it is revoked.")
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="Write the key to this new file (0600) instead of printing it.")
@connected
def create(
    connection: Connection, user: str, groups: tuple[str, ...], admin: bool, label: str, expires_in_days: int | None, to: Path | None
) -> None:
    """Make a key for USER, who is created if need be. It is shown once.

    Without --group and --admin, the rights of a user who is known stay as they are.
    """
    body: dict[str, Any] = {"user": user, "label": label}
    if expires_in_days:
        body["expires_in_s"] = expires_in_days * 86_400
    rights = {"groups": list(groups), "admin": admin}
    if to is None:
        click.echo(_make(connection, body, rights)["key"])
        return
    handle = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # before the key is made: it cannot be shown again
    with os.fdopen(handle, "w") as file:
        try:
            item = _make(connection, body, rights)
        except JobledgerError:
            to.unlink()
            raise
        file.write(item["key"] + "\n")
    click.echo(f"key {item['id']} of {item['user']} written to {to}")


def _make(connection: Connection, body: dict[str, Any], rights: dict[str, Any]) -> dict[str, Any]:
    wanted = {**body, **rights} if any(rights.values()) else body
    try:
        item: dict[str, Any] = connection.jobs.post("/jobs/keys", wanted)
    except NotFound:
        item = connection.jobs.post("/jobs/keys", {**body, **rights})
    return item


@keys.command()
@click.argument("key_id")
@connected
def revoke(connection: Connection, key_id: str) -> None:
    """Make a key invalid, at once."""
    connection.jobs.delete(f"/jobs/keys/{key_id}")
    click.echo(f"{key_id} revoked")
