"""The rows of the jobs service in PostgreSQL: what a batch changes, written in the batch's transaction, and what requests read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import asyncpg
import msgspec

from jobledger_contracts import topics
from jobledger_contracts.ids import Position
from jobledger_kit.database import DATABASE_AWAY, Connection, Pool
from jobledger_kit.errors import Unavailable
from jobledger_kit.folds import FoldedBatch
from jobledger_kit.queries import load_queries
from jobledger_kit.store import LedgerStore

from .domain.rights import Viewer
from .listing import JobFilter, page_statement
from .node_projection import NodeCounts, NodeRow, RunKey, node_reports, node_row, project_nodes
from .projection import (
    CountRow,
    FoldedEvent,
    HistoryRow,
    JobRow,
    RowChanges,
    SchedulerRow,
    SearchRow,
    WaitingChanges,
    WaitingRow,
    project,
    project_schedulers,
    project_waiting,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CONSUMER: Final = "jobs"
"""The name under which this service's checkpoints and dead letters stand."""

HistoryOrder = Literal["newest", "oldest"]

READ_TIMEOUT_S: Final = 10.0


class Claimed(msgspec.Struct, frozen=True):
    """A run that somebody has leased in order to process its results. The attempt tells it from earlier leases."""

    job_id: str
    run: int
    attempt: int


