"""The log in memory, for tests and trials: held to the same suite as Kafka's."""

from __future__ import annotations

from jobledger_contracts.catalogue import by_struct
from jobledger_contracts.envelope import Event, Record, encode
from jobledger_contracts.ids import Position, partition_for

from .clock import Clock, SystemClock
from .errors import Unavailable


class MemoryBus:
    """Keeps every record of every topic, with positions as Kafka would give them."""

    def __init__(self, partitions: int = 4, clock: Clock | None = None) -> None:
        self.partitions = partitions
        self.away = False  #: set it to refuse everything, as a broker that is away
        self._clock: Clock = clock or SystemClock()
        self._logs: dict[tuple[str, int], list[Record]] = {}

    async def publish(self, *events: Event) -> list[Position]:
        if self.away:
            raise Unavailable(what="The log in memory")
        encoded = [(by_struct(type(event.data)).topic, *encode(event)) for event in events]
        return [self.append(topic, key, value, headers) for topic, key, value, headers in encoded]

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | list[tuple[str, bytes | None]],
        partition: int | None = None,
    ) -> Position:
        """Add a raw record; `partition` is the key's unless it is given, as by a producer with another partitioner."""
        where = partition if partition is not None else partition_for(key or b"", self.partitions)
        log = self._logs.setdefault((topic, where), [])
        timestamp_ms = int(self._clock.now().timestamp() * 1000)
        log.append(Record(topic, where, len(log), timestamp_ms, key, value, tuple(headers)))
        return log[-1].position

    def records(self, topic: str) -> list[Record]:
        """Every record of a topic: partition after partition, each in order."""
        return [record for key in sorted(self._logs) if key[0] == topic for record in self._logs[key]]
