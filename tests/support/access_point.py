"""A real access point behind a real OpenSSH server, once per session; and what is needed to log in to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobledger_devstack import Stack, StackOptions
from jobledger_devstack.temporary import temporary_stack
from jobledger_schedulers.adapters.port import AdapterSettings


@pytest.fixture(scope="session")
def access_point() -> Iterator[Stack]:
    """HTCondor and its SSH server. With JOBLEDGER_TEST_STACK (a data folder) those of a stack that is up already."""
    if home := os.environ.get("JOBLEDGER_TEST_STACK"):
        yield Stack(Path(home))
        return
    with temporary_stack(StackOptions(parts=frozenset({"condor", "ssh"}), slots=8, fsync=False)) as stack:
        yield stack


def ssh_settings(access_point: Stack, private_dir: Path, **more: Any) -> AdapterSettings:
    """How to log in to the access point; `more` says what is different."""
    endpoints = access_point.endpoints()
    usual = AdapterSettings(
        name="access-point",
        type="condor",
        transport="ssh",
        host=endpoints.ssh_host,
        port=endpoints.ssh_port,
        username=endpoints.ssh_username,
        known_host_key=endpoints.ssh_host_key,
        private_key=Path(endpoints.ssh_private_key_file).read_text(),
        private_dir=private_dir,
        timeout_s=20,
    )
    return msgspec.structs.replace(usual, **more)


def encrypted_key(access_point: Stack) -> tuple[str, str]:
    """A key with a passphrase that opens the access point, and the passphrase."""
    file = access_point.endpoints().ssh_private_key_file
    return Path(f"{file}.encrypted").read_text(), Path(f"{file}.passphrase").read_text()


def folders(access_point: Stack) -> list[str]:
    """The folders of runs in the account's home."""
    base = access_point.layout.ssh / "home" / ".jobledger"
    return sorted(path.name for path in base.iterdir()) if base.is_dir() else []
