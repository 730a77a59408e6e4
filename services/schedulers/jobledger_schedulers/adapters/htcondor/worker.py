"""The child process that alone holds HTCondor's bindings; run as a script, it imports nothing of ours.

Why a process of its own: the bindings keep one identity per process, hold the interpreter lock through every call, and some
calls never return when the schedd hangs. Here, all that can be ended by a signal.

It reads requests on stdin and answers on stdout, one JSON object a line:

    -> {"id": 7, "op": "query", "constraint": "...", "projection": [...]}
    <- {"id": 7, "items": [...]}          as many as there is to say, while it works
    <- {"id": 7, "done": {...}}           or {"id": 7, "error": {"kind": "...", "text": "...", "sent": bool}}

The first request is `configure`. What anything else writes to file descriptor 1 goes to stderr.
Kinds of errors: unreachable, authentication, refused, lost (see `kind_of`). `sent` says that something may have been done.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, TextIO

import classad2
import htcondor2
import msgspec

ROWS_PER_LINE = 500
RETRIEVE_AT_ONCE = 50
PR_SET_PDEATHSIG = 1  # prctl(2)

# What HTCondor's errors say, as captured from real pools: the bindings have one exception type and texts only.
_TEXTS = (
    ("authentication", ("AUTHENTICATE:", "AUTHORIZATION", "permission denied", "PERMISSION DENIED", "Failed to start command")),
    ("stale", ("SECMAN:2004",)),  # the first call after a restart of the schedd: our session is not known any more
    ("unreachable", ("CEDAR:6001", "Failed to connect", "Failed communication with collector", "Unable to locate")),
    ("lost", ("SECMAN:", "CEDAR:", "Failed to end classad", "Failed to read", "Failed to send", "timed out", "timeout", "Unable to send")),
)


def kind_of(text: str) -> str:
    """Classify an error text: authentication, stale, unreachable, lost, or refused when it speaks of none of these."""
    return next((kind for kind, marks in _TEXTS if any(mark in text for mark in marks)), "refused")


class CallError(Exception):
    """A call failed; `sent` says that the schedd may have acted on it."""

    def __init__(self, kind: str, text: str, *, sent: bool = False) -> None:
        super().__init__(text)
        self.kind = kind
        self.sent = sent


Emit = Callable[[list[Any]], None]


class Worker:
    """One identity at one access point."""

    def __init__(self) -> None:
        self._collector = ""
        self._schedd_name = ""
        self._location: Any = None
        self._access_point: dict[str, str] = {}

    def configure(self, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
        """Settings are process-wide, and so are the security sessions: hence once only."""
        for name, value in request["params"].items():
            htcondor2.param[name] = value
        self._collector, self._schedd_name = request["collector"], request["schedd_name"]
        return {"bindings": htcondor2.version()}

    # -- calls ------------------------------------------------------------------------------------------------------------------

    def ping(self, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
        """Say who answers and who we are to it."""
        location = self._locate(anew=True)
        try:
            answer = htcondor2.ping(location, "WRITE")
        except htcondor2.HTCondorException as error:
            self._again(lambda schedd: schedd.query("false", ["ClusterId"], limit=1))  # its error says why
            raise CallError(kind_of(str(error)), str(error)) from error
        return {
            "version": str(location.get("CondorVersion", "")),
            "schedd": str(location.get("Name", "")),
            "identity": str(answer.get("MyRemoteUserName", "")),
        }

    def survey(self, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
        """Say whether the pool has what jobs need beside an access point: how many slots and negotiators the collector knows."""
        collector = htcondor2.Collector(self._collector)
        try:
            slots = len(collector.query(htcondor2.AdType.Slot, projection=["Name"]))
            negotiators = len(collector.query(htcondor2.AdType.Negotiator, projection=["Name"]))
        except htcondor2.HTCondorException as error:
            raise CallError("unreachable", f"collector: {error}") from error
        return {"slots": slots, "negotiators": negotiators}

    def query(self, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
        """Look into the queue."""
        rows = self._again(lambda schedd: schedd.query(request["constraint"], request["projection"]))
        return {"rows": _emit_rows(rows, emit), "server_time": rows[0].get("ServerTime") if rows else None}

    def history(self, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
        """Look into the history, latest first, at most `match` ads, and no further back than where `since` becomes true."""
        since = request["since"] or None
        rows = self._again(lambda schedd: schedd.history(request["constraint"], request["projection"], request["match"], since))
        return {"rows": _emit_rows(rows, emit)}

    def act(self, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
        """Remove, Hold, Release, Suspend or Continue by constraint. Asking twice does no harm, so it is retried once."""
        action = getattr(htcondor2.JobAction, request["action"])
        reason = (request["reason"], request["code"])  # a plain string would be dropped
        try:
            result = self._again(lambda schedd: schedd.act(action, classad2.ExprTree(request["constraint"]), reason))
        except CallError as error:
            # "Error when performing action on the schedd." never says why; a query does.
            self._again(lambda schedd: schedd.query("false", ["ClusterId"], limit=1))
            raise CallError(error.kind, str(error), sent=True) from error
        return {key: _plain(value) for key, value in dict(result or {}).items()}

    def edit(self, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
        """Set attributes of jobs, each to an expression."""
        spec = classad2.ExprTree(request["constraint"])
        for name, value in request["attributes"].items():
            self._again(lambda schedd, name=name, value=value: schedd.edit(spec, name, value))  # type: ignore[misc]
        return {}

    def submit(self, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
        """Submit runs one after the other, each with its input files; one item a run, at once.

        A run whose files cannot be sent is taken back. An error ends the call: what got no item is uncertain if it is the
        first without one, and untouched if it comes later.
        """
        schedd = self._fresh_session()
        for run in request["runs"]:
            emit([self._submit_one(schedd, run)])
        return {}

    def _submit_one(self, schedd: Any, run: dict[str, Any]) -> dict[str, Any]:
        try:
            description = self._dagman(run) if run.get("dag") else htcondor2.Submit(run["description"])
            result = schedd.submit(description, count=run["count"], spool=True)
        except (htcondor2.HTCondorException, ValueError, TypeError) as error:
            os.chdir("/")
            kind = kind_of(str(error)) if isinstance(error, htcondor2.HTCondorException) else "refused"
            if kind != "refused":
                raise CallError(kind, str(error), sent=kind == "lost") from error
            return {"run_id": run["run_id"], "refused": _first_line(error)}
        cluster = result.cluster()
        try:
            schedd.spool(result)
        except htcondor2.HTCondorException as error:
            # What was not given its files stays held for ever; only this SubmitResult could send them.
            self._take_back(schedd, cluster, str(error))
            kind = kind_of(str(error))
            if kind != "refused":
                raise CallError(kind, str(error), sent=True) from error
            return {"run_id": run["run_id"], "refused": _first_line(error)}
        finally:
            os.chdir("/")
        return {"run_id": run["run_id"], "cluster": cluster}

    def _dagman(self, run: dict[str, Any]) -> Any:
        """The submit description of a DAG whose files lie in `run["folder"]`, which becomes the current one: paths are relative to it.

        `getenv = false`: else condor_dagman would get this process's CONDOR_CONFIG=/dev/null, crash, and be started again for ever.
        """
        there = self._configured()
        if run["scripts"] and there.get("JOBLEDGER_DAG_SCRIPTS", "").lower() != "true":
            raise ValueError(
                "the workflow has PRE or POST scripts, which the access point itself would run, and it does not allow that: "
                "its administrator can, with JOBLEDGER_DAG_SCRIPTS = True in its configuration"
            )
        os.chdir(run["folder"])
        dagman = there.get("DAGMAN") or os.path.join(there.get("BIN") or "/usr/bin", "condor_dagman")  # noqa: PTH118 - a plain script
        description = htcondor2.Submit.from_dag(
            run["dag"], {"force": True, "DagmanPath": dagman, "AllowVersionMismatch": True, **run["options"]}
        )
        # It looks for condor_submit_dag there, which it calls for a workflow within a workflow.
        path = f"{there.get('BIN') or '/usr/bin'}:/usr/bin:/bin"
        environment = {"_CONDOR_DAGMAN_LOG": f"{run['dag']}.dagman.out", "_CONDOR_MAX_DAGMAN_LOG": "0", "PATH": path}
        if root := there.get("CONFIG_ROOT"):
            environment["CONDOR_CONFIG"] = os.path.join(root, "condor_config")  # noqa: PTH118 - as above
        words = " ".join(f"{name}={value}" for name, value in environment.items())
        for name, value in {**run["description"], "getenv": "false", "environment": f'"{words}"'}.items():
            description[name] = value
        return description

    def _configured(self) -> dict[str, str]:
        """What the access point's own configuration says of the things that a DAG needs to know; asked once."""
        if not self._access_point:
            settings = htcondor2.RemoteParam(self._locate())
            for name in ("BIN", "DAGMAN", "CONFIG_ROOT", "JOBLEDGER_DAG_SCRIPTS"):
                value = settings.get(name)
                if value and value != "Not defined":
                    self._access_point[name] = str(value)
        return self._access_point

    def _take_back(self, schedd: Any, cluster: int, why: str) -> None:
        try:
            reason = ("Its input files could not be sent.", 0)
            schedd.act(htcondor2.JobAction.Remove, classad2.ExprTree(f"ClusterId == {cluster}"), reason)
        except htcondor2.HTCondorException as error:
            raise CallError("lost", f"{why}; and job {cluster} could not be removed again: {error}", sent=True) from error

    def retrieve(self, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
        """Bring the output of completed procs: each item is `[constraint, directory]`, evaluated by the schedd's own ClassAds.

        The output goes where SUBMIT_Iwd points, which is the submitter's folder of long ago; so that is set first. Remaps that a
        job may carry would name other places, and are cleared.
        """
        schedd = self._fresh_session()
        for batch in _batches(request["procs"], RETRIEVE_AT_ONCE):
            emit(self._retrieve_batch(schedd, batch))
        return {}

    def _retrieve_batch(self, schedd: Any, procs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        ids = [f"{proc['cluster']}.{proc['proc']}" for proc in procs]
        try:
            for proc, job_id in zip(procs, ids, strict=True):
                folder = proc["folder"]
                schedd.edit([job_id], "SUBMIT_Iwd", classad2.quote(folder))
                schedd.edit([job_id], "SUBMIT_UserLog", classad2.quote(os.path.join(folder, proc["log"])))  # noqa: PTH118 - a plain script
                schedd.edit([job_id], "SUBMIT_TransferOutputRemaps", "undefined")
            schedd.retrieve(ids)
        except htcondor2.HTCondorException as error:
            if len(procs) > 1:  # one that cannot be brought must not keep the others
                return [item for proc in procs for item in self._retrieve_batch(schedd, [proc])]
            kind = kind_of(str(error))
            if kind != "refused":
                raise CallError(kind, str(error), sent=True) from error
            return [{"id": ids[0], "error": _first_line(error)}]
        return [{"id": job_id} for job_id in ids]

    # -- the connection ---------------------------------------------------------------------------------------------------------

    def _locate(self, *, anew: bool = False) -> Any:
        if self._location is None or anew:
            self._location = None
            collector = htcondor2.Collector(self._collector)
            try:
                if self._schedd_name:
                    location = collector.locate(htcondor2.DaemonType.Schedd, self._schedd_name)
                else:
                    ads = collector.locateAll(htcondor2.DaemonType.Schedd)
                    if len(ads) > 1:
                        names = ", ".join(sorted(str(ad.get("Name")) for ad in ads))
                        raise CallError("refused", f"the pool has several schedds ({names}): say which one")
                    location = ads[0] if ads else None
            except htcondor2.HTCondorException as error:
                raise CallError("unreachable", f"collector: {error}") from error
            if location is None:
                wanted = f"no schedd named {self._schedd_name!r}" if self._schedd_name else "no schedd"
                raise CallError("unreachable", f"the collector knows {wanted}")
            self._location = location
        return self._location

    def _again(self, call: Callable[[Any], Any]) -> Any:
        """Do what may be done twice; once more, at a newly located schedd, when the first try failed for want of a connection."""
        for last in (False, True):
            try:
                return call(htcondor2.Schedd(self._locate(anew=last)))
            except htcondor2.HTCondorException as error:
                kind = kind_of(str(error))
                if last or kind == "authentication":
                    raise CallError("unreachable" if kind in ("stale", "lost") else kind, str(error)) from error
        raise AssertionError

    def _fresh_session(self) -> Any:
        """A schedd that has just answered, so that what follows is not the call that finds the session stale."""
        self._again(lambda schedd: schedd.query("false", ["ClusterId"], limit=1))
        return htcondor2.Schedd(self._location)


def _emit_rows(rows: Iterable[Any], emit: Emit) -> int:
    count, undefined = 0, classad2.Value.Undefined
    for batch in _batches(rows, ROWS_PER_LINE):
        emit(
            [
                {key: value if type(value) in _AS_IT_IS else _plain(value) for key, value in ad.items() if value is not undefined}
                for ad in batch
            ]
        )
        count += len(batch)
    return count


_AS_IT_IS = frozenset({str, int, float, bool})
"""Exact types, as ClassAd's Undefined and Error are integers of their own type."""


def _plain(value: Any) -> Any:
    """A ClassAd value as JSON. Undefined is an integer to JSON, and true to Python: it becomes null."""
    if value is classad2.Value.Undefined or value is classad2.Value.Error:
        return None
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, classad2.ExprTree):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict) or hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    return str(value)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


