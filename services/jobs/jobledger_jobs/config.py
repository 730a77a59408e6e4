"""The settings of the jobs service. Durations are in seconds and sizes in bytes, as their names say."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from jobledger_kit.config import ServiceSettings


class JobsSettings(ServiceSettings, frozen=True, kw_only=True):
    """What the jobs service needs to be told beyond what every service does."""

    verdict_wait_s: Annotated[float, Meta(ge=0, le=60, description="how long a request waits for its verdict before it answers 202")] = 5.0
    max_upload_bytes: Annotated[int, Meta(ge=1, description="largest file that may be uploaded")] = 1 << 30
    database_connections: Annotated[int, Meta(ge=2, le=200, description="connections to PostgreSQL, at most")] = 16
    max_lag: Annotated[int, Meta(ge=0, description="records that the projection may be behind and still count as ready")] = 100_000
    credential_max_age_s: Annotated[int, Meta(ge=60, description="longest life of a run's credential")] = 366 * 86_400
    processing_attempts: Annotated[int, Meta(ge=1, le=1000, description="attempts at processing a run's results before it is an error")] = 5
    processing_retry_s: Annotated[float, Meta(gt=0, le=300, description="wait before the second attempt; it doubles, to 300 s at most")] = (
        10.0
    )
    tethys_callbacks: Annotated[
        bool, Meta(description="take Tethys' callbacks, which are GETs that nobody signs: each asks to have a status looked up, no more")
    ] = False
    tethys_callback_schedulers: Annotated[
        str,
        Meta(description="schedulers, separated by commas, whose jobs these callbacks may move as well; - for jobs without a scheduler"),
    ] = ""
    tethys_callbacks_per_s: Annotated[float, Meta(gt=0, description="how many of these callbacks one process takes in a second")] = 20.0
    refresh_interval_s: Annotated[
        float,
        Meta(ge=1, le=3600, description="of what is asked for later, or by nobody we know, a job's status is looked up once in so long"),
    ] = 10.0
    max_refresh_delay_s: Annotated[int, Meta(ge=1, le=31 * 86_400, description="longest ?delay= of a callback")] = 86_400

    @property
    def movable_schedulers(self) -> frozenset[str]:
        """`tethys_callback_schedulers` as a set."""
        return frozenset(name for part in self.tethys_callback_schedulers.split(",") if (name := part.strip()))
