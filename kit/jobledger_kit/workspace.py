"""Jobs' folders: `<base>/<job id>/`, on a local file system or behind any fsspec URL.

Paths come from users and from the jobs themselves, so none may lead out of its job's folder: not by its text (`safe_path`), and on a
local file system not by a symbolic link either (`workspace_local`). A file is written beside its place and moved there when it is whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Protocol, Self, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from jobledger_contracts.ids import is_job_id

from .errors import InvalidPath, JobledgerError, NotFound, TooLarge, Unavailable
from .pagination import MAX_LIMIT, cut_page, decode_cursor

T = TypeVar("T")

CHUNK_BYTES: Final = 256 * 1024
MAX_FILE_BYTES: Final = 4 * 1024**3
MAX_PATH_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 255
TEMPORARY_PREFIX: Final = ".jobledger-upload-"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A file or a folder; `path` is relative to the job's folder."""

    path: str
    type: Literal["file", "directory"]
    size_bytes: int = 0
    modified_at: datetime | None = None


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was written."""

    path: str
    size_bytes: int
    sha256: str


def workspace_url(base: str, job_id: str) -> str:
    """The URL of a job's folder; every service names it alike. Raises InvalidPath for what is no job id."""
    if not is_job_id(job_id):
        raise InvalidPath(job_id, "it does not begin with a job id")
    return f"{base.rstrip('/')}/{job_id}/"


def safe_path(text: str) -> str:
    """Return the path if it can only mean something inside a folder, in one spelling. Raises InvalidPath.

    >>> safe_path("run-1/out.csv")
    'run-1/out.csv'
    """
    if not text:
        raise InvalidPath(text, "it is empty")
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidPath(ascii(text), "it is no valid text") from None
    if size_bytes > MAX_PATH_BYTES:
        raise InvalidPath(text, f"it is longer than {MAX_PATH_BYTES} bytes")
    if not text.isprintable() or "\\" in text:
        raise InvalidPath(text, "it holds a control character or a backslash")
    for name in text.split("/"):
        if name in ("", ".", ".."):
            raise InvalidPath(text, "it must be relative, without empty parts, '.' and '..'")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise InvalidPath(text, f"a name in it is longer than {MAX_NAME_BYTES} bytes")
        if name.startswith(TEMPORARY_PREFIX):
            raise InvalidPath(text, "names like this are for uploads that are under way")
    return text


class Folders(Protocol):
    """What a file system has to do for us. All block, and are called in threads. `path` is safe, and begins with the job id.

    They raise FileNotFoundError, IsADirectoryError, NotADirectoryError, InvalidPath (a link), or whatever means "not now".
    """

    def entries(self, path: str) -> list[Entry]:
        """What is in a folder, in any order; the entries' paths are their names."""
        ...

    def stat(self, path: str) -> Entry: ...

    def open(self, path: str) -> tuple[BinaryIO, Entry]:
        """A file to read from, with `seek`."""
        ...

    def put(self, path: str, source: BinaryIO) -> None:
        """Write a whole file; makes the folders above it. A reader sees the old file or the new one, where the file system can do that."""
        ...

    def delete(self, path: str) -> None:
        """Delete a file."""
        ...

    def remove(self, path: str) -> None:
        """Delete a folder and all in it; it is no error when there is none."""
        ...


