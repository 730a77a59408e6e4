"""From folded events to row changes, purely: the same log gives the same rows, whatever the batches were."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from jobledger_contracts.cluster import Cluster
from jobledger_contracts.envelope import Event, Record
from jobledger_contracts.verdicts import Verdict


class ClusterRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `clusters`: the last state of a cluster."""

    name: str
    version: int
    present: bool
    owner: str
    provider: str
    kind: str
    size: int
    desired: str
    status: str
    nodes: int
    status_message: str
    creation_time: datetime | None
    deletion_time: datetime | None


class HistoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `history`: one event, whatever its verdict."""

    partition: int
    log_offset: int
    name: str
    version: int
    event_id: str
    source: str
    type: str
    actor: str
    occurred_at: datetime
    recorded_at: datetime
    outcome: str
    reason: str
    data: str


def cluster_rows(states: Iterable[Cluster]) -> list[ClusterRow]:
    """The rows of clusters that a batch changed, by name."""
    rows = [
        ClusterRow(
            name=c.name,
            version=c.version,
            present=c.exists,
            owner=c.owner,
            provider=c.provider,
            kind=c.kind,
            size=c.size,
            desired=c.desired,
            status=c.status,
            nodes=c.nodes,
            status_message=c.status_message,
            creation_time=c.creation_time,
            deletion_time=c.deletion_time,
        )
        for c in states
        if c.exists or c.deleted
    ]
    return sorted(rows, key=lambda row: row.name)


def history_row(record: Record, event: Event, after: Cluster, verdict: Verdict) -> HistoryRow:
    """The row of one event."""
    return HistoryRow(
        partition=record.partition,
        log_offset=record.offset,
        name=event.key,
        version=after.version,
        event_id=event.id,
        source=event.source,
        type=event.type,
        actor=event.actor,
        occurred_at=event.time,
        recorded_at=record.recorded_at,
        outcome=verdict.outcome.value,
        reason=verdict.reason.value,
        data=event.raw_data.decode(errors="replace"),
    )
