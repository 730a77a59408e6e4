"""Dask's own protocol, spoken without pickle coming in.

`distributed.Client` opens pickles: results, exceptions, events, even inside plain messages (`distributed.protocol.loads` opens
`__Pickled__` whatever the deserializers say). Who can make a worker, or a task, say something could so run code in our process.
Here, what comes in is msgpack only; anything serialised otherwise stays an `Opaque`, whose bytes may be looked at and no more.
What goes out is made with distributed's own serialisation: those objects are ours.

Sources: distributed 2026.8 `comm/tcp.py` (framing), `comm/core.py` (handshake), `protocol/core.py` (messages).
"""

from __future__ import annotations

import asyncio
import contextlib
import pickletools
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgpack  # type: ignore[import-untyped]
from distributed.protocol.core import dumps

from jobledger_schedulers.adapters.port import OutcomeUnknown, Refused, Unreachable

MAX_MESSAGE_BYTES = 256 * 2**20
MAX_FRAMES = 1_000_000
IDLE_CONNECTIONS = 4

Message = Mapping[str, Any]


class Opaque:
    """Something serialised that we do not open."""

    __slots__ = ("frames", "header")

    def __init__(self, header: Mapping[Any, Any], frames: Sequence[bytes]) -> None:
        self.header, self.frames = header, frames

    def raw(self) -> bytes:
        """The bytes, of an object that was bytes on the other side. Raises ValueError when it was anything else.

        Dask's family of serialisers sends bytes as they are (`protocol/serialize.py`, `_serialize_bytes`).
        """
        if self.header.get("serializer") != "dask":
            raise ValueError("it was not sent as plain bytes")
        if any(method is not None for method in self.header.get("compression") or ()):
            raise ValueError("it was compressed on the way: set distributed.comm.compression to False on the Dask cluster")
        return b"".join(self.frames)

    def __repr__(self) -> str:
        return f"<Opaque {sum(map(len, self.frames))} bytes>"


class Closed(ConnectionError):
    """The scheduler's side of a connection is gone, or spoke no sense."""


def decode(frames: Sequence[bytes]) -> Any:
    """Read a message. Raises ValueError, and opens nothing."""

    def opaque(offset: Any) -> Opaque:
        if not isinstance(offset, int) or not 0 < offset < len(frames):
            raise ValueError("a frame is named that is not there")
        header = msgpack.unpackb(frames[offset], strict_map_key=False, raw=False, use_list=False, object_hook=named)
        count = header.get("num-sub-frames", 0)
        return Opaque(header, frames[offset + 1 : offset + 1 + count])

    def named(item: dict[Any, Any]) -> Any:
        if "__Set__" in item:
            return frozenset(item.get("as-list", ()))
        if "__Enum__" in item:
            return str(item.get("name"))
        return item

    def hook(item: dict[Any, Any]) -> Any:
        for kind in ("__Serialized__", "__Pickled__"):
            if kind in item:
                return opaque(item[kind])
        return named(item)

    return msgpack.unpackb(frames[0], strict_map_key=False, raw=False, use_list=False, object_hook=hook)


def encode(message: Any) -> list[bytes]:
    """Write a message of our own."""
    return [bytes(frame) for frame in dumps(message)]


