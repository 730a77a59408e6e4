"""An application with an endpoint of each kind, and a client for it that needs no socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_contracts.envelope import Invalid, InvalidEvent
from jobledger_contracts.verdicts import Reason, refused
from jobledger_kit.application import Application, Check, build_app
from jobledger_kit.credentials import Principal, RunClaims
from jobledger_kit.errors import (
    CannotOpen,
    Conflict,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Unauthenticated,
    Unavailable,
    Unprocessable,
    UnprocessableKey,
)
from jobledger_kit.http import (
    Allow,
    Input,
    json_response,
    operation,
    principal_of,
    read_body,
    read_json,
    read_query,
    request_id_of,
    stream_body,
)

JOB = "01890000-0000-7000-8000-000000000000"
RUN = RunClaims(job_id=JOB, run=1, expires_at=datetime(2099, 1, 1, tzinfo=UTC))
PRINCIPALS = {
    "ada": Principal(name="ada", groups=frozenset({"water"})),
    "admin": Principal(name="admin", admin=True),
    "run": Principal(name="run", run=RUN),
}


class Doorman:
    """Stands for `auth.Access`: a token is a name."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def remembered(self, _token: str) -> Principal | None:
        return None

    async def verify(self, token: str) -> Principal:
        self.asked.append(token)
        if token == "down":
            raise Unavailable(what="The access database", retry_after_s=2.2)
        if token not in PRINCIPALS:
            raise Unauthenticated("The credential is not accepted.")
        return PRINCIPALS[token]


class Size(Input, frozen=True):
    width: Annotated[int, Meta(ge=1)]


class NewThing(Input, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=20, description="what it is called")]
    size: Size | None = None
    tags: list[str] = []


class Search(Input, frozen=True):
    status: list[str] = []
    limit: Annotated[int, Meta(ge=1, le=500, description="how many")] = 50
    q: str | None = None


class Thing(msgspec.Struct, frozen=True):
    name: str
    by: str


ERRORS: Mapping[str, Exception] = {
    "not-found": NotFound("thing", "x"),
    "conflict": Conflict("Not now."),
    "refused": Refused("The run has ended.", refused(Reason.RUN_ENDED), position="1:2"),
    "unprocessable": Unprocessable("No such pool."),
    "key": UnprocessableKey("k"),
    "limited": RateLimited(retry_after_s=0.2),
    "unavailable": Unavailable(what="Kafka"),
    "unknown": OutcomeUnknown(),
    "sealed": CannotOpen("the secret of schedulers/pool"),
    "event": InvalidEvent(Invalid.BAD_DATA, "the data is nested too deeply"),
    "bug": ZeroDivisionError("tiger"),
    "away": ConnectionRefusedError("postgresql://ada:tiger@db"),
}


@operation(
    "Make a thing", body=NewThing, responses={201: Thing}, errors=[UnprocessableKey], headers={"Idempotency-Key": "makes it safe to repeat"}
)
async def make(request: Request) -> Response:
    thing = await read_json(request, NewThing)
    return json_response(Thing(thing.name, principal_of(request).name), 201)


@operation("List things", query=Search, response=list[Thing])
async def find(request: Request) -> Response:
    return json_response(read_query(request, Search))


@operation("One thing", response=Thing, errors=[NotFound])
async def one(request: Request) -> Response:
    return json_response(Thing(request.path_params["name"], request_id_of(request)))


@operation("Raise", response=None)
async def fail(request: Request) -> Response:
    raise ERRORS[request.path_params["what"]]


@operation("Count the bytes", body=bytes, body_types=["application/octet-stream"], response=dict[str, int])
async def count(request: Request) -> Response:
    return json_response({"bytes": len(await read_body(request))})


@operation("Upload", body=bytes, body_types=["application/octet-stream"], response=dict[str, int], max_body_bytes=0)
async def upload(request: Request) -> Response:
    return json_response({"bytes": sum([len(chunk) async for chunk in stream_body(request, 5000)])})


@operation("Report", allow=Allow.RUN, response=Thing)
async def report(request: Request) -> Response:
    return json_response(Thing("report", principal_of(request).actor))


@operation("Rule", allow=Allow.ADMIN, responses={204: None})
async def rule(_request: Request) -> Response:
    return Response(status_code=204)


@operation("Anybody", allow=Allow.PUBLIC, response=Thing)
async def anybody(_request: Request) -> Response:
    return json_response(Thing("open", ""))


ROUTES = [
    Route("/things", make, methods=["POST"]),
    Route("/things", find),
    Route("/things/count", count, methods=["POST"]),
    Route("/things/report", report, methods=["POST"]),
    Route("/things/rule", rule, methods=["POST"]),
    Route("/things/anybody", anybody),
    Route("/things/{name}", one),
    Route("/things/{name}", rule, methods=["DELETE"]),
    Route("/things/fail/{what}", fail, methods=["GET", "POST"]),
    Route("/things/files/{path:path}", upload, methods=["PUT"]),
]


def make_app(*, checks: Mapping[str, Check] | None = None, doorman: Doorman | None = None, **options: Any) -> Application:
    return build_app(ROUTES, doorman or Doorman(), noun="things", title="Things", checks=checks, max_body_bytes=1000, **options)


@asynccontextmanager
async def client_of(app: Any, token: str = "ada") -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    # Errors that the application lets through would end a request without an answer: they are to fail the test.
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client
