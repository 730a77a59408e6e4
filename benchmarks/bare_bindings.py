"""HTCondor's own bindings in a process of their own, as bare as they can be used: what our way to a pool is measured against.

`python -m benchmarks.bare_bindings COLLECTOR SCHEDD TOKENS`: one `Order` as JSON a line on standard input, one `Answer` a line back.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from jobledger_schedulers.adapters.htcondor.worker import keep_none

Op = Literal["bulk", "one by one", "fill", "query", "remove"]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: submit `count` procs of one cluster at once, or as many clusters one after the other, each with an input file that is
    spooled; submit a cluster of each of `runs`, without files; query; remove."""

    op: Op
    count: int = 0
    input_file: str = ""
    runs: list[str] = []
    constraint: str = ""
    projection: list[str] = []


class Answer(msgspec.Struct, frozen=True):
    """How long the bindings took, and how many ads there were."""

    seconds: float
    rows: int = 0


DESCRIPTION = {"executable": "/bin/true", "transfer_executable": "false", "requirements": "false", "notification": "never"}
"""A job that no machine ever runs."""


def do(schedd: Any, order: Order) -> int:
    import htcondor2

    spooled = {**DESCRIPTION, "transfer_input_files": order.input_file, "should_transfer_files": "YES", "My.Bench": "true"}
    if order.op == "bulk":
        schedd.spool(schedd.submit(htcondor2.Submit(spooled), count=order.count, spool=True))
    elif order.op == "one by one":
        for _ in range(order.count):
            schedd.spool(schedd.submit(htcondor2.Submit(spooled), count=1, spool=True))
    elif order.op == "fill":
        for run in order.runs:
            schedd.submit(htcondor2.Submit({**DESCRIPTION, "My.JobledgerRunId": f'"{run}"'}))
    elif order.op == "remove":
        schedd.act(htcondor2.JobAction.Remove, order.constraint, "measured")
    else:
        return len(schedd.query(order.constraint, order.projection))
    return order.count


def main(collector: str, schedd_name: str, tokens: str) -> None:
    os.environ["CONDOR_CONFIG"] = "/dev/null"
    import htcondor2

    keep_none()
    htcondor2.param["SEC_TOKEN_DIRECTORY"] = tokens
    for level in ("AUTHENTICATION", "ENCRYPTION"):
        htcondor2.param[f"SEC_CLIENT_{level}"] = "REQUIRED"
    htcondor2.param["SEC_CLIENT_AUTHENTICATION_METHODS"] = "IDTOKENS"
    schedd = htcondor2.Schedd(htcondor2.Collector(collector).locate(htcondor2.DaemonType.Schedd, schedd_name))
    for line in sys.stdin:
        begun = time.perf_counter()
        rows = do(schedd, msgspec.json.decode(line, type=Order))
        sys.stdout.write(msgspec.json.encode(Answer(time.perf_counter() - begun, rows)).decode() + "\n")
        sys.stdout.flush()


class Bare:
    """Our side of that process."""

    def __init__(self, process: Any) -> None:
        self._process = process

    async def __call__(self, op: Op, **more: Any) -> Answer:
        self._process.stdin.write(msgspec.json.encode(Order(op=op, **more)) + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the bindings have failed; what they say stands above")
        return msgspec.json.decode(line, type=Answer)

    async def end(self) -> None:
        """It ends when there are no more orders."""
        self._process.stdin.close()
        await self._process.wait()


@asynccontextmanager
async def bare_bindings(collector: str, schedd_name: str, token: str, folder: Path) -> AsyncIterator[Bare]:
    """Start it with a token, which is kept in `folder`."""
    folder.mkdir(mode=0o700)
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(token)
    arguments: Sequence[str] = (sys.executable, "-m", "benchmarks.bare_bindings", collector, schedd_name, str(folder))
    process = await asyncio.create_subprocess_exec(*arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    bare = Bare(process)
    try:
        yield bare
    finally:
        await bare.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
