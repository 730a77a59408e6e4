"""The one-shot initialisation against a real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from jobledger_devstack.model import Endpoints
from jobledger_kit.auth import Access
from jobledger_kit.database import Pool

pytestmark = pytest.mark.stack


def environment(bootstrap: str, database_url: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "JOBLEDGER_DATABASE_URL": database_url,
    }


def run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [sys.executable, "-m", "jobledger_kit.init", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.anyio
async def test_it_prepares_everything_and_doing_so_again_changes_nothing(
    backbone: Endpoints, database_url: str, database: Pool, tmp_path: Path
) -> None:
    env, file = environment(backbone.kafka_bootstrap, database_url), tmp_path / "secrets" / "admin.key"
    first = await asyncio.to_thread(run, env, "--admin-key-file", str(file))
    assert first.returncode == 0, first.stdout
    token = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    principal = await Access(database).verify(token)
    assert (principal.name, principal.admin) == ("admin", True)
    again = await asyncio.to_thread(run, env, "--admin-key-file", str(file))
    assert again.returncode == 0, again.stdout
    assert file.read_text().strip() == token
    for output in (first, again):
        assert token not in output.stdout + output.stderr
    assert [path.name for path in file.parent.iterdir()] == ["admin.key"]


@pytest.mark.anyio
async def test_a_key_that_does_not_work_is_replaced_and_two_at_once_agree(
    backbone: Endpoints, database_url: str, database: Pool, tmp_path: Path
) -> None:
    env, file = environment(backbone.kafka_bootstrap, database_url), tmp_path / "admin.key"
    file.write_bytes(b"\xff\xfe nothing")
    file.chmod(0o644)
    runs = await asyncio.gather(*(asyncio.to_thread(run, env, "--admin-key-file", str(file), "--admin-user", "root") for _ in range(3)))
    assert [each.returncode for each in runs] == [0, 0, 0], [each.stdout for each in runs]
    assert (await Access(database).verify(file.read_text().strip())).name == "root"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert await database.fetchval("select count(*) from access.api_keys") == 1


def test_what_does_not_answer_is_told_in_time(backbone: Endpoints, database_url: str, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        started = time.monotonic()
        for env in (
            environment(address, database_url),
            environment(backbone.kafka_bootstrap, f"postgresql://ada:tiger@{address}/x"),
        ):
            result = run(env, "--admin-key-file", str(tmp_path / "k"), "--timeout-s", "3")
            assert result.returncode == 75, result.stdout
            assert "tiger" not in result.stdout + result.stderr
            assert address.rpartition(":")[2] in result.stdout
    assert time.monotonic() - started < 40
    assert not (tmp_path / "k").exists()


def test_what_waiting_does_not_mend_is_told_at_once(backbone: Endpoints, database_url: str, tmp_path: Path) -> None:
    missing = database_url.rpartition("/")[0] + "/no_such_database"
    result = run(environment(backbone.kafka_bootstrap, missing), "--admin-key-file", str(tmp_path / "k"))
    assert result.returncode == 70, result.stdout
    other = environment(backbone.kafka_bootstrap, database_url) | {"JOBLEDGER_PARTITIONS": "5"}
    run(environment(backbone.kafka_bootstrap, database_url), "--admin-key-file", str(tmp_path / "k"))
    result = run(other, "--admin-key-file", str(tmp_path / "k"))
    assert result.returncode == 70, result.stdout
    assert "partitions" in result.stdout


def test_it_says_what_it_needs(tmp_path: Path) -> None:
    result = run({"PATH": os.environ["PATH"]}, "--admin-key-file", str(tmp_path / "k"))
    assert result.returncode == 78
    assert "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS" in result.stderr
    assert "JOBLEDGER_DATABASE_URL" in result.stderr
    assert "JOBLEDGER_DATABASE_URL" in run({"PATH": os.environ["PATH"]}, "--help").stdout
