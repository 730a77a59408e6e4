"""The envelope: CloudEvents 1.0 in Kafka's binary content mode (structured mode is read as well).

`encode` writes what every CloudEvents SDK that we tried can read; `decode` reads what they really send: attribute names in any
case, any RFC 3339 time, extensions as text, a media type with parameters or none. What it cannot accept it refuses with a reason,
as the one error `InvalidEvent`; nothing is guessed, so that reading the log again gives the same events again.

Spec: CloudEvents 1.0.2 with its Kafka protocol binding and the partitioning, dataschema and distributed tracing texts.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec

from . import catalogue
from .ids import Position, is_job_id, partition_for
from .invalid import Invalid, InvalidEvent
from .json_text import read_json
from .topics import JOBS, MAX_RECORD_BYTES

__all__ = ["Event", "Headers", "Invalid", "InvalidEvent", "Record", "decode", "encode", "new_event", "time_to_text"]

Headers = Sequence[tuple[str, bytes | None]]

SPEC_VERSION: Final = "1.0"
JSON: Final = "application/json"
MAX_ENCODED_BYTES: Final = MAX_RECORD_BYTES * 9 // 10  # the rest is for what Kafka adds
MAX_ID_BYTES: Final = 1024
"""Of `id` and `source`: both fit an index entry of PostgreSQL (2,704 bytes) together."""
MAX_ATTRIBUTE_BYTES: Final = 8192

_STRUCTURED = "application/cloudevents"
_SCHEMA = re.compile(r"urn:jobledger:(?P<type>[A-Za-z]+):(?P<version>[1-9][0-9]{0,5})\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:(?P<second>\d\d)(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)\Z", re.ASCII | re.IGNORECASE)
_ATTRIBUTE = re.compile(r"[a-z0-9]+\Z")
_URI_REFERENCE = re.compile(r"(?:/|urn:|[a-z][a-z0-9+.-]*://)(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*\Z")
_CORE = ("specversion", "id", "source", "type", "time", "datacontenttype", "dataschema", "subject")
_KNOWN = frozenset({*_CORE, "partitionkey", "actor", "correlationid", "causationid", "traceparent"})
_HEADERS = {"content-type": "content-type"} | {f"ce_{name}": name for name in _KNOWN}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


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
        """When the log got it; a timestamp that is no time (-1: none) is brought to the nearest that is."""
        ms = self.timestamp_ms
        return _EPOCH + timedelta(0, 0, 0, ms if 0 <= ms <= _LAST_MS else min(max(ms, 0), _LAST_MS))


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
    """Make an event of one of the catalogue's structs; with `cause`, it carries on that event's story. Raises ValueError: naive time."""
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    entry = catalogue.by_struct(type(data))
    if cause is not None:
        more.setdefault("correlation_id", cause.correlation_id or cause.id)
        more.setdefault("causation_id", cause.id)
        more.setdefault("traceparent", cause.traceparent)
    return Event(
        id=id, source=source, type=entry.type, key=entry.key_of(data), time=time, data=data, version=entry.version, actor=actor, **more
    )


def encode(event: Event) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Return a record's key, value and headers. Raises InvalidEvent: what `decode` would refuse is not written either.

    Optional attributes that are empty are left out: two SDKs refuse empty ones.
    """
    entry = catalogue.by_struct(type(event.data))
    attributes = {
        "specversion": SPEC_VERSION,
        "id": event.id,
        "source": event.source,
        "type": entry.type,
        "time": time_to_text(event.time),
        "subject": event.key,
        "partitionkey": event.key,
        "dataschema": f"urn:jobledger:{entry.type}:{entry.version}",
        "actor": event.actor,
        "correlationid": event.correlation_id,
        "causationid": event.causation_id,
        "traceparent": event.traceparent,
    }
    for name, text in event.extensions.items():
        if not _ATTRIBUTE.match(name) or name in attributes or name in ("data", "datacontenttype"):
            raise InvalidEvent(Invalid.NOT_CLOUDEVENT, f"{name!r} is no name of an extension: lower-case letters and digits, and not taken")
        attributes[name] = text
    if not _URI_REFERENCE.match(event.source):
        raise InvalidEvent(Invalid.NOT_CLOUDEVENT, f"the source {event.source!r} is no URI reference that every SDK reads")
    try:
        key, value = event.key.encode(), msgspec.json.encode(event.data)
        headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items() if text]
    except UnicodeEncodeError:
        raise InvalidEvent(Invalid.NOT_UTF8, "a text holds half of a surrogate pair") from None
    headers.append(("content-type", JSON.encode()))
    size = len(key) + len(value) + sum(len(name) + len(raw) for name, raw in headers)
    if size > MAX_ENCODED_BYTES:
        raise InvalidEvent(Invalid.TOO_LARGE, f"{size} bytes; {MAX_ENCODED_BYTES} is the most")
    decode(Record(entry.topic, 0, 0, 0, key, value, headers), partitions=1)
    return key, value, headers


