"""Access: who is behind a token. API keys are looked up in the schema `access`, with a small cache; runs' credentials are computed.

A key that is revoked, or a user who is shut out, is refused everywhere within `CACHE_TTL_S`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from .clock import Clock, SystemClock
from .credentials import (
    MAX_TOKEN_CHARS,
    NOT_ACCEPTED,
    ApiKey,
    Principal,
    RunClaims,
    is_run_credential,
    new_api_key,
    parse_api_key,
    sign_run_credential,
    verify_run_credential,
)
from .database import DATABASE_AWAY, Connection, Pool
from .errors import BadSecret, InvalidRequest, NotFound, Unauthenticated, Unavailable
from .keyring import KeyRing
from .migrations import migrate_files, migrations_of
from .pagination import cut_page, decode_cursor
from .queries import load_queries
from .tokens import MAX_JWT_CHARS, Tokens, looks_like_jwt

__all__ = ["Access", "KeyInfo", "Principal", "RunClaims", "UserInfo", "migrate_access", "sign_run_credential", "verify_run_credential"]

SCHEMA: Final = "access"
PACKAGE: Final = "jobledger_kit.access"

CACHE_TTL_S: Final = 3.0
MAX_CACHED: Final = 10_000
MAX_REFUSED_CACHED: Final = 2_000
_NAMES: Final = "Names of users and groups have letters, digits and . _ @ + - only, at most 100."


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What may be told about an API key."""

    id: str
    user: str
    label: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class UserInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A user and the user's rights."""

    name: str
    groups: list[str]
    admin: bool
    service: bool
    disabled: bool
    created_at: datetime


async def migrate_access(connection: Connection) -> list[str]:
    """Bring the schema `access` up to date; any number of processes may do so at once."""
    return await migrate_files(connection, SCHEMA, migrations_of(PACKAGE))


