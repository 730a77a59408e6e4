"""The log side's metrics, each declared once with its meaning. Names carry their units."""

from __future__ import annotations

from typing import Final

from .telemetry import counter, gauge, histogram

RECORDS: Final = counter("records_total", "Records folded, by what the fold said of them", ("consumer", "topic", "outcome"))
DEAD_LETTERS: Final = counter("dead_letters_total", "Records that went to the dead letters, by reason", ("consumer", "topic", "reason"))
BATCH_SECONDS: Final = histogram(
    "batch_seconds", "How long a batch took, by step: fold (with loading states) or commit", ("consumer", "step")
)
BATCH_RECORDS: Final = histogram(
    "batch_records", "How many records a batch had", ("consumer",), buckets=(1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
)
LAG: Final = gauge("checkpoint_lag_records", "Records in the log that the checkpoint has not passed", ("consumer", "topic", "partition"))
CHECKPOINT: Final = gauge("checkpoint_offset", "The next offset to be folded", ("consumer", "topic", "partition"))
OUTAGES: Final = counter("outages_total", "Times that a consumer lost the database or the log", ("consumer", "what"))
PUBLISHED: Final = counter("published_total", "Events that the bus was given, by what became of them", ("outcome",))
EFFECTS: Final = counter("effects_total", "Attempts at effects, by how they ended: done, retried or given_up", ("kind", "outcome"))
