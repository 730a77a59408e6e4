"""Reading what our task handed back. Pure, but for `write_files`; nothing in a result is ever executed."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated

import msgspec

from jobledger_contracts.job_events import ResultFile
from jobledger_contracts.statuses import Status
from jobledger_kit.errors import InvalidPath
from jobledger_kit.workspace import safe_path
from jobledger_schedulers.adapters.dask.task import MAGIC
from jobledger_schedulers.adapters.port import Collected

SHORT_MESSAGE_CHARS = 1000


class Outcome(msgspec.Struct, frozen=True):
    """How a run ended."""

    status: Status
    message: str


class _Failure(msgspec.Struct):
    type: str = ""
    message: str = ""
    traceback: str = ""


class _Header(msgspec.Struct):
    kind: str
    sizes: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=3, max_length=3)]
    saved: Annotated[list[ResultFile], msgspec.Meta(max_length=10_000)] = []


class Returned(msgspec.Struct, frozen=True):
    """What our task handed back."""

    outcome: Outcome
    files: Mapping[str, bytes]
    saved: Sequence[ResultFile] = ()  #: what the worker has brought to the workspace itself; paths are relative to the run's folder

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.files.values()))


_NOT_OURS = "the worker handed back something else than the job's result"


def read_result(result: bytes | None) -> Returned:
    """How the run ended, and the files that say so. None, and whatever our task never returns, is an error of the run."""
    try:
        header, body, stdout, stderr = _unpacked(result or b"")
    except (ValueError, struct.error, msgspec.MsgspecError, InvalidPath):
        return Returned(Outcome(Status.ERROR, _NOT_OURS), {"error.txt": _NOT_OURS.encode()})
    printed = {name: text for name, text in (("stdout.txt", stdout), ("stderr.txt", stderr)) if text}
    outcome, files = _ended(header.kind, body)
    return Returned(outcome, {**printed, **files}, header.saved)


def _unpacked(result: bytes) -> tuple[_Header, bytes, bytes, bytes]:
    """Raises ValueError, struct.error, MsgspecError and InvalidPath for what our task did not write."""
    if result[:4] != MAGIC:
        raise ValueError("another beginning")
    (length,) = struct.unpack_from("<I", result, 4)
    header = msgspec.json.decode(result[8 : 8 + length], type=_Header)
    if 8 + length + sum(header.sizes) != len(result):
        raise ValueError("another size than it says")
    for file in header.saved:
        safe_path(file.path)
    body, stdout, stderr = (result[start:end] for start, end in pairwise(accumulate(header.sizes, initial=8 + length)))
    return header, body, stdout, stderr


def _ended(kind: str, body: bytes) -> tuple[Outcome, dict[str, bytes]]:
    if kind == "J" and _is_json(body):
        return Outcome(Status.COMPLETE, "ended with a result"), {"result.json": body}
    if kind == "P":
        return Outcome(Status.COMPLETE, "ended with a result that is a Python object"), {"result.pickle": body}
    if kind == "W":
        return Outcome(Status.COMPLETE, "ended with a large result, which its worker has brought to the workspace"), {}
    if kind == "E":
        try:
            failure = msgspec.json.decode(body, type=_Failure)
        except msgspec.MsgspecError:
            failure = _Failure("Error", "what went wrong cannot be read")
        message = f"{failure.type}: {failure.message}"[:SHORT_MESSAGE_CHARS]
        return Outcome(Status.ERROR, message), {"error.txt": (failure.traceback or message).encode("utf-8", "replace")}
    return Outcome(Status.ERROR, _NOT_OURS), {"error.txt": _NOT_OURS.encode()}


def write_files(run_id: str, folder: Path, files: Mapping[str, bytes], saved: Sequence[ResultFile] = ()) -> Collected:
    """Write files into a run's folder. Blocks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        return Collected(run_id=run_id, error=f"its result cannot be written here: {error}")
    return Collected(run_id=run_id, files=sorted(files), delivered=tuple(saved))


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return False
    return True
