"""Where a Dask scheduler is, and what one of its workers is asked through it."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from functools import partial

from jobledger_schedulers.adapters.dask.capture import read_output
from jobledger_schedulers.adapters.dask.graph import by_value
from jobledger_schedulers.adapters.dask.tls import tls_context
from jobledger_schedulers.adapters.dask.wire import Opaque, Rpc
from jobledger_schedulers.adapters.port import AdapterSettings, Refused, Tail

GATHER_BYTES = 64 * 2**20
"""How much of results is fetched at once."""


def address_of(settings: AdapterSettings) -> str:
    """Where a Dask scheduler is, as Dask writes addresses."""
    host = settings.host if "://" in settings.host else f"tcp://{settings.host}"
    return f"{host}:{settings.port}" if settings.port else host


def rpc_of(settings: AdapterSettings, timeout_s: float) -> Rpc:
    """Calls of that scheduler, over TLS where its address says so."""
    address = address_of(settings)
    return Rpc(address, timeout_s, partial(tls_context, settings, address))


async def still_there(rpc: Rpc, begun_on: Mapping[str, str]) -> dict[str, str]:
    """Of runs, and the workers that began them: those that these workers still have, as far as the scheduler knows."""
    had = await rpc.call("processing")
    if not isinstance(had, dict):
        raise Refused("the Dask scheduler answered a question for what its workers do with something else")
    keys = {worker: set(had.get(worker, ())) for worker in set(begun_on.values())}
    return {run: worker for run, worker in begun_on.items() if run in keys[worker]}


async def portions(rpc: Rpc, runs: list[str]) -> list[list[str]]:
    """Runs whose results are fetched together."""
    if not runs:
        return []
    try:
        sizes = await rpc.call("nbytes", keys=runs, summary=False)
    except Refused:  # one of them is gone in the meantime
        sizes = {}
    found: list[list[str]] = [[]]
    total = 0
    for run in runs:
        size = sizes.get(run, 0) if isinstance(sizes, dict) else 0
        if found[-1] and (total + size > GATHER_BYTES or not sizes):
            found.append([])
            total = 0
        found[-1].append(run)
        total += size
    return found


async def printed(rpc: Rpc, worker: str, run_id: str, stream: str, offset: int, max_bytes: int) -> Tail:
    """What a run on that worker has printed so far. Raises SchedulerError."""
    arguments = pickle.dumps((run_id, stream, offset, max_bytes))
    asked = {"op": "run", "function": by_value(read_output), "args": arguments, "wait": True}
    answer = await rpc.call("proxy", worker=worker, msg=asked)
    piece = answer.get("result") if isinstance(answer, dict) and answer.get("status") == "OK" else None
    try:
        data = piece.raw() if isinstance(piece, Opaque) else piece
    except ValueError as error:
        raise Refused(f"the Dask worker {worker} answered with something else than what was printed: {error}") from error
    if not isinstance(data, bytes):
        raise Refused(f"the Dask worker {worker} does not say what was printed")
    if len(data) < 16:
        raise Refused("the run is not at work there any more")
    begins, size = struct.unpack_from("<QQ", data)
    return Tail(data=data[16:], offset=begins, size=size)
