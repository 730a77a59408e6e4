"""Folders of runs on their way to the access point: packed by a thread into a stream of tar, so that nothing is held in memory.

One stream carries any number of runs: over a long line, a thousand runs would otherwise be some ten thousand round trips.
"""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobledger_schedulers.adapters.htcondor.command import CREDENTIAL_FILE, NotSubmittable
from jobledger_schedulers.adapters.htcondor.dag import write_dag
from jobledger_schedulers.adapters.htcondor.dag_files import NO_SCRIPTS, make_folder
from jobledger_schedulers.adapters.htcondor.results import check_files, check_inputs
from jobledger_schedulers.adapters.htcondor_ssh.script import DESCRIPTION, INPUTS, LOCK, OUTPUTS, dag_files, submit_file
from jobledger_schedulers.adapters.port import RunSpec, Unreachable

BUFFER_BYTES = 2**18
BUFFERS_AHEAD = 4


class Parcel(msgspec.Struct, frozen=True):
    """The folder of one run."""

    run_id: str
    texts: dict[str, str]  #: files of ours in it, the description last
    credential: str = ""
    folders: Sequence[str] = (INPUTS, OUTPUTS)
    inputs: Sequence[tuple[str, Path, bool]] = ()  #: name in it, where it lies here, whether it is a program

    def __repr__(self) -> str:
        return f"Parcel({self.run_id!r})"


def parcel(spec: RunSpec, base: str) -> Parcel:
    """What is to be sent for a run; `base` is the folder of all runs, there. Raises NotSubmittable."""
    description, processes = submit_file(spec, f"{base}/{spec.run_id}")
    check_inputs(spec)
    assert spec.condor is not None
    program = spec.condor.executable
    inputs = [] if not program or program.startswith("/") else [(program, spec.input_dir / program, True)]
    inputs += [(name, spec.input_dir / name, False) for name in spec.condor.input_files if name != program]
    folders = [INPUTS, OUTPUTS, *(f"{OUTPUTS}/process-{number}" for number in range(processes) if processes > 1)]
    placed = [(f"{INPUTS}/{Path(name).as_posix()}", path, is_program) for name, path, is_program in inputs]
    return Parcel(spec.run_id, {DESCRIPTION: description}, spec.credential, folders, placed)


def workflow_parcel(spec: RunSpec, folder: Path, *, scripts: bool) -> Parcel:
    """What is to be sent for a run of a workflow, made in `folder`, which is to stay until it is sent. Raises NotSubmittable.

    `scripts` says whether the access point allows that it runs scripts of workflows itself.
    """
    assert spec.workflow is not None
    dag = write_dag(spec, spec.workflow, spec.done_nodes)
    if dag.scripts and not scripts:
        raise NotSubmittable(NO_SCRIPTS)
    check_files(spec.input_dir, dag.inputs)
    make_folder(folder, dag, spec)
    return Parcel(spec.run_id, dag_files(spec), folders=(), inputs=[(path.name, path, False) for path in sorted(folder.iterdir())])


async def packed(parcels: Sequence[Parcel]) -> AsyncIterator[bytes]:
    """The parcels as chunks of a tar archive. Raises Unreachable when a file cannot be read after all."""
    pipe = _Pipe(asyncio.get_running_loop())
    packing = asyncio.create_task(asyncio.to_thread(_pack, parcels, pipe), name="ssh packing")
    try:
        while chunk := await pipe.chunks.get():
            yield chunk
        await packing
    except (OSError, NotSubmittable) as error:
        raise Unreachable(f"an input cannot be read: {error}") from error
    finally:
        pipe.close()
        await asyncio.gather(packing, return_exceptions=True)


class _Pipe:
    """From the packing thread to the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._unwanted = loop, False
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue(BUFFERS_AHEAD)

    def write(self, data: Any) -> int:
        if self._unwanted:
            raise BrokenPipeError("nobody reads it any more")
        asyncio.run_coroutine_threadsafe(self.chunks.put(bytes(data)), self._loop).result()
        return len(data)

    def close(self) -> None:
        """Let a thread that waits go on, to find that it is not wanted."""
        self._unwanted = True
        while not self.chunks.empty():
            self.chunks.get_nowait()


def _pack(parcels: Iterable[Parcel], pipe: _Pipe) -> None:
    writer: Any = pipe  # all that tarfile wants of it is `write`
    try:
        with tarfile.open(fileobj=writer, mode="w|", format=tarfile.GNU_FORMAT, bufsize=BUFFER_BYTES) as archive:
            for one in parcels:
                _pack_one(archive, one)
    finally:
        pipe.write(b"")  # the end, also of what failed


def _pack_one(archive: tarfile.TarFile, one: Parcel) -> None:
    """The description last: without it nothing can be submitted."""
    root = one.run_id
    made: set[str] = set()

    def folder(name: str) -> None:
        if name not in made:
            made.add(name)
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(info)

    def content(name: str, text: str) -> None:
        raw = text.encode()
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(raw), 0o600
        archive.addfile(info, io.BytesIO(raw))

    def file(name: str, path: Path, *, program: bool) -> None:
        for parent in reversed(Path(name).parents):
            if len(parent.parts) > 1:
                folder(parent.as_posix())
        if path.is_dir():
            folder(name)
            for inside in sorted(path.iterdir()):
                file(f"{name}/{inside.name}", inside, program=False)
            return
        with path.open("rb") as source:
            facts = os.fstat(source.fileno())
            info = tarfile.TarInfo(name)  # the owner and what else is of this machine stay here
            info.size, info.mtime = facts.st_size, int(facts.st_mtime)
            info.mode = 0o700 if program or facts.st_mode & 0o100 else 0o600
            archive.addfile(info, source)

    folder(root)
    content(f"{root}/{LOCK}", "")
    for name in one.folders:
        folder(f"{root}/{name}")
    for name, path, program in one.inputs:
        file(f"{root}/{name}", path, program=program)
    if one.credential:
        content(f"{root}/{OUTPUTS}/{CREDENTIAL_FILE}", one.credential + "\n")
    for name, text in one.texts.items():
        content(f"{root}/{name}", text)
