"""Tables at a terminal of 80 columns and in a pipe: what is fixed is whole, what is long is cut at a terminal only."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence

import pytest
from rich.text import Text

from jobledger.cli.output import table_lines
from jobledger.cli.show import change_line, job_details, outstanding
from jobledger.views import JobView

LONG = "a text that goes on and on " * 8
COLUMNS = (("position", "fixed"), ("who", "fill"), ("event", "fixed"), ("size", "number"), ("says", "fill"))
ROWS = [("3:1234567", LONG, "ExecuteRequested", "12", LONG), ("0:1", "ada", "RunEnded", "7", "")]

PROGRAM = """
from jobledger.cli.output import show_fields
from jobledger.cli.show import history_table, job_table
from jobledger.views import HistoryEntry, JobView
import sys
long = "a text that goes on and on " * 8
entry = HistoryEntry(
    position="3:1234567", type="ExecuteRequested", actor="user:" + long, verdict="refused", reason="already_started",
    recorded_at="2026-01-01T00:00:00+00:00", data={"reason": long},
)
history_table([entry])
job_table([JobView(id="0198c0de-0000-8000-8000-000000000001", name=long, job_type="CONDOR", status="Submitted", status_code="SUB")])
show_fields([("detail", long)])
"""


def rows(texts: Sequence[tuple[str, ...]]) -> list[tuple[Text, ...]]:
    return [tuple(map(Text, row)) for row in texts]


def test_at_80_columns_only_the_fill_columns_are_cut() -> None:
    heading, first, second = (line.plain for line in table_lines(COLUMNS, rows(ROWS), 80))
    assert max(map(len, (heading, first, second))) == 80
    assert first.startswith("3:1234567  a text")
    assert first.count("…") == 2
    assert "  ExecuteRequested    12  a text" in first
    assert second.split() == ["0:1", "ada", "RunEnded", "7"]


def test_a_narrow_fill_column_leaves_its_room_to_the_others() -> None:
    first = [line.plain for line in table_lines(COLUMNS, rows([("0:1", "ada", "RunEnded", "7", LONG)]), 80)][1]
    assert (len(first), first.count("…")) == (80, 1)
    assert "ada  RunEnded" in first


def test_fixed_columns_are_whole_even_where_they_do_not_fit() -> None:
    first = [line.plain for line in table_lines(COLUMNS, rows(ROWS), 20)][1]
    assert "3:1234567" in first
    assert "ExecuteRequested" in first


def test_without_a_terminal_nothing_is_cut() -> None:
    _, first, _ = (line.plain for line in table_lines(COLUMNS, rows(ROWS), None))
    assert first.count(LONG.strip()) == 2
    assert "…" not in first


def test_in_a_pipe_everything_is_whole() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True, check=True)
    assert said.stdout.count(LONG.strip()) == 4
    assert "0198c0de-0000-8000-8000-000000000001" in said.stdout
    assert "…" not in said.stdout
    assert len(said.stdout.splitlines()) == 6


def test_at_a_terminal_lines_fit_and_say_what_matters() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "FORCE_COLOR")}
    subprocess.run([sys.executable, "-c", PROGRAM], env={**plain, "TERM": "dumb"}, stdout=theirs, check=True)
    os.close(theirs)
    said = b""
    while chunk := _read(ours):
        said += chunk
    os.close(ours)
    lines = said.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("3:1234567" in line and "ExecuteRequested" in line and "refused: already_started" in line for line in lines)
    assert any("0198c0de-0000" in line and "condor" in line and "Submitted" in line for line in lines)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that nobody holds the other end any more
        return b""


@pytest.mark.parametrize(
    ("code", "desired", "shown"),
    [
        ("PEN", "", ""),
        ("SUB", "run", ""),
        ("RUN", "run", ""),
        ("PAS", "run", "run"),
        ("SUB", "pause", "pause"),
        ("PAS", "pause", ""),
        ("RUN", "stop", "stop"),
        ("PAS", "stop", "stop"),
        ("ABT", "stop", ""),
        ("COM", "pause", ""),
    ],
)
def test_what_was_asked_is_shown_until_it_is_so(code: str, desired: str, shown: str) -> None:
    assert outstanding(JobView(status_code=code, desired=desired)) == shown


def test_a_request_leaves_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    view = JobView(id="a", status="Submitted", status_code="SUB", status_message="waiting for a machine", desired="pause")
    change_line(view, "asked to resubmit")
    change_line(view)
    job_details(view)
    asked, seen, *details = capsys.readouterr().out.splitlines()
    assert asked == "a asked to resubmit; Submitted  waiting for a machine"
    assert seen == "a asked to pause; Submitted  waiting for a machine"
    assert ["desired", "pause"] in [line.split() for line in details]
