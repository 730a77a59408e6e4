"""The files of a job: what it needs, and what its runs left.

Only the job's own folder below the service's workspaces is ever opened, whatever a job says its workspace is.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jobledger_kit.errors import Conflict, Forbidden, InvalidPath, NotFound, TooLarge
from jobledger_kit.http import OTHER_TITLES, Allow, json_response, operation, principal_of, problem, read_query, request_id_of, stream_body
from jobledger_kit.workspace import OpenFile, Workspaces, Written, safe_path

from .domain.rights import Right
from .inputs import FileQuery
from .reads import Reads
from .routes import job_id_of, viewer_of
from .views import FilePage

_RUN_FOLDER: Final = re.compile(r"run-\d+\Z")
_RANGE: Final = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?\Z")


class FileRoutes:
    """The endpoints on a job's folder."""

    def __init__(self, *, reads: Reads, workspaces: Workspaces, max_upload_bytes: int) -> None:
        self._reads, self._workspaces, self._max_upload_bytes = reads, workspaces, max_upload_bytes

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route("/jobs/{job_id}/files", self.list_files, methods=["GET"]),
            Route("/jobs/{job_id}/files/{path:path}", self.download, methods=["GET"]),
            Route("/jobs/{job_id}/files/{path:path}", self.upload, methods=["PUT"]),
        ]

    @operation(
        "List a folder of a job",
        description="`path` names a folder in it; without one, the job's own is listed. A run's output is in `run-<n>`.",
        query=FileQuery,
        response=FilePage,
        errors=(NotFound, InvalidPath),
        tag="files",
    )
    async def list_files(self, request: Request) -> Response:
        query = read_query(request, FileQuery)
        row = await self._reads.job(job_id_of(request), viewer_of(principal_of(request)))
        folder = query.path.rstrip("/")
        entries, cursor = await self._workspaces.list(row["id"], folder, limit=query.limit, cursor=query.cursor or "")
        return json_response(FilePage(items=entries, next_cursor=cursor))

    @operation(
        "Download a file of a job",
        description="One range of bytes may be asked for.",
        headers={"Range": "bytes=<first>-<last>, bytes=<first>- or bytes=-<last so many>"},
        responses={200: bytes, 206: bytes},
        response_type="application/octet-stream",
        errors=(NotFound, InvalidPath),
        tag="files",
    )
    async def download(self, request: Request) -> Response:
        row = await self._reads.job(job_id_of(request), viewer_of(principal_of(request)))
        path = str(request.path_params["path"])
        file = await self._workspaces.open(row["id"], path)
        size = file.entry.size_bytes
        wanted = byte_range(request.headers.get("range", ""), size)
        if wanted is None:
            await file.aclose()
            slug, title = OTHER_TITLES[416]
            instance = f"urn:jobledger:request:{request_id_of(request)}"
            return problem(416, slug, title, f"The file has {size} bytes.", instance=instance, headers={"content-range": f"bytes */{size}"})
        start, stop = wanted
        headers = _headers(file, path) | {"content-length": str(stop - start)}
        status = 200
        if (start, stop) != (0, size):
            status, headers["content-range"] = 206, f"bytes {start}-{stop - 1}/{size}"
        if request.method == "HEAD":
            await file.aclose()
            return Response(None, status, headers, "application/octet-stream")
        return StreamingResponse(file.chunks(start, stop), status, headers, "application/octet-stream")

    @operation(
        "Upload a file to a job",
        description=(
            "Replaces what was there, once all of it came. The folders `run-<n>` belong to the runs: with its credential, and as long as "
            "it goes on, a run writes there, and nowhere else."
        ),
        allow=Allow.RUN,
        body=bytes,
        body_types=("application/octet-stream",),
        responses={201: Written},
        errors=(NotFound, Forbidden, Conflict, InvalidPath, TooLarge),
        tag="files",
        max_body_bytes=0,
    )
    async def upload(self, request: Request) -> Response:
        path = safe_path(str(request.path_params["path"]))
        principal = principal_of(request)
        if principal.run is not None:
            row = await self._reads.current_run(job_id_of(request), principal.run)
            if not path.startswith(f"run-{principal.run.run}/"):
                raise Forbidden(f"This run may write below run-{principal.run.run}/ only.")
        else:
            row = await self._reads.job(job_id_of(request), viewer_of(principal), Right.WRITE)
            if _RUN_FOLDER.match(path.partition("/")[0]):
                raise InvalidPath(path, "the folders run-<n> belong to the runs")
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self._max_upload_bytes:
            raise TooLarge(self._max_upload_bytes)
        chunks = stream_body(request, self._max_upload_bytes)
        written = await self._workspaces.write(row["id"], path, chunks, max_bytes=self._max_upload_bytes)
        return json_response(written, 201, {"location": f"/jobs/{row['id']}/files/{quote(path)}"})


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Read a Range header (RFC 9110, 14.2) of one range: from, and up to but not with. None when the file has no such bytes.

    Without the header, or for one that is no range of bytes, or of several ranges, it is the whole file.

    >>> byte_range("bytes=2-4", 10), byte_range("bytes=-3", 10), byte_range("bytes=9-", 10), byte_range("bytes=10-", 10)
    ((2, 5), (7, 10), (9, 10), None)
    """
    match = _RANGE.match(header.strip())
    if match is None or (match[1] is None and match[2] is None):
        return 0, size
    if match[1] is None:
        last = min(int(match[2]), size)
        return (size - last, size) if last else None
    start = int(match[1])
    stop = size if match[2] is None else min(int(match[2]) + 1, size)
    if match[2] is not None and int(match[2]) < start:
        return 0, size  # not a valid range, which counts as none
    return (start, stop) if start < size else None


def _headers(file: OpenFile, path: str) -> dict[str, str]:
    """A browser must never run what a job wrote: it is offered for saving, and sandboxed."""
    name = quote(path.rpartition("/")[2])
    headers = {
        "accept-ranges": "bytes",
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "private, no-cache",
    }
    if file.entry.modified_at is not None:
        headers["last-modified"] = file.entry.modified_at.strftime("%a, %d %b %Y %H:%M:%S GMT")
    return headers
