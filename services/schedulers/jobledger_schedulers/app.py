"""The composition root: the only place that builds adapters from settings, and parts of the service from adapters."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
import structlog

from jobledger_contracts import topics
from jobledger_contracts.scheduler import Scheduler
from jobledger_kit.application import Application, Check, build_app
from jobledger_kit.auth import Access
from jobledger_kit.bus import KafkaBus
from jobledger_kit.clock import Clock, SystemClock
from jobledger_kit.deadletter_routes import DeadLetterRoutes
from jobledger_kit.deadletters import DeadLetters
from jobledger_kit.effects import EffectLedger
from jobledger_kit.errors import Unavailable
from jobledger_kit.keyring import RUN_CREDENTIAL_KEY, SEALING_KEY, KeyRing
from jobledger_kit.lifecycle import Part, http_part, run_service
from jobledger_kit.positions import Positions
from jobledger_kit.projector import Projector
from jobledger_kit.seal import Sealer
from jobledger_kit.tokens import Tokens

from .adapters import open_adapter, open_view
from .adapters.htcondor_ssh.host_keys import shown_key
from .adapters.port import AdapterSettings, SchedulerAdapter
from .adapters.views import PoolView, WorkersView
from .app_settings import AppSettings
from .catchup import caught_up, log_ends
from .config import SchedulersSettings
from .first_aid import FirstAid
from .inspection import Inspection
from .lane import Backoff
from .output_routes import OutputRoutes
from .pool_routes import PoolRoutes
from .reactors import react
from .reconciler import Reconciler
from .requests import Registry
from .routes import SchedulerRoutes
from .setting_routes import SettingRoutes
from .staging import Staging
from .store import SchedulersStore
from .troubles import TROUBLES, in_words
from .vault import Credentials, Vault

TITLE: Final = "Jobledger schedulers"
DESCRIPTION: Final = "The HTCondor pools and Dask schedulers that runs are handed to: how they are reached, and whether they answer."
JOBS_CONSUMER: Final = "schedulers"  #: folds the events of jobs, and asks for effects
REGISTRY_CONSUMER: Final = "schedulers.registry"  #: folds the events of schedulers

log = structlog.get_logger(__name__)


class Adapters(msgspec.Struct, frozen=True):
    """What talks to the world, schedulers excepted."""

    store: SchedulersStore
    bus: KafkaBus
    access: Access
    run_keys: KeyRing
    vault: Vault
    jobs_positions: Positions
    registry_positions: Positions
    clock: Clock


async def open_adapters(settings: SchedulersSettings, stack: AsyncExitStack) -> Adapters:
    """Connect; the stack closes what was opened. Raises MigrationError, BadSecret, OSError and asyncpg's errors."""
    clock = SystemClock()
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    run_keys = KeyRing.load(settings.secrets_dir, RUN_CREDENTIAL_KEY)
    vault = Vault(Sealer(KeyRing.load(settings.secrets_dir, SEALING_KEY)))
    store = await SchedulersStore.open(settings.database_url, max_size=settings.database_connections)
    stack.push_async_callback(store.close)
    bus = KafkaBus(
        settings.kafka_bootstrap_servers,
        f"schedulers-{settings.instance_id}",
        security=settings.kafka_security(),
        topic_prefix=settings.topic_prefix,
    )
    stack.push_async_callback(bus.stop)
    access = Access(store.pool, run_keys, clock=clock, tokens=Tokens.of(settings, clock))
    return Adapters(store, bus, access, run_keys, vault, Positions(store, JOBS_CONSUMER), Positions(store, REGISTRY_CONSUMER), clock)


def adapter_settings(state: Scheduler, credentials: Credentials, private_dir: Path) -> AdapterSettings:
    """How an adapter reaches a scheduler."""
    return AdapterSettings(
        name=state.name,
        type=state.type,
        host=state.host,
        port=state.port,
        transport=state.transport,
        schedd_name=state.schedd_name,
        username=state.username,
        known_host_key=state.known_host_key,
        event_log=state.event_log,
        heartbeat_interval_s=state.heartbeat_interval_s,
        timeout_s=state.timeout_s,
        private_dir=private_dir,
        token=credentials.token,
        password=credentials.password,
        private_key=credentials.private_key,
        private_key_pass=credentials.private_key_pass,
        certificate=credentials.certificate,
        ca_certificate=credentials.ca_certificate,
    )


