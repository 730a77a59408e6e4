"""`jobledger pool ...`: looks at HTCondor pools and Dask schedulers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from rich.text import Text

from jobledger.cli.output import as_json, connected, dump, local, show_table, size
from jobledger.compute import Scheduler, get_scheduler
from jobledger.connection import Connection
from jobledger.errors import NotFound

LEFT = {3: "removed", 4: "completed"}
SLOT_STYLES = {"Unclaimed": "green", "Claimed": "bold cyan", "Owner": "yellow", "Drained": "yellow"}
HISTORY = ("ClusterId", "ProcId", "Owner", "JobStatus", "ExitCode", "ExitSignal", "CompletionDate", "Cmd")


@click.group()
def pool() -> None:
    """What happens in HTCondor pools and on Dask schedulers; nothing is changed."""


limited = click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Rows, at most.")


@pool.command()
@click.argument("name")
@as_json
@connected
def status(connection: Connection, name: str, machine: bool) -> None:
    """Who is there: a pool's daemons, or a Dask scheduler's workers."""
    scheduler = _scheduler(connection, name)
    if scheduler.type == "dask":
        _workers(scheduler, machine)
        return
    found = scheduler.daemons()
    if machine:
        dump(found)
        return
    rows = [(daemon.type, daemon.name, daemon.version, local(daemon.heard_time, seconds=False)) for daemon in found]
    show_table((("daemon", "fixed"), ("name", "fill"), ("version", "fixed"), ("heard of", "fixed")), rows, nothing="no daemons")


@pool.command()
@click.argument("name")
@as_json
@connected
def queue(connection: Connection, name: str, machine: bool) -> None:
    """What waits and runs: an access point's jobs by user, or a Dask scheduler's tasks by name."""
    scheduler = _scheduler(connection, name)
    if scheduler.type == "dask":
        _tasks(scheduler, machine)
        return
    found = scheduler.queue()
    if machine:
        dump(found)
        return
    names = ("total", "idle", "running", "held", "completed", "suspended", "other")
    rows: list[tuple[Any, ...]] = [(line.user, *(getattr(line, status) for status in names)) for line in found.users]
    show_table((("user", "fill"), *((status, "number") for status in names)), rows, nothing="no jobs")
    _say_truncated(found.truncated)


@pool.command()
@click.argument("name")
@click.option("--all", "each", is_flag=True, help="Name each slot.")
@limited
@as_json
@connected
def slots(connection: Connection, name: str, each: bool, limit: int, machine: bool) -> None:
    """A pool's slots by state."""
    found = _scheduler(connection, name).slots(limit)
    if machine:
        dump(found)
        return
    rows = [
        (_state(group.state), group.activity, group.slots, group.cpus, size(group.memory_mb * 2**20), group.gpus) for group in found.groups
    ]
    columns = (("state", "fixed"), ("activity", "fixed"), ("slots", "number"), ("cpus", "number"), ("memory", "number"), ("gpus", "number"))
    show_table(columns, rows, nothing="no slots")
    if each:
        lines = [
            (slot.name, _state(slot.state), slot.activity, slot.cpus, size(slot.memory_mb * 2**20), slot.remote_owner)
            for slot in found.items
        ]
        show_table(
            (("slot", "fill"), ("state", "fixed"), ("activity", "fixed"), ("cpus", "number"), ("memory", "number"), ("user", "fixed")),
            lines,
            nothing="no slots",
        )
        _say_truncated(found.truncated)


@pool.command()
@click.argument("name")
@click.option("--constraint", default="", help="A ClassAd expression, such as 'Owner == \"ada\"'.")
@click.option("--attributes", default="", help="Names of attributes to print as JSON, with commas between.")
@limited
@as_json
@connected
def history(connection: Connection, name: str, constraint: str, attributes: str, limit: int, machine: bool) -> None:
    """Jobs that have left the queue, latest first. Administrators only."""
    wanted = [word.strip() for word in attributes.split(",") if word.strip()]
    found = _scheduler(connection, name).history(constraint, wanted or HISTORY, limit)
    if machine or wanted:
        dump(found)
        return
    rows = [
        (
            f"{ad.get('ClusterId')}.{ad.get('ProcId')}",
            ad.get("Owner"),
            LEFT.get(ad.get("JobStatus") or 0, ""),
            _ending(ad),
            local(_time(ad.get("CompletionDate"))),
            str(ad.get("Cmd") or "").rpartition("/")[2],
        )
        for ad in found
    ]
    show_table(
        (("job", "fixed"), ("owner", "fixed"), ("status", "fixed"), ("exit", "number"), ("completed", "fixed"), ("command", "fill")),
        rows,
        nothing="no jobs",
    )
    _say_truncated(found.truncated)


@pool.command()
@click.argument("name")
@as_json
@connected
def priorities(connection: Connection, name: str, machine: bool) -> None:
    """Users' priorities in a pool; the smaller the better."""
    found = _scheduler(connection, name).priorities()
    if machine:
        dump(found)
        return
    rows = [
        (item.name, f"{item.effective_priority:.2f}", f"{item.factor:g}", f"{item.slots_in_use:g}", f"{item.usage_h:.2f}") for item in found
    ]
    columns = (("user", "fill"), ("priority", "number"), ("factor", "number"), ("slots in use", "number"), ("hours used", "number"))
    show_table(columns, rows, nothing="nobody has used the pool yet")


def _workers(scheduler: Scheduler, machine: bool) -> None:
    found = scheduler.workers()
    if machine:
        dump(found)
        return
    rows = [
        (
            worker.name,
            worker.status,
            worker.threads,
            f"{worker.cpu_percent:.0f} %",
            f"{size(worker.memory_bytes)} of {size(worker.memory_limit_bytes)}" if worker.memory_limit_bytes else size(worker.memory_bytes),
            worker.executing,
            worker.tasks,
        )
        for worker in found.items
    ]
    show_table(
        (
            ("worker", "fill"),
            ("status", "fixed"),
            ("threads", "number"),
            ("cpu", "number"),
            ("memory", "number"),
            ("executing", "number"),
            ("tasks", "number"),
        ),
        rows,
        nothing="no workers",
    )
    _say_truncated(found.truncated)


def _tasks(scheduler: Scheduler, machine: bool) -> None:
    found = scheduler.tasks()
    if machine:
        dump(found)
        return
    names = ("waiting", "processing", "memory", "erred", "released")
    rows: list[tuple[Any, ...]] = [(line.prefix, *(getattr(line, state) for state in names)) for line in found.items]
    show_table((("task", "fill"), *((state, "number") for state in names)), rows, nothing="no tasks")
    _say_truncated(found.truncated)


def _scheduler(connection: Connection, name: str) -> Scheduler:
    scheduler = get_scheduler(name, connection=connection)
    if scheduler is None:
        raise NotFound(404, {"title": "not found", "detail": f"there is no scheduler named {name}"})
    return scheduler


def _state(state: str) -> Text:
    return Text(state, style=SLOT_STYLES.get(state, ""))


def _ending(ad: dict[str, Any]) -> str:
    signal = ad.get("ExitSignal")
    code = ad.get("ExitCode")
    return f"signal {signal}" if signal else "" if code is None else str(code)


def _time(seconds: Any) -> datetime | None:
    """HTCondor's seconds since 1970; 0 is never."""
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int) and 0 < seconds < 1 << 34 else None


def _say_truncated(truncated: bool) -> None:
    if truncated:
        click.echo("... and more")
