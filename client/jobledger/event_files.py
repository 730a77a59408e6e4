"""Events in files, checked as Jobledger would read them from the log: for the CI of whoever publishes them. No service is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from jobledger_contracts import catalogue
from jobledger_contracts.envelope import Headers, Invalid, InvalidEvent, Record, decode
from jobledger_contracts.ids import partition_for

STRUCTURED = "application/cloudevents+json"


class CheckedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event of a file."""

    number: int  #: in its file, from 1
    type: str = ""
    key: str = ""
    reason: str = ""  #: what a dead letter would say, such as `bad_data`; empty: it is good
    detail: str = ""
    unknown: list[str] = []  #: members of its data that no event of its type has: they are kept, and mean nothing here

    @property
    def good(self) -> bool:
        return not self.reason


def check_events(text: bytes, topic: str = "") -> Iterator[CheckedEvent]:
    """Check one JSON value, an array of them, or JSON Lines.

    Each is a CloudEvent in its JSON format, or a record as the golden samples have it: `key`, `headers`, `value` and perhaps `topic`,
    `partition` and `partitions`. Without a topic, it is the one of the event's type.
    """
    for number, item in enumerate(_items(text), start=1):
        if not isinstance(item, dict):
            detail = str(item) if isinstance(item, msgspec.DecodeError) else "an event, or a record, is a JSON object"
            yield CheckedEvent(number=number, reason=Invalid.BAD_JSON.value, detail=detail)
            continue
        type_name = _type(item)
        try:
            record, partitions = _record(item, topic or _topic(type_name))
            event = decode(record, partitions)
        except InvalidEvent as error:
            yield CheckedEvent(number=number, type=type_name, reason=error.reason.value, detail=error.detail)
            continue
        known = {field.encode_name for field in msgspec.structs.fields(type(event.data))}
        said = msgspec.json.decode(event.raw_data)
        yield CheckedEvent(number=number, type=event.type, key=event.key, unknown=sorted(said.keys() - known))


def _items(text: bytes) -> Iterator[Any]:
    """The values in a text. A line that is no JSON comes as the error that says why."""
    try:
        whole = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2 or not lines[0].lstrip().startswith(b"{") or not lines[0].rstrip().endswith(b"}"):
            yield error
            return
        for line in lines:
            try:
                yield msgspec.json.decode(line)
            except msgspec.DecodeError as bad:
                yield bad
        return
    yield from whole if isinstance(whole, list) else [whole]


def _headers(item: Mapping[str, Any]) -> Headers | None:
    """The headers of a record; None when the item is an event in JSON format."""
    given = item.get("headers")
    if given is None:
        return None
    pairs = given.items() if isinstance(given, dict) else given
    try:
        return [(name, None if value is None else value.encode()) for name, value in pairs]
    except (AttributeError, TypeError, ValueError):
        raise InvalidEvent(Invalid.NOT_CLOUDEVENT, "headers are an object, or a list of pairs, of texts") from None


def _type(item: Mapping[str, Any]) -> str:
    headers = item.get("headers")
    found = headers.get("ce_type") if isinstance(headers, dict) else item.get("type")
    return found if isinstance(found, str) else ""


def _topic(type_name: str) -> str:
    return next((entry.topic for entry in catalogue.entries() if entry.type == type_name), catalogue.entries()[0].topic)


def _record(item: Mapping[str, Any], topic: str) -> tuple[Record, int]:
    """The record that an item stands for, and how many partitions its topic has."""
    headers, value, key = _headers(item), item.get("value"), item.get("key")
    partition, partitions = item.get("partition"), item.get("partitions", 1)
    if headers is None:
        headers, value, key, partition = [("content-type", STRUCTURED.encode())], item, _key_of(item, topic), None
    else:
        topic = item.get("topic", topic)
    if topic not in catalogue.CATALOGUE:
        raise InvalidEvent(Invalid.UNKNOWN_TYPE, f"there is no topic {topic!r}; there are {', '.join(catalogue.CATALOGUE)}")
    if not isinstance(partition, int | None) or not isinstance(partitions, int) or partitions < 1:
        raise InvalidEvent(Invalid.WRONG_PARTITION, "partition and partitions are numbers")
    raw_key = key.encode() if isinstance(key, str) else None
    if partition is None:  # nothing is said of where it lies: then it lies right
        partition = partition_for(raw_key, partitions) if raw_key else 0
    raw = value.encode() if isinstance(value, str) else None if value is None else msgspec.json.encode(value)
    return Record(topic, partition, 0, 0, raw_key, raw, headers), partitions


def _key_of(item: Mapping[str, Any], topic: str) -> Any:
    """An event in JSON format has no record's key: the SDKs make it of `partitionkey`; without one it is what the data names."""
    if "partitionkey" in item:
        return item["partitionkey"]
    entry = catalogue.find(topic, _type(item))
    data = item.get("data")
    return data.get(entry.key_field) if entry and isinstance(data, dict) else None
