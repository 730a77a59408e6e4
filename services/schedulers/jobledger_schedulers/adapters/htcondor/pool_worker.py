"""The child process that looks at pools for people: like `worker.py`, and apart from it, so that no look delays what runs need.

A constraint that somebody wrote is parsed here, by HTCondor's own parser; what goes on is the parsed expression written out anew, so
that nothing but one expression can. Rows are cut off here, too: at a number, and at `MAX_BYTES` of JSON.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import classad2
import htcondor2

from jobledger_schedulers.adapters.htcondor.worker import CallError, Emit, Worker, kind_of, main

MAX_BYTES = 8 * 2**20
MAX_COUNTED_JOBS = 200_000
MAX_CONSTRAINT = 4000
MAX_PROJECTION = 100
ROWS_PER_ITEM = 50

_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}\Z")
_PRIVATE = re.compile(r"claimids?|childclaimids|pairedclaimid|claimidlist|capability|transferkey|_condor_priv\w*", re.IGNORECASE)
"""What opens doors (condor_utils/classad_helpers `ClassAdAttributeIsPrivate`). Daemons do not send it; it is not passed on in any case."""

_DAEMON = ["MyType", "Name", "Machine", "CondorVersion", "DaemonStartTime", "LastHeardFrom"]
_DAEMON_TYPES = 'MyType != "Machine" && MyType != "Slot" && MyType != "Submitter" && MyType != "Accounting" && MyType != "Generic"'
_SLOT = [
    "Name", "State", "Activity", "SlotType", "Cpus", "Memory", "Disk", "TotalGPUs", "GPUs", "OpSys", "Arch", "RemoteOwner",
]  # fmt: skip
_STATUSES = {1: "idle", 2: "running", 4: "completed", 5: "held", 7: "suspended"}

Request = dict[str, Any]


class BadPart(Exception):
    """A part of the question is wrong."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class PoolWorker(Worker):
    """Looks at one pool with one identity."""

    def daemons(self, request: Request, emit: Emit) -> dict[str, Any]:
        """All ads of daemons, in brief."""
        return self._bounded(self._collected(htcondor2.AdType.Any, _DAEMON, _DAEMON_TYPES), request["limit"], emit)

    def slots(self, request: Request, emit: Emit) -> dict[str, Any]:
        """Count the slots by state, and tell some."""
        ads = self._collected(htcondor2.AdType.Slot, _SLOT)
        groups: dict[tuple[str, str], dict[str, int]] = {}
        for ad in ads:
            group = groups.setdefault(
                (_text(ad.get("State")), _text(ad.get("Activity"))), {"slots": 0, "cpus": 0, "memory_mb": 0, "gpus": 0}
            )
            group["slots"] += 1
            for name, attribute in (("cpus", "Cpus"), ("memory_mb", "Memory"), ("gpus", "GPUs")):
                group[name] += _number(ad.get(attribute))
        ads.sort(key=lambda ad: _text(ad.get("Name")))
        told = self._bounded(ads, request["limit"], emit)
        summary = [{"state": state, "activity": activity, **group} for (state, activity), group in sorted(groups.items())]
        return {**told, "total": len(ads), "groups": summary}

    def queue(self, request: Request, emit: Emit) -> dict[str, Any]:
        """Count the jobs of each user by status."""
        rows = self._again(lambda schedd: schedd.query("true", ["User", "Owner", "JobStatus"], limit=MAX_COUNTED_JOBS + 1))
        users: dict[str, dict[str, int]] = {}
        for row in rows[:MAX_COUNTED_JOBS]:
            line = users.setdefault(_text(row.get("User")) or _text(row.get("Owner")), {"total": 0})
            status = _STATUSES.get(_number(row.get("JobStatus")), "other")
            line["total"] += 1
            line[status] = line.get(status, 0) + 1
        lines = [{"user": user, **line} for user, line in sorted(users.items(), key=lambda item: -item[1]["total"])]
        told = self._bounded(lines, request["limit"], emit)
        counted = min(len(rows), MAX_COUNTED_JOBS)
        return {"total": counted, "truncated": told["truncated"] or len(rows) > counted}

    def jobs(self, request: Request, emit: Emit) -> dict[str, Any]:
        """Job ads that a constraint of somebody's fits, from the queue."""
        return self._asked(request, emit, lambda schedd, what, names, most: schedd.query(what, names, limit=most))

    def past(self, request: Request, emit: Emit) -> dict[str, Any]:
        """The same from the history, latest first."""
        return self._asked(request, emit, lambda schedd, what, names, most: schedd.history(what, names, most))

    def _asked(self, request: Request, emit: Emit, ask: Callable[[Any, str, list[str], int], Any]) -> dict[str, Any]:
        try:
            constraint, names = parsed(request["constraint"]), checked_names(request["projection"])
        except BadPart as error:
            return {"bad": error.field, "text": str(error)}
        rows = self._again(lambda schedd: ask(schedd, constraint, names, request["limit"] + 1))
        wanted = set(names)
        if wanted:  # ServerTime and the like come unasked
            rows = ({name: row.get(name, classad2.Value.Undefined) for name in names} for row in rows)
        return self._bounded(rows, request["limit"], emit)

    def priorities(self, request: Request, emit: Emit) -> dict[str, Any]:
        """What the negotiator's accountant knows of users."""
        ads = htcondor2.Negotiator(self._find("Negotiator")).getPriorities()
        ads = [ad for ad in ads if _text(ad.get("Name")) not in ("", "<none>")]
        ads.sort(key=lambda ad: (_float(ad.get("Priority")), _text(ad.get("Name"))))
        return self._bounded(ads, request["limit"], emit)

    def access_levels(self, request: Request, emit: Emit) -> dict[str, Any]:
        """Ping each daemon at each level; told one by one, so that a daemon that hangs takes only itself along."""
        for kind in ("Collector", "Schedd", "Negotiator"):
            try:
                location = self._locate(anew=True) if kind == "Schedd" else self._find(kind)
            except CallError as error:
                emit([{"daemon": kind, "name": "", "level": "READ", "allowed": False, "error": str(error)}])
                continue
            for level in ("READ", "WRITE"):
                emit([{"daemon": kind, "name": _text(location.get("Name")), "level": level, **_pinged(location, level)}])
        return {}

    def examine(self, request: Request, emit: Emit) -> dict[str, Any]:
        """Take the steps of a check, telling each as it is done."""
        began = time.monotonic()

        def told(step: str, **facts: Any) -> None:
            nonlocal began
            emit([{"step": step, "ms": round((time.monotonic() - began) * 1000, 1), **facts}])
            began = time.monotonic()

        location = self._locate(anew=True)
        told("answer", schedd=_text(location.get("Name")))
        read = _pinged(location, "READ")
        told("authentication", **read)
        if not read["allowed"]:
            return {}
        told("authorization", **_pinged(location, "WRITE"))
        told("version", theirs=_text(location.get("CondorVersion")), ours=htcondor2.version())
        asked_at = time.time()
        summary = self._again(lambda schedd: schedd.query("true", [], opts=htcondor2.QueryOpt.SummaryOnly))
        answered_at = time.time()
        ad = summary[0] if summary else {}
        counts = {name: _number(ad.get(f"Allusers{name}")) for name in ("Jobs", "Idle", "Running", "Held")}
        told("queue", counts=counts)
        told("slots", **self.survey({}, emit))
        if server_time := _number(ad.get("ServerTime")):
            told("clock", ahead_s=round(server_time + 0.5 - (asked_at + answered_at) / 2, 1))  # ServerTime is cut to whole seconds
        return {}

    def _find(self, kind: str) -> Any:
        """The location of the pool's one daemon of a kind."""
        try:
            location = htcondor2.Collector(self._collector).locate(getattr(htcondor2.DaemonType, kind))
        except htcondor2.HTCondorException as error:
            raise CallError("unreachable", f"collector: {error}") from error
        if location is None:
            raise CallError("unreachable", f"the collector knows no {kind.lower()}")
        return location

    def _collected(self, kind: Any, names: list[str], constraint: str = "true") -> list[Any]:
        try:
            ads: list[Any] = htcondor2.Collector(self._collector).query(kind, constraint, names)
        except htcondor2.HTCondorException as error:
            raise CallError("unreachable", f"collector: {error}") from error
        return ads

    def _bounded(self, rows: Iterable[Any], limit: int, emit: Emit) -> dict[str, Any]:
        """Tell rows until there are `limit`, or too many bytes; say whether that was all."""
        size, item = 0, list[dict[str, Any]]()
        for number, row in enumerate(rows):
            plain = {name: plain_value(value) for name, value in row.items() if not _PRIVATE.fullmatch(name)}
            size += len(json.dumps(plain))
            if number >= limit or size > MAX_BYTES:
                _emit_some(emit, item)
                return {"truncated": True}
            item.append(plain)
            if len(item) >= ROWS_PER_ITEM:
                _emit_some(emit, item)
                item = []
        _emit_some(emit, item)
        return {"truncated": False}


