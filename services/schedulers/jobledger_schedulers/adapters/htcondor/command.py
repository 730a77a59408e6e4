"""From a run to a submit description. Pure.

A submit description is a language, not data: a newline starts another command, `$(x)` is replaced at submission, `$$(x)` when a
machine is matched, `$ENV(x)` reads the submitter's environment. Everything of a user's passes through here, and comes out either
as exactly the text that it was, or not at all.

Sources: HTCondor manual, condor_submit (arguments and environment in the new syntax); the `$` rules were tried against 23.9 and 25.14.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import msgspec

from jobledger_contracts.job_events import CondorSpec
from jobledger_schedulers.adapters.port import RunSpec

RUN_ID_ATTRIBUTE = "JobledgerRunId"
JOB_ID_ATTRIBUTE = "JobledgerJobId"
SUBMITTER_ATTRIBUTE = "JobledgerSubmitter"
NODE_ATTRIBUTE = "JobledgerNode"
RETRY_ATTRIBUTE = "JobledgerRetry"
POST_ATTRIBUTE = "JobledgerPost"
"""What a workflow's nodes carry: their name, which try this is, and whether a post script has the last word on it."""
HOLD_LIMIT_ATTRIBUTE = "JobledgerHoldLimit"
GIVEN_UP = "held for longer than the job allows"
"""The reason that a job's own policy gives when it removes it after `hold_limit_s`."""
PROGRESS_ATTRIBUTE = "ChirpJobledgerProgress"
MESSAGE_ATTRIBUTE = "ChirpJobledgerMessage"
"""What a job may say of itself through its starter. Without any right to the access point's files, only `Chirp*` can be set."""
STDOUT, STDERR, LOG = "stdout.txt", "stderr.txt", "condor.log"
CREDENTIAL_FILE = ".jobledger-credential"
"""Its name in the sandbox. HTCondor brings no unchanged input file back, so it stays there."""

PROCESS_MACROS = ("$(Process)", "$(ProcId)", "$(Cluster)", "$(ClusterId)")
"""What a user may leave to HTCondor to fill in, in arguments, environment and submit commands."""

# fmt: off
_ALLOWED = frozenset({
    "accounting_group", "allowed_execute_duration", "allowed_job_duration", "checkpoint_exit_code", "concurrency_limits",
    "container_image", "coresize", "cuda_version", "deferral_prep_time", "deferral_time", "deferral_window", "description",
    "docker_image", "gpus_maximum_capability", "gpus_minimum_capability", "gpus_minimum_memory", "gpus_minimum_runtime", "hold",
    "job_lease_duration", "job_max_vacate_time", "keep_claim_idle", "kill_sig", "kill_sig_timeout", "max_retries", "next_job_start_delay",
    "nice_user", "on_exit_hold", "on_exit_hold_reason", "on_exit_hold_subcode", "on_exit_remove", "periodic_hold", "periodic_hold_reason",
    "periodic_hold_subcode", "periodic_release", "periodic_remove", "periodic_vacate", "priority", "rank", "remove_kill_sig",
    "request_cpus", "request_disk", "request_gpus", "request_memory", "require_gpus", "requirements", "retry_request_memory",
    "retry_until", "stream_error", "stream_output", "success_exit_code", "universe", "want_graceful_removal",
})
# fmt: on
"""Submit commands that a user may set. Whatever else exists either is ours to set, or names files of the machine we run on."""

LATE_COMMANDS = frozenset({"max_materialize", "max_idle"})
"""Late materialization: the access point makes a large run's processes a few at a time. It cannot be had with spooled input files."""

_UNIVERSES = frozenset({"vanilla", "docker", "container"})
"""The others run on the access point itself, next to everybody's spooled files, or do not take spooled input."""

