"""Runs as tasks of a Dask scheduler. The run id is the task's key, and the name under which it is published, so that it outlives us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from jobledger_contracts.statuses import Status
from jobledger_schedulers.adapters.dask import task
from jobledger_schedulers.adapters.dask.far import portions, printed, rpc_of, still_there
from jobledger_schedulers.adapters.dask.graph import Published, Request, encoded_graph, request_of, serialized
from jobledger_schedulers.adapters.dask.results import Outcome, Returned, read_result, write_files
from jobledger_schedulers.adapters.dask.session import PROBE_TIMEOUT_S, Session, check_versions, error_text
from jobledger_schedulers.adapters.dask.wire import Opaque
from jobledger_schedulers.adapters.port import (
    AdapterSettings,
    Collected,
    Handle,
    NotSupported,
    Observation,
    OutcomeUnknown,
    Refused,
    RunSpec,
    SchedulerError,
    SchedulerIdentity,
    SubmitRefused,
    Tail,
    Unreachable,
)

log = structlog.get_logger()

KEPT_BYTES = 64 * 2**20
"""Of results that a look has brought along, so that `collect` need not fetch them again."""
PUSHES_KEPT = 10_000
REMEMBERED_RUNS = 100_000
STACKS_TIMEOUT_S = 3.0
MAX_WORDS_CHARS = 500
_WAITING = frozenset({"released", "waiting", "no-worker", "queued"})


class DaskAdapter:
    """One Dask scheduler. See `port.SchedulerAdapter`."""

    def __init__(self, settings: AdapterSettings) -> None:
        self._settings = settings
        self._rpc = rpc_of(settings, settings.timeout_s)
        self._opening = asyncio.Lock()
        self._open: Session | None = None
        self._executions: dict[str, set[str]] = {}  #: run id -> its executions that were heard of
        self._begun_on: dict[str, str] = {}  #: run id -> the worker of the last of them
        self._outcomes: dict[str, Outcome] = {}
        self._returned: dict[str, Returned] = {}
        self._returned_bytes = 0
        self._progress: dict[str, tuple[float, str]] = {}
        self._erred: dict[str, str] = {}
        self._stopped: dict[str, str] = {}
        self._pushed: asyncio.Queue[str] = asyncio.Queue(PUSHES_KEPT)
        self.events: AsyncIterator[Observation] | None = self._events()

    # -- handing over -------------------------------------------------------------------------------------------------------------

    async def submit(self, specs: Sequence[RunSpec]) -> list[Handle | SubmitRefused]:
        """Send one graph with all runs, see that the scheduler has it, and publish each run so that it outlives our connection."""
        answers: dict[str, Handle | SubmitRefused] = {}
        requests: dict[str, Request] = {}
        for spec in specs:
            try:
                requests[spec.run_id] = await asyncio.to_thread(request_of, spec)
            except ValueError as error:
                answers[spec.run_id] = SubmitRefused(spec.run_id, str(error))
        if requests:
            session = await self._session()
            for run in requests:
                for known in (self._erred, self._outcomes, self._progress, self._stopped, self._begun_on):
                    known.pop(run, None)  # of an earlier time, before its scheduler lost it
            await session.send_encoded(await asyncio.to_thread(encoded_graph, requests))
            for run, refusal in (await self._accepted(list(requests))).items():
                answers[run] = SubmitRefused(run, f"the Dask scheduler cannot read the job: {refusal}") if refusal else Handle(run, run)
            await self._publish(session, [run for run in requests if isinstance(answers[run], Handle)])
        return [answers[spec.run_id] for spec in specs]

    async def _accepted(self, runs: list[str]) -> dict[str, str]:
        """Wait until the scheduler knows each run, or says why it will not; run id -> refusal."""
        pause_s = 0.005
        try:
            async with asyncio.timeout(self._rpc.timeout_s):
                while True:
                    states = await self._states(runs)
                    settled = {run: "" if states[run] else self._erred.get(run) for run in runs}
                    if all(refusal is not None for refusal in settled.values()):
                        return {run: refusal or "" for run, refusal in settled.items()}
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, 0.2)
        except (TimeoutError, Unreachable) as error:
            raise OutcomeUnknown(
                f"the Dask scheduler was given {len(runs)} runs and did not say that it has them: {error or 'no answer'}"
            ) from error

    async def _publish(self, session: Session, runs: list[str]) -> None:
        if runs:
            data = tuple(serialized(Published(run)) for run in runs)
            await session.call_in_order("publish_put", names=tuple(runs), keys=tuple((run,) for run in runs), data=data, override=True)

    # -- looking ------------------------------------------------------------------------------------------------------------------

    async def find(self, run_ids: Sequence[str]) -> dict[str, Observation]:
        """Ask the scheduler for these keys; Dask keeps no history."""
        return {seen.run_id: seen for seen in await self.observe(run_ids) if not seen.gone}

    async def observe(self, run_ids: Collection[str]) -> list[Observation]:
        """One question for all states; more only for runs that execute, or have just ended."""
        if not run_ids:
            return []
        session = await self._session()
        starts = {run: len(self._executions.get(run, ())) for run in run_ids}  # before the look: what begins meanwhile is not over
        states = await self._states(run_ids)
        await session.desire([run for run in run_ids if states[run] is not None])
        executing = await self._executing([run for run in run_ids if states[run] == "processing"])
        begun = [run for run in run_ids if states[run] == "processing" and run in self._begun_on]
        doubtful = {run: self._begun_on[run] for run in begun if run not in executing}
        if doubtful:  # begun before, and not seen at work: it has ended this moment, or its worker is lost and it waits for another
            executing |= await still_there(self._rpc, doubtful)
            states |= await self._states(doubtful)
        await self._learn_outcomes([run for run in run_ids if states[run] == "memory" and run not in self._outcomes])
        evidence = {"scheduler": session.scheduler_id}
        return [self._judge(run, states[run], executing.get(run, ""), starts[run], evidence) for run in run_ids]

    def _judge(self, run: str, state: str | None, worker: str, starts: int, evidence: Mapping[str, str]) -> Observation:
        evidence = {**evidence, "state": state or "forgotten", **({"worker": worker} if worker else {})}
        begun = max(0, starts - 1)
        if state is None or state == "forgotten":
            if (reason := self._stopped.get(run)) is not None:
                return Observation(run_id=run, ref=run, status=Status.ABORTED, restarts=starts, message=reason, evidence=evidence)
            return Observation(run_id=run, gone=True, message="the Dask scheduler does not know this run", evidence=evidence)
        status, message, restarts, ready = Status.SUBMITTED, "waiting for a worker", starts, False
        progress, words = self._progress.get(run, (None, ""))
        if state == "processing" and worker:
            status, message, restarts = Status.RUNNING, f"running on {worker}{words and ': '}{words}", begun
        elif state == "no-worker":
            message = "waiting: no worker has what it needs"
        elif state == "memory" and (outcome := self._outcomes.get(run)) is not None:
            begun = max(begun, len(self._executions.get(run, ())) - 1)
            status, message, restarts, ready = outcome.status, outcome.message, begun, True
            if status is Status.COMPLETE and progress is not None:
                progress = 1.0
        elif state == "memory":
            status, message, restarts = Status.RUNNING, "its result is about to be fetched", begun
        elif state == "erred":
            words = self._erred.get(run) or "no worker could do it"
            status, message, restarts, ready = Status.ERROR, f"the task failed outside of the job's own code: {words}", begun, True
        elif state not in _WAITING and state != "processing":
            status, message = Status.OTHER, f"Dask says {state}"
        return Observation(
            run_id=run,
            ref=run,
            status=status,
            restarts=restarts,
            message=message,
            evidence=evidence,
            progress=progress,
            results_ready=ready,
        )

    async def _states(self, runs: Collection[str]) -> dict[str, str | None]:
        answer = await self._rpc.call("get_task_status", keys=list(runs))
        if not isinstance(answer, dict):
            raise Refused("the Dask scheduler answered a question for states with something else")
        return {run: state if isinstance(state := answer.get(run), str) else None for run in runs}

    async def _executing(self, runs: list[str]) -> dict[str, str]:
        """Run id -> worker, of those that a worker executes now; `processing` may also mean that it waits there."""
        if not runs:
            return {}
        try:
            stacks = await self._rpc.call("call_stack", timeout_s=min(STACKS_TIMEOUT_S, self._rpc.timeout_s), keys=runs)
        except (Refused, Unreachable) as error:  # a key that ended just now, or a worker that hangs: then what was heard must do
            log.debug("Dask workers did not say what they execute", error=str(error))
            return {run: "a worker" for run in runs if run in self._executions}
        if not isinstance(stacks, dict):
            return {}
        wanted = set(runs)
        return {run: str(worker) for worker, keys in stacks.items() if isinstance(keys, dict) for run in keys if run in wanted}

    async def _learn_outcomes(self, runs: list[str]) -> None:
        async for run, result in self._results(runs):
            returned = read_result(result)
            self._remember(self._outcomes, run, returned.outcome)
            if run not in self._returned and self._returned_bytes + returned.size <= KEPT_BYTES:
                self._returned[run] = returned
                self._returned_bytes += returned.size

    def _take_returned(self, run: str) -> Returned | None:
        returned = self._returned.pop(run, None)
        self._returned_bytes -= returned.size if returned else 0
        return returned

    async def _results(self, runs: list[str]) -> AsyncIterator[tuple[str, bytes | None]]:
        """Fetch results, through the scheduler, in portions; None for one that is not what our task hands back.

        A result that cannot be had now, as its worker is just lost, is left out.
        """
        for batch in await portions(self._rpc, runs):
            answer = await self._rpc.call("gather", keys=batch, serializers=["dask", "msgpack"])
            if not isinstance(answer, dict) or answer.get("status") != "OK":
                if len(batch) > 1:
                    for run in batch:
                        async for found in self._results([run]):
                            yield found
                continue
            for run, value in answer["data"].items():
                try:
                    yield run, value.raw() if isinstance(value, Opaque) else None
                except ValueError as error:
                    log.warning("A Dask worker handed back something else than its task's result", run_id=run, error=str(error))
                    yield run, None

    # -- acting -------------------------------------------------------------------------------------------------------------------

    async def stop(self, run_ids: Sequence[str], reason: str) -> None:
        """Cancel and forget runs that have not ended. Python that runs is not interrupted: its worker is busy until it returns."""
        states = await self._states(run_ids)
        runs = [run for run, state in states.items() if state is not None and state not in ("memory", "erred", "forgotten")]
        if not runs:
            return
        session = await self._session()
        for run in runs:
            self._remember(self._stopped, run, reason or "stopped")
        # The scheduler asserts that somebody wants what is cancelled.
        await session.send(
            {"op": "client-desires-keys", "keys": runs},
            {"op": "cancel-keys", "keys": runs, "force": True, "reason": "stopped", "msg": reason},
        )
        await self._let_go(session, runs)

    async def hold(self, run_ids: Sequence[str], reason: str) -> None:
        """Not possible."""
        raise NotSupported("Dask cannot hold a run: stop it, and resubmit it later")

    async def suspend(self, run_ids: Sequence[str], reason: str) -> None:
        """Not possible."""
        raise NotSupported("Dask cannot suspend a run: stop it, and resubmit it later")

    async def release(self, run_ids: Sequence[str], reason: str) -> None:
        """Not possible."""
        raise NotSupported("Dask cannot hold runs, so there is none to release")

    async def _let_go(self, session: Session, runs: list[str]) -> None:
        await session.call_in_order("publish_delete", names=tuple(runs))
        await session.release(runs)

    # -- collecting ---------------------------------------------------------------------------------------------------------------

    async def collect(self, run_ids: Sequence[str], target: Callable[[str], Path]) -> Mapping[str, Collected]:
        """Write result.json, result.pickle or error.txt of ended runs, then let the scheduler forget them."""
        session = await self._session()
        states = await self._states(run_ids)
        collected: dict[str, Collected] = {}
        for run in (run for run, state in states.items() if state == "erred"):
            text = f"The task failed outside of the job's own code: {self._erred.get(run) or 'no worker could do it'}\n"
            collected[run] = await asyncio.to_thread(write_files, run, target(run), {"error.txt": text.encode()})
        ended = [run for run, state in states.items() if state == "memory"]
        for run in ended:
            if (returned := self._take_returned(run)) is not None:
                collected[run] = await asyncio.to_thread(write_files, run, target(run), returned.files, returned.saved)
        async for run, result in self._results([run for run in ended if run not in collected]):
            returned = read_result(result)
            self._remember(self._outcomes, run, returned.outcome)
            collected[run] = await asyncio.to_thread(write_files, run, target(run), returned.files, returned.saved)
        for run in ended:
            if run not in collected:
                collected[run] = Collected(run_id=run, error="its result cannot be had from the workers now")
        if done := [run for run, of_run in collected.items() if not of_run.error]:
            await self._let_go(session, done)
        return collected

    # -- what is pushed -----------------------------------------------------------------------------------------------------------

    def _heard(self, op: str, message: Mapping[str, Any]) -> None:
        runs: list[str] = []
        if op == "event":
            event = message.get("event")
            runs = self._note_event(event[1]) if isinstance(event, (tuple, list)) and len(event) == 2 else []
        elif isinstance(keys := message.get("keys", (message.get("key"),)), (tuple, list, frozenset)):
            runs = [key for key in keys if isinstance(key, str)]
            if op == "task-erred":
                for run in runs:
                    self._remember(self._erred, run, error_text(message))
        for run in runs:
            if not self._pushed.full():  # nobody listens; what is pushed is a hint only
                self._pushed.put_nowait(run)

    def _note_event(self, event: Any) -> list[str]:
        if not isinstance(event, dict) or not isinstance(run := event.get("run_id"), str):
            return []
        what, done = event.get("event"), event.get("done")
        if what == "progress" and isinstance(done, float) and 0 <= done <= 1:
            self._remember(self._progress, run, (done, str(event.get("message", ""))[:MAX_WORDS_CHARS]))
            return [run]
        if what != "started":
            return []
        self._progress.pop(run, None)
        known = self._executions.get(run, set())
        if isinstance(execution := event.get("execution"), str) and len(known) < 1000:
            self._remember(self._executions, run, known | {execution[:64]})
            self._remember(self._begun_on, run, str(event.get("worker", "")))
        return [run]

    async def _events(self) -> AsyncIterator[Observation]:
        while True:
            runs = {await self._pushed.get()}
            while not self._pushed.empty():
                runs.add(self._pushed.get_nowait())
            try:
                seen = await self.observe(sorted(runs))
            except SchedulerError as error:
                log.debug("A push could not be followed up", error=str(error))
                continue
            for observation in seen:
                yield observation

    # -- who answers --------------------------------------------------------------------------------------------------------------

    async def tail(self, run_id: str, stream: str, offset: int, max_bytes: int, process: int = 0, node: str = "") -> Tail:
        """Ask the worker that executes the run. What it has printed too much of is left out: see `capture.py`."""
        if stream not in ("stdout", "stderr"):
            raise Refused(f"a Dask run has no {stream[:100]!r}: it has stdout and stderr")
        states = await self._states([run_id])
        if states[run_id] == "memory":
            async for _, result in self._results([run_id]):
                text = read_result(result).files.get(f"{stream}.txt", b"")
                return Tail(data=text[offset : offset + max_bytes], offset=min(offset, len(text)), size=len(text))
        worker = (await self._executing([run_id])).get(run_id, "") if states[run_id] == "processing" else ""
        if "://" not in worker:
            raise Refused("the run is not at work now")
        return await printed(self._rpc, worker, run_id, stream, offset, max_bytes)

    async def ping(self) -> SchedulerIdentity:
        """Ask for identity and versions; a scheduler that hangs is found out in a few seconds."""
        identity = await self._rpc.call("identity", timeout_s=min(PROBE_TIMEOUT_S, self._rpc.timeout_s), n_workers=0)
        version = await check_versions(self._rpc)
        return SchedulerIdentity(
            version=version,
            identity=str(identity.get("id", "")),
            detail=f"{identity.get('n_workers', 0)} workers, {identity.get('total_threads', 0)} threads",
        )

    async def shortages(self) -> list[str]:
        """No worker, no work; see `views.Surveyed`."""
        identity = await self._rpc.call("identity", timeout_s=min(PROBE_TIMEOUT_S, self._rpc.timeout_s), n_workers=0)
        return [] if isinstance(identity, dict) and identity.get("n_workers") else ["the Dask scheduler has no workers"]

    async def close(self) -> None:
        """Leave; runs go on."""
        if self._open is not None:
            await self._open.close()
            self._open = None
        await self._rpc.close()

    async def _session(self) -> Session:
        """The session, opened anew when it was lost."""
        async with self._opening:
            if self._open is None or not self._open.alive:
                if self._open is not None:
                    await self._open.close()
                    self._rpc.forget_idle()
                self._open = await Session(self._rpc, self._heard, self._settings.heartbeat_interval_s).open()
                past = await self._rpc.call("events", topic=task.EVENTS_TOPIC)
                for entry in past if isinstance(past, (tuple, list)) else ():
                    if isinstance(entry, (tuple, list)) and len(entry) == 2:
                        self._note_event(entry[1])
            return self._open

    def _remember(self, where: dict[str, Any], run: str, what: Any) -> None:
        """Keep the latest; a bound on what many runs over many months add up to."""
        where.pop(run, None)
        where[run] = what
        if len(where) > REMEMBERED_RUNS:
            del where[next(iter(where))]
