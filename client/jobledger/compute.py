"""Schedulers and clusters: Tethys Platform's Compute API, over the network.

Created schedulers are local until `save()`. Credentials are sent once and sealed there; no answer ever contains them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from jobledger.connection import Connection, default_connection
from jobledger.errors import InvalidArgument, NotFound
from jobledger.pool import Looks
from jobledger_contracts.scheduler_events import SchedulerName

SECRETS = ("password", "private_key", "private_key_pass", "token", "certificate", "ca_certificate")
NAME_RULE = "has up to 128 letters, digits, dots, hyphens and underscores, and begins with a letter or a digit"


def check_scheduler_name(name: str) -> str:
    """Return the name of a scheduler if it can be one. Raises `InvalidArgument`, with the rule in words."""
    if not is_scheduler_name(name):
        raise InvalidArgument(f"{name[:200]!r} is no name of a scheduler: it {NAME_RULE}")
    return name


def is_scheduler_name(name: str) -> bool:
    """True for what the contracts allow as a scheduler's name."""
    try:
        msgspec.convert(name, SchedulerName)
    except msgspec.ValidationError:
        return False
    return True


class SchedulerView(msgspec.Struct, frozen=True, kw_only=True):
    """A scheduler as the service shows it; who is no administrator sees its name, type and health only."""

    name: str
    type: str = ""
    health: str = ""  #: up, degraded, down or unknown
    version: str = ""  #: what the scheduler says of itself
    host: str | None = None
    port: int | None = None
    transport: str | None = None
    schedd_name: str | None = None
    username: str | None = None
    known_host_key: str | None = None
    dashboard: str | None = None
    timeout_s: float | None = None
    max_runs: int | None = None
    event_log: str | None = None
    heartbeat_interval_s: float | None = None
    health_detail: str | None = None
    secrets_set: list[str] | None = None  #: which credentials are kept there


class CheckStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a check, what it found, and what to do about it."""

    name: str  #: dns, tcp, host_key, answer, authentication, authorization, version, queue, slots, workers or clock
    title: str
    outcome: str  #: ok, failed or skipped
    time_ms: float = 0.0
    explanation: str = ""
    advice: str = ""


class SchedulerCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What came of contacting a scheduler."""

    name: str
    reachable: bool
    latency_ms: float = 0.0
    version: str = ""
    identity: str = ""  #: who Jobledger is to it
    detail: str = ""  #: why the first step that failed did
    steps: list[CheckStep] = []  #: in the order in which they were taken


