"""Who may see a job and who may change it.

Owner and admin read and write; a member of one of the job's groups reads, and so does another service of ours; to everybody else the
job does not exist. The same rule
stands in `queries.sql` for lists, where PostgreSQL has to apply it; `tests/integration/jobs/test_jobs_api_rights.py` holds the two
together.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

import msgspec


class Right(IntEnum):
    """What somebody may do with a job. Each includes those below it."""

    NONE = 0  #: not even know that it exists
    READ = 1
    WRITE = 2


class Viewer(msgspec.Struct, frozen=True):
    """Somebody who asks, as far as rights go."""

    user: str
    groups: frozenset[str] = frozenset()
    admin: bool = False
    service: bool = False

    @property
    def sees_all(self) -> bool:
        """Sees every job, and what was said of jobs that were never created."""
        return self.admin or self.service


def right_to(viewer: Viewer, owner: str | None, groups: Collection[str]) -> Right:
    """Say what a viewer may do with a job. `owner` is None for a job that was never created."""
    if viewer.admin or (owner is not None and viewer.user == owner):
        return Right.WRITE
    if viewer.service or (owner is not None and not viewer.groups.isdisjoint(groups)):
        return Right.READ
    return Right.NONE
