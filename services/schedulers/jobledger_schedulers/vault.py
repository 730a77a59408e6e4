"""Schedulers' credentials: sealed before they are stored, opened only to connect, never shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from jobledger_kit.seal import Sealer

FIELDS: Final = ("password", "private_key", "private_key_pass", "token", "certificate", "ca_certificate")


class Credentials(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What gets us into a scheduler. Nothing of it is in the repr."""

    password: str = ""
    private_key: str = ""
    private_key_pass: str = ""
    token: str = ""
    certificate: str = ""  #: Dask over TLS: what says who we are, PEM; its key is `private_key`
    ca_certificate: str = ""  #: Dask over TLS: who must have signed the scheduler's certificate, PEM

    def __repr__(self) -> str:
        return f"Credentials({', '.join(self.given)})"

    @property
    def given(self) -> Sequence[str]:
        """The names of those that are set."""
        return tuple(name for name in FIELDS if getattr(self, name))


class Vault:
    """Seals and opens. What was sealed for one scheduler does not open for another."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, scheduler: str, credentials: Credentials) -> bytes:
        return self._sealer.seal(msgspec.json.encode(credentials), _context(scheduler))

    @property
    def key_id(self) -> str:
        """Which key seals now."""
        return self._sealer.key_id

    def resealed(self, scheduler: str, sealed: bytes) -> bytes | None:
        """The same under the current key; None when it is under that already. Raises CannotOpen."""
        return None if self._sealer.is_current(sealed) else self.seal(scheduler, self.open(scheduler, sealed))

    def open(self, scheduler: str, sealed: bytes) -> Credentials:
        """Raises CannotOpen."""
        return msgspec.json.decode(self._sealer.open(sealed, _context(scheduler)), type=Credentials)


def _context(scheduler: str) -> str:
    return f"schedulers/{scheduler}/credentials"