def decode(record: Record, partitions: int) -> Event:
    """Read an event from a record of a topic with so many partitions. Raises InvalidEvent and nothing else."""
    key = _key(record, partitions)
    attributes, extensions, value = _attributes(record)
    get = attributes.get
    event_id, source, type_name = get("id"), get("source"), get("type")
    if not event_id or not source or not type_name or get("specversion") != SPEC_VERSION:
        missing = [name for name in ("id", "source", "type") if not get(name)]
        what = f"no {' or '.join(missing)}" if missing else f"specversion is {get('specversion')!r}, not {SPEC_VERSION!r}"
        raise InvalidEvent(Invalid.NOT_CLOUDEVENT, what)
    if len(event_id.encode()) > MAX_ID_BYTES or len(source.encode()) > MAX_ID_BYTES:
        raise InvalidEvent(Invalid.NOT_CLOUDEVENT, f"id or source is longer than {MAX_ID_BYTES} bytes")
    entry, version = _entry(record.topic, type_name, get("dataschema", ""))
    data = _data(entry, version, value)
    if (said := get("partitionkey", key)) != key:
        raise InvalidEvent(Invalid.KEY_MISMATCH, f"the key is {key!r}, but the partitionkey says {said!r}")
    if (said := entry.key_of(data)) != key:
        raise InvalidEvent(Invalid.KEY_MISMATCH, f"the key is {key!r}, but the data says {said!r}")
    time_text = get("time", "")
    time = time_from_text(time_text)
    return Event(
        id=event_id,
        source=source,
        type=type_name,
        key=key,
        time=time or record.recorded_at,
        time_text=time_text if time else "",
        data=data,
        version=version,
        actor=get("actor", ""),
        correlation_id=get("correlationid", ""),
        causation_id=get("causationid", ""),
        traceparent=get("traceparent", ""),
        extensions=extensions,
        raw_data=value,
    )


def time_to_text(time: datetime) -> str:
    """RFC 3339 in UTC with `Z` and microseconds: the one form that every SDK reads. Raises ValueError for a naive time."""
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def time_from_text(text: str) -> datetime | None:
    """Read an RFC 3339 time; None when it is none. Digits beyond microseconds are cut; a leap second is the one after it."""
    match = _TIME.match(text)
    if not match:
        return None
    try:
        if match["second"] == "60":
            start, end = match.span("second")
            return datetime.fromisoformat(f"{text[:start]}59{text[end:]}".upper()).astimezone(UTC) + timedelta(seconds=1)
        time = datetime.fromisoformat(text.upper())
        return time if time.tzinfo is UTC else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


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
            f"found in partition {record.partition}, belongs in {right} of {partitions}: {_producer(record)} must partition by murmur2 "
            "(librdkafka: partitioner=murmur2_random; sarama: NewMurmur2Partitioner; kafkajs: DefaultPartitioner)",
        )
    return key


def _producer(record: Record) -> str:
    """Name who sent a record that is not read further, as far as it says so."""
    for name, raw in record.headers:
        if raw and name.lower() == "ce_source":
            return f"the producer {raw[:MAX_ID_BYTES].decode(errors='backslashreplace')!r}"
    return "the producer"


def _attributes(record: Record) -> tuple[dict[str, str], dict[str, str], bytes]:
    """Return the attributes that we know, the others, and the data's bytes, whichever content mode they came in."""
    known: dict[str, str] = {}
    extensions: dict[str, str] = {}
    header = ""
    try:  # one for all, and no call for each: this loop is a tenth of what folding an event costs
        for header, raw in record.headers:
            attributes, name = known, _HEADERS.get(header)
            if name is None:
                name = _attribute_name(header)
                if not name:
                    continue
                attributes = known if f"ce_{name}" in _HEADERS or name == "content-type" else extensions
            if raw is None:  # null is absent, and the last one counts
                attributes.pop(name, None)
                continue
            attributes[name] = text = raw.decode()
            if "\0" in text or len(raw) > MAX_ATTRIBUTE_BYTES:
                raise _bad_attribute(header, text)
    except UnicodeDecodeError:
        raise InvalidEvent(Invalid.NOT_UTF8, f"{header!r} is not UTF-8") from None
    value = record.value or b""
    content_type = known.pop("content-type", None)
    media_type = known.get("datacontenttype", "") if content_type is None else content_type
    if media_type != JSON:
        media_type = media_type.partition(";")[0].strip().lower()
    if media_type.startswith(_STRUCTURED) or not (known or extensions):
        if media_type.startswith(_STRUCTURED) and media_type != f"{_STRUCTURED}+json":
            raise InvalidEvent(Invalid.NOT_CLOUDEVENT, f"content mode {media_type!r} is not read; binary, or {_STRUCTURED}+json, is")
        return _structured(value)
    if media_type and media_type != JSON and not media_type.endswith("+json"):
        raise InvalidEvent(Invalid.BAD_JSON, f"the data is {media_type!r}, not {JSON}")
    return known, extensions, value


