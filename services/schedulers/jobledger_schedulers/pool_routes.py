"""HTTP in and out: looks at pools and Dask schedulers. Nothing here changes anything.

Everybody with an API key may see how things stand; ClassAds as they are, which may hold what other users wrote, and who uses which
machine, are for administrators.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_kit.errors import Conflict, InvalidRequest, NotFound, Unavailable
from jobledger_kit.http import Allow, Input, json_response, operation, principal_of, read_query

from .adapters.views import MAX_ROWS, AccessLevel, Ads, Daemon, Priorities, Queue, Slots, Tasks, Workers
from .inspection import Inspection

_ERRORS: Final = (NotFound, Conflict, Unavailable)
_TAG: Final = "pools"
_NO_STORE: Final = {"cache-control": "no-store"}

Rows = Annotated[int, Meta(ge=1, le=MAX_ROWS)]


class LimitQuery(Input, frozen=True, kw_only=True):
    """How many rows, at most."""

    limit: Rows = MAX_ROWS


class AdsQuery(Input, frozen=True, kw_only=True):
    """Which ads, and what of them."""

    constraint: Annotated[str, Meta(max_length=4000, description="a ClassAd expression; empty: all")] = ""
    projection: Annotated[str, Meta(max_length=20_000, description="names of attributes, with commas between; empty: whole ads")] = ""
    limit: Rows = 100

    @property
    def names(self) -> list[str]:
        """The projection's names."""
        return [name.strip() for name in self.projection.split(",") if name.strip()]


class DaemonList(msgspec.Struct, frozen=True, kw_only=True):
    """A pool's daemons."""

    items: list[Daemon]


class AccessLevelList(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are to a pool's daemons."""

    items: list[AccessLevel]


class PoolRoutes:
    """The endpoints that look."""

    def __init__(self, *, inspection: Inspection) -> None:
        self._inspection = inspection

    def routes(self) -> list[Route]:
        """The table."""
        table = {
            "pool/daemons": self.daemons,
            "pool/slots": self.slots,
            "pool/queue": self.queue,
            "pool/jobs": self.jobs,
            "pool/history": self.history,
            "pool/priorities": self.priorities,
            "pool/identity": self.identity,
            "workers": self.workers,
            "tasks": self.tasks,
        }
        return [Route(f"/schedulers/{{name}}/{path}", endpoint, methods=["GET"]) for path, endpoint in table.items()]

    @operation("List a pool's daemons", response=DaemonList, errors=_ERRORS, tag=_TAG)
    async def daemons(self, request: Request) -> Response:
        async with self._inspection.pool(_name(request), frank=_frank(request)) as pool:
            return json_response(DaemonList(items=await pool.daemons()), 200, _NO_STORE)

    @operation(
        "Count a pool's slots by state",
        description="And name them, up to the limit. Who uses a slot is told to administrators only.",
        query=LimitQuery,
        response=Slots,
        errors=_ERRORS,
        tag=_TAG,
    )
    async def slots(self, request: Request) -> Response:
        query, frank = read_query(request, LimitQuery), _frank(request)
        async with self._inspection.pool(_name(request), frank=frank) as pool:
            slots = await pool.slots(query.limit)
        if not frank:
            items = [msgspec.structs.replace(slot, remote_owner="") for slot in slots.items]
            slots = msgspec.structs.replace(slots, items=items)
        return json_response(slots, 200, _NO_STORE)

    @operation("Count an access point's jobs by user and status", query=LimitQuery, response=Queue, errors=_ERRORS, tag=_TAG)
    async def queue(self, request: Request) -> Response:
        query = read_query(request, LimitQuery)
        async with self._inspection.pool(_name(request), frank=_frank(request)) as pool:
            return json_response(await pool.queue(query.limit), 200, _NO_STORE)

    @operation(
        "Show job ads of an access point's queue",
        description="The constraint is read by HTCondor's own parser before it is used; a bad one is answered with what is wrong.",
        allow=Allow.ADMIN,
        query=AdsQuery,
        response=Ads,
        errors=(InvalidRequest, *_ERRORS),
        tag=_TAG,
    )
    async def jobs(self, request: Request) -> Response:
        query = read_query(request, AdsQuery)
        async with self._inspection.pool(_name(request), frank=True) as pool:
            return json_response(await pool.query(query.constraint, query.names, query.limit), 200, _NO_STORE)

    @operation(
        "Show job ads of an access point's history, latest first",
        description="Without an index: a constraint that little fits reads all of it, and may not be done in time.",
        allow=Allow.ADMIN,
        query=AdsQuery,
        response=Ads,
        errors=(InvalidRequest, *_ERRORS),
        tag=_TAG,
    )
    async def history(self, request: Request) -> Response:
        query = read_query(request, AdsQuery)
        async with self._inspection.pool(_name(request), frank=True) as pool:
            return json_response(await pool.history(query.constraint, query.names, query.limit), 200, _NO_STORE)

    @operation("List users' priorities in a pool, the best first", query=LimitQuery, response=Priorities, errors=_ERRORS, tag=_TAG)
    async def priorities(self, request: Request) -> Response:
        query = read_query(request, LimitQuery)
        async with self._inspection.pool(_name(request), frank=_frank(request)) as pool:
            return json_response(await pool.priorities(query.limit), 200, _NO_STORE)

    @operation(
        "Say who we are to a pool's daemons",
        description="Each is asked at the levels READ and WRITE.",
        allow=Allow.ADMIN,
        response=AccessLevelList,
        errors=_ERRORS,
        tag=_TAG,
    )
    async def identity(self, request: Request) -> Response:
        async with self._inspection.pool(_name(request), frank=True) as pool:
            return json_response(AccessLevelList(items=await pool.access_levels()), 200, _NO_STORE)

    @operation("List a Dask scheduler's workers", query=LimitQuery, response=Workers, errors=_ERRORS, tag=_TAG)
    async def workers(self, request: Request) -> Response:
        query = read_query(request, LimitQuery)
        async with self._inspection.dask(_name(request), frank=_frank(request)) as dask:
            return json_response(await dask.workers(query.limit), 200, _NO_STORE)

    @operation("Count a Dask scheduler's tasks by name and state", query=LimitQuery, response=Tasks, errors=_ERRORS, tag=_TAG)
    async def tasks(self, request: Request) -> Response:
        query = read_query(request, LimitQuery)
        async with self._inspection.dask(_name(request), frank=_frank(request)) as dask:
            return json_response(await dask.tasks(query.limit), 200, _NO_STORE)


def _name(request: Request) -> str:
    return str(request.path_params["name"])


def _frank(request: Request) -> bool:
    return principal_of(request).admin
