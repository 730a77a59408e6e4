"""A service's process: it stops in good order when it is asked to, and does not live on half dead."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from jobledger_kit.lifecycle import EX_OK, EX_SOFTWARE, Part, bind, run_service
from tests.support.eventually import eventually, eventually_async

ROOT = Path(__file__).parents[3]


class Running:
    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self.folder = process, folder
        port = eventually(lambda: (folder / "port").exists() and (folder / "port").read_text(), timeout_s=30)
        self.url = f"http://127.0.0.1:{int(port)}"

    def ends(self, timeout_s: float = 20) -> tuple[int, list[dict[str, object]]]:
        out, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()]


@contextmanager
def service(folder: Path, how: str = "well") -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.kit_http.service", str(folder), how], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield Running(process, folder)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(tmp_path: Path, number: signal.Signals) -> None:
    with service(tmp_path) as running:
        assert httpx.get(f"{running.url}/things/health/live", trust_env=False).json() == {"status": "ok", "checks": {}}
        running.process.send_signal(number)
        code, lines = running.ends()
    assert code == EX_OK
    assert next(line for line in lines if line["event"] == "listening")["url"] == running.url


def test_open_event_streams_do_not_hold_it_up_and_requests_finish(tmp_path: Path) -> None:
    with service(tmp_path) as running, httpx.Client(trust_env=False, timeout=10) as client:
        with client.stream("GET", f"{running.url}/things/events") as stream:
            lines = stream.iter_lines()
            assert "data: hello" in (next(lines), next(lines), next(lines), next(lines))
            answer: list[httpx.Response] = []
            thread = threading.Thread(target=lambda: answer.append(httpx.get(f"{running.url}/things/slow", trust_env=False, timeout=10)))
            thread.start()
            eventually((tmp_path / "slow").exists)
            started = time.monotonic()
            running.process.terminate()
            assert list(lines)[-1:] in ([""], [])  # the stream ends cleanly, not by a reset
            thread.join()
        code, _ = running.ends()
    assert code == EX_OK
    assert answer[0].json() == {"done": "well"}
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("how", ["raises", "returns"])
def test_a_part_that_ends_ends_the_process_with_70(tmp_path: Path, how: str) -> None:
    with service(tmp_path, how) as running:
        (tmp_path / "fail").touch()
        code, lines = running.ends()
    assert code == EX_SOFTWARE
    assert [line["part"] for line in lines if line["event"] == "A part has ended"] == ["other"]


def test_a_part_that_fails_while_it_stops_is_told(tmp_path: Path) -> None:
    with service(tmp_path, "fails-late") as running:
        running.process.terminate()
        code, lines = running.ends()
    assert code == EX_SOFTWARE
    assert any("on the way down" in str(line.get("exception")) for line in lines)


@pytest.mark.parametrize(("how", "code"), [("hangs", EX_SOFTWARE), ("closes-badly", EX_OK)])
def test_a_stop_that_hangs_is_cut_short(tmp_path: Path, how: str, code: int) -> None:
    started = time.monotonic()
    with service(tmp_path, how) as running:
        running.process.terminate()
        assert running.ends()[0] == code
    assert time.monotonic() - started < 20


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with service(tmp_path, "stubborn") as running:
        running.process.terminate()
        eventually((tmp_path / "stopping").exists)
        started = time.monotonic()
        running.process.terminate()
        assert running.ends()[0] == EX_SOFTWARE
    assert time.monotonic() - started < 2


@pytest.mark.anyio
async def test_parts_start_in_order_and_stop_in_reverse() -> None:
    order: list[str] = []

    def part(name: str, *, fails: bool = False) -> Part:
        async def run() -> None:
            order.append(f"+{name}")
            if fails:
                await eventually_async(lambda: len(order) >= 3)
                raise ValueError(name)
            try:
                await asyncio.Event().wait()
            finally:
                order.append(f"-{name}")

        return Part(name=name, run=run)

    assert await run_service([part("store"), part("projector", fails=True), part("http")]) == EX_SOFTWARE
    assert order == ["+store", "+projector", "+http", "-http", "-store"]


@pytest.mark.anyio
async def test_a_graceful_stop_has_a_bound() -> None:
    async def run() -> None:
        await asyncio.Event().wait()

    async def never() -> None:
        await asyncio.Event().wait()

    async def ends() -> None: ...

    started = time.monotonic()
    code = await run_service([Part(name="slow", run=run, stop=never, stop_timeout_s=0.05), Part(name="ends", run=ends)])
    assert code == EX_SOFTWARE
    assert time.monotonic() - started < 2


def test_an_address_in_use_is_named() -> None:
    with bind("127.0.0.1", 0) as taken, pytest.raises(OSError, match=f"127.0.0.1:{taken.getsockname()[1]}"):
        bind("127.0.0.1", taken.getsockname()[1])
