"""Identifiers and positions: how things are named, and where they stand in the log.

Pure: the clock and the randomness are arguments.
"""

from __future__ import annotations

import hashlib
import re
import struct
from functools import lru_cache
from uuid import UUID

import msgspec

_POSITION = re.compile(r"([0-9]{1,9}):([0-9]{1,18})\Z")
_RUN = re.compile(r"[1-9][0-9]{0,9}\Z")
_JOB_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def new_job_id(now_ms: int, randomness: bytes) -> str:
    """Return a UUIDv7 (RFC 9562, 5.7) made of a Unix time in milliseconds and 10 random bytes."""
    if len(randomness) != 10:
        raise ValueError(f"10 random bytes are needed, not {len(randomness)}")
    value = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(randomness, "big")
    return str(UUID(int=_stamp(value, version=7)))


def derived_id(*parts: str) -> str:
    """Return the UUIDv8 (RFC 9562, 5.8) that the same parts always give: SHA-256 of their netstrings.

    >>> derived_id("ada", "key-1") == derived_id("ada", "key-1") != derived_id("ad", "akey-1")
    True
    """
    text = b"".join(b"%d:%s," % (len(raw), raw) for raw in (part.encode() for part in parts))
    return str(UUID(int=_stamp(int.from_bytes(hashlib.sha256(text).digest()[:16], "big"), version=8)))


def _stamp(value: int, version: int) -> int:
    """Set a UUID's version and variant bits."""
    return value & ~(0xF << 76) & ~(0x3 << 62) | version << 76 | 0x2 << 62


def is_job_id(text: str) -> bool:
    """Say whether the text is a UUID as we write them: lower case, with hyphens."""
    return _JOB_ID.match(text) is not None


def run_id(job_id: str, run: int) -> str:
    """Name one attempt at a job, as schedulers see it: `<job id>.<run>`, with run counted from 1."""
    return f"{job_id}.{run}"


def parse_run_id(text: str) -> tuple[str, int]:
    """Split what `run_id` joined. Raises ValueError when it is no run id."""
    job_id, _, run = text.rpartition(".")
    if not is_job_id(job_id) or not _RUN.match(run):
        raise ValueError(f"{text!r} is not a run id: <job id>.<run> is expected")
    return job_id, int(run)


class Position(msgspec.Struct, frozen=True, order=True):
    """Where one record stands in a topic. As text: `partition:offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read `partition:offset`. Raises ValueError."""
        match = _POSITION.match(text)
        if not match:
            raise ValueError(f"{text!r} is not a position: partition:offset is expected, such as 3:1042")
        return cls(int(match[1]), int(match[2]))


@lru_cache(maxsize=65_536)
def partition_for(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's own clients give a key: murmur2, sign bit cleared, modulo.

    Source: `org.apache.kafka.common.utils.Utils.murmur2` and `BuiltInPartitioner.partitionForKey`.
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 (seed 0x9747b28c) as an unsigned number."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    h = 0x9747B28C ^ length
    body = length & ~3
    for (k,) in struct.iter_unpack("<I", data[:body]):
        k = k * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    tail = data[body:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
