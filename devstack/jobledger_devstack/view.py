"""How a stack looks at the terminal: the table of its parts, its addresses, one line per change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobledger_devstack.model import Endpoints, PartStatus, Phase, Snapshot

_STYLES = {Phase.READY: "green", Phase.FAILED: "bold red", Phase.RESTARTING: "yellow", Phase.STOPPED: "dim", Phase.WAITING: "dim"}


def table(snapshot: Snapshot, now: datetime) -> Table:
    """The parts: what they are doing, where, and since when."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (
        ("part", "left"),
        ("phase", "left"),
        ("pid", "right"),
        ("port", "right"),
        ("restarts", "right"),
        ("for", "right"),
        ("", "left"),
    ):
        grid.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=heading != "")
    for part in snapshot.parts:
        grid.add_row(
            part.name,
            Text(part.phase, style=_STYLES.get(part.phase, "cyan")),
            str(part.pid or ""),
            str(part.port or ""),
            str(part.restarts or "") if part.service else "",
            duration((now - part.since).total_seconds()),
            Text(_doing(part), style="dim"),
        )
    return grid


def _doing(part: PartStatus) -> str:
    percent = f" {part.percent} %" if part.percent is not None else ""
    return f"{part.message}{percent}"


def duration(seconds: float) -> str:
    """`4 s`, `12 min`, `3 h 5 min`, `2 d 1 h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours == 0:
        return f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def addresses(endpoints: Endpoints) -> Text:
    """Where the parts answer. The database's password stays out of sight: it is in endpoints.json, for this account only."""
    rows = {
        "jobs": endpoints.jobs_url and f"{endpoints.jobs_url}/jobs",
        "schedulers": endpoints.schedulers_url and f"{endpoints.schedulers_url}/schedulers",
        "clusters": endpoints.clusters_url and f"{endpoints.clusters_url}/clusters",
        "Kafka": endpoints.kafka_bootstrap,
        "PostgreSQL": _without_password(endpoints.database_url),
        "HTCondor": endpoints.collector and f"{endpoints.collector} (schedd {endpoints.schedd_name})",
        "Dask": endpoints.dask_address and f"{endpoints.dask_address}, {endpoints.dask_dashboard}",
        "jobs' Python": endpoints.jobs_python,
        "admin key": endpoints.admin_key_file if endpoints.jobs_url else "",
        "data": endpoints.home,
    }
    return Text("\n").join(Text.assemble((f"{name:<14}", "bold"), value) for name, value in rows.items() if value)


def _without_password(url: str) -> str:
    before, at, after = url.rpartition("@")
    scheme, slashes, account = before.partition("://")
    return f"{scheme}{slashes}{account.partition(':')[0]}{at}{after}"


class Progress:
    """Shows a start as it goes: a live table on a terminal, a line per change elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._last: dict[str, tuple[Phase, str]] = {}

    def __enter__(self) -> Callable[[Snapshot], None]:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=8)
            self._live.start()
            return self._draw
        return self._print_changes

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def _draw(self, snapshot: Snapshot) -> None:
        if self._live is not None:
            self._live.update(table(snapshot, datetime.now(UTC)))

    def _print_changes(self, snapshot: Snapshot) -> None:
        for part in snapshot.parts:
            # Counting percents line by line helps nobody.
            message = "" if part.percent is not None else part.message
            if self._last.get(part.name) != (part.phase, message):
                self._last[part.name] = (part.phase, message)
                said = f"{part.name}: {part.phase} {part.message}".rstrip()
                self._console.print(said, highlight=False, markup=False)
