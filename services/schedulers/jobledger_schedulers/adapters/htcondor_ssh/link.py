"""One SSH connection to an access point, made when it is needed and made again when it is lost.

Strict about who is at the other end: a server whose key is not the registered one is not spoken to. What the user's own SSH
configuration, agent or keys say does not matter here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Final

import asyncssh
import msgspec
import structlog

from jobledger_schedulers.adapters.htcondor.event_log import BREAK
from jobledger_schedulers.adapters.htcondor.following import Said
from jobledger_schedulers.adapters.htcondor_ssh.host_keys import fingerprint, host_keys, in_words, shown_key
from jobledger_schedulers.adapters.port import (
    AdapterSettings,
    AuthenticationFailed,
    OutcomeUnknown,
    Refused,
    SchedulerError,
    Unreachable,
)

log = structlog.get_logger()

KEEPALIVE_INTERVAL_S: Final = 5.0
KEEPALIVES_MISSED: Final = 3
SESSIONS: Final = 6
"""At once; OpenSSH allows 10 of one connection unless told otherwise."""
MAX_OUTPUT_BYTES: Final = 256 * 2**20
MAX_ERROR_BYTES: Final = 256 * 2**10
CHUNK_BYTES: Final = 2**16
GOODBYE_S: Final = 2.0
FOLLOW_PAUSE_S: Final = 1.0
MAX_FOLLOW_PAUSE_S: Final = 60.0

asyncssh.set_log_level(logging.WARNING)  # each connection and each command would be told of otherwise


class Answer(msgspec.Struct, frozen=True):
    """What a command wrote, and how it ended."""

    stdout: bytes
    stderr: str
    exit_status: int


class _Lost(Exception):
    """The connection went away in the middle of it, or there was no word for too long."""


class _TooMuch(Exception):
    """More output than the limit, which is the argument."""


class _Reader:
    """Reads a stream to its end, up to a limit; `on_line` hears of each line as it comes."""

    def __init__(self, max_bytes: int, on_line: Callable[[str], None] | None) -> None:
        self._max_bytes, self._on_line = max_bytes, on_line
        self.size = 0

    async def read(self, stream: Any) -> bytes:
        parts: list[bytes] = []
        rest = b""
        while chunk := await stream.read(CHUNK_BYTES):
            self.size += len(chunk)
            if self.size > self._max_bytes:
                raise _TooMuch(self._max_bytes)
            parts.append(chunk)
            if self._on_line is not None:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._on_line(line.decode(errors="replace"))
        return b"".join(parts)


async def _heed(stderr: Any, said: Said) -> None:
    """Hear what `tail` says of the file: GNU's words."""
    async for line in stderr:
        words = line.decode(errors="replace").strip()
        if "has appeared" in words or "following new file" in words:
            said("")
        elif "cannot open" in words or "inaccessible" in words:
            said(words)


