"""The documents' blocks of code, run as a reader would: one page after another, each block in its turn, in one shell and one folder.

A block is run when its fence says `bash test` or `python test`; with `file=NAME` it is written to that file instead.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from jobledger_devstack.model import Endpoints

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(?P<language>bash|python) test(?: file=(?P<file>[\w.]+))?\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    line: int
    language: str
    file: str
    code: str


def blocks(text: str) -> list[Block]:
    """The blocks of a document that are to be run."""
    return [
        Block(text.count("\n", 0, found.start()) + 1, found["language"], found["file"] or "", found["code"])
        for found in _FENCE.finditer(text)
    ]


def script(page: list[Block]) -> str:
    """One bash script of a page's blocks, which says where it is. What it made before is there for the next block: files, and variables."""
    lines = ["set -euo pipefail"]
    for number, block in enumerate(page):
        end = f"END_OF_BLOCK_{number}"
        lines.append(f"echo '# line {block.line}'")
        if block.file:
            lines.append(f"cat > {block.file} <<'{end}'\n{block.code}{end}\nchmod +x {block.file}")
        elif block.language == "python":
            lines.append(f"python - <<'{end}'\n{block.code}{end}")
        else:
            lines.append(block.code)
    return "\n".join(lines) + "\n"


PAGES = {str(path.relative_to(ROOT)): page for path in sorted((ROOT / "docs").rglob("*.md")) if (page := blocks(path.read_text()))}


@pytest.mark.stack
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
def test_examples_do_what_the_page_says(page: str, shared_stack: Endpoints, tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JOBLEDGER_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script(PAGES[page])],
        cwd=tmp_path,
        env={**inherited, "PATH": path, "JOBLEDGER_HOME": shared_stack.home, "NO_PROXY": "*"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{page} after {done.stdout[-6000:]}"


@pytest.mark.parametrize("page", PAGES)
def test_examples_can_be_read(page: str) -> None:
    """Also without a stack: the languages' own parsers take them."""
    for block in PAGES[page]:
        if block.language == "python":
            compile(block.code, f"{page}:{block.line}", "exec")
    subprocess.run(["bash", "-n", "-c", script(PAGES[page])], check=True)


def test_tutorial_and_how_tos_have_examples() -> None:
    assert {"docs/tutorial.md", "docs/howto/run-a-job-on-htcondor.md", "docs/howto/run-a-dask-job.md"} <= PAGES.keys()
