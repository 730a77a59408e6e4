"""Signed notes and checkpoints, as C2SP's signed-note, tlog-checkpoint and tlog-proof have them. Pure: signing is passed in.

A checkpoint is a note that says what the tree of one log is: its origin (a name), its size, its root. A proof is a text that shows by a
checkpoint that one leaf is in the log. Only Ed25519 signatures (type 1) are made and checked; others, such as witnesses', are left alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from .merkle import HASH_BYTES, BadProof, verify_inclusion

Sign = Callable[[bytes], bytes]
"""Makes the Ed25519 signature of a message."""
Verify = Callable[[bytes, bytes, bytes], bool]
"""Says whether this public key (32 bytes) made this signature of this message."""

ED25519: Final = b"\x01"
MAX_NOTE_BYTES: Final = 64 * 1024
PROOF: Final = "c2sp.org/tlog-proof@v1"

_NAME = re.compile(r"[^\s+]+\Z")
_SIGNATURE = re.compile(r"\u2014 (?P<name>[^\s+]+) (?P<raw>[A-Za-z0-9+/]+={0,2})\Z")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}\Z")


class BadNote(ValueError):
    """A text is no note, no checkpoint or no proof, or nobody who is trusted signed it; the text says which."""


class PublicKey(msgspec.Struct, frozen=True):
    """A key that signs under a name. As text: `<name>+<id in hex>+<type and key in base64>`, as Go's note package writes it."""

    name: str
    material: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.material).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_base64(ED25519 + self.material)}"

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read a key's text. Raises BadNote."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        raw = _unbase64(encoded)
        if not _NAME.match(name) or len(raw) != 1 + HASH_BYTES or raw[:1] != ED25519:
            raise BadNote(f"{text[:200]!r} is no public key: <name>+<id>+<base64> of an Ed25519 key is expected")
        key = cls(name, raw[1:])
        if key.id.hex() != key_id:
            raise BadNote(f"the key of {name!r} does not have the id {key_id!r}: it was changed, or cut")
        return key


def parse_keys(text: str) -> list[PublicKey]:
    """Read a file of keys, one a line; lines that begin with # are remarks. Raises BadNote."""
    keys = [PublicKey.parse(line) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise BadNote("there is no key in it")
    return keys


def sign_note(text: str, signers: Iterable[tuple[PublicKey, Sign]]) -> str:
    """A text with signatures beneath it. Raises ValueError for one that can be no note."""
    if not text.endswith("\n") or any(character < " " and character != "\n" for character in text):
        raise ValueError("a note's text ends with a newline, and has no other control characters")
    lines = [f"\u2014 {key.name} {_base64(key.id + sign(text.encode()))}\n" for key, sign in signers]
    return f"{text}\n{''.join(lines)}"


def open_note(note: str, keys: Iterable[PublicKey], verify: Verify) -> tuple[str, list[PublicKey]]:
    """Return a note's text and who of these signed it. Raises BadNote when none did, or when one of their signatures is wrong."""
    if len(note) > MAX_NOTE_BYTES:
        raise BadNote("it is too long for a note")
    text, found, signatures = note.rpartition("\n\n")
    if not found or not text or not signatures.endswith("\n"):
        raise BadNote("it is no signed note: a text, an empty line, and signatures are expected")
    text += "\n"
    known = {(key.name, key.id): key for key in keys}
    signed: list[PublicKey] = []
    for line in signatures.splitlines():
        match = _SIGNATURE.match(line)
        raw = _unbase64(match["raw"]) if match else b""
        if match is None or len(raw) < 5:
            raise BadNote(f"{line[:200]!r} is no signature line")
        key = known.get((match["name"], raw[:4]))
        if key is None:
            continue
        if not verify(key.material, raw[4:], text.encode()):
            raise BadNote(f"the signature of {key.name} is wrong: the text was changed after it was signed")
        signed.append(key)
    if not signed:
        raise BadNote("it is signed by no key that is trusted")
    return text, signed


class Checkpoint(msgspec.Struct, frozen=True):
    """What one log was at one time."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a checkpoint. Lines after the third are others' business. Raises BadNote."""
        lines = text.splitlines()
        if len(lines) < 3 or not lines[0] or not _NUMBER.match(lines[1]) or len(root := _unbase64(lines[2])) != HASH_BYTES:
            raise BadNote("it is no checkpoint: origin, size and root are expected, one a line")
        return cls(lines[0], int(lines[1]), root)


def sign_checkpoint(checkpoint: Checkpoint, signers: Iterable[Sign], materials: Sequence[bytes]) -> str:
    """A checkpoint as a note, signed under the log's own name with each of these keys."""
    keys = [PublicKey(checkpoint.origin, material) for material in materials]
    return sign_note(str(checkpoint), zip(keys, signers, strict=True))


def open_checkpoint(note: str, keys: Iterable[PublicKey], verify: Verify) -> Checkpoint:
    """Read a checkpoint that its log has signed. Raises BadNote."""
    text, signed = open_note(note, keys, verify)
    checkpoint = Checkpoint.parse(text)
    if not any(key.name == checkpoint.origin for key in signed):
        raise BadNote(f"a checkpoint of {checkpoint.origin!r} is to be signed by its own key; it was by {signed[0].name!r}")
    return checkpoint


class Proof(msgspec.Struct, frozen=True):
    """Shows that a leaf is in a log. As text: a `.tlog-proof` file."""

    index: int
    hashes: Sequence[bytes]
    note: str

    def __str__(self) -> str:
        lines = "".join(f"{_base64(hash_)}\n" for hash_ in self.hashes)
        return f"{PROOF}\nindex {self.index}\n{lines}\n{self.note}"

    @classmethod
    def parse(cls, text: str) -> Proof:
        """Read a proof's text. Raises BadNote."""
        head, found, note = text.partition("\n\n")
        version, *lines = head.split("\n")
        if lines and lines[0].startswith("extra "):
            lines = lines[1:]
        if version != PROOF or not found or not lines or not _NUMBER.match(lines[0].removeprefix("index ")):
            raise BadNote(f"it is no proof: {PROOF!r} and an index are expected")
        hashes = [_unbase64(line) for line in lines[1:]]
        if any(len(hash_) != HASH_BYTES for hash_ in hashes) or len(hashes) > 64:
            raise BadNote("a line of the proof is no hash")
        return cls(int(lines[0].removeprefix("index ")), hashes, note)

    def verify(self, leaf: bytes, keys: Iterable[PublicKey], verify: Verify) -> Checkpoint:
        """Check that this leaf's hash is in the log, and return the checkpoint that says so. Raises BadNote and BadProof."""
        checkpoint = open_checkpoint(self.note, keys, verify)
        verify_inclusion(leaf, self.index, checkpoint.size, self.hashes, checkpoint.root)
        return checkpoint


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _unbase64(text: str) -> bytes:
    """Empty for what is none, which is nowhere a good value."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


__all__ = [
    "BadNote",
    "BadProof",
    "Checkpoint",
    "Proof",
    "PublicKey",
    "open_checkpoint",
    "open_note",
    "parse_keys",
    "sign_checkpoint",
    "sign_note",
]
