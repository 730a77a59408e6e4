"""Runs for tests of what is decided about them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jobledger_contracts.ids import run_id
from jobledger_schedulers.domain.runs import Run

from .events import job_id

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB = job_id(1)


def a_run(**more: Any) -> Run:
    """A run that was just asked for; `more` says what is different."""
    values = {"job_id": JOB, "run": 1, "scheduler": "pool", "desired": "run", "asked_at": NOW, "desired_at": NOW, **more}
    values.setdefault("run_id", run_id(values["job_id"], values["run"]))
    return Run(**values)
