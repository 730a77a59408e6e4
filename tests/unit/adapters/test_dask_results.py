"""What Dask workers hand back is read without trust; what they print is kept within bounds."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_contracts.statuses import Status
from jobledger_schedulers.adapters.dask import capture, task
from jobledger_schedulers.adapters.dask.capture import KEPT_BYTES, Kept, captured, read_output
from jobledger_schedulers.adapters.dask.context import RunContext
from jobledger_schedulers.adapters.dask.results import read_result

SAVED = {"path": "plots/a.png", "size": 3, "sha256": "0" * 64}


def packed(kind: bytes, body: bytes, *, stdout: str = "", stderr: str = "", saved: list[dict[str, Any]] | None = None) -> bytes:
    output = {"stdout": Kept(), "stderr": Kept()}
    output["stdout"].write(stdout)
    output["stderr"].write(stderr)
    return task._packed(kind, body, output, saved or [])


def test_a_result_comes_with_what_was_printed_and_saved() -> None:
    returned = read_result(packed(b"J", b"42", stdout="out", stderr="größe", saved=[SAVED]))
    assert returned.outcome.status is Status.COMPLETE
    assert returned.files == {"result.json": b"42", "stdout.txt": b"out", "stderr.txt": "größe".encode()}
    assert [file.path for file in returned.saved] == ["plots/a.png"]


def test_an_error_is_read_and_its_traceback_kept() -> None:
    returned = read_result(packed(b"E", json.dumps({"type": "ValueError", "message": "no", "traceback": "T"}).encode()))
    assert (returned.outcome.status, returned.outcome.message) == (Status.ERROR, "ValueError: no")
    assert returned.files == {"error.txt": b"T"}


@pytest.mark.parametrize(
    "result",
    [
        None,
        b"",
        b"JLR2",
        b"JLR1J42",
        b"JLR2" + struct.pack("<I", 2**31) + b"{}",
        packed(b"J", b"42") + b"more",
        packed(b"J", b"not json"),
        packed(b"?", b""),
        packed(b"J", b"42", saved=[{**SAVED, "path": "../../etc/passwd"}]),
        packed(b"J", b"42", saved=[{**SAVED, "path": "/etc/passwd"}]),
        packed(b"J", b"42", saved=[{**SAVED, "size": -1}]),
    ],
)
def test_what_our_task_does_not_write_is_an_error_of_the_run(result: bytes | None) -> None:
    returned = read_result(result)
    assert returned.outcome.status is Status.ERROR
    assert list(returned.files) == ["error.txt"]
    assert not returned.saved


@given(st.binary(max_size=200), st.integers(0, 250), st.integers(0, 255))
def test_a_damaged_result_is_never_more_than_an_error(noise: bytes, place: int, value: int) -> None:
    good = bytearray(packed(b"J", b"42", stdout="out", saved=[SAVED]))
    read_result(bytes(noise))
    good[place % len(good)] = value
    read_result(bytes(good))


@given(st.lists(st.integers(1, KEPT_BYTES), max_size=6), st.integers(0, 4 * KEPT_BYTES))
def test_of_a_stream_the_beginning_and_the_end_are_kept(sizes: list[int], offset: int) -> None:
    kept, whole = Kept(), b""
    for number, size in enumerate(sizes):
        text = chr(ord("a") + number) * size
        kept.write(text)
        whole += text.encode()
    text_kept = kept.text()
    assert kept.size == len(whole)
    assert text_kept.startswith(whole[:KEPT_BYTES])
    assert text_kept.endswith(whole[-min(len(whole), KEPT_BYTES) :])
    begins, size, piece = kept.read(offset, 1000)
    assert size == len(whole)
    assert begins >= min(offset, size)
    assert piece == whole[begins : begins + len(piece)]
    assert piece or begins == size


@pytest.fixture
def streams() -> Iterator[None]:
    """What capturing leaves in a worker's process for ever is taken back here."""
    before = sys.stdout, sys.stderr
    yield
    sys.stdout, sys.stderr = before
    for name in ("jobledger_streams", "jobledger_runs"):
        vars(sys).pop(name, None)


def test_threads_are_told_apart(streams: None, capsys: pytest.CaptureFixture[str]) -> None:
    texts: dict[str, bytes] = {}
    together = threading.Barrier(3)

    def work(run: str) -> None:
        with captured(run) as kept:
            together.wait(10)
            print(f"I am {run}")
            logging.getLogger("flood").warning("warned")
            assert read_output(run, "stdout", 0, 100)[16:] == f"I am {run}\n".encode()
            texts[run] = kept["stdout"].text() + kept["stderr"].text()

    threads = [threading.Thread(target=work, args=(run,)) for run in ("one", "two")]
    for thread in threads:
        thread.start()
    together.wait(10)
    print("somebody else")
    for thread in threads:
        thread.join()
    assert texts["one"].startswith(b"I am one\n")
    assert texts["two"].startswith(b"I am two\n")
    assert capsys.readouterr().out == "somebody else\n"
    assert read_output("one", "stdout", 0, 100) == b""
    assert not vars(sys)["jobledger_runs"]


def test_what_copies_the_runs_context_counts_as_the_run(streams: None) -> None:
    with captured("one") as kept:
        asyncio.run(asyncio.to_thread(print, "from another thread"))
    assert kept["stdout"].text() == b"from another thread\n"
    assert capture._runs() == {}


def test_progress_is_told_at_a_bounded_rate() -> None:
    told: list[float] = []
    now = [100.0]
    context = RunContext({"A": "1"}, tell=lambda event: told.append(event["done"]), clock=lambda: now[0])
    for step in range(10_001):
        now[0] += 0.01
        context.progress(step / 10_000)
    assert len(told) <= 50
    assert told == sorted(told)
    assert (context["A"], context.stopped()) == ("1", False)
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            context.progress(bad)
    with pytest.raises(ValueError, match="no address"):
        context.save("a", b"")
