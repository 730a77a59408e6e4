"""SQL files are read as they say, and every one of ours is in order."""

from __future__ import annotations

from importlib.resources import files

import pytest

from jobledger_kit.migrations import migrations_of
from jobledger_kit.queries import BadQueryFile, load_queries, parse_queries


def test_a_file_is_its_named_queries() -> None:
    text = "-- Whatever.\n\n-- name: one\n-- Says one.\nselect 1;\n\n-- name: two\n-- Says two.\n-- More.\nselect\n  2  -- here\n"
    assert parse_queries(text, "f") == {"one": "select 1", "two": "select\n  2  -- here"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("select 1;", "SQL before"),
        ("-- name: one\nselect 1;", "does not say in one sentence"),
        ("-- name: one\n-- Says.\n", "is empty"),
        ("-- name: one\n-- Says.\nselect 1\n-- name: one\n-- Says.\nselect 1", "two queries named one"),
    ],
)
def test_a_file_out_of_order_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(BadQueryFile, match=complaint):
        parse_queries(text, "f")


def test_all_of_the_kits_queries_can_be_read() -> None:
    names = [entry.name for entry in files("jobledger_kit").joinpath("sql").iterdir()]
    assert {name: bool(load_queries("jobledger_kit", f"sql/{name}")) for name in names} == dict.fromkeys(names, True)


@pytest.mark.parametrize("package", ["jobledger_kit", "jobledger_jobs", "jobledger_schedulers", "jobledger_provisioner"])
def test_migrations_are_numbered_without_gaps_and_without_twins(package: str) -> None:
    found = migrations_of(package)  # raises otherwise
    assert [m.name[:4] for m in found] == [f"{number:04}" for number in range(1, len(found) + 1)]
    assert found