class Checking:
    """An adapter or view that leaves nothing behind: for looks, which must not touch the folder of the work that goes on."""

    def __init__(self, state: Scheduler, credentials: Credentials, folder: Path, opened: Callable[[AdapterSettings], Any]) -> None:
        self._folder = folder / uuid4().hex
        self._adapter = opened(adapter_settings(state, credentials, self._folder))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    async def close(self) -> None:
        try:
            await self._adapter.close()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def build_inspection(settings: SchedulersSettings, adapters: Adapters) -> Inspection:
    """Build what looks at schedulers for people."""

    return Inspection(store=adapters.store, vault=adapters.vault, clock=adapters.clock, open_view=_looking(settings))


def _looking(settings: SchedulersSettings) -> Callable[[Scheduler, Credentials], PoolView | WorkersView]:
    def look(state: Scheduler, credentials: Credentials) -> PoolView | WorkersView:
        looking: Any = Checking(state, credentials, settings.data_dir / "checks", open_view)
        view: PoolView | WorkersView = looking
        return view

    return look


def build_reading(settings: SchedulersSettings, adapters: Adapters) -> Inspection:
    """Build what reads the output of runs that are not over."""
    return Inspection(store=adapters.store, vault=adapters.vault, clock=adapters.clock, open_view=_connecting(settings))


def _connecting(settings: SchedulersSettings) -> Callable[[Scheduler, Credentials], SchedulerAdapter]:
    def connect(state: Scheduler, credentials: Credentials) -> SchedulerAdapter:
        opened = partial(_open_adapter, settings)
        checking: Any = Checking(state, credentials, settings.data_dir / "checks", opened)
        adapter: SchedulerAdapter = checking
        return adapter

    return connect


def _open_adapter(settings: SchedulersSettings, how: AdapterSettings) -> SchedulerAdapter:
    return open_adapter(msgspec.structs.replace(how, condor_tail=settings.condor_tail))


def build_api(
    settings: SchedulersSettings, adapters: Adapters, checks: dict[str, Check], inspection: Inspection, reading: Inspection
) -> Application:
    """Build the HTTP application over the adapters."""
    first_aid = FirstAid(connect=_connecting(settings), open_view=_looking(settings), ask_key=shown_key, clock=adapters.clock)
    registry = Registry(
        store=adapters.store,
        bus=adapters.bus,
        positions=adapters.registry_positions,
        clock=adapters.clock,
        vault=adapters.vault,
        first_aid=first_aid,
        ask_key=shown_key,
        randomness=secrets.token_bytes,
        wait_s=settings.verdict_wait_s,
    )
    app_settings = AppSettings(
        store=adapters.store,
        bus=adapters.bus,
        positions=adapters.registry_positions,
        clock=adapters.clock,
        alone=registry.alone,
        randomness=secrets.token_bytes,
        wait_s=settings.verdict_wait_s,
    )
    routes = SchedulerRoutes(registry=registry, store=adapters.store)
    setting_routes = SettingRoutes(settings=app_settings, store=adapters.store)
    output = OutputRoutes(inspection=reading, store=adapters.store, consumer=JOBS_CONSUMER)
    letters = DeadLetterRoutes("schedulers", DeadLetters(adapters.store.pool), settings.partitions)
    return build_app(
        [*letters.routes(), *setting_routes.routes(), *routes.routes(), *PoolRoutes(inspection=inspection).routes(), *output.routes()],
        adapters.access,
        noun="schedulers",
        title=TITLE,
        description=DESCRIPTION,
        checks=checks,
        max_body_bytes=settings.max_body_bytes,
        access_log=settings.access_log,
    )


