"""This service's rows in PostgreSQL: the projection's writes, the reconciler's, and the reads of both.

Credentials are written here and nowhere else; they are sealed before they come, and opened after they leave.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

import asyncpg
import msgspec

from jobledger_contracts.job_events import JobCreated
from jobledger_contracts.nodes import Node
from jobledger_contracts.scheduler import Scheduler
from jobledger_contracts.setting import Setting
from jobledger_contracts.topics import JOBS, SCHEDULERS, SETTINGS
from jobledger_kit.database import Connection, Pool
from jobledger_kit.folds import FoldedBatch
from jobledger_kit.queries import load_queries
from jobledger_kit.store import LedgerStore

from .domain.nodes import Told
from .domain.runs import Phase, Run, Seen
from .projection import ReportedByUs, RunBegun, RunChange, Wanted, project

_SEEN = msgspec.json.Decoder(Seen)
_NODE = msgspec.json.Decoder(Node)
_CREATED = msgspec.json.Decoder(JobCreated)
_EVIDENCE = msgspec.json.Decoder(dict[str, Any])
_RUN_FIELDS = frozenset(Run.__struct_fields__)


class SchedulerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A scheduler as the registry's stream has it, with what is known of its credentials: which there are, never what they are."""

    state: Scheduler
    revision: UUID | None = None  #: of the credentials; another one after each change
    secret_fields: tuple[str, ...] = ()


class SettingRow(msgspec.Struct, frozen=True, kw_only=True):
    """What an app needs, with what is registered under the assigned name now."""

    state: Setting
    registered_type: str = ""  #: of the scheduler of that name; empty: there is none


class SealedCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials as they are kept."""

    revision: UUID
    fields: tuple[str, ...]
    sealed: bytes


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is over, whose output is to be collected before that is told."""

    run: Run
    seen: Seen
    evidence: dict[str, Any]


