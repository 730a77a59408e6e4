"""The envelope: CloudEvents 1.0 in Kafka's binary content mode (structured mode is read as well).

`encode` writes what every CloudEvents SDK that we tried can read; `decode` reads what they really send: attribute names in any
case, any RFC 3339 time, extensions as text, a media type with parameters or none. What it cannot accept it refuses with a reason,
as the one error `InvalidEvent`; nothing is guessed, so that reading the log again gives the same events again.

Spec: CloudEvents 1.0.2 with its Kafka protocol binding and the partitioning, dataschema and distributed tracing texts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from . import catalogue
from .ids import Position, is_job_id, partition_for
from .topics import JOBS, MAX_RECORD_BYTES

Headers = Sequence[tuple[str, bytes | None]]

SPEC_VERSION = "1.0"
JSON = "application/json"
_STRUCTURED = "application/cloudevents"
_SCHEMA = re.compile(r"urn:jobledger:(?P<type>[A-Za-z]+):(?P<version>\d{1,6})\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")
_OWN = {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "partitionkey"}
_NAMED = {"actor", "correlationid", "causationid", "traceparent"}


class Invalid(StrEnum):
    """Why a record cannot be an event. These are the reasons in the dead letters."""

    NO_KEY = "no_key"
    BAD_KEY = "bad_key"  #: not what this topic is keyed by
    WRONG_PARTITION = "wrong_partition"  #: the producer's partitioner is not murmur2
    NOT_UTF8 = "not_utf8"
    NO_DATA = "no_data"
    BAD_JSON = "bad_json"
    NOT_CLOUDEVENT = "not_cloudevent"  #: an attribute that every CloudEvent has is missing or bad
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_VERSION = "unknown_version"
    BAD_DATA = "bad_data"  #: the data does not have the shape of its type
    KEY_MISMATCH = "key_mismatch"  #: key, partitionkey, subject and data name different things
    TOO_LARGE = "too_large"
    PARKED = "parked"  #: nothing wrong with it: an earlier event of its key is in the dead letters


class InvalidEvent(Exception):
    """The record is no event of ours; trying again cannot help. Carries the reason and what is wrong in words."""

    def __init__(self, reason: Invalid, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason, self.detail = reason, detail


class Record(msgspec.Struct, frozen=True):
    """A Kafka record as a consumer got it. `timestamp_ms` is the broker's (LogAppendTime)."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def position(self) -> Position:
        return Position(self.partition, self.offset)

    @property
    def recorded_at(self) -> datetime:
        return datetime.fromtimestamp(self.timestamp_ms / 1000, UTC)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event: its envelope, and its data at the current version."""

    id: str
    source: str  #: who publishes, as a URI reference
    type: str
    key: str  #: the stream it belongs to: job id, scheduler name or cluster name
    time: datetime  #: when it happened, UTC
    data: Any  #: a struct of `catalogue`
    version: int = 1  #: the version that it was written in
    time_text: str = ""  #: as its producer wrote it; empty: the producer gave none (or a bad one), and `time` is the record's
    actor: str = ""  #: on whose behalf
    correlation_id: str = ""  #: the whole story
    causation_id: str = ""  #: the event or request that led to this one
    traceparent: str = ""
    extensions: Mapping[str, str] = {}
    raw_data: bytes = b""  #: the data as it was sent, with fields that we do not know


def new_event(data: Any, *, id: str, source: str, time: datetime, actor: str = "", cause: Event | None = None, **more: Any) -> Event:
    """Make an event of one of the catalogue's structs; with `cause`, it carries on that event's story."""
    entry = catalogue.by_struct(type(data))
    if cause is not None:
        more.setdefault("correlation_id", cause.correlation_id or cause.id)
        more.setdefault("causation_id", cause.id)
        more.setdefault("traceparent", cause.traceparent)
    return Event(
        id=id, source=source, type=entry.type, key=entry.key_of(data), time=time, data=data, version=entry.version, actor=actor, **more
    )


def encode(event: Event) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Return a record's key, value and headers. Raises InvalidEvent(TOO_LARGE).

    Optional attributes that are empty are left out: two SDKs refuse empty ones.
    """
    value = msgspec.json.encode(event.data)
    if len(value) > MAX_RECORD_BYTES * 9 // 10:
        raise InvalidEvent(Invalid.TOO_LARGE, f"{len(value)} bytes of data; {MAX_RECORD_BYTES * 9 // 10} is the most")
    attributes = {
        "ce_specversion": SPEC_VERSION,
        "ce_id": event.id,
        "ce_source": event.source,
        "ce_type": event.type,
        "ce_time": time_to_text(event.time),
        "ce_subject": event.key,
        "ce_partitionkey": event.key,
        "ce_dataschema": f"urn:jobledger:{event.type}:{event.version}",
        "ce_actor": event.actor,
        "ce_correlationid": event.correlation_id,
        "ce_causationid": event.causation_id,
        "ce_traceparent": event.traceparent,
        "content-type": JSON,
        **{f"ce_{name}": text for name, text in event.extensions.items()},
    }
    return event.key.encode(), value, [(name, text.encode()) for name, text in attributes.items() if text]


