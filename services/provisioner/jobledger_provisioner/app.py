"""The composition root: the only place that builds adapters from settings, and parts of the service from adapters."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

from jobledger_contracts import topics
from jobledger_kit.application import Application, Check, build_app
from jobledger_kit.auth import Access
from jobledger_kit.clock import SystemClock
from jobledger_kit.deadletter_routes import DeadLetterRoutes
from jobledger_kit.deadletters import DeadLetters
from jobledger_kit.keyring import RUN_CREDENTIAL_KEY, KeyRing
from jobledger_kit.lifecycle import Part, http_part, run_service
from jobledger_kit.positions import Positions
from jobledger_kit.projector import Projector
from jobledger_kit.tokens import Tokens

from .config import ProvisionerSettings
from .routes import ClusterRoutes
from .store import CONSUMER, ProvisionerStore

TITLE: Final = "Jobledger provisioner"
DESCRIPTION: Final = "Clusters: what is wanted of them, and what was seen of them."


def build_api(
    settings: ProvisionerSettings, store: ProvisionerStore, access: Access, positions: Positions, checks: dict[str, Check]
) -> Application:
    """Build the HTTP application over the adapters."""
    clusters = ClusterRoutes(store=store, positions=positions, wait_s=settings.read_wait_s)
    letters = DeadLetterRoutes("clusters", DeadLetters(store.pool, CONSUMER), settings.partitions)
    return build_app(
        [*letters.routes(), *clusters.routes()],
        access,
        noun="clusters",
        title=TITLE,
        description=DESCRIPTION,
        checks=checks,
        max_body_bytes=settings.max_body_bytes,
        access_log=settings.access_log,
    )


async def serve(settings: ProvisionerSettings) -> int:
    """Run the parts that the role asks for, until a signal comes. Returns the exit code."""
    async with AsyncExitStack() as stack:
        store = await ProvisionerStore.open(settings.database_url, max_size=settings.database_connections)
        stack.push_async_callback(store.close)
        clock = SystemClock()
        run_keys = KeyRing.load(settings.secrets_dir, RUN_CREDENTIAL_KEY)
        access = Access(store.pool, run_keys, clock=clock, tokens=Tokens.of(settings, clock))
        positions = Positions(store, CONSUMER)
        checks: dict[str, Check] = {"database": access.ping}
        parts: list[Part] = []
        if settings.role in ("all", "projector"):
            parts.append(_projector_part(settings, store))
        if settings.role in ("all", "api"):
            parts.append(Part(name="positions", run=positions.run))
            app = build_api(settings, store, access, positions, checks)
        else:
            app = build_app([], access, noun="clusters", title=TITLE, checks=checks, access_log=settings.access_log)
        parts.append(http_part(app, host=settings.http_host, port=settings.http_port, data_dir=settings.data_dir))
        return await run_service(parts, shutdown_timeout_s=settings.shutdown_timeout_s)


def _projector_part(settings: ProvisionerSettings, store: ProvisionerStore) -> Part:
    projector = Projector(
        consumer=CONSUMER,
        topics=(topics.CLUSTERS,),
        bootstrap_servers=settings.kafka_bootstrap_servers,
        store=store,
        instance_id=settings.instance_id,
        security=settings.kafka_security(),
        topic_prefix=settings.topic_prefix,
    )
    return Part(name="projector", run=projector.run)