OPERATIONS = ("configure", "ping", "query", "history", "act", "edit", "submit", "retrieve", "survey")


def serve(requests: TextIO, answers: BinaryIO, worker: Worker, names: Iterable[str]) -> None:
    """Answer until stdin ends."""
    operations: dict[str, Callable[[dict[str, Any], Emit], dict[str, Any]]] = {name: getattr(worker, name) for name in names}

    def say(message: dict[str, Any]) -> None:
        answers.write(msgspec.json.encode(message) + b"\n")
        answers.flush()

    for line in requests:
        request = msgspec.json.decode(line)
        number = request["id"]
        try:
            done = operations[request["op"]](request, lambda items, number=number: say({"id": number, "items": items}))  # type: ignore[misc]
        except CallError as error:
            say({"id": number, "error": {"kind": error.kind, "text": _first_line(error), "sent": error.sent}})
        except (htcondor2.HTCondorException, ValueError, TypeError, KeyError, OSError) as error:
            kind = kind_of(str(error)) if isinstance(error, htcondor2.HTCondorException) else "refused"
            say({"id": number, "error": {"kind": kind, "text": f"{type(error).__name__}: {_first_line(error)}", "sent": True}})
        else:
            say({"id": number, "done": done})


def keep_none() -> None:
    """Make None immortal, as it is from Python 3.12 on: each submission of the bindings (25.14.1) drops a reference to it that it does not
    have, and after a few thousand of them Python 3.11 ends the process (`none_dealloc`)."""
    if sys.version_info < (3, 12):
        ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40


def main(worker: Worker, names: Iterable[str] = OPERATIONS) -> None:
    """Set the process up and serve."""
    keep_none()
    gc.set_threshold(
        50_000, 50, 100
    )  # ten thousand ads at once are no garbage: at Python's own 700 a fifth of a look went into seeing that
    # We must not outlive the service: a half-done submission would go on unseen.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the service's to handle
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin, answers, worker, names)


if __name__ == "__main__":
    main(Worker())
