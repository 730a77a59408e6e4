"""What a page of a long list costs: every order and filter reads about what it shows, from an index, and sorts nothing whole."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import pytest

from benchmarks.lists import fill
from jobledger_jobs.domain.rights import Viewer
from jobledger_jobs.listing import ORDERS, JobFilter, page_statement
from jobledger_kit.database import connect_pool
from jobledger_kit.migrations import migrate
from tests.integration.jobs.conftest import Ground

pytestmark = pytest.mark.stack

JOBS = 60_000
LIMIT = 50
MOST_ROWS = 1_500
"""Rows that a page may look at, in all nodes of its plan together. The least selective scans here have 20,000."""

ADMIN = Viewer("admin", admin=True)
ADA = Viewer("ada")
BOB = Viewer("bob", frozenset({"ops"}))


@pytest.fixture(scope="module")
def filled(ground: Ground) -> str:
    async def prepare() -> None:
        connection = await asyncpg.connect(ground.database_url)
        await migrate(connection, "jobs", "jobledger_jobs")
        await connection.execute("set search_path to jobs")
        await fill(connection, JOBS)
        await connection.close()

    asyncio.run(prepare())
    return ground.database_url


SCOPES: list[tuple[str, Viewer, JobFilter]] = [
    ("everything", ADMIN, JobFilter()),
    ("of an app", ADMIN, JobFilter(label="app-1")),
    ("of an owner", ADMIN, JobFilter(owner="ada")),
    ("of an owner in an app", ADMIN, JobFilter(owner="ada", label="app-1")),
    ("my own", ADA, JobFilter()),
    ("my own in an app", ADA, JobFilter(label="app-1")),
]
CASES = [
    pytest.param(viewer, wanted, f"{way}{order}", id=f"{name}, by {way}{order}")
    for name, viewer, wanted in SCOPES
    for order in ORDERS
    for way in ("", "-")
] + [
    pytest.param(ADMIN, JobFilter(groups=["ops"]), "-creation_time", id="of a group"),
    pytest.param(BOB, JobFilter(), "-creation_time", id="shared with my group"),
    pytest.param(ADMIN, JobFilter(statuses=["Pending"]), "-creation_time", id="of a rare status"),
    pytest.param(ADMIN, JobFilter(label="app-1", statuses=["Pending"]), "creation_time", id="of a rare status in an app"),
    pytest.param(ADA, JobFilter(label="app-1", statuses=["Error"]), "-creation_time", id="mine of a rare status in an app"),
    pytest.param(ADMIN, JobFilter(statuses=["Complete", "Error"]), "-creation_time", id="of two statuses"),
    pytest.param(ADMIN, JobFilter(job_types=["BASIC"]), "-creation_time", id="of a type"),
    pytest.param(ADMIN, JobFilter(properties='{"scenario": {"id": 7}}'), "-creation_time", id="with a rare property"),
    pytest.param(ADMIN, JobFilter(properties='{"scenario": {"dry": true}}'), "-creation_time", id="with a common property"),
    pytest.param(ADMIN, JobFilter(created_after=datetime(2026, 1, 1, 6, tzinfo=UTC)), "creation_time", id="from a time on"),
    pytest.param(ADMIN, JobFilter(completed_after=datetime(2026, 1, 1, 6, tzinfo=UTC)), "completion_time", id="ended from a time on"),
]


@pytest.mark.parametrize(("viewer", "wanted", "order_by"), CASES)
def test_page_costs_what_it_shows(filled: str, viewer: Viewer, wanted: JobFilter, order_by: str) -> None:
    async def look() -> tuple[list[Any], list[Any], dict[str, Any], dict[str, Any]]:
        pool = await connect_pool(filled, schema="jobs", max_size=1)
        try:
            statement, arguments = page_statement(viewer, wanted, order_by, None, LIMIT + 1)
            first = await pool.fetch(statement, *arguments)
            plan = await pool.fetchval(f"explain (analyze, format json) {statement}", *arguments)
            last = first[:LIMIT][-1]
            behind = [last[f"key_{n}"] for n in range(len(ORDERS[order_by.removeprefix("-")].keys))] + [last["id"]]
            statement, arguments = page_statement(viewer, wanted, order_by, behind, LIMIT + 1)
            later = await pool.fetchval(f"explain (analyze, format json) {statement}", *arguments)
            second = await pool.fetch(statement, *arguments)
            return first, second, msgspec.json.decode(plan)[0]["Plan"], msgspec.json.decode(later)[0]["Plan"]
        finally:
            await pool.close()

    first, second, *plans = asyncio.run(look())

    assert [row["id"] for row in first[LIMIT:]] == [row["id"] for row in second[:1]], "pages meet without a gap"
    for plan in plans:
        assert looked_at(plan) < MOST_ROWS, shown(plan)


def looked_at(plan: dict[str, Any]) -> int:
    """Rows that all nodes of a plan have read or put out, those that filters took out included."""
    own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return int(own) + sum(looked_at(child) for child in plan.get("Plans", ()))


def shown(plan: dict[str, Any], depth: int = 0) -> str:
    line = f"{'  ' * depth}{plan['Node Type']} {plan.get('Index Name', '')} rows {plan['Actual Rows']} loops {plan['Actual Loops']}"
    return "\n".join([line, *(shown(child, depth + 1) for child in plan.get("Plans", ()))])
