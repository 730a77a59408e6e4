"""HTTP in and out: clusters and their history. Errors become problem details in the kit's application."""

from __future__ import annotations

import re
from typing import Final

import asyncpg
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_contracts.ids import Position
from jobledger_contracts.topics import CLUSTERS
from jobledger_kit.errors import FieldError, InvalidRequest, NotFound, Unavailable
from jobledger_kit.http import json_response, operation, principal_of, read_query
from jobledger_kit.pagination import cut_page, decode_cursor
from jobledger_kit.positions import Positions

from .store import ProvisionerStore
from .views import (
    ClusterPage,
    ClusterQuery,
    ClusterView,
    HistoryPage,
    PageQuery,
    cluster_view,
    history_entry,
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_NO_CURSOR: Final = FieldError("?cursor", "this is no cursor of this list")


class ClusterRoutes:
    """The endpoints on clusters. Whoever is neither owner nor administrator gets 404."""

    def __init__(self, *, store: ProvisionerStore, positions: Positions, wait_s: float) -> None:
        self._store, self._positions, self._wait_s = store, positions, wait_s

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/clusters", self.list_clusters, methods=["GET"]),
            Route("/clusters/{name}", self.get_cluster, methods=["GET"]),
            Route("/clusters/{name}/history", self.history, methods=["GET"]),
        ]

    @operation("List clusters", query=PageQuery, response=ClusterPage, errors=(InvalidRequest, Unavailable), tag="clusters")
    async def list_clusters(self, request: Request) -> Response:
        query, principal = read_query(request, PageQuery), principal_of(request)
        (after,) = decode_cursor(query.cursor, tuple[str]) if query.cursor is not None else ("",)
        if after and not _NAME.match(after):
            raise InvalidRequest(errors=[_NO_CURSOR])
        rows = await self._store.page(after=after, owner=None if principal.admin else principal.name, limit=query.limit + 1)
        page, cursor = cut_page(rows, query.limit, lambda row: (row["name"],))
        return json_response(ClusterPage(items=[cluster_view(row) for row in page], next_cursor=cursor))

    @operation("Show a cluster", query=ClusterQuery, response=ClusterView, errors=(NotFound, Unavailable), tag="clusters")
    async def get_cluster(self, request: Request) -> Response:
        if after := read_query(request, ClusterQuery).after:
            await self._wait_for(after)
        return json_response(cluster_view(await self._visible(request)))

    @operation(
        "Show a cluster's history", query=PageQuery, response=HistoryPage, errors=(InvalidRequest, NotFound, Unavailable), tag="clusters"
    )
    async def history(self, request: Request) -> Response:
        query = read_query(request, PageQuery)
        row = await self._visible(request)
        (after,) = decode_cursor(query.cursor, tuple[int]) if query.cursor is not None else (0,)
        if not 0 <= after < 1 << 63:
            raise InvalidRequest(errors=[_NO_CURSOR])
        rows = await self._store.history(row["name"], after_version=after, limit=query.limit + 1)
        page, cursor = cut_page(rows, query.limit, lambda entry: (entry["version"],))
        return json_response(HistoryPage(items=[history_entry(entry) for entry in page], next_cursor=cursor))

    async def _visible(self, request: Request) -> asyncpg.Record:
        """The cluster that the path names. Raises NotFound when there is none that the caller may see."""
        name: str = request.path_params["name"]
        row = await self._store.cluster(name) if _NAME.match(name) else None
        if row is None or not principal_of(request).may_see(row["owner"]):
            raise NotFound("cluster", name)
        return row

    async def _wait_for(self, text: str) -> None:
        try:
            position = Position.parse(text)
        except ValueError as error:
            raise InvalidRequest(errors=[FieldError("?after", str(error))]) from None
        if not await self._positions.wait(CLUSTERS, position, self._wait_s):
            raise Unavailable("The projection has not come to this position yet.")
