"""What events do to the settings in which apps say which schedulers they need."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobledger_contracts import setting_events as t
from jobledger_contracts.envelope import Record, decode, encode
from jobledger_contracts.ids import partition_for
from jobledger_contracts.topics import SETTINGS
from jobledger_contracts.verdicts import Outcome, Reason
from tests.support.events import event
from tests.support.given import Given, given

APPLIED, _, SUPERSEDED, REFUSED = Outcome
KEY = "water/primary"


def declared(engine: str = "condor", **more: Any) -> Any:
    return event(t.SettingDeclared(setting=KEY, engine=engine, **more), actor="user:ada")


def assigned(scheduler: str = "pool", engine: str = "condor") -> Any:
    return event(t.SettingAssigned(setting=KEY, scheduler=scheduler, engine=engine), actor="user:root", at_s=5)


def withdrawn() -> Any:
    return event(t.SettingWithdrawn(setting=KEY))


def unassigned() -> Any:
    return event(t.SettingUnassigned(setting=KEY))


def setting(*events: Any) -> Given:
    return given(*events, topic=SETTINGS, key=KEY)


def test_a_setting_is_declared_and_assigned() -> None:
    state = setting(declared(required=True)).when(assigned()).then(APPLIED, scheduler="pool", assigned_by="user:root").after
    assert (state.label, state.name, state.declared_by, state.required) == ("water", "primary", "user:ada", True)


def test_nothing_can_be_said_of_what_is_not_declared() -> None:
    for one in (assigned(), unassigned(), withdrawn()):
        setting().when(one).then(REFUSED, Reason.UNKNOWN).nothing_else_changed()
        setting(declared(), withdrawn()).when(one).then(REFUSED, Reason.DELETED).nothing_else_changed()


def test_a_scheduler_of_another_kind_is_refused() -> None:
    setting(declared("dask")).when(assigned()).then(REFUSED, Reason.OTHER_CONTENT, scheduler="").nothing_else_changed()


def test_saying_the_same_again_changes_nothing() -> None:
    setting(declared()).when(declared()).then(SUPERSEDED, Reason.UNCHANGED).nothing_else_changed()
    setting(declared(), assigned()).when(assigned()).then(SUPERSEDED, Reason.UNCHANGED).nothing_else_changed()
    setting(declared()).when(unassigned()).then(SUPERSEDED, Reason.UNCHANGED).nothing_else_changed()


def test_an_assignment_outlives_a_new_declaration_but_not_another_kind() -> None:
    one = setting(declared(), assigned())
    one.when(declared(description="for calibrations")).then(APPLIED, scheduler="pool", description="for calibrations")
    one.when(declared("dask")).then(APPLIED, scheduler="", assigned_by="", assigned_time=None, engine="dask")


def test_a_withdrawn_setting_forgets_its_scheduler_and_may_come_back() -> None:
    gone = setting(declared(), assigned(), withdrawn())
    assert (gone.state.exists, gone.state.withdrawn, gone.state.scheduler) == (False, True, "")
    gone.when(declared("dask")).then(APPLIED, exists=True, withdrawn=False, engine="dask", scheduler="")


def test_its_key_is_the_apps_label_and_its_name() -> None:
    key, value, headers = encode(declared())
    assert key == b"water/primary"
    assert decode(Record(SETTINGS, partition_for(key, 4), 0, 0, key, value, tuple(headers)), 4).data.setting == t.setting_key(
        "water", "primary"
    )


@pytest.mark.parametrize("key", ["water", "water/", "/primary", "a/b/c", "water/pri mary", "water/primary\n"])
def test_a_key_that_is_none_is_not_read(key: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"setting": key, "engine": "condor"}, t.SettingDeclared)