class Connection:
    """One connection to a scheduler, after the handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: str, security: ssl.SSLContext | None = None) -> Connection:
        """Connect to `tcp://host:port` or `tls://host:port`. Raises OSError, Closed or ValueError; has no deadline of its own."""
        parts = urlsplit(address)
        if parts.scheme not in ("tcp", "tls") or not parts.hostname or not parts.port:
            raise ValueError(f"{address!r} is no Dask address: tcp://host:port or tls://host:port is expected")
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=security if parts.scheme == "tls" else None)
        connection = cls(reader, writer)
        try:
            # Both sides tell; with no compression from us there is none in what is written for us.
            greeting = await connection.request({"compression": None, "python": tuple(sys.version_info)[:3], "pickle-protocol": 5})
            if not isinstance(greeting, dict) or "pickle-protocol" not in greeting:
                raise Closed("what answers there is no Dask scheduler")
        except BaseException:
            connection.abort()
            raise
        return connection

    async def request(self, message: Any) -> Any:
        """Send one message and receive its answer."""
        await self.write(encode(message))
        return await self.read()

    async def write(self, frames: Sequence[bytes]) -> None:
        """Send one encoded message. What is not yet encoded may be large, and is then encoded in a thread."""
        prelude = struct.pack(f"<{len(frames) + 1}Q", len(frames), *map(len, frames))
        self._writer.write(struct.pack("<Q", len(prelude) + sum(map(len, frames))) + prelude)
        self._writer.writelines(frames)
        await self._writer.drain()

    async def read(self) -> Any:
        """Receive one message. Raises Closed."""
        try:
            return decode(await self._frames())
        except (asyncio.IncompleteReadError, struct.error) as error:
            raise Closed("the scheduler closed the connection") from error
        except (ValueError, msgpack.UnpackException, IndexError, AttributeError, TypeError) as error:
            raise Closed(f"the scheduler sent what cannot be read: {error}") from error

    async def _frames(self) -> list[bytes]:
        (size,) = struct.unpack("<Q", await self._reader.readexactly(8))
        first = await self._exactly(size)
        (count,) = struct.unpack_from("<Q", first)
        if count > MAX_FRAMES:
            raise ValueError(f"{count} frames")
        lengths = struct.unpack_from(f"<{count}Q", first, 8)
        if sum(lengths) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {sum(lengths)} bytes, more than {MAX_MESSAGE_BYTES}")
        frames, start = [], 8 * (1 + count)
        for length in lengths:
            if start + length <= len(first) and start < len(first):
                frames.append(first[start : start + length])
                start += length
            else:  # a large buffer, sent after the part that goes together
                frames.append(await self._exactly(length))
        return frames

    async def _exactly(self, size: int) -> bytes:
        if size > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {size} bytes, more than {MAX_MESSAGE_BYTES}")
        return await self._reader.readexactly(size)

    def abort(self) -> None:
        """Close at once."""
        self._writer.close()

    async def close(self) -> None:
        """Close, and wait for it."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Rpc:
    """Calls of a scheduler's handlers; each has a connection of its own while it lasts."""

    def __init__(self, address: str, timeout_s: float, security: Callable[[], ssl.SSLContext | None] = lambda: None) -> None:
        self.address, self.timeout_s = address, timeout_s
        self._security = security
        self._idle: list[Connection] = []
        self._closed = False

    async def call(self, op: str, *, timeout_s: float | None = None, changes: bool = False, **arguments: Any) -> Any:
        """Call a handler. Raises Unreachable, Refused, or OutcomeUnknown when what `changes` something got no answer."""
        limit_s = timeout_s or self.timeout_s
        request = {"op": op, "reply": True, **arguments}
        sent = False
        try:
            async with asyncio.timeout(limit_s):
                reused = bool(self._idle)
                try:
                    async with self._connection() as connection:
                        sent = True
                        answer = await connection.request(request)
                except OSError:
                    if changes or not reused:
                        raise
                    # The connection may be from before a restart of the scheduler; asking again does no harm.
                    async with self._connection() as connection:
                        answer = await connection.request(request)
        except (OSError, TimeoutError) as error:
            why = f"no answer within {limit_s:g} s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            if changes and sent:
                raise OutcomeUnknown(f"the Dask scheduler at {self.address} was lost in the middle of {op}: {why}") from error
            raise Unreachable(f"the Dask scheduler at {self.address} does not answer: {why}") from error
        if isinstance(answer, dict) and answer.get("status") in ("uncaught-error", "error") and "exception_text" in answer:
            raise Refused(f"the Dask scheduler could not do {op}: {answer['exception_text']}")
        return answer

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        connection = self._idle.pop() if self._idle else await self.connect()
        try:
            yield connection
        except BaseException:
            self.forget_idle()
            connection.abort()
            raise
        if self._closed or len(self._idle) >= IDLE_CONNECTIONS:
            await connection.close()
        else:
            self._idle.append(connection)

    async def connect(self) -> Connection:
        """A new connection, the caller's own. Raises as `Connection.open` does, and AuthenticationFailed."""
        return await Connection.open(self.address, self._security())

    def forget_idle(self) -> None:
        """Let go of connections that nobody uses."""
        while self._idle:
            self._idle.pop().abort()

    async def close(self) -> None:
        """Close all."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()


def words_in_pickle(data: bytes, limit: int = 500) -> str:
    """The class name and texts in a pickle, read off its opcodes without running them: what an exception was about."""
    names: list[str] = []
    with contextlib.suppress(Exception):  # damaged on purpose or not: then what could be read
        for opcode, argument, _ in pickletools.genops(data):
            if isinstance(argument, str) and opcode.name not in ("INT", "LONG", "FLOAT"):
                names.append(argument)
    return " ".join(" ".join(names).split())[:limit]
