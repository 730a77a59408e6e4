"""Where Jobledger is and with which key to talk to it, and one HTTP client for each of its services.

Found in this order: what is passed in; the environment (`JOBLEDGER_JOBS_URL`, `JOBLEDGER_SCHEDULERS_URL`, `JOBLEDGER_CLUSTERS_URL`,
`JOBLEDGER_API_KEY` or `JOBLEDGER_API_KEY_FILE`); the `endpoints.json` that a local stack (`jobledger up`) leaves in its folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec

from jobledger.errors import NotConfigured, StillStarting
from jobledger.http import ServiceClient

SERVICES = ("jobs", "schedulers", "clusters")
NO_ADDRESS = (
    "do not know where Jobledger's {noun} service is: start a local stack with `jobledger up`, or set JOBLEDGER_{upper}_URL "
    "(and JOBLEDGER_API_KEY_FILE)"
)
NO_KEY = "there is no API key: set JOBLEDGER_API_KEY_FILE (or JOBLEDGER_API_KEY)"
STARTING = "the local stack in {home} is still starting; `jobledger status` shows how far it is"
SUPERVISOR = b"jobledger_devstack.supervisor"
"""What the command line of a local stack's supervisor holds."""


class _Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """What we read of a local stack's endpoints.json."""

    jobs_url: str = ""
    schedulers_url: str = ""
    clusters_url: str = ""
    admin_key_file: str = ""
    starting: bool = False  #: ours: the stack is on its way up, and what the file said of the time before counts no more


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What we read of a local stack's state.json."""

    running: bool = False
    complete: bool = False
    supervisor_pid: int | None = None


class Connection:
    """The addresses of the services and an API key. Cheap to make: nothing is contacted before the first call.

    May be shared by threads. Use it as a context manager, or `close()` it.
    """

    def __init__(
        self, *, jobs_url: str = "", schedulers_url: str = "", clusters_url: str = "", api_key: str = "", timeout_s: float = 30.0
    ) -> None:
        self.urls = {"jobs": jobs_url.rstrip("/"), "schedulers": schedulers_url.rstrip("/"), "clusters": clusters_url.rstrip("/")}
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._starting: Path | None = None
        self._clients: dict[str, ServiceClient] = {}

    @classmethod
    def discover(
        cls,
        *,
        jobs_url: str = "",
        schedulers_url: str = "",
        clusters_url: str = "",
        api_key: str = "",
        home: Path | None = None,
        environ: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> Self:
        """Find out where Jobledger is. Raises `NotConfigured` when what was named cannot be read.

        The local stack's administrator key is used for the local stack's addresses only: it is never sent elsewhere.
        """
        env = os.environ if environ is None else environ
        given = {"jobs": jobs_url, "schedulers": schedulers_url, "clusters": clusters_url}
        urls = {noun: given[noun] or env.get(f"JOBLEDGER_{noun.upper()}_URL", "") for noun in SERVICES}
        key = api_key or _key_from_environment(env)
        starting: Path | None = None
        if not any(urls.values()):
            place = home or _default_home(env)
            local = _local_stack(place)
            starting = place if local.starting else None
            urls = {"jobs": local.jobs_url, "schedulers": local.schedulers_url, "clusters": local.clusters_url}
            if not key and local.admin_key_file:
                key = _read_key(Path(local.admin_key_file), "the local stack's key file")
        found = cls(
            jobs_url=urls["jobs"], schedulers_url=urls["schedulers"], clusters_url=urls["clusters"], api_key=key, timeout_s=timeout_s
        )
        found._starting = starting
        return found

    @property
    def jobs(self) -> ServiceClient:
        """The jobs service."""
        return self._service("jobs")

    @property
    def schedulers(self) -> ServiceClient:
        """The schedulers service."""
        return self._service("schedulers")

    @property
    def clusters(self) -> ServiceClient:
        """The provisioner, which answers for clusters."""
        return self._service("clusters")

    def _service(self, noun: str) -> ServiceClient:
        client = self._clients.get(noun)
        if client is None:
            if self._starting is not None:
                raise StillStarting(STARTING.format(home=self._starting))
            if not self.urls[noun]:
                raise NotConfigured(NO_ADDRESS.format(noun=noun, upper=noun.upper()), f", or pass {noun}_url")
            if not self._api_key:
                raise NotConfigured(NO_KEY, ", or pass api_key")
            client = self._clients.setdefault(noun, ServiceClient(self.urls[noun], self._api_key, name=noun, timeout_s=self._timeout_s))
        return client

    def environment(self) -> dict[str, str]:
        """The variables by which a process of ours finds the same services with the same key. They hold a secret."""
        found = {f"JOBLEDGER_{noun.upper()}_URL": url for noun, url in self.urls.items() if url}
        return {**found, "JOBLEDGER_API_KEY": self._api_key} if self._api_key else found

    def close(self) -> None:
        """Close what was opened. The connection can be used again afterwards."""
        while self._clients:
            self._clients.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection {self.urls['jobs'] or 'without an address'}>"  # never the key


def _key_from_environment(env: Mapping[str, str]) -> str:
    if key := env.get("JOBLEDGER_API_KEY", "").strip():
        return key
    if file := env.get("JOBLEDGER_API_KEY_FILE", ""):
        return _read_key(Path(file).expanduser(), "JOBLEDGER_API_KEY_FILE")
    return ""


def _read_key(path: Path, what: str) -> str:
    try:
        key = path.read_text().strip()
    except OSError as error:
        raise NotConfigured(f"{what} {path} cannot be read: {error.strerror}") from error
    if not key:
        raise NotConfigured(f"{what} {path} is empty")
    return key


def _default_home(env: Mapping[str, str]) -> Path:
    """Where a local stack keeps its data when nobody says otherwise; the dev stack's own rule."""
    given = env.get("JOBLEDGER_HOME") or ("/var/lib/jobledger" if os.geteuid() == 0 else "~/.local/share/jobledger")
    return Path(given).expanduser()


def _local_stack(home: Path) -> _Endpoints:
    if _is_starting(home):
        return _Endpoints(starting=True)
    path = home / "endpoints.json"
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return _Endpoints()
    except OSError as error:
        raise NotConfigured(f"{path} cannot be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(raw, type=_Endpoints)
    except msgspec.MsgspecError as error:
        raise NotConfigured(f"{path} is damaged ({error}); `jobledger up` writes it anew") from error


def _is_starting(home: Path) -> bool:
    """True while a supervisor that lives says that not everything was ready yet. What cannot be read says nothing."""
    try:
        snapshot = msgspec.json.decode((home / "state.json").read_bytes(), type=_Snapshot)
        if not snapshot.running or snapshot.complete:
            return False
        # A supervisor that was killed leaves its last word behind, and its pid may be somebody else's by now.
        return SUPERVISOR in Path(f"/proc/{snapshot.supervisor_pid}/cmdline").read_bytes()
    except (OSError, msgspec.MsgspecError):
        return False


_shared: Connection | None = None


def default_connection() -> Connection:
    """The process's own connection, found by `Connection.discover()` at the first call that needs one."""
    global _shared  # noqa: PLW0603 - one per process, as Tethys' SDK has it
    if _shared is None or not any(_shared.urls.values()):
        _shared = Connection.discover()
    return _shared