class Workspaces:
    """All jobs' folders below one base URL. Raises InvalidPath, NotFound, TooLarge, and Unavailable when the file system fails."""

    def __init__(self, base_url: str, *, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self.base_url, self.max_file_bytes = base_url, max_file_bytes
        self._folders = folders_of(base_url)

    async def list(self, job_id: str, path: str = "", *, limit: int = MAX_LIMIT, cursor: str = "") -> tuple[list[Entry], str | None]:
        """A page of what is in a folder, by name, and the next page's cursor. A job's own folder is empty until something is in it."""
        after = decode_cursor(cursor, tuple[str])[0] if cursor else ""
        place = _place(job_id, path) if path else _place(job_id)
        try:
            entries = await self._call(self._folders.entries, place, path)
        except NotFound:
            if path:
                raise
            entries = []
        later = sorted((e for e in entries if e.path > after and not e.path.startswith(TEMPORARY_PREFIX)), key=lambda e: e.path)
        page, following = cut_page(later[: limit + 1], limit, lambda entry: (entry.path,))
        return [msgspec.structs.replace(entry, path=f"{path}/{entry.path}" if path else entry.path) for entry in page], following

    async def stat(self, job_id: str, path: str) -> Entry:
        """What a path is."""
        entry = await self._call(self._folders.stat, _place(job_id, path), path)
        return msgspec.structs.replace(entry, path=path)

    async def open(self, job_id: str, path: str) -> OpenFile:
        """Open a file to read; close it with `async with` or `aclose`."""
        file, entry = await self._call(self._folders.open, _place(job_id, path), path)
        return OpenFile(file, msgspec.structs.replace(entry, path=path))

    async def write(self, job_id: str, path: str, chunks: AsyncIterator[bytes], *, max_bytes: int | None = None) -> Written:
        """Write a file from pieces. Nothing is changed unless all of them came; what `chunks` raises passes through."""
        place, limit = _place(job_id, path), min(max_bytes or self.max_file_bytes, self.max_file_bytes)
        digest, size_bytes = hashlib.sha256(), 0
        # Into a local file first: a caller who goes away, or sends too much, leaves nothing behind anywhere.
        with tempfile.SpooledTemporaryFile(max_size=CHUNK_BYTES * 4) as spool:
            async for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > limit:
                    raise TooLarge(limit)
                await asyncio.to_thread(_add, spool, digest, chunk)
            spool.seek(0)
            await self._call(lambda where: self._folders.put(where, spool), place, path)  # type: ignore[arg-type]  # it is a BinaryIO but for its stub
        return Written(path=path, size_bytes=size_bytes, sha256=digest.hexdigest())

    async def delete(self, job_id: str, path: str) -> None:
        """Delete a file."""
        await self._call(self._folders.delete, _place(job_id, path), path)

    async def remove(self, job_id: str) -> None:
        """Delete a job's whole folder; it is no error when there is none."""
        await self._call(self._folders.remove, _place(job_id), "")

    async def _call(self, function: Callable[[str], T], place: str, path: str) -> T:
        """Run a blocking call in a thread, and name its errors."""
        try:
            return await asyncio.to_thread(function, place)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("file", path) from None
        except IsADirectoryError:
            raise InvalidPath(path, "it is a folder") from None
        except JobledgerError:
            raise
        except Exception as error:
            # Each file system has its own errors; all others mean that it does not serve us now.
            raise Unavailable("The workspaces cannot be read or written now.", what="workspaces", retry_after_s=5) from error


class OpenFile:
    """A file that is being read."""

    def __init__(self, file: BinaryIO, entry: Entry) -> None:
        self._file, self.entry = file, entry

    async def chunks(self, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not including, `stop`; closes the file at the end. Raises Unavailable when it became shorter."""
        left = (self.entry.size_bytes if stop is None else stop) - start
        try:
            await asyncio.to_thread(self._file.seek, start)
            while left > 0:
                chunk = await asyncio.to_thread(self._file.read, min(CHUNK_BYTES, left))
                if not chunk:
                    raise Unavailable("The file became shorter while it was read.")
                left -= len(chunk)
                yield chunk
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Let go of the file; again is no error."""
        await asyncio.to_thread(self._file.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()


def folders_of(base_url: str) -> Folders:
    """The file system behind a URL: our own for local folders, fsspec's for all others. Raises ValueError for an unknown scheme."""
    parts = urlsplit(base_url)
    if parts.scheme == "file" or base_url.startswith("/"):
        from .workspace_local import LocalFolders

        return LocalFolders(Path(unquote(parts.path) if parts.scheme else base_url))
    return _FsspecFolders(base_url)


def _place(job_id: str, path: str | None = None) -> str:
    if not is_job_id(job_id):
        raise NotFound("job", job_id)
    return job_id if path is None else f"{job_id}/{safe_path(path)}"


def _add(spool: Any, digest: Any, chunk: bytes) -> None:
    digest.update(chunk)
    spool.write(chunk)


_RENAMES: Final = frozenset({"sftp", "ssh", "hdfs", "arrow_hdfs", "webhdfs", "smb"})
"""File systems that show a half-written file, and can rename. Object stores, and memory, show a file when it is whole."""


class _FsspecFolders:
    """Folders behind an fsspec URL. Only calls that take a path literally are used: others read `*`, `?` and `[` as patterns."""

    def __init__(self, base_url: str) -> None:
        from fsspec.core import url_to_fs

        self._fs, root = url_to_fs(base_url)
        self._root = str(root).rstrip("/")
        protocol = self._fs.protocol
        self._renames = not _RENAMES.isdisjoint((protocol,) if isinstance(protocol, str) else protocol)

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    def entries(self, path: str) -> list[Entry]:
        full = self._full(path)
        self._fs.invalidate_cache(full)
        found = self._fs.ls(full, detail=True)
        if len(found) == 1 and found[0]["type"] == "file" and str(found[0]["name"]).rstrip("/").endswith(full):
            raise NotADirectoryError(path)  # a file lists itself
        return [_entry(info) for info in found if _name(info) != path.rpartition("/")[2] or str(info["name"]).strip("/") != full.strip("/")]

    def stat(self, path: str) -> Entry:
        full = self._full(path)
        self._fs.invalidate_cache(full.rpartition("/")[0])
        return _entry(self._fs.info(full))

    def open(self, path: str) -> tuple[BinaryIO, Entry]:
        entry = self.stat(path)
        if entry.type != "file":
            raise IsADirectoryError(path)
        if self._fs.protocol == "memory":
            import io

            return io.BytesIO(self._fs.cat_file(self._full(path))), entry  # its files share one position among all who open them
        return self._fs.open(self._full(path), "rb"), entry

    def put(self, path: str, source: BinaryIO) -> None:
        full = self._full(path)
        parent, _, name = full.rpartition("/")
        if self._fs.isdir(full):
            raise IsADirectoryError(path)
        self._fs.makedirs(parent, exist_ok=True)
        if self._renames:
            temporary = f"{parent}/{TEMPORARY_PREFIX}{name[:100]}"
            self._copy(source, temporary)
            self._fs.mv(temporary, full)
        else:
            self._copy(source, full)
        self._fs.invalidate_cache(parent)

    def _copy(self, source: BinaryIO, full: str) -> None:
        if self._fs.protocol == "memory":
            self._fs.pipe_file(full, source.read())
            return
        with self._fs.open(full, "wb") as target:
            while chunk := source.read(CHUNK_BYTES * 16):
                target.write(chunk)

    def delete(self, path: str) -> None:
        if self.stat(path).type != "file":
            raise IsADirectoryError(path)
        self._fs.rm_file(self._full(path))

    def remove(self, path: str) -> None:
        # The path is a job id here, so `rm` finds no pattern in it.
        if self._fs.exists(self._full(path)):
            self._fs.rm(self._full(path), recursive=True)


def _name(info: dict[str, Any]) -> str:
    return str(info["name"]).rstrip("/").rpartition("/")[2]


def _entry(info: dict[str, Any]) -> Entry:
    """What fsspec says of a file; each file system names the time differently."""
    moment = next((info[name] for name in ("mtime", "LastModified", "last_modified", "updated", "created") if info.get(name)), None)
    if isinstance(moment, (int, float)):
        moment = datetime.fromtimestamp(moment, UTC)
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        moment = None
    kind: Literal["file", "directory"] = "directory" if info["type"] == "directory" else "file"
    return Entry(path=_name(info), type=kind, size_bytes=int(info.get("size") or 0) if kind == "file" else 0, modified_at=moment)
