"""What a job that runs has written so far, read from its sandbox by HTCondor's own `condor_tail`: the bindings cannot.

condor_tail knows no offsets, only last bytes: so all of it is brought here, as far as `MAX_LIVE_BYTES`, and cut here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

from jobledger_schedulers.adapters.port import NotSupported, Refused, Tail, Unreachable

MAX_LIVE_BYTES: Final = 8 * 2**20
"""Of what a run has written so far, as much can be looked at before it ends."""
STREAMS: Final = {"stdout": (), "stderr": ("-no-stdout", "-stderr")}


class LiveOutput:
    """Reads for one identity. `program` is where condor_tail is; empty: on the PATH. `params` are settings of HTCondor's."""

    def __init__(self, program: str, pool: str, params: dict[str, str], timeout_s: float) -> None:
        self._program, self._pool, self._timeout_s = program or "condor_tail", pool, timeout_s
        # Nothing of a configuration on this machine may get in between.
        settings = {f"_CONDOR_{name}": value for name, value in params.items()}
        self._environment = {"CONDOR_CONFIG": "/dev/null", "PATH": os.defpath, "LANG": "C.UTF-8", **settings}

    async def read(self, schedd: str, job_id: str, stream: str, offset: int, max_bytes: int) -> Tail:
        """A piece of what the job has written. Raises NotSupported, Refused (not at this moment, or too much), and Unreachable."""
        program = shutil.which(self._program)
        if program is None:
            raise NotSupported(
                "what a run writes can be followed through HTCondor's own protocol only where the service has the program condor_tail "
                "(JOBLEDGER_CONDOR_TAIL); by ssh it can be followed everywhere"
            )
        arguments = ["-pool", self._pool, "-name", schedd, "-maxbytes", str(MAX_LIVE_BYTES), *STREAMS[stream], job_id]
        return piece_of(await self._run(program, arguments), offset, max_bytes)

    async def _run(self, program: str, arguments: list[str]) -> bytes:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=self._environment, cwd="/"
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                said, complained = await process.communicate()
        except TimeoutError as error:
            raise Unreachable(f"{Path(program).name} did not answer within {self._timeout_s:g} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())
        if process.returncode != 0:
            why = " ".join(complained.decode(errors="replace").split())[:500] or "it says nothing"
            raise Refused(f"what the run writes cannot be read at this moment: {why}")
        return said


def check_stream(stream: str) -> None:
    """Raises NotSupported."""
    if stream not in STREAMS:
        raise NotSupported(f"what can be followed is {' and '.join(STREAMS)}, not {stream!r}")


def piece_of(written: bytes, offset: int, max_bytes: int) -> Tail:
    """Up to `max_bytes` from `offset` on; from the beginning when there is less: it was begun anew. Raises Refused for too much.

    >>> piece_of(b"hello", 2, 2)
    Tail(data=b'll', offset=2, size=5)
    """
    size = len(written)
    if size >= MAX_LIVE_BYTES:
        raise Refused(
            f"the run has written more than {MAX_LIVE_BYTES} bytes: more can be seen only when it has ended, or with stream_output=true"
        )
    start = offset if offset <= size else 0
    return Tail(data=written[start : start + max_bytes], offset=start, size=size)
