"""Attributes of a job that only the ledger can change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar, overload

if TYPE_CHECKING:
    from jobledger.jobs import Job

T = TypeVar("T")


class Seen(Generic[T]):
    """A read-only attribute: what the service last said."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, job: None, owner: type) -> Self: ...
    @overload
    def __get__(self, job: Job, owner: type) -> T: ...
    def __get__(self, job: Job | None, owner: type) -> Self | T:
        if job is None:
            return self
        value: T = getattr(job.view, self._name)
        return value

    def __set__(self, job: Job, value: T) -> None:
        raise AttributeError(f"{self._name} is what the ledger says and cannot be set")
