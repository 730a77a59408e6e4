"""The command on a running stack, as people and scripts use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from jobledger import JobManager
from jobledger_devstack import Stack
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
    assert "asked to pause; Paused" in command("jobs", "pause", job_id)
    assert "asked to resume; " in command("jobs", "resume", job_id)
    assert "asked to stop; Aborted" in command("jobs", "stop", job_id, "--reason", "no more")
    assert "refused" in command("jobs", "history", job_id)
    verdicts = [entry["verdict"] for entry in json.loads(command("jobs", "history", job_id, "--json"))]
    assert verdicts[-4:] == ["refused", "applied", "applied", "applied"]
    command("jobs", "watch", job_id, code=8)
    (tmp_path / "data.txt").write_text("data")
    command("jobs", "put", job_id, str(tmp_path / "data.txt"))
    assert "data.txt" in command("jobs", "files", job_id)
    assert command("jobs", "get", job_id, "data.txt", "--to", "-") == "data"
    command("jobs", "delete", job_id)
    command("jobs", "show", job_id, code=5)
    assert "JobDeleted" in command("jobs", "history", job_id)


def test_tables_are_whole_in_a_pipe(command: Command) -> None:
    name = "a name that is much too long " * 5
    command("jobs", "create", name)
    assert name.strip() in command("jobs", "list")
    for words in (("schedulers", "list"), ("keys", "list"), ("dead-letters", "list")):
        assert "…" not in command(*words)


def test_schedulers_are_registered_checked_and_removed(command: Command, whole_stack: Endpoints, tmp_path: Path) -> None:
    host, _, port = whole_stack.collector.rpartition(":")
    token = tmp_path / "condor.token"
    token.write_text(Stack(Path(whole_stack.home)).mint_token("jobledger") + "\n")
    pool, dask = (f"{kind}-{uuid.uuid4().hex[:8]}" for kind in ("pool", "dask"))
    condor = ("--type", "condor", "--host", host, "--port", port, "--schedd", whole_stack.schedd_name, "--token-file", str(token))
    where = ("--type", "dask", "--host", whole_stack.dask_address, "--dashboard", whole_stack.dask_dashboard)
    for name, options in ((pool, condor), (dask, where)):
        for _ in range(2):  # whoever installs repeats it
            assert "registered" in command("schedulers", "register", name, *options, "--replace")
        assert json.loads(command("schedulers", "check", name, "--json"))["reachable"]
        assert command("schedulers", "register", name, *options[:3], "elsewhere.invalid", code=6)
        shown = json.loads(command("schedulers", "show", name, "--json"))
        assert shown["secrets_set"] == (["token"] if name == pool else [])
        assert "removed" in command("schedulers", "remove", name)
        command("schedulers", "show", name, code=5)
    (tmp_path / "empty").touch()
    assert "is empty" in command("schedulers", "register", pool, *condor[:-1], str(tmp_path / "empty"), code=2)


def test_the_status_of_the_stack_is_there_for_machines(command: Command, whole_stack: Endpoints) -> None:
    status = json.loads(command("status", "--json"))
    assert (status["ready"], status["endpoints"]["jobs_url"]) == (True, whole_stack.jobs_url)
    assert "kafka" in [part["name"] for part in status["parts"]]
    assert whole_stack.database_url not in json.dumps(status)


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
