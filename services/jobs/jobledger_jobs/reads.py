"""What requests read: one job, pages of jobs and of history, each with the right to see it checked and as fresh as asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import asyncpg

from jobledger_contracts import topics
from jobledger_contracts.ids import Position, is_job_id
from jobledger_contracts.invalid import InvalidEvent
from jobledger_contracts.json_text import read_json
from jobledger_contracts.statuses import TERMINAL, parse_status
from jobledger_kit.credentials import RunClaims
from jobledger_kit.errors import Conflict, FieldError, Forbidden, InvalidRequest, NotFound, Unavailable
from jobledger_kit.pagination import cut_page, decode_cursor

from .domain.rights import Right, Viewer, right_to
from .inputs import CountQuery, HistoryQuery, ListQuery
from .listing import ORDERS, JobFilter
from .requests import PassedPositions
from .store import HistoryOrder, JobsStore
from .views import utc

_MOMENTS: Final = ("created_after", "created_before", "executed_after", "executed_before", "completed_after", "completed_before")
_LARGEST_SEQUENCE: Final = (1 << 63) - 1


class Late(Unavailable):
    """The projection has not come to the position that was asked for."""

    def __init__(self, position: Position) -> None:
        super().__init__(f"The read model has not come to {position} yet.", retry_after_s=1.0)
        self.position = position


class Reads:
    """Answers questions from the read model. `wait_s` bounds the wait for a position."""

    def __init__(self, store: JobsStore, positions: PassedPositions, wait_s: float) -> None:
        self._store, self._positions, self._wait_s = store, positions, wait_s

    async def fresh(self, after: Position | None) -> None:
        """Wait until the projection has passed a position. Raises Late."""
        if after is not None and not await self._positions.wait(topics.JOBS, after, self._wait_s):
            raise Late(after)

    async def job(self, job_id: str, viewer: Viewer, need: Right = Right.READ, *, deleted: bool = False) -> asyncpg.Record:
        """A job's row. Raises NotFound when it is not there for these eyes, Forbidden when it may only be looked at.

        With `deleted`, a deleted job is found too, by those who might have changed it.
        """
        row = await self._store.job(job_id) if is_job_id(job_id) else None
        right = Right.NONE if row is None else right_to(viewer, row["owner"], row["groups"])
        if row is None or right is Right.NONE or (row["deleted"] and not (deleted and right is Right.WRITE)):
            raise NotFound("job", job_id)
        if right < need:
            raise Forbidden("Only the job's owner or an administrator may do this.")
        return row

    async def current_run(self, job_id: str, claims: RunClaims) -> asyncpg.Record:
        """The row of the job whose run shows its credential; it may be behind that. Raises NotFound for any other job, and Conflict when
        the run is over."""
        row = await self._store.job(job_id) if job_id == claims.job_id else None
        if row is None or row["deleted"]:
            raise NotFound("job", job_id)
        if row["run"] > claims.run or (row["run"] == claims.run and parse_status(row["status"])[0] in TERMINAL):
            raise Conflict(f"Run {claims.run} is over: its folder stays as it is.")
        return row

    async def page(self, viewer: Viewer, query: ListQuery) -> tuple[list[asyncpg.Record], str | None]:
        """A page of the jobs that the viewer may see, and the next page's cursor. Raises InvalidRequest."""
        order = ORDERS[query.order_by.removeprefix("-")]
        behind = None if query.cursor is None else _behind(query.cursor, query.order_by)
        rows = await self._store.page(viewer, job_filter(query), query.order_by, behind, query.limit + 1)
        keys = range(len(order.keys))
        return cut_page(rows, query.limit, lambda row: (query.order_by, *(_key(row[f"key_{n}"]) for n in keys), row["id"]))

    async def own_page(self, viewer: Viewer, query: ListQuery) -> tuple[list[asyncpg.Record], str | None]:
        """As `page`, of the jobs that the viewer may change."""
        if viewer.admin:
            return await self.page(viewer, query)
        if query.user not in (None, viewer.user):
            raise Forbidden("Only an administrator chooses among the jobs of others.")
        return await self.page(Viewer(viewer.user), query)

    async def counts(self, viewer: Viewer, query: CountQuery) -> dict[str, int]:
        """How many jobs have which status. Raises Forbidden for those of others, InvalidRequest."""
        if query.user is not None and query.group is not None:
            raise InvalidRequest(errors=[FieldError("?group", "either a user or a group")])
        if query.group is not None:
            if not viewer.sees_all and query.group not in viewer.groups:
                raise Forbidden("Only the members of a group count its jobs.")
            return await self._store.counts("group", query.group, query.label)
        owner = query.user if query.user is not None or viewer.sees_all else viewer.user
        if owner is None:
            return await self._store.counts("any", "", query.label)
        if not viewer.sees_all and owner != viewer.user:
            raise Forbidden("Only an administrator counts the jobs of others.")
        return await self._store.counts("owner", owner, query.label)

    async def history(self, job_id: str, viewer: Viewer, query: HistoryQuery) -> tuple[list[asyncpg.Record], str | None]:
        """A page of a job's history, and the next page's cursor. An admin sees also what was said of a job that was never created.

        Raises NotFound and InvalidRequest.
        """
        if not viewer.sees_all or not is_job_id(job_id):
            await self.job(job_id, viewer, deleted=True)
        order: HistoryOrder = "newest" if query.order_by.startswith("-") else "oldest"
        behind = decode_cursor(query.cursor, tuple[int])[0] if query.cursor is not None else None
        if behind is not None and not 0 <= behind <= _LARGEST_SEQUENCE:
            raise InvalidRequest(errors=[FieldError("?cursor", "this is no cursor of this list")])
        rows = await self._store.history(job_id, order, behind, query.limit + 1)
        if not rows and behind is None:
            raise NotFound("job", job_id)
        return cut_page(rows, query.limit, lambda row: (row["version"],))


