"""SSH servers' public keys: read as people paste them, shown as people compare them."""

from __future__ import annotations

import asyncio
import re

import asyncssh
import msgspec

from jobledger_schedulers.adapters.port import AuthenticationFailed, SchedulerError, Unreachable

_TYPE = re.compile(r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)\Z")
PROBE_TIMEOUT_S = 8.0


class ShownKey(msgspec.Struct, frozen=True):
    """A key that a server shows. Whether it is the right one, only its administrator knows."""

    line: str
    fingerprint: str


def host_keys(text: str) -> list[str]:
    """`type key` for each line of a known_hosts file, of `ssh-keyscan`, or of a .pub file. Raises ValueError with what is wrong."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0].startswith("@"):
            raise ValueError(f"a line with {words[0]} is not supported: give the server's own key")
        at = next((number for number, word in enumerate(words) if _TYPE.match(word)), None)
        if at is None or at + 1 >= len(words):
            raise ValueError("this is no public key, such as `ssh-ed25519 AAAA...`")
        key = f"{words[at]} {words[at + 1]}"
        fingerprint(key)
        found.append(key)
    return list(dict.fromkeys(found))


def fingerprint(line: str) -> str:
    """`SHA256:...` of a public key, as every SSH tool shows it. Raises ValueError."""
    try:
        return str(asyncssh.import_public_key(line).get_fingerprint())
    except asyncssh.KeyImportError as error:
        raise ValueError(f"this public key cannot be read: {error}") from error


async def shown_key(host: str, port: int) -> ShownKey:
    """Ask a server for its key, without logging in. Raises Unreachable, AuthenticationFailed."""
    where = f"{host}:{port or 22}"
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            key = await asyncssh.get_server_host_key(host, port or 22, config=None)
    except (OSError, TimeoutError, asyncssh.Error) as error:
        raise in_words(error, where) from error
    if key is None:
        raise Unreachable(f"the server at {where} shows no key")
    return ShownKey(" ".join(key.export_public_key().decode().split()[:2]), str(key.get_fingerprint()))


def in_words(error: BaseException, where: str, username: str = "") -> SchedulerError:
    """Why a connection did not come about."""
    if isinstance(error, asyncssh.PermissionDenied):
        return AuthenticationFailed(
            f"the SSH server at {where} does not let {username or 'us'} in: no such user, or another key or password"
        )
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return AuthenticationFailed(
            f"the SSH server at {where} and we have no method of encryption in common, or no kind of host key: {error}"
        )
    if isinstance(error, TimeoutError):
        return Unreachable(f"the SSH server at {where} does not answer in time")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"nothing listens at {where}")
    if isinstance(error, OSError):
        return Unreachable(f"{where} cannot be reached: {error.strerror or error}")
    return Unreachable(f"the SSH server at {where} has broken off: {error}")
