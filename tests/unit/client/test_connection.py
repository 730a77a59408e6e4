"""Where the client looks for Jobledger, and in which order."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger import Connection
from jobledger.errors import NotConfigured, StillStarting


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a local stack."""
    (tmp_path / "admin.key").write_text("jlk_local\n")
    endpoints = {"jobs_url": "http://127.0.0.1:1/", "schedulers_url": "http://127.0.0.1:2", "admin_key_file": str(tmp_path / "admin.key")}
    (tmp_path / "endpoints.json").write_text(json.dumps({**endpoints, "something": "new"}))
    return tmp_path


def key_of(connection: Connection) -> str:
    return connection.jobs._client.headers["authorization"].removeprefix("Bearer ")


def test_a_local_stack_is_found(home: Path) -> None:
    with Connection.discover(environ={"JOBLEDGER_HOME": str(home)}) as connection:
        assert connection.jobs.base_url == "http://127.0.0.1:1"
        assert connection.schedulers.base_url == "http://127.0.0.1:2"
        assert key_of(connection) == "jlk_local"


def test_the_environment_comes_before_the_local_stack(home: Path) -> None:
    environ = {"JOBLEDGER_HOME": str(home), "JOBLEDGER_JOBS_URL": "https://jobs.example", "JOBLEDGER_API_KEY": "jlk_env"}
    with Connection.discover(environ=environ) as connection:
        assert connection.jobs.base_url == "https://jobs.example"
        assert key_of(connection) == "jlk_env"


def test_arguments_come_first(home: Path) -> None:
    environ = {"JOBLEDGER_JOBS_URL": "https://jobs.example", "JOBLEDGER_API_KEY": "jlk_env"}
    with Connection.discover(jobs_url="https://other.example", api_key="jlk_mine", home=home, environ=environ) as connection:
        assert (connection.jobs.base_url, key_of(connection)) == ("https://other.example", "jlk_mine")


def test_the_local_key_is_not_sent_elsewhere(home: Path) -> None:
    connection = Connection.discover(environ={"JOBLEDGER_HOME": str(home), "JOBLEDGER_JOBS_URL": "https://jobs.example"})
    with pytest.raises(NotConfigured, match="JOBLEDGER_API_KEY_FILE"):
        _ = connection.jobs


def test_without_anything_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="jobledger up"):
        _ = Connection.discover(environ={"JOBLEDGER_HOME": str(tmp_path)}).jobs


def test_advice_for_code_can_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="pass jobs_url") as caught:
        _ = Connection.discover(environ={"JOBLEDGER_HOME": str(tmp_path)}).jobs
    assert "pass" not in caught.value.message


@pytest.mark.parametrize("complete", [False, True])
def test_a_stack_on_its_way_up_is_said_to_be_starting(home: Path, complete: bool) -> None:
    with process("another.program") as other, process("jobledger_devstack.supervisor") as alive:
        for pid, starting in ((alive.pid, not complete), (other.pid, False)):
            state = {"running": True, "complete": complete, "supervisor_pid": pid, "parts": []}
            (home / "state.json").write_text(json.dumps(state))
            connection = Connection.discover(environ={"JOBLEDGER_HOME": str(home)})
            if starting:
                with pytest.raises(StillStarting, match=f"{home} is still starting"):
                    _ = connection.jobs
            else:
                assert connection.jobs.base_url == "http://127.0.0.1:1"


@contextlib.contextmanager
def process(module: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose command line looks as if it ran that module, and which is up: before, the kernel may show no command line."""
    program = "import sys; print(flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", program, "-m", module]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        try:
            yield started
        finally:
            started.kill()


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="nowhere"):
        Connection.discover(environ={"JOBLEDGER_API_KEY_FILE": str(tmp_path / "nowhere")})


def test_a_connection_does_not_show_its_key() -> None:
    assert "secret" not in repr(Connection(jobs_url="http://x", api_key="jlk_secret"))
