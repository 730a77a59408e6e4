"""CONDORWORKFLOW jobs: nodes that wait for one another, said with the names of Tethys' Jobs API.

For example:

    workflow = manager.create_job("flood_{id}", job_type="CONDORWORKFLOW", scheduler="local-condor", remote_input_files=["run.sh"])
    first = CondorWorkflowJobNode("prepare", workflow, executable="run.sh", arguments=["prepare"])
    second = CondorWorkflowJobNode("simulate", workflow, executable="run.sh", arguments=["simulate"], retry=2)
    second.add_parent(first)
    workflow.execute()
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from jobledger.condor_job import CondorAttributes, condor_template
from jobledger.errors import NotFound
from jobledger.file_bringer import FileBringer
from jobledger.jobs import Job
from jobledger.tailing import tail_node
from jobledger.views import JobView

TYPES = ("JOB", "SUBDAG", "SPLICE", "FINAL")


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node of a run as the service last saw it."""

    name: str
    number: int = 0
    type: str = ""
    parents: list[str] | None = None
    stdout: str = ""  #: its file in the run's folder of the workspace, there when the run has ended
    stderr: str = ""
    log: str = ""  #: HTCondor's log of it
    status: str = "Pending"
    status_code: str = "PEN"
    restarts: int = 0  #: the tries that are over
    scheduler_job_ref: str = ""
    exit_code: int | None = None
    exit_signal: int | None = None
    message: str = ""
    start_time: datetime | None = None
    completion_time: datetime | None = None


class Nodes:
    """What has nodes: a workflow, or a node that holds one."""

    def __init__(self) -> None:
        self._node_set: dict[str, CondorWorkflowNode] = {}

    @property
    def node_set(self) -> list[CondorWorkflowNode]:
        """The nodes, in the order in which they were put in."""
        return list(self._node_set.values())

    def add_node(self, node: CondorWorkflowNode) -> CondorWorkflowNode:
        """Put a node in. Raises ValueError when one has its name already."""
        if self._node_set.setdefault(node.name, node) is not node:
            raise ValueError(f"there is a node {node.name!r} already")
        return node

    def get_node(self, name: str) -> CondorWorkflowNode:
        """The node of a name. Raises KeyError."""
        return self._node_set[name]


