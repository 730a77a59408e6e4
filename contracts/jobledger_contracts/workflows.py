"""What makes a good workflow: checked when a job is created, and again before it is handed to DAGMan (anybody may publish an event).

Pure, and linear in the number of nodes and edges. Every fault names the node; a cycle is told as the way around it.

Sources: HTCondor manual, "DAGMan: The DAG input file" (names, reserved words, FINAL, SPLICE, VARS).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from .job_events import CondorSpec, NodeSpec, WorkflowSpec

MAX_NODES: Final = 20_000
"""Of one workflow, those of workflows within included."""
MAX_EDGES: Final = 1_000_000
MAX_DEPTH: Final = 4
"""Workflows within workflows."""
MAX_INLINE_BYTES: Final = 32_768
"""Of a workflow in an event, as JSON. A larger one is put into the workspace."""
MAX_FAULTS: Final = 20
NODES_FOLDER: Final = "nodes"
"""Below a run's folder: what nodes leave."""

TYPES: Final = ("JOB", "SUBDAG", "SPLICE", "FINAL")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}\Z")
_RESERVED = frozenset({"parent", "child", "all_nodes"})
_VALUE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_SPLICE_HAS_NO: Final = ("pre_script", "post_script", "retry", "priority", "category", "pre_skip", "abort_dag_on", "noop", "done")

CONFIG: Final = frozenset(
    {
        "DAGMAN_MAX_PRE_SCRIPTS", "DAGMAN_MAX_POST_SCRIPTS", "DAGMAN_MAX_SUBMITS_PER_INTERVAL", "DAGMAN_SUBMIT_DELAY",
        "DAGMAN_SUBMIT_DEPTH_FIRST", "DAGMAN_RETRY_SUBMIT_FIRST", "DAGMAN_RETRY_NODE_FIRST", "DAGMAN_DEFAULT_PRIORITY",
        "DAGMAN_MAX_JOB_HOLDS", "DAGMAN_ALWAYS_RUN_POST", "DAGMAN_VERBOSITY", "DAGMAN_MAX_SUBMIT_ATTEMPTS",
    }
)  # fmt: skip
"""DAGMan's settings that a workflow may have. Others name programs and files of the access point."""


class WorkflowFault(msgspec.Struct, frozen=True):
    """One thing that is wrong; `path` names the member as JSONPath does."""

    path: str
    message: str


def check_workflow(workflow: WorkflowSpec, path: str = "$.workflow") -> list[WorkflowFault]:
    """List what is wrong with a workflow, at most `MAX_FAULTS`. One whose nodes are in a file is checked when that is read."""
    if workflow.file:
        named = workflow.sha256 and workflow.node_count and not workflow.nodes
        return [] if named else [WorkflowFault(path, "a workflow in a file names its sha256 and node_count, and has no nodes here")]
    total = count_nodes(workflow)
    if total > MAX_NODES:
        return [WorkflowFault(f"{path}.nodes", f"a workflow has at most {MAX_NODES} nodes; this one has {total}")]
    faults: list[WorkflowFault] = []
    for fault in _faults(workflow, path, 1):
        faults.append(fault)
        if len(faults) == MAX_FAULTS:
            break
    return faults


def count_nodes(workflow: WorkflowSpec) -> int:
    """How many nodes a workflow has, those of workflows within included."""
    if workflow.file:
        return workflow.node_count
    total, within = 0, [workflow]
    while within:
        nodes = within.pop().nodes
        total += len(nodes)
        within += [node.workflow for node in nodes if node.workflow is not None]
    return total


def node_names(workflow: WorkflowSpec, prefix: str = "") -> Iterator[tuple[str, NodeSpec]]:
    """The nodes that reports speak of, with the names that they have there: those within a splice or a sub-workflow behind its own.

    A splice is no node of its own: DAGMan puts its nodes in its place.
    """
    for node in workflow.nodes:
        if node.type != "SPLICE":
            yield prefix + node.name, node
        if node.workflow is not None:
            yield from node_names(node.workflow, f"{prefix}{node.name}{'+' if node.type == 'SPLICE' else '/'}")