class SchedulersStore(LedgerStore):
    """The schema `schedulers`. asyncpg's errors pass through every method."""

    schema: ClassVar[str] = "schedulers"
    package: ClassVar[str | None] = "jobledger_schedulers"

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._own = load_queries("jobledger_schedulers", "queries.sql")

    # --- the projection ---

    async def write(self, connection: Connection, batch: FoldedBatch) -> None:
        changes: list[RunChange] = []
        for folded in batch.folded:
            if folded.record.topic == JOBS:
                changes += project(folded.before, folded.after, folded.event, folded.verdict, folded.record.recorded_at)
        await self._write_runs(connection, changes)
        states = sorted((state for (topic, _), state in batch.states.items() if topic == SCHEDULERS), key=lambda state: state.name)
        for state in states:
            await connection.execute(
                self._own["save_scheduler"], state.name, state.exists, state.version, msgspec.json.encode(state), state.health
            )

        settings: list[Setting] = [state for (topic, _), state in batch.states.items() if topic == SETTINGS]
        for one in sorted(settings, key=lambda setting: setting.setting):
            await connection.execute(
                self._own["save_setting"], one.label, one.name, one.exists, one.scheduler, one.version, msgspec.json.encode(one)
            )

    async def _write_runs(self, connection: Connection, changes: Sequence[RunChange]) -> None:
        """Begin runs first, then the last wish for each, then our own reports: so a batch may hold a whole life."""
        begun = sorted((c for c in changes if isinstance(c, RunBegun)), key=lambda c: c.run_id)
        if begun:
            await connection.execute(
                self._own["begin_runs"],
                [c.run_id for c in begun],
                [c.created.job_id for c in begun],
                [c.run for c in begun],
                [c.created.scheduler for c in begun],
                [msgspec.json.encode(c.created) for c in begun],
                [c.asked_at for c in begun],
                [c.correlation_id for c in begun],
                [c.causation_id for c in begun],
                [c.traceparent for c in begun],
            )
        wanted = sorted({c.run_id: c for c in changes if isinstance(c, Wanted)}.values(), key=lambda c: c.run_id)
        if wanted:
            await connection.execute(self._own["want"], [c.run_id for c in wanted], [c.desired for c in wanted], [c.at for c in wanted])
        reported: dict[str, ReportedByUs] = {}
        for change in changes:
            if isinstance(change, ReportedByUs):
                before = reported.get(change.run_id)
                reported[change.run_id] = change if before is None else _merge(before, change)
        rows = sorted(reported.values(), key=lambda c: c.run_id)
        if rows:
            await connection.execute(
                self._own["reported_by_us"], [c.run_id for c in rows], [c.ref for c in rows], [c.over for c in rows], [c.at for c in rows]
            )

    # --- the registry ---

    async def schedulers(self) -> list[SchedulerRow]:
        """All that were ever registered."""
        return [_scheduler(row) for row in await self.pool.fetch(self._own["schedulers"])]

    async def page_of_schedulers(self, after: str, limit: int) -> list[SchedulerRow]:
        """Registered ones, by name."""
        return [_scheduler(row) for row in await self.pool.fetch(self._own["page_of_schedulers"], after, limit)]

    async def scheduler(self, name: str) -> SchedulerRow | None:
        """One of them, a removed one as well."""
        row = await self.pool.fetchrow(self._own["scheduler"], name)
        return _scheduler(row) if row else None

    async def lock_scheduler(self, connection: Connection, name: str) -> None:
        """Wait until no other request changes this registration; the connection holds the lock until `unlock_scheduler`."""
        await connection.execute(self._own["lock_scheduler"], name)

    async def unlock_scheduler(self, connection: Connection, name: str) -> None:
        await connection.execute(self._own["unlock_scheduler"], name)

    async def credentials(self, name: str) -> SealedCredentials | None:
        row = await self.pool.fetchrow(self._own["credentials"], name)
        return SealedCredentials(revision=row["revision"], fields=tuple(row["fields"]), sealed=row["sealed"]) if row else None

    async def save_credentials(self, name: str, fields: Sequence[str], sealed: bytes) -> None:
        await self.pool.execute(self._own["save_credentials"], name, uuid4(), list(fields), sealed)

    async def all_credentials(self) -> dict[str, bytes]:
        """Scheduler -> what is sealed for it."""
        return {row["scheduler"]: row["sealed"] for row in await self.pool.fetch(self._own["all_credentials"])}

    async def reseal(self, name: str, before: bytes, after: bytes) -> bool:
        """Replace what is sealed by the same under another key. False: it was changed in between, and stays."""
        return await self.pool.fetchval(self._own["reseal"], name, before, after) is not None

    async def delete_credentials(self, name: str) -> None:
        await self.pool.execute(self._own["delete_credentials"], name)

    async def count_live_runs(self, name: str) -> int:
        count: int = await self.pool.fetchval(self._own["count_live_runs"], name)
        return count

    async def count_placed_runs(self, name: str) -> int:
        count: int = await self.pool.fetchval(self._own["count_placed_runs"], name)
        return count

    # --- what apps need ---

    async def page_of_settings(self, after: tuple[str, str], limit: int) -> list[SettingRow]:
        """Declared ones of all apps, by label and name."""
        return [_setting(row) for row in await self.pool.fetch(self._own["page_of_settings"], *after, limit)]

    async def settings_of(self, label: str) -> list[SettingRow]:
        """Those that an app has declared, by name."""
        return [_setting(row) for row in await self.pool.fetch(self._own["settings_of"], label)]

    async def setting(self, label: str, name: str) -> SettingRow | None:
        """One of them, if it is declared."""
        row = await self.pool.fetchrow(self._own["setting"], label, name)
        return _setting(row) if row else None

    # --- lanes ---

    async def lanes_with_work(self) -> set[str]:
        return {row["lane"] for row in await self.pool.fetch(self._own["lanes_with_work"])}

    async def hold_lanes(self, lanes: Collection[str], holder: str, incarnation: str, lease_s: float, *, retake: bool) -> set[str]:
        """Take over free lanes and prolong ours; `retake`: also those that an earlier life of this instance held. Returns what is ours."""
        rows = await self.pool.fetch(self._own["hold_lanes"], sorted(lanes), holder, incarnation, lease_s, retake)
        return {row["lane"] for row in rows}

    async def leave_lanes(self, incarnation: str) -> None:
        await self.pool.execute(self._own["leave_lanes"], incarnation)

    async def reopen_lane(self, lane: str) -> None:
        """Make due what a predecessor, or a call of ours that failed, has left in hand. Only for the lane's holder, between batches."""
        await self.pool.execute(self._own["reopen_lane"], lane)

    # --- runs ---

    async def runs(self, run_ids: Collection[str]) -> dict[str, Run]:
        rows = await self.pool.fetch(self._own["runs"], list(run_ids))
        return {row["run_id"]: _run(row) for row in rows}

    async def created(self, run_ids: Collection[str]) -> dict[str, JobCreated]:
        """What these runs are to do."""
        rows = await self.pool.fetch(self._own["created"], list(run_ids))
        return {row["run_id"]: _CREATED.decode(row["created"]) for row in rows}

    async def live_runs(self, scheduler: str, phase: Phase, limit: int = 200_000) -> list[Run]:
        return [_run(row) for row in await self.pool.fetch(self._own["live_runs"], scheduler, phase.value, limit)]

    async def forgotten_runs(self, scheduler: str, after_s: float, limit: int) -> list[str]:
        return [row["run_id"] for row in await self.pool.fetch(self._own["forgotten_runs"], scheduler, after_s, limit)]

    async def begin_submission(self, run_ids: Collection[str]) -> None:
        await self.pool.execute(self._own["begin_submission"], sorted(run_ids))

    async def place(self, handles: Mapping[str, str]) -> None:
        """Record which runs the scheduler has, under which id of its own."""
        placed = sorted(handles.items())
        seen = [msgspec.json.encode(Seen(ref=ref)) for _, ref in placed]
        await self.pool.execute(self._own["place"], [run_id for run_id, _ in placed], [ref for _, ref in placed], seen)

    async def stop_sent(self, run_ids: Collection[str]) -> None:
        await self.pool.execute(self._own["stop_sent"], sorted(run_ids))

    async def reported(self, looks: Iterable[tuple[Run, Seen, datetime]]) -> None:
        """Remember what was said of runs, and when it was seen."""
        rows = sorted(looks, key=lambda look: look[0].run_id)
        await self.pool.execute(
            self._own["reported"],
            [run.run_id for run, _, _ in rows],
            [msgspec.json.encode(seen) for _, seen, _ in rows],
            [at for _, _, at in rows],
        )

    async def begin_again(self, looks: Iterable[tuple[Run, Seen, datetime]]) -> None:
        """Remember what was said of runs that the scheduler has lost; from now on they are to be handed over."""
        rows = sorted(looks, key=lambda look: look[0].run_id)
        await self.pool.execute(
            self._own["begin_again"],
            [run.run_id for run, _, _ in rows],
            [msgspec.json.encode(seen) for _, seen, _ in rows],
            [at for _, _, at in rows],
        )

    async def missed(self, runs: Iterable[Run]) -> None:
        rows = sorted(runs, key=lambda run: run.run_id)
        await self.pool.execute(
            self._own["missed"], [r.run_id for r in rows], [r.missing_since for r in rows], [r.missing_looks for r in rows]
        )

    async def found_again(self, run_ids: Collection[str]) -> None:
        await self.pool.execute(self._own["found_again"], sorted(run_ids))

    async def begin_collection(self, endings: Iterable[Ending]) -> None:
        rows = sorted(endings, key=lambda ending: ending.run.run_id)
        await self.pool.execute(
            self._own["begin_collection"],
            [e.run.run_id for e in rows],
            [msgspec.json.encode(e.seen) for e in rows],
            [msgspec.json.encode(e.evidence) for e in rows],
        )

    async def to_collect(self, scheduler: str, limit: int) -> list[Ending]:
        rows = await self.pool.fetch(self._own["to_collect"], scheduler, limit)
        return [Ending(run=_run(row), seen=_SEEN.decode(row["ending"]), evidence=_EVIDENCE.decode(row["ending_evidence"])) for row in rows]

    async def collect_later(self, run_id: str, after_s: float) -> None:
        await self.pool.execute(self._own["collect_later"], run_id, after_s)

    async def ended(self, run_ids: Collection[str]) -> None:
        await self.pool.execute(self._own["ended"], sorted(run_ids))
        await self.pool.execute(self._own["forget_nodes"], sorted(run_ids))

    # --- nodes of workflows ---

    async def run_nodes(self, run_ids: Collection[str]) -> dict[str, dict[str, Told]]:
        """What was told of the nodes of runs: run -> node -> that."""
        found: dict[str, dict[str, Told]] = {}
        for row in await self.pool.fetch(self._own["run_nodes"], list(run_ids)):
            found.setdefault(row["run_id"], {})[row["node"]] = Told(_NODE.decode(row["state"]), row["told"])
        return found

    async def nodes_told(self, run_id: str, told: Iterable[Told]) -> None:
        """Remember what was told of a run's nodes."""
        rows = sorted(told, key=lambda one: one.node.name)
        await self.pool.execute(
            self._own["nodes_told"],
            run_id,
            [row.node.name for row in rows],
            [row.told for row in rows],
            [msgspec.json.encode(row.node) for row in rows],
        )


def _merge(before: ReportedByUs, after: ReportedByUs) -> ReportedByUs:
    return ReportedByUs(before.run_id, after.ref or before.ref, before.over or after.over, max(before.at, after.at))


def _scheduler(row: asyncpg.Record) -> SchedulerRow:
    state = msgspec.json.decode(row["state"], type=Scheduler)
    return SchedulerRow(state=state, revision=row["revision"], secret_fields=tuple(row["secret_fields"]))


def _setting(row: asyncpg.Record) -> SettingRow:
    state = msgspec.json.decode(row["state"], type=Setting)
    registered = msgspec.json.decode(row["scheduler_state"], type=Scheduler) if row["scheduler_state"] is not None else None
    return SettingRow(state=state, registered_type=registered.type if registered and registered.exists else "")


def _run(row: asyncpg.Record) -> Run:
    values = {name: value for name, value in row.items() if name in _RUN_FIELDS}
    for name in ("seen", "ending"):
        if values.get(name) is not None:
            values[name] = _SEEN.decode(values[name])
    values["phase"] = Phase(values["phase"])
    return Run(**values)
