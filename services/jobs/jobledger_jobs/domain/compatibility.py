"""What callbacks of Tethys Platform's kind say: plain GETs without a credential, so they are hints unless an administrator says more."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from jobledger_contracts.ids import is_job_id, parse_run_id
from jobledger_contracts.statuses import FINISHED, Status

NO_SCHEDULER: Final = "-"
"""In the list of schedulers whose jobs may be moved: the jobs that have none."""

_FINISH: Final = {"queued": Status.SUBMITTED, "no-worker": Status.SUBMITTED, "processing": Status.RUNNING, "erred": Status.ERROR}


def parse_dask_key(key: str) -> tuple[str, int | None] | None:
    """Which job, and which run of it (None: the current one), a Dask task's key names. None when it names none.

    >>> parse_dask_key("01990000-0000-7000-8000-000000000001.2")
    ('01990000-0000-7000-8000-000000000001', 2)
    """
    if is_job_id(key):
        return key, None
    try:
        return parse_run_id(key)
    except ValueError:
        return None


def status_of_transition(transition: str, *, scheduler: str) -> Status | None:
    """The status that a task's transition (`processing-memory`) stands for; None when it stands for none.

    A task that was computed or failed may be let go of (`memory-released`, `erred-forgotten`): that says nothing new. Where a scheduler
    of ours runs the job its results have still to be brought home, so then a computed task is not the end.
    """
    start, _, finish = transition.partition("-") if not transition.startswith("no-worker-") else ("no-worker", "-", transition[10:])
    if start in ("memory", "erred", "released", "forgotten"):
        return None
    if finish == "memory":
        return Status.RESULTS_READY if scheduler else Status.COMPLETE
    return _FINISH.get(finish)


def may_move(scheduler: str, allowed: Collection[str]) -> bool:
    """Say whether a callback without a credential may move the status of a job of this scheduler."""
    return (scheduler or NO_SCHEDULER) in allowed


def worth_asking(status: str, *, run: int, deleted: bool) -> bool:
    """Say whether there is a run whose status can be looked up."""
    return run > 0 and not deleted and Status(status) not in FINISHED


class Bucket:
    """Lets through so many a second, and twice as many at once after a quiet time. Times are seconds of a clock that never goes back."""

    def __init__(self, per_s: float) -> None:
        self._per_s, self._most = per_s, max(1.0, 2 * per_s)
        self._left, self._seen_s = self._most, 0.0

    def take(self, now_s: float) -> float:
        """Take one. Returns 0, or the seconds to wait when there is none."""
        self._left = min(self._most, self._left + max(0.0, now_s - self._seen_s) * self._per_s)
        self._seen_s = now_s
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._per_s
