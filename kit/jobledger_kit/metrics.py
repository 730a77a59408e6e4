"""The log side's metrics, each declared once with its meaning. Names carry their units."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

RECORDS: Final = Counter(
    "jobledger_records_total", "Records folded, by what the fold said of them", ["consumer", "topic", "outcome"]
)
DEAD_LETTERS: Final = Counter("jobledger_dead_letters_total", "Records that went to the dead letters, by reason", ["consumer", "topic", "reason"])
BATCH_SECONDS: Final = Histogram(
    "jobledger_batch_seconds",
    "How long a batch took, by step: fold (with loading states) or commit",
    ["consumer", "step"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
BATCH_RECORDS: Final = Histogram(
    "jobledger_batch_records", "How many records a batch had", ["consumer"], buckets=(1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
)
LAG: Final = Gauge(
    "jobledger_checkpoint_lag_records", "Records in the log that the checkpoint has not passed", ["consumer", "topic", "partition"]
)
CHECKPOINT: Final = Gauge("jobledger_checkpoint_offset", "The next offset to be folded", ["consumer", "topic", "partition"])
OUTAGES: Final = Counter("jobledger_outages_total", "Times that a consumer lost the database or the log", ["consumer", "what"])
PUBLISHED: Final = Counter("jobledger_published_total", "Events published, by what became of them", ["topic", "outcome"])
EFFECTS: Final = Counter("jobledger_effects_total", "Attempts at effects, by outcome: done, retried or given_up", ["kind", "outcome"])
