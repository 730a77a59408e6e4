"""Sealing: secrets that we must keep (schedulers' passwords, cloud keys) lie encrypted in the database, bound to their place.

AES-256-GCM with a random nonce. What is authenticated with it (AAD) is the format, the key's id and the caller's context, such as
`schedulers/<name>/password`: a sealed value that is moved to another row does not open there. Random 96-bit nonces are safe for 2^32
values under one key (NIST SP 800-38D, 8.3), far beyond what one installation seals.
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import CannotOpen
from .keyring import KeyRing

_FORMAT: Final = b"jls1"
_KEY_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_HEADER_BYTES: Final = len(_FORMAT) + _KEY_ID_BYTES


class Sealer:
    """Seals under the ring's current key, opens what any of its keys sealed."""

    def __init__(self, ring: KeyRing) -> None:
        self._current = bytes.fromhex(ring.current.id)
        self._ciphers = {bytes.fromhex(key.id): AESGCM(key.material) for key in ring.accepted.values()}

    @property
    def key_id(self) -> str:
        """Which key seals now."""
        return self._current.hex()

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt for one context."""
        header, nonce = _FORMAT + self._current, secrets.token_bytes(_NONCE_BYTES)
        return header + nonce + self._ciphers[self._current].encrypt(nonce, plain, header + context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt what was sealed for the same context. Raises CannotOpen."""
        header, nonce = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES : _HEADER_BYTES + _NONCE_BYTES]
        cipher = self._ciphers.get(header[len(_FORMAT) :])
        if not header.startswith(_FORMAT) or len(nonce) != _NONCE_BYTES:
            raise CannotOpen(f"What is kept for {context} is no sealed value.")
        if cipher is None:
            raise CannotOpen(f"What is kept for {context} was sealed under a key that is not here any more.")
        try:
            return cipher.decrypt(nonce, sealed[_HEADER_BYTES + _NONCE_BYTES :], header + context.encode())
        except InvalidTag:
            raise CannotOpen(f"What is kept for {context} was changed, or sealed for another use.") from None

    def is_current(self, sealed: bytes) -> bool:
        """Say whether it is sealed under the current key; if not, open it and seal it again."""
        return sealed[:_HEADER_BYTES] == _FORMAT + self._current
