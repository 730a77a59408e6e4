"""Jobs' folders: one contract for local disks and for fsspec, and no way out of a folder."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_kit.errors import InvalidPath, NotFound, TooLarge, Unavailable
from jobledger_kit.workspace import Workspaces, safe_path, workspace_url

pytestmark = pytest.mark.anyio

JOB = "01890000-0000-7000-8000-000000000000"
OTHER = "01890000-0000-7000-8000-000000000001"


@pytest.fixture(params=["local", "memory"])
def workspaces(request: pytest.FixtureRequest, tmp_path: Path) -> Workspaces:
    if request.param == "local":
        return Workspaces((tmp_path / "work spaces").as_uri())
    return Workspaces(f"memory://{uuid.uuid4().hex}/jobs")


@pytest.fixture
def local(tmp_path: Path) -> Workspaces:
    return Workspaces(str(tmp_path / "base"))


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def content(workspaces: Workspaces, path: str, start: int = 0, stop: int | None = None) -> bytes:
    async with await workspaces.open(JOB, path) as file:
        return b"".join([chunk async for chunk in file.chunks(start, stop)])


async def test_what_is_written_is_read_back(workspaces: Workspaces) -> None:
    data = os.urandom(700_000)
    written = await workspaces.write(JOB, "run-1/out [1]*.bin", pieces(data[:5], data[5:600_000], data[600_000:]))
    assert (written.size_bytes, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert await content(workspaces, "run-1/out [1]*.bin") == data
    assert await content(workspaces, "run-1/out [1]*.bin", 10, 20) == data[10:20]
    entry = await workspaces.stat(JOB, "run-1/out [1]*.bin")
    assert (entry.type, entry.size_bytes, entry.path) == ("file", len(data), "run-1/out [1]*.bin")
    assert entry.modified_at is not None


async def test_a_file_is_replaced_whole(workspaces: Workspaces) -> None:
    await workspaces.write(JOB, "a", pieces(b"old and long"))
    await workspaces.write(JOB, "a", pieces(b"new"))
    assert await content(workspaces, "a") == b"new"


async def test_an_upload_that_fails_changes_nothing(workspaces: Workspaces) -> None:
    await workspaces.write(JOB, "a", pieces(b"old"))

    async def cut() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await workspaces.write(JOB, "a", cut())
    with pytest.raises(TooLarge):
        await workspaces.write(JOB, "b/c", pieces(b"123", b"456"), max_bytes=5)
    assert await content(workspaces, "a") == b"old"
    assert [entry.path for entry in (await workspaces.list(JOB))[0]] == ["a"]


async def test_folders_are_listed_by_page(workspaces: Workspaces) -> None:
    assert await workspaces.list(JOB) == ([], None)
    for name in ("b", "a", "sub/x", "sub/y", "c"):
        await workspaces.write(JOB, name, pieces(name.encode()))
    await workspaces.write(OTHER, "z", pieces(b"z"))
    first, cursor = await workspaces.list(JOB, limit=3)
    assert cursor is not None
    second, end = await workspaces.list(JOB, limit=3, cursor=cursor)
    assert [(e.path, e.type) for e in [*first, *second]] == [("a", "file"), ("b", "file"), ("c", "file"), ("sub", "directory")]
    assert end is None
    assert [e.path for e in (await workspaces.list(JOB, "sub"))[0]] == ["sub/x", "sub/y"]


async def test_what_is_not_there_is_not_found(workspaces: Workspaces) -> None:
    await workspaces.write(JOB, "a", pieces(b"x"))
    for call in (
        lambda: workspaces.open(JOB, "b"),
        lambda: workspaces.stat(JOB, "b"),
        lambda: workspaces.delete(JOB, "b"),
        lambda: workspaces.list(JOB, "b"),
        lambda: workspaces.list(JOB, "a"),
        lambda: workspaces.open("no-job", "a"),
        lambda: workspaces.open(OTHER, "a"),
    ):
        with pytest.raises(NotFound):
            await call()


async def test_a_folder_is_no_file(workspaces: Workspaces) -> None:
    await workspaces.write(JOB, "sub/a", pieces(b"x"))
    for call in (
        lambda: workspaces.open(JOB, "sub"),
        lambda: workspaces.write(JOB, "sub", pieces(b"x")),
        lambda: workspaces.delete(JOB, "sub"),
    ):
        with pytest.raises(InvalidPath):
            await call()


async def test_files_and_whole_folders_are_deleted(workspaces: Workspaces) -> None:
    await workspaces.write(JOB, "a", pieces(b"x"))
    await workspaces.write(JOB, "s/b", pieces(b"x"))
    await workspaces.write(OTHER, "a", pieces(b"x"))
    await workspaces.delete(JOB, "a")
    assert [entry.path for entry in (await workspaces.list(JOB))[0]] == ["s"]
    await workspaces.remove(JOB)
    await workspaces.remove(JOB)
    assert await workspaces.list(JOB) == ([], None)
    assert len((await workspaces.list(OTHER))[0]) == 1


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", ".", "a/./b", "a//b", "a/", "a\\b", "a\0b", "a\nb", "a\x7fb", "\ud800"),
        *("x" * 256, "ab/" * 400 + "c", ".jobledger-upload-1", "a/.jobledger-upload-1"),
    ],
)
async def test_bad_paths_are_refused(workspaces: Workspaces, path: str) -> None:
    with pytest.raises(InvalidPath):
        await workspaces.write(JOB, path, pieces(b"x"))
    with pytest.raises(InvalidPath):
        await workspaces.open(JOB, path)


@given(st.text(max_size=60))
async def test_a_safe_path_never_leads_out(text: str) -> None:
    try:
        path = safe_path(text)
    except InvalidPath:
        return
    assert os.path.normpath(f"/base/job/{path}") == f"/base/job/{path}"


@pytest.mark.parametrize("path", ["über/ñ.csv", "a b/c;d&e", "run-1/out[0]*?.txt", "~/x", "C:/x", "a::b", "%2e%2e/x", "...", "..a/b.."])
async def test_odd_but_harmless_names_are_kept(workspaces: Workspaces, path: str) -> None:
    await workspaces.write(JOB, path, pieces(b"x"))
    assert await content(workspaces, path) == b"x"


async def test_links_that_a_job_left_lead_nowhere(local: Workspaces, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("tiger")
    await local.write(JOB, "a", pieces(b"x"))
    folder = tmp_path / "base" / JOB
    (folder / "file").symlink_to(secret / "key")
    (folder / "dir").symlink_to(secret)
    (folder / "loop").symlink_to("loop")
    for path in ("file", "dir/key", "loop", "loop/x"):
        with pytest.raises((InvalidPath, NotFound)):
            await local.open(JOB, path)
    for path in ("dir/new", "loop/x"):
        with pytest.raises((InvalidPath, NotFound)):
            await local.write(JOB, path, pieces(b"x"))
    with pytest.raises((InvalidPath, NotFound)):
        await local.list(JOB, "dir")
    with pytest.raises((InvalidPath, NotFound)):
        await local.delete(JOB, "dir/key")
    assert [entry.path for entry in (await local.list(JOB))[0]] == ["a"]
    await local.write(JOB, "file", pieces(b"mine"))  # replaces the link, not what it points to
    assert (secret / "key").read_text() == "tiger"
    assert await content(local, "file") == b"mine"
    await local.remove(JOB)
    assert (secret / "key").read_text() == "tiger"


async def test_a_job_folder_that_is_a_link_is_not_followed(local: Workspaces, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("tiger")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / JOB).symlink_to(tmp_path / "secret")
    with pytest.raises(NotFound):
        await local.open(JOB, "key")
    assert await local.list(JOB) == ([], None)


async def test_pipes_and_devices_are_not_read(local: Workspaces, tmp_path: Path) -> None:
    await local.write(JOB, "a", pieces(b"x"))
    os.mkfifo(tmp_path / "base" / JOB / "pipe")
    with pytest.raises(InvalidPath):
        await local.open(JOB, "pipe")
    assert [entry.path for entry in (await local.list(JOB))[0]] == ["a"]


async def test_a_disk_that_fails_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("no folder")
    with pytest.raises(Unavailable):
        await Workspaces(str(tmp_path / "base")).write(JOB, "a", pieces(b"x"))


async def test_nothing_is_left_of_a_half_written_file(local: Workspaces, tmp_path: Path) -> None:
    await local.write(JOB, "a/b", pieces(b"x"))
    with pytest.raises(InvalidPath):
        await local.write(JOB, "a", pieces(b"x"))
    assert sorted(path.name for path in (tmp_path / "base" / JOB).rglob("*")) == ["a", "b"]


async def test_every_service_names_a_jobs_folder_alike() -> None:
    assert workspace_url("s3://bucket/jobs/", JOB) == workspace_url("s3://bucket/jobs", JOB) == f"s3://bucket/jobs/{JOB}/"
    with pytest.raises(InvalidPath):
        workspace_url("s3://bucket", "../x")
