"""Every route of the three services stands in the table of rights: who adds one says there whom it lets in."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.rights import RIGHTS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("noun", RIGHTS)
def test_every_route_has_an_entry(noun: str) -> None:
    """`make check` holds the documents to the code. An entry without a route would be tested in vain."""
    paths = msgspec.json.decode((REFERENCE / f"{noun}.openapi.json").read_bytes())["paths"]
    assert {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods} == set(RIGHTS[noun])
