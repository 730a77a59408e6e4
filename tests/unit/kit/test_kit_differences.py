"""Two sorted tables, compared while they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_kit.differences import SHOWN, Comparison, Row, compare

pytestmark = pytest.mark.anyio


async def side(rows: list[Row]) -> AsyncIterator[Row]:
    for row in sorted(rows):
        yield row


async def compared(live: list[Row], rebuilt: list[Row]) -> Comparison:
    return await compare("t", side(live), side(rebuilt))


async def test_a_row_is_changed_missing_or_extra() -> None:
    found = await compared([("a", "1"), ("b", "1"), ("d", "1")], [("a", "1"), ("b", "2"), ("c", "1")])
    assert (found.rows, found.changed, found.missing, found.extra) == (3, 1, 1, 1)
    assert [(d.key, d.kind) for d in found.examples] == [("b", "changed"), ("c", "missing"), ("d", "extra")]
    assert not found.same


async def test_examples_are_the_first_few() -> None:
    found = await compared([(str(n), "") for n in range(100)], [])
    assert (found.extra, len(found.examples)) == (100, SHOWN)


ROWS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("12"), max_size=8)


@given(live=ROWS, rebuilt=ROWS)
async def test_it_counts_what_sets_count(live: dict[str, str], rebuilt: dict[str, str]) -> None:
    found = await compared(list(live.items()), list(rebuilt.items()))
    both = live.keys() & rebuilt.keys()
    assert found.changed == sum(live[key] != rebuilt[key] for key in both)
    assert (found.missing, found.extra) == (len(rebuilt.keys() - live.keys()), len(live.keys() - rebuilt.keys()))
    assert found.rows == len(rebuilt)
    assert found.same == (live == rebuilt)


@given(rows=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("12"))))
async def test_rows_without_a_key_of_their_own_may_stand_twice(rows: list[Row]) -> None:
    assert (await compared(rows, list(rows))).same
    if rows:
        fewer = rows[1:]
        assert not (await compared(rows, fewer)).same
        assert Counter(fewer) != Counter(rows)
