"""HTTP in and out: the schedulers that apps need. Errors become problem details in the kit's application."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_kit.errors import Conflict, Forbidden, InvalidRequest, NotFound, OutcomeUnknown, Unavailable
from jobledger_kit.http import Allow, json_response, operation, principal_of, read_json, read_query, request_id_of, traceparent_of
from jobledger_kit.pagination import cut_page, decode_cursor

from .app_settings import AppSettings, AssignBody, DeclareBody, Declared, problem_of
from .requests import Caller
from .store import SchedulersStore, SettingRow
from .views import ListQuery

_WRITE_ERRORS: Final = (InvalidRequest, Conflict, Unavailable, OutcomeUnknown)
_TAG: Final = "settings"


class SettingView(msgspec.Struct, frozen=True, kw_only=True):
    """A scheduler that an app needs, and which one it has."""

    label: str  #: the app's
    name: str
    engine: str  #: condor or dask
    description: str
    required: bool  #: the app does not work without
    scheduler: str | None  #: the one that is assigned
    assigned: bool  #: it leads to a scheduler that is registered now, of the right kind
    problem: str  #: why it does not; empty: it does
    declared_by: str
    assigned_by: str | None
    assigned_time: datetime | None


class SettingList(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one app."""

    items: list[SettingView]
    position: str | None = None  #: where the last change that was asked for stands in the log


class SettingPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of settings. `next_cursor` is absent on the last page."""

    items: list[SettingView]
    next_cursor: str | None = None


class SettingsAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The request is in the log; our rows have not come to it yet."""

    label: str
    position: str


class SettingRoutes:
    """The endpoints on settings."""

    def __init__(self, *, settings: AppSettings, store: SchedulersStore) -> None:
        self._settings, self._store = settings, store

    def routes(self) -> list[Route]:
        """The table. It goes before that of schedulers, whose names would match too."""
        return [
            Route("/schedulers/settings", self.list_settings, methods=["GET"]),
            Route("/schedulers/settings/{label}", self.of_app, methods=["GET"]),
            Route("/schedulers/settings/{label}", self.declare, methods=["PUT"]),
            Route("/schedulers/settings/{label}/{name}", self.get_setting, methods=["GET"]),
            Route("/schedulers/settings/{label}/{name}", self.assign, methods=["PUT"]),
        ]

    @operation("List the schedulers that apps need", query=ListQuery, response=SettingPage, tag=_TAG)
    async def list_settings(self, request: Request) -> Response:
        query = read_query(request, ListQuery)
        after = decode_cursor(query.cursor, tuple[str, str]) if query.cursor is not None else ("", "")
        rows = await self._store.page_of_settings(after, query.limit + 1)
        page, cursor = cut_page(rows, query.limit, lambda row: (row.state.label, row.state.name))
        return json_response(SettingPage(items=[setting_view(row) for row in page], next_cursor=cursor))

    @operation("List the schedulers that an app needs", response=SettingList, tag=_TAG)
    async def of_app(self, request: Request) -> Response:
        rows = await self._store.settings_of(_label(request))
        return json_response(SettingList(items=[setting_view(row) for row in rows]))

    @operation(
        "Declare the schedulers that an app needs",
        description="All of them: what was declared before and is not named is withdrawn. Whoever declares an app's first setting owns "
        "them; others are refused, administrators excepted. A scheduler that is assigned stays, unless another engine is needed.",
        body=DeclareBody,
        responses={200: SettingList, 202: SettingsAccepted},
        errors=(Forbidden, *_WRITE_ERRORS),
        tag=_TAG,
    )
    async def declare(self, request: Request) -> Response:
        body = await read_json(request, DeclareBody)
        label = _label(request)
        return _answer(label, await self._settings.declare(label, body, principal_of(request), _caller(request)))

    @operation("Show a scheduler that an app needs", response=SettingView, errors=(NotFound,), tag=_TAG)
    async def get_setting(self, request: Request) -> Response:
        return json_response(setting_view(await self._settings.get(_label(request), str(request.path_params["name"]))))

    @operation(
        "Assign a scheduler to a setting",
        description="The scheduler must be registered, and of the engine that the app needs.",
        allow=Allow.ADMIN,
        body=AssignBody,
        responses={200: SettingList, 202: SettingsAccepted},
        errors=(NotFound, *_WRITE_ERRORS),
        tag=_TAG,
    )
    async def assign(self, request: Request) -> Response:
        body = await read_json(request, AssignBody)
        label = _label(request)
        return _answer(label, await self._settings.assign(label, str(request.path_params["name"]), body, _caller(request)))


def setting_view(row: SettingRow) -> SettingView:
    """Show a setting."""
    state, problem = row.state, problem_of(row)
    return SettingView(
        label=state.label,
        name=state.name,
        engine=state.engine,
        description=state.description,
        required=state.required,
        scheduler=state.scheduler or None,
        assigned=not problem,
        problem=problem,
        declared_by=state.declared_by,
        assigned_by=state.assigned_by or None,
        assigned_time=state.assigned_time,
    )


def _answer(label: str, declared: Declared) -> Response:
    position = str(declared.position) if declared.position else None
    if declared.rows is None:
        return json_response(SettingsAccepted(label=label, position=str(declared.position)), 202)
    return json_response(SettingList(items=[setting_view(row) for row in declared.rows], position=position))


def _label(request: Request) -> str:
    return str(request.path_params["label"])


def _caller(request: Request) -> Caller:
    return Caller(principal_of(request).actor, request_id_of(request), traceparent_of(request))
