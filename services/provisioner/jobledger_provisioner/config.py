"""The settings of the provisioner service. Durations are in seconds and sizes in bytes, as their names say."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from jobledger_kit.config import ServiceSettings

ROLES: Final = ("all", "api", "projector")


class ProvisionerSettings(ServiceSettings, frozen=True, kw_only=True):
    """What the provisioner service needs to be told beyond what every service does."""

    http_port: Annotated[int, Meta(ge=0, le=65_535, description="port to listen on; 0 takes a free one")] = 8002
    read_wait_s: Annotated[float, Meta(ge=0, le=60, description="how long a read with `after` waits for the projection")] = 5.0
    database_connections: Annotated[int, Meta(ge=2, le=200, description="connections to PostgreSQL, at most")] = 4
