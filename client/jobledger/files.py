"""The workspace of a job: list, upload, download. Large files are never held in memory as a whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from jobledger.errors import InvalidArgument
from jobledger.http import ServiceClient
from jobledger.views import FileInfo

CHUNK_BYTES = 1 << 18


def listing(jobs: ServiceClient, job_id: str, folder: str = "") -> list[FileInfo]:
    """All files of the workspace, or below one of its folders, in the order of their paths."""
    if folder:
        check_path(folder.rstrip("/"))
    found: list[FileInfo] = []
    folders = [folder]
    while folders:
        for item in jobs.pages(f"/jobs/{job_id}/files", {"path": folders.pop()}):
            if item["type"] == "directory":
                folders.append(item["path"])
            else:
                found.append(msgspec.convert(item, FileInfo, strict=False))
    return sorted(found, key=lambda file: file.path)


def upload(jobs: ServiceClient, job_id: str, source: Path, path: str) -> str:
    """Put a local file under `path`; returns `path`. Raises OSError when the file cannot be read."""
    size = source.stat().st_size
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    jobs.request("PUT", address(job_id, path), content=lambda: _pieces(source), headers=headers)
    return path


def write(jobs: ServiceClient, job_id: str, path: str, content: bytes) -> None:
    """Put bytes under `path`."""
    jobs.request("PUT", address(job_id, path), content=lambda: content, headers={"Content-Type": "application/octet-stream"})


def read(jobs: ServiceClient, job_id: str, path: str) -> bytes:
    """The whole content of a file."""
    return jobs.request("GET", address(job_id, path)).content


def chunks(jobs: ServiceClient, job_id: str, path: str) -> Iterator[bytes]:
    """The content of a file, piece by piece."""
    with jobs.stream(address(job_id, path)) as response:
        yield from response.iter_bytes(CHUNK_BYTES)


def download(jobs: ServiceClient, job_id: str, path: str, to: Path) -> Path:
    """Bring a file into the folder `to`, or to that name; it appears when it is whole. Raises OSError when it cannot be written."""
    check_path(path)
    target = to / Path(path).name if to.is_dir() else to
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in chunks(jobs, job_id, path):
                file.write(piece)
        Path(part).replace(target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return target


def check_path(path: str) -> str:
    """Return the path if it stays inside a workspace. Raises `InvalidArgument`: a URL with `..` would name something else altogether."""
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise InvalidArgument(
            f"{path!r} is no path in a job's workspace: it must be relative to the workspace, without empty parts, '.' and '..'"
        )
    return path


def address(job_id: str, path: str) -> str:
    """Where a file of a workspace answers. Raises `InvalidArgument`."""
    return f"/jobs/{job_id}/files/{quote(check_path(path), safe='/')}"


def _pieces(source: Path) -> Iterator[Any]:
    with source.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece
