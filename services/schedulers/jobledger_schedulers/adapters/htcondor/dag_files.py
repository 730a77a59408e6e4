"""A workflow's folder on its way to the access point, and what came back from there. Blocks: to be called in threads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobledger_contracts.job_events import NodeReport, ScriptSpec, WorkflowSpec
from jobledger_contracts.statuses import Status
from jobledger_contracts.workflows import node_folder, node_names
from jobledger_schedulers.adapters.htcondor.command import LOG, RUN_ID_ATTRIBUTE, SUBMITTER_ATTRIBUTE, literal, quoted
from jobledger_schedulers.adapters.htcondor.dag import DAG_FILE, STATUS_FILE, Dag
from jobledger_schedulers.adapters.htcondor.parse_nodes import failure_in_words, read_status_file
from jobledger_schedulers.adapters.port import Collected, RunSpec

TAIL_BYTES = 64_000
NO_SCRIPTS = (
    "the workflow has PRE or POST scripts, which the access point itself would run, and it does not allow that: "
    "its administrator can, with JOBLEDGER_DAG_SCRIPTS = True in its configuration"
)
MOST_STARTS = 5
"""condor_dagman that crashes is started again for ever by its own submit description; after so many it is held, which is seen."""


def make_folder(folder: Path, dag: Dag, spec: RunSpec) -> None:
    """Write what DAGMan reads. Inputs are linked: HTCondor sends what a link leads to. The links were checked before."""
    assert spec.workflow is not None
    shutil.rmtree(folder, ignore_errors=True)
    for name in dag.folders:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, text in dag.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    scripts = {script.executable for script in _scripts(spec.workflow)}
    for name in dag.inputs:
        target = folder / "inputs" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name in scripts:  # DAGMan starts it where it lies
            shutil.copyfile(spec.input_dir / name, target)
            target.chmod(0o755)
        else:
            target.symlink_to((spec.input_dir / name).resolve())
    _bring_earlier(folder / "run", spec)


def _scripts(workflow: WorkflowSpec) -> list[ScriptSpec]:
    return [script for _, node in node_names(workflow) for script in (node.pre_script, node.post_script) if script is not None]


def _bring_earlier(run: Path, spec: RunSpec) -> None:
    """Put the output of nodes that an earlier run has done where the others expect it."""
    if spec.previous_dir is None or spec.workflow is None:
        return
    root = spec.previous_dir.resolve()
    for name, node in node_names(spec.workflow):
        if name not in spec.done_nodes:
            continue
        place = node_folder(name, node)
        for source in sorted((root / place).rglob("*")):
            if source.is_file() and source.resolve().is_relative_to(root):
                target = run / place / source.relative_to(root / place)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.symlink_to(source.resolve())


def dagman_description(spec: RunSpec, submitter: str) -> dict[str, str]:
    """What the DAG's own job is told beside what `from_dag` writes: all of it travels through the spool, and only `run` comes back."""
    return {
        **own_description(spec),
        "transfer_executable": "false",
        "should_transfer_files": "YES",
        "transfer_input_files": "run,submit,inputs",
        "transfer_output_files": "run",
        "log": LOG,
        f"My.{SUBMITTER_ATTRIBUTE}": quoted(submitter),
    }


def own_description(spec: RunSpec) -> dict[str, str]:
    """What the DAG's own job is told, whichever way its files travel."""
    crashed = "(ExitBySignal =?= true || (ExitCode =!= undefined && ExitCode > 2))"
    return {
        "batch_name": literal(" ".join(spec.job_name.split()) or "-"),
        "notification": "never",
        "on_exit_hold": f"NumJobStarts >= {MOST_STARTS} && {crashed}",
        "on_exit_hold_reason": quoted("condor_dagman crashed again and again: its configuration at the access point is not good"),
        f"My.{RUN_ID_ATTRIBUTE}": quoted(spec.run_id),
    }


def dagman_options(workflow: WorkflowSpec) -> dict[str, Any]:
    """The limits that are DAGMan's arguments."""
    options = {"MaxJobs": workflow.max_jobs_total, "MaxIdle": workflow.max_idle}
    return {name: value for name, value in options.items() if value}


def settle_output(folder: Path, run_id: str, error: str) -> Collected:
    """Put what came back as `run/...` where a run's output lies, and read how the nodes ended. May be repeated."""
    inner = folder / "run"
    for item in sorted(inner.iterdir()) if inner.is_dir() else ():
        _move(item, folder / item.name)
    if inner.is_dir():
        inner.rmdir()
    nodes = read_nodes({path.name: path.read_text(errors="replace") for path in folder.glob("*.status")})
    words = failure_in_words(nodes, _tail(folder / f"{Path(DAG_FILE).name}.dagman.out"))
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return Collected(run_id=run_id, files=files, nodes=tuple(nodes), message=words, error=error)


def read_nodes(files: Mapping[str, str], *, live: bool = False) -> list[NodeReport]:
    """How nodes ended, from the status files of the workflow and of those within it: name of the file -> its text.

    All of them, or, while DAGMan is at work (`live`), those that have.
    """
    found: dict[str, NodeReport] = {}
    for name, text in sorted(files.items()):
        prefix = "" if name == STATUS_FILE else name.removeprefix("within-").removesuffix(".dag.status") + "/"
        for report in read_status_file(text, prefix, live=live):
            found[report.node] = report
    return sorted(found.values(), key=lambda report: (report.status != Status.ERROR, report.node))


def _move(item: Path, target: Path) -> None:
    if item.is_dir() and target.is_dir():
        for inner in sorted(item.iterdir()):
            _move(inner, target / inner.name)
        item.rmdir()
    else:
        item.replace(target)


def _tail(file: Path) -> str:
    try:
        with file.open("rb") as source:
            source.seek(max(0, file.stat().st_size - TAIL_BYTES))
            return source.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
