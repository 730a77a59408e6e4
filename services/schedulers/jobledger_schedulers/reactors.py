"""From an applied event about a job to the effects that it asks for. Pure; the ledger carries them out (see reconciler.py).

An effect is named after its run, so that the same request asks for it once. Its lane is its scheduler: a scheduler that hangs holds up
only its own. Its stream is its job: what is asked of one job is done in the order in which it was asked.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from jobledger_contracts.job import Job
from jobledger_contracts.topics import JOBS
from jobledger_kit.effects import Effect
from jobledger_kit.folds import Folded

SUBMIT, STOP, PAUSE, RESUME, REFRESH = "submit", "stop", "pause", "resume", "refresh"

_KINDS = {
    "ExecuteRequested": SUBMIT,
    "ResubmitRequested": SUBMIT,
    "StopRequested": STOP,
    "PauseRequested": PAUSE,
    "ResumeRequested": RESUME,
    "RefreshRequested": REFRESH,
}
_ONCE_A_RUN = {SUBMIT, STOP}


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an effect carries beside its name."""

    run_id: str
    reason: str = ""


def react(folded: Folded) -> Iterable[Effect]:
    """The effects of one folded event: none, unless it is a request that took effect on a run of one of our schedulers."""
    kind = _KINDS.get(folded.event.type)
    if kind is None or not folded.verdict.applied or folded.record.topic != JOBS:
        return ()
    job: Job = folded.after
    if job.created is None or not job.created.scheduler or not job.run:
        return ()
    key = f"{kind}:{job.run_id}" if kind in _ONCE_A_RUN else f"{kind}:{job.run_id}:{job.version}"
    ask = Ask(job.run_id, getattr(folded.event.data, "reason", ""))
    return (Effect(key=key, lane=job.created.scheduler, stream=job.job_id, kind=kind, payload=msgspec.msgpack.encode(ask)),)


def asked(effect: Effect) -> Ask:
    """Read what an effect of ours carries."""
    return msgspec.msgpack.decode(effect.payload, type=Ask)
