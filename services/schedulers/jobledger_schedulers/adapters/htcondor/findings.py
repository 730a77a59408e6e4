"""What the steps of an examination mean, in plain words, and what to do. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jobledger_schedulers.adapters.htcondor.parse import token_facts, version_of
from jobledger_schedulers.adapters.port import AuthenticationFailed, SchedulerError
from jobledger_schedulers.adapters.views import Finding

ORDER = ("answer", "authentication", "authorization", "version", "queue", "slots", "clock")
CLOCKS_APART_S = 30.0
"""From here on, tokens that were just made are not valid yet, and times of jobs mislead."""
OLDEST = (9, 0)
"""The first stable series with IDTOKENS as we use them."""
FAR_APART = 2
"""HTCondor promises to work with the neighbouring long-term series; farther apart is nobody's promise."""

Facts = Mapping[str, Any]


def of(rows: Sequence[Facts], failure: SchedulerError | None, token: str, now: datetime) -> list[Finding]:
    """The findings of the steps that were taken; the step in which `failure` came has failed with it."""
    found = [_STEPS[row["step"]](row, token, now) for row in rows]
    if failure is None:
        return found
    step = ORDER[len(found)] if len(found) < len(ORDER) else ORDER[-1]
    if isinstance(failure, AuthenticationFailed):
        if step == "answer":
            found.append(Finding(step="answer", ok=True, time_ms=0.0, explanation="something answers there, and asks who we are"))
        return [*found, _not_let_in(str(failure), 0.0)]
    advice = (
        "See that the pool's collector and the access point run (condor_status -schedd), and that host, port and schedd_name are right."
        if step == "answer"
        else "It answered a moment ago: it hangs or was restarted. Check again; then look into the access point's SchedLog."
    )
    return [*found, Finding(step=step, ok=False, time_ms=0.0, explanation=str(failure), advice=advice)]


def _not_let_in(words: str, time_ms: float) -> Finding:
    advice = "Have the pool's administrator make a new token (condor_token_create) for this identity, and register it here."
    return Finding(step="authentication", ok=False, time_ms=time_ms, explanation=words, advice=advice)


def _answer(row: Facts, token: str, now: datetime) -> Finding:
    return Finding(step="answer", ok=True, time_ms=row["ms"], explanation=f"the collector knows the access point {row['schedd']}")


def _authentication(row: Facts, token: str, now: datetime) -> Finding:
    if not row["allowed"]:
        return _not_let_in(f"the access point does not let us in: {token_facts(token, now)} ({row['error']})", row["ms"])
    how = f"by {row['method'] or 'an unknown method'}, {'encrypted' if row.get('encrypted') else 'not encrypted'}"
    who = row["identity"]
    return Finding(step="authentication", ok=True, time_ms=row["ms"], explanation=f"we are {who} there, {how}", identity=who)


def _authorization(row: Facts, token: str, now: datetime) -> Finding:
    if row["allowed"]:
        return Finding(step="authorization", ok=True, time_ms=row["ms"], explanation="the access point lets us write")
    return Finding(
        step="authorization",
        ok=False,
        time_ms=row["ms"],
        explanation=f"we may look, but not submit: the access point does not let us write ({row['error']})",
        advice="Have its administrator allow this identity in ALLOW_WRITE, or make a token without limits (condor_token_create -authz).",
    )


def _version(row: Facts, token: str, now: datetime) -> Finding:
    theirs, ours = version_of(row["theirs"]), version_of(row["ours"])
    there, here = _numbers(theirs), _numbers(ours)
    said = f"HTCondor {theirs or 'of an unknown version'} there, bindings {ours} here"
    if there and there < OLDEST:
        advice = "It is too old for tokens as they are used here: 9.0 is the oldest that can do it."
        return Finding(step="version", ok=False, time_ms=row["ms"], explanation=said, advice=advice, version=theirs)
    apart = bool(there and here) and abs(there[0] - here[0]) > FAR_APART
    advice = "They are far apart: HTCondor promises to work between neighbouring series only." if apart else ""
    return Finding(step="version", ok=True, time_ms=row["ms"], explanation=said, advice=advice, version=theirs)


def _queue(row: Facts, token: str, now: datetime) -> Finding:
    n = row["counts"]
    words = f"{counted(n['Jobs'], 'job')} in the queue: {n['Running']} running, {n['Idle']} idle, {n['Held']} held"
    return Finding(step="queue", ok=True, time_ms=row["ms"], explanation=words)


def _slots(row: Facts, token: str, now: datetime) -> Finding:
    missing = shortages(row)
    words = "; ".join(missing) or f"{counted(row['slots'], 'slot')}, and a negotiator that hands them out"
    advice = "Jobs will wait. Look at the central manager: are condor_negotiator and the execution points running?" if missing else ""
    return Finding(step="slots", ok=not missing, time_ms=row["ms"], explanation=words, advice=advice)


def _clock(row: Facts, token: str, now: datetime) -> Finding:
    ahead_s = row["ahead_s"]
    apart = abs(ahead_s)
    if apart < CLOCKS_APART_S:
        words = "its clock agrees with ours" if apart < 2 else f"its clock is {apart:.0f} s {'ahead of' if ahead_s > 0 else 'behind'} ours"
        return Finding(step="clock", ok=True, time_ms=row["ms"], explanation=words)
    words = f"its clock is {apart:.0f} s {'ahead of' if ahead_s > 0 else 'behind'} ours"
    advice = "Let both machines follow a time server: else tokens seem expired or not valid yet, and times of jobs mislead."
    return Finding(step="clock", ok=False, time_ms=row["ms"], explanation=words, advice=advice)


_STEPS: Mapping[str, Callable[[Facts, str, datetime], Finding]] = {
    "answer": _answer,
    "authentication": _authentication,
    "authorization": _authorization,
    "version": _version,
    "queue": _queue,
    "slots": _slots,
    "clock": _clock,
}


def shortages(counts: Facts) -> list[str]:
    """What a pool lacks for jobs to run, in words that are the same each time."""
    missing = []
    if not counts["negotiators"]:
        missing.append("the pool has no negotiator: no job gets a slot")
    if not counts["slots"]:
        missing.append("the pool has no slots: no startd reports to its collector")
    return missing


def counted(number: int, what: str) -> str:
    """`1 slot`, `2 slots`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part) for part in parts[:2]) if len(parts) > 1 and all(part.isdigit() for part in parts[:2]) else ()
