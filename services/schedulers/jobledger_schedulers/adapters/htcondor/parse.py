"""From ClassAds to observations. Pure: rows in, verdicts out.

A row is a job ClassAd as JSON, without its undefined attributes. Sources: HTCondor manual, "Job ClassAd Attributes" and
"Hold Reason Codes"; what a spooled job's ad really holds was captured from pools of 23.9 (tests/data/htcondor).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import msgspec

from jobledger_contracts.statuses import FINISHED, Status
from jobledger_schedulers.adapters.htcondor.command import (
    GIVEN_UP,
    HOLD_LIMIT_ATTRIBUTE,
    MESSAGE_ATTRIBUTE,
    NODE_ATTRIBUTE,
    POST_ATTRIBUTE,
    PROGRESS_ATTRIBUTE,
    RETRY_ATTRIBUTE,
    RUN_ID_ATTRIBUTE,
    SUBMITTER_ATTRIBUTE,
)
from jobledger_schedulers.adapters.htcondor.resources import MEASURES, resources_of
from jobledger_schedulers.adapters.port import Observation

Row = Mapping[str, Any]


class JobStatus(IntEnum):
    """HTCondor's own statuses."""

    IDLE = 1
    RUNNING = 2
    REMOVING = 3
    COMPLETED = 4
    HELD = 5
    TRANSFERRING_OUTPUT = 6
    SUSPENDED = 7


SPOOLING = 16
"""Hold code of a job whose input files are still being sent: a wait, not a hold."""

# fmt: off
PROJECTION = [
    "ClusterId", "ProcId", "JobStatus", "LastJobStatus", "Owner", RUN_ID_ATTRIBUTE, SUBMITTER_ATTRIBUTE, "TotalSubmitProcs",
    "NumJobStarts", "ExitCode", "ExitBySignal", "ExitSignal", "JobSuccessExitCode", "HoldReason", "HoldReasonCode", "HoldReasonSubCode",
    "RemoveReason", "RemoteHost", "LastRemoteHost", "QDate", "EnteredCurrentStatus", "CompletionDate", "StageInFinish", "StageOutFinish",
    "TransferOutput", "JobUniverse", "DAGManJobId", NODE_ATTRIBUTE, RETRY_ATTRIBUTE, POST_ATTRIBUTE, "DAG_NodesTotal", "DAG_NodesDone",
    "DAG_NodesFailed", "DAG_NodesQueued", "DAG_NodesReady", "DAG_NodesUnready", "DAG_NodesFutile", "NumShadowStarts", "NumHolds",
    "NumSuspensions", "VacateReason", "VacateReasonCode", "LastHoldReason", "LastHoldReasonCode", "LastHoldReasonSubCode",
    HOLD_LIMIT_ATTRIBUTE, PROGRESS_ATTRIBUTE, MESSAGE_ATTRIBUTE, *MEASURES,
]
# fmt: on
_EVIDENCE = (
    frozenset(PROJECTION)
    - frozenset(MEASURES)
    - {RUN_ID_ATTRIBUTE, SUBMITTER_ATTRIBUTE, PROGRESS_ATTRIBUTE, MESSAGE_ATTRIBUTE, "TotalSubmitProcs", "TransferOutput", "JobUniverse"}
)

HOLD_REASONS: Mapping[int, str] = {
    1: "held on request",
    3: "held by the job's own policy (periodic_hold or on_exit_hold)",
    4: "held because its credentials are invalid",
    5: "held because an expression of the job's policy has no value",
    6: "held because the program could not be started",
    7: "held because its standard output could not be opened",
    8: "held because its standard input could not be opened",
    12: "held because its output files could not be brought back",
    13: "held because its input files could not be sent",
    14: "held because its working directory cannot be used",
    15: "submitted on hold",
    16: "its input files are on their way",
    19: "held because the machine's preparation for the job failed",
    20: "held because it missed the time at which it was to start",
    21: "held by the policy of the machine",
    22: "held because its log could not be written",
    23: "held because its user account cannot be used",
    26: "held by the policy of the access point",
    27: "held because the policy of the access point has no value for it",
    32: "held because its input files are larger than the access point allows",
    33: "held because its output files are larger than the access point allows",
    34: "held because it used more memory or disk than it asked for",
    35: "held because the container image cannot be used",
    36: "held because it failed to write its checkpoint",
    43: "held because its pre script failed",
    44: "held because its post script failed",
    45: "held because the container runtime does not work on the machine",
    46: "held because it took longer than its allowed job duration",
    47: "held because it ran longer than its allowed execute duration",
    48: "held because the access point's preparation for the job failed",
}
"""HoldReasonCode -> what it means. (Manual, "Hold Reason Codes".)"""

