"""Which requests are repeated, and which error an answer becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from jobledger import errors as e
from jobledger.http import ATTEMPTS, ServiceClient


class Service:
    """A service that answers as it is told: each entry is a response, or an error to raise."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.requests, self.pauses = list(answers), [], []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self) -> ServiceClient:
        transport = httpx.MockTransport(self)
        return ServiceClient("http://jobs.test", "jlk_secret", name="jobs", transport=transport, sleep=self.pauses.append)


def ok(content: Any = None) -> httpx.Response:
    return httpx.Response(200, json=content if content is not None else {"fine": True})


Call = Callable[[ServiceClient], Any]
SAFE: list[Call] = [
    lambda c: c.get("/jobs"),
    lambda c: c.post("/jobs", {"name": "a"}, idempotency_key="k"),
    lambda c: c.patch("/jobs/1", {"name": "a"}, idempotency_key="k"),
    lambda c: c.delete("/jobs/1"),
]
AWAY = [httpx.ReadTimeout("late"), httpx.ReadError("cut"), httpx.Response(503), httpx.Response(502), httpx.Response(429)]


@pytest.mark.parametrize("call", SAFE)
@pytest.mark.parametrize("trouble", AWAY, ids=repr)
def test_what_is_safe_to_repeat_is_repeated(call: Call, trouble: Any) -> None:
    service = Service(trouble, ok())
    assert call(service.client()) == {"fine": True}
    assert len(service.requests) == 2
    assert service.requests[0].headers.get("idempotency-key") == service.requests[1].headers.get("idempotency-key")


def test_a_write_without_a_key_is_sent_once_when_it_was_cut_off() -> None:
    service = Service(httpx.ReadTimeout("late"), ok())
    with pytest.raises(e.OutcomeUnknown, match="not known"):
        service.client().post("/jobs/1/credentials", {})
    assert len(service.requests) == 1


def test_a_write_without_a_key_is_repeated_when_it_was_never_sent() -> None:
    service = Service(httpx.ConnectError("refused"), ok())
    assert service.client().post("/jobs/1/credentials", {}) == {"fine": True}


def test_a_gateway_that_lost_a_write_leaves_its_outcome_unknown() -> None:
    with pytest.raises(e.OutcomeUnknown):
        Service(httpx.Response(504, json={"title": "It may or may not have been done"})).client().post("/jobs/1/credentials", {})


def test_trying_again_ends() -> None:
    service = Service(httpx.ConnectError("refused"))
    with pytest.raises(e.Unreachable, match=r"jobs\.test"):
        service.client().get("/jobs")
    assert len(service.requests) == ATTEMPTS
    assert sum(service.pauses) < 15


def test_the_service_says_how_long_to_pause() -> None:
    service = Service(httpx.Response(429, headers={"Retry-After": "2"}), ok())
    service.client().get("/jobs")
    assert service.pauses[0] >= 2


@pytest.mark.parametrize(
    ("status", "problem", "kind"),
    [
        (400, {"errors": [{"path": "$.name", "message": "missing"}]}, e.InvalidRequest),
        (401, {}, e.Unauthenticated),
        (403, {}, e.Forbidden),
        (404, {}, e.NotFound),
        (409, {"reason": "already_started"}, e.Refused),
        (413, {}, e.TooLarge),
        (422, {"type": "urn:jobledger:problem:idempotency-key-reused"}, e.KeyReused),
        (422, {"type": "urn:jobledger:problem:unprocessable"}, e.InvalidRequest),
        (500, {}, e.ServerError),
    ],
)
def test_a_problem_becomes_its_error(status: int, problem: dict[str, Any], kind: type[e.ApiError]) -> None:
    with pytest.raises(kind) as caught:
        Service(httpx.Response(status, json={"title": "T", "detail": "D", **problem})).client().get("/jobs")
    assert type(caught.value) is kind
    assert str(caught.value).startswith("T: D")
    assert caught.value.reason == problem.get("reason", "")


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ("There is no job 'x' that you can see.", "There is no job 'x' that you can see."),
        ("x.", "T: x."),
        ("$.name: missing", "T: $.name: missing"),
        ("", "T"),
    ],
)
def test_a_whole_sentence_needs_no_title(detail: str, said: str) -> None:
    with pytest.raises(e.NotFound) as caught:
        Service(httpx.Response(404, json={"title": "T", "detail": detail})).client().get("/jobs")
    assert (str(caught.value), caught.value.title) == (said, "T")


def test_faults_of_a_request_are_in_the_message() -> None:
    with pytest.raises(e.InvalidRequest, match=r"\$\.name: missing"):
        Service(httpx.Response(400, json={"title": "T", "errors": [{"path": "$.name", "message": "missing"}]})).client().get("/jobs")


def test_an_answer_that_is_no_problem_document_is_shown_as_it_is() -> None:
    with pytest.raises(e.ServerError, match="HTTP 500: a proxy's page"):
        Service(httpx.Response(500, text="a proxy's page")).client().get("/jobs")


def test_something_else_than_jobledger_is_recognised() -> None:
    with pytest.raises(e.ServerError, match="really Jobledger"):
        Service(httpx.Response(200, text="<html>")).client().get("/jobs")


def test_pages_are_followed_and_the_limit_is_kept() -> None:
    pages = [ok({"items": [1, 2], "next_cursor": "c"}), ok({"items": [3], "next_cursor": None})]
    assert list(Service(*pages).client().pages("/jobs")) == [1, 2, 3]
    service = Service(ok({"items": [1, 2], "next_cursor": "c"}))
    assert list(service.client().pages("/jobs", limit=2)) == [1, 2]
    assert [request.url.params["limit"] for request in service.requests] == ["2"]


def test_the_key_travels_in_the_header_only() -> None:
    service = Service(ok())
    client = service.client()
    client.get("/jobs", {"label": "a", "user": None})
    request = service.requests[0]
    assert request.headers["authorization"] == "Bearer jlk_secret"
    assert "secret" not in str(request.url)
    assert str(request.url) == "http://jobs.test/jobs?label=a"
