"""`jobledger schedulers ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.padding import Padding
from rich.text import Text

from jobledger.cli.output import as_json, connected, console, dump, show_fields, show_table
from jobledger.compute import Scheduler, check_scheduler_name
from jobledger.connection import Connection

STEP_STYLES = {"ok": "green", "failed": "bold red", "skipped": "dim"}
HEALTH_STYLES = {"up": "green", "degraded": "yellow", "down": "bold red"}


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    return check_scheduler_name(value)


@click.group()
def schedulers() -> None:
    """List, check and register HTCondor pools and Dask schedulers."""


@schedulers.command("list")
@as_json
@connected
def list_(connection: Connection, machine: bool) -> None:
    """List them, with their health."""
    found = list(connection.schedulers.pages("/schedulers"))
    if machine:
        dump(found)
        return
    rows = [
        (
            item["name"],
            item["type"],
            _address(item),
            Text(item.get("health") or "unknown", style=HEALTH_STYLES.get(item.get("health") or "", "dim")),
            item.get("health_detail") or item.get("version") or "",
        )
        for item in found
    ]
    show_table(
        (("name", "fixed"), ("type", "fixed"), ("address", "fill"), ("health", "fixed"), ("", "fill")), rows, nothing="no schedulers"
    )


@schedulers.command("show")
@click.argument("name", callback=_name)
@as_json
@connected
def show(connection: Connection, name: str, machine: bool) -> None:
    """Show one. Its credentials are never shown."""
    item = connection.schedulers.get(f"/schedulers/{name}")
    if machine:
        dump(item)
    else:
        show_fields(item.items())


@schedulers.command()
@click.argument("name", callback=_name)
@click.option("--type", "type_", type=click.Choice(["condor", "dask"]), required=True)
@click.option(
    "--host",
    required=True,
    help="HTCondor: the collector's host (or the access point's, by ssh). Dask: an address such as tcp://host:8786.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="HTCondor: the collector's port.")
@click.option("--transport", type=click.Choice(["bindings", "ssh", "tcp"]), help="How it is spoken to.")
@click.option("--schedd", "schedd_name", default="", help="HTCondor: the schedd to use; needed when the pool has several.")
@click.option("--username", default="", help="ssh: who logs in.")
@click.option(
    "--known-host-key",
    "host_key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="ssh: a file that holds the server's public key, as ssh-keyscan or a known_hosts file has it.",
)
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="HTCondor: a file that holds an IDTOKEN.")
@click.option(
    "--private-key",
    "private_key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="ssh, and Dask by tls: a private key file.",
)
@click.option(
    "--private-key-pass-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="ssh, and Dask by tls: a file that holds the private key's passphrase.",
)
@click.option(
    "--certificate",
    "certificate_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Dask by tls: our certificate, PEM.",
)
@click.option(
    "--ca-certificate",
    "ca_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Dask by tls: the certificate of who has signed the scheduler's, PEM.",
)
@click.option("--password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="ssh: a file that holds the password.")
@click.option(
    "--event-log",
    default="",
    help="HTCondor: the path of the access point's event log (EVENT_LOG), as the service's machine sees it, or by ssh as the access point "
    "does. What changes is then noticed at once.",
)
@click.option(
    "--heartbeat-interval",
    "heartbeat_interval_s",
    type=click.FloatRange(0, 3600),
    default=0.0,
    help="Dask: every how many seconds the service tells the scheduler that it lives; 0: never.",
)
@click.option("--dashboard", default="", help="Dask: the dashboard's address, for people.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True, max=3600), help="Seconds for one call.")
@click.option("--max-runs", type=click.IntRange(0, 1_000_000), default=0, help="How many runs it has at a time; 0: any number.")
@click.option("--replace", is_flag=True, help="Change the one of this name if there is one; credentials that are not given stay.")
@connected
def register(connection: Connection, name: str, type_: str, host: str, replace: bool, **asked: Any) -> None:
    """Register a scheduler. Secrets are read from files, never from the command line."""
    secrets = {
        "token": _content(asked.pop("token_file")),
        "private_key": _content(asked.pop("private_key_file"), strip=False),
        "private_key_pass": _content(asked.pop("private_key_pass_file")),
        "password": _content(asked.pop("password_file")),
        "certificate": _content(asked.pop("certificate_file")),
        "ca_certificate": _content(asked.pop("ca_file")),
    }
    asked["known_host_key"] = _content(asked.pop("host_key_file"))
    transport = asked.pop("transport") or (
        "tcp" if type_ == "dask" else "ssh" if asked["username"] and not secrets["token"] else "bindings"
    )
    Scheduler(name, type_, host, connection=connection, transport=transport, **asked, **secrets).save(replace=replace)
    click.echo(f"{name} registered; `jobledger schedulers check {name}` contacts it now")


@schedulers.command()
@click.argument("name", callback=_name)
@as_json
@connected
def check(connection: Connection, name: str, machine: bool) -> None:
    """Contact a scheduler now, step by step, and say what was found.

    Exit code 1 when a step failed without which no run gets there.
    """
    item = connection.schedulers.post(f"/schedulers/{name}/check")
    if machine:
        dump(item)
    else:
        _show_check(item)
    if not item["reachable"]:
        raise click.exceptions.Exit(1)


@schedulers.command()
@click.argument("name", callback=_name)
@click.option("--force", is_flag=True, help="Also when runs are on it: they end with an error, whatever becomes of them there.")
@connected
def remove(connection: Connection, name: str, force: bool) -> None:
    """Take a scheduler out of the registry."""
    connection.schedulers.delete(f"/schedulers/{name}", {"force": "true"} if force else None)
    click.echo(f"{name} removed")


@schedulers.command("rotate-keys")
@as_json
@connected
def rotate_keys(connection: Connection, machine: bool) -> None:
    """Seal all kept credentials under the service's current key, so that the previous one can be thrown away.

    Exit code 1 when some cannot be opened with any key that is there.
    """
    item = connection.schedulers.post("/schedulers/credentials/reseal")
    if machine:
        dump(item)
    else:
        click.echo(f"key {item['key_id']}: {len(item['resealed'])} sealed anew, {len(item['current'])} were already")
        for name in item["unreadable"]:
            click.echo(f"{name}: no key opens its credentials; register it again", err=True)
    if item["unreadable"]:
        raise click.exceptions.Exit(1)


def _show_check(item: dict[str, Any]) -> None:
    """The steps as a list, each with what was found; what to do stands below those where there is something to do."""
    for step in item.get("steps") or []:
        time = f"  ({step['time_ms']:.0f} ms)" if step["outcome"] != "skipped" and step["time_ms"] >= 1 else ""
        line = Text.assemble((f"{step['outcome']:<8}", STEP_STYLES.get(step["outcome"], "")), (step["title"], "bold"), (time, "dim"))
        console().print(line)
        console().print(Padding(Text(step["explanation"]), (0, 0, 0, 8)))
        if step.get("advice"):
            console().print(Padding(Text(step["advice"], style="yellow"), (0, 0, 0, 8)))
    click.echo(f"{item['name']} can be used" if item["reachable"] else f"{item['name']} cannot be used: {item.get('detail', '')}")


def _content(path: Path | None, *, strip: bool = True) -> str:
    if path is None:
        return ""
    text = path.read_text()
    if not text.strip():
        raise click.UsageError(f"{path} is empty")
    return text.strip() if strip else text


def _address(item: dict[str, Any]) -> str:
    return f"{item['host']}:{item['port']}" if item.get("port") else str(item.get("host") or "")