class CondorWorkflowNode:
    """What all kinds of nodes have. A node is part of `workflow` from the moment it is made."""

    type = ""

    def __init__(
        self,
        name: str,
        workflow: Nodes,
        *,
        pre_script: str = "",
        pre_script_args: Iterable[Any] = (),
        post_script: str = "",
        post_script_args: Iterable[Any] = (),
        variables: Mapping[str, Any] | None = None,
        priority: int = 0,
        category: str = "",
        retry: int = 0,
        retry_unless_exit_value: int | None = None,
        pre_skip: int | None = None,
        abort_dag_on: int | None = None,
        abort_dag_on_return_value: int | None = None,
        dir: str = "",
        noop: bool = False,
        done: bool = False,
    ) -> None:
        self.name = name
        self._parent_nodes: dict[CondorWorkflowNode, None] = {}
        self.pre_script, self.pre_script_args = pre_script, [str(argument) for argument in pre_script_args]
        self.post_script, self.post_script_args = post_script, [str(argument) for argument in post_script_args]
        self.variables = {key: str(value) for key, value in (variables or {}).items()}
        self.priority, self.category = priority, category
        self.retry, self.retry_unless_exit_value, self.pre_skip = retry, retry_unless_exit_value, pre_skip
        self.abort_dag_on, self.abort_dag_on_return_value = abort_dag_on, abort_dag_on_return_value
        self.dir, self.noop, self.done = dir, noop, done
        workflow.add_node(self)

    @property
    def parents(self) -> list[CondorWorkflowNode]:
        """The nodes that must have ended well before this one."""
        return list(self._parent_nodes)

    parent_nodes = parents  #: Tethys' other name for them

    def add_parent(self, parent: CondorWorkflowNode) -> None:
        """Let this node wait for another one."""
        self._parent_nodes[parent] = None

    def add_parents(self, parents: Iterable[CondorWorkflowNode]) -> None:
        """Let this node wait for others."""
        for parent in parents:
            self.add_parent(parent)

    def remove_parent(self, parent: CondorWorkflowNode) -> None:
        """Let this node wait for another one no longer. Raises ValueError when it did not."""
        if parent not in self._parent_nodes:
            raise ValueError(f"{self.name!r} does not wait for {parent.name!r}")
        del self._parent_nodes[parent]

    def spec(self) -> dict[str, Any]:
        """The node as the service takes it."""
        whole: dict[str, Any] = {
            "name": self.name,
            "type": self.type,
            "parents": [parent.name for parent in self._parent_nodes],
            "pre_script": _script(self.pre_script, self.pre_script_args),
            "post_script": _script(self.post_script, self.post_script_args),
            "variables": self.variables,
            "priority": self.priority,
            "category": self.category,
            "retry": self.retry,
            "retry_unless_exit": self.retry_unless_exit_value,
            "pre_skip": self.pre_skip,
            "abort_dag_on": self.abort_dag_on,
            "abort_dag_on_return_value": self.abort_dag_on_return_value,
            "dir": self.dir,
            "noop": self.noop,
            "done": self.done,
            **self._content(),
        }
        optional = ("retry_unless_exit", "pre_skip", "abort_dag_on", "abort_dag_on_return_value")
        return {name: value for name, value in whole.items() if value or (name in optional and value is not None)}

    def _content(self) -> dict[str, Any]:
        """What the kind of node adds."""
        return {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class CondorWorkflowJobNode(CondorWorkflowNode, CondorAttributes):
    """A node that runs a job. Its attributes are set as a `CondorJob`'s are.

    Among its `remote_input_files` may be local files, and `nodes/<node>/<file>`: what another node leaves in its folder.
    """

    type = "JOB"

    def __init__(
        self,
        name: str,
        workflow: Nodes,
        *,
        attributes: Mapping[str, Any] | None = None,
        condorpy_template_name: str = "",
        remote_input_files: Iterable[str | Path] = (),
        executable: str = "",
        arguments: str | Iterable[Any] = (),
        environment: Mapping[str, str] | None = None,
        input_files: Iterable[str] = (),
        output_files: Iterable[str] = (),
        **node: Any,
    ) -> None:
        CondorWorkflowNode.__init__(self, name, workflow, **node)
        CondorAttributes.__init__(
            self,
            attributes={**(condor_template(condorpy_template_name) if condorpy_template_name else {}), **(attributes or {})},
            executable=executable,
            arguments=arguments,
            environment=environment,
            output_files=output_files,
        )
        self.input_files = list(input_files)
        self.remote_input_files: list[str | Path] = list(remote_input_files)

    def local_files(self) -> Iterator[Path]:
        """Those of the input files that are here, and are brought into the workspace."""
        return (Path(file) for file in self.remote_input_files if not str(file).startswith("nodes/"))

    def _content(self) -> dict[str, Any]:
        travelling = [str(file) if str(file).startswith("nodes/") else Path(file).name for file in self.remote_input_files]
        return {"condor": self.condor_spec([path for path in travelling if path != self.executable])}


class CondorWorkflowFinalNode(CondorWorkflowJobNode):
    """The node that runs last, whatever became of the others."""

    type = "FINAL"


class CondorWorkflowSubdagNode(CondorWorkflowNode, Nodes):
    """A node that holds a workflow, which DAGMan runs as one of its own."""

    type = "SUBDAG"

    def __init__(self, name: str, workflow: Nodes, **node: Any) -> None:
        CondorWorkflowNode.__init__(self, name, workflow, **node)
        Nodes.__init__(self)
        self.max_jobs: dict[str, int] = {}

    def _content(self) -> dict[str, Any]:
        within: dict[str, Any] = {"nodes": [node.spec() for node in self.node_set], "max_jobs": self.max_jobs}
        return {"workflow": {name: value for name, value in within.items() if value}}


class CondorWorkflowSpliceNode(CondorWorkflowSubdagNode):
    """A workflow whose nodes take this one's place."""

    type = "SPLICE"


class CondorWorkflow(FileBringer, Nodes, Job):
    """A job of many nodes, on an HTCondor pool."""

    job_type = "CONDORWORKFLOW"

    def __init__(
        self,
        name: str,
        *,
        max_jobs: Mapping[str, int] | None = None,
        max_jobs_total: int = 0,
        max_idle: int = 0,
        config: Mapping[str, Any] | None = None,
        remote_input_files: Iterable[str | Path] = (),
        **common: Any,
    ) -> None:
        Job.__init__(self, name, **common)
        Nodes.__init__(self)
        FileBringer.__init__(self)
        self.max_jobs = dict(max_jobs or {})
        self.max_jobs_total, self.max_idle = max_jobs_total, max_idle
        self.config = {key: str(value) for key, value in (config or {}).items()}
        self.remote_input_files: list[str | Path] = list(remote_input_files)
        self._given: dict[str, Any] = {}

    def add_max_jobs_throttle(self, category: str, max_jobs: int) -> None:
        """Let at most so many nodes of a category run at once."""
        self.max_jobs[category] = max_jobs

    @property
    def num_jobs(self) -> int:
        """How many nodes there are."""
        return len(self.node_set) or int(self._given.get("node_count", 0)) or len(self._given.get("nodes", ()))

    @property
    def node_counts(self) -> dict[str, int]:
        """How many nodes of the current run had which status when the job was last fetched."""
        return dict(self.view.node_counts or {})

    def nodes(self, status: str | Iterable[str] = (), run: int | None = None, limit: int | None = None) -> list[NodeView]:
        """The nodes of the current run (or of another) as they are now; with `status`, only those that have it."""
        statuses = [status] if isinstance(status, str) else list(status)
        query = {"status": [text for text in statuses if text], "run": run, "limit": None}
        found = self._connection.jobs.pages(f"/jobs/{self._id()}/nodes", {k: v for k, v in query.items() if v}, limit=limit)
        return [msgspec.convert(item, NodeView, strict=False) for item in found]

    def tail_node(self, name: str, stream: str = "stdout", offset: int = 0) -> Iterator[bytes]:
        """Pieces of what a node has written so far, while the workflow runs; from `offset` (bytes) on.

        Raises `Refused` when the node is not at work, and by HTCondor's own protocol also when it has ended: `node_logs` has it later.
        """
        return tail_node(self, self._connection, name, stream, offset)

    def node_logs(self, name: str, run: int | None = None) -> dict[str, str]:
        """What a node has written in a run that is over: its `stdout`, `stderr` and HTCondor's `log`; what there is not is left out.

        Raises KeyError when there is no such node.
        """
        query = {"run": run} if run else {}
        found = self._connection.jobs.pages(f"/jobs/{self._id()}/nodes", query)
        node = next((msgspec.convert(item, NodeView, strict=False) for item in found if item["name"] == name), None)
        if node is None:
            raise KeyError(name)
        texts: dict[str, str] = {}
        for stream in ("stdout", "stderr", "log"):
            if path := getattr(node, stream):
                with contextlib.suppress(NotFound):
                    texts[stream] = self.read(f"run-{run or self.run}/{path}").decode(errors="replace")
        return texts

    def _files(self) -> Iterator[Path]:
        yield from map(Path, self.remote_input_files)
        within: list[Nodes] = [self]
        while within:
            for node in within.pop().node_set:
                if isinstance(node, CondorWorkflowJobNode):
                    yield from node.local_files()
                if isinstance(node, Nodes):
                    within.append(node)

    def _spec(self) -> dict[str, Any]:
        if not self.node_set and self._given:
            return {"workflow": self._given}
        spec: dict[str, Any] = {
            "nodes": [node.spec() for node in self.node_set],
            "max_jobs": self.max_jobs,
            "max_jobs_total": self.max_jobs_total,
            "max_idle": self.max_idle,
            "config": self.config,
        }
        return {"workflow": {name: value for name, value in spec.items() if value}}

    def _load_spec(self, view: JobView) -> None:
        """What was fetched stays as it is: its nodes are made objects of no more, `nodes()` tells of them."""
        self._given, self._node_set = dict(view.workflow or {}), {}
        self._forget_brought()

    @classmethod
    def from_view(cls, view: JobView, connection: Any) -> Self:
        """The object for a workflow that the service has told about."""
        job = cls(view.name, connection=connection, label=view.label)
        job.load(view)
        return job


def _script(program: str, arguments: list[str]) -> dict[str, Any] | None:
    if not program:
        return None
    return {"executable": program, **({"arguments": arguments} if arguments else {})}