_ERRNO_SUBCODES = frozenset({6, 7, 8, 9, 10, 14})
_OUT_OF = {102: "memory: ask for more with request_memory", 104: "disk: ask for more with request_disk"}


class Proc(msgspec.Struct, frozen=True):
    """What one proc of a run is at."""

    number: int
    status: Status
    restarts: int
    message: str = ""
    exit_code: int | None = None
    exit_signal: int | None = None
    results_ready: bool = False
    row: Row = {}

    @property
    def progress(self) -> float | None:
        """What the job says of itself through its starter, from 0 to 1; a process that has ended is through."""
        if self.status in FINISHED:
            return 1.0
        value = self.row.get(PROGRESS_ATTRIBUTE)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            return None
        return float(value)


def run_of(row: Row) -> str:
    """The run that an ad belongs to; empty when it is not one of ours."""
    value = row.get(RUN_ID_ATTRIBUTE)
    return value if isinstance(value, str) else ""


def judge(queue: Iterable[Row], history: Iterable[Row] = ()) -> dict[str, Observation]:
    """Say of every run that appears in these ads what it is at.

    Should a run have been submitted twice, the older cluster counts.
    """
    procs: defaultdict[str, dict[int, dict[int, Proc]]] = defaultdict(lambda: defaultdict(dict))
    for rows, in_queue in ((history, False), (queue, True)):  # the queue is later news than the history
        for row in rows:
            if (run := run_of(row)) and isinstance(row.get("ClusterId"), int) and not _never_arrived(row):
                proc = judge_proc(row, in_queue=in_queue)
                procs[run][row["ClusterId"]][proc.number] = proc
    return {run: _judge_run(run, clusters) for run, clusters in procs.items()}


def _never_arrived(row: Row) -> bool:
    """A submission whose input files were never sent, and that was therefore removed: there was no such run."""
    return row.get("JobStatus") == JobStatus.REMOVING and row.get("StageInFinish") is None and SUBMITTER_ATTRIBUTE in row


def missing_procs(queue: Iterable[Row]) -> set[str]:
    """Runs of which some procs are in the queue and others have left it already."""
    seen: Counter[str] = Counter()
    total: dict[str, int] = {}
    for row in queue:
        seen[run_of(row)] += 1
        total[run_of(row)] = integer(row, "TotalSubmitProcs") or 1
    return {run for run, count in seen.items() if run and count < total[run]}


def waiting_for_files(queue: Iterable[Row], busy: Collection[str]) -> list[Row]:
    """Ads of runs whose input files have not arrived, and which are not among `busy`: those that we are handing over now.

    Either the schedd is about to notice that the files are there, or nobody will ever send them.
    """
    return [
        row
        for row in queue
        if row.get("JobStatus") == JobStatus.HELD
        and row.get("HoldReasonCode") == SPOOLING
        and row.get("StageInFinish") is None
        and run_of(row) not in busy
    ]


