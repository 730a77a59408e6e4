"""What can be said about a cluster: machines that exist because somebody asked for them.

Keyed by the cluster's name, which is unique. Cloud credentials never appear here.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

ClusterName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)")]
Text = Annotated[str, Meta(max_length=2048)]
Size = Annotated[int, Meta(ge=0, le=10_000)]


class ClusterCreated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants a cluster to exist."""

    name: ClusterName
    provider: Text  #: where its machines come from, such as aws, azure, ssh or local
    kind: Annotated[str, Meta(pattern=r"^(condor|dask)$(?!\n)")]  #: what a ready cluster offers
    size: Size = 1  #: worker nodes, beside the central one
    owner: Annotated[str, Meta(max_length=255)] = ""


class ResizeRequested(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked for another number of worker nodes."""

    name: ClusterName
    size: Size
    reason: Text = ""


class TerminateRequested(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked for the cluster's end."""

    name: ClusterName
    reason: Text = ""


class ClusterStatusChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cluster was seen to have this status."""

    name: ClusterName
    status: Annotated[str, Meta(pattern=r"^(Starting|Running|Updating|Stopped|Error|Deleted)$(?!\n)")]
    nodes: Size = 0  #: worker nodes that were seen
    message: Text = ""


ClusterEvent = ClusterCreated | ResizeRequested | TerminateRequested | ClusterStatusChanged
"""Any event about a cluster."""
