"""A job's workspace as schedulers need it: its inputs in a local folder, its output back into it.

A workspace that is a local folder is used where it is. Any other (an object store, say) is copied: the few files that a run names, in
the background, so that one slow download holds up no other run.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import fsspec
import msgspec
import structlog

from jobledger_contracts.ids import parse_run_id
from jobledger_contracts.job_events import JobCreated, WorkflowSpec
from jobledger_kit.errors import InvalidPath
from jobledger_kit.workspace import safe_path, workspace_url

from .adapters.htcondor.dag import workflow_inputs
from .workflows import BadWorkflow, kept_by_runs, read_workflow

AT_ONCE: Final = 4  #: downloads
PATIENCE_S: Final = 1.0  #: how long a batch of runs waits for downloads, before those that lag are left to the next one
RETRY_S: Final = 10.0

log = structlog.get_logger(__name__)


class NotReady(msgspec.Struct, frozen=True):
    """The inputs are on their way; ask again."""

    after_s: float
    why: str


class StagingRefused(msgspec.Struct, frozen=True):
    """The inputs will never be there as they are asked for."""

    message: str


Staged = Path | NotReady | StagingRefused


class Staging:
    """Local folders for runs. `folder` is this instance's own, and outlives it."""

    def __init__(self, folder: Path, workspaces_url: str) -> None:
        self._folder, self._workspaces_url = folder, workspaces_url
        self._downloads: dict[str, asyncio.Task[Path]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    def workspace(self, job: JobCreated) -> str:
        """The URL of a job's folder."""
        return job.workspace or workspace_url(self._workspaces_url, job.job_id)

    def is_ours(self, job: JobCreated) -> bool:
        """Whoever may publish events could name any folder that we can read; only those below our workspaces are used."""
        parts = job.workspace.split("/")
        return not job.workspace or (job.workspace.startswith(f"{self._workspaces_url.rstrip('/')}/") and ".." not in parts)

    async def prepare(self, jobs: Mapping[str, JobCreated]) -> dict[str, Staged]:
        """Return a local folder with the inputs of each run, or why there is none (yet). Never waits long."""
        staged: dict[str, Staged] = {}
        copied: dict[str, asyncio.Task[Path]] = {}
        for run_id, job in jobs.items():
            if not self.is_ours(job):
                staged[run_id] = StagingRefused("The job names a workspace outside of this installation's.")
                continue
            local = local_folder(self.workspace(job))
            if local is not None:
                staged[run_id] = _made(local)
                continue
            if run_id not in self._downloads:
                self._downloads[run_id] = asyncio.create_task(self._download(run_id, job), name=f"staging {run_id}")
            copied[run_id] = self._downloads[run_id]
        if copied:
            await asyncio.wait(copied.values(), timeout=PATIENCE_S)
        for run_id, task in copied.items():
            staged[run_id] = self._outcome(run_id, task)
        return staged

    def _outcome(self, run_id: str, task: asyncio.Task[Path]) -> Staged:
        if not task.done():
            return NotReady(PATIENCE_S, "its inputs are being copied")
        error = task.exception()
        if error is None:
            return task.result()
        del self._downloads[run_id]
        if isinstance(error, FileNotFoundError | InvalidPath | BadWorkflow):
            return StagingRefused(f"An input is not in the job's workspace: {error}")
        log.warning("Inputs could not be copied", action="staging_failed", run_id=run_id, error=repr(error))
        return NotReady(RETRY_S, f"its inputs could not be copied: {error}")

    async def _download(self, run_id: str, job: JobCreated) -> Path:
        async with self._places:
            return await asyncio.to_thread(_copy_in, self.workspace(job), job, parse_run_id(run_id)[1], self._folder / "inputs" / run_id)

    async def release(self, run_ids: Collection[str]) -> None:
        """The scheduler has these inputs, or will never need them: what was copied for them goes."""
        for run_id in run_ids:
            task = self._downloads.pop(run_id, None)
            if task is not None and not task.done():
                task.cancel()
            await _remove(self._folder / "inputs" / run_id)

    def output_folder(self, run_id: str, job: JobCreated, run: int) -> Path:
        """Where a run's output is put: in the workspace, or, when that is not local, on the way there."""
        local = local_folder(self.workspace(job))
        return self._folder / "outputs" / run_id if local is None else local / run_folder(run)

    async def deliver(self, run_id: str, job: JobCreated, run: int) -> None:
        """Bring what is in the output folder to a workspace that is not local. Raises OSError, and what its file system raises."""
        url = self.workspace(job)
        if local_folder(url) is None:
            await asyncio.to_thread(_copy_out, self._folder / "outputs" / run_id, url, run_folder(run))

    async def delivered(self, run_id: str) -> None:
        """The log has what the workspace holds: the copy on the way goes."""
        await _remove(self._folder / "outputs" / run_id)


def run_folder(run: int) -> str:
    """The folder of a run's output, in the job's workspace."""
    return f"run-{run}"


def inputs_of(job: JobCreated) -> Sequence[str]:
    """The files and folders of the workspace that a run of the job needs."""
    names: list[str] = []
    if job.condor is not None:
        names += job.condor.input_files
        if job.condor.executable and not PurePosixPath(job.condor.executable).is_absolute():
            names.append(job.condor.executable)
    if job.dask is not None and job.dask.graph_file:
        names.append(job.dask.graph_file)
    return names


def local_folder(url: str) -> Path | None:
    """The folder that a workspace's URL means, when it is on this machine."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(url) if url.startswith("/") else None


def _made(folder: Path) -> Staged:
    """A workspace that nothing was ever put into does not exist yet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("A workspace cannot be made", action="workspace_failed", folder=str(folder), error=repr(error))
        return NotReady(RETRY_S, f"its workspace cannot be made: {error.strerror}")
    return folder


def _copy_in(url: str, job: JobCreated, run: int, target: Path) -> Path:
    """Copy a run's inputs; the folder appears only when it is whole. Raises FileNotFoundError, InvalidPath, BadWorkflow, and others."""
    if target.exists():
        return target
    files, root = fsspec.core.url_to_fs(url)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in [*inputs_of(job), *_workflow_files(files, root.rstrip("/"), partial, job.workflow, run)]:
        inside = safe_path(name.rstrip("/"))
        source = f"{root.rstrip('/')}/{inside}"
        files.invalidate_cache(source.rpartition("/")[0])
        if not files.isdir(source):
            _fetch(files, source, partial / inside)
            continue
        for found in files.find(source):
            _fetch(files, found, partial / inside / safe_path(str(found).rpartition(f"/{inside}/")[2]))
    return partial.rename(target)


def _workflow_files(files: Any, root: str, partial: Path, workflow: WorkflowSpec | None, run: int) -> list[str]:
    """What a run of a workflow needs: the files that its nodes name, and what the run before has left for it."""
    if workflow is None:
        return []
    if workflow.file:
        file = partial / safe_path(workflow.file)
        _fetch(files, f"{root}/{safe_path(workflow.file)}", file)
        workflow = read_workflow(file.read_bytes(), workflow)
    names = workflow_inputs(workflow)
    before = f"{root}/run-{run - 1}"
    if run > 1 and files.isdir(before):
        names += kept_by_runs([str(found).rpartition(f"{root}/")[2] for found in files.find(before)], run)
    return names


def _fetch(files: Any, source: str, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    files.get_file(source, str(copy))


def _copy_out(source: Path, url: str, folder: str) -> None:
    files, root = fsspec.core.url_to_fs(url)
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.is_symlink():
            target = f"{root.rstrip('/')}/{folder}/{path.relative_to(source).as_posix()}"
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(path), target)


async def _remove(folder: Path) -> None:
    if folder.exists():
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
