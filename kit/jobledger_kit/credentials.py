"""Who asks, and the two kinds of token that say so. Pure but for `new_api_key`, which draws a secret.

- `jlk_<id>_<secret>`: an API key of a user. The secret has 256 random bits, and the database keeps only its SHA-256: a slow password
  hash makes guessing dear, but nobody guesses 256 random bits, so it would cost each request and gain nothing.
- `jlr_<claims>.<mac>`: a run's credential. It says which run it is for, which statuses it may report and until when, and carries an
  HMAC-SHA256 over exactly that, so it is checked without any look-up.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

import msgspec

from jobledger_contracts.ids import run_id
from jobledger_contracts.statuses import Status

from .errors import Unauthenticated
from .keyring import Key, KeyRing

NOT_ACCEPTED: Final = "The credential is not accepted."
"""All that a caller learns: expired, revoked, tampered and unknown look the same."""

MAX_TOKEN_CHARS: Final = 2048
_API_KEY = re.compile(r"jlk_([a-z2-7]{16})_([A-Za-z0-9_-]{43})\Z")
_RUN_PREFIX: Final = "jlr_"


class RunClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's credential allows: reports of these statuses (None: any) about one run, until a moment."""

    job_id: str
    run: int
    expires_at: datetime
    statuses: frozenset[Status] | None = None
    key_id: str = ""  #: set by `sign_run_credential`

    @property
    def run_id(self) -> str:
        return run_id(self.job_id, self.run)

    def allows(self, status: Status) -> bool:
        """Say whether this status may be reported."""
        return self.statuses is None or status in self.statuses


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: a user, a service, or a run of a job (then `run` is set and nothing else is allowed but its callback)."""

    name: str
    groups: frozenset[str] = frozenset()
    admin: bool = False
    service: bool = False
    run: RunClaims | None = None
    key_id: str = ""  #: which API key was used

    @property
    def actor(self) -> str:
        """As events name it."""
        if self.run is not None:
            return f"run:{self.run.run_id}"
        return f"{'service' if self.service else 'user'}:{self.name}"

    def may_see(self, owner: str, groups: Collection[str] = ()) -> bool:
        """Say whether what `owner` shares with `groups` is visible."""
        if self.run is not None:
            return False
        return self.admin or self.service or self.name == owner or not self.groups.isdisjoint(groups)

    def may_change(self, owner: str) -> bool:
        """Say whether what `owner` owns may be changed: by the owner, or an administrator."""
        return self.run is None and (self.admin or self.name == owner)


class ApiKey(msgspec.Struct, frozen=True):
    """An API key's parts. The secret is not in the repr."""

    id: str
    secret: str

    @property
    def token(self) -> str:
        """The key as its owner keeps it. Never log it."""
        return f"jlk_{self.id}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """What the database keeps."""
        return hashlib.sha256(self.secret.encode()).digest()

    def __repr__(self) -> str:
        return f"ApiKey(id={self.id!r})"


def new_api_key() -> ApiKey:
    """Draw a new key."""
    return ApiKey(base64.b32encode(secrets.token_bytes(10)).decode().lower(), secrets.token_urlsafe(32))


def parse_api_key(token: str) -> ApiKey | None:
    """Take a token apart; None when it has not the form of an API key."""
    match = _API_KEY.match(token)
    return ApiKey(match[1], match[2]) if match else None


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The claims inside a token, under short names: it travels in environments and headers."""

    j: str
    r: int
    e: int  #: Unix time, seconds
    k: str
    s: list[str] | None = None


_DECODER = msgspec.json.Decoder(_Wire)


def is_run_credential(token: str) -> bool:
    return token.startswith(_RUN_PREFIX)


def sign_run_credential(key: Key, claims: RunClaims) -> str:
    """Make the token of a run's credential; the expiry is cut to whole seconds. Raises ValueError for a naive expiry."""
    if claims.expires_at.tzinfo is None:
        raise ValueError("a time without its zone")
    if claims.statuses is not None and not claims.statuses:
        raise ValueError("a credential that allows no status at all")
    statuses = None if claims.statuses is None else sorted(status.value for status in claims.statuses)
    wire = _Wire(claims.job_id, claims.run, int(claims.expires_at.timestamp()), key.id, statuses)
    payload = _b64(msgspec.json.encode(wire))
    return f"{_RUN_PREFIX}{payload}.{_b64(_mac(key, payload))}"


def verify_run_credential(ring: KeyRing, token: str, now: datetime) -> RunClaims:
    """Check a token and return what it allows. Raises Unauthenticated, with the same words for every cause."""
    payload, _, mac = token.removeprefix(_RUN_PREFIX).partition(".")
    try:
        if not is_run_credential(token) or len(token) > MAX_TOKEN_CHARS:
            raise ValueError("no run credential")
        # The MAC is checked under every accepted key before a byte of the claims is read, so that no unproven text is parsed.
        given = _unb64(mac)
        key = next((key for key in ring.accepted.values() if hmac.compare_digest(given, _mac(key, payload))), None)
        if key is None:
            raise ValueError("not signed by us")
        wire = _DECODER.decode(_unb64(payload))
        if wire.k != key.id:
            raise ValueError("signed by another key than it says")
        statuses = None if wire.s is None else frozenset(Status(text) for text in wire.s)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise Unauthenticated(NOT_ACCEPTED) from None
    if wire.e <= now.timestamp():
        raise Unauthenticated(NOT_ACCEPTED)
    return RunClaims(job_id=wire.j, run=wire.r, expires_at=datetime.fromtimestamp(wire.e, UTC), statuses=statuses, key_id=wire.k)


def _mac(key: Key, payload: str) -> bytes:
    return hmac.digest(key.material, b"jobledger run credential\0" + payload.encode(), "sha256")


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    """Decode, and refuse every spelling but the one that `_b64` writes. Raises ValueError."""
    raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    if _b64(raw) != text:
        raise ValueError("not as we write it")
    return raw
