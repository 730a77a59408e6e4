"""Bringing output home: what a run left is fetched into the job's workspace, and only then its end is told.

The end waits for the output, so that whoever sees Complete finds it. When fetching fails, the run is told to be Results-Ready with why,
and it is tried again; when that is hopeless the end is told with the reason, and what is at the scheduler stays there.
A crash after the scheduler has let go of a run finds the files in the folder: what the scheduler no longer has was fetched before.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from jobledger_contracts.job_events import JobCreated, ResultFile
from jobledger_contracts.statuses import Status

from .adapters.port import Collected, NotSupported, Refused
from .domain import reports
from .domain.backoff import delay_s
from .domain.nodes import with_nodes
from .domain.runs import Seen
from .lane import Backoff, Lane, LaneLost
from .metrics import COLLECTED_BYTES
from .nodes import Nodes
from .staging import run_folder
from .store import Ending
from .troubles import TROUBLES, in_words

IDLE_S: Final = 5.0
CHUNK_BYTES: Final = 1 << 20
FIRST_RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 300.0
TELL_AFTER: Final = 3  #: failures: an access point that has just ended a job often needs a moment before it hands its output out


class Collection:
    """Fetches the output of the ended runs of one lane, and tells their ends."""

    def __init__(self, lane: Lane, nodes: Nodes | None = None) -> None:
        self._lane, self._nodes = lane, nodes or Nodes(lane)
        self._backoff = Backoff()

    async def run(self) -> None:
        """Work until cancelled. Raises LaneLost, and faults of ours."""
        lane = self._lane
        while True:
            try:
                busy = await self.once()
            except LaneLost:
                raise
            except TROUBLES as error:
                wait_s = self._backoff.failed()
                lane.log.warning("Output could not be collected", action="collection_failed", error=in_words(error), retry_after_s=wait_s)
                await lane.came_back.wait(wait_s)
                continue
            self._backoff.reset()
            if not busy:
                await lane.fetch.wait(IDLE_S)

    async def once(self) -> bool:
        """Fetch one batch. Says whether there was any."""
        lane = self._lane
        endings = await lane.store.to_collect(lane.name, lane.settings.collect_batch)
        if not endings:
            return False
        jobs = await lane.store.created([ending.run.run_id for ending in endings])
        targets = {e.run.run_id: lane.staging.output_folder(e.run.run_id, jobs[e.run.run_id], e.run.run) for e in endings}
        lane.guard()
        collected = await self._fetch(list(targets), targets)
        ends = ((ending, ending.run.run_id) for ending in endings)
        finished = (self._finish(ending, jobs[run_id], targets[run_id], collected.get(run_id)) for ending, run_id in ends)
        # Together: each waits for the log and the database, which take many at once.
        for outcome in await asyncio.gather(*finished, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return True

    async def _fetch(self, run_ids: Sequence[str], targets: dict[str, Path]) -> dict[str, Collected]:
        """Ask the scheduler for the output. A refusal that names no run is looked for among them one by one."""
        try:
            return dict(await self._lane.adapter.collect(run_ids, targets.__getitem__))
        except (Refused, NotSupported) as error:
            if len(run_ids) == 1:
                return {run_ids[0]: Collected(run_id=run_ids[0], error=in_words(error))}
            found: dict[str, Collected] = {}
            for run_id in run_ids:
                found |= await self._fetch([run_id], targets)
            return found

    async def _finish(self, ending: Ending, job: JobCreated, target: Path, collected: Collected | None) -> None:
        lane, run = self._lane, ending.run
        problem = collected.error if collected else ""
        files: list[ResultFile] = []
        if not problem:
            try:
                files = await asyncio.to_thread(inventory, target, run_folder(run.run))
                files += delivered(collected, run_folder(run.run), files)
                await lane.staging.deliver(run.run_id, job, run.run)
            except Exception as error:  # noqa: BLE001 - every remote file system has errors of its own; all mean: not delivered
                problem = f"{type(error).__name__}: {error}"
        if problem:
            await self._put_off(ending, problem)
            return
        nothing = collected is None and not files
        if nothing:
            ending = msgspec.structs.replace(ending, seen=_with(ending, "The scheduler no longer has its output."))
        if collected is not None:
            ending = msgspec.structs.replace(ending, seen=with_nodes(ending.seen, collected.nodes, collected.message))
        await self._nodes.tell({run.run_id: run}, {run.run_id: collected.nodes if collected else ()}, lane.clock.now())
        await self._tell(ending, files, collected.missing if collected else [], told=not nothing)
        await lane.staging.delivered(run.run_id)

    async def _put_off(self, ending: Ending, problem: str) -> None:
        """Try again later, and say so once; or give up."""
        lane, run = self._lane, ending.run
        tried = run.collect_attempts + 1
        lane.log.warning("A run's output could not be collected", action="collect_failed", run_id=run.run_id, tried=tried, error=problem)
        if tried >= lane.settings.collect_attempts:
            message = f"Its output could not be collected, after {tried} attempts: {problem}"
            await self._tell(msgspec.structs.replace(ending, seen=_with(ending, message)), [], [], told=False)
            return
        if tried == TELL_AFTER:
            message = f"The run is over; its output could not be collected yet: {problem}"
            waiting = msgspec.structs.replace(ending.seen, status=Status.RESULTS_READY, message=message)
            now = lane.clock.now()
            await lane.publish([reports.changed(run, waiting, now)])
            await lane.store.reported([(run, waiting, now)])
        await lane.store.collect_later(run.run_id, delay_s(tried, 1.0, first_s=FIRST_RETRY_S, most_s=LONGEST_RETRY_S))

    async def _tell(self, ending: Ending, files: list[ResultFile], missing: Sequence[str], *, told: bool) -> None:
        """Tell what there is, then the end: in this order, in the same partition."""
        lane, run = self._lane, ending.run
        now: datetime = lane.clock.now()
        seen = ending.seen
        if missing:
            seen = _with(ending, f"Files that were asked for are missing: {', '.join(missing[:10])}.")
        await self._nodes.end([(run, seen.status)], now)
        events = reports.collected(run, files, missing, now) if told else []
        await lane.publish([*events, reports.ended(run, seen, now, ending.evidence)])
        await lane.store.ended([run.run_id])
        COLLECTED_BYTES.labels(lane.name).inc(sum(file.size for file in files))
        lane.log.info("A run has ended", action="run_ended", run_id=run.run_id, status=seen.status.value, files=len(files))


def inventory(folder: Path, name: str) -> list[ResultFile]:
    """What lies in a folder, with sizes and digests; paths are relative to the folder's parent. Links are not followed."""
    files = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_symlink() or not path.is_file():
            continue
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        inside = path.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()
        files.append(ResultFile(path=f"{name}/{inside}", size=size, sha256=digest.hexdigest()))
    return files


def delivered(collected: Collected | None, name: str, there: Sequence[ResultFile]) -> list[ResultFile]:
    """What the run itself has brought to a workspace, and was not seen there because it is not a local folder."""
    known = {file.path for file in there}
    theirs = (msgspec.structs.replace(file, path=f"{name}/{file.path}") for file in (collected.delivered if collected else ()))
    return [file for file in theirs if file.path not in known]


def _with(ending: Ending, addition: str) -> Seen:
    """How the run ended, and what else is to be said of it."""
    message = f"{ending.seen.message} {addition}".strip()
    return msgspec.structs.replace(ending.seen, message=message)
