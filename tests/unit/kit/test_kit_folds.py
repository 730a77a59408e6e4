"""What a batch of records comes to, without any broker or database."""

from __future__ import annotations

import random
from itertools import islice

import msgspec
import pytest

from jobledger_contracts import topics
from jobledger_contracts.envelope import Invalid, Record
from jobledger_contracts.ids import partition_for
from jobledger_kit.folds import FOLDS, FoldedBatch, fold_batch, fold_log, printable, streams_of
from tests.support.events import created, derived_job_id, event, lives, records_of, status

PARTITIONS = {topics.JOBS: 4, topics.SCHEDULERS: 4, topics.CLUSTERS: 4}
ID = "ce_id"


def bad(job: str, value: bytes | None, offset: int = 1, **headers: bytes | None) -> Record:
    """A record with a job's key, and otherwise only what is given."""
    key = job.encode()
    given = [(name.replace("__", "-"), raw) for name, raw in headers.items()]
    return Record(topics.JOBS, partition_for(key, 4), offset, 0, key, value, given)


def claiming(record: Record, value: bytes | None = None, **headers: bytes | None) -> Record:
    """The record with another value, and some headers changed."""
    kept = [(name, headers.get(name, raw)) for name, raw in record.headers]
    return msgspec.structs.replace(record, value=record.value if value is None else value, headers=kept)


def one_life(*more: object, job: str = "") -> list[Record]:
    return records_of([created(job or JOB), *(status(job or JOB, str(text)) for text in more)])


JOB = derived_job_id("folds")


def test_a_batch_is_the_same_in_any_portions() -> None:
    records = records_of(lives(jobs=20, steps=8))
    whole = fold_log(records, PARTITIONS)
    rng, rest, states = random.Random(1), iter(records), {}
    folded = []
    while portion := list(islice(rest, rng.randint(1, 30))):
        batch = fold_batch(portion, PARTITIONS, states, ())
        states |= batch.states
        folded += batch.folded
    assert (folded, states) == (whole.folded, whole.states)


def test_carrying_a_batch_on_is_the_same_as_one_batch() -> None:
    records = records_of(lives(jobs=5, steps=8))
    batch = FoldedBatch()
    for record in records:
        fold_batch([record], PARTITIONS, {}, (), batch)
    assert batch == fold_log(records, PARTITIONS)


def test_each_event_sees_the_state_that_the_one_before_left() -> None:
    [first, second, third] = fold_log(one_life("Running", "Complete"), PARTITIONS).folded
    assert (first.after, second.after) == (second.before, third.before)


def test_states_come_back_as_they_were_stored() -> None:
    batch = fold_log(records_of(lives(jobs=3)), PARTITIONS)
    fold = FOLDS[topics.JOBS]
    assert {stream: fold.decode(fold.encode(state)) for stream, state in batch.states.items()} == batch.states


