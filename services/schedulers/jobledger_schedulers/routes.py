"""HTTP in and out: the registry of schedulers. Errors become problem details in the kit's application."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_kit.errors import Conflict, InvalidRequest, NotFound, OutcomeUnknown, Unavailable
from jobledger_kit.http import Allow, json_response, operation, principal_of, read_json, read_query, request_id_of, traceparent_of
from jobledger_kit.pagination import cut_page, decode_cursor

from .requests import Caller, Registry, Settled
from .store import SchedulersStore
from .views import (
    Accepted,
    CheckView,
    ListQuery,
    RemoveQuery,
    ResealView,
    SchedulerBody,
    SchedulerPage,
    SchedulerView,
    scheduler_view,
)

_WRITE_ERRORS: Final = (InvalidRequest, Conflict, Unavailable, OutcomeUnknown)
_NO_STORE: Final = {"cache-control": "no-store"}


class SchedulerRoutes:
    """The endpoints on schedulers."""

    def __init__(self, *, registry: Registry, store: SchedulersStore) -> None:
        self._registry, self._store = registry, store

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/schedulers", self.register, methods=["POST"]),
            Route("/schedulers", self.list_schedulers, methods=["GET"]),
            Route("/schedulers/credentials/reseal", self.reseal, methods=["POST"]),
            Route("/schedulers/{name}", self.get_scheduler, methods=["GET"]),
            Route("/schedulers/{name}", self.replace, methods=["PUT"]),
            Route("/schedulers/{name}", self.remove, methods=["DELETE"]),
            Route("/schedulers/{name}/check", self.check, methods=["POST"]),
        ]

    @operation(
        "Register a scheduler",
        description="Repeating the same request changes nothing and answers 200. Credentials are sealed; no answer holds them.",
        allow=Allow.ADMIN,
        body=SchedulerBody,
        responses={201: SchedulerView, 200: SchedulerView, 202: Accepted},
        errors=_WRITE_ERRORS,
        tag="schedulers",
    )
    async def register(self, request: Request) -> Response:
        body = await read_json(request, SchedulerBody)
        return _answer(await self._registry.register(body, _caller(request)))

    @operation("List schedulers", query=ListQuery, response=SchedulerPage, tag="schedulers")
    async def list_schedulers(self, request: Request) -> Response:
        query = read_query(request, ListQuery)
        (after,) = decode_cursor(query.cursor, tuple[str]) if query.cursor is not None else ("",)
        rows = await self._store.page_of_schedulers(after, query.limit + 1)
        page, cursor = cut_page(rows, query.limit, lambda row: (row.state.name,))
        full = principal_of(request).admin
        return json_response(SchedulerPage(items=[scheduler_view(row, full=full) for row in page], next_cursor=cursor))

    @operation("Show a scheduler", response=SchedulerView, errors=(NotFound,), tag="schedulers")
    async def get_scheduler(self, request: Request) -> Response:
        row = await self._registry.get(_name(request))
        return json_response(scheduler_view(row, full=principal_of(request).admin))

    @operation(
        "Register or replace a scheduler",
        description="Credentials that the body does not name stay; null or an empty text removes one. The type cannot change.",
        allow=Allow.ADMIN,
        body=SchedulerBody,
        responses={200: SchedulerView, 201: SchedulerView, 202: Accepted},
        errors=_WRITE_ERRORS,
        tag="schedulers",
    )
    async def replace(self, request: Request) -> Response:
        body = await read_json(request, SchedulerBody)
        return _answer(await self._registry.replace(_name(request), body, _caller(request)))

    @operation(
        "Remove a scheduler",
        description="Refused while runs are on it, unless force=true: then they end with an error, whatever becomes of them there.",
        allow=Allow.ADMIN,
        query=RemoveQuery,
        responses={204: None, 202: Accepted},
        errors=(NotFound, *_WRITE_ERRORS),
        tag="schedulers",
    )
    async def remove(self, request: Request) -> Response:
        query = read_query(request, RemoveQuery)
        settled = await self._registry.remove(_name(request), _caller(request), force=query.force)
        if settled.row is None:
            return json_response(Accepted(name=settled.name, position=str(settled.position)), 202)
        return Response(None, 204)

    @operation(
        "Seal all credentials under the current key",
        description="After a change of the sealing key: once nothing is unreadable, the previous key can go. Safe to repeat.",
        allow=Allow.ADMIN,
        response=ResealView,
        tag="schedulers",
    )
    async def reseal(self, request: Request) -> Response:
        return json_response(await self._registry.reseal(), 200, _NO_STORE)

    @operation(
        "Contact a scheduler now",
        description="Says which version answers and who we are to it, or why there is no answer.",
        allow=Allow.ADMIN,
        response=CheckView,
        errors=(NotFound,),
        tag="schedulers",
    )
    async def check(self, request: Request) -> Response:
        return json_response(await self._registry.check(_name(request)), 200, _NO_STORE)


def _name(request: Request) -> str:
    return str(request.path_params["name"])


def _caller(request: Request) -> Caller:
    return Caller(principal_of(request).actor, request_id_of(request), traceparent_of(request))


def _answer(settled: Settled) -> Response:
    location = {"location": f"/schedulers/{settled.name}"}
    if settled.row is None:
        return json_response(Accepted(name=settled.name, position=str(settled.position)), 202, location)
    view = scheduler_view(settled.row, full=True, position=str(settled.position) if settled.position else None)
    return json_response(view, 201 if settled.created else 200, location)
