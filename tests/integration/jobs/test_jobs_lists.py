"""Lists in every order and by every filter, counts that are kept, and answers that did not change."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.jobs.conftest import Create
from tests.support.jobs_service import JobsService

pytestmark = pytest.mark.stack

BODY = {"name": "calibration", "label": "hydro", "job_type": "BASIC"}


def report(client: httpx.Client, job_id: str, status: str) -> dict[str, Any]:
    """Report a status and wait until the rows know it."""
    position = client.post(f"/update-job-status/{job_id}/", json={"status": status}).json()["position"]
    job: dict[str, Any] = client.get(f"/jobs/{job_id}", params={"after": position}).json()
    return job


def pages(client: httpx.Client, **query: Any) -> list[str]:
    """The names of all jobs of a list, two by two."""
    seen: list[str] = []
    cursor: str | None = None
    while True:
        answer = client.get("/jobs", params=query | {"limit": 2} | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        seen += [job["name"] for job in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return seen


@pytest.mark.parametrize("user", ["ada", "bob", "admin"])
def test_every_order_pages_through_all_jobs_that_have_it(service: JobsService, ada: httpx.Client, create: Create, user: str) -> None:
    label = f"orders-{user}"
    jobs = {name: create(label=label, name=name)["id"] for name in ("cedar", "Beech", "ash", "Elm", "date")}
    for name in ("date", "ash", "cedar"):
        ada.post(f"/jobs/{jobs[name]}/execute")
    for name in ("cedar", "ash"):
        report(ada, jobs[name], "Complete")

    expected = {
        "creation_time": ["cedar", "Beech", "ash", "Elm", "date"],
        "execute_time": ["date", "ash", "cedar"],
        "completion_time": ["cedar", "ash"],
        "name": ["ash", "Beech", "cedar", "date", "Elm"],
        "status": ["cedar", "ash", "Beech", "Elm", "date"],
    }
    with service.client(user) as client:
        for order, names in expected.items():
            assert pages(client, label=label, order_by=order) == names, order
            assert pages(client, label=label, order_by=f"-{order}") == names[::-1], order
        page = client.get("/jobs", params={"label": label, "limit": 1, "order_by": "name"}).json()
        assert client.get("/jobs", params={"label": label, "cursor": page["next_cursor"], "order_by": "status"}).status_code == 400


def test_filters_on_properties_times_types_and_several_groups(ada: httpx.Client, bob: httpx.Client, create: Create) -> None:
    one = create(label="props", name="one", extended_properties={"scenario": {"year": 2026, "dry": True}, "tags": ["a", "b"]})
    two = create(
        label="props", name="two", groups=["x", "ops"], extended_properties={"scenario": {"year": 2027, "note": "Größe \U0001f30a"}}
    )
    ada.post(f"/jobs/{two['id']}/execute")
    ended = report(ada, two["id"], "Complete")

    def names(client: httpx.Client = ada, **query: Any) -> list[str]:
        return pages(client, label="props", order_by="name", **query)

    assert names(extended_properties='{"scenario": {"year": 2026}}') == ["one"]
    assert names(extended_properties='{"tags": ["b"]}') == ["one"]
    assert names(extended_properties='{"scenario": {"note": "Größe \U0001f30a"}}') == ["two"]
    assert names(extended_properties='{"scenario": {"year": "2026"}}') == []
    assert names(extended_properties="{}") == ["one", "two"]
    assert names(bob, extended_properties='{"scenario": {"year": 2027}}') == ["two"]
    assert names(group=["x", "nobody"]) == ["two"]
    assert names(bob, group=["x"]) == ["two"]
    assert names(job_type=["BASIC", "DASK"]) == ["one", "two"]
    assert names(job_type=["DASK"]) == []
    assert names(executed_after=one["creation_time"]) == ["two"]
    assert names(completed_before=ended["completion_time"]) == []
    assert names(completed_after=ended["completion_time"]) == ["two"]

    ada.patch(f"/jobs/{one['id']}", json={"extended_properties": {"scenario": {"year": 2030}}, "name": "three"})
    assert names(extended_properties='{"scenario": {"year": 2026}}') == []
    assert names() == ["three", "two"]
    assert ada.delete(f"/jobs/{one['id']}").status_code == 200
    assert names() == ["two"]


def test_counts_are_those_of_the_lists(service: JobsService, ada: httpx.Client, bob: httpx.Client, admin: httpx.Client) -> None:
    def create(client: httpx.Client, *groups: str) -> str:
        return str(client.post("/jobs", json=BODY | {"label": "counting", "groups": groups}).json()["id"])

    mine = [create(ada, "ops"), create(ada), create(ada, "hydro", "ops"), create(ada)]
    create(bob, "ops")
    report(ada, mine[0], "Complete")
    ada.patch(f"/jobs/{mine[2]}", json={"groups": ["hydro"]})
    ada.delete(f"/jobs/{mine[3]}")

    def count(client: httpx.Client, **query: Any) -> dict[str, int]:
        answer = client.get("/jobs/counts", params={"label": "counting"} | query)
        assert answer.status_code == 200, answer.text
        assert answer.json()["total"] == sum(answer.json()["statuses"].values())
        statuses: dict[str, int] = answer.json()["statuses"]
        return statuses

    assert count(ada) == count(admin, user="ada") == {"Pending": 2, "Complete": 1}
    assert count(bob) == {"Pending": 1}
    assert count(bob, group="ops") == {"Pending": 1, "Complete": 1}
    assert count(ada, group="hydro") == {"Pending": 1}
    assert count(admin) == {"Pending": 3, "Complete": 1}
    assert bob.get("/jobs/counts", params={"user": "ada"}).status_code == 403
    assert bob.get("/jobs/counts", params={"group": "hydro"}).status_code == 403
    assert ada.get("/jobs/counts", params={"user": "ada", "group": "hydro"}).status_code == 400
    everything = admin.get("/jobs/counts").json()["total"]
    assert everything >= 4


@pytest.mark.parametrize("path", ["/jobs?label=tags", "/jobs/{id}", "/jobs/counts?label=tags"])
def test_answer_that_did_not_change_is_not_sent_again(ada: httpx.Client, create: Create, path: str) -> None:
    job = create(label="tags", name="tagged")
    path = path.format(id=job["id"])
    first = ada.get(path)
    tag = first.headers["etag"]

    again = ada.get(path, headers={"if-none-match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)

    ada.post(f"/jobs/{job['id']}/execute")
    changed = ada.get(path, headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