def node_folder(name: str, node: NodeSpec) -> str:
    """Where a node works and leaves its output, below the folder of its run; `name` is the one that reports call it."""
    within = name[: -len(node.name)] if node.dir else ""
    return f"{NODES_FOLDER}/{_as_file(within + node.dir if node.dir else name)}"


def node_output(name: str, node: NodeSpec, stream: str) -> str:
    """The file, in the node's folder, of its `stdout` or `stderr`: in a folder that others may share, it bears the node's name."""
    return f"{_as_file(name)}.{stream}.txt" if node.dir else f"{stream}.txt"


def _as_file(name: str) -> str:
    return name.replace("/", "+")


def find_cycle(workflow: WorkflowSpec) -> list[str]:
    """The names around one cycle, each a parent of the next, beginning and ending with the same; empty when there is none."""
    parents = {node.name: list(node.parents) for node in workflow.nodes}
    waiting = {name: sum(1 for parent in of_node if parent in parents) for name, of_node in parents.items()}
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, of_node in parents.items():
        for parent in of_node:
            if parent in children:
                children[parent].append(name)
    ready = [name for name, count in waiting.items() if count == 0]
    while ready:
        name = ready.pop()
        del waiting[name]
        for child in children[name]:
            if child in waiting:
                waiting[child] -= 1
                if waiting[child] == 0:
                    ready.append(child)
    if not waiting:
        return []
    # Whatever still waits has a parent that still waits: going from parent to parent must come around.
    seen: dict[str, int] = {}
    way: list[str] = []
    at = min(waiting)
    while at not in seen:
        seen[at] = len(way)
        way.append(at)
        at = next(parent for parent in parents[at] if parent in waiting)
    around = [*way[seen[at] :], at][::-1]
    first = around.index(min(around))
    return [*around[first:-1], *around[: first + 1]]


def _faults(workflow: WorkflowSpec, path: str, depth: int) -> Iterator[WorkflowFault]:
    if not workflow.nodes:
        yield WorkflowFault(f"{path}.nodes", "a workflow has at least one node")
    if depth > MAX_DEPTH:
        yield WorkflowFault(path, f"workflows may be within one another {MAX_DEPTH} deep at most")
        return
    yield from _limit_faults(workflow, path, depth)
    names: set[str] = set()
    finals = 0
    for number, node in enumerate(workflow.nodes):
        where = f"{path}.nodes[{number}]"
        if fault := _name_fault(node.name):
            yield WorkflowFault(f"{where}.name", fault)
        if node.name in names:
            yield WorkflowFault(f"{where}.name", f"two nodes are called {_shown(node.name)}")
        names.add(node.name)
        finals += node.type == "FINAL"
        if node.type == "FINAL" and (finals > 1 or depth > 1):
            reason = "there is one FINAL node at most" if finals > 1 else "only the outermost workflow has a FINAL node"
            yield WorkflowFault(f"{where}.type", f"{reason}: {_shown(node.name)} is another")
        for member, message in _node_faults(node):
            yield WorkflowFault(f"{where}{member}", f"the node {_shown(node.name)} {message}")
        if node.workflow is not None:
            yield from _faults(node.workflow, f"{where}.workflow", depth + 1)
    yield from _edge_faults(workflow, path, names)


def _limit_faults(workflow: WorkflowSpec, path: str, depth: int) -> Iterator[WorkflowFault]:
    for category in workflow.max_jobs:
        if not _NAME.match(category):
            yield WorkflowFault(f"{path}.max_jobs", f"{_shown(category)} is no name for a category: letters, digits and _.- are")
    if depth > 1 and (workflow.max_jobs_total or workflow.max_idle or workflow.config or workflow.file):
        yield WorkflowFault(path, "a workflow within another has no limits, settings and files of its own")
    for name, value in workflow.config.items():
        if name not in CONFIG:
            yield WorkflowFault(f"{path}.config", f"{_shown(name)} cannot be set here; what can: {', '.join(sorted(CONFIG))}")
        elif not _VALUE.match(value):
            yield WorkflowFault(f"{path}.config", f"{_shown(value)} is no value for {name}")


