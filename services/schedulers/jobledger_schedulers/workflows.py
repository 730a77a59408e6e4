"""The workflow of a run: from its event, or from the file that the event names; and what an earlier run has left of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from jobledger_contracts.job_events import JobCreated, WorkflowSpec
from jobledger_contracts.workflows import NODES_FOLDER
from jobledger_kit.errors import InvalidPath
from jobledger_kit.workspace import safe_path

from .adapters.htcondor.dag import RESCUE_FILE, done_nodes

MAX_BYTES = 64 * 2**20


class BadWorkflow(Exception):
    """The workflow cannot be had as the event names it; the text is for people."""


def load_workflow(job: JobCreated, folder: Path) -> WorkflowSpec | None:
    """A job's workflow with its nodes; None when it has none. Blocks. Raises `BadWorkflow`."""
    workflow = job.workflow
    if workflow is None or not workflow.file:
        return workflow
    try:
        path = (folder / safe_path(workflow.file)).resolve()
        if not path.is_relative_to(folder.resolve()) or path.stat().st_size > MAX_BYTES:
            raise BadWorkflow(f"The workflow's file {workflow.file} is not one that may be read.")
        raw = path.read_bytes()
    except (OSError, InvalidPath) as error:
        raise BadWorkflow(f"The workflow's file {workflow.file} cannot be read: {error}") from None
    return read_workflow(raw, workflow)


def read_workflow(raw: bytes, named: WorkflowSpec) -> WorkflowSpec:
    """Read a workflow's file, if it is the one that the event names. Raises `BadWorkflow`."""
    if hashlib.sha256(raw).hexdigest() != named.sha256:
        raise BadWorkflow(f"The workflow's file {named.file} is not what it was when the job was created.")
    try:
        return msgspec.json.decode(raw, type=WorkflowSpec)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadWorkflow(f"The workflow's file {named.file} cannot be read: {error}") from None


def earlier(folder: Path, run: int, workflow: WorkflowSpec) -> tuple[Path, frozenset[str]] | None:
    """Where the run before left its output, and which nodes it has done; None when it left no rescue file. Blocks."""
    before = folder / f"run-{run - 1}"
    rescues = {path.name: path.read_text(errors="replace") for path in sorted(before.glob("*.rescue*")) if RESCUE_FILE.match(path.name)}
    done = done_nodes(rescues, workflow)
    return (before, frozenset(done)) if done else None


def kept_by_runs(names: list[str], run: int) -> list[str]:
    """Of the files that the run before left (paths in the workspace), those that the next one needs."""
    folder = f"run-{run - 1}/"
    return [
        n for n in names if n.startswith(f"{folder}{NODES_FOLDER}/") or (n.startswith(folder) and RESCUE_FILE.match(n.removeprefix(folder)))
    ]