# fmt: off
_RESERVED_ATTRIBUTES = frozenset({
    "iwd", "cmd", "args", "arguments", "env", "environment", "in", "out", "err", "input", "output", "error", "userlog", "owner", "user",
    "osuser", "ntdomain", "acctgroup", "acctgroupuser", "accountinggroup", "shouldtransferfiles", "whentotransferoutput",
    "leavejobinqueue", "globaljobid", "clusterid", "procid", "cluster", "process", "qdate", "completiondate", "enteredcurrentstatus",
    "jobstatus", "lastjobstatus", "jobuniverse", "jobsubmitmethod", "jobbatchname", "jobnotification", "joblease", "jobleaseduration",
    "numjobstarts", "numshadowstarts", "numjobcompletions", "exitcode", "exitbysignal", "exitsignal", "exitstatus", "holdreason",
    "holdreasoncode", "holdreasonsubcode", "holdkillsig", "releasereason", "removereason", "mytype", "targettype", "requirements", "rank",
    "rootdir", "precmd", "postcmd", "prearguments", "postarguments", "preenvironment", "postenvironment", "manifestdir", "wantioproxy",
    "wantremotesyscalls", "outputdestination", "streamout", "streamerr", "streamin", "stageinstart", "stageinfinish", "stageoutstart",
    "stageoutfinish", "periodichold", "periodicrelease", "periodicremove",
    "periodicremovereason", "onexithold", "onexitremove", "totalsubmitprocs",
    "currenthosts", "autoclusterid", "autoclusterattrs",
})
# fmt: on
_RESERVED_PREFIX = re.compile(
    r"jobledger|chirpjobledger|submit_|transfer|spool|x509|oauth|credential|dagman|dag_|encrypt|dontencrypt|docker|container", re.IGNORECASE
)
"""Job attributes that say who a job belongs to, what becomes of it, or which files are moved where: never a user's to set."""

_ATTRIBUTE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MACRO = re.compile(r"(\$+)(\w*)(?=\()", re.ASCII)


class NotSubmittable(ValueError):
    """This run can never be written as a submit description; the text says what to change."""


class Submission(msgspec.Struct, frozen=True):
    """What goes to the schedd: the commands in order, and how many procs to queue."""

    description: dict[str, str]
    count: int
    scripts: bool = False  #: of a workflow: the access point itself is to run some


def describe(spec: RunSpec, private: Path, submitter: str, *, spools: bool = True) -> Submission:
    """Write the submit description of a run whose own folder is `private`. Raises `NotSubmittable`."""
    condor = spec.condor
    if condor is None:
        raise NotSubmittable("the job does not say what HTCondor is to run")
    job_id, _, _ = spec.run_id.rpartition(".")
    environment = {**condor.environment, **spec.environment}
    inputs = [_in_workspace(spec.input_dir, name, "input file") for name in condor.input_files]
    if spec.credential:
        environment["JOBLEDGER_CREDENTIAL_FILE"] = CREDENTIAL_FILE
        inputs.append(str(private / CREDENTIAL_FILE))
    _no_two_alike([*(PurePosixPath(path).name for path in inputs), *([] if _absolute(condor.executable) else [_name(condor.executable)])])
    description = {
        "batch_name": literal(_one_line(spec.job_name)),
        **_program(spec, condor),
        "environment": _environment(environment),
        "initialdir": literal(str(private)),
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "output": STDOUT,
        "error": STDERR,
        "log": LOG,
        "notification": "never",
        "getenv": "false",
    }
    if inputs:
        description["transfer_input_files"] = ",".join(literal(path) for path in inputs)
    if condor.output_files:
        description["transfer_output_files"] = ",".join(literal(_in_sandbox(name)) for name in condor.output_files)
    if spools and (late := LATE_COMMANDS.intersection(map(str.lower, condor.attributes))):
        raise NotSubmittable(
            f"{', '.join(sorted(late))}: HTCondor cannot make processes late when their input files are spooled, as they are through its "
            "own protocol; a scheduler that is reached by ssh can"
        )
    description |= _attributes(condor.attributes)
    if condor.hold_limit_s is not None:
        description |= _hold_limit(condor.hold_limit_s, description.get("periodic_remove", ""))
    description[f"My.{RUN_ID_ATTRIBUTE}"] = quoted(spec.run_id)
    description[f"My.{JOB_ID_ATTRIBUTE}"] = quoted(job_id)
    description[f"My.{SUBMITTER_ATTRIBUTE}"] = quoted(submitter)
    return Submission(description, condor.num_jobs)


