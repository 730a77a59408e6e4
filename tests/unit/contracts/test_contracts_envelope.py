"""What is read as an event, what is refused and why, and what is written."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from jobledger_contracts import catalogue
from jobledger_contracts.cluster_events import ClusterCreated
from jobledger_contracts.envelope import Event, Invalid, InvalidEvent, Record, decode, encode, new_event, time_from_text, time_to_text
from jobledger_contracts.ids import partition_for
from jobledger_contracts.job_events import JobChanged, JobCreated, StatusChanged
from jobledger_contracts.json_text import MAX_DEPTH
from jobledger_contracts.scheduler_events import SchedulerRegistered

JOB = "01934f2e-7a1c-7d11-8a52-0f1e2d3c4b5a"
PARTITIONS = 4
TIME = datetime(2026, 11, 20, 12, 30, 15, 123456, tzinfo=UTC)
VALUE = b'{"job_id":"%s","status":"Running"}' % JOB.encode()
HEADERS = {
    "ce_specversion": b"1.0",
    "ce_id": b"1",
    "ce_source": b"/somebody",
    "ce_type": b"StatusChanged",
    "ce_time": b"2026-11-20T12:30:15.123456Z",
    "content-type": b"application/json",
}


def record(
    headers: Any = None,
    value: bytes | None = VALUE,
    key: bytes | None = JOB.encode(),
    topic: str = "jobledger.jobs",
    **changed: bytes | None,
) -> Record:
    """A good record, with changed headers (`ce_` is put before their names)."""
    if headers is None:
        headers = list((HEADERS | {f"ce_{name}": text for name, text in changed.items()}).items())
    return Record(topic, partition_for(key or b"", PARTITIONS), 7, 1_790_000_000_123, key, value, tuple(headers))


def read(**more: Any) -> Event:
    return decode(record(**more), PARTITIONS)


def refused(broken: Record) -> Invalid:
    with pytest.raises(InvalidEvent) as caught:
        decode(broken, PARTITIONS)
    assert caught.value.detail
    return caught.value.reason


def without(*names: str) -> list[tuple[str, bytes]]:
    return [(name, text) for name, text in HEADERS.items() if name not in names]


def event(data: Any, **more: Any) -> Event:
    return new_event(data, **{"id": "1", "source": "/somebody", "time": TIME} | more)


class TestTolerance:
    def test_a_record_is_read(self) -> None:
        got = read()
        assert (got.id, got.source, got.type, got.key, got.time, got.version) == ("1", "/somebody", "StatusChanged", JOB, TIME, 1)
        assert got.data == StatusChanged(job_id=JOB, status="Running")
        assert got.raw_data == VALUE

    def test_headers_may_be_in_any_case_and_order(self) -> None:
        assert read(headers=[(name.upper(), text) for name, text in reversed(HEADERS.items())]) == read()

    def test_the_last_of_several_headers_counts_and_null_is_absent(self) -> None:
        assert read(headers=[*HEADERS.items(), ("ce_id", b"2")]).id == "2"
        assert read(headers=[*HEADERS.items(), ("ce_actor", b"user:ada"), ("Ce_Actor", None)]).actor == ""
        assert read(subject=None).id == "1"

    def test_headers_that_are_not_ours_may_hold_anything(self) -> None:
        odd = [*HEADERS.items(), ("x", b"\xff\0"), ("ce_not a name", b"\xff"), ("ce_data", b"\xff"), ("\udcff", None), ("", b"")]
        assert read(headers=odd) == read()

    def test_extensions_are_kept_as_text(self) -> None:
        assert read(tenant=b"hydrology", retry=b"5", dry=b"True", kafkaoffset=b"7").extensions == {
            "tenant": "hydrology",
            "retry": "5",
            "dry": "True",
            "kafkaoffset": "7",
        }

    @pytest.mark.parametrize(
        "media_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.hydro+json", "", "text/x+json ; a=b"]
    )
    def test_these_media_types_mean_json(self, media_type: str) -> None:
        assert read(headers=[*without("content-type"), ("content-type", media_type.encode())]) == read()

    def test_the_attribute_says_the_media_type_only_where_the_header_does_not(self) -> None:
        assert read(headers=without("content-type")) == read()
        assert refused(record(headers=[*without("content-type"), ("ce_datacontenttype", b"text/xml")])) is Invalid.BAD_JSON
        assert read(datacontenttype=b"text/xml").id == "1"

    def test_unknown_members_are_ignored_and_kept(self) -> None:
        value = VALUE[:-1] + b',"later":[1,{"a":null}]}'
        got = read(value=value)
        assert got.data == read().data
        assert got.raw_data == value

    def test_a_subject_of_the_producers_own_is_no_contradiction(self) -> None:
        assert read(subject=b"run 3").key == JOB

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-11-20T12:30:15.12Z", TIME.replace(microsecond=120000)),
            ("2026-11-20T12:30:15.123456789Z", TIME),
            ("2026-11-20T12:30:15Z", TIME.replace(microsecond=0)),
            ("2026-11-20t12:30:15.123456z", TIME),
            ("2026-11-20 13:30:15.123456+01:00", TIME),
            ("2026-11-20T12:30:15.123456-00:00", TIME),
            ("2026-12-31T23:59:60Z", datetime(2027, 1, 1, tzinfo=UTC)),
        ],
    )
    def test_any_rfc_3339_time_is_read_and_its_text_kept(self, text: str, expected: datetime) -> None:
        got = read(time=text.encode())
        assert (got.time, got.time_text) == (expected, text)
        assert got.time.tzinfo is UTC

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "now",
            "2026-11-20",
            "2026-11-20T12:30:15",
            "2026-11-20T12:30Z",
            "2026-13-20T12:30:15Z",
            "1790000000",
            "0001-01-01T00:00:00+10:00",
            "9999-12-31T23:59:60Z",
            "2026-11-20T12:30:15+0100",
            "\u0662\u0660\u0662\u0666-11-20T12:30:15Z",
        ],
    )
    def test_another_time_is_the_records_and_says_so(self, text: str) -> None:
        got = read(time=text.encode())
        assert (got.time, got.time_text) == (record().recorded_at, "")

    @pytest.mark.parametrize("timestamp_ms", [-1, -(2**63), 2**63 - 1])
    def test_a_timestamp_that_is_no_time_is_survived(self, timestamp_ms: int) -> None:
        odd = msgspec.structs.replace(record(headers=without("ce_time")), timestamp_ms=timestamp_ms)
        assert decode(odd, PARTITIONS).time.tzinfo is UTC


class TestStructuredMode:
    MEMBERS = {name.removeprefix("ce_"): text.decode() for name, text in HEADERS.items() if name.startswith("ce_")} | {
        "data": {"job_id": JOB, "status": "Running"}
    }

    def structured(self, content_type: str | None = "application/cloudevents+json", **changed: Any) -> Record:
        members = {name: member for name, member in (self.MEMBERS | changed).items() if member is not ...}
        headers = [("content-type", content_type.encode())] if content_type is not None else []
        return record(headers=headers, value=json.dumps(members).encode())

    @pytest.mark.parametrize(
        "content_type",
        ["application/cloudevents+json", "Application/CloudEvents+JSON; charset=UTF-8", "application/json", None],
    )
    def test_it_is_read(self, content_type: str | None) -> None:
        got = decode(self.structured(content_type), PARTITIONS)
        assert msgspec.structs.replace(got, raw_data=b"") == msgspec.structs.replace(read(), raw_data=b"")

    def test_it_counts_even_beside_binary_headers(self) -> None:
        structured = self.structured(id="2")
        both = record(headers=[*without("content-type"), *structured.headers], value=structured.value)
        assert decode(both, PARTITIONS).id == "2"

    def test_its_extensions_become_text(self) -> None:
        got = decode(self.structured(retry=5, dry=True, ratio=0.5, nothing=None), PARTITIONS)
        assert got.extensions == {"retry": "5", "dry": "true", "ratio": "0.5"}

    def test_data_may_be_in_base64(self) -> None:
        got = decode(self.structured(data=..., data_base64=base64.b64encode(VALUE).decode()), PARTITIONS)
        assert got.data == read().data
        assert got.raw_data == VALUE

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"data_base64": "eyJ9"}, Invalid.NOT_CLOUDEVENT),
            ({"data": ..., "data_base64": "é"}, Invalid.BAD_JSON),
            ({"data": ..., "data_base64": "x"}, Invalid.BAD_JSON),
            ({"data": ..., "data_base64": 5}, Invalid.BAD_JSON),
            ({"data": ...}, Invalid.NO_DATA),
            ({"data": None}, Invalid.NO_DATA),
            ({"data": json.dumps({"job_id": JOB})}, Invalid.BAD_DATA),
            ({"id": 5}, Invalid.NOT_CLOUDEVENT),
            ({"specversion": 1.0}, Invalid.NOT_CLOUDEVENT),
            ({"id": ...}, Invalid.NOT_CLOUDEVENT),
            ({"actor": "a\0"}, Invalid.BAD_DATA),
        ],
    )
    def test_what_is_refused(self, changed: dict[str, Any], reason: Invalid) -> None:
        assert refused(self.structured(**changed)) is reason

    @pytest.mark.parametrize(
        "content_type", ["application/cloudevents", "application/cloudevents-batch+json", "application/cloudevents+avro"]
    )
    def test_other_modes_are_refused(self, content_type: str) -> None:
        assert refused(self.structured(content_type)) is Invalid.NOT_CLOUDEVENT

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (b"", Invalid.NOT_CLOUDEVENT),
            (b"{}", Invalid.NOT_CLOUDEVENT),
            (b"[]", Invalid.NOT_CLOUDEVENT),
            (b"{", Invalid.BAD_JSON),
            (None, Invalid.NOT_CLOUDEVENT),
        ],
    )
    def test_a_record_without_headers_must_say_all_in_its_value(self, value: bytes | None, reason: Invalid) -> None:
        assert refused(record(headers=[], value=value)) is reason


class TestRefusals:
    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            (None, Invalid.NO_KEY),
            (b"", Invalid.NO_KEY),
            (b"\xff", Invalid.NOT_UTF8),
            (JOB.upper().encode(), Invalid.BAD_KEY),
            (JOB.encode() + b"\n", Invalid.BAD_KEY),
            (b"job-1", Invalid.BAD_KEY),
            (b"01934f2e-7a1c-7d11-8a52-0f1e2d3c4b5b", Invalid.KEY_MISMATCH),
        ],
    )
    def test_keys(self, key: bytes | None, reason: Invalid) -> None:
        assert refused(record(key=key)) is reason

    def test_the_wrong_partition_names_the_producer_and_the_way_out(self) -> None:
        wrong = msgspec.structs.replace(record(), partition=(record().partition + 1) % PARTITIONS)
        with pytest.raises(
            InvalidEvent, match=r"producer '/somebody' must partition by murmur2 \(librdkafka: partitioner=murmur2_random"
        ) as caught:
            decode(wrong, PARTITIONS)
        assert caught.value.reason is Invalid.WRONG_PARTITION

    @pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_type", "ce_specversion"])
    def test_what_every_cloudevent_has(self, name: str) -> None:
        assert refused(record(headers=without(name))) is Invalid.NOT_CLOUDEVENT
        assert refused(record(**{name.removeprefix("ce_"): b""})) is Invalid.NOT_CLOUDEVENT

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"specversion": b"0.3"}, Invalid.NOT_CLOUDEVENT),
            ({"partitionkey": b"another"}, Invalid.KEY_MISMATCH),
            ({"type": b"JobExploded"}, Invalid.UNKNOWN_TYPE),
            ({"type": b"SchedulerRemoved"}, Invalid.UNKNOWN_TYPE),
            ({"dataschema": b"urn:jobledger:StatusChanged:2"}, Invalid.UNKNOWN_VERSION),
            ({"dataschema": b"urn:jobledger:StatusChanged:0"}, Invalid.UNKNOWN_VERSION),
            ({"dataschema": b"urn:jobledger:JobCreated:1"}, Invalid.UNKNOWN_VERSION),
            ({"dataschema": b"https://elsewhere"}, Invalid.UNKNOWN_VERSION),
            ({"actor": b"\xff"}, Invalid.NOT_UTF8),
            ({"tenant": b"\xff"}, Invalid.NOT_UTF8),
            ({"id": b"a\0b"}, Invalid.NOT_CLOUDEVENT),
            ({"id": b"x" * 1025}, Invalid.NOT_CLOUDEVENT),
            ({"source": "é".encode() * 513}, Invalid.NOT_CLOUDEVENT),
            ({"tenant": b"x" * 8193}, Invalid.NOT_CLOUDEVENT),
        ],
    )
    def test_attributes(self, changed: dict[str, bytes], reason: Invalid) -> None:
        assert refused(record(**changed)) is reason

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (None, Invalid.NO_DATA),
            (b"", Invalid.NO_DATA),
            (b"null", Invalid.NO_DATA),
            (b"{", Invalid.BAD_JSON),
            (b"\xef\xbb\xbf" + VALUE, Invalid.BAD_JSON),
            (VALUE[:-1] + b',"progress":NaN}', Invalid.BAD_JSON),
            (VALUE[:-1] + b',"later":NaN}', Invalid.BAD_JSON),
            (VALUE[:-1] + b',"later":1e999}', Invalid.BAD_DATA),
            (VALUE[:-1] + b',"later":"\xff"}', Invalid.NOT_UTF8),
            (VALUE[:-1] + b',"message":"\xff"}', Invalid.NOT_UTF8),
            (VALUE[:-1] + b',"later":"\\ud800"}', Invalid.BAD_JSON),
            (VALUE[:-1] + b',"later":"\0"}', Invalid.BAD_JSON),
            (VALUE[:-1] + b',"later":"\\u0000"}', Invalid.BAD_DATA),
            (VALUE[:-1] + b',"evidence":{"\\u0000":1}}', Invalid.BAD_DATA),
            (VALUE[:-1] + b',"evidence":{"a":"\\\\\\u0000"}}', Invalid.BAD_DATA),
            (VALUE[:-1] + b',"exit_code":9007199254740993}', Invalid.BAD_DATA),
            (VALUE[:-1] + b',"later":[-9007199254740993]}', Invalid.BAD_DATA),
            (VALUE[:-1] + b',"later":' + b"9" * 5000 + b"}", Invalid.BAD_DATA),
            (VALUE[:-1] + b',"later":0.' + b"3" * 20 + b',"x":' + b"1" * 20 + b"}", Invalid.BAD_DATA),
            (VALUE[:-1] + b',"later":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", Invalid.BAD_DATA),
            (b"[" * 400_000, Invalid.BAD_DATA),
            (VALUE[:-1] + b',"progress":2}', Invalid.BAD_DATA),
            (VALUE[:-1] + b',"run":0}', Invalid.BAD_DATA),
            (b'{"status":"Running"}', Invalid.BAD_DATA),
            (b"[]", Invalid.BAD_DATA),
            (b"5", Invalid.BAD_DATA),
        ],
    )
    def test_values(self, value: bytes | None, reason: Invalid) -> None:
        assert refused(record(value=value)) is reason

    def test_json_that_was_encoded_twice_is_told(self) -> None:
        with pytest.raises(InvalidEvent, match="encodes it once more"):
            read(value=json.dumps(VALUE.decode()).encode())

    @pytest.mark.parametrize(
        "more",
        [
            b',"evidence":{"a":"\\\\u0000"}}',
            b',"evidence":{"a":"9999999999999999999999"}}',
            b',"evidence":{"a":"' + b"[" * 1000 + b'"}}',
            b',"evidence":{"a":0.1234567890123456789,"b":-9007199254740992,"c":1e300,"d":1234567890123456.5}}',
            b',"evidence":{"a":' + b"[" * (MAX_DEPTH - 2) + b"]" * (MAX_DEPTH - 2) + b"}}",
        ],
    )
    def test_what_only_looks_bad_is_read(self, more: bytes) -> None:
        assert read(value=VALUE[:-1] + more).data.evidence["a"] is not None

    @pytest.mark.parametrize(
        ("data", "topic"),
        [
            (b'{"name":"a\\n","type":"condor","host":"h"}', "jobledger.schedulers"),
            (b'{"name":"a\\n","provider":"aws","kind":"dask"}', "jobledger.clusters"),
        ],
    )
    def test_a_name_may_not_end_in_a_newline(self, data: bytes, topic: str) -> None:
        kind = b"SchedulerRegistered" if "sched" in topic else b"ClusterCreated"
        assert refused(record(value=data, key=b"a\n", topic=topic, type=kind)) is Invalid.BAD_DATA


class TestWriting:
    def test_headers_are_as_every_sdk_reads_them(self) -> None:
        key, value, headers = encode(event(StatusChanged(job_id=JOB, status="Running"), time=TIME.astimezone(timezone(timedelta(hours=1)))))
        assert (key, value) == (JOB.encode(), VALUE)
        assert dict(headers) == {
            **HEADERS,
            "ce_subject": JOB.encode(),
            "ce_partitionkey": JOB.encode(),
            "ce_dataschema": b"urn:jobledger:StatusChanged:1",
        }

    def test_what_was_read_in_an_older_version_is_written_in_the_current_one(self) -> None:
        old = msgspec.structs.replace(event(StatusChanged(job_id=JOB, status="Running")), version=0)
        assert dict(encode(old)[2])["ce_dataschema"] == b"urn:jobledger:StatusChanged:1"

    def test_an_effect_carries_its_causes_story_on(self) -> None:
        cause = event(StatusChanged(job_id=JOB, status="Running"), traceparent="00-a-b-01")
        effect = event(StatusChanged(job_id=JOB, status="Complete"), id="2", cause=cause)
        third = event(StatusChanged(job_id=JOB, status="Complete"), id="3", cause=effect)
        assert (effect.correlation_id, effect.causation_id, effect.traceparent) == ("1", "1", "00-a-b-01")
        assert (third.correlation_id, third.causation_id) == ("1", "2")

    @pytest.mark.parametrize(
        ("data", "more", "reason"),
        [
            (StatusChanged(job_id=JOB, status=""), {}, Invalid.BAD_DATA),
            (StatusChanged(job_id="x", status="Running"), {}, Invalid.BAD_KEY),
            (StatusChanged(job_id=JOB, status="a\0"), {}, Invalid.BAD_DATA),
            (StatusChanged(job_id=JOB, status="\ud800"), {}, Invalid.NOT_UTF8),
            (StatusChanged(job_id=JOB, status="Running", evidence={"a": 2**60}), {}, Invalid.BAD_DATA),
            (StatusChanged(job_id=JOB, status="Running", message="x" * 900_000), {}, Invalid.TOO_LARGE),
            (JobCreated(job_id=JOB, name="x", user="u", label="l", job_type="NONE"), {}, Invalid.BAD_DATA),
            (SchedulerRegistered(name="no spaces", type="condor", host="h"), {}, Invalid.BAD_DATA),
            (ClusterCreated(name="c", provider="aws", kind="dask", size=-1), {}, Invalid.BAD_DATA),
            (JobChanged(job_id=JOB), {"id": ""}, Invalid.NOT_CLOUDEVENT),
            (JobChanged(job_id=JOB), {"id": "a\0"}, Invalid.NOT_CLOUDEVENT),
            (JobChanged(job_id=JOB), {"id": "x" * 2000}, Invalid.NOT_CLOUDEVENT),
            (JobChanged(job_id=JOB), {"actor": "\ud800"}, Invalid.NOT_UTF8),
            (JobChanged(job_id=JOB), {"actor": "x" * 9000}, Invalid.NOT_CLOUDEVENT),
            (JobChanged(job_id=JOB), {"source": "a:b"}, Invalid.NOT_CLOUDEVENT),
            (JobChanged(job_id=JOB), {"source": "/a b"}, Invalid.NOT_CLOUDEVENT),
            (JobChanged(job_id=JOB), {"source": "/%zz"}, Invalid.NOT_CLOUDEVENT),
            (JobChanged(job_id=JOB), {"source": "/" + "x" * 2000}, Invalid.NOT_CLOUDEVENT),
            (JobChanged(job_id=JOB), {"extensions": {"Upper": "x"}}, Invalid.NOT_CLOUDEVENT),
            (JobChanged(job_id=JOB), {"extensions": {"data": "x"}}, Invalid.NOT_CLOUDEVENT),
            (JobChanged(job_id=JOB), {"extensions": {"subject": "x"}}, Invalid.NOT_CLOUDEVENT),
            (JobChanged(job_id=JOB), {"key": "01934f2e-7a1c-7d11-8a52-0f1e2d3c4b5b"}, Invalid.KEY_MISMATCH),
        ],
    )
    def test_what_could_not_be_read_is_not_written(self, data: Any, more: dict[str, Any], reason: Invalid) -> None:
        changes = {name: more.pop(name) for name in ("key",) if name in more}
        with pytest.raises(InvalidEvent) as caught:
            encode(msgspec.structs.replace(event(data, **more), **changes))
        assert caught.value.reason is reason

    def test_a_naive_time_is_a_mistake_of_ours(self) -> None:
        with pytest.raises(ValueError, match="without its zone"):
            event(JobChanged(job_id=JOB), time=datetime(2026, 1, 1))  # noqa: DTZ001
        with pytest.raises(ValueError, match="without its zone"):
            time_to_text(datetime(2026, 1, 1))  # noqa: DTZ001

    def test_times_come_back(self) -> None:
        assert time_from_text(time_to_text(TIME)) == TIME


def test_every_type_has_one_topic_and_one_name() -> None:
    entries = catalogue.entries()
    assert len({entry.type for entry in entries}) == len(entries) == 27
    assert all(catalogue.find(entry.topic, entry.type) is entry for entry in entries)
    assert all(catalogue.by_struct(entry.struct) is entry for entry in entries)


def test_an_older_version_is_brought_to_the_current_one_and_a_broken_one_is_bad_data() -> None:
    def rename(data: dict[str, Any]) -> dict[str, Any]:
        return {"job_id": data["job_id"], "status": data["state"]}

    entry = msgspec.structs.replace(catalogue.by_struct(StatusChanged), upcasters=(rename,))
    assert entry.version == 2
    assert entry.upcast({"job_id": JOB, "state": "Running"}, 1) == StatusChanged(job_id=JOB, status="Running")
    assert entry.upcast({"job_id": JOB, "status": "Running"}, 2) == StatusChanged(job_id=JOB, status="Running")
    with pytest.raises(msgspec.ValidationError):
        entry.upcast({"job_id": JOB, "state": 5}, 1)
