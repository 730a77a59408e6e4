"""Users from an identity provider: signed tokens (JWT) of one OpenID Connect issuer, checked with the keys that it publishes.

Which algorithm counts is our setting, never the token's word; only signatures with a public key count. Keys are fetched when a token
first needs one, kept, and fetched anew when they are old or a token names one that is not among them, but never more often than
`REFETCH_S`: tokens that anybody makes up cannot make us ask the provider in a loop.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

from .clock import Clock
from .config import ServiceSettings
from .credentials import NOT_ACCEPTED, Principal
from .errors import Unauthenticated, Unavailable

MAX_JWT_CHARS: Final = 8192
KEYS_KEPT_S: Final = 600.0
REFETCH_S: Final = 10.0
FETCH_TIMEOUT_S: Final = 5.0
MAX_DOCUMENT_BYTES: Final = 512 * 1024
MAX_GROUPS: Final = 500
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}\Z")

log = structlog.get_logger(__name__)


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str = ""


class TokenRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which tokens count, and what they say of a user."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    jwks_url: str = ""  #: empty: as the issuer's discovery document says
    user_claim: str = "sub"
    groups_claim: str = "groups"
    admin_group: str = ""  #: its members are administrators; empty: nobody is by a token
    leeway_s: int = 30

    @classmethod
    def of(cls, settings: ServiceSettings) -> TokenRules | None:
        """As the settings say; None when no issuer is trusted."""
        if not settings.oidc_issuer:
            return None
        return cls(
            issuer=settings.oidc_issuer,
            audience=settings.oidc_audience,
            algorithms=tuple(settings.oidc_algorithms.replace(",", " ").split()),
            jwks_url=settings.oidc_jwks_url,
            user_claim=settings.oidc_user_claim,
            groups_claim=settings.oidc_groups_claim,
            admin_group=settings.oidc_admin_group,
            leeway_s=settings.oidc_leeway_s,
        )


def looks_like_jwt(token: str) -> bool:
    return _JWT.match(token) is not None


class Tokens:
    """Checks tokens of one issuer. One per process."""

    def __init__(self, rules: TokenRules, clock: Clock, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.rules, self._clock, self._transport = rules, clock, transport
        self._keys: dict[str, Key] = {}
        self._fetched_s: float | None = None  # when the keys came
        self._tried_s: float | None = None  # when they were last asked for
        self._fetching = asyncio.Lock()

    @classmethod
    def of(cls, settings: ServiceSettings, clock: Clock) -> Tokens | None:
        """As the settings say; None when they trust no issuer."""
        rules = TokenRules.of(settings)
        return None if rules is None else cls(rules, clock)

    async def verify(self, token: str) -> tuple[Principal, float]:
        """Return who a token speaks for, and the Unix time at which it ends. Raises Unauthenticated, or Unavailable without any keys."""
        try:
            if len(token) > MAX_JWT_CHARS:
                raise ValueError("too long")
            header = msgspec.json.decode(_unb64(token.partition(".")[0]), type=_Header)
            if header.alg not in self.rules.algorithms:
                raise ValueError("signed by an algorithm that does not count")
            key = await self._key(header.kid)
            claims = jwt.decode(token, key, algorithms=[header.alg]).claims
            now_s = self._clock.now().timestamp()
            jwt.JWTClaimsRegistry(
                now=int(now_s),
                leeway=self.rules.leeway_s,
                iss={"essential": True, "value": self.rules.issuer},
                aud={"essential": True, "value": self.rules.audience},
                exp={"essential": True},
            ).validate(claims)
            return self._principal(claims), float(claims["exp"])
        except (JoseError, ValueError, TypeError, KeyError, binascii.Error, msgspec.MsgspecError) as error:
            log.debug("A token is not accepted", error=repr(error))
            raise Unauthenticated(NOT_ACCEPTED) from None

    def _principal(self, claims: dict[str, Any]) -> Principal:
        """Whom the claims name. Raises ValueError."""
        name = _claim(claims, self.rules.user_claim)
        if not isinstance(name, str) or not _NAME.match(name):
            raise ValueError("no user's name")
        said = _claim(claims, self.rules.groups_claim)
        listed = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        groups = frozenset(group for group in listed[:MAX_GROUPS] if isinstance(group, str) and _NAME.match(group))
        admin = bool(self.rules.admin_group) and self.rules.admin_group in groups
        return Principal(name=name, groups=groups, admin=admin)

    async def _key(self, kid: str) -> Key:
        """The issuer's key of that name, or its only one. Raises ValueError, Unavailable."""
        key = self._known(kid)
        if key is None or self._old():
            await self._fetch(kid)
            key = self._known(kid)
        if key is None:
            raise ValueError("signed with a key that the issuer does not publish")
        return key

    def _known(self, kid: str) -> Key | None:
        if not kid:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _old(self) -> bool:
        return self._fetched_s is None or self._clock.monotonic() - self._fetched_s > KEYS_KEPT_S

    async def _fetch(self, kid: str) -> None:
        """Ask the issuer for its keys. What is known stays when it does not answer; raises Unavailable when nothing is known."""
        async with self._fetching:
            if self._known(kid) is not None and not self._old():
                return  # somebody else has asked meanwhile
            now_s = self._clock.monotonic()
            if self._tried_s is None or now_s - self._tried_s >= REFETCH_S:
                self._tried_s = now_s
                try:
                    self._keys = await self._published()
                    self._fetched_s = self._clock.monotonic()
                except (httpx.HTTPError, httpx.InvalidURL, ValueError, msgspec.MsgspecError) as error:
                    log.warning("The identity provider's keys cannot be fetched", issuer=self.rules.issuer, error=repr(error))
            if not self._keys:
                raise Unavailable(what="The identity provider", retry_after_s=REFETCH_S)

    async def _published(self) -> dict[str, Key]:
        async with httpx.AsyncClient(timeout=FETCH_TIMEOUT_S, transport=self._transport) as client:
            url = self.rules.jwks_url
            if not url:
                found = await _document(client, f"{self.rules.issuer.rstrip('/')}/.well-known/openid-configuration")
                if found.get("issuer") != self.rules.issuer:
                    raise ValueError(f"the discovery document is of another issuer: {found.get('issuer')!r}")
                url = str(found["jwks_uri"]) if "jwks_uri" in found else ""
                if not _is_safe(url, self.rules.issuer):
                    raise ValueError("the discovery document names no address of keys that can be trusted")
            published = (await _document(client, url)).get("keys")
        keys: dict[str, Key] = {}
        for number, entry in enumerate(published if isinstance(published, list) else []):
            if isinstance(entry, dict) and entry.get("kty") in ("RSA", "EC", "OKP") and entry.get("use", "sig") == "sig":
                try:
                    keys[str(entry.get("kid") or f"#{number}")] = JWKRegistry.import_key(entry)
                except (JoseError, ValueError, TypeError, KeyError) as error:
                    log.warning("The identity provider publishes a key that cannot be read", kid=entry.get("kid"), error=repr(error))
        if not keys:
            raise ValueError("no key for signatures is published")
        return keys


async def _document(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """A JSON object from the provider. Raises httpx's errors, ValueError, msgspec's errors."""
    async with client.stream("GET", url) as response:
        if response.status_code != 200:
            raise ValueError(f"{url} answers {response.status_code}")
        raw = b""
        async for chunk in response.aiter_bytes():
            raw += chunk
            if len(raw) > MAX_DOCUMENT_BYTES:
                raise ValueError(f"{url} is larger than {MAX_DOCUMENT_BYTES} bytes")
    return msgspec.json.decode(raw, type=dict[str, Any])


def _is_safe(url: str, issuer: str) -> bool:
    """Whether keys may come from there: by TLS, unless the issuer itself is reached without."""
    return urlsplit(url).scheme in ("https", urlsplit(issuer).scheme)


def _claim(claims: dict[str, Any], path: str) -> Any:
    """A claim by its name, or by a path with dots, such as `realm_access.roles`."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