def job_filter(query: ListQuery) -> JobFilter:
    """Read a list's filters. Raises InvalidRequest for a status or a time that is none."""
    problems = []
    statuses: set[str] = set()
    for text in query.status:
        status, custom = parse_status(text)
        if custom:
            problems.append(FieldError("?status", f"{text[:100]!r} is no status and no status code"))
        statuses.add(status.value)
    for name in _MOMENTS:
        moment: datetime | None = getattr(query, name)
        if moment is not None and moment.tzinfo is None:
            problems.append(FieldError(f"?{name}", "a time without its zone; write Z or an offset behind it"))
    properties = None
    if query.extended_properties is not None:
        try:
            if not isinstance(read_json(query.extended_properties.encode()), dict):
                problems.append(FieldError("?extended_properties", "a JSON object is expected"))
            properties = query.extended_properties
        except (InvalidEvent, UnicodeEncodeError):
            problems.append(FieldError("?extended_properties", "this is no JSON"))
    if problems:
        raise InvalidRequest(errors=problems)
    return JobFilter(
        label=query.label,
        owner=query.user,
        statuses=sorted(statuses) or None,
        job_types=sorted(set(query.job_type)) or None,
        scheduler=query.scheduler,
        groups=sorted(set(query.group)) or None,
        **{name: getattr(query, name) for name in _MOMENTS},
        name_contains=query.q or None,
        properties=properties,
    )


def _behind(cursor: str, order_by: str) -> tuple[Any, ...]:
    """The keys and the id that a page's cursor holds. Raises InvalidRequest."""
    order = ORDERS[order_by.removeprefix("-")]
    kind: Any = tuple.__class_getitem__((str, *order.key_types, str))
    said: tuple[Any, ...] = decode_cursor(cursor, kind)
    of_order, *keys, job_id = said
    if of_order != order_by or not is_job_id(job_id) or any(isinstance(key, datetime) and key.tzinfo is None for key in keys):
        raise InvalidRequest(errors=[FieldError("?cursor", "this is no cursor of this list")])
    if any(isinstance(key, str) and "\0" in key for key in keys):
        raise InvalidRequest(errors=[FieldError("?cursor", "this is no cursor of this list")])
    return (*keys, job_id)


def _key(value: Any) -> Any:
    return utc(value) if isinstance(value, datetime) else value