def _name_fault(name: str) -> str:
    if not _NAME.match(name):
        return f"{_shown(name)} is no name for a node: 1 to 100 letters, digits and _.-, the first a letter, digit or _"
    if name.lower() in _RESERVED:
        return f"{_shown(name)} is a word of DAGMan's own and no name for a node"
    return ""


def _node_faults(node: NodeSpec) -> Iterator[tuple[str, str]]:
    """What is wrong with one node by itself: the member, and the rest of a sentence that begins with the node."""
    if node.type not in TYPES:
        yield ".type", f"is of the type {_shown(node.type)}; there are {', '.join(TYPES)}"
        return
    if node.type in ("SUBDAG", "SPLICE"):
        if node.workflow is None or node.workflow.file:
            yield ".workflow", f"is a {node.type} and holds the workflow within it"
        if node.condor is not None:
            yield ".condor", f"is a {node.type} and has no job of its own"
    else:
        if node.workflow is not None:
            yield ".workflow", f"is a {node.type} and holds no workflow"
        yield from _job_faults(node.condor, noop=node.noop)
    if node.type == "SPLICE" and (given := [name for name in _SPLICE_HAS_NO if getattr(node, name) not in (None, 0, "")]):
        yield f".{given[0]}", f"is a SPLICE, which has no {', '.join(given)}: set them on the nodes within"
    if node.type == "FINAL" and (node.done or node.noop):
        yield "", "is the FINAL node, which cannot be done before or do nothing"
    if node.retry_unless_exit is not None and not node.retry:
        yield ".retry_unless_exit", "says when not to try again, but not how often to"
    if node.pre_skip is not None and node.pre_script is None:
        yield ".pre_skip", "skips by the exit code of a pre script, but has none"
    if node.abort_dag_on_return_value is not None and node.abort_dag_on is None:
        yield ".abort_dag_on_return_value", "has a return value, but not the exit code to abort on"
    for name, script in (("pre_script", node.pre_script), ("post_script", node.post_script)):
        if script is not None and not script.executable:
            yield f".{name}.executable", f"has a {name} without a program"
    for name, text in (("category", node.category), ("dir", node.dir)):
        if text and (not _NAME.match(text)):
            yield f".{name}", f"has the {name} {_shown(text)}: letters, digits and _.- are possible"
    for variable in node.variables:
        if not _VARIABLE.match(variable) or variable.lower().startswith("queue"):
            yield ".variables", f"has a variable called {_shown(variable)}: letters, digits and _ are possible, and none begins with queue"


def _job_faults(condor: CondorSpec | None, *, noop: bool) -> Iterator[tuple[str, str]]:
    if (condor is None or not condor.executable) and not noop:
        yield ".condor.executable", "names no executable"
    if condor is not None and condor.num_jobs != 1:
        yield ".condor.num_jobs", "stands for one process: use a node for each"


def _edge_faults(workflow: WorkflowSpec, path: str, names: set[str]) -> Iterator[WorkflowFault]:
    finals = {node.name for node in workflow.nodes if node.type == "FINAL"}
    edges = 0
    for number, node in enumerate(workflow.nodes):
        edges += len(node.parents)
        if not node.parents:
            continue
        where = f"{path}.nodes[{number}].parents"
        if node.name in finals:
            yield WorkflowFault(where, f"the FINAL node {_shown(node.name)} has no parents: it runs when all others are over")
        if len(set(node.parents)) < len(node.parents):
            yield WorkflowFault(where, f"the node {_shown(node.name)} names a parent twice")
        for parent in node.parents:
            if parent not in names:
                yield WorkflowFault(where, f"the node {_shown(node.name)} has the parent {_shown(parent)}, which there is not")
            elif parent in finals and node.name not in finals:
                yield WorkflowFault(where, f"the node {_shown(node.name)} has the FINAL node {_shown(parent)} as its parent")
    if edges > MAX_EDGES:
        yield WorkflowFault(
            f"{path}.nodes", f"a workflow has at most {MAX_EDGES} parents in all; this one has {edges}: put a noop node between"
        )
    elif cycle := find_cycle(workflow):
        shown = cycle if len(cycle) <= 12 else [*cycle[:6], "...", *cycle[-5:]]
        yield WorkflowFault(f"{path}.nodes", f"nodes wait for one another: {' -> '.join(shown)}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
