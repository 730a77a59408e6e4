"""How jobs and histories look at the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.text import Text

from jobledger.cli.output import VERDICT_STYLES, console, duration, local, show_fields, show_table, status_text, width
from jobledger.condor_workflow import NodeView
from jobledger.views import HistoryEntry, JobView
from jobledger_contracts.job_events import Resources
from jobledger_contracts.statuses import ACTIVE, Status, parse_status


def job_table(views: Sequence[JobView]) -> None:
    """Jobs, one a line: at a terminal the name is what gets cut, and ids are as long as a command needs them."""
    whole = width() is None
    columns = (("id", "fixed"), ("name", "fill"), ("type", "fixed"), ("status", "fixed"), ("created", "fixed"), ("ran", "number"))
    rows = [
        (
            view.id if whole else view.id[:13],
            view.name if whole else view.name.replace(view.id, "…"),
            view.job_type.lower(),
            status_text(view.status if whole else view.status[:16], view.status_code),
            local(view.creation_time, seconds=False),
            duration(view.run_time_s),
        )
        for view in views
    ]
    show_table(columns, rows, nothing="no jobs")


def count_table(counts: Mapping[str, int], total: int) -> None:
    """How many jobs have which status."""
    rows = [(status_text(status, Status(status).code), number) for status, number in counts.items()]
    show_table((("status", "fixed"), ("jobs", "number")), [*rows, ("all", total)] if rows else [], nothing="no jobs")


def job_details(view: JobView, dashboard: str = "") -> None:
    """Everything about one job that is not empty; `dashboard` is where its scheduler's own pages show it."""
    times = (
        ("created", view.creation_time),
        ("asked to run", view.execute_time),
        ("started", view.start_time),
        ("ended", view.completion_time),
    )
    show_fields(
        [
            ("id", view.id),
            ("name", view.name),
            ("description", view.description),
            ("status", status_text(view.status, view.status_code)),
            ("desired", outstanding(view)),
            ("message", view.status_message),
            ("progress", None if view.progress is None else f"{view.progress:.0%}"),
            ("type", view.job_type),
            ("app", view.label),
            ("owner", view.user),
            ("groups", ", ".join(view.groups)),
            ("scheduler", " ".join(text for text in (view.scheduler, view.scheduler_job_ref) if text)),
            ("run", view.run or None),
            ("exit code", view.exit_code),
            ("exit signal", view.exit_signal),
            ("restarts", view.restarts or None),
            *((name, local(time)) for name, time in times),
            ("ran", duration(view.run_time_s)),
            *resources(view.resources),
            ("properties", _compact(view.extended_properties)),
            ("HTCondor", _compact(view.condor)),
            ("Dask", _compact(view.dask)),
            ("dashboard", dashboard),
            ("nodes", ", ".join(f"{count} {status}" for status, count in (view.node_counts or {}).items())),
            ("results", processing(view)),
            ("workspace", view.workspace),
            ("position", view.position),
        ]
    )


def processing(view: JobView) -> str:
    """What processes the job's results, and how far that is."""
    if not view.process_results_function or view.status_code != "RES":
        return view.process_results_function
    if view.processing:
        return f"{view.process_results_function}, attempt {view.processing_attempt} is under way"
    again = f"attempt {view.processing_attempt + 1} by " if view.processing_attempt else ""
    return f"{view.process_results_function}, waits for {again}a worker of {view.label}"


def resources(used: Resources | None) -> list[tuple[str, str]]:
    """What a run used of what it asked for, one line each; nothing of what its scheduler did not measure."""
    if used is None:
        return []
    cpu_s = None if used.cpu_user_s is None and used.cpu_system_s is None else (used.cpu_user_s or 0) + (used.cpu_system_s or 0)
    cores = f"{used.cpus_asked:g} cores asked" if used.cpus_asked is not None else ""
    return [
        ("CPU", ", ".join(text for text in (f"{cpu_s:.1f} s used" if cpu_s is not None else "", cores) if text)),
        ("memory", _used_of(used.memory_used_bytes, used.memory_asked_bytes)),
        ("disk", _used_of(used.disk_used_bytes, used.disk_asked_bytes)),
        ("GPUs", f"{used.gpus_asked:g} asked" if used.gpus_asked else ""),
        ("on machines", duration(used.wall_s)),
        ("hosts", ", ".join(used.hosts)),
    ]


