"""What a shell on the access point is told, and what its answers say. Pure.

A script is a function that is called in its last line, so that one which is cut off is done whole or not at all. Its answer is cut into
sections by lines with a mark of its own: what a login script prints around them is nobody's answer. Whatever comes from outside is
quoted by shlex; runs are named by ids that were checked.

The folder of a run, `~/.jobledger/<run id>`, keeps a run from being submitted twice, whatever becomes of the connection: `job.sub` is
submitted under a lock and renamed after it, and whoever doubts an attempt takes the lock and removes `job.sub` first. So an attempt that
somebody waits for no more either has happened by then, or never will.

Error texts were captured from the tools of 23.9 (tests/data/htcondor/ssh-23.9.6.json).
"""

from __future__ import annotations

import base64
import binascii
import re
import shlex
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from jobledger_contracts.ids import parse_run_id
from jobledger_schedulers.adapters.htcondor.command import LOG, SUBMITTER_ATTRIBUTE, describe, literal
from jobledger_schedulers.adapters.htcondor.dag import DAG_FILE
from jobledger_schedulers.adapters.htcondor.dag_files import dagman_options, own_description
from jobledger_schedulers.adapters.htcondor.parse import PROJECTION
from jobledger_schedulers.adapters.port import (
    AuthenticationFailed,
    Incompatible,
    OutcomeUnknown,
    Refused,
    RunSpec,
    SchedulerError,
    Tail,
    Unreachable,
)

BASE = ".jobledger"
DESCRIPTION, SUBMITTED, LOCK = "job.sub", "job.submitted", "job.lock"
INPUTS, OUTPUTS = "in", "out"
DAG_OPTIONS, DAG_OUTPUTS = "job.options", "run"
"""Only a workflow has them: what condor_submit_dag is told, and the folder that DAGMan and all nodes write to."""
TOOLS = ("condor_submit", "condor_q", "condor_history", "condor_rm", "condor_ping", "tar", "flock")
ACTING = {
    "Remove": "condor_rm",
    "Hold": "condor_hold",
    "Release": "condor_release",
    "Suspend": "condor_suspend",
    "Continue": "condor_continue",
}
LOCK_WAIT_S = 5
MAX_LIVE_BYTES = 8 * 2**20
"""Of what a run has written so far, as much can be looked at before it ends."""
MAX_STATUS_BYTES = 32 * 2**20
"""Of one node status file: 20,000 nodes with all that DAGMan says of each fit in."""

_HOME = re.compile(r"/[\w./@+-]*\Z", re.ASCII)
_TERSE = re.compile(r"\b(\d+)\.\d+ - \d+\.\d+")
# fmt: off
_TEXTS = (
    (AuthenticationFailed, ("AUTHENTICATE:", "AUTHORIZATION", '"DENIED"', "ermission denied", "PERMISSION DENIED", "SECMAN:2010")),
    (OutcomeUnknown, ("Failed to commit", "Failed to end classad", "failed to send", "Failed to send", "failed while reading")),
    (Unreachable, ("CEDAR:", "SECMAN:", "Failed to connect", "Failed to fetch ads", "Can't find address", "Can't connect", "timed out",
                   "Unable to locate", "No space left", "Disk quota", "Resource temporarily unavailable", "Cannot allocate memory")),
    (Incompatible, ("command not found", ": not found", "CONDOR_CONFIG")),
)
# fmt: on


class Section(msgspec.Struct, frozen=True):
    """What one step of a script wrote to stdout, and its exit status."""

    text: str
    status: int


def follow(path: str) -> str:
    """The command that writes what is added to a log from now on, also when another file takes its place."""
    return f"exec env LC_ALL=C tail -n 0 -F -- {shlex.quote(path)}"


def upload_command() -> str:
    """Unpack folders of runs, which come by stdin. Nothing of a user's is in it: it shows in the list of processes."""
    unpack = f'umask 077; mkdir -p "$HOME/{BASE}" && cd "$HOME/{BASE}" && exec tar -xof -'
    return f"exec /bin/sh -c {shlex.quote(unpack)}"


