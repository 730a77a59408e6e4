"""What a look at a run is worth: a report, its end, or a doubt whether it is still there."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from jobledger_contracts.job_events import JobCreated
from jobledger_contracts.statuses import Status

from .runs import Phase, Run, Seen

MISSING_LOOKS = 5
MISSING_FOR = timedelta(seconds=20)
"""A run is given up as lost only after so many looks over so long a time, each of them in queue and history: while a pool moves a job
from its queue to its history, neither may show it."""

MOST_RESTARTS = 10
"""A run that began so often is not handed over once more: it may be what its scheduler dies of."""

STOP_AGAIN_AFTER = timedelta(seconds=10)
"""A run that is still there so long after it was to end is told again."""


class Change(msgspec.Struct, frozen=True):
    """Something to tell of a run. With `collect`, its output is fetched first and its end told after."""

    run: Run
    seen: Seen
    collect: bool = False


def settle(run: Run, seen: Seen) -> Seen:
    """Make a look comparable with the earlier ones.

    `restarts` never goes back: a report with a lower number than an earlier one would be taken for a late one. An end that the
    scheduler calls good is not, when the program's exit says otherwise.
    """
    restarts = max(seen.restarts, run.seen.restarts if run.seen else 0)
    status, message = seen.status, seen.message
    if status is Status.COMPLETE and (seen.exit_signal is not None or seen.exit_code):
        status = Status.ERROR
        message = message or exit_in_words(seen)
    if status is Status.ERROR and not message:
        message = exit_in_words(seen)
    return msgspec.structs.replace(
        seen, restarts=restarts, status=status, message=message, ref=seen.ref or run.ref, resources=seen.resources if seen.over else None
    )


def exit_in_words(seen: Seen) -> str:
    """Say how a program ended, for people."""
    if seen.exit_signal is not None:
        return f"The program was ended by signal {seen.exit_signal}."
    if seen.exit_code is not None:
        return f"The program ended with exit code {seen.exit_code}."
    return "The run ended with an error."


def judge(run: Run, seen: Seen, *, results_ready: bool) -> Change | None:
    """Compare a look with the last one that was reported. None: nothing new, or nothing that is ours to say."""
    if run.phase is not Phase.PLACED:
        return None
    seen = settle(run, seen)
    if seen.over:
        return Change(run, seen, collect=results_ready)
    return None if seen == run.seen else Change(run, seen)


def missed(run: Run, now: datetime) -> Run:
    """A run that a look could not find: count it."""
    return msgspec.structs.replace(run, missing_since=run.missing_since or now, missing_looks=run.missing_looks + 1)


def lost(run: Run, now: datetime) -> bool:
    """Say whether a run has been missing so often and so long that it will not come back."""
    return run.missing_since is not None and run.missing_looks >= MISSING_LOOKS and now - run.missing_since >= MISSING_FOR


def lost_seen(run: Run, scheduler: str) -> Seen:
    """What to tell of a run that is lost. One that was to end has ended, as far as anybody can know."""
    where = f"{scheduler} knows nothing of it any more: neither among its current runs nor in its history"
    if run.desired == "stop":
        status, message = Status.ABORTED, f"The run was stopped; {where}."
    else:
        status, message = Status.ERROR, f"The run is lost: {where}, after {run.missing_looks} looks."
    return Seen(status=status, message=message, ref=run.ref, restarts=run.seen.restarts if run.seen else 0)


def begins_again(run: Run, job: JobCreated) -> bool:
    """Say whether a run that is lost is handed over once more, as its owner asked for: only who wrote it knows that doing it twice is
    no harm."""
    if run.desired != "run" or job.dask is None or job.dask.on_lost != "resubmit":
        return False
    return (run.seen.restarts if run.seen else 0) < MOST_RESTARTS


def again_seen(run: Run, scheduler: str) -> Seen:
    """What to tell of a run that is handed over once more: it waits again, and one more execution is over."""
    restarts = (run.seen.restarts if run.seen else 0) + 1
    message = f"{scheduler} has lost the run; it is handed over again."
    return Seen(status=Status.SUBMITTED, message=message, ref=run.ref, restarts=restarts)


def stop_again(run: Run, seen: Seen, now: datetime) -> bool:
    """Say whether a run that is to end is still there, although there was time enough."""
    if run.phase is not Phase.PLACED or run.desired != "stop" or seen.over:
        return False
    return now - max(run.stop_sent_at or run.desired_at, run.desired_at) > STOP_AGAIN_AFTER
