"""The log as an AsyncAPI 3.0 document: what is on which topic, for those who read it or publish there in another language."""

from __future__ import annotations

from typing import Any, Final

from . import catalogue
from .catalogue import Entry
from .envelope import JSON, MAX_ATTRIBUTE_BYTES, MAX_ID_BYTES, SPEC_VERSION
from .topics import CLUSTERS, CONFIG, JOBS, SCHEDULERS, SETTINGS

CHANNELS: Final[dict[str, tuple[str, str, str]]] = {
    JOBS: ("jobs", "Requests and reports about jobs", "The job's id: a UUID in lower case, as text."),
    SCHEDULERS: ("schedulers", "The registry of schedulers, and their health", "The scheduler's name."),
    CLUSTERS: ("clusters", "Clusters, desired and observed", "The cluster's name."),
    SETTINGS: ("settings", "The schedulers that apps need, and which ones they get", "The app's label, a slash, and the setting's name."),
}
"""Topic -> the channel's name, its title, and what its key is."""

_INTRODUCTION: Final = """\
Every fact and every request about a job, a scheduler, a cluster or an app's need of a scheduler is an event in one of these topics,
kept for ever. Events are CloudEvents 1.0 in Kafka's binary content mode (structured JSON is read as well). Any service may publish
here, in any language: a pure fold, the same in every reader, decides what each event does, and every event stays in the history
with its verdict.

**Partitioner.** A record whose key is not in murmur2's partition is a dead letter. Kafka's Java client, aiokafka, kafka-python,
franz-go and kafkajs 2 partition so by default. librdkafka (confluent-kafka, kcat, Rust): `partitioner=murmur2_random`. sarama:
`NewMurmur2Partitioner`. kafkajs: `DefaultPartitioner`.

**Publish** with `acks=all` and an idempotent producer. Choose the event's id once, before the first attempt, and keep it when you
try again: an event with the same source and id is folded once.
"""

_TIME_PATTERN: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$"


def document(version: str) -> dict[str, Any]:
    """Return the document for a release. Payloads are references to the schema files beside it."""
    channels: dict[str, Any] = {}
    operations: dict[str, dict[str, Any]] = {}
    messages: dict[str, Any] = {}
    for topic, (name, title, key) in CHANNELS.items():
        entries = catalogue.CATALOGUE[topic].values()
        references = [{"$ref": f"#/channels/{name}/messages/{entry.type}"} for entry in entries]
        channels[name] = {
            "address": topic,
            "title": title,
            "messages": {entry.type: {"$ref": f"#/components/messages/{entry.type}"} for entry in entries},
            "bindings": {"kafka": _topic_binding(topic)},
        }
        for action, summary in (("send", "Publish to"), ("receive", "Read")):
            operations[f"{action}{name.capitalize()}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": f"{summary} {topic}",
                "messages": references,
            }
        operations[f"send{name.capitalize()}"]["x-kafka-producer"] = {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2"}
        messages |= {entry.type: _message(entry, key) for entry in entries}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Jobledger's log",
            "version": version,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "messageTraits": {"cloudEvent": {"contentType": JSON, "headers": _headers()}}},
    }


def _topic_binding(topic: str) -> dict[str, Any]:
    configuration: dict[str, Any] = {name: int(value) if value.lstrip("-").isdigit() else value for name, value in CONFIG.items()}
    configuration["cleanup.policy"] = [CONFIG["cleanup.policy"]]
    return {"topic": topic, "topicConfiguration": configuration, "bindingVersion": "0.5.0"}


def _message(entry: Entry, key: str) -> dict[str, Any]:
    reference = f"./{entry.type}.v{entry.version}.json"
    own = {"ce_type": {"const": entry.type}, "ce_dataschema": {"const": f"urn:jobledger:{entry.type}:{entry.version}"}}
    return {
        "name": entry.type,
        "title": entry.type,
        "summary": (entry.struct.__doc__ or "").partition("\n")[0],
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "headers": {"type": "object", "properties": own},
        "payload": {"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": {"$ref": reference}},
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}},
    }


def _headers() -> dict[str, Any]:
    """The headers of a CloudEvent in Kafka's binary mode, as we write them. Optional ones are left out, never empty."""

    def text(description: str, **more: Any) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": MAX_ATTRIBUTE_BYTES, "description": description, **more}

    return {
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type"],
        "properties": {
            "ce_specversion": {"const": SPEC_VERSION},
            "ce_id": text("With the source, the event's identity.", maxLength=MAX_ID_BYTES),
            "ce_source": text("Who publishes, as a URI reference.", maxLength=MAX_ID_BYTES, format="uri-reference"),
            "ce_type": text("The event's type."),
            "ce_time": text("When it happened, RFC 3339. Absent: when the log got it.", pattern=_TIME_PATTERN),
            "ce_subject": text("What it is about. Not judged."),
            "ce_partitionkey": text("The record's key."),
            "ce_dataschema": text("`urn:jobledger:<type>:<version>`. Absent: version 1."),
            "ce_actor": text("On whose behalf: `user:<name>`, `run:<run id>` or `service:<name>`."),
            "ce_correlationid": text("The whole story."),
            "ce_causationid": text("The event or request that led to this one."),
            "ce_traceparent": text("W3C trace context."),
            "content-type": {"const": JSON},
        },
    }
