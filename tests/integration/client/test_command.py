"""The command on a running stack, as people and scripts use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobledger import JobManager
from jobledger_devstack.model import Endpoints

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


class Command:
    """Runs `jobledger` on the stack."""

    def __init__(self, endpoints: Endpoints) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBLEDGER_")}
        self._environment = {**environment, "JOBLEDGER_HOME": endpoints.home, "COLUMNS": "80"}

    def __call__(self, *words: str, code: int = 0, **more: str) -> str:
        program = [sys.executable, "-c", "from jobledger.cli import main; main()", *words]
        said = subprocess.run(program, env=self._environment | more, capture_output=True, text=True, check=False, timeout=120)
        assert said.returncode == code, said.stderr or said.stdout
        assert bool(said.stderr) == (code not in (0, 8))
        return said.stdout or said.stderr


@pytest.fixture
def command(whole_stack: Endpoints) -> Command:
    return Command(whole_stack)


def test_a_job_is_followed_from_the_command_line(command: Command, tmp_path: Path) -> None:
    made = json.loads(command("jobs", "create", "from the command", "--json", "--execute"))
    job_id = made["id"]
    assert made["creation_time"].endswith("Z")
    assert job_id[:13] in command("jobs", "list", "--status", "SUB")
    assert "from the command" in command("jobs", "show", job_id[:20])
    assert "already_started" in command("jobs", "execute", job_id, code=6)
    assert "Aborted" in command("jobs", "stop", job_id, "--reason", "no more")
    assert "refused" in command("jobs", "history", job_id)
    assert [entry["verdict"] for entry in json.loads(command("jobs", "history", job_id, "--json"))][-2:] == ["refused", "applied"]
    command("jobs", "watch", job_id, code=8)
    (tmp_path / "data.txt").write_text("data")
    command("jobs", "put", job_id, str(tmp_path / "data.txt"))
    assert "data.txt" in command("jobs", "files", job_id)
    assert command("jobs", "get", job_id, "data.txt", "--to", "-") == "data"
    command("jobs", "delete", job_id)
    command("jobs", "show", job_id, code=5)


def test_tables_fit_the_width(command: Command) -> None:
    command("jobs", "create", "a name that is much too long " * 5)
    for words in (("jobs", "list"), ("schedulers", "list"), ("keys", "list"), ("dead-letters", "list")):
        assert max(map(len, command(*words).splitlines())) <= 80


def test_a_key_acts_for_its_user_until_it_is_revoked(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "key"
    command("keys", "create", "grace", "--to", str(file), "--label", "a test's")
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(command("whoami", "--json", JOBLEDGER_API_KEY_FILE=str(file)))["user"] == "grace"
    command("keys", "list", code=1, JOBLEDGER_API_KEY_FILE=str(file))
    key_id = file.read_text().split("_")[1]
    command("keys", "revoke", key_id)
    assert "revoked" in command("keys", "list")


def test_schedulers_are_shown_without_their_secrets(command: Command) -> None:
    shown = json.loads(command("schedulers", "show", "local-condor", "--json"))
    assert shown["secrets_set"] == ["token"]
    assert "eyJ" not in json.dumps(shown)
    checked = command("schedulers", "check", "local-condor")
    assert "local-condor can be used" in checked
    assert "failed" not in checked


def test_a_run_reports_with_the_command(command: Command, manager: JobManager, tmp_path: Path) -> None:
    job = manager.create_job("reports", job_type="BASIC")
    job.execute()
    credential = job.callback_credential(expires_in_s=60)
    (tmp_path / "credential").write_text(credential.token)
    environment = {"JOBLEDGER_CALLBACK_URL": credential.callback_url, "JOBLEDGER_CREDENTIAL_FILE": str(tmp_path / "credential")}
    position = command("callback", "COM", "--message", "done", **environment).strip()
    assert job.wait(timeout_s=30) == "Complete"
    assert job.history()[-1].position == position
