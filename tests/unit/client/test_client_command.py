"""The command: helps, exit codes, one line per error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from jobledger.cli.main import cli


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name)


@pytest.mark.parametrize("words", list(commands(cli)), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(cli, [*words, "--help"], terminal_width=80)
    assert said.exit_code == 0
    assert "Usage:" in said.output
    assert max(map(len, said.output.splitlines())) <= 100


def run(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBLEDGER_")}
    program = "from jobledger.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**environment, "JOBLEDGER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_a_stack_it_says_what_to_do_in_one_line(tmp_path: Path) -> None:
    said = run("jobs", "list", home=tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert len(said.stderr.splitlines()) == 1
    assert "jobledger up" in said.stderr


def test_a_service_that_is_away_has_its_own_exit_code(tmp_path: Path, unused_port: int) -> None:
    (tmp_path / "key").write_text("jlk_x")
    (tmp_path / "endpoints.json").write_text(f'{{"jobs_url": "http://127.0.0.1:{unused_port}", "admin_key_file": "{tmp_path}/key"}}')
    said = run("whoami", home=tmp_path)
    assert said.returncode == 4
    assert f"127.0.0.1:{unused_port}" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_options_of_another_type_of_job_are_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("jlk_x")
    (tmp_path / "endpoints.json").write_text(f'{{"jobs_url": "http://127.0.0.1:9", "admin_key_file": "{tmp_path}/key"}}')
    said = run("jobs", "create", "x", "--type", "DASK", "--executable", "a.py", home=tmp_path)
    assert said.returncode == 2
    assert "executable" in said.stderr


def test_a_callback_outside_a_job_says_so(tmp_path: Path) -> None:
    said = run("callback", "Running", home=tmp_path)
    assert said.returncode == 2
    assert "JOBLEDGER_CREDENTIAL_FILE" in said.stderr
