"""Waiting for jobs: the services' event streams wake us, a plain read says how things are.

An event only says *that* something happened; what the job is now is then fetched (no older than the event), so a lost, repeated or
unknown event can never show a wrong status. Where streams do not work (a proxy that holds them back), reading at intervals does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from jobledger.connection import Connection
from jobledger.errors import ApiError, TimedOut, Unreachable
from jobledger.views import JobView

if TYPE_CHECKING:
    from jobledger.jobs import Job

QUIET_S = 5.0
"""After so long without a word the stream is opened anew, from where we were."""
READ_ALL_EVERY_S = 30.0
"""So often every job is read although no event said so: a stream may be broken in ways that nobody has thought of."""
POLL_INTERVAL_S = 1.0
GIVE_UP_AFTER_S = 120.0
"""How long a service may be unreachable while we wait: longer than any restart."""


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One event of a stream. An empty `data` and `event` is a sign of life."""

    id: str = ""
    event: str = ""
    data: str = ""


def parse_events(lines: Iterator[str]) -> Iterator[ServerSentEvent]:
    """Read events as the HTML standard has them (section 9.2.6); a comment gives an empty event, so that the reader stays awake."""
    fields: dict[str, list[str]] = {}
    last_id = ""
    for line in lines:
        if line.startswith(":"):
            yield ServerSentEvent(last_id)
        elif line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        elif fields:
            last_id = fields.get("id", [last_id])[-1]
            yield ServerSentEvent(last_id, fields.get("event", ["message"])[-1], "\n".join(fields.get("data", [])))
            fields = {}


def wait_for(
    jobs: Sequence[Job],
    connection: Connection,
    *,
    timeout_s: float | None = None,
    on_change: Callable[[Job], None] | None = None,
    done: Callable[[Job], bool] = lambda job: job.is_terminal,
) -> None:
    """Return when all jobs are `done`; `on_change` is told each job once at first, then at each change. Raises `TimedOut`.

    A change is another status, message, progress, run or exit, other counts of a workflow's nodes, or something else that is asked.
    """
    Watch(jobs, connection, timeout_s=timeout_s, on_change=on_change, done=done).run()


def _news(view: JobView) -> tuple[Any, ...]:
    """What makes a change worth telling. Positions, times and references move without anything being new for who waits."""
    said = view.status_code, view.status, view.status_message, view.progress, view.run, view.desired, view.exit_code, view.exit_signal
    return *said, view.node_counts


class Watch:
    """One wait. Not to be used twice."""

    def __init__(
        self,
        jobs: Sequence[Job],
        connection: Connection,
        *,
        timeout_s: float | None,
        on_change: Callable[[Job], None] | None,
        done: Callable[[Job], bool],
    ) -> None:
        self._jobs = {job.id: job for job in jobs}
        self._open = dict(self._jobs)
        self._connection = connection
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._on_change, self._done = on_change, done
        self._shown: dict[str, Any] = {}
        self._unreachable_since: float | None = None
        self._read_at = 0.0

    def run(self) -> None:
        """Wait."""
        path = f"/jobs/{next(iter(self._jobs))}/events" if len(self._jobs) == 1 else "/jobs/events"
        last_id, streams = "", True
        while self._open:
            if not streams:
                self._read_all()
                self._sleep(POLL_INTERVAL_S)
                continue
            try:
                last_id = self._follow(path, last_id)
            except ApiError:
                streams = False
            except Unreachable:
                self._sleep(POLL_INTERVAL_S)
                self._read_all()

    def _follow(self, path: str, last_id: str) -> str:
        """Read one stream until it ends or is quiet; returns the last event's id. Opened before the first read, so nothing is missed."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        with self._connection.jobs.stream(path, headers=headers, read_timeout_s=min(self._left(), QUIET_S)) as response:
            if not last_id or time.monotonic() - self._read_at > READ_ALL_EVERY_S:
                self._read_all()
            try:
                for event in parse_events(response.iter_lines()):
                    last_id = event.id or last_id
                    if event.data:
                        self._wake(event)
                    if not self._open or self._left() < QUIET_S:
                        break
            except httpx.ReadTimeout:
                pass  # quiet
        self._left()
        return last_id

    def _wake(self, event: ServerSentEvent) -> None:
        """Read the job that an event is about, if it is one of ours; all of them when it does not say."""
        try:
            data = msgspec.json.decode(event.data)
        except msgspec.DecodeError:
            data = None
        named = (data.get("id") or data.get("job_id")) if isinstance(data, dict) else None
        if named is None:
            self._read_all()
        elif named in self._open:
            self._read(self._open[named])

    def _read_all(self) -> None:
        self._read_at = time.monotonic()
        for job in list(self._open.values()):
            self._read(job)

    def _read(self, job: Job) -> None:
        try:
            job.refresh()
        except Unreachable:
            now = time.monotonic()
            self._unreachable_since = self._unreachable_since or now
            if now - self._unreachable_since > GIVE_UP_AFTER_S:
                raise
            return
        self._unreachable_since = None
        if self._shown.get(job.id) != (news := _news(job.view)):
            self._shown[job.id] = news
            if self._on_change is not None:
                self._on_change(job)
        if self._done(job):
            self._open.pop(job.id, None)

    def _sleep(self, pause_s: float) -> None:
        time.sleep(min(pause_s, self._left()))

    def _left(self) -> float:
        """Seconds that are left. Raises `TimedOut`."""
        if self._deadline is None:
            return 3600.0
        left = self._deadline - time.monotonic()
        if left <= 0 and self._open:
            job = next(iter(self._open.values()))
            more = f" and {len(self._open) - 1} more" if len(self._open) > 1 else ""
            raise TimedOut(f"{job.name} is {job.cached_status} still{more}; waiting ended, nothing was stopped")
        return max(left, 0.001)