def _judge_run(run: str, clusters: Mapping[int, Mapping[int, Proc]]) -> Observation:
    cluster = min(clusters)
    procs = [proc for _, proc in sorted(clusters[cluster].items())]
    total = max(len(procs), integer(procs[0].row, "TotalSubmitProcs") or 1)
    counts = Counter(proc.status for proc in procs)
    ended = len(procs) == total and all(proc.status in FINISHED for proc in procs)
    # Those that are not to be seen are on their way from the queue to the history, or not made yet: no end before they have been seen.
    alike = len(counts) == 1 and (ended or procs[0].status not in FINISHED)
    status = procs[0].status if alike else Status.VARIOUS_COMPLETE if ended else Status.VARIOUS
    if total == 1:
        message, evidence = procs[0].message, _evidence(procs[0].row)
    else:
        if unseen := total - len(procs):
            counts[Status.PENDING] = unseen
        told = ", ".join(f"{count} {name}" for name, count in sorted((name.value, count) for name, count in counts.items()))
        # One proc's words stand for all where they are all alike, and for the first in trouble where they are not.
        trouble = next((proc for proc in procs if proc.status in (Status.ERROR, Status.PAUSED)), procs[0])
        message = f"{total} processes: {told}" + (f"; process {trouble.number}: {trouble.message}" if trouble.message else "")
        evidence = {"counts": {name.value: count for name, count in counts.items()}, "procs": total, **_evidence(trouble.row)}
    if len(clusters) > 1:
        evidence["also_submitted_as"] = sorted(clusters)[1:]
    codes, signals = {proc.exit_code for proc in procs}, {proc.exit_signal for proc in procs}
    return Observation(
        run_id=run,
        ref=str(cluster),
        status=status,
        restarts=sum(proc.restarts for proc in procs),
        message=message,
        exit_code=codes.pop() if len(codes) == 1 else None,
        exit_signal=signals.pop() if len(signals) == 1 else None,
        evidence=evidence,
        progress=_progress(procs, total),
        resources=resources_of([proc.row for proc in procs]),
        results_ready=ended and any(proc.results_ready for proc in procs),
    )


def _progress(procs: Sequence[Proc], total: int) -> float | None:
    """How far a run is: as far as its processes say, those that say nothing counted as at their beginning. None when none says anything."""
    if not any(PROGRESS_ATTRIBUTE in proc.row for proc in procs):
        return None
    return round(sum(proc.progress or 0.0 for proc in procs) / total, 4)


def judge_proc(row: Row, *, in_queue: bool) -> Proc:
    """Say what one ad is at."""
    number, status, starts = integer(row, "ProcId") or 0, row.get("JobStatus"), max(0, integer(row, "NumJobStarts") or 0)
    over_but_one = max(0, starts - 1)
    if status == JobStatus.COMPLETED or (status == JobStatus.REMOVING and row.get("LastJobStatus") == JobStatus.COMPLETED):
        # A completed spooled job that is removed, not retrieved, stands in the history as removed.
        end, message = _judge_exit(row)
        taken = (integer(row, "StageOutFinish") or 0) >= (integer(row, "EnteredCurrentStatus") or 1)
        ready = in_queue and status == JobStatus.COMPLETED and not taken
        code, by = (None, integer(row, "ExitSignal")) if row.get("ExitBySignal") is True else (integer(row, "ExitCode"), None)
        return Proc(number, end, over_but_one, message, code, by, ready, row)
    if status == JobStatus.REMOVING:
        if given_up := _given_up(row):
            return Proc(number, Status.ERROR, starts, given_up, row=row)
        return Proc(number, Status.ABORTED, starts, str(row.get("RemoveReason") or "removed"), row=row)
    if status in (JobStatus.RUNNING, JobStatus.TRANSFERRING_OUTPUT):
        host = row.get("RemoteHost")
        said = str(row.get(MESSAGE_ATTRIBUTE) or "") or (f"running on {host}" if host else "")
        return Proc(number, Status.RUNNING, over_but_one, said, row=row)
    if status == JobStatus.SUSPENDED:  # still the same execution
        return Proc(number, Status.PAUSED, over_but_one, "suspended", row=row)
    if status == JobStatus.HELD:
        # HoldReason may linger on a job that is held no more: it counts here only.
        if row.get("HoldReasonCode") == SPOOLING:
            return Proc(number, Status.SUBMITTED, starts, HOLD_REASONS[SPOOLING], row=row)
        return Proc(number, Status.PAUSED, starts, hold_reason(row), row=row)
    if status == JobStatus.IDLE:
        return Proc(number, Status.SUBMITTED, starts, _waiting(row, starts), row=row)
    return Proc(number, Status.OTHER, starts, f"HTCondor says JobStatus {status}", row=row)