def consumer_parts(settings: SchedulersSettings, adapters: Adapters) -> list[Part]:
    """What reads the log: the jobs' events through Faust (or the plain loop), the schedulers' through the plain loop."""
    security = settings.kafka_security()
    reactor: type[Any] = Projector
    if settings.reactor == "faust":
        from jobledger_kit.reactor import FaustReactor

        reactor = FaustReactor
    jobs = reactor(
        consumer=JOBS_CONSUMER,
        topics=(topics.JOBS,),
        bootstrap_servers=settings.kafka_bootstrap_servers,
        store=adapters.store,
        react=react,
        instance_id=settings.instance_id,
        security=security,
        topic_prefix=settings.topic_prefix,
    )
    registry = Projector(
        consumer=REGISTRY_CONSUMER,
        topics=(topics.SCHEDULERS, topics.SETTINGS),
        bootstrap_servers=settings.kafka_bootstrap_servers,
        store=adapters.store,
        instance_id=settings.instance_id,
        security=security,
        topic_prefix=settings.topic_prefix,
    )
    return [Part(name="reactor", run=jobs.run), Part(name="registry", run=registry.run)]


def reconciler_part(settings: SchedulersSettings, adapters: Adapters) -> Part:
    """What acts: on schedulers, once the rows know what the log knew at the start."""

    def connect(state: Scheduler, credentials: Credentials) -> SchedulerAdapter:
        return open_adapter(adapter_settings(state, credentials, settings.data_dir / "schedulers" / state.name))

    reconciler = Reconciler(
        store=adapters.store,
        effects=EffectLedger(adapters.store.pool),
        bus=adapters.bus,
        clock=adapters.clock,
        settings=settings,
        connect=connect,
        vault=adapters.vault,
        staging=Staging(settings.data_dir, settings.workspaces_url),
        credential_key=adapters.run_keys.current,
        jobs_positions=adapters.jobs_positions,
        registry_positions=adapters.registry_positions,
    )

    async def catch_up() -> None:
        consumers = {topics.JOBS: JOBS_CONSUMER, topics.SCHEDULERS: REGISTRY_CONSUMER, topics.SETTINGS: REGISTRY_CONSUMER}
        backoff = Backoff()
        while True:
            try:
                ends = await log_ends(
                    settings.kafka_bootstrap_servers,
                    settings.kafka_security(),
                    tuple(consumers),
                    settings.partitions,
                    settings.topic_prefix,
                )
                break
            except TROUBLES as error:
                log.warning("The log does not answer", action="log_away", error=in_words(error))
                await backoff.wait()
        await caught_up(adapters.store, consumers, ends)
        log.info("Caught up with the log", action="caught_up")

    async def run() -> None:
        if await reconciler.unless_stopped(catch_up()):
            await reconciler.run()

    return Part(name="reconciler", run=run, stop=reconciler.stop, stop_timeout_s=8.0)


async def serve(settings: SchedulersSettings) -> int:
    """Run the parts that the role asks for, until a signal comes. Returns the exit code."""
    with suppress(FileNotFoundError):
        shutil.rmtree(settings.data_dir / "checks")  # what a crash has left
    async with AsyncExitStack() as stack:
        adapters = await open_adapters(settings, stack)
        checks: dict[str, Check] = {"database": adapters.access.ping, "log": adapters.bus.ping}
        parts = [
            Part(name="registry-positions", run=adapters.registry_positions.run),
        ]
        checks["positions"] = _positions_check(adapters.registry_positions)
        if settings.role in ("all", "reactors"):
            parts += consumer_parts(settings, adapters)
            parts += [Part(name="jobs-positions", run=adapters.jobs_positions.run), reconciler_part(settings, adapters)]
        if settings.role in ("all", "api"):
            inspection = build_inspection(settings, adapters)
            reading = build_reading(settings, adapters)
            parts += [Part(name="inspection", run=inspection.run), Part(name="reading", run=reading.run)]
            app = build_api(settings, adapters, checks, inspection, reading)
        else:
            app = build_app([], adapters.access, noun="schedulers", title=TITLE, checks=checks, access_log=settings.access_log)
        parts.append(http_part(app, host=settings.http_host, port=settings.http_port, data_dir=settings.data_dir))
        return await run_service(parts, shutdown_timeout_s=settings.shutdown_timeout_s)


def _positions_check(positions: Positions) -> Check:
    async def check() -> None:
        if not await positions.ready(timeout_s=0):
            raise Unavailable("The projection's announcements are not heard.")

    return check
