"""Names and places."""

from __future__ import annotations

import random
from uuid import UUID

import pytest
from aiokafka.partitioner import murmur2 as kafka_murmur2

from jobledger_contracts.ids import Position, derived_id, is_job_id, murmur2, new_job_id, parse_run_id, partition_for, run_id

JOB = "01934f2e-7a1c-7d11-8a52-0f1e2d3c4b5a"


def test_murmur2_agrees_with_kafkas() -> None:
    rng = random.Random(1)
    for length in [*range(70), 500]:
        key = rng.randbytes(length)
        assert murmur2(key) == kafka_murmur2(key) & 0xFFFFFFFF


@pytest.mark.parametrize(("key", "of_12"), [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536)])
def test_murmur2_agrees_with_the_vectors_of_kafkas_own_test(key: str, of_12: int) -> None:
    assert murmur2(key.encode()) == of_12 & 0xFFFFFFFF
    assert partition_for(key.encode(), 12) == (of_12 & 0x7FFFFFFF) % 12


def test_new_job_ids_are_uuid7s_that_sort_by_time() -> None:
    first, second = new_job_id(1_790_000_000_000, b"\xff" * 10), new_job_id(1_790_000_000_001, b"\0" * 10)
    assert first < second
    assert UUID(first).version == 7
    assert UUID(first).variant == UUID(JOB).variant
    assert int(first.replace("-", "")[:12], 16) == 1_790_000_000_000
    assert is_job_id(first)


def test_new_job_id_wants_ten_random_bytes() -> None:
    with pytest.raises(ValueError, match="10 random bytes"):
        new_job_id(0, b"123")


def test_derived_ids_depend_on_where_one_part_ends() -> None:
    assert derived_id("ada", "key-1") == derived_id("ada", "key-1")
    assert len({derived_id("ada", "key-1"), derived_id("ad", "akey-1"), derived_id("adakey-1"), derived_id("ada", "key-1", "")}) == 4
    assert UUID(derived_id("x")).version == 8
    assert is_job_id(derived_id("x"))


@pytest.mark.parametrize("text", ["", "1", JOB.upper(), JOB + "\n", JOB.replace("-", ""), "{" + JOB + "}", JOB.replace("0", "\u0660")])
def test_what_is_no_job_id(text: str) -> None:
    assert not is_job_id(text)


def test_run_ids_come_apart_as_they_were_joined() -> None:
    assert parse_run_id(run_id(JOB, 12)) == (JOB, 12)


@pytest.mark.parametrize(
    "text", ["", JOB, f"{JOB}.", f"{JOB}.0", f"{JOB}.01", f"{JOB}.-1", f"{JOB}.1\n", f"{JOB}.\u0663", f"{JOB}.{'9' * 5000}", "x.1"]
)
def test_what_is_no_run_id(text: str) -> None:
    with pytest.raises(ValueError, match="is not a run id"):
        parse_run_id(text)


def test_positions_are_read_as_they_are_written_and_sort() -> None:
    assert Position.parse("3:1042") == Position(3, 1042)
    assert str(Position(3, 1042)) == "3:1042"
    assert Position(3, 9) < Position(3, 10)


@pytest.mark.parametrize("text", ["", "3", "3:", ":3", "-1:3", "3:1042 ", "3:1042\n", "\u0663:\u0664", "1:" + "9" * 19])
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="is not a position"):
        Position.parse(text)
