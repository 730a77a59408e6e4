"""Whatever stands in the log is an event, or it is refused with a reason; never any other error."""

from __future__ import annotations

import json
from datetime import datetime

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobledger_contracts import catalogue
from jobledger_contracts.envelope import Event, InvalidEvent, Record, decode, encode, time_from_text, time_to_text
from jobledger_contracts.ids import Position, partition_for
from jobledger_contracts.json_text import MAX_DEPTH, MAX_INTEGER, read_json
from tests.support.given import FOLDS
from tests.support.strategies import PARTITIONS, any_data, events, hostile_records, json_values, times


def as_record(event: Event) -> Record:
    topic = catalogue.by_struct(type(event.data)).topic
    key, value, headers = encode(event)
    return Record(topic, partition_for(key, PARTITIONS), 0, 0, key, value, tuple(headers))


@given(events(any_data))
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_as_it_was(event: Event) -> None:
    got = decode(as_record(event), PARTITIONS)
    assert msgspec.structs.replace(got, raw_data=b"", time_text="") == event
    assert json.loads(got.raw_data) == json.loads(msgspec.json.encode(event.data))
    assert encode(got) == encode(event)


@given(hostile_records)
@settings(max_examples=700, deadline=None)
@example(Record("jobledger.jobs", 0, 0, 2**63 - 1, None, None, (("\udcff", None),)))
def test_hostile_records_are_events_or_refused(record: Record) -> None:
    try:
        event = decode(record, PARTITIONS)
    except InvalidEvent:
        return
    # Whatever is let through can be stored by PostgreSQL, folded, kept as a state, and written again.
    json.loads(event.raw_data)
    texts = [event.id, event.source, event.actor, event.key, event.time_text, *event.extensions, *event.extensions.values()]
    for text in texts:
        assert "\0" not in text
        text.encode()
    initial, evolve = FOLDS[record.topic]
    state, verdict = evolve(initial(event.key), event)
    assert verdict.outcome
    assert msgspec.json.decode(msgspec.json.encode(state), type=type(state)) == state
    msgspec.msgpack.encode(state)


@given(json_values)
@settings(deadline=None)
def test_good_json_is_read(value: object) -> None:
    text = json.dumps(value).encode()
    if b"\\ud" not in text:
        assert read_json(text) == value


@given(
    st.integers() | st.integers(MAX_INTEGER - 3, MAX_INTEGER + 3),
    st.sampled_from(["%d", "[%d]", '{"a": -%d}', '[1.5,%d,"9999999999999999999"]']),
)
def test_integers_that_others_would_round_are_refused(number: int, pattern: str) -> None:
    text = (pattern % abs(number)).encode()
    try:
        read_json(text)
    except InvalidEvent:
        assert abs(number) > MAX_INTEGER
    else:
        assert abs(number) <= MAX_INTEGER


@given(st.integers(1, 2 * MAX_DEPTH), st.sampled_from([("[", "]"), ('{"a":', "}")]), st.text('[{\\"', max_size=200))
def test_depth_is_counted_outside_strings(depth: int, brackets: tuple[str, str], text: str) -> None:
    nested = f"{brackets[0] * depth}{json.dumps(text)}{brackets[1] * depth}".encode()
    try:
        read_json(nested)
    except InvalidEvent:
        assert depth > MAX_DEPTH
    else:
        assert depth <= MAX_DEPTH


@given(times)
def test_times_come_back(time: datetime) -> None:
    assert time_from_text(time_to_text(time)) == time


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader_of_times(text: str) -> None:
    time = time_from_text(text)
    assert time is None or time.tzinfo is not None


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1))
def test_positions_come_back(partition: int, offset: int) -> None:
    assert Position.parse(str(Position(partition, offset))) == Position(partition, offset)
