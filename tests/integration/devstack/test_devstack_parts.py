"""Each part of a real stack answers as its users ask, comes back when it is killed, and keeps its data."""

from __future__ import annotations

import os
import pwd
import signal
import time
import uuid
from pathlib import Path

import probes
import pytest

from jobledger_devstack import Phase, Stack

pytestmark = pytest.mark.stack


def jobs_account() -> str:
    return "jobledger-jobs" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def test_kafka_keeps_what_is_produced(stack: Stack) -> None:
    endpoints, topic = stack.endpoints(), f"t-{uuid.uuid4()}"
    probes.create_topic(endpoints, topic)

    probes.produce(endpoints, topic, b"one")

    assert probes.consume(endpoints, topic, 1) == [b"one"]


def test_postgres_answers_with_password_only(stack: Stack) -> None:
    import asyncpg

    url = stack.endpoints().database_url

    assert probes.sql(url, "SELECT current_database()") == "jobledger"
    assert str(probes.sql(url, "SHOW server_version")).startswith("18")
    account, _, rest = url.rpartition("@")
    wrong = f"{account.rpartition(':')[0]}:wrong@{rest}"
    with pytest.raises(asyncpg.InvalidPasswordError):
        probes.sql(wrong, "SELECT 1")


def test_condor_runs_a_job_on_the_jobs_python(stack: Stack, tmp_path: Path) -> None:
    output = probes.run_condor_job(stack.endpoints(), stack.mint_token("tester"), tmp_path)

    code, version, mark, account = output.split()
    assert (code, account) == ("0", jobs_account())
    assert version == "2026.8.0"
    assert mark == str(stack.layout.home), "down could not find a job that outlives its starter"


def test_dask_computes_as_the_jobs_user(stack: Stack) -> None:
    assert probes.compute_on_dask(stack.endpoints()) == f"42 {jobs_account()}"


def test_secrets_are_out_of_the_jobs_reach(stack: Stack) -> None:
    assert stack.layout.secrets.stat().st_mode & 0o777 == 0o700
    assert stack.layout.endpoints.stat().st_mode & 0o777 == 0o600
    assert stack.layout.secrets.stat().st_uid == os.geteuid()
    if os.geteuid() == 0:
        assert (stack.layout.condor / "execute").stat().st_uid == pwd.getpwnam("jobledger-jobs").pw_uid


def test_no_password_in_any_command_line(stack: Stack) -> None:
    secret = (stack.layout.secrets / "postgres.password").read_bytes()

    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        assert secret not in words


def test_up_twice_changes_nothing_and_is_quick(stack: Stack) -> None:
    before, began = stack.status(), time.monotonic()

    stack.up()

    assert time.monotonic() - began < 2
    assert stack.status() == before


@pytest.mark.parametrize("part", ["postgres", "condor", "ssh", "dask-worker-1", "dask-scheduler", "kafka"])
def test_killed_part_comes_back_by_itself(stack: Stack, part: str) -> None:
    before = stack.status().part(part)
    assert before.pid is not None

    os.kill(before.pid, signal.SIGKILL)

    def is_back() -> bool:
        now = stack.status().part(part)
        return now.phase is Phase.READY and now.pid != before.pid

    probes.eventually(is_back, timeout_s=40)
    probes.eventually(lambda: stack.status().ready, timeout_s=30)
    assert stack.status().part(part).restarts == before.restarts + 1
    assert stack.status().part(part).port == before.port


def test_everything_works_after_the_kills(stack: Stack, tmp_path: Path) -> None:
    endpoints = stack.endpoints()

    assert probes.sql(endpoints.database_url, "SELECT 1") == 1
    assert probes.compute_on_dask(endpoints).startswith("42")
    assert probes.run_condor_job(endpoints, stack.mint_token("tester"), tmp_path).startswith("0")


def test_restart_keeps_ports_and_data_and_down_leaves_no_process(stack: Stack) -> None:
    endpoints, topic = stack.endpoints(), f"t-{uuid.uuid4()}"
    probes.create_topic(endpoints, topic)
    probes.produce(endpoints, topic, b"kept")
    probes.sql(endpoints.database_url, "CREATE TABLE kept AS SELECT 7 AS value")

    stopped = stack.down()

    assert {name.split()[0] for name in stopped} >= {"kafka", "postgres", "condor", "ssh", "dask-scheduler", "supervisor"}
    assert probes.marked(stack.layout.home) == []
    assert probes.inside(stack.layout.home) == []
    assert not stack.status().running
    assert stack.down() == []

    assert stack.up(timeout_s=60) == endpoints
    assert probes.consume(endpoints, topic, 1) == [b"kept"]
    assert probes.sql(endpoints.database_url, "SELECT value FROM kept") == 7


def test_killed_supervisor_is_replaced_by_the_next_up(stack: Stack) -> None:
    before = stack.status()
    assert before.supervisor_pid is not None
    os.kill(before.supervisor_pid, signal.SIGKILL)
    probes.eventually(lambda: not stack.status().running, timeout_s=5)
    assert probes.marked(stack.layout.home), "its children go on without it"

    stack.up(timeout_s=60)

    after = stack.status()
    assert after.ready
    old = {part.pid for part in before.parts if part.pid}
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in old), "nothing of the old stack runs beside the new one"
