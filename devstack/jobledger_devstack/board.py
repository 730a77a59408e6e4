"""What is known of every part, kept on disk for whoever asks: `status`, `up`'s progress, the next `up`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from jobledger_devstack.files import write_atomically
from jobledger_devstack.layout import Layout
from jobledger_devstack.model import PartStatus, Phase, Snapshot
from jobledger_devstack.part import Part


def read_snapshot(layout: Layout) -> Snapshot:
    """The last snapshot that a supervisor wrote; an empty one when there was none or it cannot be read any more."""
    try:
        return msgspec.json.decode(layout.state.read_bytes(), type=Snapshot)
    except (FileNotFoundError, msgspec.MsgspecError):
        return Snapshot(running=False)


class Board:
    """The supervisor's side of it. Every change is written at once."""

    def __init__(self, layout: Layout, pid: int, started: float) -> None:
        self._layout = layout
        self._parts: dict[str, Part] = {}
        self._rows: dict[str, PartStatus] = {}
        self._snapshot = Snapshot(running=True, supervisor_pid=pid, supervisor_started=started)
        self._write()

    def show(self, parts: list[Part]) -> None:
        """From now on there are these parts."""
        now = datetime.now(UTC)
        self._parts = {part.name: part for part in parts}
        self._rows = {part.name: PartStatus(name=part.name, phase=Phase.WAITING, since=now, service=not part.once) for part in parts}
        self._write()

    @property
    def names(self) -> set[str]:
        """The parts shown."""
        return set(self._rows)

    def phase(self, name: str) -> Phase:
        """Where a part is."""
        return self._rows[name].phase

    def update(self, name: str, phase: Phase | None = None, **changes: Any) -> None:
        """Change a row; a new phase starts its clock and clears message and percent unless they are given."""
        row = self._rows[name]
        if phase is not None and phase is not row.phase:
            changes = {"phase": phase, "since": datetime.now(UTC), "message": "", "percent": None, **changes}
        changes["port"] = self._parts[name].port
        changed = msgspec.structs.replace(row, **changes)
        if changed != row:
            self._rows[name] = changed
            self._write()

    def fail(self, name: str, reason: str, log: str) -> None:
        """Note the part for which the whole start is given up."""
        self._snapshot = msgspec.structs.replace(self._snapshot, failure=name, failure_reason=reason, failure_log=log)
        self._write()

    def complete(self) -> None:
        """Everything was ready and the addresses are written."""
        self._snapshot = msgspec.structs.replace(self._snapshot, complete=True)
        self._write()

    def gone(self) -> None:
        """The last word: nothing runs any more."""
        self._snapshot = msgspec.structs.replace(self._snapshot, running=False)
        self._write()

    def _write(self) -> None:
        snapshot = msgspec.structs.replace(self._snapshot, parts=list(self._rows.values()))
        write_atomically(self._layout.state, msgspec.json.encode(snapshot), mode=0o600)
