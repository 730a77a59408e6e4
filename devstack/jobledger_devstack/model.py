"""What a stack says of itself: the state of its parts, and the addresses at which they answer."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Phase(StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"
    """Another part must be ready first."""
    FETCHING = "fetching"
    """Its binaries or environment are being downloaded or built."""
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    """It died and is about to be started again."""
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


class PartStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One part, now."""

    name: str
    phase: Phase
    message: str = ""
    percent: int | None = None
    pid: int | None = None
    port: int | None = None
    restarts: int = 0
    since: datetime
    """When the part entered this phase (UTC)."""
    service: bool = True
    """False for a step that is done once and leaves no process."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The stack, now."""

    running: bool
    """True while its supervisor lives."""
    supervisor_pid: int | None = None
    supervisor_started: float = 0.0
    """The supervisor's start time as the kernel has it (epoch seconds): a pid alone may be somebody else's by now."""
    complete: bool = False
    """True once every part has been ready and the endpoints are written."""
    failure: str = ""
    """The part that could not be started, after which everything was stopped again; empty otherwise."""
    failure_reason: str = ""
    failure_log: str = ""
    parts: list[PartStatus] = []

    @property
    def ready(self) -> bool:
        """True when every part is."""
        return self.running and self.complete and all(part.phase is Phase.READY for part in self.parts)

    def part(self, name: str) -> PartStatus:
        """The part of that name; raises KeyError."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts answer; empty strings for parts that were not chosen. Holds the database password: keep it 0600."""

    home: str
    workspaces: str
    admin_key_file: str
    jobs_url: str = ""
    schedulers_url: str = ""
    clusters_url: str = ""
    kafka_bootstrap: str = ""
    database_url: str = ""
    collector: str = ""
    """host:port of the HTCondor collector (its one shared port)."""
    schedd_name: str = ""
    trust_domain: str = ""
    ssh_host: str = ""
    """The access point of the pool by SSH."""
    ssh_port: int = 0
    ssh_username: str = ""
    ssh_private_key_file: str = ""
    """A key without a passphrase. With `.encrypted` after it: another with one, which is in the file that ends with `.passphrase`."""
    ssh_host_key: str = ""
    """The server's public key, as a line of a known_hosts file has it, without the host."""
    dask_address: str = ""
    dask_dashboard: str = ""
    jobs_python: str = ""
    """The interpreter of the jobs' environment: what a job should run, and what the Dask workers run on."""
