"""The nodes of a workflow over HTTP: as reported, and before anything was reported as the workflow has them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import datetime
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_contracts.job_events import NodeSpec, WorkflowSpec
from jobledger_contracts.nodes import NODE_STATUSES
from jobledger_contracts.statuses import CODES, Status, parse_status
from jobledger_contracts.workflows import node_folder, node_names, node_output
from jobledger_kit.errors import FieldError, InvalidRequest, JobledgerError, NotFound
from jobledger_kit.http import json_response, operation, principal_of, read_query
from jobledger_kit.pagination import cut_page, decode_cursor
from jobledger_kit.workspace import Workspaces

from .feed import parse_position
from .inputs import NodeQuery
from .reads import Late, Reads
from .routes import job_id_of, viewer_of
from .store import JobsStore
from .views import NodePage, NodeView, Row, node_counts, utc

CACHED: Final = 32
MAX_FILE_BYTES: Final = 64 * 2**20


class Outline(msgspec.Struct, frozen=True):
    """What does not change of a workflow's nodes, in their order."""

    names: list[str]
    types: dict[str, str]
    parents: dict[str, list[str]]
    files: dict[str, dict[str, Any]] = {}  #: of what runs: its `stdout`, `stderr` and `log`


class Outlines:
    """Workflows as jobs have them, in their rows or in their folders; those in folders are kept, by their digests."""

    def __init__(self, workspaces: Workspaces) -> None:
        self._workspaces = workspaces
        self._cached: OrderedDict[str, Outline] = OrderedDict()

    async def of(self, row: Row) -> Outline:
        """The outline of a job's workflow; an empty one when it has none, or its file cannot be had any more."""
        if row["workflow"] is None:
            return Outline([], {}, {})
        workflow = msgspec.json.decode(row["workflow"], type=WorkflowSpec)
        if not workflow.file:
            return outline(workflow)
        if (known := self._cached.get(workflow.sha256)) is not None:
            self._cached.move_to_end(workflow.sha256)
            return known
        try:
            opened = await self._workspaces.open(row["id"], workflow.file)
            if opened.entry.size_bytes > MAX_FILE_BYTES:
                await opened.aclose()
                return Outline([], {}, {})
            raw = b"".join([chunk async for chunk in opened.chunks()])
            read = await asyncio.to_thread(lambda: outline(msgspec.json.decode(raw, type=WorkflowSpec)))
        except (JobledgerError, msgspec.MsgspecError, RecursionError):
            return Outline([], {}, {})
        self._cached[workflow.sha256] = read
        while len(self._cached) > CACHED:
            self._cached.popitem(last=False)
        return read


def outline(workflow: WorkflowSpec) -> Outline:
    """Read a workflow's nodes, under the names that reports call them."""
    named: list[tuple[str, NodeSpec]] = list(node_names(workflow))
    parents = {name: [f"{name[: -len(node.name)]}{parent}" for parent in node.parents] for name, node in named}
    files = {name: _files(name, node) for name, node in named if node.workflow is None}
    return Outline([name for name, _ in named], {name: node.type for name, node in named}, parents, files)


def _files(name: str, node: NodeSpec) -> dict[str, str]:
    folder = node_folder(name, node)
    return {**{stream: f"{folder}/{node_output(name, node, stream)}" for stream in ("stdout", "stderr")}, "log": f"{folder}/condor.log"}


class NodeRoutes:
    """The endpoint on nodes."""

    def __init__(self, *, reads: Reads, store: JobsStore, workspaces: Workspaces, partitions: int) -> None:
        self._reads, self._store, self._outlines, self._partitions = reads, store, Outlines(workspaces), partitions

    def routes(self) -> list[Route]:
        """The table."""
        return [Route("/jobs/{job_id}/nodes", self.list_nodes, methods=["GET"])]

    @operation(
        "List the nodes of a workflow",
        description="Those of the current run, or of another, in the workflow's order. Before a run has begun all of them are Pending.",
        query=NodeQuery,
        response=NodePage,
        errors=(NotFound, Late),
        tag="nodes",
    )
    async def list_nodes(self, request: Request) -> Response:
        query = read_query(request, NodeQuery)
        await self._reads.fresh(None if query.after is None else parse_position(query.after, self._partitions, "?after"))
        row = await self._reads.job(job_id_of(request), viewer_of(principal_of(request)))
        run = query.run or row["run"]
        if run > row["run"]:
            raise InvalidRequest(errors=[FieldError("?run", f"the job's latest run is {row['run']}")])
        statuses = wanted_statuses(query.status)
        behind = decode_cursor(query.cursor, tuple[int])[0] if query.cursor is not None else -1
        if not -1 <= behind < 1 << 31:
            raise InvalidRequest(errors=[FieldError("?cursor", "this is no cursor of this list")])
        fixed = await self._outlines.of(row)
        counts = node_counts(row)
        if counts is None or run != row["run"]:
            counts = await self._store.node_counts(row["id"], run)
        if counts:
            records = await self._store.nodes(row["id"], run, statuses, behind, query.limit + 1)
            views = [_reported(record, fixed) for record in records]
        else:
            counts = {Status.PENDING.value: len(fixed.names)} if fixed.names else {}
            views = _waiting(fixed, behind, query.limit + 1) if statuses is None or Status.PENDING.value in statuses else []
        page, cursor = cut_page(views, query.limit, lambda view: (view.number,))
        return json_response(NodePage(items=page, run=run, counts=counts, next_cursor=cursor))


def wanted_statuses(texts: list[str]) -> list[str] | None:
    """Read a filter: names or codes of statuses that a node can have. Raises InvalidRequest."""
    found = set()
    for text in texts:
        status, custom = parse_status(text)
        if custom or status not in NODE_STATUSES:
            raise InvalidRequest(errors=[FieldError("?status", f"{text[:100]!r} is no status of a node")])
        found.add(status.value)
    return sorted(found) or None


def _reported(record: Row, fixed: Outline) -> NodeView:
    name = record["name"]
    return NodeView(
        name=name,
        number=record["number"],
        type=fixed.types.get(name, ""),
        parents=fixed.parents.get(name),
        **fixed.files.get(name, {}),
        status=record["status"],
        status_code=CODES[Status(record["status"])],
        restarts=record["restarts"],
        scheduler_job_ref=record["scheduler_job_ref"],
        exit_code=record["exit_code"],
        exit_signal=record["exit_signal"],
        message=record["message"],
        start_time=_time(record["start_time"]),
        completion_time=_time(record["completion_time"]),
    )


def _waiting(fixed: Outline, behind: int, limit: int) -> list[NodeView]:
    start = behind + 1
    return [
        NodeView(
            name=name,
            number=number,
            type=fixed.types[name],
            parents=fixed.parents[name],
            **fixed.files.get(name, {}),
            status=Status.PENDING.value,
            status_code="PEN",
        )
        for number, name in enumerate(fixed.names[start : start + limit], start)
    ]


def _time(moment: Any) -> datetime | None:
    read: datetime | None = utc(moment)
    return read