class Scheduler(Looks):
    """An HTCondor pool or a Dask scheduler that jobs can be handed to. Assign it to a job's `scheduler`, or use its name."""

    def __init__(self, name: str, type: str, host: str, *, connection: Connection | None = None, **more: Any) -> None:
        self.name, self.type, self.host = name, type, host
        self.port = int(more.pop("port", 0) or 0)
        self.transport = str(more.pop("transport", "") or "")
        self.schedd_name = str(more.pop("schedd_name", "") or "")
        self.username = str(more.pop("username", "") or "")
        self.known_host_key = str(more.pop("known_host_key", "") or "")
        self.dashboard = str(more.pop("dashboard", "") or "")
        self.timeout_s: float | None = more.pop("timeout_s", None)
        self.max_runs = int(more.pop("max_runs", 0) or 0)  #: how many runs it has at a time; 0: any number
        self.event_log = str(more.pop("event_log", "") or "")
        self.heartbeat_interval_s = float(more.pop("heartbeat_interval_s", 0) or 0)  #: 0: never
        secrets = {name: more.pop(name, None) for name in SECRETS}
        self._secrets = {name: str(value) for name, value in secrets.items() if value}
        self.health, self.health_detail, self.version = "", "", ""
        self._saved = False
        self._connection = connection
        if unknown := [name for name, value in more.items() if value is not None]:
            raise TypeError(f"a scheduler has no {', '.join(unknown)}")

    @property
    def connection(self) -> Connection:
        """How Jobledger is reached."""
        return self._connection or default_connection()

    def save(self, *, replace: bool = False) -> None:
        """Register the scheduler, or send what it is now if it came from there. Administrators only. Safe to repeat.

        Raises `Refused` when another one has the name, unless `replace`: then that one becomes this one, and credentials that are not
        given stay as they are. Raises `InvalidArgument` for what cannot be a name.
        """
        check_scheduler_name(self.name)
        body = {
            "name": self.name,
            "type": self.type,
            "host": self.host,
            "port": self.port,
            "transport": self.transport,
            "schedd_name": self.schedd_name,
            "username": self.username,
            "known_host_key": self.known_host_key,
            "dashboard": self.dashboard,
            "timeout_s": self.timeout_s,
            "max_runs": self.max_runs,
            "event_log": self.event_log,
            "heartbeat_interval_s": self.heartbeat_interval_s,
            **self._secrets,
        }
        body = {name: value for name, value in body.items() if value}
        if self._saved or replace:
            self.connection.schedulers.put(f"/schedulers/{self.name}", body)
        else:
            self.connection.schedulers.post("/schedulers", body)
        self._saved = True

    def check(self) -> SchedulerCheck:
        """Have the service contact the scheduler now; returns what it found."""
        return msgspec.convert(self.connection.schedulers.post(f"/schedulers/{self.name}/check"), SchedulerCheck, strict=False)

    def delete(self, *, force: bool = False) -> None:
        """Take it out of the registry. Refused while runs are on it, unless `force`: then they end with an error."""
        self.connection.schedulers.delete(f"/schedulers/{self.name}", {"force": "true"} if force else None)

    @classmethod
    def from_view(cls, view: SchedulerView, connection: Connection | None = None) -> Scheduler:
        """The object for a scheduler that the service has told about."""
        names = ["port", "transport", "schedd_name", "username", "known_host_key", "dashboard", "timeout_s", "max_runs"]
        fields = {name: getattr(view, name) for name in (*names, "event_log", "heartbeat_interval_s")}
        scheduler = cls(view.name, view.type, view.host or "", connection=connection, **fields)
        scheduler.health, scheduler.health_detail, scheduler.version = view.health, view.health_detail or "", view.version
        scheduler._saved = True
        return scheduler

    def __repr__(self) -> str:
        return f"<Scheduler {self.name!r} ({self.type}) at {self.host}>"  # never its secrets


def list_schedulers(*, connection: Connection | None = None) -> list[Scheduler]:
    """All registered schedulers, by name."""
    link = connection or default_connection()
    views = (msgspec.convert(item, SchedulerView, strict=False) for item in link.schedulers.pages("/schedulers"))
    return [Scheduler.from_view(view, link) for view in views]


def get_scheduler(name: str, *, connection: Connection | None = None) -> Scheduler | None:
    """The scheduler of that name, or None when there is none."""
    if not is_scheduler_name(name):
        return None
    link = connection or default_connection()
    try:
        answer = link.schedulers.get(f"/schedulers/{name}")
    except NotFound:
        return None
    return Scheduler.from_view(msgspec.convert(answer, SchedulerView, strict=False), link)


def create_scheduler(name: str, host: str, scheduler_type: str = "condor", *, type: str | None = None, **kwargs: Any) -> Scheduler:
    """Make a scheduler of a type, `condor` or `dask` (older code says `type=`). It is not registered before `save()`."""
    kind = type or scheduler_type
    if kind == "condor":
        return create_condor_scheduler(name, host, **kwargs)
    if kind == "dask":
        return create_dask_scheduler(name, host, **kwargs)
    raise ValueError(f"a scheduler is of type condor or dask, not {kind!r}")


