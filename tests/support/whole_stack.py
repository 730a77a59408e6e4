"""Everything, services included, once for all folders of tests that want it: started when it is first asked for, stopped at the end."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobledger_devstack import Stack, StackOptions
from jobledger_devstack.model import Endpoints
from jobledger_devstack.temporary import temporary_stack

_ENDPOINTS = pytest.StashKey[Endpoints]()


@pytest.fixture(scope="session")
def shared_stack(request: pytest.FixtureRequest) -> Endpoints:
    """Where the parts of the one whole stack answer. With JOBLEDGER_TEST_STACK (a data folder) it is the one that is up there.

    A fixture is made anew for each conftest that imports it; the stack behind this one is not. Its pool has more slots than the machine
    has cores, because jobs of tests mostly sleep.
    """
    if (known := request.config.stash.get(_ENDPOINTS, None)) is not None:
        return known
    if home := os.environ.get("JOBLEDGER_TEST_STACK"):
        endpoints = Stack(Path(home)).endpoints()
        assert endpoints.jobs_url, f"the stack in {home} has no services"
    else:
        exits = ExitStack()
        request.config.add_cleanup(exits.close)
        endpoints = exits.enter_context(temporary_stack(StackOptions(slots=10, fsync=False), timeout_s=500)).endpoints()
    request.config.stash[_ENDPOINTS] = endpoints
    return endpoints