def decode(record: Record, partitions: int) -> Event:
    """Read an event from a record of a topic with so many partitions. Raises InvalidEvent and nothing else."""
    key = _key(record, partitions)
    attributes, value = _attributes(record)
    missing = [name for name in ("id", "source", "type") if not attributes.get(name)]
    if missing or attributes.get("specversion") != SPEC_VERSION:
        what = f"no {' or '.join(missing)}" if missing else f"specversion is {attributes.get('specversion')!r}, not {SPEC_VERSION!r}"
        raise InvalidEvent(Invalid.NOT_CLOUDEVENT, what)
    entry, version = _entry(record.topic, attributes)
    data = _data(entry, version, value)
    for name, text in (*((n, attributes.get(n)) for n in ("partitionkey", "subject")), ("data", entry.key_of(data))):
        if text and text != key:
            raise InvalidEvent(Invalid.KEY_MISMATCH, f"the key is {key!r}, but the {name} says {text!r}")
    time = _time(attributes.get("time", ""))
    return Event(
        id=attributes["id"],
        source=attributes["source"],
        type=entry.type,
        key=key,
        time=time or record.recorded_at,
        time_text=attributes["time"] if time else "",
        data=data,
        version=version,
        actor=attributes.get("actor", ""),
        correlation_id=attributes.get("correlationid", ""),
        causation_id=attributes.get("causationid", ""),
        traceparent=attributes.get("traceparent", ""),
        extensions={name: text for name, text in attributes.items() if name not in _OWN and name not in _NAMED},
        raw_data=value,
    )


def time_to_text(time: datetime) -> str:
    """RFC 3339 in UTC with `Z` and microseconds: the one form that every SDK reads. Raises ValueError for a naive time."""
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _key(record: Record, partitions: int) -> str:
    if not record.key:
        raise InvalidEvent(Invalid.NO_KEY, "every event is keyed: jobs by job id, schedulers and clusters by name")
    try:
        key = record.key.decode()
    except UnicodeDecodeError:
        raise InvalidEvent(Invalid.NOT_UTF8, "the key is not UTF-8") from None
    if record.topic == JOBS and not is_job_id(key):
        raise InvalidEvent(Invalid.BAD_KEY, "the key is not a job id: a UUID in lower case, as text")
    if (right := partition_for(record.key, partitions)) != record.partition:
        raise InvalidEvent(
            Invalid.WRONG_PARTITION,
            f"found in partition {record.partition}, belongs in {right} of {partitions}: the producer must partition by murmur2 "
            "(librdkafka: partitioner=murmur2_random; sarama: NewMurmur2Partitioner; kafkajs: DefaultPartitioner)",
        )
    return key


