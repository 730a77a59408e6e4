"""How every fold tells an event that it has folded before: by source and id, as CloudEvents defines identity."""

from __future__ import annotations

import hashlib

from .envelope import Event

REMEMBERED_IDS = 256
"""How many of a stream's latest event ids are kept: far beyond any producer's retries, and a bound on the state."""


def identity(event: Event) -> bytes:
    """Return 16 bytes that stand for the event's source and id."""
    return hashlib.blake2b(f"{event.source}\0{event.id}".encode(errors="surrogatepass"), digest_size=16).digest()


def remember(recent_ids: tuple[bytes, ...], event_id: bytes) -> tuple[bytes, ...]:
    """Add one, and let the oldest go when there are too many."""
    return (*recent_ids[-REMEMBERED_IDS + 1 :], event_id)
