"""The provisioner service as a real process: what is said of clusters in the log is what it shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobledger_contracts import cluster_events as c
from jobledger_contracts.envelope import Event, encode
from jobledger_contracts.ids import Position, partition_for
from jobledger_contracts.topics import CLUSTERS
from jobledger_kit.bus import KafkaBus
from tests.conftest import PARTITIONS, Log
from tests.support.events import event
from tests.support.eventually import eventually
from tests.support.jobs_service import JobsService
from tests.support.rawkafka import produce_raw

pytestmark = pytest.mark.stack


class ProvisionerService(JobsService):
    """The same process handling, of another service."""

    module, noun = "jobledger_provisioner", "clusters"


@pytest.fixture
def service(database_url: str, kafka_log: Log, tmp_path: Path) -> Iterator[ProvisionerService]:
    one = ProvisionerService(
        tmp_path / "service", bootstrap_servers=kafka_log.bootstrap_servers, database_url=database_url, topic_prefix=kafka_log.topic_prefix
    )
    one.start()
    yield one
    one.end()


def publish(log: Log, *events: Event) -> list[Position]:
    async def send() -> list[Position]:
        bus = KafkaBus(log.bootstrap_servers, "tests", topic_prefix=log.topic_prefix)
        try:
            return await bus.publish(*events)
        finally:
            await bus.stop()

    return asyncio.run(send())


def created(name: str, **more: Any) -> Event:
    return event(c.ClusterCreated(**{"name": name, "provider": "aws", "kind": "dask", "size": 2, "owner": "ada"} | more))


def get(client: httpx.Client, path: str, **params: str) -> Any:
    response = client.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


def test_clusters_are_shown_as_their_events_left_them(service: ProvisionerService, kafka_log: Log) -> None:
    school = [
        created("school"),
        event(c.ClusterStatusChanged(name="school", status="Running", nodes=2), source="/somebody", at_s=1),
        event(c.ResizeRequested(name="school", size=5), actor="user:ada", at_s=2),
        event(c.ResizeRequested(name="school", size=5), at_s=3),
    ]
    *_, last = publish(kafka_log, *school)
    publish(kafka_log, created("zoo", owner="eve"), created("gone"))
    *_, end = publish(kafka_log, event(c.ClusterStatusChanged(name="gone", status="Deleted"), source="/somebody"))
    with service.client("ada") as ada, service.client("eve") as eve, service.client("admin") as admin:
        shown = get(ada, "/clusters/school", after=str(last))
        expected = {"name": "school", "owner": "ada", "size": 5, "nodes": 2, "status": "Running", "desired": "run"}
        assert {name: shown[name] for name in expected} == expected
        history = get(ada, "/clusters/school/history", limit="3")
        assert [entry["type"] for entry in history["items"]] == ["ClusterCreated", "ClusterStatusChanged", "ResizeRequested"]
        (rest,) = get(ada, "/clusters/school/history", cursor=history["next_cursor"])["items"]
        assert (rest["position"], rest["verdict"], rest["reason"], rest["data"]) == (
            str(last),
            "superseded",
            "unchanged",
            {"name": "school", "size": 5},
        )
        assert get(ada, "/clusters/gone", after=str(end))["status"] == "Deleted"
        eventually(lambda: len(get(admin, "/clusters")["items"]) == 2)
        assert [item["name"] for item in get(ada, "/clusters")["items"]] == ["school"]
        first = get(admin, "/clusters", limit="1")
        assert [item["name"] for item in get(admin, "/clusters", cursor=first["next_cursor"])["items"]] == ["zoo"]
        assert eve.get("/clusters/school").status_code == 404
        assert eve.get("/clusters/school/history").status_code == 404
        answers = {bad: ada.get(f"/clusters/{bad}").status_code for bad in ("nothing", "a%0A", "%00")}
        assert answers == {"nothing": 404, "a%0A": 404, "%00": 400}


def test_what_it_cannot_fold_is_shown_to_administrators_and_stops_nothing(service: ProvisionerService, kafka_log: Log) -> None:
    key = b"school"
    partition = partition_for(key, PARTITIONS)
    good, value, headers = encode(created("school"))
    records = [(key, b"\xff", [("\udcff", None)]), (good, value, headers)]
    asyncio.run(produce_raw(kafka_log.bootstrap_servers, kafka_log.topic_prefix + CLUSTERS, partition, records))
    with service.client("admin") as admin, service.client("ada") as ada:
        assert get(ada, "/clusters/school", after=f"{partition}:1")["status"] == "Starting"
        (letter,) = get(admin, "/clusters/dead-letters")["items"]
        assert (letter["position"], letter["key"]) == (f"{partition}:0", "school")
        assert ada.get("/clusters/dead-letters").status_code == 403
        for path in ("/clusters", "/clusters/dead-letters", "/clusters/school/history"):
            assert admin.get(path, params={"cursor": "nonsense"}).status_code == 400


def test_after_a_kill_it_goes_on_where_it_was(service: ProvisionerService, kafka_log: Log) -> None:
    publish(kafka_log, created("school"))
    service.kill()
    *_, last = publish(kafka_log, event(c.TerminateRequested(name="school")))
    service.start()
    with service.client("ada") as ada:
        assert get(ada, "/clusters/school", after=str(last))["desired"] == "terminate"
        assert [entry["version"] for entry in get(ada, "/clusters/school/history")["items"]] == [1, 2]


def test_it_describes_itself(service: ProvisionerService) -> None:
    with service.client(None) as anybody, service.client("admin") as admin:
        assert anybody.get("/clusters/health/live").status_code == 200
        assert anybody.get("/clusters").status_code == 401
        paths = get(anybody, "/clusters/openapi.json")["paths"]
        assert {"/clusters", "/clusters/{name}", "/clusters/{name}/history", "/clusters/dead-letters"} <= paths.keys()
        assert "jobledger_" in admin.get("/clusters/metrics").text
    assert service.stop() == 0
