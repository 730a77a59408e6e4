"""The ASGI application that the three services share: one thin layer between the server and the endpoints.

For each request, in this order: an id; the route (unknown path 404, wrong method 405); who asks (401) and whether they may (403); a
counted body; the endpoint; an error becomes problem details; one log line and two metrics. It is one class and no stack of middleware,
because the status callback's rate is a promise and every layer costs each request.

starlette's `Route` declares the routes and its `Request` and `Response` carry them; its router and middleware are not used.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from time import perf_counter
from typing import Any, Final, Protocol

import msgspec
import structlog
from prometheus_client import Counter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Message, Receive, Scope, Send

from jobledger_contracts.envelope import Invalid, InvalidEvent
from jobledger_contracts.topics import MAX_RECORD_BYTES

from .credentials import NOT_ACCEPTED, Principal
from .database import DATABASE_AWAY
from .errors import Forbidden, InvalidRequest, JobledgerError, OutcomeUnknown, TooLarge, Unauthenticated, Unavailable, Unprocessable
from .http import OTHER_TITLES, Allow, Operation, json_response, not_allowed, operation, problem, problem_of
from .openapi import build_openapi
from .routing import Table, WrongMethodError
from .telemetry import HTTP_REQUESTS, HTTP_SECONDS, METRICS_TYPE, log_request, render_metrics

Check = Callable[[], Awaitable[None]]
"""Raises when the part that it asks is not fit to serve."""

CHECK_TIMEOUT_S: Final = 2.0
CHECKS_KEPT_S: Final = 1.0
"""Anybody may ask for readiness, so an answer is kept this long, and asking costs us nothing."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._\-]{8,64}\Z")
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_SAFE: Final = frozenset({"GET", "HEAD"})

log = structlog.get_logger(__name__)


class Authenticator(Protocol):
    """What the application needs of `auth.Access`."""

    def remembered(self, token: str) -> Principal | None: ...
    async def verify(self, token: str) -> Principal: ...


class _Handler:
    """One method of one path: the endpoint, what is checked before it, and where it is counted."""

    __slots__ = ("_counters", "allow", "endpoint", "max_body_bytes", "method", "path", "quiet", "seconds")

    def __init__(self, route: Route, method: str, described: Operation, max_body_bytes: int) -> None:
        self.endpoint: Callable[[Request], Awaitable[Response]] = route.endpoint
        self.path, self.method, self.allow = route.path, method, described.allow
        self.max_body_bytes = max_body_bytes if described.max_body_bytes is None else described.max_body_bytes
        self.quiet = "/health/" in route.path
        self.seconds = HTTP_SECONDS.labels(method, route.path)
        self._counters: dict[int, Counter] = {}

    def counter(self, status: int) -> Counter:
        """The count of one status; looked up once, because labels are slow to find."""
        found = self._counters.get(status)
        if found is None:
            found = self._counters[status] = HTTP_REQUESTS.labels(self.method, self.path, str(status))
        return found


