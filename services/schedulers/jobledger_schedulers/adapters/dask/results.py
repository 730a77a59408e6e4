"""Reading what our task handed back. Pure, but for `write_files`; nothing in a result is ever executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from jobledger_contracts.statuses import Status
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


def read_result(result: bytes | None) -> tuple[Outcome, dict[str, bytes]]:
    """How the run ended, and the files that say so. None, and whatever our task never returns, is an error of the run."""
    kind, body = (result[4:5], result[5:]) if result is not None and result[:4] == MAGIC else (b"", b"")
    if kind == b"J" and _is_json(body):
        return Outcome(Status.COMPLETE, "ended with a result"), {"result.json": body}
    if kind == b"P":
        return Outcome(Status.COMPLETE, "ended with a result that is a Python object"), {"result.pickle": body}
    if kind == b"E":
        try:
            failure = msgspec.json.decode(body, type=_Failure)
        except msgspec.MsgspecError:
            failure = _Failure("Error", "what went wrong cannot be read")
        message = f"{failure.type}: {failure.message}"[:SHORT_MESSAGE_CHARS]
        return Outcome(Status.ERROR, message), {"error.txt": (failure.traceback or message).encode("utf-8", "replace")}
    text = "the worker handed back something else than the job's result"
    return Outcome(Status.ERROR, text), {"error.txt": text.encode()}


def write_files(run_id: str, folder: Path, files: Mapping[str, bytes]) -> Collected:
    """Write files into a run's folder. Blocks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        return Collected(run_id=run_id, error=f"its result cannot be written here: {error}")
    return Collected(run_id=run_id, files=sorted(files))


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return False
    return True
