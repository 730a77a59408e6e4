"""Which runs wait for their input files, and which of them wait for nothing: what tells a slow hand-over from half a one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from jobledger_schedulers.adapters.htcondor.command import SUBMITTER_ATTRIBUTE
from jobledger_schedulers.adapters.htcondor.parse import run_of, waiting_for_files

SETTLING_S = 60.0
"""How long after an upload of ours the schedd may still say that it waits for it."""
WATCHED_S = 10.0
"""How long we watch a run of ours wait for files that we do not send, before we are sure that nobody does: the schedd may be slow."""
OTHERS_PATIENCE_S = 300.0
"""How long after its submission a run of another instance of us may wait for its files, by the access point's clock."""


class Waiting(msgspec.Struct, frozen=True):
    """What a look says of runs whose files have not arrived."""

    orphans: dict[int, str]  #: condor cluster id -> run id: nobody will send its files any more
    uncertain: list[str]  #: runs of which that cannot be told yet


class Uploads:
    """What this adapter sends, and since when it sees runs wait for files that it does not send."""

    def __init__(self) -> None:
        self._busy: dict[str, float] = {}  #: run id -> until when (monotonic) a missing upload is nothing strange
        self._watched: dict[int, float] = {}  #: condor cluster id -> since when (monotonic) we see it wait for files

    def begin(self, runs: Iterable[str]) -> None:
        """These are being handed over from now on."""
        self._busy.update(dict.fromkeys(runs, float("inf")))

    def sent(self, run: str) -> None:
        """The files of this one are there; the schedd may notice that late."""
        self._busy[run] = time.monotonic() + SETTLING_S

    def end(self, runs: Iterable[str]) -> None:
        """The hand-over is over, however it went: what was not sent will not be."""
        for run in runs:
            if self._busy.get(run) == float("inf"):
                del self._busy[run]

    def look(self, rows: Sequence[dict[str, Any]], submitter: str) -> Waiting:
        """Judge these ads. `submitter` marks what this instance of us handed over."""
        now = time.monotonic()
        self._busy = {run: until for run, until in self._busy.items() if until > now}
        waiting = waiting_for_files(rows, self._busy)
        if not waiting:
            self._watched.clear()
        orphans: dict[int, str] = {}
        for row in waiting:
            cluster = row["ClusterId"]
            since = self._watched.setdefault(cluster, now)
            age_s = row.get("ServerTime", 0) - row.get("QDate", 0)
            ours = row.get(SUBMITTER_ATTRIBUTE) == submitter
            if now - since >= WATCHED_S if ours else age_s > OTHERS_PATIENCE_S:
                orphans[cluster] = run_of(row)
        return Waiting(orphans, sorted({run_of(row) for row in waiting} - set(orphans.values())))

    def removed(self, clusters: Iterable[int]) -> None:
        """These have left the queue."""
        for cluster in clusters:
            self._watched.pop(cluster, None)
