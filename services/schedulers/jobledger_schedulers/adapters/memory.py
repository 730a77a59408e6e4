"""A scheduler in memory, held to the same contract suite as the real ones. For tests, and for trying things out.

`MemoryScheduler` is the far side, which outlives adapters as a real scheduler does; a test moves its runs along. `MemoryAdapter`
is our side. `fail` and `lose_answer` make calls go wrong in the ways that real ones do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from jobledger_contracts.job_events import Resources
from jobledger_contracts.statuses import FINISHED, Status
from jobledger_schedulers.adapters.port import (
    Collected,
    Handle,
    NotSupported,
    Observation,
    OutcomeUnknown,
    RunSpec,
    SchedulerError,
    SchedulerIdentity,
    SubmitRefused,
    Tail,
)


class MemoryRun(msgspec.Struct, kw_only=True):
    """A run as the scheduler in memory keeps it."""

    spec: RunSpec
    ref: str
    status: Status = Status.SUBMITTED
    restarts: int = 0
    message: str = "waiting for a machine"
    exit_code: int | None = None
    exit_signal: int | None = None
    files: dict[str, bytes] = {}
    cpu_s: float = 0.0
    suspended: bool = False  #: paused, and still on its machine
    in_queue: bool = True  #: False: only the history knows it


class MemoryScheduler:
    """Keeps runs. Refuses a run whose spec says nothing to run."""

    def __init__(self) -> None:
        self.runs: dict[str, MemoryRun] = {}
        self.submissions: list[str] = []  #: run ids in the order in which they were accepted, repeated ones too
        self.calls: list[str] = []  #: names of the port's methods, as they were called
        self.pushed: asyncio.Queue[Observation] = asyncio.Queue()
        self.machines = 1  #: where runs could be executed
        self._failures: dict[str, deque[SchedulerError]] = {}
        self._lost_answers: dict[str, int] = {}

    def fail(self, method: str, error: SchedulerError) -> None:
        """Let the next call of a method raise, without doing anything."""
        self._failures.setdefault(method, deque()).append(error)

    def lose_answer(self, method: str) -> None:
        """Let the next call of a method be carried out, and then raise OutcomeUnknown all the same."""
        self._lost_answers[method] = self._lost_answers.get(method, 0) + 1

    def start(self, run_id: str) -> None:
        """A machine was found."""
        self.move(run_id, Status.RUNNING, "running")

    def evict(self, run_id: str) -> None:
        """The machine was lost; the run waits for another."""
        self.runs[run_id].restarts += 1
        self.move(run_id, Status.SUBMITTED, "waiting for a machine again")

    def end(self, run_id: str, exit_code: int = 0, files: Mapping[str, bytes] | None = None, exit_signal: int | None = None) -> None:
        """The run ended."""
        run = self.runs[run_id]
        run.exit_code, run.exit_signal = (exit_code, None) if exit_signal is None else (None, exit_signal)
        run.files = {"stdout.txt": b"", "stderr.txt": b"", **(files or {})}
        good = exit_code == 0 and exit_signal is None
        self.move(run_id, Status.COMPLETE if good else Status.ERROR, f"ended with exit code {exit_code}")

    def forget(self, run_id: str) -> None:
        """The scheduler lost all trace of a run."""
        del self.runs[run_id]

    def move(self, run_id: str, status: Status, message: str) -> None:
        """Give a run a status, and push the news."""
        run = self.runs[run_id]
        run.status, run.message = status, message
        self.pushed.put_nowait(self.observation(run_id))

    def observation(self, run_id: str) -> Observation:
        """What is seen of a run; each look finds that it has used a second more."""
        run = self.runs.get(run_id)
        if run is None:
            return Observation(run_id=run_id, gone=True, message="the scheduler has no such run")
        run.cpu_s += run.status is Status.RUNNING
        return Observation(
            run_id=run_id,
            ref=run.ref,
            status=run.status,
            restarts=run.restarts,
            message=run.message,
            exit_code=run.exit_code,
            exit_signal=run.exit_signal,
            evidence={"status": run.status.value, "in_queue": run.in_queue},
            resources=Resources(cpu_user_s=run.cpu_s),
            results_ready=run.in_queue and run.status in FINISHED and run.status is not Status.ABORTED,
        )

    def begin(self, method: str) -> None:
        """Note a call, and fail as was asked for."""
        self.calls.append(method)
        if failures := self._failures.get(method):
            raise failures.popleft()

    def answer(self, method: str) -> None:
        """Lose the answer of a call that was carried out, as was asked for."""
        if self._lost_answers.get(method):
            self._lost_answers[method] -= 1
            raise OutcomeUnknown("the answer was lost")


class MemoryAdapter:
    """See `port.SchedulerAdapter`."""

    def __init__(self, scheduler: MemoryScheduler | None = None, *, pushes: bool = False) -> None:
        self.scheduler = scheduler or MemoryScheduler()
        self.events: AsyncIterator[Observation] | None = self._events() if pushes else None
        self.closed = False

    async def _events(self) -> AsyncIterator[Observation]:
        while True:
            yield await self.scheduler.pushed.get()

    async def submit(self, specs: Sequence[RunSpec]) -> list[Handle | SubmitRefused]:
        """Accept runs."""
        far = self.scheduler
        far.begin("submit")
        answers: list[Handle | SubmitRefused] = []
        for spec in specs:
            if spec.condor is None and spec.dask is None:
                answers.append(SubmitRefused(spec.run_id, "the job does not say what to run"))
                continue
            far.submissions.append(spec.run_id)
            run = far.runs.setdefault(spec.run_id, MemoryRun(spec=spec, ref=str(len(far.submissions))))
            answers.append(Handle(spec.run_id, run.ref))
        far.answer("submit")
        return answers

    async def find(self, run_ids: Sequence[str]) -> dict[str, Observation]:
        """Look runs up."""
        self.scheduler.begin("find")
        return {run: self.scheduler.observation(run) for run in run_ids if run in self.scheduler.runs}

    async def observe(self, run_ids: Collection[str]) -> list[Observation]:
        """Look at runs."""
        self.scheduler.begin("observe")
        return [self.scheduler.observation(run) for run in run_ids]

    async def stop(self, run_ids: Sequence[str], reason: str) -> None:
        """End runs that have not ended."""
        self.scheduler.begin("stop")
        for run in self._known(run_ids):
            if run.status not in FINISHED:
                run.in_queue = False
                self.scheduler.move(run.spec.run_id, Status.ABORTED, reason)
        self.scheduler.answer("stop")

    async def hold(self, run_ids: Sequence[str], reason: str) -> None:
        """Hold runs that have not ended."""
        self.scheduler.begin("hold")
        for run in self._known(run_ids):
            if run.status in (Status.SUBMITTED, Status.RUNNING):
                run.restarts += run.status is Status.RUNNING
                self.scheduler.move(run.spec.run_id, Status.PAUSED, reason)
        self.scheduler.answer("hold")

    async def suspend(self, run_ids: Sequence[str], reason: str) -> None:
        """Stop runs where they are, and hold those that wait."""
        self.scheduler.begin("suspend")
        for run in self._known(run_ids):
            if run.status in (Status.SUBMITTED, Status.RUNNING):
                run.suspended = run.status is Status.RUNNING
                self.scheduler.move(run.spec.run_id, Status.PAUSED, "suspended" if run.suspended else reason)
        self.scheduler.answer("suspend")

    async def release(self, run_ids: Sequence[str], reason: str) -> None:
        """Let held runs wait for a machine, and suspended ones go on."""
        self.scheduler.begin("release")
        for run in self._known(run_ids):
            if run.status is Status.PAUSED and run.suspended:
                run.suspended = False
                self.scheduler.move(run.spec.run_id, Status.RUNNING, "running")
            elif run.status is Status.PAUSED:
                self.scheduler.move(run.spec.run_id, Status.SUBMITTED, "waiting for a machine")
        self.scheduler.answer("release")

    async def collect(self, run_ids: Sequence[str], target: Callable[[str], Path]) -> Mapping[str, Collected]:
        """Write the files of ended runs, and leave those to the history."""
        self.scheduler.begin("collect")
        collected: dict[str, Collected] = {}
        for run in self._known(run_ids):
            run_id = run.spec.run_id
            if not self.scheduler.observation(run_id).results_ready:
                continue
            folder = target(run_id)
            for name, content in run.files.items():
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            asked = run.spec.condor.output_files if run.spec.condor is not None else []
            missing = sorted(name for name in asked if name not in run.files)
            collected[run_id] = Collected(run_id=run_id, files=sorted(run.files), missing=missing)
            run.in_queue = False
        self.scheduler.answer("collect")
        return collected

    async def tail(self, run_id: str, stream: str, offset: int, max_bytes: int, process: int = 0, node: str = "") -> Tail:
        """Not possible here."""
        raise NotSupported("runs of this scheduler write nothing while they run")

    async def ping(self) -> SchedulerIdentity:
        """Answer."""
        self.scheduler.begin("ping")
        return SchedulerIdentity(version="1.0", identity="memory")

    async def shortages(self) -> list[str]:
        """What is missing for runs to be executed; see `views.Surveyed`."""
        self.scheduler.begin("shortages")
        return [] if self.scheduler.machines else ["the scheduler in memory has no machines"]

    async def close(self) -> None:
        """Take no more calls seriously."""
        self.closed = True

    def _known(self, run_ids: Sequence[str]) -> list[MemoryRun]:
        return [self.scheduler.runs[run] for run in run_ids if run in self.scheduler.runs]
