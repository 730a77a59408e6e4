"""Our own services, the one-shot initialisation before them, and their introduction to the pool and the Dask scheduler after."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec

from jobledger_devstack.condor import SUBMITTER, binaries_of, token
from jobledger_devstack.condor_config import SCHEDD_NAME
from jobledger_devstack.dask import dashboard_url, scheduler_address
from jobledger_devstack.errors import PartFailed
from jobledger_devstack.files import ensure_secret, write_atomically
from jobledger_devstack.layout import Layout
from jobledger_devstack.part import Context, Part
from jobledger_devstack.postgres import database_url
from jobledger_devstack.process import Argv, Launch
from jobledger_devstack.ssh import host_key

NOUNS = {"jobs": "jobs", "schedulers": "schedulers", "provisioner": "clusters"}
"""service -> the noun that prefixes its routes."""
PARTITIONS = 4


def base_environment(layout: Layout, *, bootstrap: str, database: str, jobs_port: int) -> dict[str, str]:
    """What every service gets. The database's password is in here: for environments, never for command lines."""
    return {
        "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "JOBLEDGER_DATABASE_URL": database,
        "JOBLEDGER_HTTP_HOST": "127.0.0.1",
        "JOBLEDGER_SECRETS_DIR": str(layout.secrets),
        "JOBLEDGER_WORKSPACES_URL": layout.workspaces.as_uri(),
        "JOBLEDGER_JOBS_URL": f"http://127.0.0.1:{jobs_port}",
        "JOBLEDGER_LOG_FORMAT": "json",
        "JOBLEDGER_PARTITIONS": str(PARTITIONS),
    }


def context_environment(context: Context) -> dict[str, str]:
    """`base_environment` of this stack as it is now."""
    ports, options = context.ports, context.options
    return base_environment(
        context.layout,
        bootstrap=f"127.0.0.1:{ports['kafka']}",
        database=options.database_url or database_url(context.layout, ports["postgres"]),
        jobs_port=ports["jobs"],
    )


def _backbone(context: Context) -> tuple[str, ...]:
    return ("kafka", "postgres") if context.options.has("postgres") else ("kafka",)


class Init(Part):
    """Creates the topics, the access schema and the administrator's key; does nothing when they are there."""

    name = "init"
    once = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.needs = _backbone(context)

    def port_names(self) -> tuple[str, ...]:
        # Chosen before any service starts, because each is told where the jobs service will be.
        return tuple(NOUNS)

    def launch(self) -> Launch:
        layout = self.context.layout
        for name in ("run-credential.key", "sealing.key"):
            ensure_secret(layout.secrets / name)
        environment = context_environment(self.context)
        write_atomically(layout.services_env, "".join(f"{name}={value}\n" for name, value in environment.items()), mode=0o600)
        argv: Argv = [sys.executable, "-m", "jobledger_kit.init", "--admin-key-file", layout.admin_key]
        return Launch(argv, self.context.users.invoking, {**_inherited(), **environment}, layout.home)


class Service(Part):
    """One of our services, as the invoking user."""

    needs = ("init",)

    def __init__(self, context: Context, name: str) -> None:
        super().__init__(context)
        self.name = name
        self._told: dict[str, str] = {}

    @property
    def port(self) -> int | None:
        return self.context.ports.get(self.name)

    def port_names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.context.ports[self.name]}"

    def launch(self) -> Launch:
        folder = self.context.layout.services / self.name
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        own = {"JOBLEDGER_HTTP_PORT": str(self.context.ports[self.name]), "JOBLEDGER_DATA_DIR": str(folder)}
        if self.name == "schedulers" and self.context.options.has("condor"):
            own["JOBLEDGER_CONDOR_TAIL"] = str(self.context.layout.condor / "condor_tail")
        self._told = context_environment(self.context)
        environment = {**_inherited(), **self._told, **own}
        return Launch([sys.executable, "-m", f"jobledger_{self.name}"], self.context.users.invoking, environment, folder, stop_grace_s=15)

    def stale(self) -> bool:
        return self._told != context_environment(self.context)

    async def probe(self) -> bool:
        async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
            try:
                answer = await client.get(f"{self.url}/{NOUNS[self.name]}/health/ready")
            except httpx.TransportError:
                return False
        return answer.status_code == 200


