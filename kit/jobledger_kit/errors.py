"""The one tree of errors. Services subclass these; nothing here knows HTTP (the mapping to statuses stands in `http.py`).

JobledgerError
├── InvalidRequest ............ invalid    what was sent cannot be acted on: one entry per fault in `errors`
│   ├── InvalidPath ........... invalid    no safe path inside a job's folder
│   ├── Unprocessable ......... invalid    well formed, but it names what is not there or cannot be
│   │   └── UnprocessableKey .. invalid    the idempotency key stands for another request
│   ├── UnsupportedMedia ...... invalid    the body has a media type that is not read here
│   └── TooLarge .............. invalid    more bytes than the limit
├── Unauthenticated ........... refused    no credential, or one that is not accepted
├── Forbidden ................. refused    known, but not allowed
├── NotFound .................. refused    not there, or not for these eyes
├── Conflict .................. refused    not possible from where things stand
│   └── Refused ............... refused    the fold said no; carries the verdict
├── RateLimited ............... retryable  too many requests; `retry_after_s`
├── Unavailable ............... retryable  something that we need is away; nothing was done
├── OutcomeUnknown ............ retryable  it may or may not have been done: ask again under the same key or id
└── Broken .................... broken     only a person, or a restart of the process, can repair it
    ├── BadSettings ........... broken     the environment lacks settings, or holds bad ones
    ├── BadSecret ............. broken     a key file is missing or bad
    ├── CannotOpen ............ broken     a sealed value was changed, or sealed under another key or for another use
    ├── Fenced ................ broken     another consumer has taken the partition over
    ├── FuseBlown ............. broken     too many records go to the dead letters to go on
    ├── TopicMismatch ......... broken     a topic is not laid out as we need it
    ├── CheckpointLost ........ broken     the log no longer holds the record that comes next
    └── MigrationChanged ...... broken     a migration that was applied reads otherwise now
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar

import msgspec

from jobledger_contracts.verdicts import Verdict


class Kind(StrEnum):
    """What the one who meets an error should do about it."""

    INVALID = "invalid"  #: send something else
    REFUSED = "refused"  #: it is a decision; the same request gets the same answer until things change
    RETRYABLE = "retryable"  #: the same request may succeed later
    BROKEN = "broken"  #: stop; a restart or a person is needed


class FieldError(msgspec.Struct, frozen=True):
    """One fault of a request: where (`$` is the body, `$.name` its member, `?limit` a parameter), and what is wrong."""

    path: str
    message: str


class JobledgerError(Exception):
    """Anything that goes wrong and is ours to explain. The message is meant for the caller: no secrets, no internals."""

    kind: ClassVar[Kind] = Kind.BROKEN
    retryable: ClassVar[bool] = False  #: follows from `kind`

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.retryable = cls.kind is Kind.RETRYABLE

    @property
    def message(self) -> str:
        """What went wrong, for the caller."""
        return str(self.args[0]) if self.args else ((type(self).__doc__ or "").splitlines() or [""])[0]

    def __str__(self) -> str:
        return self.message


class InvalidRequest(JobledgerError):
    """The request cannot be acted on."""

    kind = Kind.INVALID

    def __init__(self, message: str = "", errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message or "; ".join(f"{e.path}: {e.message}" for e in errors) or "The request cannot be acted on.")
        self.errors = tuple(errors)


class InvalidPath(InvalidRequest):
    """The path does not name something inside a job's folder."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path[:200]!r} is no path inside a job's folder: {why}")
        self.path = path


class Unprocessable(InvalidRequest):
    """The request is well formed, but names something that is not there or cannot be."""


class UnprocessableKey(Unprocessable):
    """The idempotency key was used before for a request with other content."""

    def __init__(self, key: str) -> None:
        super().__init__("This Idempotency-Key was used before for a request with other content; a new request needs a new key.")
        self.key = key


