"""`jobledger events validate`: what another team's CI is told about its events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jobledger.cli.main import cli
from jobledger.event_files import check_events

SAMPLES = Path(__file__).parents[3] / "contracts/samples"
JOB = "01934f2e-7a1c-7d11-8a52-0f1e2d3c4b5a"


def event(**changes: Any) -> dict[str, Any]:
    whole = {
        "specversion": "1.0",
        "id": "1",
        "source": "/hydrology",
        "type": "StatusChanged",
        "partitionkey": JOB,
        "data": {"job_id": JOB, "status": "Running"},
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


def check(*items: Any, topic: str = "") -> list[tuple[str, str]]:
    return [(found.type, found.reason) for found in check_events(json.dumps(list(items)).encode(), topic)]


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_every_golden_record_is_good(sample: Path) -> None:
    [found] = check_events(sample.read_bytes())
    assert (found.reason, found.type, found.unknown) == ("", sample.name.partition(".")[0], [])


def test_an_event_in_json_format_is_good_and_its_key_may_be_what_its_data_names() -> None:
    assert check(event(), event(partitionkey=None)) == [("StatusChanged", ""), ("StatusChanged", "")]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (event(id=None), "not_cloudevent"),
        (event(type="StatusChange"), "unknown_type"),
        (event(partitionkey="x"), "bad_key"),
        (event(partitionkey=JOB[:-1] + "b"), "key_mismatch"),
        (event(data={"job_id": JOB}), "bad_data"),
        (event(data=None, partitionkey=JOB), "no_data"),
        (event(dataschema="urn:jobledger:StatusChanged:9"), "unknown_version"),
        ({"headers": {"ce_id": "1"}, "value": "{}"}, "no_key"),
        ({"headers": 5, "key": JOB, "value": "{}"}, "not_cloudevent"),
        ({**json.loads((SAMPLES / "StatusChanged.v1.json").read_text()), "partition": 1}, "wrong_partition"),
        ({**json.loads((SAMPLES / "StatusChanged.v1.json").read_text()), "topic": "elsewhere"}, "unknown_type"),
        (7, "bad_json"),
    ],
)
def test_a_bad_one_is_refused_with_the_reason_that_its_dead_letter_would_have(item: Any, reason: str) -> None:
    assert [found for _, found in check(item)] == [reason]


def test_members_that_mean_nothing_here_are_named() -> None:
    [found] = check_events(json.dumps(event(data={"job_id": JOB, "status": "Running", "statuss": "x"})).encode())
    assert (found.good, found.unknown) == (True, ["statuss"])


def test_lines_are_checked_one_by_one_and_what_is_no_json_is_said() -> None:
    text = json.dumps(event()) + "\n\n{oops}\n" + json.dumps(event(id=None)) + "\n"
    assert [found.reason for found in check_events(text.encode())] == ["", "bad_json", "not_cloudevent"]
    assert [found.reason for found in check_events(b"nonsense")] == ["bad_json"]
    assert list(check_events(b"[]")) == []


def test_the_command_says_which_is_bad_and_why_and_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(json.dumps(event()))
    (tmp_path / "bad.jsonl").write_text(json.dumps(event()) + "\n" + json.dumps(event(data={"job_id": JOB})) + "\n")
    run = CliRunner().invoke
    good = run(cli, ["events", "validate", str(tmp_path / "good.json")])
    bad = run(cli, ["events", "validate", "--json", str(tmp_path / "good.json"), str(tmp_path / "bad.jsonl")])
    none = run(cli, ["events", "validate", "-"], input="[]")
    assert (good.exit_code, bad.exit_code, none.exit_code) == (0, 1, 1)
    assert [(item["number"], item["reason"]) for item in json.loads(bad.output)] == [(1, ""), (1, ""), (2, "bad_data")]


def test_strict_takes_what_is_not_known_for_a_fault(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps(event(data={"job_id": JOB, "status": "Running", "colour": 1})))
    assert CliRunner().invoke(cli, ["events", "validate", str(tmp_path / "e.json")]).exit_code == 0
    assert CliRunner().invoke(cli, ["events", "validate", "--strict", str(tmp_path / "e.json")]).exit_code == 1
