"""The process in which one function of an app runs: `python -m jobledger.worker_child JOB_ID FUNCTION OUTCOME_FILE`.

It ends when its worker does: the worker holds the other end of its standard input. What came of the call goes into the outcome file;
what the function prints goes where the worker's own output goes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from pathlib import Path

import msgspec

from jobledger.connection import default_connection
from jobledger.job_manager import job_from_view
from jobledger.processing import last_line, resolve
from jobledger.views import JobView


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of a call. Without an error it went well; `message` is what the function returned, if that was a text."""

    error: str = ""
    traceback: str = ""
    message: str | None = None


def end_with_the_worker(stdin: int) -> None:
    """Wait until the worker is gone, then end this process and all that it started: nobody is left to tell what came of it."""
    while os.read(stdin, 1024):
        pass
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def call(job_id: str, path: str) -> Outcome:
    """Fetch the job, import the function, and call it. Never raises."""
    try:
        connection = default_connection()
        job = job_from_view(msgspec.convert(connection.jobs.get(f"/jobs/{job_id}"), JobView, strict=False), connection)
        result = resolve(path)(job)
    except BaseException as error:  # noqa: BLE001 - whatever the app's code does is told; SystemExit too is no success
        return Outcome(error=last_line(error), traceback=traceback.format_exc())
    return Outcome(message=result if isinstance(result, str) else None)


def main() -> None:
    """Run."""
    job_id, path, outcome_file = sys.argv[1:]
    stdin = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the function has nothing to read
    threading.Thread(target=end_with_the_worker, args=(stdin,), daemon=True).start()
    outcome = call(job_id, path)
    sys.stdout.flush()
    half = Path(f"{outcome_file}.half")
    half.write_bytes(msgspec.json.encode(outcome))
    half.rename(outcome_file)
    sys.stderr.flush()
    os._exit(0)  # a thread that the function left behind does not keep us


if __name__ == "__main__":
    main()
