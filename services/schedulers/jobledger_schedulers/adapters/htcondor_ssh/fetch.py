"""Files of runs on their way back, by SFTP: into a folder here, only what is not there yet, and within limits.

Names and sizes are the other end's word: a name that is a path is refused, links are not followed, and there is no end of disk here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncssh
import msgspec

from jobledger_schedulers.adapters.htcondor.command import CREDENTIAL_FILE
from jobledger_schedulers.adapters.port import Tail, Unreachable

MAX_OUTPUT_BYTES: Final = 50 * 2**30
MAX_OUTPUT_FILES: Final = 100_000
MAX_DEPTH: Final = 64
DOWNLOAD_BYTES_PER_S: Final = 2**17
"""The slowest download that we still wait for."""
AT_ONCE: Final = 8
PART = ".jobledger-part"
_LOST = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.ConnectionLost, ConnectionError, TimeoutError)


class NotFetched(Exception):
    """The output cannot be brought, for a reason that a new connection does not mend."""


class _File(msgspec.Struct, frozen=True):
    name: str
    size: int
    mtime: int


async def fetch(sftp: Any, remote: str, local: Path, *, timeout_s: float, max_bytes: int = MAX_OUTPUT_BYTES) -> None:
    """Bring everything below the folder `remote` into `local`. Raises NotFetched, Unreachable; what came before that stays."""
    try:
        files = [file async for file in _walk(sftp, remote, "", timeout_s)]
        total = sum(file.size for file in files)
        if total > max_bytes:
            raise NotFetched(f"it has {total} bytes of output, and {max_bytes} is the limit; it stays at the access point")
        places = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for file in files:
                group.create_task(_bring(sftp, remote, local, file, places, timeout_s))
    except (ExceptionGroup, asyncssh.Error, OSError) as error:  # not `except*`: what that raises comes in a group, which nobody expects
        raise _told(error) from error


def _told(error: Exception) -> Exception:
    """What went wrong, as our callers know it; a lost connection outweighs what else went wrong with it."""
    leaves = _leaves(error)
    lost = next((leaf for leaf in leaves if isinstance(leaf, _LOST)), None)
    if lost is not None:
        return Unreachable(f"the connection was lost while output was fetched: {_words(lost)}")
    first = leaves[0]
    if isinstance(first, asyncssh.SFTPError):
        return NotFetched(f"the access point does not hand it out: {_words(first)}")
    return NotFetched(f"it cannot be written here: {_words(first)}") if isinstance(first, OSError) else first


def _leaves(error: Exception) -> list[Exception]:
    return [leaf for one in error.exceptions for leaf in _leaves(one)] if isinstance(error, ExceptionGroup) else [error]


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _walk(sftp: Any, remote: str, below: str, timeout_s: float, depth: int = 0) -> AsyncIterator[_File]:
    if depth > MAX_DEPTH:
        raise NotFetched(f"its folders are more than {MAX_DEPTH} deep")
    count = 0
    async with asyncio.timeout(timeout_s + 60):
        entries = [entry async for entry in sftp.scandir(f"{remote}/{below}" if below else remote)]
    for entry in entries:
        name = entry.filename
        if name in (".", ".."):
            continue
        if "/" in name or "\0" in name:
            raise NotFetched("the access point has a file whose name is a path")
        inside = f"{below}/{name}" if below else name
        if entry.attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY:
            async for file in _walk(sftp, remote, inside, timeout_s, depth + 1):
                count += 1
                yield file
        elif entry.attrs.type == asyncssh.FILEXFER_TYPE_REGULAR and name != CREDENTIAL_FILE:
            count += 1
            yield _File(inside, entry.attrs.size or 0, entry.attrs.mtime or 0)
        if count > MAX_OUTPUT_FILES:
            raise NotFetched(f"it has more than {MAX_OUTPUT_FILES} files of output; they stay at the access point")


async def _bring(sftp: Any, remote: str, local: Path, file: _File, places: asyncio.Semaphore, timeout_s: float) -> None:
    """Bring one file, under another name until it is whole. One of the same size and time is there already."""
    target = local / file.name
    async with places:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(local.resolve()):
            raise NotFetched(f"{file.name!r} would be written through a link to elsewhere")
        if target.is_file() and not target.is_symlink():
            facts = target.stat()
            if facts.st_size == file.size and int(facts.st_mtime) == file.mtime:
                return
        part = target.with_name(f"{target.name[:200]}{PART}")
        part.unlink(missing_ok=True)
        async with asyncio.timeout(timeout_s + file.size / DOWNLOAD_BYTES_PER_S):
            await sftp.get(f"{remote}/{file.name}", os.fsencode(part), follow_symlinks=False)
        os.utime(part, (file.mtime, file.mtime))
        part.replace(target)


async def read_from(sftp: Any, paths: list[str], offset: int, max_bytes: int, *, timeout_s: float) -> Tail | None:
    """Up to `max_bytes` of the first of these files that is there, from `offset` on; None when none is. Raises Unreachable."""
    try:
        async with asyncio.timeout(timeout_s):
            for path in paths:
                try:
                    async with sftp.open(path, "rb") as file:
                        size = (await file.stat()).size or 0
                        start = offset if offset <= size else 0  # it was begun anew
                        return Tail(data=await file.read(max_bytes, start), offset=start, size=size)
                except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
                    continue
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise Unreachable(f"output cannot be read at the access point: {error or 'no answer in time'}") from error
    return None
