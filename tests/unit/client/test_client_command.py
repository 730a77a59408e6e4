"""The command: helps, exit codes, one line per error."""

from __future__ import annotations

import json
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


def test_advice_for_code_is_not_given_at_the_command_line(tmp_path: Path) -> None:
    assert "pass" not in run("jobs", "list", home=tmp_path).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("jobs", "put", "0198", __file__, "--as", "../x"), "must be relative"),
        (("jobs", "get", "0198", "../history"), "must be relative"),
        (("jobs", "create", "x", "--type", "DASK", "--scheduler", "s", "--function", "ab"), "MODULE:FUNCTION"),
        (("jobs", "create", "x", "--type", "DASK", "--scheduler", "s", "--execute"), "something to run"),
        (("schedulers", "register", "a b", "--type", "dask", "--host", "tcp://h:1"), "begins with a letter or a digit"),
        (("schedulers", "show", "../jobs"), "begins with a letter or a digit"),
    ],
)
def test_what_cannot_be_right_is_refused_before_any_request(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "key").write_text("jlk_x")
    nowhere = '{"jobs_url": "http://127.0.0.1:9", "schedulers_url": "http://127.0.0.1:9"'
    (tmp_path / "endpoints.json").write_text(f'{nowhere}, "admin_key_file": "{tmp_path}/key"}}')
    answer = run(*words, home=tmp_path)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_stack_that_never_ran_is_said_to_be_none(tmp_path: Path) -> None:
    said = run("status", home=tmp_path)
    assert (said.returncode, said.stderr, len(said.stdout.splitlines())) == (3, "", 1)
    assert f"no stack was ever started in {tmp_path}" in said.stdout
    log = run("logs", "kafka", home=tmp_path)
    assert (log.returncode, log.stdout) == (1, "")
    assert "no logs yet" in log.stderr
    machine = run("status", "--json", home=tmp_path)
    assert machine.returncode == 3
    assert json.loads(machine.stdout) == {
        "home": str(tmp_path),
        "ready": False,
        "running": False,
        "supervisor_pid": None,
        "supervisor_started": 0.0,
        "complete": False,
        "failure": "",
        "failure_reason": "",
        "failure_log": "",
        "parts": [],
        "endpoints_file": None,
        "endpoints": None,
    }


def test_a_callback_outside_a_job_says_so(tmp_path: Path) -> None:
    said = run("callback", "Running", home=tmp_path)
    assert said.returncode == 2
    assert "JOBLEDGER_CREDENTIAL_FILE" in said.stderr
