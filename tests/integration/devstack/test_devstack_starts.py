"""Starts that meet difficulties: a taken port, a part that cannot start, other options, an ordinary account."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import probes
import pytest

from jobledger_devstack import PartFailed, Stack, StackError, StackOptions
from jobledger_devstack.layout import default_cache

pytestmark = pytest.mark.stack

ONLY_POSTGRES = StackOptions(parts=frozenset({"postgres"}), fsync=False)


def test_taken_port_is_replaced_and_a_free_one_kept(folders: Path) -> None:
    stack = Stack(folders / "ports", options=ONLY_POSTGRES)
    stack.up()
    try:
        first = stack.status().part("postgres").port
        assert first is not None
        stack.down()
        with socket.create_server(("127.0.0.1", first)):
            endpoints = stack.up()

            assert stack.status().part("postgres").port != first
            assert probes.sql(endpoints.database_url, "SELECT 1") == 1
    finally:
        stack.down()


def test_part_that_cannot_start_is_named_with_its_log_and_nothing_is_left(folders: Path) -> None:
    home = folders / "broken"
    stack = Stack(home, options=ONLY_POSTGRES)
    stack.up()
    stack.down()
    version = home / "postgres" / "data" / "PG_VERSION"
    version.write_text("9\n")

    with pytest.raises(PartFailed, match="postgres failed") as caught:
        stack.up()

    assert caught.value.part == "postgres"
    assert "database files are incompatible with server" in caught.value.log
    probes.eventually(lambda: probes.marked(home) == [], timeout_s=10)
    assert stack.status().part("postgres").phase == "failed"
    version.write_text("18\n")
    stack.up()
    assert stack.down()


def test_other_options_are_refused_while_it_runs_and_taken_after(folders: Path) -> None:
    home = folders / "options"
    Stack(home, options=ONLY_POSTGRES).up()
    other = Stack(home, options=StackOptions(slots=7))
    try:
        with pytest.raises(StackError, match="other options"):
            other.up()
    finally:
        other.down()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a stack as somebody else")
def test_ordinary_account_runs_everything_as_itself(stack: Stack, folders: Path) -> None:
    account = pwd.getpwnam("nobody")
    home = folders / "nobody"
    home.mkdir()
    os.chown(home, account.pw_uid, account.pw_gid)
    # The shared cache is filled by the stack of root's; this account can only read it.
    assert stack.status().ready
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "JOBLEDGER_HOME": str(home / "data"),
        "JOBLEDGER_CACHE": str(default_cache()),
    }

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "jobledger_devstack", *words]
        run_as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        return subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, timeout=120, check=False, **run_as)  # type: ignore[call-overload, no-any-return]

    try:
        started = command("up", "--parts", "kafka,postgres,condor,ssh,dask")
        assert started.returncode == 0, started.stdout + started.stderr
        assert command("status").returncode == 0
        owners = {Path(f"/proc/{line.split()[0]}").stat().st_uid for line in probes.marked(home / "data")}
        assert owners == {account.pw_uid}
    finally:
        stopped = command("down")
    assert stopped.returncode == 0
    assert "no process is left" in stopped.stdout
    assert probes.marked(home / "data") == []
    assert command("status").returncode == 3
