"""Keys from files: one that makes new things, and the one before it that still reads old ones.

`<name>` is the current key, `<name>.previous` (if there is one) is still accepted: to change a key, move it there and write a new one.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import BadSecret

_log = structlog.get_logger(__name__)

RUN_CREDENTIAL_KEY: Final = "run-credential.key"
SEALING_KEY: Final = "sealing.key"
MIN_KEY_BYTES: Final = 32


class Key:
    """256 bits for one use, derived from a file's bytes (HKDF-SHA256), and an id that tells keys apart without giving any away."""

    __slots__ = ("id", "material")

    def __init__(self, raw: bytes, use: str) -> None:
        if len(raw) < MIN_KEY_BYTES:
            raise BadSecret(f"the key for {use} has {len(raw)} bytes; at least {MIN_KEY_BYTES} random ones are needed")
        self.material = HKDF(SHA256(), 32, salt=None, info=f"jobledger {use} v1".encode()).derive(raw)
        self.id = hashlib.sha256(b"jobledger key id\0" + self.material).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"


class KeyRing:
    """The key that makes new things, and all the keys that are accepted."""

    __slots__ = ("accepted", "current")

    def __init__(self, keys: Sequence[Key]) -> None:
        self.current: Key = keys[0]
        self.accepted: Mapping[str, Key] = {key.id: key for key in keys}

    @classmethod
    def load(cls, secrets_dir: Path, name: str) -> KeyRing:
        """Read `<secrets_dir>/<name>`, and `<name>.previous` if it exists. Raises BadSecret."""
        path = secrets_dir / name
        raws = [_read(path)]
        previous = path.with_name(f"{name}.previous")
        if previous.exists():
            raws.append(_read(previous))
        use = name.removesuffix(".key")
        return cls([Key(raw, use) for raw in raws])


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            # Not refused: secrets that an orchestrator mounts are often readable for all inside their container.
            _log.warning("A key file can be read by others than its owner", path=str(path))
        return path.read_bytes()
    except OSError as error:
        raise BadSecret(f"the key file {path} cannot be read: {error.strerror}") from None
