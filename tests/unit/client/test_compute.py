"""Schedulers and clusters as apps make them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from jobledger import (
    BasicJob,
    Connection,
    Scheduler,
    create_condor_scheduler,
    create_dask_scheduler,
    create_scheduler,
    get_cluster_manager,
    get_scheduler,
)
from jobledger.errors import InvalidArgument, NotConfigured
from jobledger.http import ServiceClient

NOWHERE = Connection()


def test_a_condor_scheduler_by_ssh_sends_the_key_and_not_its_path(tmp_path: Path) -> None:
    key = tmp_path / "id"
    key.write_text("PRIVATE")
    scheduler = create_condor_scheduler("a", "example.org", username="root", private_key_path=str(key), connection=NOWHERE)
    assert (scheduler.transport, scheduler.port, scheduler._secrets) == ("ssh", 22, {"private_key": "PRIVATE"})
    assert "PRIVATE" not in repr(scheduler)


@pytest.mark.parametrize("type_", ["condor", "dask"])
def test_secrets_that_are_empty_are_none(type_: str) -> None:
    scheduler = Scheduler("a", type_, "localhost", connection=NOWHERE, token="t", password="", private_key="", private_key_pass=None)
    assert scheduler._secrets == {"token": "t"}
    with pytest.raises(TypeError, match="has no colour"):
        Scheduler("a", type_, "localhost", connection=NOWHERE, colour="")


def test_saving_may_replace_the_one_of_that_name() -> None:
    seen: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.path))
        return httpx.Response(200, json={})

    connection = Connection(schedulers_url="http://s.test", api_key="k")
    connection._clients["schedulers"] = ServiceClient("http://s.test", "k", name="schedulers", transport=httpx.MockTransport(answer))
    create_dask_scheduler("a", "localhost:1", connection=connection).save(replace=True)
    create_dask_scheduler("b", "localhost:1", connection=connection).save()
    assert seen == [("PUT", "/schedulers/a"), ("POST", "/schedulers")]


@pytest.mark.parametrize("name", ["a b", "-a", "", "a/b", "..", "a" * 129, "a\n"])
def test_what_cannot_be_a_name_is_refused_here_with_the_rule_in_words(name: str) -> None:
    with pytest.raises(InvalidArgument, match="begins with a letter or a digit") as caught:
        create_dask_scheduler(name, "localhost:1", connection=NOWHERE).save()
    assert "^" not in str(caught.value)
    assert get_scheduler(name, connection=NOWHERE) is None
    job = BasicJob("x", connection=NOWHERE, label="l", scheduler=name)
    with pytest.raises(InvalidArgument if name else NotConfigured):
        job.save()


def test_both_spellings_of_the_type_work() -> None:
    assert create_scheduler("a", "localhost:8786", type="dask", connection=NOWHERE).host == "tcp://localhost:8786"
    assert create_scheduler("a", "localhost", "condor", connection=NOWHERE).transport == "bindings"
    with pytest.raises(ValueError, match="condor or dask"):
        create_scheduler("a", "localhost", "slurm", connection=NOWHERE)


def test_a_heartbeat_is_in_seconds_and_none_unless_asked_for() -> None:
    assert create_dask_scheduler("a", "localhost:8786", timeout=30, heartbeat_interval=2, connection=NOWHERE).heartbeat_interval_s == 2
    assert create_dask_scheduler("a", "localhost:8786", connection=NOWHERE).heartbeat_interval_s == 0


def test_old_cluster_configuration_is_not_silently_ignored() -> None:
    with pytest.raises(ValueError, match="not read"):
        get_cluster_manager("/etc/tethyscluster", connection=NOWHERE)