def script(mark: str, steps: Mapping[str, str]) -> str:
    """A script of named steps, each done whatever became of the one before."""
    lines = ["main() {", "umask 077", f'base="$HOME/{BASE}"', f"printf '\\n%s begin 0\\n' {mark}"]
    for name, step in steps.items():
        lines += ["(", step, ")", f"printf '\\n%s {name} %s\\n' {mark} \"$?\""]
    return "\n".join([*lines, "}", "main </dev/null", ""])


def sections(mark: str, stdout: bytes) -> dict[str, Section]:
    """The steps that came to their end."""
    found: dict[str, Section] = {}
    lines: list[str] = []
    for line in stdout.decode(errors="replace").split("\n"):
        words = line.split(" ")
        if words[0] == mark and len(words) == 3:
            found[words[1]] = Section("\n".join(lines).removesuffix("\n"), int(words[2]))
            lines = []
        else:
            lines.append(line)
    return found


# -- steps ------------------------------------------------------------------------------------------------------------------------


def hello() -> dict[str, str]:
    """Which tools are missing, where home is, which version answers, what is said of workflows, and who we are to the schedd."""
    return {
        "tools": f'for tool in {" ".join(TOOLS)}; do command -v "$tool" >/dev/null || echo "$tool"; done',
        "home": 'cd "$HOME" && pwd -P',
        "version": "condor_version",
        "dagman": "command -v condor_submit_dag >/dev/null && echo workflows; condor_config_val JOBLEDGER_DAG_SCRIPTS | tr A-Z a-z; true",
        "identity": "condor_ping -type SCHEDD WRITE || { condor_q -allusers -constraint false; false; }",
    }


def queue(constraint: str) -> str:
    """Ads out of the queue, as JSON; nothing at all when there are none."""
    return f"condor_q -allusers -json -attributes {','.join(PROJECTION)} -constraint {shlex.quote(constraint)}"


def history(constraint: str, match: int, since: str) -> str:
    """Ads out of the history, latest first: at most `match` (-1: all), and no further back than where `since` becomes true."""
    limits = (f" -match {int(match)}" if match >= 0 else "") + (f" -since {shlex.quote(since)}" if since else "")
    return f"condor_history -json -attributes {','.join(PROJECTION)} -constraint {shlex.quote(constraint)}{limits}"


def folders() -> str:
    """Which runs have a folder."""
    return 'ls -1 "$base" 2>/dev/null; true'


def act(tool: str, constraint: str, reason: str) -> str:
    """Act on jobs. condor_suspend and condor_continue take no reason; the others lose one that has a `"` or ends with a backslash."""
    said = reason.replace('"', "'").replace("\\", "/")
    why = f" -reason {shlex.quote(said)}" if tool in ("condor_rm", "condor_hold", "condor_release") else ""
    return f"{tool} -constraint {shlex.quote(constraint)}{why} 2>&1"


def submit(mark: str, run_ids: Iterable[str]) -> str:
    """Submit runs whose folders are there; a line for each at once: `mark`, its id, the exit status, and what condor_submit says.

    For a workflow, condor_submit_dag writes the description, as its version has it, with ours in it.
    """
    one = f"""\
one() (
cd "$base/$1" && exec 9>>{LOCK} && flock -n 9 || {{ printf '%s %s 75 %s\\n' {mark} "$1" "busy"; exit; }}
[ -e {DESCRIPTION} ] || {{ printf '%s %s 75 %s\\n' {mark} "$1" "taken"; exit; }}
file={DESCRIPTION}
said=$(if [ -e {DAG_OPTIONS} ]; then
  condor_submit_dag -no_submit -force -insert_sub_file {DESCRIPTION} $(cat {DAG_OPTIONS}) {DAG_FILE} >/dev/null || exit
  file={DAG_FILE}.condor.sub
fi 2>&1; condor_submit -terse "$file" 2>&1); code=$?
[ "$code" -ne 0 ] || mv {DESCRIPTION} {SUBMITTED}
printf '%s %s %s %s\\n' {mark} "$1" "$code" "$(printf %s "$said" | tr '\\n' ' ')"
)
"""
    return one + "\n".join(f"one {_checked(run)}" for run in run_ids)


