"""The port that every scheduler stands behind: what the reconciler asks of HTCondor, of Dask, and of the memory double.

The key of everything is the run id (`<job id>.<run>`): it travels with the run into the scheduler, so that after a crash the
run can be looked up there before anything is done again.

Errors, all `SchedulerError`; `retryable` says whether trying the same again can help:

    SchedulerError
    |-- Unreachable            nothing was done: the scheduler does not answer, or is restarting      retryable
    |-- OutcomeUnknown         cut off in the middle: it may or may not have been done; look it up    retryable
    |-- AuthenticationFailed   it does not let us in, or not do this
    |-- Refused                it answered, and the answer is no
    |-- NotSupported           this kind of scheduler cannot do that at all
    `-- Incompatible           its version and ours do not go together
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from jobledger_contracts.job_events import CondorSpec, DaskSpec, NodeReport, Resources, ResultFile, WorkflowSpec
from jobledger_contracts.statuses import Status
from jobledger_kit import errors
from jobledger_kit.errors import JobledgerError, Kind, Unavailable


class SchedulerError(JobledgerError):
    """Something about a scheduler went wrong. The text is for people and holds no secret."""


class Unreachable(SchedulerError, Unavailable):
    """The scheduler does not answer. Nothing was done."""


class OutcomeUnknown(SchedulerError, errors.OutcomeUnknown):
    """The answer was cut off: what was asked may or may not have been done. Look the runs up by their ids before asking again.

    `known` holds, for a submission of many, what is certain: the answers that did arrive.
    """

    def __init__(self, message: str, known: Sequence[Handle | SubmitRefused] = ()) -> None:
        super().__init__(message)
        self.known = tuple(known)


class AuthenticationFailed(SchedulerError):
    """The scheduler does not accept who we say we are, or does not let us do this."""

    kind = Kind.REFUSED


class Refused(SchedulerError):
    """The scheduler answered, and the answer is no. Nothing was done."""

    kind = Kind.REFUSED


class NotSupported(SchedulerError):
    """This kind of scheduler has no such operation."""

    kind = Kind.REFUSED


class Incompatible(SchedulerError):
    """The scheduler's version and ours do not go together."""

    kind = Kind.REFUSED


class AdapterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one scheduler is reached. Secrets are left out of `repr`."""

    name: str
    type: str  #: condor or dask
    host: str
    port: int = 0
    transport: str = "bindings"
    schedd_name: str = ""
    username: str = ""
    known_host_key: str = ""  #: ssh: the server's public keys, one a line: nobody else is spoken to
    condor_tail: str = ""  #: bindings: where HTCondor's program condor_tail is; empty: on the PATH
    event_log: str = ""  #: HTCondor: the access point's event log, an absolute path here, or there for ssh; empty: not followed
    heartbeat_interval_s: float = 0.0  #: Dask: how often we say that we live; 0: never
    timeout_s: float = 20.0  #: of one call; larger batches get proportionally more
    private_dir: Path  #: ours alone (0700): token files, credentials on their way to a sandbox
    token: str = ""  #: HTCondor IDTOKEN
    password: str = ""
    private_key: str = ""
    private_key_pass: str = ""
    certificate: str = ""  #: Dask over TLS, PEM
    ca_certificate: str = ""

    def __repr__(self) -> str:
        where = f"{self.host}:{self.port}" if self.port else self.host
        return f"AdapterSettings(name={self.name!r}, type={self.type!r}, at={where!r}, transport={self.transport!r})"


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One run to be handed to a scheduler. Exactly one of `condor`, `dask` and `workflow` is given."""

    run_id: str
    job_name: str
    condor: CondorSpec | None = None
    dask: DaskSpec | None = None
    workflow: WorkflowSpec | None = None  #: with its nodes: never one that is still in its file
    done_nodes: frozenset[str] = frozenset()  #: what an earlier run has done; its output is in `previous_dir`
    previous_dir: Path | None = None  #: a local copy of the earlier run's output
    input_dir: Path  #: a local copy of the workspace's inputs; must stay until `submit` has returned
    environment: dict[str, str] = {}  #: JOBLEDGER_JOB_ID, ..._RUN_ID, ..._CALLBACK_URL, ..._FILES_URL; the adapter adds ..._CREDENTIAL_FILE
    credential: str = ""  #: becomes a 0600 file in the sandbox, named by JOBLEDGER_CREDENTIAL_FILE; empty: none

    def __repr__(self) -> str:
        return f"RunSpec(run_id={self.run_id!r}, job_name={self.job_name!r})"


