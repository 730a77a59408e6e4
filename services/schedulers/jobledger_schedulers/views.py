"""The shapes of requests and answers. Secrets go in and never come out: an answer says only which are set."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from jobledger_contracts.scheduler_events import SchedulerName, SchedulerType, Text
from jobledger_kit.http import Input
from jobledger_kit.pagination import DEFAULT_LIMIT, MAX_LIMIT

from .store import SchedulerRow

Secret = Annotated[str, Meta(max_length=65_536, description="write only; absent: as it is; empty or null: none")]
HostKey = Annotated[
    str,
    Meta(
        max_length=8192, description="needed for ssh: the server's public keys, one a line, as ssh-keyscan or a known_hosts file has them"
    ),
]
EventLog = Annotated[
    str,
    Meta(
        max_length=2048,
        description="HTCondor: the absolute path of the access point's event log (EVENT_LOG), as the service's machine sees it, or for ssh "
        "as the access point does: status changes are then noticed at once; empty: it is not followed",
    ),
]
Heartbeat = Annotated[float, Meta(ge=0, le=3600, description="Dask: how often the service tells the scheduler that it lives; 0: never")]
Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]


class SchedulerBody(Input, frozen=True, kw_only=True):
    """A scheduler, how it is reached, and what gets us in."""

    name: SchedulerName
    type: SchedulerType
    host: Annotated[Text, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    transport: Literal["", "bindings", "ssh", "tcp"] = ""  #: empty: bindings for HTCondor, tcp for Dask
    schedd_name: Text = ""
    username: Text = ""
    known_host_key: HostKey = ""
    dashboard: Text = ""
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 20.0
    max_runs: Annotated[int, Meta(ge=0, le=1_000_000, description="how many runs it has at a time; 0: any number")] = 0
    event_log: EventLog = ""
    heartbeat_interval_s: Heartbeat = 0.0
    password: Secret | msgspec.UnsetType | None = msgspec.UNSET
    private_key: Secret | msgspec.UnsetType | None = msgspec.UNSET
    private_key_pass: Secret | msgspec.UnsetType | None = msgspec.UNSET
    token: Secret | msgspec.UnsetType | None = msgspec.UNSET
    certificate: Secret | msgspec.UnsetType | None = msgspec.UNSET
    ca_certificate: Secret | msgspec.UnsetType | None = msgspec.UNSET


class SchedulerView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A scheduler. Who is no administrator sees its name, its type, how it is and where its pages
    are; the rest is left out."""

    name: str
    type: str
    health: str  #: up, degraded, down or unknown
    version: str = ""  #: what the scheduler says of itself
    host: str | None = None
    port: int | None = None
    transport: str | None = None
    schedd_name: str | None = None
    username: str | None = None
    known_host_key: str | None = None
    dashboard: str | None = None
    timeout_s: float | None = None
    max_runs: int | None = None  #: how many runs it has at a time; 0: any number
    event_log: str | None = None
    heartbeat_interval_s: float | None = None
    health_detail: str | None = None
    health_time: datetime | None = None
    secrets_set: list[str] | None = None  #: the names of the credentials that are kept
    registered_time: datetime | None = None
    changed_time: datetime | None = None
    position: str | None = None  #: where the change that was asked for stands in the log


class SchedulerPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of schedulers. `next_cursor` is absent on the last page."""

    items: list[SchedulerView]
    next_cursor: str | None = None


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The request is in the log; our rows have not come to it yet."""

    name: str
    position: str


class CheckStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a check, what it found, and what to do about it."""

    name: str  #: dns, tcp, host_key, answer, authentication, authorization, version, queue, slots, workers or clock
    title: str
    outcome: Literal["ok", "failed", "skipped"]
    time_ms: float
    explanation: str
    advice: str = ""


class CheckView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of contacting a scheduler."""

    name: str
    reachable: bool
    latency_ms: float
    version: str = ""
    identity: str = ""  #: who we are to it
    detail: str = ""  #: why the first step that failed did
    steps: list[CheckStep] = []  #: in the order in which they were taken


class ResealView(msgspec.Struct, frozen=True, kw_only=True):
    """What came of sealing all credentials under the current key: names of schedulers."""

    key_id: str  #: of the current key
    resealed: list[str] = []  #: were under an earlier key
    current: list[str] = []  #: were under the current one already
    unreadable: list[str] = []  #: no key that is here opens them: register them again


class ListQuery(Input, frozen=True, kw_only=True):
    """Which schedulers to list."""

    limit: Limit = DEFAULT_LIMIT
    cursor: str | None = None


class RemoveQuery(Input, frozen=True, kw_only=True):
    """How to remove a scheduler."""

    force: bool = False  #: also when runs are on it: they end with an error, whatever becomes of them there


def scheduler_view(row: SchedulerRow, *, full: bool, position: str | None = None) -> SchedulerView:
    """Show a scheduler: all of it but its secrets, or what everybody may know."""
    state = row.state
    if not full:
        # Why it is degraded concerns whoever has runs there; why it is down may speak of addresses and credentials.
        why = state.health_detail if state.health == "degraded" else None
        return SchedulerView(
            name=state.name,
            type=state.type,
            health=state.health,
            version=state.scheduler_version,
            dashboard=state.dashboard or None,
            health_detail=why,
        )
    return SchedulerView(
        name=state.name,
        type=state.type,
        health=state.health,
        version=state.scheduler_version,
        host=state.host,
        port=state.port,
        transport=state.transport,
        schedd_name=state.schedd_name,
        username=state.username,
        known_host_key=state.known_host_key,
        dashboard=state.dashboard,
        timeout_s=state.timeout_s,
        max_runs=state.max_runs,
        event_log=state.event_log,
        heartbeat_interval_s=state.heartbeat_interval_s,
        health_detail=state.health_detail,
        health_time=state.health_time,
        secrets_set=list(row.secret_fields),
        registered_time=state.registered_time,
        changed_time=state.changed_time,
        position=position,
    )