def _attributes(record: Record) -> tuple[dict[str, str], bytes]:
    """Return the CloudEvents attributes and the data's bytes, whichever content mode they came in."""
    headers: dict[str, str] = {}
    for name, raw in record.headers:
        lower = name.lower()
        if raw is None or not (lower.startswith("ce_") or lower == "content-type"):
            continue
        try:
            headers[lower] = raw.decode()
        except UnicodeDecodeError:
            raise InvalidEvent(Invalid.NOT_UTF8, f"the header {name!r} is not UTF-8") from None
    value = record.value or b""
    attributes = {name[3:]: text for name, text in headers.items() if name.startswith("ce_")}
    media_type = headers.get("content-type", attributes.get("datacontenttype", "")).partition(";")[0].strip().lower()
    if media_type.startswith(_STRUCTURED) or (not attributes and value[:1] == b"{"):
        if media_type.startswith(_STRUCTURED) and media_type != f"{_STRUCTURED}+json":
            raise InvalidEvent(Invalid.NOT_CLOUDEVENT, f"content mode {media_type!r} is not read; binary, or {_STRUCTURED}+json, is")
        attributes, value = _structured(value)
    elif media_type and media_type != JSON and not media_type.endswith("+json"):
        raise InvalidEvent(Invalid.BAD_JSON, f"the data is {media_type!r}, not {JSON}")
    if any("\0" in text for text in attributes.values()):
        raise InvalidEvent(Invalid.NOT_CLOUDEVENT, "an attribute holds a NUL character")
    return attributes, value


def _structured(value: bytes) -> tuple[dict[str, str], bytes]:
    members = _json(value)
    if not isinstance(members, dict):
        raise InvalidEvent(Invalid.NOT_CLOUDEVENT, "a structured event is a JSON object")
    data, encoded = members.pop("data", None), members.pop("data_base64", None)
    if isinstance(encoded, str):
        try:
            raw = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise InvalidEvent(Invalid.BAD_JSON, f"data_base64: {error}") from None
    else:
        raw = b"" if data is None else msgspec.json.encode(data)
    given = {name.lower(): member for name, member in members.items() if member is not None}
    return {name: m if isinstance(m, str) else msgspec.json.encode(m).decode() for name, m in given.items()}, raw


def _entry(topic: str, attributes: Mapping[str, str]) -> tuple[catalogue.Entry, int]:
    name = attributes["type"]
    entry = catalogue.find(topic, name)
    if entry is None:
        raise InvalidEvent(Invalid.UNKNOWN_TYPE, f"{name!r} is not an event of the topic {topic}")
    schema = attributes.get("dataschema", "")
    match = _SCHEMA.match(schema)
    if not schema:
        return entry, 1
    if not match or match["type"] != name:
        raise InvalidEvent(Invalid.UNKNOWN_VERSION, f"dataschema {schema!r} is not urn:jobledger:{name}:<version>")
    version = int(match["version"])
    if not 1 <= version <= entry.version:
        raise InvalidEvent(Invalid.UNKNOWN_VERSION, f"version {version} of {name}; 1 to {entry.version} are known")
    return entry, version


def _data(entry: catalogue.Entry, version: int, value: bytes) -> Any:
    if not value:
        raise InvalidEvent(Invalid.NO_DATA, f"{entry.type} has no data")
    if b"\\u0000" in value:  # neither PostgreSQL's text nor its jsonb can hold it
        raise InvalidEvent(Invalid.BAD_DATA, "the data holds a NUL character")
    try:
        if version == entry.version:
            return entry.decoder.decode(value)
        return entry.upcast(_json(value), version)
    except msgspec.ValidationError as error:
        raise InvalidEvent(Invalid.BAD_DATA, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent(Invalid.BAD_JSON, str(error)) from None


def _json(value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent(Invalid.BAD_JSON, str(error)) from None


def _time(text: str) -> datetime | None:
    """Read an RFC 3339 time; None when there is none that can be read."""
    if not _TIME.match(text):
        return None
    try:
        return datetime.fromisoformat(text.upper().replace(" ", "T")).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
