"""`jobledger jobs create-many` and `jobledger jobs act`: many jobs in one request."""

from __future__ import annotations

import uuid
from typing import IO, Any

import click
import msgspec

from jobledger.bulk import MAX_AT_ONCE
from jobledger.cli.filters import filter_options, filter_query
from jobledger.cli.output import as_json, connected, dump
from jobledger.connection import Connection

ACTIONS = ("execute", "stop", "pause", "resume", "resubmit", "refresh", "delete")
SOME_REFUSED = 8
"""Exit code when some of the jobs refused."""


@click.command("create-many")
@click.argument("file", type=click.File("rb"))
@click.option("--execute", is_flag=True, help="Ask for the first run of each.")
@click.option("--key", help="An idempotency key: with the same key and file, nothing is created twice.")
@as_json
@connected
def create_many(connection: Connection, file: IO[bytes], execute: bool, key: str | None, machine: bool) -> None:
    """Create the jobs of FILE (- for standard input): one JSON object a line, as the body of `POST /jobs`.

    Exit code 8 when some could not be created; the others are.
    """
    bodies = []
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                bodies.append(msgspec.json.decode(line, type=dict[str, Any]))
            except msgspec.MsgspecError as error:
                raise click.UsageError(f"line {number} is not a JSON object: {error}") from error
    key = key or str(uuid.uuid4())
    items: list[dict[str, Any]] = []
    for start in range(0, len(bodies), MAX_AT_ONCE):
        body = {"jobs": bodies[start : start + MAX_AT_ONCE], "execute": execute}
        items += connection.jobs.post("/jobs/bulk", body, idempotency_key=f"{key}/{start}")["items"]
    _say(items, machine, "created")


@click.command()
@click.argument("action", type=click.Choice(ACTIONS))
@filter_options
@click.option(
    "--limit", "-n", type=click.IntRange(1, MAX_AT_ONCE), default=MAX_AT_ONCE, show_default=True, help="At most so many, the oldest."
)
@click.option("--reason", default="", help="Why; it stands in each job's history.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
@as_json
@connected
def act(connection: Connection, action: str, limit: int, reason: str, yes: bool, machine: bool, **filters: Any) -> None:
    """Do ACTION with all of your jobs that the options choose (an administrator's: all jobs).

    Exit code 8 when some refused.
    """
    query = filter_query(filters)
    if "extended_properties" in query:
        query["extended_properties"] = msgspec.json.decode(query["extended_properties"])
    if not yes:
        chosen = ", ".join(f"{name} {value}" for name, value in query.items()) or "no restriction at all"
        click.confirm(f"{action} up to {limit} jobs with {chosen}?", abort=True, err=True)
    body = {"action": action, "filter": query, "limit": limit, "reason": reason}
    answer = connection.jobs.post("/jobs/bulk/actions", body, idempotency_key=str(uuid.uuid4()))
    _say(answer["items"], machine, f"asked to {action}", more=answer["more"])


def _say(items: list[dict[str, Any]], machine: bool, what: str, *, more: bool = False) -> None:
    failed = [(n, item) for n, item in enumerate(items, start=1) if item["status"] >= 400]
    if machine:
        dump(items)
    else:
        click.echo(f"{len(items) - len(failed)} jobs {what}{'; there are more' if more else ''}")
        for n, item in failed:
            click.echo(f"{item.get('id') or f'job {n}'}: {item.get('detail') or item['status']}", err=True)
    if failed:
        raise click.exceptions.Exit(SOME_REFUSED)
