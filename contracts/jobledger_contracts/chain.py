"""What the tamper-evident history is made of: the hash of a record, the chain of a key's records, the leaves of a partition's tree.

All of it follows from the bytes in the log alone, never from what a fold makes of them, so that an upgrade cannot change it:

    record hash  SHA-256(0x00 || MessagePack([timestamp in ms, key, [[header, value], ...], value]))
    link         SHA-256(0x02 || the link before || record hash)     the link before a key's first record is 32 zero bytes
    leaf         SHA-256(0x00 || link)     and of an offset that holds no record (Kafka's own markers): SHA-256(0x00)

A key's chain is that of its records in one partition, in order, those that are dead letters too. A partition's tree has as its leaf
number n the record at offset n. So one inclusion proof, of a job's latest record, proves all of the job's records before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from .envelope import Headers, Record
from .merkle import LEAF, leaf_hash

LINK: Final = b"\x02"
NO_LINK: Final = bytes(32)
"""What stands before a key's first record."""
GAP: Final = leaf_hash(b"")
"""The leaf of an offset at which the log holds no record."""

_encode: Final = msgspec.msgpack.Encoder().encode


def record_bytes(record: Record) -> bytes:
    """What counts of a record, so that no two records have the same bytes: MessagePack, each number and length in its shortest form.

    A header's name is a string, or binary where its bytes are no UTF-8.
    """
    try:
        return _encode((record.timestamp_ms, record.key, record.headers, record.value))
    except UnicodeEncodeError:
        return _encode((record.timestamp_ms, record.key, _plain(record.headers), record.value))


def record_hash(record: Record) -> bytes:
    """The hash of a record, wherever it stands."""
    return hashlib.sha256(LEAF + record_bytes(record)).digest()


def next_link(link: bytes, hash_of_record: bytes) -> bytes:
    """The chain of a key, one record on."""
    return hashlib.sha256(LINK + link + hash_of_record).digest()


def chain_key(key: bytes | None) -> bytes:
    """Whose chain a record is part of: records without a key are all of one chain."""
    return key or b""


def _plain(headers: Headers) -> Sequence[tuple[str | bytes, bytes | None]]:
    return [(_name(name), value) for name, value in headers]


def _name(name: str) -> str | bytes:
    try:
        name.encode()
    except UnicodeEncodeError:  # surrogates stand for bytes that were no UTF-8 (PEP 383)
        return name.encode("utf-8", "surrogateescape")
    return name
