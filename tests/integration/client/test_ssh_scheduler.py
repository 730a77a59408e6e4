"""A pool that is reached by SSH: registered, checked and used through the services, the SDK and the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from jobledger import Connection, JobManager, create_condor_scheduler, get_scheduler
from jobledger.compute import Scheduler
from jobledger.errors import InvalidRequest
from jobledger_devstack.model import Endpoints

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
BY_SSH = "local-condor-ssh"


def made(endpoints: Endpoints, connection: Connection, *, encrypted: bool = False, **more: str) -> Scheduler:
    """A scheduler of a fresh name, as an app makes it."""
    key = endpoints.ssh_private_key_file + (".encrypted" if encrypted else "")
    return create_condor_scheduler(
        f"ssh-{uuid.uuid4().hex[:8]}",
        endpoints.ssh_host,
        username=endpoints.ssh_username,
        private_key_path=key,
        port=endpoints.ssh_port,
        connection=connection,
        **more,
    )


def test_a_job_by_ssh_ends_with_its_files(manager: JobManager, whole_stack: Endpoints, tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text('#!/bin/sh\necho "hello from $1"; cat data.txt > copy.txt; mkdir results; echo 42 > results/answer.txt\n')
    (tmp_path / "data.txt").write_text("river")
    job = manager.create_job(
        "by ssh",
        job_type="CONDOR",
        scheduler=BY_SSH,
        remote_input_files=[str(script), str(tmp_path / "data.txt")],
        attributes={"executable": "run.sh", "arguments": ["the access point"], "transfer_input_files": ["data.txt"]},
    )
    job.execute()
    job.wait(timeout_s=120)
    assert (job.cached_status, job.exit_code) == ("Complete", 0), job.status_message
    names = {file.path for file in job.files()}
    assert {"run-1/stdout.txt", "run-1/stderr.txt", "run-1/condor.log", "run-1/copy.txt"} <= names, names
    workspace = Path(whole_stack.workspaces) / job.id / "run-1"
    assert (workspace / "stdout.txt").read_text() == "hello from the access point\n"
    assert (workspace / "copy.txt").read_text() == "river"
    assert not any("credential" in name for name in names)
    base = Path(whole_stack.home) / "ssh" / "home" / ".jobledger"
    assert not (base / f"{job.id}.1").exists()


def test_a_job_by_ssh_is_stopped(manager: JobManager) -> None:
    job = manager.create_job(
        "long, by ssh", job_type="CONDOR", scheduler=BY_SSH, attributes={"executable": "/bin/sleep", "arguments": ["300"]}
    )
    job.execute()
    job.stop()
    job.wait(timeout_s=60)
    assert job.cached_status == "Aborted"


def test_without_a_host_key_nothing_is_registered_and_the_key_is_shown(whole_stack: Endpoints, connection: Connection) -> None:
    scheduler = made(whole_stack, connection)
    with pytest.raises(InvalidRequest) as refused:
        scheduler.save()
    said = str(refused.value)
    assert "known_host_key" in said
    assert "SHA256:" in said
    assert whole_stack.ssh_host_key in said
    assert get_scheduler(scheduler.name, connection=connection) is None


def test_an_app_registers_a_pool_by_ssh_with_an_encrypted_key(whole_stack: Endpoints, connection: Connection) -> None:
    passphrase = Path(f"{whole_stack.ssh_private_key_file}.passphrase").read_text()
    line = f"[127.0.0.1]:{whole_stack.ssh_port} {whole_stack.ssh_host_key} pasted from somewhere"
    scheduler = made(whole_stack, connection, encrypted=True, private_key_pass=passphrase, known_host_key=line)
    scheduler.save()
    check = scheduler.check()
    again = get_scheduler(scheduler.name, connection=connection)
    assert again is not None
    assert (check.reachable, again.known_host_key, again.transport) == (True, whole_stack.ssh_host_key, "ssh"), check
    again.save()  # what was read can be saved again, and keeps its credentials
    assert scheduler.check().reachable
    wrong = made(whole_stack, connection, encrypted=True, private_key_pass="wrong", known_host_key=line)
    wrong.save()
    check = wrong.check()
    assert (check.reachable, "passphrase" in check.detail) == (False, True)
    for one in (scheduler, wrong):
        one.delete()


def test_the_command_registers_a_pool_by_ssh(whole_stack: Endpoints, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBLEDGER_")} | {
        "JOBLEDGER_HOME": whole_stack.home
    }

    def command(*words: str) -> str:
        program = [sys.executable, "-c", "from jobledger.cli import main; main()", "schedulers", *words]
        done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (tmp_path / "host_key").write_text(f"# scanned\n{whole_stack.ssh_host} {whole_stack.ssh_host_key}\n")
    key = whole_stack.ssh_private_key_file
    where = ["--type", "condor", "--transport", "ssh", "--host", whole_stack.ssh_host, "--port", str(whole_stack.ssh_port)]
    secrets = ["--private-key", f"{key}.encrypted", "--private-key-pass-file", f"{key}.passphrase"]
    command(
        "register", "from-command", *where, "--username", whole_stack.ssh_username, "--known-host-key", str(tmp_path / "host_key"), *secrets
    )
    shown = json.loads(command("show", "from-command", "--json"))
    assert (shown["transport"], shown["known_host_key"]) == ("ssh", whole_stack.ssh_host_key)
    assert sorted(shown["secrets_set"]) == ["private_key", "private_key_pass"]
    assert json.loads(command("check", "from-command", "--json"))["reachable"]
    command("remove", "from-command")
