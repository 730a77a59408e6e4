"""A whole stack, once per session, and an app on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger import App, Connection, JobManager
from jobledger_devstack import Stack, StackOptions
from jobledger_devstack.model import Endpoints
from jobledger_devstack.temporary import temporary_stack


@pytest.fixture(scope="session")
def whole_stack() -> Iterator[Endpoints]:
    """Everything, services included. With JOBLEDGER_TEST_STACK (a data folder) the one that is up already, if it has services."""
    if home := os.environ.get("JOBLEDGER_TEST_STACK"):
        endpoints = Stack(Path(home)).endpoints()
        if endpoints.jobs_url:
            yield endpoints
            return
    with temporary_stack(StackOptions(fsync=False)) as stack:
        yield stack.endpoints()


@pytest.fixture
def connection(whole_stack: Endpoints) -> Iterator[Connection]:
    """As an administrator."""
    with Connection.discover(home=Path(whole_stack.home), environ={}) as connection:
        yield connection


@pytest.fixture
def manager(connection: Connection) -> JobManager:
    """The job manager of an app."""
    return App("client_tests", connection=connection).get_job_manager()
