"""How an app finds the schedulers that it needs, and how looks at schedulers read."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from jobledger import App, Connection, SchedulerSetting, SettingNotAssigned, SettingNotFound, get_scheduler
from jobledger.http import ServiceClient

PRIMARY = SchedulerSetting("primary", "where models run", SchedulerSetting.HTCONDOR, True)


class Schedulers:
    """A schedulers service that keeps settings and one pool."""

    def __init__(self) -> None:
        self.settings: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.queries: list[dict[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.requests.append((request.method, path))
        if path == "/schedulers/settings/water" and request.method == "PUT":
            for one in msgspec.json.decode(request.read())["settings"]:
                kept = {"label": "water", "scheduler": None, "assigned": False, "problem": "no scheduler is assigned", **one}
                self.settings.setdefault(one["name"], kept)
            return httpx.Response(200, json={"items": list(self.settings.values())})
        if path.startswith("/schedulers/settings/water/"):
            found = self.settings.get(path.rpartition("/")[2])
            return httpx.Response(200, json=found) if found else httpx.Response(404, json={"title": "no"})
        if path == "/schedulers/pool":
            return httpx.Response(200, json={"name": "pool", "type": "condor", "health": "up", "version": "1"})
        if path == "/schedulers/pool/pool/jobs":
            self.queries.append(dict(request.url.params))
            return httpx.Response(200, json={"items": [{"ClusterId": 1, "Cmd": None}], "truncated": True})
        return httpx.Response(404, json={"title": "no"})

    def connection(self) -> Connection:
        connection = Connection(schedulers_url="http://s.test", api_key="k")
        client = ServiceClient("http://s.test", "k", name="schedulers", transport=httpx.MockTransport(self), sleep=lambda _: None)
        connection._clients["schedulers"] = client
        return connection


@pytest.fixture
def far() -> Schedulers:
    return Schedulers()


def test_a_setting_is_declared_when_it_is_first_needed_and_then_waits_for_an_administrator(far: Schedulers) -> None:
    app = App("water", connection=far.connection(), scheduler_settings=[PRIMARY])
    with pytest.raises(SettingNotAssigned, match="jobledger schedulers assign water/primary"):
        app.get_scheduler("primary")
    assert far.settings["primary"]["engine"] == "condor"
    assert far.settings["primary"]["required"] is True
    far.settings["primary"] |= {"scheduler": "pool", "assigned": True, "problem": ""}
    scheduler = app.get_scheduler("primary")
    assert scheduler is not None
    assert scheduler.name == "pool"
    assert sum(method == "PUT" for method, _ in far.requests) == 1


def test_a_name_that_is_no_setting_is_an_error_of_its_own(far: Schedulers) -> None:
    app = App("water", connection=far.connection(), scheduler_settings=[PRIMARY])
    with pytest.raises(SettingNotFound):
        app.get_scheduler("pool")
    assert not far.requests


def test_a_setting_whose_scheduler_is_gone_is_not_assigned(far: Schedulers) -> None:
    app = App("water", connection=far.connection(), scheduler_settings=[PRIMARY])
    app.declare_scheduler_settings()
    far.settings["primary"] |= {"scheduler": "gone", "assigned": True, "problem": ""}
    with pytest.raises(SettingNotAssigned, match="gone"):
        app.get_scheduler("primary")


def test_an_app_without_settings_names_schedulers_directly(far: Schedulers) -> None:
    app = App("water", connection=far.connection())
    scheduler = app.get_scheduler("pool")
    assert scheduler is not None
    assert scheduler.name == "pool"
    assert app.get_scheduler("nope") is None


def test_an_engine_that_there_is_not_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="htcondor or dask"):
        SchedulerSetting("primary", engine="slurm")


def test_a_query_says_what_it_wants_and_whether_that_was_all(far: Schedulers) -> None:
    scheduler = get_scheduler("pool", connection=far.connection())
    assert scheduler is not None
    found = scheduler.query('Owner == "ada"', ["ClusterId", "Cmd"], limit=1)
    assert ([*found], len(found), found.truncated) == ([{"ClusterId": 1, "Cmd": None}], 1, True)
    assert far.queries == [{"constraint": 'Owner == "ada"', "projection": "ClusterId,Cmd", "limit": "1"}]
