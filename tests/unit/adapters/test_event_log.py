"""HTCondor's event log, read in any pieces, moved away, cut and not there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_contracts.statuses import Status
from jobledger_schedulers.adapters.htcondor.event_log import BREAK, MAX_LINE_BYTES, EventLogParser, LogEvent
from jobledger_schedulers.adapters.htcondor.following import Following, LogFile, Said, follow_file
from jobledger_schedulers.adapters.port import Handle, Observation
from tests.support.eventually import eventually_async

CAPTURED = (Path(__file__).parents[2] / "data" / "htcondor" / "event-log-23.9.6.txt").read_bytes()
RUNNING = b"001 (007.000.000) 2026-11-26 21:00:00 Job executing on host: <127.0.0.1:20004>\n...\n"
ENDED = b"005 (007.000.000) 2026-11-26 21:00:01 Job terminated.\n\t(1) Normal termination (return value 0)\n...\n"


def read(*chunks: bytes) -> list[LogEvent]:
    parser = EventLogParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_what_a_pool_has_written_is_read() -> None:
    events = read(CAPTURED)
    assert {event.number for event in events} >= {0, 1, 5}
    assert all(event.cluster > 0 for event in events)
    assert len(events) == sum(line[3:5] == b" (" and line[5:6].isdigit() for line in CAPTURED.splitlines())


@given(st.lists(st.integers(0, len(CAPTURED)), max_size=20))
def test_where_it_is_cut_makes_no_difference(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(CAPTURED)]
    assert read(*(CAPTURED[a:b] for a, b in pairwise(places))) == read(CAPTURED)


@given(st.binary(max_size=300))
def test_garbage_costs_only_itself(garbage: bytes) -> None:
    assert read(garbage, BREAK, RUNNING, ENDED)[-2:] == [LogEvent(1, 7, 0), LogEvent(5, 7, 0)]


def test_an_unknown_event_is_one_and_words_like_a_header_are_none() -> None:
    assert read(b"942 (007.001.000) 11/26 21:00:00 News.\n001 (008.000.000) 2026 said a job\n...\n") == [LogEvent(942, 7, 1)]
    assert read(b"008 (-01.-01.-01) 2026-11-26 21:00:00 Global JobLog: ctime=1\n...\n") == []


def test_a_line_without_end_is_not_kept() -> None:
    parser = EventLogParser()
    for _ in range(10):
        assert parser.feed(b"x" * MAX_LINE_BYTES) == []
        assert len(parser._rest) <= MAX_LINE_BYTES
    assert parser.feed(b"\n...\n" + RUNNING) == [LogEvent(1, 7, 0)]


def test_a_file_is_read_from_its_end_and_the_next_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "EventLog"
    path.write_bytes(RUNNING)
    file = LogFile(path)
    assert file.read() == b""
    with path.open("ab") as log:
        log.write(ENDED[:20])
    assert file.read() == ENDED[:20]
    path.rename(tmp_path / "EventLog.old")
    path.write_bytes(RUNNING)
    assert file.read() == BREAK
    assert file.read() == RUNNING
    path.write_bytes(b"")  # truncated in place
    assert file.read() == BREAK
    path.unlink()
    assert file.read() == BREAK
    with pytest.raises(FileNotFoundError):
        file.read()
    path.write_bytes(ENDED)
    assert file.read() == ENDED
    file.close()


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no ordinary file"):
        LogFile(tmp_path).read()


@pytest.mark.anyio
async def test_one_look_at_all_that_has_changed_and_none_at_strangers(tmp_path: Path) -> None:
    looks: list[list[str]] = []

    async def look(runs: Sequence[str]) -> list[Observation]:
        looks.append(list(runs))
        return [Observation(run_id=run, ref="7", status=Status.RUNNING) for run in runs]

    async def chunks(said: Said) -> AsyncIterator[bytes]:
        yield RUNNING + RUNNING.replace(b"007", b"008") + RUNNING.replace(b"007", b"999") + ENDED
        await asyncio.Event().wait()

    following = Following("log", chunks, look)
    following.know(Handle("one", "7"))
    following.know(Handle("two", "8"))
    async with contextlib.aclosing(following.observations()) as events:
        assert {(await anext(events)).run_id, (await anext(events)).run_id} == {"one", "two"}
    assert looks == [["one", "two"]]


@pytest.mark.anyio
async def test_an_end_that_is_in_the_log_before_it_is_in_the_queue_is_looked_at_again() -> None:
    statuses = iter([Status.RUNNING, Status.COMPLETE])

    async def look(runs: Sequence[str]) -> list[Observation]:
        seen = [Observation(run_id=run, ref="7", status=next(statuses)) for run in runs]
        for one in seen:
            following.know(one)
        return seen

    async def chunks(said: Said) -> AsyncIterator[bytes]:
        yield ENDED
        await asyncio.Event().wait()

    following = Following("log", chunks, look)
    following.know(Observation(run_id="one", ref="7", status=Status.RUNNING))
    async with contextlib.aclosing(following.observations()) as events, asyncio.timeout(10):
        assert [(await anext(events)).status, (await anext(events)).status] == [Status.RUNNING, Status.COMPLETE]


@pytest.mark.anyio
async def test_a_log_that_is_not_there_is_said_once_and_read_when_it_comes(tmp_path: Path) -> None:
    path, seen = tmp_path / "EventLog", []

    async def look(runs: Sequence[str]) -> list[Observation]:
        return [Observation(run_id=run, ref="7", status=Status.RUNNING) for run in runs]

    def chunks(said: Said) -> AsyncIterator[bytes]:
        return follow_file(path, said)

    following = Following(str(path), chunks, look)
    following.know(Handle("one", "7"))

    async def listen() -> None:
        async with contextlib.aclosing(following.observations()) as events:
            async for event in events:
                seen.append(event.run_id)  # noqa: PERF401  seen is looked at meanwhile

    async def troubled() -> bool:
        return following.trouble != ""

    async def heard() -> bool:
        return seen == ["one"] and not following.trouble

    listening = asyncio.create_task(listen())
    try:
        await eventually_async(troubled, 10, 0.05)
        assert "No such file" in following.trouble
        path.write_bytes(RUNNING)
        await eventually_async(heard, 10, 0.05)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