def _waiting(row: Row, starts: int) -> str:
    """Why a job is not running. The reason of a hold is no reason of an eviction, although HTCondor notes it as one too."""
    why = str(row.get("VacateReason") or "").strip()
    evicted = bool(why) and row.get("VacateReasonCode") != row.get("LastHoldReasonCode")
    return "waiting for a machine" + (" again" if starts else "") + (f": {why}" if starts and evicted else "")


def _given_up(row: Row) -> str:
    """Why a job that was held for too long was removed by its own policy; empty when something else removed it."""
    if row.get(HOLD_LIMIT_ATTRIBUTE) is None or row.get("RemoveReason") != GIVEN_UP:
        return ""
    held = {name: row.get(f"Last{name}") for name in ("HoldReason", "HoldReasonCode", "HoldReasonSubCode")}
    return f"given up after {row[HOLD_LIMIT_ATTRIBUTE]} s: {hold_reason(held)}"


def _judge_exit(row: Row) -> tuple[Status, str]:
    if row.get("ExitBySignal") is True:
        number = integer(row, "ExitSignal")
        return Status.ERROR, f"ended by signal {number}{_signal_name(number)}"
    code, good = integer(row, "ExitCode"), integer(row, "JobSuccessExitCode") or 0
    if code is None:
        return Status.ERROR, "ended, and HTCondor does not say how"
    return (Status.COMPLETE if code == good else Status.ERROR), f"ended with exit code {code}"


def hold_reason(row: Row) -> str:
    """Why a job is held, in plain words, followed by what HTCondor itself says."""
    code, subcode, said = integer(row, "HoldReasonCode"), integer(row, "HoldReasonSubCode") or 0, str(row.get("HoldReason") or "").strip()
    words = HOLD_REASONS.get(code or 0, f"held (code {code})" if code else "held")
    if code in _ERRNO_SUBCODES and subcode > 0:
        words += f" ({os.strerror(subcode)})"
    elif code == 34 and subcode in _OUT_OF:
        words += f" ({_OUT_OF[subcode]})"
    numbers = f" [hold code {code}{f'.{subcode}' if subcode else ''}]" if code else ""
    return (f"{words}: {said}" if said else words) + numbers


def _signal_name(number: int | None) -> str:
    try:
        return f" ({signal.Signals(number or 0).name})"
    except ValueError:
        return ""


def _evidence(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in _EVIDENCE and value is not None}


def integer(row: Row, name: str) -> int | None:
    """The whole number that an attribute holds; None when it holds none."""
    value = row.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# -- who answers, and with what we come -------------------------------------------------------------------------------------------


def version_of(text: str) -> str:
    """`23.9.6` of `$CondorVersion: 23.9.6 2026-07-12 ... $`; the text itself when it looks otherwise."""
    match = re.search(r"CondorVersion:\s*(\d+(?:\.\d+)+)", text)
    return match[1] if match else text


class _Claims(msgspec.Struct):
    sub: str = ""
    iss: str = ""
    exp: float | None = None


def token_facts(token: str, now: datetime) -> str:
    """What an IDTOKEN says of itself, without its signature: whose it is, which pool signed it, and whether it has expired."""
    parts = token.strip().split(".")
    try:
        raw = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)) if len(parts) == 3 else b""
        claims = msgspec.json.decode(raw, type=_Claims)
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        return "the token is no IDTOKEN" if token.strip() else "there is no token"
    facts = f"the token is {claims.sub or 'nobody'}'s, signed by {claims.iss or 'nobody'}"
    if claims.exp is not None:
        until = datetime.fromtimestamp(claims.exp, UTC)
        facts += f", and {'expired' if until <= now else 'is valid until'} {until:%Y-%m-%d %H:%M:%S} UTC"
    return facts
