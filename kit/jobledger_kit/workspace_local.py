"""Jobs' folders on a local file system, walked by file descriptors: each step refuses symbolic links, so no link leads out, and
none can be slipped in between the check and the use. Jobs write into these folders, so links to anywhere must be expected.

See openat(2), O_NOFOLLOW. The base folder itself is the operator's and may be a link.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat as st
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from .errors import InvalidPath
from .workspace import TEMPORARY_PREFIX, Entry

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_COPY_BYTES = 4 * 1024 * 1024


class LocalFolders:
    """`workspace.Folders` for a local base folder; it is made when the first file is written."""

    def __init__(self, base: Path) -> None:
        self._base = base

    def entries(self, path: str) -> list[Entry]:
        with self._folder(path.split("/")) as folder, os.scandir(folder) as found:
            entries = []
            for item in found:
                with suppress(FileNotFoundError):  # gone since
                    info = os.stat(item.name, dir_fd=folder, follow_symlinks=False)
                    if st.S_ISREG(info.st_mode) or st.S_ISDIR(info.st_mode):  # links, pipes and devices are nobody's files
                        entries.append(_entry(item.name, info))
            return entries

    def stat(self, path: str) -> Entry:
        *above, name = path.split("/")
        with self._folder(above) as folder:
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        _refuse_special(path, info)
        return _entry(name, info)

    def open(self, path: str) -> tuple[BinaryIO, Entry]:
        *above, name = path.split("/")
        with self._folder(above) as folder, _links_refused(path):
            # O_NONBLOCK: opening a pipe that a job left must not wait for its writer.
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            info = os.fstat(handle)
            if st.S_ISDIR(info.st_mode):
                raise IsADirectoryError(path)
            _refuse_special(path, info)
            return os.fdopen(handle, "rb"), _entry(name, info)
        except BaseException:
            os.close(handle)
            raise

    def put(self, path: str, source: BinaryIO) -> None:
        *above, name = path.split("/")
        self._base.mkdir(parents=True, exist_ok=True)
        temporary = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        with self._folder(above, make=True) as folder:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder)
            try:
                with os.fdopen(handle, "wb") as target:
                    shutil.copyfileobj(source, target, _COPY_BYTES)
                    target.flush()
                    os.fsync(target.fileno())
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)  # over a link: replaces the link
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)

    def delete(self, path: str) -> None:
        *above, name = path.split("/")
        with self._folder(above) as folder:
            os.unlink(name, dir_fd=folder)  # of a link: deletes the link

    def remove(self, path: str) -> None:
        # rmtree deletes links and does not follow them, and does so by file descriptors (shutil.rmtree.avoids_symlink_attacks).
        with suppress(FileNotFoundError):
            shutil.rmtree(self._base / path)

    @contextmanager
    def _folder(self, names: list[str], *, make: bool = False) -> Iterator[int]:
        """A file descriptor of a folder below the base, reached without following a link."""
        handle = os.open(self._base, _FOLDER)
        try:
            for name in names:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=handle)
                with _links_refused(name):
                    below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = below
            yield handle
        finally:
            os.close(handle)


@contextmanager
def _links_refused(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # A link that should be a folder: Linux says ENOTDIR; one that should be a file: ELOOP.
        if error.errno == errno.ELOOP:
            raise InvalidPath(name, "a symbolic link stands there") from None
        raise


def _refuse_special(path: str, info: os.stat_result) -> None:
    if not (st.S_ISREG(info.st_mode) or st.S_ISDIR(info.st_mode)):
        raise InvalidPath(path, "it is neither a file nor a folder")


def _entry(name: str, info: os.stat_result) -> Entry:
    folder = st.S_ISDIR(info.st_mode)
    return Entry(
        path=name,
        type="directory" if folder else "file",
        size_bytes=0 if folder else info.st_size,
        modified_at=datetime.fromtimestamp(info.st_mtime, UTC),
    )