def create_condor_scheduler(
    name: str,
    host: str,
    username: str | None = None,
    password: str | None = None,
    private_key_path: str | None = None,
    private_key_pass: str | None = None,
    *,
    port: int = 0,
    known_host_key: str = "",
    schedd_name: str = "",
    token: str | None = None,
    event_log: str = "",
    timeout_s: float | None = None,
    connection: Connection | None = None,
) -> Scheduler:
    """Make an HTCondor scheduler; it is not registered before `save()`.

    With a `token` (IDTOKEN) it is reached by HTCondor's own protocol; with a username and a password or key by SSH, as Tethys does, at port
    22 unless another is given. The private key is read here and sent, not its path; raises OSError when it cannot be read.
    `known_host_key` is the server's public key (a line of `ssh-keyscan`): without it `save()` fails, and its error shows the fingerprint of
    the key that the server has now, for an administrator to confirm. `event_log` is the path of the access point's event log (HTCondor's
    EVENT_LOG), as the service's machine sees it, or by SSH as the access point does: what changes is then noticed at once.
    """
    key = Path(private_key_path).expanduser().read_text() if private_key_path else None
    by_ssh = bool(username) and not token
    return Scheduler(
        name,
        "condor",
        host,
        connection=connection,
        port=port or (22 if by_ssh else 0),
        transport="ssh" if by_ssh else "bindings",
        schedd_name=schedd_name,
        username=username,
        known_host_key=known_host_key,
        password=password,
        private_key=key,
        private_key_pass=private_key_pass,
        token=token,
        event_log=event_log,
        timeout_s=timeout_s,
    )


def create_dask_scheduler(
    name: str,
    host: str,
    timeout: float | None = None,
    heartbeat_interval: float | None = None,
    dashboard: str | None = None,
    *,
    ca_file: str | None = None,
    certificate_file: str | None = None,
    private_key_path: str | None = None,
    private_key_pass: str | None = None,
    connection: Connection | None = None,
) -> Scheduler:
    """Make a Dask scheduler at `host` (`host:port` or an address such as `tls://host:port`); it is not registered before `save()`.

    `timeout` is in seconds, and so is `heartbeat_interval`: how often the service tells the scheduler that it lives; never, unless one is
    given. A `tls://` address needs the files that Dask's `Security` takes (PEM): they are read here and sent, not their paths. Raises
    OSError when one cannot be read.
    """
    address = host if "://" in host else f"tcp://{host}"
    return Scheduler(
        name,
        "dask",
        address,
        connection=connection,
        transport="tcp",
        timeout_s=timeout,
        heartbeat_interval_s=heartbeat_interval,
        dashboard=dashboard,
        ca_certificate=_content(ca_file),
        certificate=_content(certificate_file),
        private_key=_content(private_key_path),
        private_key_pass=private_key_pass,
    )


def _content(path: str | None) -> str | None:
    return Path(path).expanduser().read_text() if path else None


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster of machines, as it was last seen."""

    name: str
    provider: str = ""
    kind: str = ""  #: what it offers when it is ready: condor or dask
    status: str = ""
    size: int = 0  #: worker nodes that are wanted
    nodes: int = 0  #: worker nodes that were seen
    owner: str = ""
    message: str = ""


class ClusterManager:
    """The clusters that the provisioner knows. Reading only: this release does not start clusters on request."""

    def __init__(self, connection: Connection | None = None) -> None:
        self._link = connection or default_connection()

    def get_clusters(self) -> list[Cluster]:
        """All clusters."""
        return [msgspec.convert(item, Cluster, strict=False) for item in self._link.clusters.pages("/clusters")]

    def get_cluster(self, name: str) -> Cluster:
        """The cluster of that name. Raises `NotFound`."""
        return msgspec.convert(self._link.clusters.get(f"/clusters/{name}"), Cluster, strict=False)

    def get_cluster_or_none(self, name: str) -> Cluster | None:
        """The cluster of that name, or None."""
        try:
            return self.get_cluster(name)
        except NotFound:
            return None

    def cluster_exists(self, name: str) -> bool:
        """True when there is a cluster of that name."""
        return self.get_cluster_or_none(name) is not None


def get_cluster_manager(config_file: str | None = None, *, connection: Connection | None = None) -> ClusterManager:
    """The manager of clusters. TethysCluster's configuration files are not read: raises ValueError when one is given."""
    if config_file is not None:
        raise ValueError("TethysCluster's configuration files are not read: clusters are the provisioner service's")
    return ClusterManager(connection)
