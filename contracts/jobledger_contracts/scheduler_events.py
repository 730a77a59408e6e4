"""What can be said about a scheduler: the HTCondor pools and Dask schedulers that runs are handed to.

Keyed by the scheduler's name, which is unique. Credentials never appear here.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

SchedulerName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)")]
SchedulerType = Annotated[str, Meta(pattern=r"^(condor|dask)$(?!\n)")]
Text = Annotated[str, Meta(max_length=2048)]


class SchedulerDescription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a scheduler is and how it is reached."""

    name: SchedulerName
    type: SchedulerType
    host: Text  #: HTCondor: the collector's host, or the access point's for ssh; Dask: an address such as tcp://host:8786
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    transport: Annotated[str, Meta(pattern=r"^(bindings|ssh|tcp)$(?!\n)")] = "bindings"
    schedd_name: Text = ""  #: HTCondor: the schedd to locate; empty: the only one
    username: Text = ""  #: ssh: who logs in
    known_host_key: Annotated[str, Meta(max_length=8192)] = ""  #: ssh: the server's public keys, one a line; public, not secret
    dashboard: Text = ""  #: Dask: where people look
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 20.0
    max_runs: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  #: how many runs of ours it has at a time; 0: any number
    event_log: Text = ""  #: HTCondor: the path of the access point's event log, as whoever follows it sees it; empty: not followed
    heartbeat_interval_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0  #: Dask: how often we say that we live; 0: never


class SchedulerRegistered(SchedulerDescription, frozen=True, kw_only=True, omit_defaults=True):
    """A scheduler can be used from now on."""


class SchedulerChanged(SchedulerDescription, frozen=True, kw_only=True, omit_defaults=True):
    """How a scheduler is reached has changed; the whole new description."""


class SchedulerRemoved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A scheduler takes no more runs."""

    name: SchedulerName
    reason: Text = ""


class SchedulerHealthChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A scheduler was seen to answer, or not to."""

    name: SchedulerName
    health: Annotated[str, Meta(pattern=r"^(up|degraded|down)$(?!\n)")]
    detail: Text = ""
    version: Text = ""  #: what the scheduler says of itself


SchedulerEvent = SchedulerRegistered | SchedulerChanged | SchedulerRemoved | SchedulerHealthChanged
"""Any event about a scheduler."""