def _used_of(used: int | None, asked: int | None) -> str:
    parts = (("used", used), ("asked", asked))
    return ", ".join(f"{value / 2**20:.0f} MiB {word}" for word, value in parts if value is not None)


def node_table(nodes: Sequence[NodeView]) -> None:
    """Nodes, one a line, in the workflow's order."""
    columns = (("node", "fixed"), ("status", "fixed"), ("tries", "number"), ("job", "fixed"), ("exit", "number"), ("says", "fill"))
    rows = [
        (
            node.name,
            status_text(node.status, node.status_code),
            node.restarts + 1 if node.scheduler_job_ref else "",
            node.scheduler_job_ref,
            node.exit_code if node.exit_signal is None else f"-{node.exit_signal}",
            node.message,
        )
        for node in nodes
    ]
    show_table(columns, rows, nothing="no nodes")


def nodes_said(nodes: Sequence[dict[str, Any]]) -> str:
    """What a report on nodes says, in a few words: the node, or how many have which status."""
    if len(nodes) == 1:
        return f"{nodes[0].get('node')} {nodes[0].get('status')}"
    counts = Counter(str(node.get("status")) for node in nodes)
    return ", ".join(f"{count} {status}" for status, count in counts.most_common())


def history_table(entries: Sequence[HistoryEntry]) -> None:
    """A history: where, when, who, what, and what the ledger made of it."""
    columns = (("position", "fixed"), ("recorded", "fixed"), ("who", "fill"), ("event", "fixed"), ("verdict", "fixed"), ("says", "fill"))
    rows = [
        (
            entry.position,
            local(entry.recorded_at)[11:],
            who(entry),
            entry.type,
            Text(verdict(entry), style=VERDICT_STYLES.get(entry.verdict, "")),
            says(entry),
        )
        for entry in entries
    ]
    if entries:
        console().print(f"{local(entries[0].recorded_at)[:10]}, {len(entries)} events", style="dim")
    show_table(columns, rows, nothing="no events")


def who(entry: HistoryEntry) -> str:
    """On whose behalf an event was said, short: a run by its number, everybody else by name."""
    kind, _, name = entry.actor.partition(":")
    if kind == "run":
        return f"run {name.rpartition('.')[2]}"
    return name or entry.source.removeprefix("/jobledger/")


def says(entry: HistoryEntry) -> str:
    """The point of an event's data, in a few words."""
    data = entry.data
    if status := data.get("status"):
        return " ".join(str(text) for text in (status, data.get("message") or "") if text)
    if nodes := data.get("nodes"):
        return nodes_said(nodes)
    if files := data.get("files"):
        return f"{len(files)} files"
    if attempt := data.get("attempt"):
        return " ".join(str(text) for text in (f"attempt {attempt}", data.get("error") or data.get("worker") or "") if text)
    return str(data.get("reason") or data.get("name") or "")


def verdict(entry: HistoryEntry) -> str:
    """The verdict, with its reason if it has one."""
    return f"{entry.verdict}: {entry.reason}" if entry.reason else entry.verdict


def outstanding(view: JobView) -> str:
    """What was asked of the run and is not so yet: run, pause or stop; empty when there is nothing to wait for."""
    code = parse_status(view.status_code)[0]
    if code not in ACTIVE or (view.desired == "pause" and code is Status.PAUSED) or (view.desired == "run" and code is not Status.PAUSED):
        return ""
    return view.desired


def change_line(view: JobView, asked: str = "") -> None:
    """One line for a job as it stands now; `asked` says what was just asked of it, else it is said what has not come about yet."""
    waiting = {"pause": "asked to pause", "stop": "asked to stop"}  # a pool may hold a run by itself: then nobody asked to resume it
    said = asked or waiting.get(outstanding(view), "")
    nodes = ", ".join(f"{count} {status}" for status, count in (view.node_counts or {}).items())
    progress = "" if view.progress is None else f"{view.progress:.0%}"
    more = [view.status_message, progress, duration(view.run_time_s), nodes and f"nodes: {nodes}"]
    line = Text.assemble(
        view.id, f" {said}; " if said else " ", status_text(view.status, view.status_code), *(f"  {text}" for text in more if text)
    )
    console().print(line, soft_wrap=True)


def _compact(value: Any) -> str:
    return msgspec.json.encode(value).decode() if value else ""
