"""Following what a run writes: from its scheduler while it runs, from the job's files once it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from jobledger import files
from jobledger.connection import Connection
from jobledger.errors import ApiError, InvalidArgument, NotFound, Refused
from jobledger_contracts.statuses import ACTIVE, Status, parse_status

if TYPE_CHECKING:
    from jobledger.jobs import Job

STREAMS: Final = ("stdout", "stderr")
POLL_S: Final = 1.0
REFUSALS: Final = 10
"""How often in a row a run that is said to be running may have nothing to read: it has only just begun, or is about to end."""
NO_SUCH_BYTES: Final = 416


def tail(
    job: Job,
    connection: Connection,
    *,
    stream: str = "stdout",
    follow: bool = False,
    process: int = 0,
    offset: int = 0,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """Pieces of what the current run has written, from `offset` on; with `follow` until it is over, else as far as it is now.

    A run that is begun anew, on another machine say, is read from its beginning. Raises `InvalidArgument`, and what the service says.
    """
    if stream not in STREAMS:
        raise InvalidArgument(f"a run writes to {' and '.join(STREAMS)}, not to {stream!r}")
    refusals = 0
    while True:
        job.refresh()
        status, run_id = parse_status(job.status_code)[0], job.run_id
        if run_id is None or status not in ACTIVE:
            yield from _left(job, connection, f"{stream}.txt", process, offset)
            return
        piece, start, size, refused = b"", offset, offset, False
        if status is not Status.SUBMITTED:
            try:
                piece, start, size = _piece(connection, str(job.view.scheduler), run_id, stream, process, offset)
                refusals = 0
            except Refused:
                refusals += status is not Status.PAUSED  # what is held writes nothing, for as long as it takes
                refused = True
                if refusals > (REFUSALS if follow else 1):
                    raise
        if piece:
            yield piece
        offset = start + len(piece)
        if offset < size:
            continue
        if not follow and not refused:
            return
        sleep(POLL_S)


def tail_node(job: Job, connection: Connection, node: str, stream: str = "stdout", offset: int = 0) -> Iterator[bytes]:
    """Pieces of what a node of a workflow's current run, which is not over, has written so far. Raises `Refused` when it does not run."""
    if stream not in STREAMS:
        raise InvalidArgument(f"a node writes to {' and '.join(STREAMS)}, not to {stream!r}")
    while True:
        piece, start, size = _piece(connection, str(job.view.scheduler), str(job.run_id), stream, 0, offset, node)
        yield piece
        offset = start + len(piece)
        if not piece or offset >= size:
            return


def _piece(
    connection: Connection, scheduler: str, run_id: str, stream: str, process: int, offset: int, node: str = ""
) -> tuple[bytes, int, int]:
    """A piece, where it begins, and how much there is."""
    query = {"stream": stream, "offset": offset, "process": process, **({"node": node} if node else {})}
    answer = connection.schedulers.request("GET", f"/schedulers/{scheduler}/runs/{run_id}/output", params=query)
    return answer.content, int(answer.headers["jobledger-offset"]), int(answer.headers["jobledger-size"])


def _left(job: Job, connection: Connection, name: str, process: int, offset: int) -> Iterator[bytes]:
    """What a run that is over has left, from `offset` on; all of it when it is shorter, as the last execution was another one."""
    for path in (f"run-{job.run}/process-{process}/{name}", f"run-{job.run}/{name}"):
        if path.count("/") == 1 and process:
            return
        try:
            with connection.jobs.stream(files.address(job.id, path), headers={"Range": f"bytes={offset}-"} if offset else {}) as response:
                yield from response.iter_bytes(files.CHUNK_BYTES)
        except NotFound:
            continue
        except ApiError as error:
            if error.status != NO_SUCH_BYTES:
                raise
        return