def _attribute_name(header: str) -> str:
    """The attribute that a header holds, in small letters; empty when it holds none."""
    lower = header.lower()
    if lower == "content-type":
        return lower
    name = lower.removeprefix("ce_")
    return name if name != lower and name != "data" and _ATTRIBUTE.match(name) else ""


def _bad_attribute(name: str, text: str) -> InvalidEvent:
    what = "a NUL character" if "\0" in text else f"more than {MAX_ATTRIBUTE_BYTES} bytes"
    return InvalidEvent(Invalid.NOT_CLOUDEVENT, f"{name!r} holds {what}")


def _structured(value: bytes) -> tuple[dict[str, str], dict[str, str], bytes]:
    if not value:
        raise InvalidEvent(Invalid.NOT_CLOUDEVENT, "there are neither ce_ headers nor a value")
    members = read_json(value)
    if not isinstance(members, dict):
        raise InvalidEvent(Invalid.NOT_CLOUDEVENT, "a structured event is a JSON object")
    data, encoded = members.pop("data", None), members.pop("data_base64", None)
    if encoded is None:
        raw = b"" if data is None else msgspec.json.encode(data)
    else:
        raw = _from_base64(encoded)
        if data is not None:
            raise InvalidEvent(Invalid.NOT_CLOUDEVENT, "both data and data_base64 are given")
    known: dict[str, str] = {}
    extensions: dict[str, str] = {}
    for member, given in members.items():
        name = member.lower()
        if given is None or not _ATTRIBUTE.match(name):
            continue
        if name in _CORE and not isinstance(given, str):
            raise InvalidEvent(Invalid.NOT_CLOUDEVENT, f"{name} is not a string")
        text = given if isinstance(given, str) else msgspec.json.encode(given).decode()
        if "\0" in text or len(text.encode()) > MAX_ATTRIBUTE_BYTES:
            raise _bad_attribute(name, text)
        (known if name in _KNOWN else extensions)[name] = text
    return known, extensions, raw


def _from_base64(text: Any) -> bytes:
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
        raise ValueError("not a string")
    except ValueError as error:
        raise InvalidEvent(Invalid.BAD_JSON, f"data_base64: {error}") from None


@lru_cache(maxsize=4096)
def _entry(topic: str, name: str, schema: str) -> tuple[catalogue.Entry, int]:
    entry = catalogue.find(topic, name)
    if entry is None:
        raise InvalidEvent(Invalid.UNKNOWN_TYPE, f"{name!r} is not an event of the topic {topic}")
    if not schema:
        return entry, 1
    match = _SCHEMA.match(schema)
    if not match or match["type"] != name:
        raise InvalidEvent(Invalid.UNKNOWN_VERSION, f"dataschema {schema!r} is not urn:jobledger:{name}:<version>")
    version = int(match["version"])
    if version > entry.version:
        raise InvalidEvent(Invalid.UNKNOWN_VERSION, f"version {version} of {name}; 1 to {entry.version} are known")
    return entry, version


def _data(entry: catalogue.Entry, version: int, value: bytes) -> Any:
    if not value or value == b"null":
        raise InvalidEvent(Invalid.NO_DATA, f"{entry.type} has no data")
    members = read_json(value)
    if not isinstance(members, dict):
        hint = " (was JSON text given to an SDK that encodes it once more?)" if isinstance(members, str) else ""
        raise InvalidEvent(Invalid.BAD_DATA, f"the data of {entry.type} is not a JSON object{hint}")
    try:
        if version == entry.version:
            return entry.decoder.decode(value)
        return entry.upcast(members, version)
    except (msgspec.ValidationError, LookupError, TypeError, ValueError, AttributeError) as error:  # the latter from upcasters
        raise InvalidEvent(Invalid.BAD_DATA, str(error)) from None
