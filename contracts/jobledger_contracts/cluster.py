"""The state of a cluster, desired and observed, and the fold that decides what every event does to it.

Like `job.evolve`: total, pure, the same in every service. What is asked for changes what is desired; only a report changes what
is observed. A name can be used again once its cluster was seen to be gone.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from . import cluster_events as e
from .envelope import Event
from .recent import identity, remember
from .verdicts import APPLIED, Reason, Verdict, duplicate, refused, superseded


class Cluster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that the fold knows of one cluster. Times are the events' own, in UTC."""

    name: str
    version: int = 0  #: events folded, with those that took no effect
    exists: bool = False  #: it was asked for, and is not known to be gone
    deleted: bool = False  #: it existed once, and is gone
    created_digest: bytes = b""  #: of the content it was created with

    provider: str = ""
    kind: str = ""
    owner: str = ""
    size: int = 0  #: desired worker nodes
    desired: str = ""  #: run or terminate

    status: str = ""  #: observed; Starting from its creation on
    nodes: int = 0  #: observed worker nodes
    status_message: str = ""
    status_source: str = ""  #: who said so
    status_time: datetime | None = None

    creation_time: datetime | None = None
    deletion_time: datetime | None = None

    recent_ids: tuple[bytes, ...] = ()


def initial_state(name: str) -> Cluster:
    """A cluster that nothing was ever said about."""
    return Cluster(name=name)


def evolve(cluster: Cluster, event: Event) -> tuple[Cluster, Verdict]:
    """Fold one event into a cluster. The event's key is the cluster's name: the decoder has checked it."""
    event_id = identity(event)
    if event_id in cluster.recent_ids:
        return replace(cluster, version=cluster.version + 1), duplicate(Reason.SAME_EVENT)
    changes, verdict = _judge(cluster, event)
    recent_ids = remember(cluster.recent_ids, event_id)
    return replace(cluster, version=cluster.version + 1, recent_ids=recent_ids, **changes), verdict


Changes = dict[str, Any]
_NOTHING: Changes = {}


def _judge(cluster: Cluster, event: Event) -> tuple[Changes, Verdict]:
    data = event.data
    if isinstance(data, e.ClusterCreated):
        return _create(cluster, event, data)
    if not cluster.exists:
        return _NOTHING, refused(Reason.DELETED if cluster.deleted else Reason.UNKNOWN)
    if isinstance(data, e.ClusterStatusChanged):
        return _report(cluster, event, data)
    if isinstance(data, e.ResizeRequested):
        if cluster.desired == "terminate":
            return _NOTHING, superseded(Reason.LATE)
        return ({"size": data.size}, APPLIED) if data.size != cluster.size else (_NOTHING, superseded(Reason.UNCHANGED))
    if not isinstance(data, e.TerminateRequested):
        return _NOTHING, refused(Reason.UNKNOWN)
    if cluster.desired == "terminate":
        return _NOTHING, superseded(Reason.UNCHANGED)
    return {"desired": "terminate"}, APPLIED


def _create(cluster: Cluster, event: Event, data: e.ClusterCreated) -> tuple[Changes, Verdict]:
    digest = hashlib.sha256(msgspec.json.encode(data, order="sorted")).digest()
    if cluster.exists:
        return _NOTHING, duplicate(Reason.SAME_CONTENT) if digest == cluster.created_digest else refused(Reason.OTHER_CONTENT)
    return {
        "exists": True,
        "deleted": False,
        "created_digest": digest,
        "provider": data.provider,
        "kind": data.kind,
        "owner": data.owner,
        "size": data.size,
        "desired": "run",
        "status": "Starting",
        "nodes": 0,
        "status_message": "",
        "status_source": event.source,
        "status_time": event.time,
        "creation_time": event.time,
        "deletion_time": None,
    }, APPLIED


def _report(cluster: Cluster, event: Event, data: e.ClusterStatusChanged) -> tuple[Changes, Verdict]:
    if event.source == cluster.status_source and cluster.status_time is not None and event.time < cluster.status_time:
        return _NOTHING, superseded(Reason.LATE)
    changes: Changes = {"status": data.status, "nodes": data.nodes, "status_message": data.message}
    if all(getattr(cluster, name) == value for name, value in changes.items()):
        return _NOTHING, superseded(Reason.UNCHANGED)
    changes |= {"status_source": event.source, "status_time": event.time}
    if data.status == "Deleted":
        changes |= {"exists": False, "deleted": True, "deletion_time": event.time}
    return changes, APPLIED
