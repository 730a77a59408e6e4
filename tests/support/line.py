"""A TCP line that can be cut: at once, or after so many bytes. In the test's own loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self


class Line:
    """Forwards to one address. `async with Line(host, port) as line:` listens at `line.port`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._budget: int | None = None
        self.sent = 0  #: bytes on their way there, so far
        self.cuts = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        if self._calls:
            await asyncio.wait(self._calls, timeout=10)

    def cut(self) -> None:
        """Break all connections now; new ones are let through."""
        self.cuts += bool(self._writers)
        for writer in self._writers:
            writer.transport.abort()

    def cut_after(self, sent_bytes: int) -> None:
        """Break all connections once so many more bytes were sent there."""
        self._budget = sent_bytes

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        pair = {writer, there_writer}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, there_writer, counted=True))
                group.create_task(self._pump(there_reader, writer, counted=False))
        finally:
            self._writers -= pair
            self._calls.discard(call)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(16_384):
                if counted:
                    self.sent += len(data)
                    if self._budget is not None and (budget := self._budget - len(data)) < 0:
                        self._budget = None
                        self.cut()
                        break
                    if self._budget is not None:
                        self._budget = budget
                writer.write(data)
                await writer.drain()
        writer.close()
