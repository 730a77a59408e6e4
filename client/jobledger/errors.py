"""What can go wrong when talking to Jobledger.

JobledgerError
├── NotConfigured          nothing says where Jobledger is, or the API key is missing
├── InvalidArgument        what was given cannot be right; nothing was sent (also a ValueError)
├── Unreachable            a service did not answer; nothing was changed, or it was a read
│   ├── StillStarting      the local stack is on its way up
│   └── OutcomeUnknown     a write was cut off: it may or may not have taken effect
├── ApiError               a service answered with a problem (RFC 9457)
│   ├── InvalidRequest     400, 415, 422   the request is wrong; `errors` says where
│   │   └── KeyReused      422             the Idempotency-Key was used before for other content
│   ├── Unauthenticated    401             no key, or one that is not valid (any more)
│   ├── Forbidden          403             the key's owner may not do this
│   ├── NotFound           404             no such thing, or not visible to the key's owner
│   ├── Refused            409             not allowed from where the job stands; `reason` says why
│   ├── TooLarge           413
│   └── ServerError        5xx, 429        the service cannot answer now; trying again may help
├── SettingNotFound        the app has no scheduler setting of that name
├── SettingNotAssigned     no administrator has assigned a scheduler to the setting, or it is not there any more
├── NotSaved               the object is local only: call `save()` or `execute()` first
├── ResultUnavailable      the job left no result, or not one that may be opened like this
└── TimedOut               what was waited for did not happen in time
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class JobledgerError(Exception):
    """Base of everything this package raises on purpose."""

    retryable: ClassVar[bool] = False


class NotConfigured(JobledgerError):
    """Nothing says where Jobledger is, or with which key to talk to it. `in_code` is advice that helps only who writes code."""

    def __init__(self, message: str, in_code: str = "") -> None:
        super().__init__(message + in_code)
        self.message = message  #: without the advice for code


class InvalidArgument(JobledgerError, ValueError):
    """What was given cannot be right, whatever the services say. Nothing was sent."""


class Unreachable(JobledgerError):
    """A service did not answer. Nothing was changed by this call."""

    retryable: ClassVar[bool] = True


class StillStarting(Unreachable):
    """The local stack is on its way up, and its services are not all there yet."""


class OutcomeUnknown(Unreachable):
    """The connection was cut after a write was sent: it may or may not have taken effect. Look before trying again."""

    retryable: ClassVar[bool] = False


class ApiError(JobledgerError):
    """A service answered with a problem. The message is the problem's detail, after its title when the detail is no whole sentence."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.title = str(problem.get("title") or f"HTTP {status}")
        self.detail = str(problem.get("detail") or "")
        sentence = " " in self.detail and self.detail.endswith((".", "!", "?"))
        super().__init__(self.detail if sentence else ": ".join(text for text in (self.title, self.detail) if text))

    @property
    def reason(self) -> str:
        """The machine-readable reason, such as `already_started`; empty when the service gave none."""
        return str(self.problem.get("reason") or "")


class InvalidRequest(ApiError):
    """The request is wrong as it stands."""

    @property
    def errors(self) -> list[dict[str, str]]:
        """What is wrong: one `{"path", "message"}` for each fault."""
        found = self.problem.get("errors") or []
        return [dict(error) for error in found if isinstance(error, Mapping)]

    def __str__(self) -> str:
        faults = "; ".join(f"{error.get('path') or 'body'}: {error.get('message', '')}" for error in self.errors)
        return f"{super().__str__()} ({faults})" if faults and faults not in self.detail else super().__str__()


class KeyReused(InvalidRequest):
    """The same Idempotency-Key came before with other content."""


class Unauthenticated(ApiError):
    """No API key, or one that is not valid any more."""


class Forbidden(ApiError):
    """The key's owner may not do this."""


class NotFound(ApiError):
    """There is no such thing, or the key's owner may not see it."""


class Refused(ApiError):
    """The ledger refused the request: it is not allowed from where the job stands. The refusal is in the job's history."""


class TooLarge(ApiError):
    """The body is larger than the service takes."""


class ServerError(ApiError):
    """The service cannot answer now; trying again may help."""

    retryable: ClassVar[bool] = True


class SettingNotFound(JobledgerError):
    """The app has no scheduler setting of that name."""


class SettingNotAssigned(JobledgerError):
    """A scheduler setting leads to no scheduler: none is assigned, or the one that was is not registered any more."""


class NotSaved(JobledgerError):
    """The object exists in this process only. Call `save()` or `execute()` first."""


class SomeFailed(JobledgerError):
    """Of many jobs some refused; what could be done with the others is done. `failures` has each such job and what the service says."""

    def __init__(self, failures: Sequence[tuple[Any, Mapping[str, Any]]]) -> None:
        shown = "; ".join(f"{job.name}: {said.get('detail') or said['status']}" for job, said in failures[:3])
        super().__init__(f"{len(failures)} jobs refused: {shown}{' ...' if len(failures) > 3 else ''}")
        self.failures = list(failures)


class ResultUnavailable(JobledgerError):
    """The job left no result, or one that is not opened without being asked to."""


class TimedOut(JobledgerError):
    """What was waited for did not happen in time. It may still happen: nothing was stopped."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Refused,
    413: TooLarge,
    415: InvalidRequest,
    422: InvalidRequest,
    429: ServerError,
}


def from_problem(status: int, problem: Mapping[str, Any]) -> ApiError:
    """The error that a problem document stands for."""
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
    if status == 422 and ("idempotency" in str(problem.get("type", "")).lower() or problem.get("reason") == "other_content"):
        kind = KeyReused
    return kind(status, problem)
