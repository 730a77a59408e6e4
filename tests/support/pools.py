"""A real HTCondor pool and a real Dask scheduler, once per session; and what is needed to speak to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger_devstack import Stack, StackOptions
from jobledger_devstack.temporary import temporary_stack
from jobledger_schedulers.adapters.port import AdapterSettings


@pytest.fixture(scope="session")
def pool() -> Iterator[Stack]:
    """HTCondor and Dask. With JOBLEDGER_TEST_STACK (a data folder) those of a stack that is up already."""
    if home := os.environ.get("JOBLEDGER_TEST_STACK"):
        yield Stack(Path(home))
        return
    with temporary_stack(StackOptions(parts=frozenset({"condor", "dask"}), slots=8, fsync=False)) as stack:
        yield stack


@pytest.fixture(scope="session")
def dask_scheduler(pool: Stack) -> str:
    """The address of the Dask scheduler."""
    return pool.endpoints().dask_address


def condor_settings(
    pool: Stack, private_dir: Path, *, identity: str = "jobledger", token: str | None = None, timeout_s: float = 30
) -> AdapterSettings:
    """How to reach the pool as somebody."""
    endpoints = pool.endpoints()
    host, _, port = endpoints.collector.partition(":")
    return AdapterSettings(
        name="pool",
        type="condor",
        host=host,
        port=int(port),
        schedd_name=endpoints.schedd_name,
        private_dir=private_dir,
        token=pool.mint_token(identity, 3600) if token is None else token,
        timeout_s=timeout_s,
        condor_tail=str(pool.layout.condor / "condor_tail"),
    )


def dask_settings(address: str, private_dir: Path, *, timeout_s: float = 10) -> AdapterSettings:
    """How to reach a Dask scheduler."""
    return AdapterSettings(name="dask", type="dask", host=address, private_dir=private_dir, timeout_s=timeout_s)
