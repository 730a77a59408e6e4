"""Server-sent events (WHATWG HTML, 9.2): an answer that goes on, and a fan-out with a bounded queue for each client.

A client that cannot keep up is dropped, not waited for; it comes back with `Last-Event-ID` and misses nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .errors import FieldError, InvalidRequest
from .telemetry import SSE_CLIENTS, SSE_DROPPED

T = TypeVar("T")

KEEP_ALIVE_S: Final = 15.0
SEND_TIMEOUT_S: Final = 30.0
MAX_LIFETIME_S: Final = 900.0
"""A stream ends after this long and the client comes back: that is when a revoked key is noticed, and how load spreads again."""
MAX_QUEUED: Final = 1_000
RETRY_MS: Final = 2_000

_LAST_EVENT_ID = re.compile(r"[\x21-\x7e]{1,1000}\Z")
_LINE_END = re.compile(r"\r\n|\r|\n")


class ServerEvent(msgspec.Struct, frozen=True):
    """One event. `id` is where to resume: a position, or positions joined by commas."""

    data: bytes | str  #: JSON, on one line or several
    event: str = ""
    id: str = ""

    def encode(self) -> bytes:
        """As it goes over the wire. Raises ValueError for an id or a name with a line end or a NUL."""
        if any(c in text for text in (self.id, self.event) for c in "\r\n\0"):
            raise ValueError("an event's id and name are one line")
        text = self.data.decode() if isinstance(self.data, bytes) else self.data
        lines = [f"id: {self.id}"] if self.id else []
        if self.event:
            lines.append(f"event: {self.event}")
        lines += [f"data: {line}" for line in (_LINE_END.split(text) if "\n" in text or "\r" in text else (text,))]
        return ("\n".join(lines) + "\n\n").encode()


def last_event_id(headers_value: str | None) -> str:
    """Read the `Last-Event-ID` header; empty when there is none. Raises InvalidRequest for one that we never sent."""
    if not headers_value:
        return ""
    if not _LAST_EVENT_ID.match(headers_value):
        raise InvalidRequest(errors=[FieldError("Last-Event-ID", "this is no event id of this stream")])
    return headers_value


class EventStream(Response):
    """The answer: sends what `source` yields, a comment when it is silent, and ends with it, with the client, or with the server.

    `source` is closed in every case. Events may be given encoded (`ServerEvent.encode`), so that one encoding serves many clients.
    """

    media_type = "text/event-stream"

    def __init__(
        self, source: AsyncIterator[ServerEvent | bytes], *, keep_alive_s: float = KEEP_ALIVE_S, max_lifetime_s: float = MAX_LIFETIME_S
    ) -> None:
        self.status_code = 200
        self.background = None
        self._source, self._keep_alive_s, self._max_lifetime_s = source, keep_alive_s, max_lifetime_s
        # `no-transform` and the header of nginx keep proxies from collecting events before they pass them on.
        self.init_headers({"cache-control": "no-store, no-transform", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        waits: list[asyncio.Task[object]] = []
        if scope["method"] != "HEAD":
            waits.append(asyncio.create_task(_disconnected(receive), name="sse-disconnect"))
            stopping: asyncio.Event | None = scope.get("jobledger.stopping")
            if stopping is not None:
                waits.append(asyncio.create_task(stopping.wait(), name="sse-stopping"))
        SSE_CLIENTS.inc()
        try:
            if waits:
                await self._pump(send, waits)
        except _TooSlowError:
            SSE_DROPPED.inc()
            return  # without the last message: the server then cuts the connection
        finally:
            SSE_CLIENTS.dec()
            await _end(waits)
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump(self, send: Send, ends: list[asyncio.Task[object]]) -> None:
        """Send until the source, the client, the server or the lifetime ends. Raises _TooSlowError."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._max_lifetime_s
        await _send(send, b"retry: %d\n\n" % RETRY_MS)
        upcoming: asyncio.Task[ServerEvent | bytes | None] = asyncio.create_task(_next(self._source), name="sse-next")
        try:
            while True:
                left_s = min(self._keep_alive_s, until - loop.time())
                done, _ = await asyncio.wait((upcoming, *ends), timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
                if not done.isdisjoint(ends) or (not done and loop.time() >= until):
                    return
                if not done:
                    await _send(send, b": keep-alive\n\n")
                    continue
                event = upcoming.result()
                if event is None:
                    return
                await _send(send, event if isinstance(event, bytes) else event.encode())
                if loop.time() >= until:
                    return
                upcoming = asyncio.create_task(_next(self._source), name="sse-next")
        finally:
            await _end([upcoming])


class _TooSlowError(Exception):
    """The client has not read for `SEND_TIMEOUT_S`."""


async def _next(source: AsyncIterator[ServerEvent | bytes]) -> ServerEvent | bytes | None:
    return await anext(source, None)


async def _send(send: Send, chunk: bytes) -> None:
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except TimeoutError:
        raise _TooSlowError from None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(tasks: list[asyncio.Task[object]] | list[asyncio.Task[ServerEvent | bytes | None]]) -> None:
    """Cancel what still runs, and wait for it. What the source raised has been raised by `_pump` already."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Subscription(Generic[T]):
    """One client's queue: iterate it for events. It ends when the client is too slow, or when the fan-out is closed."""

    def __init__(self, wants: Callable[[T], bool], max_queued: int) -> None:
        self._wants, self._max_queued = wants, max_queued
        self._queue: deque[T] = deque()
        self._wake = asyncio.Event()
        self.overflowed = False
        self._closed = False

    def offer(self, item: T) -> None:
        """Called by the fan-out. Never blocks."""
        if self.overflowed or self._closed or not self._wants(item):
            return
        if len(self._queue) >= self._max_queued:
            self.overflowed = True
            self._queue.clear()
            SSE_DROPPED.inc()
        else:
            self._queue.append(item)
        self._wake.set()

    def close(self) -> None:
        """End the iteration once what is queued has been taken."""
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> Subscription[T]:
        return self

    async def __anext__(self) -> T:
        while not self._queue:
            if self.overflowed or self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()


class Fanout(Generic[T]):
    """Hands each item to every subscriber that wants it, without waiting for any of them."""

    def __init__(self, *, max_queued: int = MAX_QUEUED) -> None:
        self._max_queued = max_queued
        self._subscriptions: set[Subscription[T]] = set()

    def publish(self, item: T) -> None:
        """Queue an item for all who want it."""
        for subscription in self._subscriptions:
            subscription.offer(item)

    @contextmanager
    def subscribe(self, wants: Callable[[T], bool] = lambda _: True) -> Iterator[Subscription[T]]:
        """Take part while the block lasts. Subscribe first, then read the past, so that nothing falls between the two."""
        subscription = Subscription[T](wants, self._max_queued)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription."""
        for subscription in self:
            subscription.close()

    def __iter__(self) -> Iterator[Subscription[T]]:
        return iter(tuple(self._subscriptions))

    def __len__(self) -> int:
        return len(self._subscriptions)
