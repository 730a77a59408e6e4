"""This service's rows in PostgreSQL: what a batch changes, written in the batch's transaction, and what requests read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

import asyncpg
import msgspec

from jobledger_contracts.topics import CLUSTERS
from jobledger_kit.database import DATABASE_AWAY, Connection, Pool
from jobledger_kit.errors import Unavailable
from jobledger_kit.folds import FoldedBatch
from jobledger_kit.queries import load_queries
from jobledger_kit.store import LedgerStore

from .projection import ClusterRow, HistoryRow, cluster_rows, history_row

CONSUMER: Final = "provisioner"
"""The name under which this service's checkpoints and dead letters stand."""


class ProvisionerStore(LedgerStore):
    """The schema `provisioner`. Reads raise Unavailable when the database is away."""

    schema: ClassVar[str] = "provisioner"
    package: ClassVar[str | None] = "jobledger_provisioner"

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._queries = load_queries("jobledger_provisioner", "queries.sql")

    async def write(self, connection: Connection, batch: FoldedBatch) -> None:
        """Write what a batch changes. Rows come sorted by name, so that writers cannot deadlock."""
        if history := [history_row(f.record, f.event, f.after, f.verdict) for f in batch.folded]:
            await connection.execute(self._queries["insert_history"], *_columns(HistoryRow, history))
        if rows := cluster_rows(state for (topic, _), state in batch.states.items() if topic == CLUSTERS):
            await connection.execute(self._queries["upsert_clusters"], *_columns(ClusterRow, rows))

    async def page(self, *, after: str, owner: str | None, limit: int) -> list[asyncpg.Record]:
        """Clusters that are there, by name; of one owner, or all (None)."""
        return await self._read("page", after, owner, limit)

    async def cluster(self, name: str) -> asyncpg.Record | None:
        """One cluster, gone ones as well."""
        rows = await self._read("cluster", name)
        return rows[0] if rows else None

    async def history(self, name: str, *, after_version: int, limit: int) -> list[asyncpg.Record]:
        """The events of a cluster, oldest first."""
        return await self._read("history", name, after_version, limit)

    async def _read(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        try:
            return await self.pool.fetch(self._queries[query], *arguments, timeout=10)
        except DATABASE_AWAY as error:
            raise Unavailable(what="The database") from error


def _columns(struct: type[msgspec.Struct], rows: Sequence[msgspec.Struct]) -> list[list[str | int | bool | datetime | None]]:
    """Rows as one list per column, in the order of the struct's fields: what `unnest` takes."""
    return [[getattr(row, name) for row in rows] for name in struct.__struct_fields__]