class Link:
    """The connection. Calls may run at the same time; each keeps its own deadline."""

    def __init__(self, settings: AdapterSettings) -> None:
        self._settings = settings
        self._port = settings.port or 22
        self.where = f"{settings.host}:{self._port}"
        self._connecting = asyncio.Lock()
        self._sessions = asyncio.Semaphore(SESSIONS)
        self._connection: Any = None
        self._sftp: Any = None
        self._key: Any = None

    # -- commands -------------------------------------------------------------------------------------------------------------------

    async def run(
        self,
        script: str,
        *,
        changes: bool,
        silence_s: float | None = None,
        max_bytes: int = MAX_OUTPUT_BYTES,
        on_line: Callable[[str], None] | None = None,
    ) -> Answer:
        """Have a shell do `script`, which comes to it by stdin: nothing of it shows in the server's list of processes.

        `silence_s` bounds the time without any output. Raises Unreachable, AuthenticationFailed, Refused when there is too much
        output, and OutcomeUnknown instead of Unreachable when it was cut off and `changes` something.
        """

        async def words() -> AsyncIterator[bytes]:
            yield script.encode()

        return await self._command("exec /bin/sh -s", words(), changes, silence_s or self._settings.timeout_s, max_bytes, on_line)

    async def feed(self, command: str, chunks: AsyncIterable[bytes]) -> Answer:
        """Have a shell command read `chunks`. Raises as `run` does for what changes nothing: whoever feeds must be able to feed again."""
        return await self._command(command, chunks, False, self._settings.timeout_s, MAX_ERROR_BYTES, None)

    async def _command(
        self,
        command: str,
        chunks: AsyncIterable[bytes],
        changes: bool,
        silence_s: float,
        max_bytes: int,
        on_line: Callable[[str], None] | None,
    ) -> Answer:
        async with self._sessions:
            process = await self._open(command)
            try:
                return await self._converse(process, chunks, silence_s, max_bytes, on_line)
            except _Lost as lost:
                kind = OutcomeUnknown if changes else Unreachable
                raise kind(f"the connection to {self.where} was lost in the middle of it: {lost}") from lost
            finally:
                process.close()

    async def _open(self, command: str) -> Any:
        """Start a command; once more on a new connection when the old one turns out to be gone, for nothing was sent then."""
        for last in (False, True):
            connection = await self._connected()
            try:
                async with asyncio.timeout(self._settings.timeout_s):
                    return await connection.create_process(command, encoding=None)
            except TimeoutError as error:
                await self._drop(connection)
                raise Unreachable(f"the SSH server at {self.where} does not answer within {self._settings.timeout_s:g} s") from error
            except (asyncssh.Error, OSError) as error:
                gone = isinstance(error, asyncssh.ConnectionLost | OSError) or connection.is_closed()
                if last or not gone:
                    raise Unreachable(f"the SSH server at {self.where} starts no command: {error}") from error
                await self._drop(connection)
        raise AssertionError

    async def _converse(
        self, process: Any, chunks: AsyncIterable[bytes], silence_s: float, max_bytes: int, on_line: Callable[[str], None] | None
    ) -> Answer:
        reader = _Reader(max_bytes, on_line)
        stdout = asyncio.create_task(reader.read(process.stdout), name="ssh stdout")
        stderr = asyncio.create_task(_Reader(MAX_ERROR_BYTES, None).read(process.stderr), name="ssh stderr")
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionError):  # it wants no more: its exit status and stderr say why
                async for chunk in chunks:
                    process.stdin.write(chunk)
                    async with asyncio.timeout(silence_s):
                        await process.stdin.drain()
                process.stdin.write_eof()
            while not stdout.done():
                heard = reader.size
                await asyncio.wait({stdout}, timeout=silence_s)
                if reader.size == heard and not stdout.done():
                    raise TimeoutError
            out = await stdout
            async with asyncio.timeout(silence_s):
                err = await stderr
                await process.wait_closed()
        except TimeoutError as error:
            raise _Lost(f"no word for {silence_s:g} s") from error
        except (asyncssh.Error, ConnectionError) as error:
            raise _Lost(str(error) or type(error).__name__) from error
        except _TooMuch as error:
            raise Refused(f"the access point {self.where} answers with more than {error} bytes") from error
        finally:
            stdout.cancel()
            stderr.cancel()
            await asyncio.gather(stdout, stderr, return_exceptions=True)
        if process.exit_status is None:  # asyncssh ends a cut conversation like a finished one, but for this
            raise _Lost("it ended without an exit status")
        return Answer(out, err.decode(errors="replace"), process.exit_status)

    async def follow(self, command: str, said: Said) -> AsyncIterator[bytes]:
        """What `tail -F` writes, for ever; it is begun again when the connection is lost, with BREAK in between."""
        pause_s = FOLLOW_PAUSE_S
        while True:
            try:
                process = await self._open(command)
                warnings = asyncio.create_task(_heed(process.stderr, said), name="ssh tail")
                try:
                    while chunk := await process.stdout.read(CHUNK_BYTES):
                        pause_s = FOLLOW_PAUSE_S
                        said("")
                        yield chunk
                finally:
                    process.close()
                    warnings.cancel()
                    await asyncio.gather(warnings, return_exceptions=True)
                said("the command that follows it has ended, or the connection was lost")
            except (SchedulerError, asyncssh.Error, OSError) as error:
                said(str(error) or type(error).__name__)
            yield BREAK
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_FOLLOW_PAUSE_S)

    # -- files ----------------------------------------------------------------------------------------------------------------------

    async def sftp(self) -> Any:
        """An SFTP client, shared by all. Raises Unreachable, AuthenticationFailed."""
        connection = await self._connected()
        async with self._connecting:
            if self._sftp is None or self._sftp[0] is not connection:
                try:
                    async with asyncio.timeout(self._settings.timeout_s):
                        client = await connection.start_sftp_client(path_errors="surrogateescape")
                except (TimeoutError, asyncssh.Error, OSError) as error:
                    raise Unreachable(f"the SSH server at {self.where} offers no SFTP: {error or 'no answer in time'}") from error
                self._sftp = connection, client
            return self._sftp[1]

    # -- the connection -------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Hang up. What runs at the other end goes on."""
        if self._connection is not None:
            await self._drop(self._connection)

    async def _drop(self, connection: Any) -> None:
        if self._connection is connection:
            self._connection = self._sftp = None
        connection.close()
        try:
            async with asyncio.timeout(GOODBYE_S):
                await connection.wait_closed()
        except TimeoutError:
            connection.abort()
            await connection.wait_closed()

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._connection is None or self._connection.is_closed():
                self._sftp = None
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> Any:
        settings = self._settings
        try:
            known = host_keys(settings.known_host_key)
        except ValueError as error:
            raise AuthenticationFailed(f"the registered host key of {self.where}: {error}") from error
        if not known:
            raise AuthenticationFailed(f"no host key is registered for {self.where}: without one, anybody could pose as it")
        key = await self._private_key()
        try:
            async with asyncio.timeout(settings.timeout_s):
                connection = await asyncssh.connect(
                    settings.host,
                    self._port,
                    username=settings.username,
                    password=settings.password or None,
                    client_keys=[key] if key is not None else None,
                    known_hosts=asyncssh.import_known_hosts("".join(f"* {line}\n" for line in known)),
                    agent_path=None,
                    config=None,
                    gss_host=None,
                    keepalive_interval=KEEPALIVE_INTERVAL_S,
                    keepalive_count_max=KEEPALIVES_MISSED,
                )
        except asyncssh.HostKeyNotVerifiable as error:
            raise await self._another_key(known) from error
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise in_words(error, self.where, settings.username) from error
        log.debug("Connected by SSH", scheduler=settings.name, at=self.where)
        return connection

    async def _private_key(self) -> Any:
        settings = self._settings
        if self._key is None and settings.private_key:
            try:  # the key derivation of an encrypted key takes a fifth of a second: not in the loop
                self._key = await asyncio.to_thread(asyncssh.import_private_key, settings.private_key, settings.private_key_pass or None)
            except asyncssh.KeyEncryptionError as error:
                raise AuthenticationFailed(f"the private key for {self.where} does not open with the given passphrase") from error
            except asyncssh.KeyImportError as error:
                why = "it has a passphrase, and none is given" if "passphrase" in str(error).lower() else "it is none that we can read"
                raise AuthenticationFailed(f"the private key for {self.where} cannot be used: {why}") from error
        return self._key

    async def _another_key(self, known: list[str]) -> SchedulerError:
        expected = ", ".join(fingerprint(line) for line in known)
        try:
            shown = f"shows the key {(await shown_key(self._settings.host, self._port)).fingerprint}"
        except SchedulerError:
            shown = "shows a key that is none of ours"
        return AuthenticationFailed(
            f"the server at {self.where} is not the one that was registered: it {shown}, and not {expected}. "
            "Either its key was changed, and an administrator registers the new one, or somebody else answers there"
        )
