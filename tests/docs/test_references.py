"""What documents name is there: sections, `make` verbs, `jobledger` commands, events, settings; and the generated pages are up to date."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from jobledger.cli.main import cli
from jobledger_contracts.catalogue import entries
from tests.docs.test_layout import DOCUMENTS, ROOT

_FENCED = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\((?P<path>[^)#\s]*)#(?P<section>[^)\s]+)\)")
_VERB = re.compile(r"(?:^|[`(\"])make (?P<verb>[a-z]+)", re.MULTILINE)
_COMMAND = re.compile(r"\bjobledger (?P<words>[a-z][a-z-]*(?: [a-z][a-z-]*)?)")
_QUOTED = re.compile(r"`(?P<name>[A-Z][a-z]+(?:[A-Z][a-z]+)*(?:Requested|Changed|Created|Deleted|Removed|Registered|Collected))`")

VERBS = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
by_path = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def sections(path: Path) -> set[str]:
    """The anchors that a document's headings get."""
    headings = re.findall(r"^#+ +(.+)$", _FENCED.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def code(text: str) -> str:
    """What a document says in code: its fenced blocks for a shell, and what stands between backticks."""
    fenced = [found["code"] for found in _FENCED.finditer(text) if found["language"] in ("", "bash", "sh")]
    return "\n".join([*fenced, *(f"`{quoted}`" for quoted in re.findall(r"`([^`\n]+)`", _FENCED.sub("", text)))])


@by_path
def test_links_to_sections_lead_to_one(path: Path) -> None:
    for link in _LINK.finditer(_FENCED.sub("", path.read_text(encoding="utf-8"))):
        target = (path.parent / link["path"]).resolve() if link["path"] else path
        if "://" not in link["path"] and target.suffix == ".md":
            assert link["section"] in sections(target), f"{link[0]}: {sorted(sections(target))}"


@by_path
def test_make_verbs_are_there(path: Path) -> None:
    named = {found["verb"] for found in _VERB.finditer(code(path.read_text(encoding="utf-8")))}
    assert named <= VERBS


@by_path
def test_commands_are_there(path: Path) -> None:
    """`jobledger <command>`, and `jobledger <group> <command>` of a group."""
    for found in _COMMAND.finditer(code(path.read_text(encoding="utf-8"))):
        first, _, second = found["words"].partition(" ")
        command = cli.commands.get(first)
        assert command is not None, f"there is no `jobledger {first}`"
        if isinstance(command, click.Group) and second:
            assert second in command.commands, f"there is no `jobledger {first} {second}`"


@by_path
def test_events_are_there(path: Path) -> None:
    named = {found["name"] for found in _QUOTED.finditer(path.read_text(encoding="utf-8"))}
    assert named <= {entry.type for entry in entries()}


def test_every_page_is_in_the_index() -> None:
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md") if path.name not in ("index.md", "0000-template.md")]
    assert [str(page) for page in pages if f"({page})" not in text] == []


def test_generated_pages_say_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
