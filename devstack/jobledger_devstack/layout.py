"""Where everything of one stack lies: one data folder, nothing outside it but the shared parts cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


def default_home() -> Path:
    """`$JOBLEDGER_HOME`, else the place that suits who is asking."""
    return _folder("JOBLEDGER_HOME", as_root="/var/lib/jobledger", as_user="~/.local/share/jobledger")


def default_cache() -> Path:
    """`$JOBLEDGER_CACHE`, else the place that suits who is asking."""
    return _folder("JOBLEDGER_CACHE", as_root="/var/cache/jobledger", as_user="~/.cache/jobledger")


def _folder(variable: str, *, as_root: str, as_user: str) -> Path:
    given = os.environ.get(variable)
    return Path(given or (as_root if os.geteuid() == 0 else as_user)).expanduser().absolute()


@dataclass(frozen=True)
class Layout:
    """The paths of the stack whose data folder is `home`."""

    home: Path

    @property
    def options(self) -> Path:
        return self.home / "options.json"

    @property
    def ports(self) -> Path:
        return self.home / "ports.json"

    @property
    def state(self) -> Path:
        return self.home / "state.json"

    @property
    def endpoints(self) -> Path:
        return self.home / "endpoints.json"

    @property
    def pids(self) -> Path:
        return self.home / "pids.json"

    @property
    def up_lock(self) -> Path:
        return self.home / "up.lock"

    @property
    def supervisor_lock(self) -> Path:
        return self.home / "supervisor.lock"

    @property
    def services_env(self) -> Path:
        return self.home / "services.env"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def log(self, part: str) -> Path:
        return self.logs / f"{part}.log"

    @property
    def secrets(self) -> Path:
        return self.home / "secrets"

    @property
    def admin_key(self) -> Path:
        return self.secrets / "admin.key"

    @property
    def workspaces(self) -> Path:
        return self.home / "workspaces"

    @property
    def kafka(self) -> Path:
        return self.home / "kafka"

    @property
    def postgres(self) -> Path:
        return self.home / "postgres"

    @property
    def condor_event_log(self) -> Path:
        """Where the pool's access point says what happens to jobs."""
        return self.condor / "log" / "EventLog"

    @property
    def condor(self) -> Path:
        return self.home / "condor"

    @property
    def ssh(self) -> Path:
        return self.home / "ssh"

    @property
    def ssh_key(self) -> Path:
        """The key that opens the pool's SSH server. Beside it: one with a passphrase, and the passphrase."""
        return self.secrets / "ssh_key"

    @property
    def dask(self) -> Path:
        return self.home / "dask"

    @property
    def services(self) -> Path:
        return self.home / "services"
