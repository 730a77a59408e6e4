"""The statement of a page of jobs: only what is asked for stands in it, so that each combination gets the plan of its index.

Pages go by keyset: behind the last row of the page before, in an order that an index has. A viewer who does not see everything gets a
page of each source (own jobs, then those of each group), of which the first rows make the page. Indexes hold the beginnings of long
names, so longer names are compared twice. Pure; `store.py` executes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from .domain.rights import Viewer

NAME_BEGINNING: Final = 256  #: characters of a name that indexes have
NAME_KEY: Final = 'lower(left(s.name, 128)) COLLATE "C"'


class Order(msgspec.Struct, frozen=True):
    """An order that lists can have. `keys` are the columns that an index has before the job's id, from the most important one."""

    keys: tuple[str, ...]
    key_types: tuple[type[Any], ...]
    casts: tuple[str, ...]
    condition: str = ""  #: what the index leaves out, the list leaves out
    searches: bool = False  #: reads `job_search`


ORDERS: Final[dict[str, Order]] = {
    "creation_time": Order(("j.creation_time",), (datetime,), ("timestamptz",)),
    "execute_time": Order(("j.execute_time",), (datetime,), ("timestamptz",), "j.execute_time IS NOT NULL"),
    "completion_time": Order(("j.completion_time",), (datetime,), ("timestamptz",), "j.completion_time IS NOT NULL"),
    "name": Order((NAME_KEY,), (str,), ("text",), searches=True),
    "status": Order(("j.status", "j.creation_time"), (str, datetime), ("text", "timestamptz")),
}
"""What `order_by` may name."""


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the visible jobs are wanted. None: any."""

    label: str | None = None
    owner: str | None = None
    statuses: Sequence[str] | None = None
    status_texts: Sequence[str] | None = None  #: statuses of the jobs' own, beside `statuses`
    job_types: Sequence[str] | None = None
    scheduler: str | None = None
    groups: Sequence[str] | None = None  #: shared with one of these
    created_after: datetime | None = None  #: at or after; so are the others
    created_before: datetime | None = None
    executed_after: datetime | None = None
    executed_before: datetime | None = None
    completed_after: datetime | None = None
    completed_before: datetime | None = None
    name_contains: str | None = None
    properties: str | None = None  #: a JSON object that `extended_properties` contains


class _Statement:
    """Collects a statement's arguments."""

    def __init__(self) -> None:
        self.arguments: list[Any] = []
        self._known: dict[tuple[str, int], str] = {}

    def put(self, value: Any, cast: str) -> str:
        """The placeholder of a value, the same one for the same object."""
        key = (cast, id(value))
        if key not in self._known:
            self.arguments.append(value)
            self._known[key] = f"${len(self.arguments)}::{cast}"
        return self._known[key]


