"""An app that has jobs, as Tethys' app classes have: one object that an app module makes once and others import."""

from __future__ import annotations

from jobledger.compute import Scheduler, get_scheduler
from jobledger.connection import Connection, default_connection
from jobledger.job_manager import JobManager


class App:
    """An app. Its `package` is the label of its jobs and keeps them apart from other apps'."""

    def __init__(self, package: str, name: str = "", connection: Connection | None = None) -> None:
        self.package, self.name = package, name or package
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """How this app reaches Jobledger; found when it is first needed."""
        if self._connection is None:
            self._connection = default_connection()
        return self._connection

    def get_job_manager(self) -> JobManager:
        """The manager of this app's jobs."""
        return JobManager(self.package, self.connection)

    def get_scheduler(self, name: str) -> Scheduler | None:
        """The scheduler of that name, or None."""
        return get_scheduler(name, connection=self.connection)
