"""Settings of the schedulers service, beside those that every service has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from jobledger_kit.config import ServiceSettings

ROLES: Final = ("all", "api", "reactors")


class SchedulersSettings(ServiceSettings, frozen=True, kw_only=True):
    """`JOBLEDGER_<NAME>` for each field. Durations are in seconds."""

    data_dir: Annotated[Path, Meta(description="folder of this instance's own: sockets, tokens and files on their way")] = Path("data")
    http_port: Annotated[int, Meta(ge=0, le=65_535, description="port to listen on; 0 takes a free one")] = 8001
    reactor: Annotated[
        Literal["faust", "loop"], Meta(description="what reads the events of jobs: faust-streaming, or a plain consumer")
    ] = "faust"
    sweep_interval_s: Annotated[float, Meta(gt=0, description="how often a scheduler is asked about its current runs")] = 2.0
    health_interval_s: Annotated[float, Meta(gt=0, description="how often a scheduler without runs is asked whether it is there")] = 15.0
    slow_answer_s: Annotated[float, Meta(gt=0, description="a scheduler that takes longer to say that it is there is degraded")] = 3.0
    lane_lease_s: Annotated[float, Meta(ge=3, description="how long a scheduler stays with an instance that is not heard of")] = 30.0
    condor_tail: Annotated[
        str, Meta(description="HTCondor's program condor_tail, which reads what a run writes; empty: the one on the PATH")
    ] = ""
    effect_batch: Annotated[int, Meta(ge=1, le=5000, description="how many requests to one scheduler are carried out at once")] = 200
    collect_batch: Annotated[int, Meta(ge=1, le=1000, description="of how many ended runs the output is collected at once")] = 20
    collect_attempts: Annotated[int, Meta(ge=1, description="how often a run's output is asked for: 20 take about an hour")] = 20
    run_credential_lifetime_s: Annotated[float, Meta(gt=0, description="how long a run may report for itself")] = 7 * 86_400.0
    unknown_scheduler_grace_s: Annotated[
        float, Meta(ge=0, description="how long a run waits for a scheduler that nobody has registered")
    ] = 30.0
    verdict_wait_s: Annotated[float, Meta(ge=0, le=60, description="how long a request waits for its verdict before it answers 202")] = 5.0
    database_connections: Annotated[int, Meta(ge=4, le=200, description="connections to PostgreSQL, at most")] = 16

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> list[str]:
        problems = super().check(values)
        if values.get("role", "all") not in ROLES:
            problems.append(f"{cls.prefix}ROLE: this service has the roles {', '.join(ROLES)}")
        return problems