def _inherited() -> dict[str, str]:
    """Our own environment, for our own services: they may need the user's proxies, certificates or cloud settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("JOBLEDGER_API_KEY")}


class Registration(Part):
    """Introduces the local pool and the local Dask scheduler to the schedulers service."""

    name = "registration"
    once = True

    def __init__(self, context: Context, schedulers: Service) -> None:
        super().__init__(context)
        self._schedulers = schedulers
        chosen = [
            part for part, option in (("condor", "condor"), ("ssh", "ssh"), ("dask-scheduler", "dask")) if context.options.has(option)
        ]
        self.needs = (*NOUNS, *chosen)
        self._bodies: list[dict[str, Any]] = []

    def launch(self) -> None:
        context, ports, layout = self.context, self.context.ports, self.context.layout
        self._bodies = []
        if context.options.has("condor"):
            credential = layout.secrets / "condor.token"
            if not credential.exists():
                minted = token(layout, binaries_of(layout), context.users.jobs, SUBMITTER)
                write_atomically(credential, minted, mode=0o600)
            self._bodies.append(condor_body(ports["condor"], credential.read_text(), layout.condor_event_log))
        if context.options.has("ssh"):
            private_key = layout.ssh_key.read_text()
            self._bodies.append(
                condor_ssh_body(ports["ssh"], context.users.jobs.name, private_key, host_key(layout), layout.condor_event_log)
            )
        if context.options.has("dask"):
            self._bodies.append(dask_body(ports["dask"], ports["dask_dashboard"]))

    async def work(self) -> None:
        headers = {"Authorization": f"Bearer {self.context.layout.admin_key.read_text().strip()}"}
        async with httpx.AsyncClient(base_url=self._schedulers.url, headers=headers, timeout=15, trust_env=False) as client:
            for body in self._bodies:
                try:
                    await introduce(client, body, self.context.layout.home / "registered.json")
                except httpx.TransportError as error:
                    # Whether it arrived is unknown; saying it again does no harm.
                    raise PartFailed(self.name, f"the schedulers service does not answer: {error!r}") from error


async def introduce(client: httpx.AsyncClient, body: dict[str, Any], note: Path) -> None:
    """Create the scheduler; where it is known already, replace it if what we say of it has changed since we last said it.

    `note` is the file that remembers what was said. Raises `PartFailed` when the service refuses.
    """
    said: dict[str, str] = msgspec.json.decode(note.read_bytes()) if note.exists() else {}
    name, digest = body["name"], hashlib.sha256(msgspec.json.encode(body)).hexdigest()
    answer = await client.post("/schedulers", json=body)
    if answer.status_code in {200, 409}:
        if said.get(name) == digest and await _has_secrets(client, body):
            return
        answer = await client.put(f"/schedulers/{name}", json=body)
    if answer.is_error:
        raise PartFailed(Registration.name, f"the schedulers service refused {name}: {answer.status_code} {answer.text[:500]}")
    write_atomically(note, msgspec.json.encode({**said, name: digest}), mode=0o600)


async def _has_secrets(client: httpx.AsyncClient, body: dict[str, Any]) -> bool:
    """Credentials are no part of the log: a service whose database was lost knows the scheduler again, but not how to get in."""
    if "token" not in body:
        return True
    answer = await client.get(f"/schedulers/{body['name']}")
    return not answer.is_error and "token" in answer.json().get("secrets_set", ())


def condor_body(port: int, idtoken: str, event_log: Path) -> dict[str, Any]:
    """The local HTCondor pool as the schedulers service wants to be told of it."""
    where = {"host": "127.0.0.1", "port": port, "transport": "bindings", "schedd_name": SCHEDD_NAME}
    return {"name": "local-condor", "type": "condor", **where, "token": idtoken, "event_log": str(event_log)}


def condor_ssh_body(port: int, username: str, private_key: str, known_host_key: str, event_log: Path) -> dict[str, Any]:
    """The same pool by way of SSH to its access point."""
    where = {"host": "127.0.0.1", "port": port, "transport": "ssh", "username": username, "known_host_key": known_host_key}
    return {"name": "local-condor-ssh", "type": "condor", **where, "private_key": private_key, "event_log": str(event_log)}


def dask_body(port: int, dashboard_port: int) -> dict[str, Any]:
    """The local Dask scheduler, likewise."""
    where = {"host": scheduler_address(port), "dashboard": dashboard_url(dashboard_port)}
    return {"name": "local-dask", "type": "dask", **where}