class Application:
    """See the module's words. `stopping` ends event streams and turns readiness off; the server's part sets it."""

    def __init__(self, table: Table[_Handler], access: Authenticator, static: Sequence[BaseRoute], *, access_log: bool) -> None:
        self._table, self._access, self._access_log = table, access, access_log
        self._static = Router(routes=static) if static else None
        self._ids, self._id_prefix = count(), secrets.token_hex(6)
        self.stopping = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = perf_counter()
        handler: _Handler | None = None
        authorization: bytes | None = None
        request_id = ""
        content_length = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value if authorization is None else b""  # two of them: neither counts
            elif name == b"content-length":
                content_length = value
            elif name == b"x-request-id" and _REQUEST_ID.match(value):
                request_id = value.decode()
        scope["jobledger.request_id"] = request_id = request_id or f"{self._id_prefix}{next(self._ids):08x}"
        scope["jobledger.stopping"] = self.stopping
        scope["app"] = self
        try:
            found = self._table.find(_path(scope), scope["method"])
            if found is None:
                response = await self._unknown_path(scope)
            else:
                handler, scope["path_params"] = found
                if handler.allow is not Allow.PUBLIC:
                    scope["jobledger.principal"] = await self._authorize(authorization, handler.allow)
                if handler.max_body_bytes and scope["method"] in _WITH_BODY:
                    receive = _counted(receive, content_length, handler.max_body_bytes)
                response = await handler.endpoint(Request(scope, receive, send))
        except ClientDisconnect:
            self._note(scope, handler, 499, started_s)
            return
        except Exception as error:  # noqa: BLE001 - each kind of error is answered, logged and counted
            response = _problem_for(error, scope, request_id)
        response.raw_headers += ((b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff"))
        try:
            await response(scope, receive, send)
        except ClientDisconnect:
            self._note(scope, handler, 499, started_s)
            return
        self._note(scope, handler, response.status_code, started_s)

    async def _authorize(self, authorization: bytes | None, allow: Allow) -> Principal:
        """Say who asks. Raises Unauthenticated, Forbidden or Unavailable."""
        if authorization is None:
            raise Unauthenticated("A credential is needed: Authorization: Bearer <API key>.")
        scheme, _, raw = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthenticated(NOT_ACCEPTED)
        token = raw.strip().decode("latin-1")
        principal = self._access.remembered(token) or await self._access.verify(token)
        if principal.run is not None and allow is not Allow.RUN:
            raise Forbidden("A run's credential reports that run's status, and nothing else.")
        if allow is Allow.ADMIN and not principal.admin:
            raise Forbidden("This is for administrators.")
        return principal

    async def _unknown_path(self, scope: Scope) -> Response:
        """What is served without a description, such as pages; else 404."""
        if self._static is not None and scope["method"] in _SAFE:
            return _Static(self._static)
        raise HTTPException(404)

    def _note(self, scope: Scope, handler: _Handler | None, status: int, started_s: float) -> None:
        """One log line and two metrics."""
        seconds = perf_counter() - started_s
        if handler is None:
            HTTP_REQUESTS.labels("other", "other", str(status)).inc()  # not the path: anybody can make up any number of them
        else:
            handler.counter(status).inc()
            handler.seconds.observe(seconds)
        if self._access_log and not (handler is not None and handler.quiet and status < 400):
            principal: Principal | None = scope.get("jobledger.principal")
            log_request(
                method=scope["method"],
                path=scope["path"],
                route=handler.path if handler is not None else "",
                status=status,
                duration_ms=round(seconds * 1000, 3),
                request_id=scope["jobledger.request_id"],
                actor=principal.actor if principal is not None else "",
            )


class _Static(Response):
    """Hands a request to starlette's router: static files and pages."""

    def __init__(self, router: Router) -> None:
        super().__init__()
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extra = self.raw_headers[-2:]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status_code = message["status"]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        try:
            await self._router(scope, receive, with_headers)
        except HTTPException as error:
            response = _http_problem(error, scope["jobledger.request_id"])
            response.raw_headers += extra
            self.status_code = response.status_code
            await response(scope, receive, send)


def build_app(
    routes: Sequence[Route],
    access: Authenticator,
    *,
    noun: str,
    title: str,
    version: str = "0.1.0",
    description: str = "",
    checks: Mapping[str, Check] | None = None,
    max_body_bytes: int = 1024 * 1024,
    access_log: bool = True,
    static: Sequence[BaseRoute] = (),
) -> Application:
    """Build a service's application: its own routes, and `/<noun>/health/live`, `/health/ready`, `/metrics`, `/openapi.json`.

    Every route needs its `@operation`, and a credential unless that says PUBLIC. `checks` are what readiness asks, by name. `static` is
    served to anybody (pages, files), after all other routes. Raises TypeError for an endpoint without a description.
    """
    table = Table[_Handler]()
    app = Application(table, access, static, access_log=access_log)
    everything = [*routes, *_own_routes(app, noun, checks or {})]
    document: list[bytes] = []

    @operation("This document", response=dict[str, Any], allow=Allow.PUBLIC, tag="service")
    async def openapi(_request: Request) -> Response:
        if not document:
            document.append(msgspec.json.encode(build_openapi(everything, title=title, version=version, description=description)))
        return json_response(document[0])

    everything.append(Route(f"/{noun}/openapi.json", openapi))
    for route in everything:
        described = getattr(route.endpoint, "__operation__", None)
        if not isinstance(described, Operation):
            raise TypeError(f"the endpoint of {route.path} has no @operation")
        table.add(route, {method: _Handler(route, method, described, max_body_bytes) for method in sorted(route.methods or ())})
    return app


class Health(msgspec.Struct, frozen=True):
    """Whether a service is fit to serve; each part is `ok`, `failing` or `slow`."""

    status: str
    checks: dict[str, str] = {}


def _own_routes(app: Application, noun: str, checks: Mapping[str, Check]) -> list[Route]:
    kept: list[tuple[float, dict[str, str]]] = []
    asking = asyncio.Lock()

    @operation("Is the process up", response=Health, allow=Allow.PUBLIC, tag="service")
    async def live(_request: Request) -> Response:
        return json_response(Health("ok"))

    @operation("Is the service fit to serve", responses={200: Health, 503: Health}, allow=Allow.PUBLIC, tag="service")
    async def ready(_request: Request) -> Response:
        async with asking:
            now_s = perf_counter()
            if not kept or kept[0][0] <= now_s:
                kept[:] = [(now_s + CHECKS_KEPT_S, await _run_checks(checks))]
        results = kept[0][1]
        if app.stopping.is_set():
            return json_response(Health("stopping", results), 503)
        fit = all(result == "ok" for result in results.values())
        return json_response(Health("ok" if fit else "unavailable", results), 200 if fit else 503)

    @operation("Metrics in Prometheus' text format", response=str, response_type="text/plain", allow=Allow.ADMIN, tag="service")
    async def metrics(_request: Request) -> Response:
        return Response(render_metrics(), 200, {"content-type": METRICS_TYPE})

    return [Route(f"/{noun}/health/live", live), Route(f"/{noun}/health/ready", ready), Route(f"/{noun}/metrics", metrics)]


async def _run_checks(checks: Mapping[str, Check]) -> dict[str, str]:
    """Ask all at once. The reasons go to the log: who may ask for readiness need not learn them."""

    async def run(name: str, check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await check()
        except TimeoutError:
            log.warning("A readiness check takes too long", check=name)
            return "slow"
        except Exception as error:  # noqa: BLE001 - whatever a check raises means that its part is not fit
            log.warning("A readiness check fails", check=name, error=repr(error))
            return "failing"
        return "ok"

    return dict(zip(checks, await asyncio.gather(*(run(name, check) for name, check in checks.items())), strict=True))


def _path(scope: Scope) -> str:
    """The path below where the application is mounted. Raises InvalidRequest for NUL characters, which no database takes."""
    path: str = scope["path"]
    if "\0" in path or b"%00" in scope["query_string"]:
        raise InvalidRequest("The URL holds a NUL character.")
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _counted(receive: Receive, content_length: bytes, max_bytes: int) -> Receive:
    """A `receive` that raises TooLarge once more than so many bytes have come, whatever the header said. Raises TooLarge at once too."""
    if content_length and (len(content_length) > 15 or not content_length.isdigit() or int(content_length) > max_bytes):
        raise TooLarge(max_bytes)
    left = max_bytes

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise TooLarge(max_bytes)
        return message

    return counted


def _problem_for(error: Exception, scope: Scope, request_id: str) -> Response:
    """The answer to what an endpoint raised. What is not ours to explain says nothing but the request's id, and goes to the log."""
    instance = f"urn:jobledger:request:{request_id}"
    if isinstance(error, WrongMethodError):
        return not_allowed(error.methods, instance)
    if isinstance(error, HTTPException):
        return _http_problem(error, request_id)
    if isinstance(error, DATABASE_AWAY):
        log.warning("The database, or another part, is away", request_id=request_id, error=repr(error))
        # A request that changes something may have been published before the error came.
        error = Unavailable() if scope["method"] in _SAFE else OutcomeUnknown()
    if isinstance(error, InvalidEvent):  # what was asked for can be understood, but not be recorded
        error = TooLarge(MAX_RECORD_BYTES) if error.reason is Invalid.TOO_LARGE else Unprocessable(error.detail)
    if isinstance(error, JobledgerError):
        response = problem_of(error, instance=instance)
        if isinstance(error, TooLarge):
            response.raw_headers.append((b"connection", b"close"))  # nobody will read the rest
        if response.status_code != 500:
            return response
    log.error("A request failed", request_id=request_id, method=scope["method"], exc_info=error)
    return problem_of(JobledgerError(), instance=instance)


def _http_problem(error: HTTPException, request_id: str) -> Response:
    """starlette's own errors: unknown paths, and bodies that it cannot parse."""
    slug, title = OTHER_TITLES.get(error.status_code, ("http-error", "The request cannot be served"))
    detail = "This path is not served here." if error.status_code == 404 else error.detail
    return problem(error.status_code, slug, title, detail, instance=f"urn:jobledger:request:{request_id}", headers=error.headers)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
