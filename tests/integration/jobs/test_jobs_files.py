"""The files of a job: in, out, and nothing of anybody else's."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from tests.integration.jobs.conftest import Create
from tests.support.eventually import eventually
from tests.support.jobs_service import JobsService

pytestmark = pytest.mark.stack


def test_file_comes_back_as_it_went_whole_or_in_part(ada: httpx.Client, bob: httpx.Client, create: Create) -> None:
    path = f"/jobs/{create()['id']}/files/inputs/größe 1.bin"
    content = bytes(range(256)) * 5000

    put = ada.put(path, content=content)
    assert put.status_code == 201, put.text
    assert put.json() == {"path": "inputs/größe 1.bin", "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    assert bob.get(path).content == content
    part = ada.get(path, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, content[10:20], f"bytes 10-19/{len(content)}")
    assert ada.get(path, headers={"range": "bytes=-3"}).content == content[-3:]
    beyond = ada.get(path, headers={"range": f"bytes={len(content)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(content)}")
    head = ada.head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(content)), b"")
    assert "attachment" in head.headers["content-disposition"]


def test_listing_shows_folders_and_files(ada: httpx.Client, create: Create) -> None:
    job_id = create()["id"]
    assert ada.get(f"/jobs/{job_id}/files").json() == {"items": [], "next_cursor": None}
    for name in ("b.txt", "a.txt", "sub/c.txt"):
        ada.put(f"/jobs/{job_id}/files/{name}", content=b"123")

    top = ada.get(f"/jobs/{job_id}/files").json()["items"]
    below = ada.get(f"/jobs/{job_id}/files", params={"path": "sub"}).json()["items"]
    first = ada.get(f"/jobs/{job_id}/files", params={"limit": 2}).json()
    rest = ada.get(f"/jobs/{job_id}/files", params={"limit": 2, "cursor": first["next_cursor"]}).json()

    assert [(e["path"], e["type"]) for e in top] == [("a.txt", "file"), ("b.txt", "file"), ("sub", "directory")]
    assert [(e["path"], e["size_bytes"]) for e in below] == [("sub/c.txt", 3)]
    assert [e["path"] for e in first["items"] + rest["items"]] == ["a.txt", "b.txt", "sub"]


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "%2e%2e/x", "a//b", "run-1/out.txt", "run-12", "a%5cb", "x%00", "%2fetc/passwd", "a/", "x" * 2000]
)
def test_bad_path_is_refused(ada: httpx.Client, create: Create, name: str) -> None:
    job_id = create()["id"]

    response = ada.send(httpx.Request("PUT", f"{ada.base_url}/jobs/{job_id}/files/{name}", headers=ada.headers, content=b"x"))

    assert response.status_code in (400, 404, 405), response.text
    assert ada.get(f"/jobs/{job_id}/files").json()["items"] == []


def test_link_out_of_the_folder_is_not_followed(service: JobsService, ada: httpx.Client, create: Create) -> None:
    job_id = create()["id"]
    ada.put(f"/jobs/{job_id}/files/ok.txt", content=b"x")
    (service.workspaces / job_id / "link").symlink_to(service.secrets_dir)

    assert ada.get(f"/jobs/{job_id}/files/link/run-credential.key").status_code in (400, 404)
    assert [e["path"] for e in ada.get(f"/jobs/{job_id}/files").json()["items"]] == ["ok.txt"]


def test_file_of_another_job_is_out_of_reach(ada: httpx.Client, eve: httpx.Client, create: Create) -> None:
    job_id, own = create()["id"], eve.post("/jobs", json={"name": "n", "label": "l", "job_type": "BASIC"}).json()["id"]
    ada.put(f"/jobs/{job_id}/files/secret.txt", content=b"x")

    for path in (f"../{job_id}/secret.txt", f"%2e%2e/{job_id}/secret.txt", f"..%2f{job_id}%2fsecret.txt"):
        response = eve.send(httpx.Request("GET", f"{eve.base_url}/jobs/{own}/files/{path}", headers=eve.headers))
        assert response.status_code in (400, 404)


def test_what_is_not_there_is_not_found(ada: httpx.Client, create: Create) -> None:
    job_id = create()["id"]

    assert ada.get(f"/jobs/{job_id}/files/none.txt").status_code == 404
    assert ada.get(f"/jobs/{job_id}/files", params={"path": "none"}).status_code == 404
    assert ada.get(f"/jobs/{job_id}/files", params={"path": "../x"}).status_code == 400


def test_deleting_a_job_removes_its_folder_and_no_other(service: JobsService, ada: httpx.Client, create: Create) -> None:
    one, two = create()["id"], create()["id"]
    for job_id in (one, two):
        ada.put(f"/jobs/{job_id}/files/in.txt", content=b"x")

    assert ada.delete(f"/jobs/{one}").status_code == 200

    eventually(lambda: not (service.workspaces / one).exists(), timeout_s=30)
    assert (service.workspaces / two / "in.txt").read_bytes() == b"x"


def test_run_writes_into_its_own_folder_and_only_while_it_goes_on(service: JobsService, ada: httpx.Client, create: Create) -> None:
    job_id, other = create()["id"], create()["id"]
    token = ada.post(f"/jobs/{job_id}/credentials", json={}).json()["token"]

    with service.with_token(token) as run:
        assert run.put(f"/jobs/{job_id}/files/run-1/plots/a.png", content=b"png").status_code == 201
        for path in ("a.png", "run-1", "run-2/a.png", "run-11/a.png"):
            assert run.put(f"/jobs/{job_id}/files/{path}", content=b"x").status_code == 403, path
        assert run.put(f"/jobs/{job_id}/files/run-1/../a.png", content=b"x").status_code in (400, 403, 404)
        assert run.put(f"/jobs/{other}/files/run-1/a.png", content=b"x").status_code == 404
        for path in (f"/jobs/{job_id}/files/run-1/plots/a.png", f"/jobs/{job_id}/files"):
            assert run.get(path).status_code == 403, path
        done = run.post(f"/update-job-status/{job_id}/", json={"status": "Complete"}).json()
        ada.get(f"/jobs/{job_id}", params={"after": done["position"]})
        assert run.put(f"/jobs/{job_id}/files/run-1/plots/a.png", content=b"late").status_code == 409

    assert ada.get(f"/jobs/{job_id}/files/run-1/plots/a.png").content == b"png"
    assert [entry["path"] for entry in ada.get(f"/jobs/{job_id}/files").json()["items"]] == ["run-1"]