class TestParking:
    """A bad event parks its own stream, and only where there is an order to lose."""

    def park(self, *records: Record) -> tuple[list[Invalid], set[str]]:
        batch = fold_log(records, PARTITIONS)
        return [letter.reason for letter in batch.dead], {key for _, key in batch.parked}

    def test_a_stream_that_exists_is_parked_by_what_is_no_event(self) -> None:
        first, later = one_life("Running")
        assert self.park(first, bad(JOB, b"garbage"), later) == ([Invalid.BAD_JSON, Invalid.PARKED], {JOB})

    def test_a_stream_that_exists_is_parked_by_data_of_the_wrong_shape(self) -> None:
        first, later = one_life("Running")
        assert self.park(first, claiming(later, b"[]"), later) == ([Invalid.BAD_DATA, Invalid.PARKED], {JOB})

    def test_another_stream_goes_on(self) -> None:
        other = derived_job_id("other")
        first, later = one_life("Running", job=other)
        batch = fold_log([*one_life(), first, bad(JOB, b"garbage"), later], PARTITIONS)
        assert [(f.event.key, f.verdict.applied) for f in batch.folded] == [(JOB, True), (other, True), (other, True)]

    def test_a_stream_that_nobody_created_is_not_parked(self) -> None:
        [first] = one_life()
        assert self.park(bad(JOB, b"garbage"), first) == ([Invalid.BAD_JSON], set())

    def test_a_stream_that_nobody_created_is_parked_by_a_version_from_the_future(self) -> None:
        first, later = one_life("Running")
        newer = claiming(first, ce_dataschema=b"urn:jobledger:JobCreated:7")
        assert self.park(newer, later) == ([Invalid.UNKNOWN_VERSION, Invalid.PARKED], {JOB})

    def test_a_stream_that_nobody_created_is_not_parked_by_a_strange_schema(self) -> None:
        first, later = one_life("Running")
        strange = claiming(first, ce_dataschema=b"https://example.org/schema")
        assert self.park(strange, later) == ([Invalid.UNKNOWN_VERSION], set())

    def test_a_contradicted_key_parks_nobody(self) -> None:
        first, later = one_life("Running")
        stranger = derived_job_id("stranger").encode()
        assert self.park(first, claiming(later, ce_partitionkey=stranger), later) == ([Invalid.KEY_MISMATCH], set())

    def test_a_wrong_partition_parks_nobody(self) -> None:
        first, later = one_life("Running")
        strayed = msgspec.structs.replace(bad(JOB, b"garbage"), partition=(first.partition + 1) % 4)
        assert self.park(first, strayed, later) == ([Invalid.WRONG_PARTITION], set())

    @pytest.mark.parametrize(
        ("key", "reason"), [(None, Invalid.NO_KEY), (b"", Invalid.NO_KEY), (b"\xff", Invalid.NOT_UTF8), (b"job-1", Invalid.BAD_KEY)]
    )
    def test_without_a_good_key_nobody_is_parked(self, key: bytes | None, reason: Invalid) -> None:
        assert self.park(Record(topics.JOBS, 0, 0, 0, key, b"{}")) == ([reason], set())

    def test_what_cannot_be_read_behind_it_keeps_its_own_reason(self) -> None:
        [first] = one_life()
        assert self.park(first, bad(JOB, b"garbage"), bad(JOB, b"more")) == ([Invalid.BAD_JSON, Invalid.BAD_JSON], {JOB})

    def test_what_was_parked_before_stays_parked(self) -> None:
        first, later = one_life("Running")
        states = fold_log([first], PARTITIONS).states
        batch = fold_batch([later], PARTITIONS, states, {(topics.JOBS, JOB)})
        assert ([d.reason for d in batch.dead], batch.folded, batch.states, batch.parked) == ([Invalid.PARKED], [], {}, {})

    def test_a_strange_key_parks_nobody(self) -> None:
        newer = {"id": b"1", "source": b"/s", "type": b"SchedulerRegistered", "specversion": b"1.0"}
        headers = [(f"ce_{name}", raw) for name, raw in newer.items()]
        headers.append(("ce_dataschema", b"urn:jobledger:SchedulerRegistered:7"))
        for text in ("a\0b", "k" * 600):
            key = text.encode()
            record = Record(topics.SCHEDULERS, partition_for(key, 4), 0, 0, key, b"", headers)
            assert self.park(record) == ([Invalid.UNKNOWN_VERSION], set())


def test_a_header_name_that_is_no_text_is_a_dead_letter() -> None:
    [first] = one_life()
    record = msgspec.structs.replace(first, headers=[*first.headers, ("x-\udcff", b"1")])
    [letter] = fold_log([record], PARTITIONS).dead
    assert letter.reason is Invalid.NOT_UTF8


def test_a_header_name_in_another_script_is_fine() -> None:
    [first] = one_life()
    assert not fold_log([msgspec.structs.replace(first, headers=[*first.headers, ("größe", b"1")])], PARTITIONS).dead


def test_every_topic_has_its_fold() -> None:
    assert set(FOLDS) == set(topics.ALL)


def test_streams_of_leaves_out_what_can_be_no_key() -> None:
    keys = [None, b"", b"\xff", b"a\0b", b"k" * 513, b"good"]
    assert streams_of([Record(topics.JOBS, 0, 0, 0, key, None) for key in keys]) == {(topics.JOBS, "good")}


def test_printable_text_fits_into_postgresql() -> None:
    assert printable("a\0b\udcffc") == "a\\0b\\udcffc"


def test_a_stranger_event_folds_as_refused() -> None:
    [folded] = fold_log(records_of([event(status(JOB, "Running").data)]), PARTITIONS).folded
    assert str(folded.verdict.reason) == "unknown"
