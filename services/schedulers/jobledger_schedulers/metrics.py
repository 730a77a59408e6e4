"""What this service counts."""

from __future__ import annotations

from typing import Final

from jobledger_kit.telemetry import counter, gauge, histogram

LANES_HELD: Final = gauge("schedulers_lanes_held", "Schedulers that this instance works on")
LANE_FAILURES: Final = counter("schedulers_lane_failures_total", "Failures after which the work on a scheduler began anew", ("scheduler",))
SUBMITTED: Final = counter("schedulers_runs_submitted_total", "Runs handed to their scheduler", ("scheduler",))
REFUSED: Final = counter("schedulers_runs_refused_total", "Runs that a scheduler would not take", ("scheduler",))
SUBMIT_SECONDS: Final = histogram("schedulers_submit_seconds", "From a run's request in the log to its handle", ("scheduler",))
PLACED: Final = gauge("schedulers_runs_placed", "Runs that a scheduler has", ("scheduler",))
SWEEP_SECONDS: Final = histogram("schedulers_sweep_seconds", "Time of one look at all current runs", ("scheduler",))
COLLECTED_BYTES: Final = counter("schedulers_collected_bytes_total", "Bytes of output brought into workspaces", ("scheduler",))
