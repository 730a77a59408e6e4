"""Every event type: its topic, its struct, its current version and the way there from older ones."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from . import cluster_events, job_events, scheduler_events, setting_events, topics, upcasters


class Entry(msgspec.Struct, frozen=True):
    """One event type."""

    topic: str
    struct: type[Any]
    key_field: str
    decoder: msgspec.json.Decoder[Any]
    upcasters: tuple[upcasters.Upcaster, ...] = ()

    @property
    def type(self) -> str:
        return self.struct.__name__

    @property
    def version(self) -> int:
        """The current version: one more than there are upcasters."""
        return len(self.upcasters) + 1

    def key_of(self, data: Any) -> str:
        """The key that the data names."""
        key: str = getattr(data, self.key_field)
        return key

    def upcast(self, data: Any, version: int) -> Any:
        """Bring data of an older version to the current struct. Raises msgspec.ValidationError."""
        for step in self.upcasters[version - 1 :]:
            data = step(data)
        return msgspec.convert(data, self.struct)


def _entries(topic: str, key_field: str, union: Any) -> dict[str, Entry]:
    structs: tuple[type[Any], ...] = union.__args__
    return {s.__name__: Entry(topic, s, key_field, msgspec.json.Decoder(s), upcasters.UPCASTERS.get(s.__name__, ())) for s in structs}


CATALOGUE: Final[dict[str, dict[str, Entry]]] = {
    topics.JOBS: _entries(topics.JOBS, "job_id", job_events.JobEvent),
    topics.SCHEDULERS: _entries(topics.SCHEDULERS, "name", scheduler_events.SchedulerEvent),
    topics.CLUSTERS: _entries(topics.CLUSTERS, "name", cluster_events.ClusterEvent),
    topics.SETTINGS: _entries(topics.SETTINGS, "setting", setting_events.SettingEvent),
}
"""Topic -> event type -> entry."""

_BY_STRUCT: Final[dict[type[Any], Entry]] = {entry.struct: entry for types in CATALOGUE.values() for entry in types.values()}


def find(topic: str, type_name: str) -> Entry | None:
    """The entry of a type in a topic."""
    return CATALOGUE.get(topic, {}).get(type_name)


def by_struct(struct: type[Any]) -> Entry:
    """The entry of a struct. Raises KeyError when it is no event."""
    return _BY_STRUCT[struct]


def entries() -> list[Entry]:
    """All of them, in the order of their files."""
    return list(_BY_STRUCT.values())
