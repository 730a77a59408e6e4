"""Event streams: what goes over the wire, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from jobledger_kit.errors import InvalidRequest
from jobledger_kit.sse import EventStream, Fanout, ServerEvent, last_event_id
from tests.support.eventually import eventually_async

pytestmark = pytest.mark.anyio


class Wire:
    """The two ends of an ASGI connection."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self.stopping = asyncio.Event()
        self.on_send: Callable[[], Awaitable[None]] | None = None

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if self.on_send is not None:
            await self.on_send()

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    async def serve(self, stream: EventStream, method: str = "GET") -> None:
        async with asyncio.timeout(5):
            await stream({"type": "http", "method": method, "jobledger.stopping": self.stopping}, self.receive, self.send)

    @property
    def complete(self) -> bool:
        return self.sent[-1].get("more_body") is False


class Source:
    """Yields the events, then waits for ever; remembers that it was closed."""

    def __init__(self, *events: ServerEvent | bytes, ends: bool = False) -> None:
        self.events, self.ends, self.closed = events, ends, False

    async def __call__(self) -> AsyncIterator[ServerEvent | bytes]:
        try:
            for event in self.events:
                yield event
            if not self.ends:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def test_events_are_framed_as_the_standard_says() -> None:
    wire = Wire()
    source = Source(ServerEvent('{"a":1}', "status", "3:7"), b"data: raw\n\n", ServerEvent("two\nlines"), ends=True)
    await wire.serve(EventStream(source()))
    assert wire.text == 'retry: 2000\n\nid: 3:7\nevent: status\ndata: {"a":1}\n\ndata: raw\n\ndata: two\ndata: lines\n\n'
    headers = dict(wire.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-store, no-transform"
    assert b"content-length" not in headers
    assert wire.complete
    assert source.closed


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
async def test_an_id_or_name_cannot_break_the_frame(text: str) -> None:
    for event in (ServerEvent("x", id=text), ServerEvent("x", event=text)):
        with pytest.raises(ValueError, match="one line"):
            event.encode()


@pytest.mark.parametrize("text", ["a\r\nid: 9\r\n\r\n", "a\rb", "a\n\nb"])
async def test_data_cannot_break_the_frame(text: str) -> None:
    lines = ServerEvent(text).encode().decode().removesuffix("\n\n").split("\n")
    assert all(line.startswith("data: ") and "\r" not in line for line in lines)


async def test_silence_is_filled_with_comments() -> None:
    wire, source = Wire(), Source()
    task = asyncio.create_task(wire.serve(EventStream(source(), keep_alive_s=0.01)))
    await eventually_async(lambda: wire.text.count(": keep-alive\n\n") >= 3)
    wire.gone.set()
    await task
    assert source.closed


@pytest.mark.parametrize("how", ["the client goes", "the server stops", "its time is over"])
async def test_it_ends_when(how: str) -> None:
    wire, source = Wire(), Source(ServerEvent("x"))
    stream = EventStream(source(), max_lifetime_s=0.05 if how == "its time is over" else 900)
    task = asyncio.create_task(wire.serve(stream))
    await eventually_async(lambda: "data: x" in wire.text)
    if how == "the client goes":
        wire.gone.set()
    if how == "the server stops":
        wire.stopping.set()
    await task
    assert source.closed
    assert wire.complete


async def test_an_error_of_the_source_ends_the_stream_and_is_not_hidden() -> None:
    async def broken() -> AsyncIterator[ServerEvent]:
        yield ServerEvent("x")
        raise TimeoutError("the database")

    wire = Wire()
    with pytest.raises(TimeoutError, match="the database"):
        await wire.serve(EventStream(broken()))
    assert not wire.complete  # so that the server cuts the connection, and the client comes back


async def test_head_tells_the_headers_only() -> None:
    wire, source = Wire(), Source()
    await wire.serve(EventStream(source()), "HEAD")
    assert wire.text == ""
    assert wire.complete


async def test_a_slow_client_is_dropped_and_the_others_are_not() -> None:
    fanout = Fanout[int](max_queued=3)
    with fanout.subscribe() as slow, fanout.subscribe(lambda n: n % 2 == 0) as even:
        for n in range(5):
            fanout.publish(n)
        fanout.close()
        assert slow.overflowed
        assert [n async for n in slow] == []
        assert [n async for n in even] == [0, 2, 4]
        assert len(fanout) == 2
    assert len(fanout) == 0


async def test_a_subscriber_waits_for_what_comes() -> None:
    fanout = Fanout[str]()
    with fanout.subscribe() as events:
        asyncio.get_running_loop().call_later(0.01, fanout.publish, "a")
        assert await anext(events) == "a"


async def test_where_to_resume_is_checked() -> None:
    assert last_event_id(None) == ""
    assert last_event_id("0:5,1:7") == "0:5,1:7"
    for bad in ("a b", "x" * 1001, "a\n", "é"):
        with pytest.raises(InvalidRequest):
            last_event_id(bad)
