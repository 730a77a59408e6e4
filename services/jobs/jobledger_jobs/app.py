"""The composition root: the only place that builds adapters from settings, and parts of a service from adapters."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from jobledger_contracts import topics
from jobledger_kit import metrics
from jobledger_kit.application import Application, Check, build_app
from jobledger_kit.auth import Access
from jobledger_kit.bus import KafkaBus
from jobledger_kit.clock import Clock, SystemClock
from jobledger_kit.deadletter_routes import DeadLetterRoutes
from jobledger_kit.deadletters import DeadLetters
from jobledger_kit.effects import EffectLedger
from jobledger_kit.errors import Unavailable
from jobledger_kit.keyring import RUN_CREDENTIAL_KEY, KeyRing
from jobledger_kit.lifecycle import Part, http_part, run_service
from jobledger_kit.positions import Positions
from jobledger_kit.projector import Projector
from jobledger_kit.tokens import Tokens
from jobledger_kit.workspace import Workspaces

from .admin import AdminRoutes
from .bulk import Bulk
from .bulk_routes import BulkRoutes
from .callbacks import CallbackRoutes
from .config import JobsSettings
from .feed import Feed
from .files import FileRoutes
from .node_routes import NodeRoutes
from .processing import Processing
from .processing_routes import ProcessingRoutes
from .reactors import react
from .reads import Reads
from .reconciler import Reconciler
from .requests import Keep, Requests
from .routes import JobRoutes
from .store import CONSUMER, JobsStore

TITLE: Final = "Jobledger jobs"
DESCRIPTION: Final = (
    "Jobs, what is asked of them, their status callbacks and their history. Every write is an event in the log and answers with its "
    "position; a read with `after=<position>` shows at least that."
)


class Adapters(msgspec.Struct, frozen=True):
    """What talks to the world."""

    store: JobsStore
    bus: KafkaBus
    positions: Positions
    access: Access
    workspaces: Workspaces
    clock: Clock


async def open_adapters(settings: JobsSettings, stack: AsyncExitStack) -> Adapters:
    """Connect; the stack closes what was opened. Raises MigrationError, BadSecret, OSError and asyncpg's errors."""
    clock = SystemClock()
    store = await JobsStore.open(settings.database_url, max_size=settings.database_connections)
    stack.push_async_callback(store.close)
    bus = KafkaBus(
        settings.kafka_bootstrap_servers,
        f"{CONSUMER}-{settings.instance_id}",
        security=settings.kafka_security(),
        topic_prefix=settings.topic_prefix,
    )
    stack.push_async_callback(bus.stop)
    run_keys = KeyRing.load(settings.secrets_dir, RUN_CREDENTIAL_KEY)
    access = Access(store.pool, run_keys, clock=clock, tokens=Tokens.of(settings, clock))
    return Adapters(
        store, bus, Positions(store, CONSUMER), access, Workspaces(settings.workspaces_url, max_file_bytes=settings.max_upload_bytes), clock
    )


def build_api(settings: JobsSettings, adapters: Adapters, feed: Feed, checks: dict[str, Check]) -> Application:
    """Build the HTTP application over the adapters."""
    store, clock = adapters.store, adapters.clock
    wait_s = settings.verdict_wait_s
    requests = Requests(
        bus=adapters.bus,
        positions=adapters.positions,
        store=store,
        clock=clock,
        randomness=secrets.token_bytes,
        wait_s=wait_s,
        keep=keep_in(adapters.workspaces),
    )
    reads = Reads(store, adapters.positions, wait_s)
    jobs = JobRoutes(
        requests=requests, reads=reads, feed=feed, clock=clock, workspaces_url=settings.workspaces_url, partitions=settings.partitions
    )
    bulk = Bulk(requests=requests, bus=adapters.bus, positions=adapters.positions, store=store, wait_s=wait_s)
    many = BulkRoutes(bulk=bulk, reads=reads, view=jobs.view)
    callbacks = CallbackRoutes(
        requests=requests,
        reads=reads,
        access=adapters.access,
        clock=clock,
        jobs_url=settings.jobs_url,
        max_age_s=settings.credential_max_age_s,
    )
    files = FileRoutes(reads=reads, workspaces=adapters.workspaces, max_upload_bytes=settings.max_upload_bytes)
    nodes = NodeRoutes(reads=reads, store=store, workspaces=adapters.workspaces, partitions=settings.partitions)
    processing = ProcessingRoutes(
        processing=Processing(
            leases=store, requests=requests, attempts=settings.processing_attempts, first_retry_s=settings.processing_retry_s
        ),
        reads=reads,
        clock=clock,
        workspaces_url=settings.workspaces_url,
    )
    admin = AdminRoutes(access=adapters.access, clock=clock)
    letters = DeadLetterRoutes("jobs", DeadLetters(store.pool, CONSUMER), settings.partitions)
    return build_app(
        [part for group in (admin, letters, processing, many, jobs, nodes, files, callbacks) for part in group.routes()],
        adapters.access,
        noun="jobs",
        title=TITLE,
        description=DESCRIPTION,
        checks=checks,
        max_body_bytes=settings.max_body_bytes,
        access_log=settings.access_log,
    )


