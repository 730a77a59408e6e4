"""An app's own worker: claims results that wait, and has each processed in a child process of its own.

The app's code runs in that child only, so that neither a crash nor a hang of it takes the worker down: after `deadline_s` it is ended.
Each slot is a thread that claims one run, watches its child, and says what came of it.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from jobledger.connection import Connection
from jobledger.errors import ApiError, JobledgerError, ServerError, Unreachable
from jobledger.processing import LEASE_S, Claim, claim_results, module_of, worker_name
from jobledger.worker_child import Outcome

DEADLINE_S: Final = 3600.0
WAIT_S: Final = 5.0  #: how long a claim waits at the service: also how long an idle worker takes to end
LOOK_S: Final = 0.1
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0

log = logging.getLogger("jobledger.worker")


class Worker:
    """Processes the results of one app's jobs (`label`), as many at a time as `concurrency` says.

    It takes the jobs that its key's own user owns, and runs what that user named. With `allow` it takes those of all owners that the key
    may change (an administrator's: all), and runs functions in these packages only. `import_paths` are where the app's code is.
    """

    def __init__(
        self,
        label: str,
        connection: Connection,
        *,
        import_paths: Sequence[Path] = (),
        allow: Sequence[str] = (),
        concurrency: int = 1,
        lease_s: float = LEASE_S,
        deadline_s: float = DEADLINE_S,
        wait_s: float = WAIT_S,
    ) -> None:
        self.label, self.connection, self.name = label, connection, worker_name()
        self.processed = self.failed = 0
        self._import_paths, self._allow, self._concurrency = import_paths, tuple(allow), concurrency
        self._lease_s, self._deadline_s, self._wait_s = lease_s, deadline_s, wait_s
        self._stopping, self._aborted = threading.Event(), threading.Event()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._away = False
        self._user = ""

    def run(self, *, once: bool = False) -> None:
        """Work until `stop` is called, or (`once`) until nothing is due. Raises what cannot be mended by trying again."""
        log.info("Worker %s of %s begins; the jobs service is %s", self.name, self.label, self.connection.urls["jobs"])
        slots = [threading.Thread(target=self._slot, args=(once,), name=f"slot {number}") for number in range(self._concurrency)]
        for slot in slots:
            slot.start()
        told = False
        for slot in slots:
            while slot.is_alive():
                slot.join(0.2)  # signals are heard in between
                if self._stopping.is_set() and not told:
                    told = True
                    log.info("Ending: nothing more is claimed%s", f"; {len(self._children)} at work" if self._children else "")
        log.info("Worker %s has ended: %d processed, %d failed", self.name, self.processed, self.failed)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Claim nothing more, and end when what runs is done."""
        self._stopping.set()

    def abort(self) -> None:
        """End what runs, too. Its leases run out, and it is tried again."""
        self._aborted.set()
        self.stop()
        with self._lock:
            for child in self._children:
                _kill(child)

    def _slot(self, once: bool) -> None:
        pause_s = FIRST_PAUSE_S
        try:
            while not self._stopping.is_set():
                try:
                    claims = self._claim(0.0 if once else self._wait_s)
                except (Unreachable, ServerError) as error:
                    self._say_away(error)
                    self._stopping.wait(pause_s)
                    pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
                    continue
                pause_s = FIRST_PAUSE_S
                self._say_back()
                for claim in claims:
                    self._process(claim)
                if once and not claims:
                    return
        except BaseException as error:  # noqa: BLE001 - it ends the whole worker, and is raised by `run`
            self._error = self._error or error
            self.stop()

    def _claim(self, wait_s: float) -> list[Claim]:
        if not self._user:
            self._user = str(self.connection.jobs.get("/jobs/whoami")["user"])
        user = "" if self._allow else self._user
        return claim_results(self.connection, self.label, worker=self.name, user=user, lease_s=self._lease_s, wait_s=wait_s)

    def _process(self, claim: Claim) -> None:
        job, path = claim.view, claim.view.process_results_function
        what = f"the results of {job.name} (run {claim.run} of {job.id})"
        log.info("Processing %s with %s, attempt %d", what, path, claim.attempt)
        began = time.monotonic()
        refusal = self._refusal(path)
        outcome = Outcome(error=refusal) if refusal else self._run(claim, path)
        if outcome is None:
            log.warning("Left %s: %s", what, "ending at once" if self._aborted.is_set() else "they are not ours any more")
            return
        took_s = time.monotonic() - began
        try:
            if outcome.error:
                after = claim.failed(outcome.error, outcome.traceback)
                self._count(failed=1)
                log.error("Failed on %s after %.1f s: %s%s", what, took_s, outcome.error, _prospect(after))
            else:
                claim.done(outcome.message)
                self._count(processed=1)
                log.info("Processed %s in %.1f s", what, took_s)
        except (Unreachable, ServerError) as error:
            log.warning("What came of %s could not be told; they are tried again: %s", what, error)
        except ApiError as error:
            log.warning("What came of %s counts no more: %s", what, error)

    def _refusal(self, path: str) -> str:
        """Why this worker does not run a function; empty when it does. Another worker of the app may."""
        module = module_of(path)
        if not self._allow or any(module == package or module.startswith(f"{package}.") for package in self._allow):
            return ""
        return f"this worker of {self.label} runs functions in {', '.join(self._allow)} only, and {path} is elsewhere"

    def _run(self, claim: Claim, path: str) -> Outcome | None:
        """Call the function in a child. None when the claim was lost meanwhile, or we are to end at once."""
        with tempfile.TemporaryDirectory(prefix="jobledger-worker-") as folder, claim.kept():
            file = Path(folder, "outcome.json")
            child = subprocess.Popen(
                [sys.executable, "-m", "jobledger.worker_child", claim.view.id, path, str(file)],
                stdin=subprocess.PIPE,  # held open: the child ends when it is closed
                env=self._environment(),
                start_new_session=True,
            )
            with self._lock:
                self._children.add(child)
            try:
                return self._watch(child, claim, file)
            finally:
                _kill(child)
                child.wait()
                if child.stdin is not None:
                    child.stdin.close()
                with self._lock:
                    self._children.discard(child)

    def _watch(self, child: subprocess.Popen[bytes], claim: Claim, file: Path) -> Outcome | None:
        deadline = time.monotonic() + self._deadline_s
        while True:
            with suppress(subprocess.TimeoutExpired):
                code = child.wait(LOOK_S)
                break
            if claim.lost.is_set():
                return None
            if time.monotonic() > deadline:
                return Outcome(error=f"the function took longer than {self._deadline_s:g} s and was ended")
        if self._aborted.is_set():
            return None
        try:
            return msgspec.json.decode(file.read_bytes(), type=Outcome)
        except FileNotFoundError:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            return Outcome(error=f"the process of the function {how}")

    def _environment(self) -> dict[str, str]:
        """The child finds the services as we do, and the app's code."""
        paths = [str(path.resolve()) for path in self._import_paths]
        if inherited := os.environ.get("PYTHONPATH"):
            paths.append(inherited)
        return {**os.environ, **self.connection.environment(), **({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})}

    def _count(self, processed: int = 0, failed: int = 0) -> None:
        with self._lock:
            self.processed, self.failed = self.processed + processed, self.failed + failed

    def _say_away(self, error: JobledgerError) -> None:
        with self._lock:
            if not self._away:
                log.warning("The jobs service does not answer, trying again: %s", error)
            self._away = True

    def _say_back(self) -> None:
        with self._lock:
            if self._away:
                log.info("The jobs service answers again")
            self._away = False


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End a child and what it started. Nothing happens when it has ended and was waited for."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _prospect(view: dict[str, object] | None) -> str:
    return "; it is not tried again" if view and view.get("status_code") == "ERR" else "; it is tried again later"