class Handle(msgspec.Struct, frozen=True):
    """The scheduler has the run. `ref` is its own id of it: a condor cluster id such as `12`, a Dask key."""

    run_id: str
    ref: str


class SubmitRefused(msgspec.Struct, frozen=True):
    """The scheduler, or the adapter before it, will never take this run as it is. Nothing of it is left there."""

    run_id: str
    message: str


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What a scheduler says of one run, now."""

    run_id: str
    ref: str = ""
    status: Status | None = None  #: None only when `gone`
    restarts: int = 0  #: executions that are over, as in StatusChanged
    message: str = ""
    exit_code: int | None = None
    exit_signal: int | None = None
    evidence: dict[str, Any] = {}  #: JSON values: what it was judged by
    gone: bool = False  #: the scheduler knows nothing of this run, neither in its queue nor in its history
    progress: float | None = None  #: 0 to 1, where the scheduler knows it
    resources: Resources | None = None  #: what it asked for and used so far, where the scheduler measures it
    nodes: tuple[NodeReport, ...] = ()  #: of a workflow: what was seen of those that the scheduler spoke of in this look
    results_ready: bool = False  #: the run is over and its output waits at the scheduler for `collect`


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What came back of one run."""

    run_id: str
    files: list[str] = []  #: written, relative to the target folder, sorted
    missing: list[str] = []  #: asked for by name, and not there
    delivered: tuple[ResultFile, ...] = ()  #: brought to the workspace by the run itself; paths are relative to the run's folder
    nodes: tuple[NodeReport, ...] = ()  #: of a workflow: how its nodes ended
    message: str = ""  #: what the output says of the end, where that is more than the scheduler said
    error: str = ""  #: why nothing could be brought this time; the run stays at the scheduler then, so ask again. Empty: all went well


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of what a run has written so far."""

    data: bytes
    offset: int  #: where it begins; 0 although a later place was asked for: the file was begun anew, for another execution
    size: int  #: of all that there is now


class SchedulerIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers there, and who we are to it."""

    version: str
    identity: str = ""
    detail: str = ""


class SchedulerAdapter(Protocol):
    """One scheduler. All methods may be called concurrently, keep their own deadlines, and raise only `SchedulerError`."""

    @property
    def events(self) -> AsyncIterator[Observation] | None:
        """Observations that the scheduler pushes, for ever; None when it pushes none. One reader. A hint: `observe` has the last word."""
        ...

    async def submit(self, specs: Sequence[RunSpec]) -> list[Handle | SubmitRefused]:
        """Hand runs over; one answer each, in order. Raises `OutcomeUnknown` (with `known`) when some are uncertain."""
        ...

    async def find(self, run_ids: Sequence[str]) -> dict[str, Observation]:
        """Look runs up by id, in the queue and then in the history. A run that is not in the answer was never accepted, or is forgotten.

        Raises Unreachable, too, while the scheduler cannot yet be said to have a run or not: look again in a few seconds.
        """
        ...

    async def observe(self, run_ids: Collection[str]) -> list[Observation]:
        """One observation for each of these runs, `gone` where there is none. One query, whatever their number."""
        ...

    async def stop(self, run_ids: Sequence[str], reason: str) -> None:
        """End runs. Those that are not there any more are no error; output that waits for `collect` is kept."""
        ...

    async def hold(self, run_ids: Sequence[str], reason: str) -> None:
        """Keep runs from going on; they give up their machines."""
        ...

    async def suspend(self, run_ids: Sequence[str], reason: str) -> None:
        """Stop runs where they are; they keep their machines. Those that wait for one are held."""
        ...

    async def release(self, run_ids: Sequence[str], reason: str) -> None:
        """Let held and suspended runs go on."""
        ...

    async def collect(self, run_ids: Sequence[str], target: Callable[[str], Path]) -> Mapping[str, Collected]:
        """Bring stdout, stderr, log and outputs of ended runs into the folder that `target(run_id)` names, then let go of the run.

        The folder must survive us: afterwards the scheduler may have no copy. A run that the scheduler does not have any more is not
        in the answer.
        """
        ...

    async def tail(self, run_id: str, stream: str, offset: int, max_bytes: int, process: int = 0, node: str = "") -> Tail:
        """Read what a run that is not over (or a node of a workflow's) has written to `stdout` or `stderr`, from `offset` (bytes) on.

        Raises NotSupported.
        """
        ...

    async def ping(self) -> SchedulerIdentity:
        """Ask who answers. The texts of its errors say in plain words what is wrong."""
        ...

    async def close(self) -> None:
        """Let go of connections and processes. Runs go on. Idempotent."""
        ...
