"""Row changes of clusters, made purely from folded events."""

from __future__ import annotations

from typing import Any

from jobledger_contracts import cluster_events as c
from jobledger_contracts.cluster import Cluster
from jobledger_contracts.topics import CLUSTERS
from jobledger_kit.folds import fold_log
from jobledger_provisioner.projection import cluster_rows, history_row
from tests.support.events import event, records_of


def folded(*data: Any) -> Any:
    events = [event(one, at_s=at, source=f"/{at}") for at, one in enumerate(data)]
    return fold_log(records_of(events, topic=CLUSTERS), {CLUSTERS: 4})


def test_a_cluster_that_is_gone_keeps_its_row_and_one_that_never_was_has_none() -> None:
    batch = folded(
        c.ClusterCreated(name="b", provider="aws", kind="dask", size=3),
        c.ClusterStatusChanged(name="b", status="Deleted", message="as asked"),
        c.ResizeRequested(name="never", size=1),
        c.ClusterCreated(name="a", provider="local", kind="condor"),
    )
    rows = cluster_rows(batch.states.values())
    assert [(row.name, row.present, row.status, row.size, row.version) for row in rows] == [
        ("a", True, "Starting", 1, 1),
        ("b", False, "Deleted", 3, 2),
    ]


def test_every_event_has_its_history_row_whatever_its_verdict() -> None:
    batch = folded(c.TerminateRequested(name="a", reason="ümlaut"), c.ClusterCreated(name="a", provider="local", kind="condor"))
    rows = [history_row(f.record, f.event, f.after, f.verdict) for f in batch.folded]
    assert [(row.log_offset, row.version, row.type, row.outcome, row.reason) for row in rows] == [
        (0, 1, "TerminateRequested", "refused", "unknown"),
        (1, 2, "ClusterCreated", "applied", ""),
    ]
    assert rows[0].data == '{"name":"a","reason":"ümlaut"}'


def test_rows_come_from_the_last_state() -> None:
    (row,) = cluster_rows([Cluster(name="x", exists=True, size=2, owner="ada", desired="run", status="Running", nodes=2)])
    assert (row.name, row.owner, row.nodes) == ("x", "ada", 2)
