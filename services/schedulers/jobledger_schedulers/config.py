"""Settings of the schedulers service, beside those that every service has."""

from __future__ import annotations

from typing import Annotated, Literal

from jobledger_kit.config import ServiceSettings
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]


class SchedulersSettings(ServiceSettings, frozen=True, kw_only=True):
    """`JOBLEDGER_<NAME>` for each field. Durations are in seconds."""

    reactor: Annotated[Literal["faust", "loop"], Meta(description="reads the events of jobs: faust-streaming, or a plain consumer")] = "faust"
    sweep_interval_s: Annotated[float, Meta(gt=0, description="how often a scheduler is asked about its current runs")] = 2.0
    health_interval_s: Annotated[float, Meta(gt=0, description="how often a scheduler without runs is asked whether it is there")] = 15.0
    lane_lease_s: Annotated[float, Meta(ge=3, description="how long a scheduler stays with an instance that is not heard of")] = 30.0
    effect_batch: Annotated[int, Meta(ge=1, le=5000, description="how many requests to one scheduler are carried out at once")] = 200
    collect_batch: Annotated[int, Meta(ge=1, le=1000, description="of how many ended runs the output is collected at once")] = 20
    collect_attempts: Annotated[int, Meta(ge=1, description="how often collecting a run's output is tried")] = 8
    run_credential_lifetime_s: Annotated[float, Meta(gt=0, description="how long a run may report for itself")] = 7 * 86_400.0
    unknown_scheduler_grace_s: Annotated[
        float, Meta(ge=0, description="how long a run waits for a scheduler that nobody has registered")
    ] = 30.0
