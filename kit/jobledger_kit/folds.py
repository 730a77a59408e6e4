"""From records to states, verdicts and dead letters: what a consumer decides, without doing anything.

`fold_batch` is pure. Given the same records, states and parked keys it always says the same, so every service that reads the log
agrees with every other, and reading the log again gives the same rows again.

What is parked
    A bad event must not cost its stream its order: whoever mends it wants the later events of that stream behind it, not before.
    So a record that cannot be an event parks the later events of its key, and of no other: they go to the dead letters with the
    reason `parked`. It does so only where there is an order to lose:

    * the key is trusted: present, UTF-8, in its own partition, and neither contradicted by the record's `partitionkey` or data
      (`key_mismatch`: nobody can say which stream it is about) nor longer than any real key;
    * the stream exists, so the record may be part of a real life. Garbage under a key that nothing was ever created under parks
      nothing: a producer that gets its first event wrong mends it and sends it again under the same key;
    * or the record says that it is of a version we do not know yet: a newer producer speaks of a stream that we cannot see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec

from jobledger_contracts import cluster, job, scheduler, setting, topics
from jobledger_contracts.envelope import Event, Invalid, InvalidEvent, Record, decode
from jobledger_contracts.ids import Position
from jobledger_contracts.verdicts import Verdict

StreamKey = tuple[str, str]
"""Topic and key: what names a stream."""

MAX_KEY_BYTES: Final = 512
"""Longer keys are nobody's: ids have 36 bytes, names at most 128. (An index row of PostgreSQL holds some 2,700.)"""

_OUR_SCHEMAS: Final = b"urn:jobledger:"
_UNTRUSTED_KEY: Final = frozenset({Invalid.NO_KEY, Invalid.BAD_KEY, Invalid.WRONG_PARTITION, Invalid.KEY_MISMATCH})


class Fold(msgspec.Struct, frozen=True, dict=True):
    """How the streams of one topic are folded."""

    initial: Callable[[str], Any]
    evolve: Callable[[Any, Event], tuple[Any, Verdict]]
    state_type: type[Any]

    def encode(self, state: Any) -> bytes:
        """A state as it is stored: JSON, which a person can read in the database too."""
        return msgspec.json.encode(state)

    def decode(self, raw: bytes) -> Any:
        return self._decoder.decode(raw)

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(self.state_type)


FOLDS: Final[dict[str, Fold]] = {
    topics.JOBS: Fold(job.initial_state, job.evolve, job.Job),
    topics.SCHEDULERS: Fold(scheduler.initial_state, scheduler.evolve, scheduler.Scheduler),
    topics.CLUSTERS: Fold(cluster.initial_state, cluster.evolve, cluster.Cluster),
    topics.SETTINGS: Fold(setting.initial_state, setting.evolve, setting.Setting),
}
"""Topic -> its fold."""


class Folded(msgspec.Struct, frozen=True):
    """One event, and what it did."""

    record: Record
    event: Event
    before: Any  #: the stream's state
    after: Any
    verdict: Verdict

    @property
    def position(self) -> Position:
        return Position(self.record.partition, self.record.offset)

    @property
    def stream(self) -> StreamKey:
        return self.record.topic, self.event.key


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that was not folded, and why."""

    record: Record
    reason: Invalid
    detail: str


class FoldedBatch(msgspec.Struct):
    """What a batch of records comes to."""

    folded: list[Folded] = []
    dead: list[DeadLetter] = []
    states: dict[StreamKey, Any] = {}  #: the new states, of the streams that changed
    parked: dict[StreamKey, int] = {}  #: streams parked by this batch -> offset of the dead letter that they wait behind


def fold_batch(
    records: Sequence[Record],
    partitions: Mapping[str, int],
    states: Mapping[StreamKey, Any],
    parked: Collection[StreamKey],
    into: FoldedBatch | None = None,
) -> FoldedBatch:
    """Fold records, in the order given, over the states of their streams. Pure; raises KeyError for a topic without a fold.

    `partitions` says how many each topic has. A stream that is not in `states` is one that nothing was ever said about. `into` is
    what came before in the same batch: it is carried on, and returned.
    """
    batch = into if into is not None else FoldedBatch()
    folded, dead, changed, newly_parked = batch.folded, batch.dead, batch.states, batch.parked
    for record in records:
        topic = record.topic
        fold = FOLDS[topic]
        try:
            event = decode(record, partitions[topic])
            _check_names(record)
        except InvalidEvent as error:
            dead.append(DeadLetter(record, error.reason, printable(error.detail)))
            _park(record, error.reason, states, parked, changed, newly_parked)
            continue
        stream = (topic, event.key)
        if stream in newly_parked or stream in parked:
            dead.append(DeadLetter(record, Invalid.PARKED, "behind an earlier dead letter of its key"))
            continue
        before = changed.get(stream)
        if before is None:
            before = states.get(stream)
            if before is None:
                before = fold.initial(event.key)
        after, verdict = fold.evolve(before, event)
        changed[stream] = after
        folded.append(Folded(record, event, before, after, verdict))
    return batch


def streams_of(records: Sequence[Record]) -> set[StreamKey]:
    """The streams whose states `fold_batch` wants to know for these records. What can be no key is left out."""
    raw = {(record.topic, record.key) for record in records if record.key}
    return {(topic, key) for topic, text in raw if (key := _key(text)) is not None}


def fold_log(records: Sequence[Record], partitions: Mapping[str, int]) -> FoldedBatch:
    """Fold a whole log from nothing: what every read model of it must agree with."""
    return fold_batch(records, partitions, {}, ())


def _check_names(record: Record) -> None:
    """Refuse header names that were not UTF-8: readers hand them on with their bytes as surrogates (PEP 383)."""
    names = "".join([name for name, _ in record.headers])
    if not names.isascii() and any("\ud800" <= character <= "\udfff" for character in names):
        raise InvalidEvent(Invalid.NOT_UTF8, "the name of a header is not UTF-8")


def _park(
    record: Record,
    reason: Invalid,
    states: Mapping[StreamKey, Any],
    parked: Collection[StreamKey],
    changed: Mapping[StreamKey, Any],
    newly_parked: MutableMapping[StreamKey, int],
) -> None:
    key = _key(record.key)
    if key is None or reason in _UNTRUSTED_KEY:  # `decode` looks at the key first: any other reason means that it is good
        return
    stream = (record.topic, key)
    if stream in newly_parked or stream in parked:
        return
    state = changed.get(stream) or states.get(stream)
    if (state is not None and state.exists) or (reason is Invalid.UNKNOWN_VERSION and _from_the_future(record)):
        newly_parked[stream] = record.offset


def _from_the_future(record: Record) -> bool:
    """Whether a record of an unknown version says that it is ours. (A schema of somebody else's is a producer's mistake.)"""
    return any(raw is not None and name.lower() == "ce_dataschema" and raw.startswith(_OUR_SCHEMAS) for name, raw in record.headers)


def _key(raw: bytes | None) -> str | None:
    """The key as text; None when no stream can have it."""
    if not raw or len(raw) > MAX_KEY_BYTES or b"\0" in raw:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def printable(text: str) -> str:
    """The text as PostgreSQL can hold it: without NUL characters and surrogates."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
