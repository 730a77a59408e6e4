"""Workflows over HTTP: what is refused, what becomes of a large one, and how its nodes are shown as reports come in."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from jobledger_contracts import scheduler_events as s
from jobledger_contracts.envelope import new_event
from jobledger_contracts.job_events import NodeReport, NodeStatusChanged, WorkflowSpec
from jobledger_contracts.workflows import count_nodes
from jobledger_kit.bus import KafkaBus
from tests.integration.jobs.conftest import Ground
from tests.support.eventually import eventually

pytestmark = [pytest.mark.stack, pytest.mark.anyio]


def publish(ground: Ground, *data: Any) -> str:
    """Say something as the schedulers service does; returns the last position."""

    async def run() -> str:
        bus = KafkaBus(ground.bootstrap_servers, "test", topic_prefix=ground.topic_prefix)
        try:
            now = datetime.now(UTC)
            said = [new_event(one, id=uuid.uuid4().hex, source="/jobledger/schedulers/pool", time=now) for one in data]
            return str((await bus.publish(*said))[-1])
        finally:
            await bus.stop()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def pool(ground: Ground, service: object, ada: httpx.Client) -> str:
    publish(ground, s.SchedulerRegistered(name="pool", type="condor", host="h"))
    eventually(lambda: ada.post("/jobs", json=body(nodes(1))).status_code == 201, 20)
    return "pool"


def nodes(count: int, **more: Any) -> list[dict[str, Any]]:
    """One node, and all others after it."""
    first = {"name": "n0", "condor": {"executable": "run.sh"}}
    return [first, *({"name": f"n{i}", "condor": {"executable": "run.sh"}, "parents": ["n0"], **more} for i in range(1, count))]


def body(of: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"name": "w", "label": "hydro", "job_type": "CONDORWORKFLOW", "scheduler": "pool", "workflow": {"nodes": of, **more}}


def reports(job_id: str, run: int, **statuses: str) -> NodeStatusChanged:
    return NodeStatusChanged(job_id=job_id, run=run, nodes=[NodeReport(node=node, status=status) for node, status in statuses.items()])


def test_a_cycle_and_an_unknown_member_are_refused_by_name(ada: httpx.Client, pool: str) -> None:
    circle = [{"name": n, "condor": {"executable": "x"}, "parents": [p]} for n, p in (("A", "B"), ("B", "A"))]
    refused = ada.post("/jobs", json=body(circle))
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"path": "$.workflow.nodes", "message": "nodes wait for one another: A -> B -> A"}]
    unknown = ada.post("/jobs", json=body([{"name": "a", "retries": 1}]))
    assert unknown.status_code == 400
    assert unknown.json()["errors"][0]["path"].startswith("$.workflow.nodes[0]")


def test_five_thousand_nodes_are_created_at_once_and_lie_in_the_jobs_folder(ada: httpx.Client, pool: str) -> None:
    started = time.monotonic()
    created = ada.post("/jobs", json=body(nodes(5000, retry=1)), headers={"idempotency-key": "big"})
    took_s = time.monotonic() - started
    assert created.status_code == 201, created.text
    again = ada.post("/jobs", json=body(nodes(5000, retry=1)), headers={"idempotency-key": "big"})
    assert (again.status_code, again.json()["id"]) == (200, created.json()["id"])

    job = created.json()
    assert job["workflow"]["node_count"] == 5000
    assert "nodes" not in job["workflow"]
    history = ada.get(f"/jobs/{job['id']}/history").json()["items"]
    assert [entry["verdict"] for entry in history] == ["applied", "duplicate"]
    assert all(len(msgspec.json.encode(entry["data"])) < 1000 for entry in history)
    kept = ada.get(f"/jobs/{job['id']}/files/{job['workflow']['file']}")
    assert count_nodes(msgspec.json.decode(kept.content, type=WorkflowSpec)) == 5000
    page = ada.get(f"/jobs/{job['id']}/nodes", params={"limit": 500}).json()
    assert (len(page["items"]), page["counts"], page["run"]) == (500, {"Pending": 5000}, 0)
    assert page["items"][7] | {"name": "n7", "number": 7, "parents": ["n0"], "status": "Pending"} == page["items"][7]
    seen = len(page["items"])
    while cursor := page.get("next_cursor"):
        page = ada.get(f"/jobs/{job['id']}/nodes", params={"limit": 500, "cursor": cursor}).json()
        seen += len(page["items"])
    assert seen == 5000
    assert took_s < 3


def test_nodes_are_shown_as_they_are_reported_and_counted(ada: httpx.Client, eve: httpx.Client, ground: Ground, pool: str) -> None:
    job = ada.post("/jobs", json=body(nodes(3))).json()
    path = f"/jobs/{job['id']}"
    assert job["node_counts"] is None
    ada.post(f"{path}/execute")
    publish(ground, reports(job["id"], 1, n0="Pending", n1="Pending", n2="Pending"))
    failed = NodeReport(node="n1", status="Error", exit_code=3, scheduler_job_ref="7", message="exit code 3")
    position = publish(
        ground,
        reports(job["id"], 1, n0="Complete"),
        NodeStatusChanged(job_id=job["id"], run=1, nodes=[failed]),
        reports(job["id"], 1, n0="Running"),  # late: an end stays
        NodeStatusChanged(job_id=job["id"], run=1, nodes=[NodeReport(node="n1", status="Submitted", restarts=1)]),
    )
    view = ada.get(path, params={"after": position}).json()
    assert view["node_counts"] == {"Pending": 1, "Submitted": 1, "Complete": 1}
    assert view["status"] == "Submitted"
    page = ada.get(f"{path}/nodes").json()
    assert [(n["name"], n["status_code"], n["restarts"], n["exit_code"]) for n in page["items"]] == [
        ("n0", "COM", 0, None),
        ("n1", "SUB", 1, None),
        ("n2", "PEN", 0, None),
    ]
    assert [n["name"] for n in ada.get(f"{path}/nodes", params={"status": ["com", "Pending"]}).json()["items"]] == ["n0", "n2"]
    assert ada.get(f"{path}/nodes", params={"status": "Dancing"}).status_code == 400
    assert ada.get(f"{path}/nodes", params={"run": 2}).status_code == 400
    assert eve.get(f"{path}/nodes").status_code == 404


def test_a_feed_carries_what_is_said_of_nodes(ada: httpx.Client, ground: Ground, pool: str) -> None:
    job = ada.post("/jobs", json=body(nodes(2))).json()
    ada.post(f"/jobs/{job['id']}/execute")
    publish(ground, reports(job["id"], 1, n0="Running"))
    with ada.stream("GET", f"/jobs/{job['id']}/events", params={"after": job["position"]}) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:") and (said := msgspec.json.decode(line[5:]))["type"] == "NodeStatusChanged":
                break
    assert said["nodes"] == [{"node": "n0", "status": "Running"}]


def test_reports_of_an_earlier_run_change_nothing(ada: httpx.Client, ground: Ground, pool: str) -> None:
    job = ada.post("/jobs", json=body(nodes(2))).json()
    ada.post(f"/jobs/{job['id']}/execute")
    refused = publish(ground, reports(job["id"], 2, n0="Running"))
    ada.get(f"/jobs/{job['id']}", params={"after": refused})
    last = ada.get(f"/jobs/{job['id']}/history").json()["items"][-1]
    assert (last["verdict"], last["reason"]) == ("refused", "unknown_run")
    assert ada.get(f"/jobs/{job['id']}").json()["node_counts"] is None
