"""One real stack for all tests of this folder: Kafka, PostgreSQL, HTCondor with its SSH server, and Dask, without our services."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger_devstack import Stack, StackOptions

BACKBONE = frozenset({"kafka", "postgres", "condor", "ssh", "dask"})


@pytest.fixture(scope="session")
def folders() -> Iterator[Path]:
    """A place for data folders that the stack's system users may enter (pytest's own is 0700)."""
    place = Path(tempfile.mkdtemp(prefix="jobledger-devstack-", dir="/var/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def stack(folders: Path) -> Iterator[Stack]:
    """The stack, up. Tests may kill its parts; they leave it up and whole."""
    one = Stack(folders / "stack", options=StackOptions(parts=BACKBONE, slots=2, fsync=False))
    one.up(timeout_s=240)
    yield one
    one.down()
