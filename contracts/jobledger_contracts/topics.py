"""The topics, named once, with the settings that the record's safety depends on."""

from __future__ import annotations

from typing import Final

JOBS: Final = "jobledger.jobs"  #: keyed by job id: requests and reports about jobs
SCHEDULERS: Final = "jobledger.schedulers"  #: keyed by scheduler name: registry and health
CLUSTERS: Final = "jobledger.clusters"  #: keyed by cluster name: desired and observed clusters
SETTINGS: Final = "jobledger.settings"  #: keyed by `<label>/<name>`: the schedulers that apps need, and which ones they get

ALL: Final = (JOBS, SCHEDULERS, CLUSTERS, SETTINGS)

MAX_RECORD_BYTES: Final = 1_000_000

CONFIG: Final[dict[str, str]] = {
    "cleanup.policy": "delete",  # compaction would eat history
    "retention.ms": "-1",  # for ever
    "retention.bytes": "-1",
    "max.message.bytes": str(MAX_RECORD_BYTES),
    "message.timestamp.type": "LogAppendTime",  # the broker's clock says when a fact was recorded, no producer's does
    "compression.type": "uncompressed",  # the broker unpacks, so a small record cannot blow up in a reader
}
"""Kafka settings of every topic that holds events."""
