"""A small service for the tests of a process's life: `python service.py <data folder> <how it fails>`."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_kit.application import build_app
from jobledger_kit.credentials import Principal
from jobledger_kit.http import Allow, json_response, operation
from jobledger_kit.lifecycle import Part, http_part, run_main, run_service
from jobledger_kit.sse import EventStream, ServerEvent
from jobledger_kit.telemetry import set_up_logging
from tests.support.eventually import eventually_async

FOLDER, HOW = Path(sys.argv[1]), sys.argv[2]


class Nobody:
    def remembered(self, _token: str) -> Principal | None:
        return None

    async def verify(self, token: str) -> Principal:
        return Principal(name=token)


@operation("Events without end", allow=Allow.PUBLIC)
async def events(_request: Request) -> Response:
    async def source() -> AsyncIterator[ServerEvent]:
        yield ServerEvent("hello", id="0:1")
        await asyncio.Event().wait()

    return EventStream(source())


@operation("Takes a while", allow=Allow.PUBLIC, response=dict[str, str])
async def slow(_request: Request) -> Response:
    (FOLDER / "slow").touch()
    await asyncio.sleep(0.5)
    return json_response({"done": "well"})


async def other() -> None:
    if HOW in ("raises", "returns"):
        await eventually_async((FOLDER / "fail").exists)
        if HOW == "raises":
            raise ValueError("tiger")
        return
    try:
        await asyncio.Event().wait()
    finally:
        if HOW == "hangs":
            threading.Event().wait(60)  # the loop itself: nothing in it can end this
        if HOW == "stubborn":
            (FOLDER / "stopping").touch()
            await asyncio.sleep(60)
        if HOW == "fails-late":
            raise ValueError("on the way down")


async def main() -> int:
    set_up_logging("service")
    app = build_app([Route("/things/events", events), Route("/things/slow", slow)], Nobody(), noun="things", title="x")
    parts = [Part(name="other", run=other), http_part(app, host="127.0.0.1", port=0, data_dir=FOLDER)]
    try:
        return await run_service(parts, shutdown_timeout_s=3)
    finally:
        if HOW == "closes-badly":
            await asyncio.Event().wait()


run_main(main)