def settle(mark: str, run_ids: Iterable[str]) -> str:
    """Make sure that no attempt to submit these runs is under way, nor will be. Writes `mark <run id> busy|submitted|revoked`."""
    one = f"""\
one() (
cd "$base/$1" 2>/dev/null || exit 0
exec 9>>{LOCK} && flock -w {LOCK_WAIT_S} 9 || {{ echo "{mark} $1 busy"; exit; }}
if [ -e {SUBMITTED} ]; then echo "{mark} $1 submitted"; else rm -f {DESCRIPTION} && echo "{mark} $1 revoked"; fi
)
"""
    return one + "\n".join(f"one {_checked(run)}" for run in run_ids)


def remove(run_ids: Iterable[str]) -> str:
    """Remove folders of runs: only ones that we made, in a base that is ours and no link to elsewhere."""
    one = f"""\
[ -d "$base" ] && [ ! -L "$base" ] && [ -O "$base" ] || exit 0
cd "$base" || exit
one() {{ [ ! -e "./$1/{LOCK}" ] || rm -rf -- "./$1"; }}
"""
    return one + "\n".join(f"one {_checked(run)} || failed=1" for run in run_ids) + '\n[ -z "$failed" ]'


def _checked(run_id: str) -> str:
    parse_run_id(run_id)
    return shlex.quote(run_id)


def live(run_id: str, job_id: str, *, stderr: bool, offset: int, max_bytes: int) -> str:
    """What a job that runs has written, from its sandbox: how many bytes there are, and a piece of them in base64.

    condor_tail knows no offsets, only last bytes: so all of it is brought to the access point, as far as `MAX_LIVE_BYTES`, and cut there.
    """
    which = "-no-stdout -stderr" if stderr else ""
    return f"""\
cd "$base/"{_checked(run_id)} || exit
copy=live.$$
trap 'rm -f "$copy"' EXIT
condor_tail -maxbytes {MAX_LIVE_BYTES} {which} {shlex.quote(job_id)} >"$copy" || exit
wc -c <"$copy"
tail -c +{int(offset) + 1} "$copy" | head -c {int(max_bytes)} | base64"""


def endings(mark: str, known: Mapping[str, str]) -> str:
    """DAGMan's node status files of workflows, where they are others than those known by their stamps (run id -> stamp).

    For each file a line: `mark`, the run id, the stamp, the file's name, and its content, compressed and in base64. DAGMan puts new
    files in the places of old ones, so their inodes tell them apart.
    """
    one = f"""\
one() (
cd "$base/$1/{DAG_OUTPUTS}" 2>/dev/null || exit 0
stamp=$(stat -c %i.%Y -- *.status 2>/dev/null | tr '\n' ,)
[ -n "$stamp" ] && [ "$stamp" != "$2" ] || exit 0
for file in *.status; do
printf '%s %s %s %s %s\n' {mark} "$1" "$stamp" "$file" "$(gzip -c -- "$file" | base64 -w 0)"
done
)
"""
    return one + "\n".join(f"one {_checked(run)} {shlex.quote(stamp)}" for run, stamp in sorted(known.items()))


# -- answers ----------------------------------------------------------------------------------------------------------------------


def rows_of(text: str) -> list[dict[str, Any]]:
    """Ads as JSON. Raises Refused when it is something else."""
    if not text.strip():
        return []
    try:
        return msgspec.json.decode(text, type=list[dict[str, Any]])
    except msgspec.MsgspecError as error:
        raise Refused(f"HTCondor's answer cannot be read: {error}") from error