class UnsupportedMedia(InvalidRequest):
    """The body has a media type that is not read here."""

    def __init__(self, media_type: str, expected: str) -> None:
        super().__init__(f"The body is {media_type or 'of no stated type'}; {expected} is expected.")
        self.media_type, self.expected = media_type, expected


class TooLarge(InvalidRequest):
    """There are more bytes than the limit allows."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"More than {limit_bytes} bytes, which is the limit.")
        self.limit_bytes = limit_bytes


class Unauthenticated(JobledgerError):
    """A valid credential is needed."""

    kind = Kind.REFUSED


class Forbidden(JobledgerError):
    """This is not allowed for the caller."""

    kind = Kind.REFUSED


class NotFound(JobledgerError):
    """There is nothing of this name, or the caller may not see it."""

    kind = Kind.REFUSED

    def __init__(self, what: str, id: str) -> None:
        super().__init__(f"There is no {what} {id[:200]!r} that you can see.")
        self.what, self.id = what, id


class Conflict(JobledgerError):
    """This is not possible from where things stand."""

    kind = Kind.REFUSED


class Refused(Conflict):
    """The request was recorded, and refused: it is not allowed from where the stream stands."""

    def __init__(self, message: str, verdict: Verdict, *, position: str = "") -> None:
        super().__init__(message)
        self.verdict, self.position = verdict, position


class RateLimited(JobledgerError):
    """Too many requests."""

    kind = Kind.RETRYABLE

    def __init__(self, message: str = "Too many requests.", *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(JobledgerError):
    """Something that we need is away; nothing was done."""

    kind = Kind.RETRYABLE

    def __init__(self, message: str = "", *, what: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message or f"{what or 'A part of the system'} is not available; nothing was done.")
        self.what, self.retry_after_s = what, retry_after_s


class OutcomeUnknown(JobledgerError):
    """It may or may not have been done; asking again under the same id or key does it at most once."""

    kind = Kind.RETRYABLE

    def __init__(self, message: str = "", *, retry_after_s: float = 1.0) -> None:
        super().__init__(message or "It may or may not have been done; ask again under the same id or key.")
        self.retry_after_s = retry_after_s


class Broken(JobledgerError):
    """Only a restart of the process, or a person, can repair this."""

    kind = Kind.BROKEN


class BadSettings(Broken):
    """The environment lacks settings, or holds bad ones: all of them, at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("These settings are missing or bad:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.problems = tuple(problems)


class BadSecret(Broken):
    """A file with a key is missing or bad."""


class CannotOpen(Broken):
    """A sealed value was changed, or it was sealed under another key or for another use."""


class Fenced(Broken):
    """Another consumer has taken the partition over; what this one would write is stale."""

    def __init__(self, consumer: str, topic: str, partition: int) -> None:
        super().__init__(f"{consumer} no longer owns {topic}-{partition}: another instance has claimed it, or the checkpoint has moved.")
        self.consumer, self.topic, self.partition = consumer, topic, partition


class FuseBlown(Broken):
    """So many records go to the dead letters that going on would hide a fault of ours, or of a producer."""


class TopicMismatch(Broken):
    """A topic is not laid out as we need it."""

    def __init__(self, topic: str, why: str) -> None:
        super().__init__(f"{topic}: {why}")
        self.topic = topic


class CheckpointLost(Broken):
    """The log no longer holds the record that comes next: it was truncated, or it is another log."""

    def __init__(self, topic: str, partition: int, next_offset: int, why: str = "") -> None:
        super().__init__(f"{topic}-{partition}: the log does not hold offset {next_offset}{f' ({why})' if why else ''}.")
        self.topic, self.partition, self.next_offset = topic, partition, next_offset


class MigrationChanged(Broken):
    """A migration that was applied reads otherwise now."""

    def __init__(self, schema: str, name: str) -> None:
        super().__init__(f"{name} was applied to {schema} with other content; applied migrations are never edited, a new one is added.")
        self.schema, self.name = schema, name