def page_statement(viewer: Viewer, wanted: JobFilter, order_by: str, behind: Sequence[Any] | None, limit: int) -> tuple[str, list[Any]]:
    """Write the statement of a page, and its arguments. `order_by` is one of `ORDERS`, with `-` before it the other way round.

    Its rows are those of `jobs`, with `id` as text and the order's keys as `key_0`, `key_1`. `behind` has the keys and the id of the
    last row of the page before.
    """
    backwards, order = order_by.startswith("-"), ORDERS[order_by.removeprefix("-")]
    way = " DESC" if backwards else ""
    statement = _Statement()
    most = statement.put(limit, "bigint")

    def conditions(scope: str, keys: Sequence[str], id_column: str) -> str:
        found = ["NOT j.deleted", scope, order.condition, *_conditions(wanted, statement, order)]
        if behind is not None:
            seen = [statement.put(value, cast) for value, cast in zip(behind, (*order.casts, "uuid"), strict=True)]
            found.append(f"({', '.join((*keys, id_column))}) {'<' if backwards else '>'} ({', '.join(seen)})")
        return " AND ".join(filter(None, found))

    def ordered(keys: Sequence[str], id_column: str) -> str:
        return f"ORDER BY {', '.join(f'{key}{way}' for key in (*keys, id_column))} LIMIT {most}"

    search = " JOIN job_search s USING (job_id)" if order.searches or wanted.properties is not None else ""
    id_column = "s.job_id" if order.searches else "j.job_id"

    named = ", ".join(f"{key} AS key_{n}" for n, key in enumerate(order.keys))

    def own(owner: str | None, columns: str) -> str:
        scope = _owned(owner, statement, order)
        return f"SELECT {columns} FROM jobs j{search} WHERE {conditions(scope, order.keys, id_column)} {ordered(order.keys, id_column)}"

    def shared(groups: Sequence[str]) -> str:
        # By its creation a group's job is found in the order wanted; for any other the group's jobs are looked through.
        by_creation = order is ORDERS["creation_time"]
        keys = ("jg.creation_time",) if by_creation else order.keys
        id_of_group = "jg.job_id" if by_creation else id_column
        columns = ", ".join(f"{key} AS key_{n}" for n, key in enumerate(keys))
        in_group = f"left(jg.group_name, {NAME_BEGINNING}) = left(g.name, {NAME_BEGINNING}) AND jg.group_name = g.name"
        scope = " AND ".join(filter(None, (in_group, _owned(wanted.owner, statement, order))))
        return (
            f"SELECT f.* FROM unnest({statement.put(groups, 'text[]')}) AS g (name) CROSS JOIN LATERAL ("
            f"SELECT {columns}, j.job_id FROM job_groups jg JOIN jobs j USING (job_id){search} "
            f"WHERE {conditions(scope, keys, id_of_group)} {ordered(keys, id_of_group)}) f"
        )

    if viewer.sees_all and wanted.groups is None:
        return own(wanted.owner, f"j.*, j.job_id::text AS id, {named}"), statement.arguments
    sources = []
    if not viewer.sees_all and wanted.owner in (None, viewer.user):
        sources.append(f"({own(viewer.user, f'{named}, j.job_id')})")
    if groups := sorted((wanted.groups or ()) if viewer.sees_all else viewer.groups):
        sources.append(shared(groups))
    if not sources:
        return f"SELECT j.* FROM jobs j WHERE false LIMIT {most}", statement.arguments
    seen_keys = [f"seen.key_{n}" for n in range(len(order.keys))]
    return (
        f"WITH seen AS ({' UNION '.join(sources)}) SELECT j.*, j.job_id::text AS id, {', '.join(seen_keys)} "
        f"FROM seen JOIN jobs j USING (job_id) {ordered(seen_keys, 'seen.job_id')}"
    ), statement.arguments


def _owned(owner: str | None, statement: _Statement, order: Order) -> str:
    """The condition that somebody owns a job, where the order's index has the owner."""
    return "" if owner is None else _is_name("s.owner" if order.searches else "j.owner", owner, statement)


def _is_name(column: str, name: str, statement: _Statement) -> str:
    given = statement.put(name, "text")
    if len(name) < NAME_BEGINNING:  # says all; a second comparison would make the planner think that there are fewer
        return f"left({column}, {NAME_BEGINNING}) = {given}"
    return f"left({column}, {NAME_BEGINNING}) = left({given}, {NAME_BEGINNING}) AND {column} = {given}"


def _conditions(wanted: JobFilter, statement: _Statement, order: Order) -> list[str]:
    """What a job must fulfil, whoever asks. (The owner is for the sources to say.)"""
    found = []
    if wanted.label is not None:
        found.append(_is_name("s.label" if order.searches else "j.label", wanted.label, statement))
    if wanted.statuses is not None and len(wanted.statuses) == 1 and not wanted.status_texts:
        found.append(f"j.status = {statement.put(wanted.statuses[0], 'text')}")
    elif wanted.statuses is not None or wanted.status_texts:
        either = []
        if wanted.statuses:
            either.append(f"j.status = ANY ({statement.put(wanted.statuses, 'text[]')})")
        if wanted.status_texts:
            either.append(f"(j.status = 'Other' AND j.status_text = ANY ({statement.put(wanted.status_texts, 'text[]')}))")
        found.append(f"({' OR '.join(either) or 'false'})")
    if wanted.job_types is not None:
        found.append(f"j.job_type = ANY ({statement.put(wanted.job_types, 'text[]')})")
    if wanted.scheduler is not None:
        found.append(f"j.scheduler = {statement.put(wanted.scheduler, 'text')}")
    if wanted.groups is not None:
        found.append(f"j.groups && {statement.put(wanted.groups, 'text[]')}")
    for column in ("created", "executed", "completed"):
        name = {"created": "creation", "executed": "execute", "completed": "completion"}[column]
        for bound, sign in (("after", ">="), ("before", "<")):
            if (moment := getattr(wanted, f"{column}_{bound}")) is not None:
                found.append(f"j.{name}_time {sign} {statement.put(moment, 'timestamptz')}")
    if wanted.name_contains is not None:
        found.append(f"strpos(lower(j.name), lower({statement.put(wanted.name_contains, 'text')})) > 0")
    if wanted.properties is not None:
        found.append(f"s.properties @> {statement.put(wanted.properties, 'jsonb')}")
    return found
