"""Small file duties: write so that a reader sees all or nothing, keep secrets secret, lock."""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Replace `path` by `data` in one step; a reader sees the old or the new content, never a part of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data.encode() if isinstance(data, str) else data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def ensure_secret(path: Path, *, size_bytes: int = 32, text: bool = False) -> bytes:
    """The secret in `path`, made of `size_bytes` random bytes at the first call (`text`: URL-safe characters); mode 0600."""
    if not path.exists():
        write_atomically(path, secrets.token_urlsafe(size_bytes) if text else secrets.token_bytes(size_bytes), mode=0o600)
    return path.read_bytes()


def tail(path: Path, lines: int, *, max_bytes: int = 256 * 1024) -> str:
    """The last `lines` lines of a log (of its last `max_bytes`); empty when there is none."""
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, os.SEEK_END)
            file.seek(max(0, size_bytes - max_bytes))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:]) if lines > 0 else ""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; waits for whoever holds it. The kernel drops it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