def _program(spec: RunSpec, condor: CondorSpec) -> dict[str, str]:
    if not condor.executable:
        if condor.attributes.get("universe") in ("docker", "container") or "container_image" in condor.attributes:
            return {"arguments": _arguments(condor.arguments)}  # the image's own entry point
        raise NotSubmittable("the job names no executable")
    if _absolute(condor.executable):
        program = {"executable": literal(_one_line(condor.executable)), "transfer_executable": "false"}
    else:
        program = {"executable": literal(_in_workspace(spec.input_dir, condor.executable, "executable")), "transfer_executable": "true"}
    return {**program, "arguments": _arguments(condor.arguments)}


# -- words of the language ------------------------------------------------------------------------------------------------------


def literal(text: str) -> str:
    """The text as it must be written to come out unchanged, except for the macros of `PROCESS_MACROS`. Raises `NotSubmittable`."""
    if unusable := next((char for char in text if char in "\n\r\0"), None):
        raise NotSubmittable(f"{_shown(text)}: a submit description cannot hold the character {unusable!r}")
    if text.endswith("\\"):
        raise NotSubmittable(f"{_shown(text)} ends with a backslash, which would join the next line to it")
    pieces, rest = [], 0
    for match in _MACRO.finditer(text):
        dollars, function = match[1], match[2]
        if any(text.startswith(macro, match.start()) for macro in PROCESS_MACROS):
            continue
        if len(dollars) > 1 or text.startswith("$(DOLLAR)", match.start()):
            raise NotSubmittable(f"{_shown(text)}: HTCondor would replace {dollars}{function}(...), and that cannot be prevented")
        pieces += [text[rest : match.start()], "$(DOLLAR)"]
        rest = match.start() + 1
    return "".join([*pieces, text[rest:]])


def quoted(text: str) -> str:
    """A ClassAd string literal, written so that it survives the submit language. Raises `NotSubmittable`."""
    return literal('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')


def _word(text: str) -> str:
    """One word of the new arguments and environment syntax, inside the outer double quotes."""
    if text and not any(char.isspace() or char in "'\"" for char in text):
        return text
    return "'" + text.replace("'", "''").replace('"', '""') + "'"


def _arguments(arguments: list[str]) -> str:
    return literal('"' + " ".join(_word(argument) for argument in arguments) + '"')


def _environment(environment: dict[str, str]) -> str:
    for name in environment:
        if not _ENVIRONMENT_NAME.match(name):
            raise NotSubmittable(f"{_shown(name)} is no name for an environment variable")
    return literal('"' + " ".join(f"{name}={_word(value) if value else ''}" for name, value in sorted(environment.items())) + '"')


def _attributes(attributes: dict[str, str | float | bool]) -> dict[str, str]:
    commands: dict[str, str] = {}
    for name, value in attributes.items():
        plain = name[1:] if name.startswith("+") else name[3:] if name[:3].lower() == "my." else ""
        if plain:
            commands[f"My.{_own_attribute(name, plain)}"] = _classad(value)
            continue
        command = name.lower()
        if command in LATE_COMMANDS and not (isinstance(value, int) or str(value).isdigit()):
            raise NotSubmittable(f"{_shown(name)} is a number of processes, not {_shown(str(value))}")
        if command not in _ALLOWED | LATE_COMMANDS and not re.fullmatch(r"request_[a-z0-9_]{1,64}", command):
            raise NotSubmittable(f"the submit command {_shown(name)} cannot be set: it is ours to set, or not safe")
        if command == "universe" and str(value).lower() not in _UNIVERSES:
            raise NotSubmittable(f"the universe {_shown(str(value))} is not possible: choose one of {', '.join(sorted(_UNIVERSES))}")
        if command == "container_image" and not re.match(r"docker://|oras://|/", str(value)):
            raise NotSubmittable("container_image must be a docker:// or oras:// URL, or an absolute path on the execution point")
        if command in commands:
            raise NotSubmittable(f"the submit command {_shown(name)} is set twice")
        commands[command] = str(value).lower() if isinstance(value, bool) else literal(str(value).strip())
    if str(commands.get("container_image", "")).startswith("/"):
        commands["transfer_container"] = "false"  # it is there already; a file of ours is never meant
    return commands


