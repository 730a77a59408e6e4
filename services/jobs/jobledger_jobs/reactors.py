"""An applied event that asks something of the world becomes an effect in the ledger. Pure; the reconciler carries effects out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jobledger_contracts import topics
from jobledger_kit.effects import Effect
from jobledger_kit.folds import Folded

WORKSPACES: Final = "workspaces"  #: lane of the effects on the jobs' folders
REMOVE_WORKSPACE: Final = "remove_workspace"
REFRESH: Final = "refresh"  #: asked for by a callback, not by an event; see `refreshes.py`


def react(folded: Folded) -> Iterable[Effect]:
    """A deleted job's folder goes. Its history stays."""
    if folded.record.topic != topics.JOBS or not folded.verdict.applied or folded.event.type != "JobDeleted":
        return []
    job_id = folded.event.key
    return [Effect(key=f"{REMOVE_WORKSPACE}:{job_id}", lane=WORKSPACES, stream=job_id, kind=REMOVE_WORKSPACE)]
