"""The scenarios in `scenarios/`, played on one whole stack, all that were selected at once: each has a job of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from jobledger_devstack.model import Endpoints
from tests.support.scenarios import Scenario, Stage, load, play

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

SCENARIOS: dict[str, Scenario] = {path.stem: load(path) for path in sorted((Path(__file__).parent / "scenarios").glob("*.yaml"))}


@pytest.fixture(scope="module")
def plays(request: pytest.FixtureRequest, shared_stack: Endpoints) -> Iterator[dict[str, Future[float]]]:
    """The scenarios of this session, under way."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module]
    selected = [str(item.callspec.params["name"]) for item in items]
    stage = Stage.open(shared_stack)
    with ThreadPoolExecutor(max_workers=len(selected)) as threads:
        yield {name: threads.submit(play, SCENARIOS[name], stage) for name in selected}
    stage.connection.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, plays: dict[str, Future[float]]) -> None:
    took_s = plays[name].result()
    print(f"{SCENARIOS[name].claim} {took_s:.1f} s")