def parsed(constraint: str) -> str:
    """The constraint as HTCondor's parser understands it. Raises BadPart."""
    text = constraint.strip()
    if not text:
        return "true"
    if len(text) > MAX_CONSTRAINT:
        raise BadPart("constraint", f"it is longer than {MAX_CONSTRAINT} characters")
    if not text.isprintable():
        raise BadPart("constraint", "it holds characters that cannot be printed")
    try:
        classad2.ExprTree(f"({text})")  # alone, the parser would take one expression and leave what follows a semicolon
        return str(classad2.ExprTree(text)).replace("\n", " ")  # it breaks lines in lists; a text's own line ends are escaped
    except (classad2.ClassAdException, ValueError, TypeError) as error:
        # The library appends whichever error it met last, which may be an old one: only the parser's own words are passed on.
        _, found, words = " ".join(str(error).split()).partition("while parsing classad:")
        detail = f" ({words.strip()})" if found else ""
        raise BadPart("constraint", f"it is no ClassAd expression{detail}: {text[:200]}") from error


def checked_names(names: list[str]) -> list[str]:
    """The names, if all of them may be asked for. Raises BadPart."""
    if len(names) > MAX_PROJECTION:
        raise BadPart("projection", f"it has more than {MAX_PROJECTION} names")
    for name in names:
        if not _ATTRIBUTE.match(name):
            raise BadPart("projection", f"{name[:80]!r} is no name of a ClassAd attribute")
        if _PRIVATE.fullmatch(name):
            raise BadPart("projection", f"{name} is private to HTCondor's daemons")
    return list(dict.fromkeys(names))