def keep_in(workspaces: Workspaces) -> Keep:
    """How requests put a file into a job's folder."""

    async def keep(job_id: str, path: str, content: bytes) -> None:
        async def whole() -> AsyncIterator[bytes]:
            yield content

        await workspaces.write(job_id, path, whole())

    return keep


async def serve(settings: JobsSettings) -> int:
    """Run the parts that the role asks for, until a signal comes. Returns the exit code."""
    async with AsyncExitStack() as stack:
        adapters = await open_adapters(settings, stack)
        parts: list[Part] = []
        checks: dict[str, Check] = {"database": adapters.access.ping, "log": adapters.bus.ping}
        if settings.role in ("all", "projector"):
            parts.append(_projector_part(settings, adapters, checks))
        if settings.role in ("all", "reactors"):
            reconciler = Reconciler(EffectLedger(adapters.store.pool), adapters.workspaces.remove)
            parts.append(Part(name="reconciler", run=reconciler.run))
        if settings.role in ("all", "api"):
            feed = Feed(adapters.store, adapters.positions, settings.partitions)
            checks["positions"] = _positions_check(adapters.positions)
            parts.append(Part(name="positions", run=adapters.positions.run))
            parts.append(Part(name="feed", run=feed.run))
            app = build_api(settings, adapters, feed, checks)
        else:
            app = build_app([], adapters.access, noun="jobs", title=TITLE, checks=checks, access_log=settings.access_log)
        parts.append(http_part(app, host=settings.http_host, port=settings.http_port, data_dir=settings.data_dir))
        return await run_service(parts, shutdown_timeout_s=settings.shutdown_timeout_s)


def _projector_part(settings: JobsSettings, adapters: Adapters, checks: dict[str, Check]) -> Part:
    projector = Projector(
        consumer=CONSUMER,
        topics=(topics.JOBS, topics.SCHEDULERS),
        bootstrap_servers=settings.kafka_bootstrap_servers,
        store=adapters.store,
        react=react,
        instance_id=settings.instance_id,
        security=settings.kafka_security(),
        topic_prefix=settings.topic_prefix,
    )
    checks["projection"] = lag_check(lambda: claimed_lag(projector), settings.max_lag)
    return Part(name="projector", run=projector.run)


def claimed_lag(projector: Projector) -> int | None:
    """How many records this instance's projection is behind, over the partitions that it has. None: not known yet."""
    lag = 0
    for topic, partition in projector.claims:
        lag += int(_gauge(topic, partition))
    return lag


def _gauge(topic: str, partition: int) -> float:
    return sum(sample.value for metric in metrics.LAG.labels(CONSUMER, topic, str(partition)).collect() for sample in metric.samples)


def lag_check(lag: Callable[[], int | None], most: int) -> Check:
    """A readiness check that fails while the projection is far behind. Its end is not to be asked for: it ends the process."""

    async def check() -> None:
        behind = lag()
        if behind is not None and behind > most:
            raise Unavailable(f"The projection is {behind} records behind.")

    return check


def _positions_check(positions: Positions) -> Check:
    async def check() -> None:
        if not await positions.ready(timeout_s=0):
            raise Unavailable("The projection's announcements are not heard.")

    return check
