"""The application layer: who may call what, what is refused and how, and that nothing inner shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from jobledger_kit.application import Application, build_app
from jobledger_kit.http import Allow, operation
from tests.unit.kit_http.support import ERRORS, JOB, Doorman, client_of, make_app

pytestmark = pytest.mark.anyio


async def call(method: str, path: str, *, token: str = "ada", app: Application | None = None, **more: Any) -> httpx.Response:
    async with client_of(app or make_app(), token) as client:
        return await client.request(method, path, **more)


def is_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"]) == (f"urn:jobledger:problem:{slug}", status)
    assert body["title"]
    assert body["instance"] == f"urn:jobledger:request:{answer.headers['x-request-id']}"
    return body


async def test_a_good_request_is_answered() -> None:
    answer = await call("POST", "/things", json={"name": "pump", "size": {"width": 2}})
    assert (answer.status_code, answer.json()) == (201, {"name": "pump", "by": "ada"})
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_fault_of_a_body_is_listed_with_its_path() -> None:
    body = is_problem(await call("POST", "/things", json={"nam": 1, "size": {"width": 0}, "tags": "x"}), 400, "invalid-request")
    assert {fault["path"] for fault in body["errors"]} == {"$.nam", "$.name", "$.size.width", "$.tags"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"name": "a"} x',
        b'{"name": NaN}',
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
        b"[" * 900,
        b'{"name": "a\\u0000b"}',
    ],
)
async def test_what_is_no_json_of_the_right_shape_is_refused(raw: bytes) -> None:
    answer = await call("POST", "/things", content=raw, headers={"content-type": "application/json"})
    assert is_problem(answer, 400, "invalid-request")["errors"]


async def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    answer = await call("POST", "/things", content=rb'{"name": "a\\u0000b"}', headers={"content-type": "application/json"})
    assert answer.json()["name"] == r"a\u0000b"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""])
async def test_other_media_types_are_refused(kind: str) -> None:
    answer = await call("POST", "/things", content=b'{"name": "a"}', headers={"content-type": kind} if kind else {})
    is_problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=UTF-8", "application/merge-patch+json"])
async def test_json_in_any_spelling_is_read(kind: str) -> None:
    assert (await call("POST", "/things", content=b'{"name": "a"}', headers={"content-type": kind})).status_code == 201


async def test_a_query_is_read_strictly() -> None:
    answer = await call("GET", "/things?status=Running&status=Error&limit=3&q=")
    assert answer.json() == {"status": ["Running", "Error"], "limit": 3, "q": ""}
    body = is_problem(await call("GET", "/things?limit=501&limt=1&q=a&q=b"), 400, "invalid-request")
    assert {fault["path"] for fault in body["errors"]} == {"?limit", "?limt", "?q"}


async def test_nul_characters_in_the_url_are_refused() -> None:
    is_problem(await call("GET", "/things?q=a%00b"), 400, "invalid-request")
    is_problem(await call("GET", "/things/a%00b"), 400, "invalid-request")


async def test_unknown_paths_and_methods_are_problems() -> None:
    is_problem(await call("GET", "/nothing"), 404, "not-found")
    is_problem(await call("GET", "/things/"), 404, "not-found")
    answer = await call("PATCH", "/things/x")
    is_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "DELETE, GET, HEAD"


async def test_fixed_paths_win_over_variable_ones() -> None:
    assert (await call("GET", "/things/anybody")).json()["name"] == "open"
    assert (await call("GET", "/things/other")).json()["name"] == "other"


@pytest.mark.parametrize(
    ("what", "status", "slug"),
    [
        ("not-found", 404, "not-found"),
        ("conflict", 409, "conflict"),
        ("refused", 409, "refused"),
        ("unprocessable", 422, "unprocessable"),
        ("key", 422, "idempotency-key-reused"),
        ("limited", 429, "rate-limited"),
        ("unavailable", 503, "unavailable"),
        ("unknown", 504, "outcome-unknown"),
    ],
)
async def test_each_error_is_answered_as_the_problem_that_it_is(what: str, status: int, slug: str) -> None:
    answer = await call("GET", f"/things/fail/{what}")
    body = is_problem(answer, status, slug)
    assert body["detail"] == str(ERRORS[what])
    assert ("retry-after" in answer.headers) is (status in (429, 503, 504))


async def test_a_refusal_carries_verdict_reason_and_position() -> None:
    body = (await call("GET", "/things/fail/refused")).json()
    assert (body["verdict"], body["reason"], body["position"]) == ("refused", "run_ended", "1:2")


@pytest.mark.parametrize("what", ["bug", "sealed"])
async def test_what_is_broken_tells_nothing_but_the_requests_id(what: str) -> None:
    answer = await call("GET", f"/things/fail/{what}", headers={"x-request-id": "my-request-1"})
    body = is_problem(answer, 500, "internal-error")
    assert set(body) == {"type", "title", "status", "instance"}
    assert answer.headers["x-request-id"] == "my-request-1"


async def test_what_cannot_be_recorded_is_unprocessable() -> None:
    assert is_problem(await call("POST", "/things/fail/event"), 422, "unprocessable")["detail"] == "the data is nested too deeply"


async def test_a_database_that_is_away_is_unavailable_or_of_unknown_outcome() -> None:
    is_problem(await call("GET", "/things/fail/away"), 503, "unavailable")
    answer = await call("POST", "/things/fail/away")
    is_problem(answer, 504, "outcome-unknown")
    assert "tiger" not in answer.text


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Bearer", "Bearer ", "Bearer nobody", "ada"])
async def test_without_a_good_credential_there_is_no_entry(header: str | None) -> None:
    answer = await call("GET", "/things", token="", headers={} if header is None else {"authorization": header})
    is_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == 'Bearer realm="jobledger"'


async def test_two_credentials_are_none() -> None:
    answer = await call("GET", "/things", token="", headers=[("authorization", "Bearer ada"), ("authorization", "Bearer admin")])
    is_problem(answer, 401, "unauthenticated")


async def test_the_schemes_name_may_be_in_any_case() -> None:
    assert (await call("GET", "/things", token="", headers={"authorization": "bearer ada"})).status_code == 200


async def test_access_that_is_away_is_unavailable_and_not_a_refusal() -> None:
    answer = await call("GET", "/things", token="down")
    is_problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "3"


async def test_runs_may_report_and_nothing_else() -> None:
    assert (await call("POST", "/things/report", token="run")).json()["by"] == f"run:{JOB}.1"
    for method, path in (("GET", "/things"), ("POST", "/things/rule"), ("GET", "/things/metrics")):
        is_problem(await call(method, path, token="run"), 403, "forbidden")


async def test_administrators_operations_are_for_administrators() -> None:
    is_problem(await call("POST", "/things/rule"), 403, "forbidden")
    assert (await call("POST", "/things/rule", token="admin")).status_code == 204
    assert "jobledger_http_requests_total" in (await call("GET", "/things/metrics", token="admin")).text


async def test_public_operations_read_no_credential() -> None:
    doorman = Doorman()
    for path in ("/things/anybody", "/things/health/live", "/things/health/ready", "/things/openapi.json"):
        assert (await call("GET", path, token="down", app=make_app(doorman=doorman))).status_code == 200
    assert doorman.asked == []


async def test_every_other_route_refuses_who_brings_no_credential() -> None:
    app = make_app()
    document = (await call("GET", "/things/openapi.json", app=app)).json()
    asked = 0
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            if described.get("security") == []:
                continue
            asked += 1
            answer = await call(method.upper(), path.replace("{", "").replace("}", ""), token="", app=app)
            assert answer.status_code == 401, (method, path)
    assert asked == 11


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
async def test_the_body_limit_holds_with_and_without_a_stated_length(size: int, status: int) -> None:
    stated = await call("POST", "/things/count", content=b"x" * size)
    streamed = await call("POST", "/things/count", content=chunks(*[b"x" * 100] * (size // 100), b"x" * (size % 100)))
    for answer in (stated, streamed):
        assert answer.status_code == status
        if status == 413:
            is_problem(answer, 413, "too-large")
            assert answer.headers["connection"] == "close"


async def test_a_lying_length_does_not_help() -> None:
    for length in ("-5", "1e9", "9" * 30):
        answer = await call("POST", "/things/count", content=chunks(b"x" * 2000), headers={"content-length": length})
        is_problem(answer, 413, "too-large")


async def test_uploads_count_for_themselves() -> None:
    assert (await call("PUT", "/things/files/a/b.txt", content=b"x" * 5000)).json() == {"bytes": 5000}
    is_problem(await call("PUT", "/things/files/a/b.txt", content=b"x" * 5001), 413, "too-large")


async def test_a_bad_request_id_is_replaced() -> None:
    for bad in ("short", "x" * 65, "with space in it", "a\tb-------"):
        assert (await call("GET", "/things/anybody", headers={"x-request-id": bad})).headers["x-request-id"] != bad


async def test_readiness_asks_its_parts_and_tells_no_reason() -> None:
    asked = 0

    async def broken() -> None:
        nonlocal asked
        asked += 1
        raise ConnectionError("postgresql://ada:tiger@db")

    async def fine() -> None: ...

    app = make_app(checks={"database": broken, "kafka": fine})
    answers = [await call("GET", "/things/health/ready", app=app) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {503}
    assert answers[0].json() == {"status": "unavailable", "checks": {"database": "failing", "kafka": "ok"}}
    assert asked == 1  # anybody may ask, so the answer is kept for a moment
    assert (await call("GET", "/things/health/live", app=app)).status_code == 200


async def test_a_service_that_stops_is_not_ready() -> None:
    app = make_app()
    app.stopping.set()
    assert (await call("GET", "/things/health/ready", app=app)).json()["status"] == "stopping"


async def test_one_log_line_tells_of_a_request_and_no_secret(json_logs: None, capsys: pytest.CaptureFixture[str]) -> None:
    await call("GET", "/things/jlk_abcdefghijklmnop_tiger?token=tiger")
    await asyncio.sleep(0.15)  # lines are written in batches
    line = json.loads(next(line for line in capsys.readouterr().out.splitlines() if "Request answered" in line))
    assert (line["route"], line["status"], line["actor"], line["path"]) == ("/things/{name}", 200, "user:ada", "/things/jlk_***")
    assert "tiger" not in json.dumps(line)


async def test_below_a_mount_the_paths_are_the_same() -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    outer = Starlette(routes=[Mount("/api", make_app())])
    async with client_of(outer) as client:
        assert (await client.get("/api/things/anybody")).status_code == 200


async def test_static_routes_serve_anybody_and_unknown_files_are_problems() -> None:
    async def page(_request: Request) -> Response:
        return PlainTextResponse("hello")

    app = make_app(static=[Route("/things/page.html", page)])
    answer = await call("GET", "/things/fresh/page", token="", app=app)
    is_problem(answer, 404, "not-found")
    answer = await call("GET", "/page", token="", app=make_app(static=[Route("/page", page)]))
    assert (answer.text, answer.headers["x-content-type-options"]) == ("hello", "nosniff")


def test_an_endpoint_without_a_description_is_not_built() -> None:
    async def bare(_request: Request) -> Response:
        return Response()

    with pytest.raises(TypeError, match="no @operation"):
        build_app([Route("/things", bare)], Doorman(), noun="things", title="x")


def test_a_path_has_each_method_once() -> None:
    @operation("x", allow=Allow.PUBLIC)
    async def twice(_request: Request) -> Response:
        return Response()

    with pytest.raises(ValueError, match="twice"):
        build_app([Route("/things", twice), Route("/things", twice)], Doorman(), noun="things", title="x")


async def test_lifespan_and_websockets_are_answered() -> None:
    sent: list[dict[str, Any]] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    await make_app()({"type": "lifespan"}, receive, send)
    await make_app()({"type": "websocket"}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]