def plain_value(value: Any) -> Any:
    """A ClassAd value as JSON, as HTCondor itself writes it (`condor_q -json`): what has none becomes `/Expr(...)/`."""
    if value is classad2.Value.Undefined:
        return None
    if value is classad2.Value.Error:
        return "/Expr(error)/"
    if isinstance(value, str):
        return value.encode(errors="replace").decode()  # bytes that are no UTF-8 come as surrogates
    if isinstance(value, float) and not math.isfinite(value):
        return f'/Expr(real("{"NaN" if math.isnan(value) else "INF" if value > 0 else "-INF"}"))/'
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, classad2.ClassAd | dict):
        return {name: plain_value(item) for name, item in value.items() if not _PRIVATE.fullmatch(name)}
    return f"/Expr({str(value).encode(errors='replace').decode()})/"


def _pinged(location: Any, level: str) -> dict[str, Any]:
    try:
        answer = htcondor2.ping(location, level)
    except htcondor2.HTCondorException as error:
        return {"allowed": False, "error": f"{kind_of(str(error))}: {' '.join(str(error).split())}"}
    return {
        "allowed": answer.get("AuthorizationSucceeded", True) is not False,
        "identity": _text(answer.get("MyRemoteUserName")),
        "method": _text(answer.get("AuthMethods")),
        "encrypted": _text(answer.get("Encryption")) == "YES",
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    """A whole number, or 0: Undefined is an integer to Python."""
    if value is classad2.Value.Undefined or value is classad2.Value.Error or not isinstance(value, int | float):
        return 0
    return int(value) if math.isfinite(value) else 0


def _float(value: Any) -> float:
    return float(value) if isinstance(value, float) else float(_number(value))


def _emit_some(emit: Emit, rows: list[Any]) -> None:
    if rows:
        emit(rows)


OPERATIONS = ("configure", "daemons", "slots", "queue", "jobs", "past", "priorities", "access_levels", "examine")


if __name__ == "__main__":
    main(PoolWorker(), OPERATIONS)
