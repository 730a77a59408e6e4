"""What this service says of runs: the events, with ids that are the same whenever the same is said again.

A crash between saying something and remembering that it was said leads to saying it again; the fold then finds the id among the
latest and calls it a duplicate. So an id is made of the run and of all that makes a report different from the run's others: a count of
the reports before it (a run may be suspended and go on many times within one execution), and what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any

import msgspec

from jobledger_contracts.envelope import Event, new_event
from jobledger_contracts.ids import derived_id
from jobledger_contracts.job_events import NodeReport, NodeStatusChanged, ResultFile, ResultsCollected, StatusChanged
from jobledger_contracts.statuses import Status

from .nodes import Told
from .runs import Run, Seen

ACTOR = "service:schedulers"
HEALTH_SOURCE = "/jobledger/schedulers"
FILES_BYTES = 600_000  #: of the files' names and digests in one event, below what one record may hold
NODES_AT_ONCE = 500  #: nodes in one event: some 60 kB, which a feed can hand on whole
MESSAGE_CHARS = 2000
EVIDENCE_BYTES = 32_768
EVIDENCE_DEPTH = 8
LARGEST_INTEGER = 2**53


def source_of(scheduler: str) -> str:
    """Who says it, when it is about a run on that scheduler."""
    return f"{HEALTH_SOURCE}/{scheduler}"


def submitted(run: Run, ref: str, now: datetime) -> Event:
    """The scheduler has the run."""
    data = StatusChanged(job_id=run.job_id, status=Status.SUBMITTED, run=run.run, restarts=0, scheduler_job_ref=ref)
    return _event(run, data, derived_id("submitted", run.run_id), now)


def changed(run: Run, seen: Seen, now: datetime, evidence: Mapping[str, Any] | None = None) -> Event:
    """A look showed something new."""
    what = derived_id("seen", msgspec.json.encode(seen).decode())
    return _event(run, _status_changed(run, seen, evidence), derived_id("observed", run.run_id, str(run.reports), what), now)


def ended(run: Run, seen: Seen, now: datetime, evidence: Mapping[str, Any] | None = None) -> Event:
    """The run is over. One id for each run: whatever may be said of its end, only the first counts."""
    return _event(run, _status_changed(run, seen, evidence), derived_id("ended", run.run_id), now)


def never_placed(run: Run, status: Status, message: str, now: datetime) -> Event:
    """The run is over before any scheduler had it: refused, or stopped in time."""
    data = StatusChanged(job_id=run.job_id, status=status, run=run.run, message=shortened(message))
    return _event(run, data, derived_id("ended", run.run_id), now)


def noted(run: Run, effect_key: str, message: str, now: datetime) -> Event:
    """What was asked of a run could not be done; its status stays as it was last seen."""
    seen = run.seen or Seen(ref=run.ref)
    data = _status_changed(run, msgspec.structs.replace(seen, message=message), None)
    return _event(run, data, derived_id("noted", effect_key), now)


def collected(run: Run, files: Sequence[ResultFile], missing: Sequence[str], now: datetime) -> list[Event]:
    """The run's output is in the workspace; in several events when one cannot name all of it."""
    events = []
    for number, part in enumerate(_parts(files)):
        data = ResultsCollected(job_id=run.job_id, run=run.run, files=part, missing=list(missing) if number == 0 else [])
        events.append(_event(run, data, derived_id("collected", run.run_id, str(number)), now))
    return events


def nodes_changed(run: Run, fresh: Sequence[tuple[NodeReport, Told]], now: datetime) -> list[Event]:
    """What is new of a workflow's nodes. How often each was told of makes a report that says the same once more another one."""
    events = []
    for start in range(0, len(fresh), NODES_AT_ONCE):
        part = fresh[start : start + NODES_AT_ONCE]
        nodes = [
            msgspec.structs.replace(report, message=None if report.message is None else shortened(report.message)) for report, _ in part
        ]
        what = derived_id("nodes", *(f"{told.told}:{msgspec.json.encode(report).decode()}" for report, told in part))
        data = NodeStatusChanged(job_id=run.job_id, run=run.run, nodes=nodes)
        events.append(_event(run, data, derived_id("nodes", run.run_id, what), now))
    return events


def shortened(message: str) -> str:
    """Keep a message to what people read; a scheduler's own words may be pages."""
    message = _text(message)
    return message if len(message) <= MESSAGE_CHARS else message[: MESSAGE_CHARS - 1] + "…"


def _status_changed(run: Run, seen: Seen, evidence: Mapping[str, Any] | None) -> StatusChanged:
    said_before = bool(run.seen and run.seen.message)
    return StatusChanged(
        job_id=run.job_id,
        status=seen.status,
        run=run.run,
        restarts=seen.restarts,
        message=shortened(seen.message) if seen.message or said_before else None,  # else the run's own words stay
        progress=seen.progress,
        scheduler_job_ref=seen.ref or run.ref or None,
        exit_code=seen.exit_code,
        exit_signal=seen.exit_signal,
        evidence=fit(evidence or {}),
        resources=seen.resources,
    )


def fit(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Keep evidence to what every reader of the log can hold: see `jobledger_contracts.json_text`, and not more than one wants to read."""
    fitted = {_text(name): _fit(value, EVIDENCE_DEPTH) for name, value in evidence.items()}
    size = len(msgspec.json.encode(fitted))
    return fitted if size <= EVIDENCE_BYTES else {"omitted": f"{size} bytes"}


def _fit(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= LARGEST_INTEGER else str(value)
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if depth and isinstance(value, Mapping):
        return {_text(str(name)): _fit(member, depth - 1) for name, member in value.items()}
    if depth and isinstance(value, (list, tuple)):
        return [_fit(member, depth - 1) for member in value]
    return _text(repr(value)[:200])


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "")


def _event(run: Run, data: StatusChanged | NodeStatusChanged | ResultsCollected, event_id: str, now: datetime) -> Event:
    """The time never goes back within a run: with an earlier time than the last one's, a report would be taken for a late one."""
    time = max(now, run.reported_at) if run.reported_at else now
    return new_event(
        data,
        id=event_id,
        source=source_of(run.scheduler),
        time=time,
        actor=ACTOR,
        correlation_id=run.correlation_id,
        causation_id=run.causation_id,
        traceparent=run.traceparent,
    )


def _parts(files: Sequence[ResultFile]) -> Iterator[list[ResultFile]]:
    part: list[ResultFile] = []
    size = 0
    for file in files:
        own = len(file.path.encode()) + 120
        if part and size + own > FILES_BYTES:
            yield part
            part, size = [], 0
        part.append(file)
        size += own
    yield part
