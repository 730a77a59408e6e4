"""Who may do what, where the table of all routes (`tests/support/rights.py`) is not fine enough."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.jobs.conftest import Create
from tests.support.jobs_service import JobsService

pytestmark = pytest.mark.stack

OWNER, MEMBER, STRANGER, ADMIN, RUN, NOBODY = "owner", "member", "stranger", "admin", "run", "nobody"
_BODY = {"name": "n", "label": "l", "job_type": "BASIC"}


def _row(method: str, path: str, owner: int, member: int, stranger: int, admin: int, run: int = 403, nobody: int = 401, **more: Any) -> Any:
    expected = {OWNER: owner, MEMBER: member, STRANGER: stranger, ADMIN: admin, RUN: run, NOBODY: nobody}
    return pytest.param(method, path, more, expected, id=f"{method} {path}")


MATRIX = [
    _row("POST", "/jobs", 403, 403, 403, 201, json=_BODY | {"user": "somebody"}),
    _row("GET", "/jobs/counts?group=hydro", 200, 403, 403, 200),
    _row("GET", "/jobs/counts?user=ada", 200, 403, 403, 200),
    _row("PATCH", "/jobs/{id}", 200, 403, 404, 200, json={"description": "changed"}),
    _row("GET", "/update-job-status/{id}/", 405, 405, 405, 405, run=405, nobody=405),
]


@pytest.mark.parametrize(("method", "path", "more", "expected"), MATRIX)
def test_route_lets_in_whom_it_should(
    service: JobsService, ada: httpx.Client, create: Create, method: str, path: str, more: dict[str, Any], expected: dict[str, int]
) -> None:
    def caller(who: str, job_id: str) -> httpx.Client:
        if who == RUN:
            return service.with_token(ada.post(f"/jobs/{job_id}/credentials", json={}).json()["token"])
        return service.client({OWNER: "ada", MEMBER: "bob", STRANGER: "eve", ADMIN: "admin", NOBODY: None}[who])

    answers = {}
    for who in expected:
        job_id = create()["id"]
        ada.put(f"/jobs/{job_id}/files/in.txt", content=b"input")
        with caller(who, job_id) as client:
            answers[who] = client.request(method, path.format(id=job_id), **more).status_code

    assert answers == expected


@pytest.mark.parametrize("path", ["/jobs/{id}/events", "/jobs/events"])
def test_feeds_open_for_those_who_may_see(service: JobsService, create: Create, path: str) -> None:
    job_id = create()["id"]
    answers = {}
    for who in ("ada", "bob", "eve", "admin", None):
        with service.client(who) as client, client.stream("GET", path.format(id=job_id)) as response:
            answers[who] = response.status_code

    assert answers == {"ada": 200, "bob": 200, "eve": 404 if "{id}" in path else 200, "admin": 200, None: 401}


def test_lists_show_what_the_single_job_shows(service: JobsService, create: Create) -> None:
    """The rule stands twice, in Python and in SQL: here each holds the other."""
    groups: list[list[str]] = [[], ["ops"], ["hydro"], ["ops", "hydro"], ["nobody"]]
    jobs = [create(label="both", groups=g)["id"] for g in groups]
    with service.client("bob") as bob:
        jobs.append(bob.post("/jobs", json=_BODY | {"label": "both"}).json()["id"])

    for user in ("ada", "bob", "eve", "admin"):
        with service.client(user) as client:
            listed = {job["id"] for job in client.get("/jobs", params={"label": "both"}).json()["items"]}
            single = {job_id for job_id in jobs if client.get(f"/jobs/{job_id}").status_code == 200}
        assert listed == single, user


@pytest.mark.parametrize("token", ["-", "x", "jlk_aaaaaaaaaaaaaaaa_" + "b" * 43, "jlr_abc.def", "jlr_", "é", "x" * 5000])
def test_bad_credential_is_not_accepted_anywhere(service: JobsService, create: Create, token: str) -> None:
    job_id = create()["id"]
    headers = [(b"authorization", f"Bearer {token}".encode())]
    with service.client(None) as client:
        for method, path in (("GET", "/jobs"), ("POST", f"/update-job-status/{job_id}/"), ("GET", f"/jobs/{job_id}/files/x")):
            response = client.request(method, path, headers=headers)
            assert response.status_code == 401, path
            assert response.headers["www-authenticate"].startswith("Bearer")


def test_keys_are_made_listed_and_ended(service: JobsService, admin: httpx.Client) -> None:
    made = admin.post("/jobs/keys", json={"user": "carl", "groups": ["ops"], "label": "laptop", "expires_in_s": 3600})
    assert made.status_code == 201, made.text
    with service.with_token(made.json()["key"]) as carl:
        assert carl.get("/jobs/whoami").json() == {"user": "carl", "groups": ["ops"], "admin": False, "service": False}
        listed = admin.get("/jobs/keys", params={"user": "carl"})
        assert [key["id"] for key in listed.json()["items"]] == [made.json()["id"]]
        assert made.json()["key"] not in listed.text

        assert admin.delete(f"/jobs/keys/{made.json()['id']}").status_code == 200
        assert carl.get("/jobs/whoami").status_code == 401
    assert admin.post("/jobs/keys", json={"user": "nobody-knows"}).status_code == 404
    assert admin.post("/jobs/keys", json={"user": "bad name!", "groups": []}).status_code == 400


def test_no_answer_and_no_log_line_holds_a_key(service: JobsService, ada: httpx.Client, create: Create) -> None:
    token = ada.post(f"/jobs/{create()['id']}/credentials", json={}).json()["token"]
    with service.with_token(token) as run:
        run.get("/jobs")
    secrets: list[str] = [*service.keys.values(), token]

    text = service.log(last=100_000)
    assert "Request answered" in text

    for secret in secrets:
        assert secret not in text
        assert secret.split("_", 2)[-1] not in text
