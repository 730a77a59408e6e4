"""The files of a run: what travels to the sandbox, and what came back. Used on this machine, whichever way the pool is reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobledger_schedulers.adapters.htcondor.command import CREDENTIAL_FILE, NotSubmittable
from jobledger_schedulers.adapters.port import Collected, RunSpec


def check_inputs(spec: RunSpec) -> int:
    """See that what is to travel is there and lies in the workspace, also behind links. Returns its size in bytes."""
    assert spec.condor is not None
    own = [] if not spec.condor.executable or spec.condor.executable.startswith("/") else [spec.condor.executable]
    return check_files(spec.input_dir, [*own, *spec.condor.input_files])


def check_files(input_dir: Path, names: Iterable[str]) -> int:
    """See that these files are there and lie in the workspace, also behind links. Returns their size in bytes."""
    root, total = input_dir.resolve(), 0
    for name in names:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise NotSubmittable(f"the file {name!r} is a link that leads out of the job's folder")
        if not path.exists():
            raise NotSubmittable(f"the file {name!r} is not in the job's folder")
        inside = list(path.rglob("*")) if path.is_dir() else [path]
        if leak := next((item for item in inside if not item.resolve().is_relative_to(root)), None):
            raise NotSubmittable(f"the file {str(leak.relative_to(root))!r} is a link that leads out of the job's folder")
        total += sum(item.stat().st_size for item in inside if item.is_file())
    return total


def collected(run: str, folder: Path, rows: Sequence[Mapping[str, Any]], errors: Mapping[str, str]) -> Collected:
    """Say what lies in a run's folder after its retrieval, and what should and does not. Blocks."""
    failed = {job_id_of(row): errors[job_id_of(row)] for row in rows if job_id_of(row) in errors}
    for stray in folder.rglob(CREDENTIAL_FILE):
        stray.unlink()
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    missing = []
    for row in rows:
        if job_id_of(row) not in failed:
            asked = [name.strip() for name in str(row.get("TransferOutput") or "").split(",") if name.strip()]
            place = proc_folder(folder, row)
            missing += [str((place / name).relative_to(folder)) for name in asked if not (place / Path(name).name).exists()]
    return Collected(run_id=run, files=files, missing=sorted(missing), error="; ".join(f"{job}: {why}" for job, why in failed.items()))


def proc_folder(folder: Path, row: Mapping[str, Any]) -> Path:
    """Where the output of one process goes: a folder of its own when there are several."""
    return folder if (row.get("TotalSubmitProcs") or 1) == 1 else folder / f"process-{row['ProcId']}"


def job_id_of(row: Mapping[str, Any]) -> str:
    """`ClusterId.ProcId`."""
    return f"{row['ClusterId']}.{row['ProcId']}"