class JobsStore(LedgerStore):
    """The read model. Reads raise Unavailable when the database is away."""

    schema = "jobs"
    package = "jobledger_jobs"
    projected = ("jobs", "job_groups", "job_nodes", "job_search", "job_counts", "history", "schedulers", "results_processing")
    uncompared: ClassVar[Mapping[str, tuple[str, ...]]] = {"results_processing": ("due_at",)}

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._queries = load_queries("jobledger_jobs", "queries.sql")

    # --- writing ---

    async def write(self, connection: Connection, batch: FoldedBatch) -> None:
        """Write what a batch changes. Rows come sorted by key, so that writers cannot deadlock."""
        jobs = [f for f in batch.folded if f.record.topic == topics.JOBS]
        await self._write_jobs(connection, project(jobs))
        await self._write_nodes(connection, jobs)
        await self._write_waiting(connection, project_waiting(jobs))
        schedulers = project_schedulers(f for f in batch.folded if f.record.topic == topics.SCHEDULERS)
        if schedulers:
            await connection.execute(self._queries["upsert_schedulers"], *_columns(SchedulerRow, schedulers))

    async def _write_jobs(self, connection: Connection, changes: RowChanges) -> None:
        if changes.history:
            await connection.execute(self._queries["insert_history"], *_columns(HistoryRow, changes.history))
        if changes.jobs:
            await connection.execute(self._queries["upsert_jobs"], *_columns(JobRow, changes.jobs))
        if changes.reshared:
            await connection.execute(self._queries["clear_shares"], changes.reshared)
            await connection.execute(self._queries["clear_search"], changes.reshared)
        if changes.searched:
            await connection.execute(self._queries["insert_search"], *_columns(SearchRow, changes.searched))
        if changes.counts:
            await connection.execute(self._queries["add_counts"], *_columns(CountRow, changes.counts))
        if changes.shares:
            await connection.execute(
                self._queries["insert_shares"],
                [share.job_id for share in changes.shares],
                [share.group_name for share in changes.shares],
                [share.creation_time for share in changes.shares],
            )

    async def _write_waiting(self, connection: Connection, changes: WaitingChanges) -> None:
        if changes.waiting:
            await connection.execute(self._queries["upsert_waiting"], *_columns(WaitingRow, changes.waiting))
        if changes.over:
            await connection.execute(self._queries["remove_waiting"], changes.over)

    async def _write_nodes(self, connection: Connection, folded: Sequence[FoldedEvent]) -> None:
        reports = node_reports(folded)
        if not reports:
            return
        named = sorted({(job_id, run, report.node) for (job_id, run), said in reports.items() for report, _ in said})
        known: dict[RunKey, dict[str, NodeRow]] = {}
        for record in await connection.fetch(self._queries["known_nodes"], *map(list, zip(*named, strict=True))):
            row = node_row({**record, "job_id": record["id"]})
            known.setdefault((row.job_id, row.run), {})[row.name] = row
        counted = {
            record["id"]: msgspec.json.decode(record["node_counts"], type=NodeCounts)
            for record in await connection.fetch(self._queries["known_counts"], sorted({job_id for job_id, _ in reports}))
        }
        changes = project_nodes(reports, known, counted)
        if changes.rows:
            await connection.execute(self._queries["upsert_nodes"], *_columns(NodeRow, changes.rows))
        counts = [msgspec.json.encode(count).decode() for count in changes.counts.values()]
        await connection.execute(self._queries["save_counts"], list(changes.counts), counts)

    # --- reading ---

    async def job(self, job_id: str) -> asyncpg.Record | None:
        """A job's row, also when it is deleted."""
        rows = await self._fetch("job", job_id)
        return rows[0] if rows else None

    async def jobs(self, job_ids: Sequence[str]) -> dict[str, asyncpg.Record]:
        """The rows of those of these jobs that there are, also of deleted ones."""
        return {row["id"]: row for row in await self._fetch("jobs", job_ids)}

    async def verdicts(self, positions: Sequence[Position]) -> dict[Position, asyncpg.Record]:
        """What the fold said of the events at these positions, where one was folded."""
        rows = await self._fetch("verdicts", [p.partition for p in positions], [p.offset for p in positions])
        return {Position(row["partition"], row["log_offset"]): row for row in rows}

    async def verdict(self, position: Position) -> asyncpg.Record | None:
        """What the fold said of the event at a position; None when no event was folded from there."""
        rows = await self._fetch("verdict", position.partition, position.offset)
        return rows[0] if rows else None

    async def first_verdict(self, job_id: str, source: str, event_id: str) -> asyncpg.Record | None:
        """What the fold said of an event when it came for the first time: later it is only a duplicate."""
        rows = await self._fetch("first_verdict", job_id, source, event_id)
        return rows[0] if rows else None

    async def page(
        self, viewer: Viewer, wanted: JobFilter, order_by: str, behind: Sequence[Any] | None, limit: int
    ) -> list[asyncpg.Record]:
        """At most `limit` jobs that the viewer may see, behind a keyset (None: from the first). See `listing.page_statement`."""
        statement, arguments = page_statement(viewer, wanted, order_by, behind, limit)
        with database_away():
            return await self.pool.fetch(statement, *arguments, timeout=READ_TIMEOUT_S)

    async def counts(self, kind: str, name: str, label: str | None) -> dict[str, int]:
        """How many jobs have which status: of everybody (kind `any`), of an owner or of a group; of one app, or (None) of all."""
        if kind == "any" and label is None:
            label = ""
        return {row["status"]: row["jobs"] for row in await self._fetch("counts", kind, name, label)}

    async def history(self, job_id: str, order: HistoryOrder, behind: int | None, limit: int) -> list[asyncpg.Record]:
        """At most `limit` of a job's events behind a sequence number (None: from the first)."""
        if behind is None:
            behind = (1 << 63) - 1 if order == "newest" else 0
        return await self._fetch(f"history_{order}", job_id, behind, limit)

    async def feed_of_partition(self, partition: int, start: int, end: int, limit: int) -> list[asyncpg.Record]:
        """At most `limit` events of a partition with start <= offset < end, in order, with their jobs' owner and groups."""
        return await self._fetch("feed_of_partition", partition, start, end, limit)

    async def feed_of_job(self, job_id: str, start: int, end: int, limit: int) -> list[asyncpg.Record]:
        """At most `limit` events of a job with start <= offset < end, in order, with its owner and groups."""
        return await self._fetch("feed_of_job", job_id, start, end, limit)

    async def nodes(self, job_id: str, run: int, statuses: Sequence[str] | None, behind: int, limit: int) -> list[asyncpg.Record]:
        """At most `limit` nodes of a run behind a number (-1: from the first)."""
        return await self._fetch("nodes", job_id, run, statuses, behind, limit)

    async def node_counts(self, job_id: str, run: int) -> dict[str, int]:
        """How many nodes of a run have each status; empty when nothing was reported of them."""
        return {row["status"]: row["count"] for row in await self._fetch("count_nodes", job_id, run)}

    # --- leases on results that wait ---

    async def claim_results(self, label: str, owner: str | None, job_id: str | None, limit: int, lease_s: float) -> list[Claimed]:
        """Lease at most `limit` runs of an app whose results wait. When the answer is lost, the leases run out."""
        rows = await self._fetch("claim_waiting", label, owner, limit, job_id, lease_s)
        return [Claimed(row["job_id"], row["run"], row["attempt"]) for row in sorted(rows, key=lambda row: str(row["job_id"]))]

    async def lease_results(self, claimed: Claimed, lease_s: float) -> bool:
        """Keep others away for so long. False: another attempt has begun, or nothing waits any more."""
        return bool(await self._fetch("lease_waiting", claimed.job_id, claimed.run, claimed.attempt, lease_s))

    async def return_results(self, claimed: Claimed) -> None:
        """Take back an attempt that nobody was told of."""
        await self._fetch("return_waiting", claimed.job_id, claimed.run, claimed.attempt)

    async def usable_schedulers(self) -> dict[str, str]:
        """The schedulers that a job may name: name -> type."""
        return {row["name"]: row["type"] for row in await self._fetch("usable_schedulers")}

    async def _fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        with database_away():
            return await self.pool.fetch(self._queries[query], *arguments, timeout=READ_TIMEOUT_S)


@contextmanager
def database_away() -> Iterator[None]:
    """Turn the errors of a database that is away into Unavailable. For reads: a write that was cut may have happened."""
    try:
        yield
    except DATABASE_AWAY as error:
        raise Unavailable(what="The database") from error


def _columns(struct: type[msgspec.Struct], rows: Sequence[msgspec.Struct]) -> list[list[Any]]:
    """One list a column, in the order of the struct's fields: what `unnest` takes."""
    return [list(column) for column in zip(*map(msgspec.structs.astuple, rows), strict=True)] or [[] for _ in struct.__struct_fields__]