class Access:
    """Checks tokens, and keeps users and keys. One per process; `pool` may be the service's own, queries name their schema.

    Without `run_keys`, no run's credential is accepted or made; without `tokens`, no identity provider's token is accepted.
    """

    def __init__(
        self,
        pool: Pool,
        run_keys: KeyRing | None = None,
        *,
        clock: Clock | None = None,
        tokens: Tokens | None = None,
        cache_ttl_s: float = CACHE_TTL_S,
    ) -> None:
        self._pool, self._run_keys = pool, run_keys
        self._clock = clock or SystemClock()
        self._tokens = tokens
        self._ttl_s = cache_ttl_s
        self._sql = load_queries(PACKAGE, "queries.sql")
        # Tokens are remembered by their SHA-256: the process holds no list of secrets, and a look-up's timing says nothing.
        self._accepted: dict[bytes, tuple[float, Principal]] = {}
        self._refused: dict[bytes, float] = {}
        self._lookups: dict[bytes, asyncio.Task[Principal | None]] = {}

    # --- checking ---

    def remembered(self, token: str) -> Principal | None:
        """The principal of a token that was verified a moment ago; None says nothing about the token. Never blocks."""
        found = self._accepted.get(_mark(token))
        return found[1] if found is not None and found[0] > self._clock.monotonic() else None

    async def verify(self, token: str) -> Principal:
        """Return who is behind a token. Raises Unauthenticated, the same for every cause, or Unavailable."""
        signed = self._tokens is not None and looks_like_jwt(token)
        if len(token) > (MAX_JWT_CHARS if signed else MAX_TOKEN_CHARS):
            raise Unauthenticated(NOT_ACCEPTED)
        mark = _mark(token)
        now_s = self._clock.monotonic()
        found = self._accepted.get(mark)
        if found is not None and found[0] > now_s:
            return found[1]
        if self._refused.get(mark, 0.0) > now_s:
            raise Unauthenticated(NOT_ACCEPTED)
        if is_run_credential(token) and self._run_keys is not None:
            return self._remember_run(mark, verify_run_credential(self._run_keys, token, self._clock.now()))
        if signed and self._tokens is not None:
            return await self._check_signed(self._tokens, mark, token)
        key = parse_api_key(token)
        principal = None if key is None else await self._look_up_once(mark, key)
        if principal is None:
            _put(self._refused, mark, self._clock.monotonic() + self._ttl_s, MAX_REFUSED_CACHED)
            raise Unauthenticated(NOT_ACCEPTED)
        return principal

    def _remember_run(self, mark: bytes, claims: RunClaims) -> Principal:
        principal = Principal(name=f"run:{claims.run_id}", run=claims)
        left_s = (claims.expires_at - self._clock.now()).total_seconds()
        _put(self._accepted, mark, (self._clock.monotonic() + min(self._ttl_s, left_s), principal), MAX_CACHED)
        return principal

    async def _check_signed(self, tokens: Tokens, mark: bytes, token: str) -> Principal:
        """Whom a provider's token speaks for, unless we have shut that user out."""
        until_s = self._clock.monotonic() + self._ttl_s
        try:
            principal, ends_s = await tokens.verify(token)
            if await self._fetchrow("is_disabled", principal.name) is not None:
                raise Unauthenticated(NOT_ACCEPTED)
        except Unauthenticated:
            _put(self._refused, mark, self._clock.monotonic() + self._ttl_s, MAX_REFUSED_CACHED)
            raise
        left_s = ends_s + tokens.rules.leeway_s - self._clock.now().timestamp()
        _put(self._accepted, mark, (min(until_s, self._clock.monotonic() + left_s), principal), MAX_CACHED)
        return principal

    async def _look_up_once(self, mark: bytes, key: ApiKey) -> Principal | None:
        """One query for all who ask about one key at the same moment; it goes on when the first of them goes away."""
        task = self._lookups.get(mark)
        if task is None:
            task = self._lookups[mark] = asyncio.create_task(self._look_up(mark, key), name="access-lookup")
            task.add_done_callback(lambda done: self._forget_lookup(mark, done))
        return await asyncio.shield(task)

    def _forget_lookup(self, mark: bytes, task: asyncio.Task[Principal | None]) -> None:
        self._lookups.pop(mark, None)
        if not task.cancelled():
            task.exception()  # all who wait get it; when nobody waits any more, it is of no interest

    async def _look_up(self, mark: bytes, key: ApiKey) -> Principal | None:
        # Counted from before the query: what was revoked while it ran is honoured within the same time.
        until_s = self._clock.monotonic() + self._ttl_s
        row = await self._fetchrow("find_key", key.id, self._clock.now())
        # An unknown id is compared too, so that the time taken does not tell which ids exist.
        if not hmac.compare_digest(row["digest"] if row else bytes(32), key.digest) or row is None:
            return None
        principal = Principal(
            name=row["name"], groups=frozenset(row["groups"]), admin=row["admin"], service=row["service"], key_id=row["id"]
        )
        if row["expires_at"] is not None:
            left_s = (row["expires_at"] - self._clock.now()).total_seconds()
            until_s = min(until_s, self._clock.monotonic() + left_s)
        _put(self._accepted, mark, (until_s, principal), MAX_CACHED)
        return principal

    # --- runs ---

    def sign_run(self, claims: RunClaims) -> str:
        """Make a run's credential. Raises BadSecret when this process has no key for it."""
        if self._run_keys is None:
            raise BadSecret("This process has no key for runs' credentials.")
        return sign_run_credential(self._run_keys.current, claims)

    # --- users and keys ---

    async def put_user(self, name: str, *, groups: Collection[str] = (), admin: bool = False, service: bool = False) -> None:
        """Create a user, or set the rights and groups of one who exists. Raises InvalidRequest for bad names, or Unavailable."""
        wanted = sorted(set(groups))
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(self._sql["put_user"], name, admin, service)
                await connection.execute(self._sql["clear_groups"], name, wanted)
                await connection.execute(self._sql["add_groups"], name, wanted)
        except asyncpg.CheckViolationError:
            raise InvalidRequest(_NAMES) from None
        except DATABASE_AWAY as error:
            raise Unavailable(what="The access database") from error
        self._forget(lambda principal: principal.name == name)

    async def ensure_admin(self, name: str) -> None:
        """Make sure that an administrator of this name exists. Raises InvalidRequest for a bad name, or Unavailable."""
        try:
            await self._fetch("ensure_admin", name)
        except asyncpg.CheckViolationError:
            raise InvalidRequest(_NAMES) from None
        self._forget(lambda principal: principal.name == name)

    async def disable_user(self, name: str) -> None:
        """Shut a user out: no key of theirs is accepted any more. Raises NotFound or Unavailable."""
        if await self._fetchrow("disable_user", name) is None:
            raise NotFound("user", name)
        self._forget(lambda principal: principal.name == name)

    async def list_users(self, *, limit: int = 100, cursor: str = "") -> tuple[list[UserInfo], str | None]:
        """A page of users by name, and the next page's cursor. Raises InvalidRequest for a bad cursor, or Unavailable."""
        after = decode_cursor(cursor, tuple[str])[0] if cursor else ""
        rows = await self._fetch("list_users", after, limit + 1)
        return cut_page([UserInfo(**row) for row in rows], limit, lambda user: (user.name,))

    async def create_key(self, user: str, *, label: str = "", expires_at: datetime | None = None) -> tuple[KeyInfo, str]:
        """Make an API key; the token is told this once and never again. Raises NotFound (no such user) or Unavailable."""
        key, now = new_api_key(), self._clock.now()
        if await self._fetchrow("create_key", key.id, user, key.digest, label, now, expires_at) is None:
            raise NotFound("user", user)
        return KeyInfo(id=key.id, user=user, label=label, created_at=now, expires_at=expires_at), key.token

    async def list_keys(self, *, user: str | None = None, limit: int = 100, cursor: str = "") -> tuple[list[KeyInfo], str | None]:
        """A page of keys, of one user or all, and the next page's cursor. Raises InvalidRequest for a bad cursor, or Unavailable."""
        after: tuple[Any, ...] = decode_cursor(cursor, tuple[str, datetime, str]) if cursor else (None, None, None)
        rows = await self._fetch("list_keys", user, *after, limit + 1)
        return cut_page([_key_info(row) for row in rows], limit, lambda key: (key.user, key.created_at, key.id))

    async def revoke_key(self, id: str, *, user: str | None = None) -> KeyInfo:
        """End a key (only if it is `user`'s, when that is given). Again is no error. Raises NotFound or Unavailable."""
        row = await self._fetchrow("revoke_key", id, self._clock.now(), user)
        if row is None:
            raise NotFound("API key", id)
        self._forget(lambda principal: principal.key_id == id)
        return _key_info(row)

    async def ping(self) -> None:
        """For readiness: raises Unavailable when keys cannot be looked up."""
        await self._fetch("ping")

    def _forget(self, which: Any) -> None:
        """Drop what this process remembers; the others' memory runs out by itself."""
        for mark in [mark for mark, (_, principal) in self._accepted.items() if which(principal)]:
            del self._accepted[mark]

    async def _fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        rows = await self._fetch(query, *arguments)
        return rows[0] if rows else None

    async def _fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        try:
            return await self._pool.fetch(self._sql[query], *arguments, timeout=5)
        except DATABASE_AWAY as error:
            raise Unavailable(what="The access database") from error


def _key_info(row: asyncpg.Record) -> KeyInfo:
    values = dict(row)
    return KeyInfo(user=values.pop("user_name"), **values)


def _mark(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _put(memory: dict[bytes, Any], mark: bytes, value: Any, most: int) -> None:
    """Remember, and forget the oldest when there are too many."""
    memory.pop(mark, None)
    memory[mark] = value
    if len(memory) > most:
        del memory[next(iter(memory))]