def home_of(text: str) -> str:
    """The account's home. Raises Incompatible when its path would mean something to a submit description."""
    if not _HOME.match(text):
        raise Incompatible(f"the home folder {text[:200]!r} at the access point has characters that HTCondor's file lists cannot carry")
    return text.rstrip("/")


def live_of(text: str, offset: int) -> Tail:
    """What a `live` step says. Raises Refused when there is more than can be looked at."""
    size_text, _, encoded = text.strip().partition("\n")
    size = int(size_text)
    if size >= MAX_LIVE_BYTES:
        raise Refused(
            f"the run has written more than {MAX_LIVE_BYTES} bytes: more can be seen only when it has ended, or with stream_output=true"
        )
    return Tail(data=base64.b64decode(encoded), offset=min(offset, size), size=size)


def identity_of(text: str) -> str:
    """`alice@pool` out of what condor_ping says; empty when it says something else."""
    match = re.search(r"succeeded as (\S+) to ", text)
    return match[1] if match else ""


def cluster_of(said: str) -> int | None:
    """The condor cluster id out of what `condor_submit -terse` says, warnings before it left out."""
    found = _TERSE.findall(said)
    return int(found[-1]) if found else None


def endings_of(mark: str, text: str) -> dict[str, tuple[str, dict[str, str]]]:
    """What an `endings` step says: run id -> the stamp, and the texts of the files by their names. What cannot be read is left out."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for line in text.split("\n"):
        words = line.split(" ")
        if len(words) == 5 and words[0] == mark:
            _, run, stamp, name, encoded = words
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                raw = unpacker.decompress(base64.b64decode(encoded, validate=True), MAX_STATUS_BYTES)
            except (zlib.error, binascii.Error):
                continue
            if not unpacker.eof:  # cut off, or too large
                continue
            found.setdefault(run, (stamp, {}))[1][name] = raw.decode(errors="replace")
    return found


def failure(said: str) -> SchedulerError:
    """What kind of failure a tool's text speaks of; Refused when it speaks of none of the others."""
    text = " ".join(line for line in said.split("\n") if "to home directory" not in line)
    text = " ".join(text.replace("\t", " ").split())[:1000] or "it says nothing"
    kind = next((kind for kind, marks in _TEXTS if any(mark in text for mark in marks)), Refused)
    return kind(text)


def found_nothing(said: str) -> bool:
    """An act met no job that it applies to."""
    return "Couldn't find/" in said and type(failure(said)) is Refused


# -- what is submitted ------------------------------------------------------------------------------------------------------------


def submit_file(spec: RunSpec, folder: str) -> tuple[str, int]:
    """The submit description of a run whose folder is `folder` there, as text; and its number of processes. Raises NotSubmittable.

    It is the bindings' description but for where things lie. Output is not streamed unless the user says so: HTCondor (23.9) loses what is
    in the pipe when a streaming program ends, up to 64 KiB of its last words.
    """
    there = msgspec.structs.replace(spec, input_dir=Path(folder, INPUTS))
    made = describe(there, Path(folder, OUTPUTS), "", spools=False)
    description = dict(made.description)
    del description[f"My.{SUBMITTER_ATTRIBUTE}"]  # it marks what is spooled
    if made.count > 1:
        description["initialdir"] = literal(f"{folder}/{OUTPUTS}/process-$(Process)")
    return "".join(f"{name} = {value}\n" for name, value in description.items()) + f"queue {made.count}\n", made.count


def dag_files(spec: RunSpec) -> dict[str, str]:
    """What a workflow's folder has beside the DAG itself: what is put into its submit description, and how it is made."""
    assert spec.workflow is not None
    description = {**own_description(spec), "log": f"{DAG_OUTPUTS}/{LOG}"}
    words = [f"-{name.lower()} {value}" for name, value in dagman_options(spec.workflow).items()]
    return {
        DAG_OPTIONS: " ".join(words) + "\n",
        DESCRIPTION: "".join(f"{name} = {value}\n" for name, value in description.items()),
    }
