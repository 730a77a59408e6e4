"""What the steps of a check of an HTCondor access point are taken to say, and what cannot be asked of a pool."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import classad2
import pytest

from jobledger_schedulers.adapters.htcondor import findings
from jobledger_schedulers.adapters.htcondor.pool_worker import BadPart, PoolWorker, checked_names, parsed, plain_value
from jobledger_schedulers.adapters.port import AuthenticationFailed, Unreachable
from jobledger_schedulers.adapters.views import Finding

NOW = datetime(2026, 11, 20, tzinfo=UTC)
VERSION = "$CondorVersion: {} 2026-07-12 $"
ALL_WELL: list[dict[str, Any]] = [
    {"step": "answer", "ms": 3.0, "schedd": "ap@"},
    {"step": "authentication", "ms": 1.0, "allowed": True, "identity": "jo@pool", "method": "IDTOKENS", "encrypted": True},
    {"step": "authorization", "ms": 1.0, "allowed": True},
    {"step": "version", "ms": 0.0, "theirs": VERSION.format("23.9.6"), "ours": VERSION.format("25.14.1")},
    {"step": "queue", "ms": 2.0, "counts": {"Jobs": 3, "Idle": 1, "Running": 1, "Held": 1}},
    {"step": "slots", "ms": 2.0, "slots": 4, "negotiators": 1},
    {"step": "clock", "ms": 0.0, "ahead_s": 0.4},
]


def found(rows: list[dict[str, Any]], failure: Any = None) -> dict[str, Finding]:
    return {finding.step: finding for finding in findings.of(rows, failure, "", NOW)}


def changed(step: str, **facts: Any) -> Finding:
    return found([{**row, **(facts if row["step"] == step else {})} for row in ALL_WELL])[step]


def test_all_is_well() -> None:
    steps = found(ALL_WELL)
    assert tuple(steps) == findings.ORDER
    assert all(step.ok and not step.advice for step in steps.values())
    assert (steps["authentication"].identity, steps["version"].version) == ("jo@pool", "23.9.6")


@pytest.mark.parametrize(
    ("step", "facts", "says", "advises"),
    [
        ("authentication", {"allowed": False, "error": "x"}, "there is no token", "condor_token_create"),
        ("authorization", {"allowed": False, "error": "x"}, "not submit", "ALLOW_WRITE"),
        ("version", {"theirs": VERSION.format("8.8.1")}, "8.8.1", "too old"),
        ("slots", {"slots": 0}, "no slots", "execution points"),
        ("slots", {"negotiators": 0}, "no negotiator", "condor_negotiator"),
        ("clock", {"ahead_s": -3600.0}, "3600 s behind", "time server"),
    ],
)
def test_each_trouble_has_its_words_and_its_advice(step: str, facts: dict[str, Any], says: str, advises: str) -> None:
    finding = changed(step, **facts)
    assert not finding.ok
    assert says in finding.explanation
    assert advises in finding.advice


def test_versions_far_apart_are_told_and_no_failure() -> None:
    finding = changed("version", theirs=VERSION.format("10.0.9"))
    assert finding.ok
    assert "far apart" in finding.advice


def test_a_token_that_is_refused_is_not_taken_for_a_pool_that_is_down() -> None:
    steps = found([], AuthenticationFailed("the token has expired"))
    assert {name: step.ok for name, step in steps.items()} == {"answer": True, "authentication": False}


def test_what_breaks_off_fails_in_the_step_that_it_was_at() -> None:
    steps = found(ALL_WELL[:4], Unreachable("did not answer within 15 s"))
    assert [name for name, step in steps.items() if not step.ok] == ["queue"]
    assert not found([], Unreachable("nothing answers"))["answer"].ok


# --- what may be asked ---


@pytest.mark.parametrize("text", ["", "  ", 'Owner == "ada" && JobStatus =?= 2', 'regexp("a;b", Cmd)', "member(1, {1, 2})"])
def test_good_constraints_are_written_anew(text: str) -> None:
    again = parsed(text)
    assert parsed(again) == again


@pytest.mark.parametrize("text", ["JobStatus ==", "a b", "1 + (", "true; x = false", "a) || (b", "true\n false", "x" * 5000, "[", "é\x00"])
def test_bad_constraints_are_refused(text: str) -> None:
    with pytest.raises(BadPart) as caught:
        parsed(text)
    assert caught.value.field == "constraint"


@pytest.mark.parametrize("name", ["a b", "", "1a", "a;b", "ä", "a" * 300, "ClaimId", "CAPABILITY", "_condor_privX"])
def test_names_that_are_none_or_open_doors_are_refused(name: str) -> None:
    with pytest.raises(BadPart):
        checked_names(["Owner", name])
    assert checked_names(["Owner", "Cmd", "Owner"]) == ["Owner", "Cmd"]


def test_every_classad_value_becomes_json() -> None:
    ad = classad2.ClassAd(
        '[a=undefined;b=error;c={1,2.5,"x",undefined};d=[e=1;f=undefined;ClaimId="secret"];g=Foo+1;h=real("INF");'
        'i=absTime("2020-01-01T00:00:00Z");j=true;k=real("NaN");l="";m=-9007199254740993]'
    )
    plain = {name: plain_value(value) for name, value in ad.items()}
    assert json.loads(json.dumps(plain, allow_nan=False)) == {
        "a": None,
        "b": "/Expr(error)/",
        "c": [1, 2.5, "x", None],
        "d": {"e": 1, "f": None},
        "g": "/Expr(Foo + 1)/",
        "h": '/Expr(real("INF"))/',
        "i": "2020-01-01T00:00:00+00:00",
        "j": True,
        "k": '/Expr(real("NaN"))/',
        "l": "",
        "m": -9007199254740993,
    }
    assert plain_value(math.inf) == '/Expr(real("INF"))/'
    assert plain_value("\udcff") == "?"


def test_rows_are_cut_at_the_limit_and_at_the_size() -> None:
    told: list[Any] = []
    worker = PoolWorker()
    assert worker._bounded(({"n": n} for n in range(7)), 7, told.extend) == {"truncated": False}
    assert worker._bounded(({"n": n} for n in range(8)), 7, told.extend) == {"truncated": True}
    assert len(told) == 14
    told.clear()
    assert worker._bounded(({"n": "x" * 10**6} for _ in range(20)), 20, told.extend) == {"truncated": True}
    assert len(told) == 8
