"""Which jobs are meant: constraints over runs, and how far back in the history they can be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from uuid import UUID

from jobledger_contracts.ids import parse_run_id
from jobledger_schedulers.adapters.htcondor.command import RUN_ID_ATTRIBUTE

RUNS_PER_QUERY = 250
"""Run ids in one constraint: some 10 kB of text."""
ASK_FOR_ALL_FROM = 100
"""From so many runs on, `observe` asks for all of ours instead of naming them."""
UNSAID = "nobody said why"
"""HTCondor drops an action's code when its reason is empty."""
LEAVE_IN_QUEUE_S = 10 * 86_400
"""How long a spooled job waits for its retrieval: submission's own LeaveJobInQueue."""


def members(run_ids: Iterable[str]) -> Iterator[str]:
    """Constraints that together match these runs. A run id has no character that a ClassAd string would need escaped."""
    for batch in batches(sorted(run_ids), RUNS_PER_QUERY):
        for run in batch:
            parse_run_id(run)
        yield f'stringListMember({RUN_ID_ATTRIBUTE}, "{",".join(batch)}")'


def since(run_ids: Iterable[str]) -> str:
    """Where a look back can end: what entered its last status before the oldest of these jobs existed cannot be one of them.

    A UUIDv7 holds its time. Jobs stand in the history in the order in which they left the queue, up to LeaveJobInQueue late; a
    day more for clocks that differ. Empty, for all of the history, when an id tells no time.
    """
    oldest = None
    for run in run_ids:
        job = UUID(parse_run_id(run)[0])
        if job.version != 7:
            return ""
        made = (job.int >> 80) / 1000
        oldest = made if oldest is None else min(oldest, made)
    return f"EnteredCurrentStatus < {int(oldest) - LEAVE_IN_QUEUE_S - 86_400}" if oldest is not None else ""


def batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def one_line(text: str) -> str:
    return " ".join(text.split())[:1000] or UNSAID
