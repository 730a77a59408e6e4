"""The shapes of requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import asyncpg
import msgspec
from msgspec import Meta

from jobledger_kit.http import Input
from jobledger_kit.pagination import DEFAULT_LIMIT, MAX_LIMIT

Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster: what is wanted of it, and what was seen."""

    name: str
    owner: str
    provider: str
    kind: str  #: what it offers when it is ready: condor or dask
    size: int  #: worker nodes that are wanted
    desired: str  #: run or terminate
    status: str  #: Starting, Running, Updating, Stopped, Error or Deleted
    nodes: int  #: worker nodes that were seen
    status_message: str
    creation_time: datetime | None
    deletion_time: datetime | None


class ClusterPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of clusters. `next_cursor` is absent on the last page."""

    items: list[ClusterView]
    next_cursor: str | None = None


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One event about a cluster, and what the fold said of it."""

    position: str
    version: int
    event_id: str
    source: str
    type: str
    actor: str
    occurred_at: datetime
    recorded_at: datetime
    verdict: str
    reason: str
    data: Any


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a history. `next_cursor` is absent on the last page."""

    items: list[HistoryEntry]
    next_cursor: str | None = None


class PageQuery(Input, frozen=True, kw_only=True):
    """Which page."""

    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


class ClusterQuery(Input, frozen=True, kw_only=True):
    """How fresh."""

    after: Annotated[str, Meta(max_length=40, description="a position: the answer shows at least that")] | None = None


def cluster_view(row: asyncpg.Record) -> ClusterView:
    """Show a cluster."""
    return ClusterView(**{name: row[name] for name in ClusterView.__struct_fields__})


def history_entry(row: asyncpg.Record) -> HistoryEntry:
    """Show an event."""
    return HistoryEntry(
        position=f"{row['partition']}:{row['log_offset']}",
        version=row["version"],
        event_id=row["event_id"],
        source=row["source"],
        type=row["type"],
        actor=row["actor"],
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        verdict=row["outcome"],
        reason=row["reason"],
        data=msgspec.Raw(row["data"].encode()),
    )
