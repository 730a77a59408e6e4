"""A closed loop of HTTP connections, each sending its next request when the answer to the last has come.

Requests are bytes made before; answers are read by httptools and nothing else, so that the client takes as little of the machine as
it can. Runs in a process of its own: `python -m benchmarks.http_load`, a `Plan` as JSON on standard input, a `Result` on standard output.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import httptools
import msgspec
import uvloop


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send."""

    host: str
    port: int
    paths: list[str]  #: the connections take turns
    headers: list[dict[str, str]]  #: of each path
    body: str
    connections: int
    seconds: float
    warm_up_s: float = 1.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it, after the warm-up."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    statuses: dict[int, int]

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class Exchange(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, latencies: list[tuple[float, float]], statuses: dict[int, int]) -> None:
        self._request, self._latencies, self._statuses = request, latencies, statuses
        self._parser = httptools.HttpResponseParser(self)
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its shape only
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self._latencies.append((now, now - self._sent))
        status = self._parser.get_status_code()
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def close(self) -> None:
        self._transport.abort()


async def run(plan: Plan) -> Result:
    """Send for as long as the plan says. Raises ConnectionError when the server hangs up before."""
    requests = [_request(plan, path, headers) for path, headers in zip(plan.paths, plan.headers, strict=True)]
    latencies: list[tuple[float, float]] = []
    statuses: dict[int, int] = {}
    loop = asyncio.get_running_loop()
    made = []
    for number in range(plan.connections):
        exchange = Exchange(requests[number % len(requests)], latencies, statuses)
        made.append(await loop.create_connection(lambda exchange=exchange: exchange, plan.host, plan.port))  # type: ignore[misc]
    begin = time.perf_counter() + plan.warm_up_s
    end = begin + plan.seconds
    lives = [exchange.lost for _, exchange in made]
    lost, _ = await asyncio.wait(lives, timeout=plan.warm_up_s + plan.seconds, return_when=asyncio.FIRST_COMPLETED)
    for _, exchange in made:
        exchange.close()
    if lost:
        raise ConnectionError("the server closed a connection")
    took = sorted(latency for at, latency in latencies if begin <= at <= end)
    return Result(
        requests=len(took),
        seconds=plan.seconds,
        p50_ms=took[len(took) // 2] * 1000,
        p99_ms=took[len(took) * 99 // 100] * 1000,
        statuses=statuses,
    )


def _request(plan: Plan, path: str, headers: dict[str, str]) -> bytes:
    body = plan.body.encode()
    lines = [f"POST {path} HTTP/1.1", f"host: {plan.host}:{plan.port}", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, *(f"{name}: {text}" for name, text in headers.items()), "", ""]).encode() + body


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)))))
