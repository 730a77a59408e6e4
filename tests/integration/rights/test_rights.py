"""Who may do what: every route of every service, as every kind of caller; and what comes of requests that nobody thought of."""

from __future__ import annotations

from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.integration.rights.conftest import Services
from tests.support.rights import RIGHTS, Entry, For

pytestmark = pytest.mark.stack

CALLERS = {"anonymous": None, "expired": "expired", "stranger": "eve", "member": "bob", "owner": "ada", "admin": "admin", "run": ""}
"""Kind of caller -> whose key is presented. The jobs are ada's, and shared with a group of bob's."""

NOT_KNOWN, FORBIDDEN, HIDDEN, LET_IN = "not known", "forbidden", "hidden", "let in"
_USERS = dict.fromkeys(("stranger", "member", "owner", "admin"), LET_IN)
_NOBODY = {"anonymous": NOT_KNOWN, "expired": NOT_KNOWN, "run": FORBIDDEN}
EXPECTED: dict[For, dict[str, str]] = {
    For.ANYBODY: dict.fromkeys(CALLERS, LET_IN),
    For.USERS: _NOBODY | _USERS,
    For.ADMINS: _NOBODY | dict.fromkeys(("stranger", "member", "owner"), FORBIDDEN) | {"admin": LET_IN},
    For.READERS: _NOBODY | _USERS | {"stranger": HIDDEN},
    For.WRITERS: _NOBODY | _USERS | {"stranger": HIDDEN, "member": FORBIDDEN},
    For.REPORTERS: _NOBODY | _USERS | {"stranger": HIDDEN, "member": FORBIDDEN, "run": LET_IN},
}
_VALUES = {
    "key_id": "aaaaaaaaaaaaaaaa",
    "topic": "jobledger.jobs",
    "position": "0:999999",
    "name": "nothing",
    "label": "rights",
    "path": "in.txt",
}


def job_of(owner: httpx.Client) -> str:
    body = {"name": "n", "label": "rights", "job_type": "BASIC", "groups": ["ops"]}
    job_id = str(owner.post("/jobs", json=body).json()["id"])
    assert owner.put(f"/jobs/{job_id}/files/in.txt", content=b"input").status_code == 201
    return job_id


def said(answer: httpx.Response, entry: Entry) -> str:
    """What an answer's status says of the caller's rights."""
    status = answer.status_code
    if status in (401, 403):
        return NOT_KNOWN if status == 401 else FORBIDDEN
    if status == 404 and (entry.who in (For.READERS, For.WRITERS, For.REPORTERS) and not entry.missing):
        return HIDDEN
    return LET_IN if status < 500 and status not in (400, 405, 415, 422) else f"{status} {answer.text}"


@pytest.mark.parametrize(("noun", "operation"), [(noun, operation) for noun, entries in RIGHTS.items() for operation in entries])
def test_route_lets_in_whom_it_should(services: Services, noun: str, operation: str) -> None:
    entry = RIGHTS[noun][operation]
    method, template = operation.split(" ")
    answers: dict[str, str] = {}
    expected = dict(EXPECTED[entry.who])
    job_id = ""
    with services["jobs"].client("ada") as owner:
        for caller, user in CALLERS.items():
            if not job_id or method == "DELETE":
                job_id = job_of(owner)
            if caller == "run":
                client = services[noun].with_token(owner.post(f"/jobs/{job_id}/credentials", json={}).json()["token"])
            else:
                client = services[noun].client(user)
            path = template.format(**_VALUES, job_id=job_id, run_id=f"{job_id}.1")
            sent: dict[str, Any] = {"content": entry.body} if isinstance(entry.body, bytes) else {"json": entry.body}
            with client, client.stream(method, path, **(sent if entry.body is not None else {})) as answer:
                if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                    answer.read()
                answers[caller] = said(answer, entry)
                if entry.missing and answer.status_code == 404 and caller == "stranger" and expected[caller] == HIDDEN:
                    answers[caller] = HIDDEN

    assert answers == expected


# --- requests made up from the OpenAPI documents ---

EXAMPLES = 4  #: for each operation and kind of caller
WAITING = {"GET /jobs/events", "GET /jobs/{job_id}/events", "POST /jobs/processing/claims"}
"""These answer when something happens."""
CONFORMANCE = (status_code_conformance, content_type_conformance, response_schema_conformance)
CASES = [(noun, operation) for noun, entries in RIGHTS.items() for operation in entries if operation not in WAITING]


@pytest.fixture(scope="module")
def schemas(services: Services) -> dict[str, Any]:
    return {noun: schemathesis.openapi.from_url(f"{one.url}/{noun}/openapi.json") for noun, one in services.items()}


@pytest.mark.parametrize(("noun", "operation"), CASES)
def test_no_request_makes_a_service_fail_or_tell(services: Services, schemas: dict[str, Any], noun: str, operation: str) -> None:
    method, path = operation.split(" ")
    described = schemas[noun][path][method]
    callers: dict[str, str | None] = {"anonymous": None, "stranger": "eve", "admin": "admin"}
    secrets = [key.rsplit("_", 1)[1] for key in services["jobs"].keys.values()]

    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=described.as_strategy())
    def send(case: Any) -> None:
        for caller, user in callers.items():
            headers = {} if user is None else {"authorization": f"Bearer {services[noun].keys[user]}"}
            answer = case.call(headers=headers)
            text = answer.content.decode("utf-8", "replace")
            late = answer.status_code == 503 and "after" in (case.query or {})  # a position that the log may come to yet
            assert answer.status_code < 500 or late, text
            assert "Traceback" not in text
            assert not any(secret in text for secret in secrets)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == ["application/problem+json"], text
            if caller == "anonymous" and RIGHTS[noun][operation].who is not For.ANYBODY:
                assert answer.status_code in (400, 401, 404, 405), text
            if caller == "admin":
                case.validate_response(answer, checks=CONFORMANCE)

    send()