def _hold_limit(limit_s: int, own: str) -> dict[str, str]:
    """Have the access point itself remove a job that it has held for too long, beside the user's own policy if there is one.

    Not counted: a hold on request (code 1), a job that was submitted on hold (15), and files that are on their way (16).
    """
    held = "JobStatus =?= 5 && HoldReasonCode =!= 1 && HoldReasonCode =!= 15 && HoldReasonCode =!= 16"
    ours = f"({held} && time() - EnteredCurrentStatus >= {limit_s})"
    return {
        "periodic_remove": f"(({own}) =?= true) || {ours}" if own else ours,
        # An own policy has a reason of its own, which HTCondor words; ours must not be given for it.
        "My.PeriodicRemoveReason": f"ifThenElse({ours}, {quoted(GIVEN_UP)}, undefined)" if own else quoted(GIVEN_UP),
        f"My.{HOLD_LIMIT_ATTRIBUTE}": str(limit_s),
    }


def _own_attribute(name: str, plain: str) -> str:
    if not _ATTRIBUTE_NAME.match(plain):
        raise NotSubmittable(f"{_shown(name)} is no name for a ClassAd attribute")
    if plain.lower() in _RESERVED_ATTRIBUTES or _RESERVED_PREFIX.match(plain):
        raise NotSubmittable(f"the job attribute {_shown(name)} belongs to HTCondor or to Jobledger and cannot be set")
    return plain


def _classad(value: str | float | bool) -> str:
    """A ClassAd literal. A string stays a string, also one that looks like an expression; one in quotes is taken without them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        inner = re.fullmatch(r'"([^"\\]*)"', value)
        return quoted(inner[1] if inner else value)
    return repr(value)


# -- paths ----------------------------------------------------------------------------------------------------------------------


def _absolute(path: str) -> bool:
    return path.startswith("/")


def _name(path: str) -> str:
    return PurePosixPath(path).name


def relative(path: str, what: str) -> str:
    """The path, in one spelling, when it can only mean something below a folder. Raises `NotSubmittable`."""
    parts = PurePosixPath(path).parts
    if not parts or _absolute(path) or ".." in parts or "://" in path or path == ".":
        raise NotSubmittable(f"the {what} {_shown(path)} must be a path below the job's folder")
    if "," in path or path != path.strip():
        raise NotSubmittable(f"the {what} {_shown(path)}: HTCondor's lists of files cannot hold a comma or an outer blank")
    return str(PurePosixPath(path))


def _in_workspace(input_dir: Path, path: str, what: str) -> str:
    return str(input_dir / relative(path, what))


def _in_sandbox(path: str) -> str:
    if _name(relative(path, "output file")) == CREDENTIAL_FILE:
        raise NotSubmittable("the run's credential is no output")
    return relative(path, "output file")


def _no_two_alike(names: list[str]) -> None:
    """The sandbox is flat: HTCondor drops the folders of spooled input files, and the later would overwrite the earlier."""
    for name in {name for name in names if names.count(name) > 1}:
        raise NotSubmittable(f"two input files would both be {_shown(name)} in the sandbox, where folders are not kept")


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "-"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
