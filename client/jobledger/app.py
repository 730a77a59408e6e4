"""An app that has jobs, as Tethys' app classes have: one object that an app module makes once and others import."""

from __future__ import annotations

from collections.abc import Sequence

from jobledger import scheduler_settings as settings
from jobledger.compute import Scheduler, get_scheduler
from jobledger.connection import Connection, default_connection
from jobledger.errors import SettingNotFound
from jobledger.job_manager import JobManager
from jobledger.scheduler_settings import SchedulerSetting, SettingView


class App:
    """An app. Its `package` is the label of its jobs and keeps them apart from other apps'.

    With `scheduler_settings` it says which schedulers it needs; an administrator assigns them, and `get_scheduler` finds them.
    """

    def __init__(
        self,
        package: str,
        name: str = "",
        connection: Connection | None = None,
        *,
        scheduler_settings: Sequence[SchedulerSetting] = (),
    ) -> None:
        self.package, self.name = package, name or package
        self.scheduler_settings = tuple(scheduler_settings)
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

    def declare_scheduler_settings(self) -> list[SettingView]:
        """Tell Jobledger which schedulers this app needs; what it needed before and needs no more is withdrawn. Safe to repeat."""
        return settings.declare(self.connection, self.package, self.scheduler_settings)

    def get_scheduler(self, name: str) -> Scheduler | None:
        """The scheduler that is assigned to the setting of that name.

        Settings that were never declared are declared now. Raises `SettingNotFound` for a name that is not among this app's settings,
        and `SettingNotAssigned` when no administrator has assigned a scheduler yet. An app that has no settings names schedulers
        directly: then this is the scheduler of that name, or None.
        """
        if not self.scheduler_settings:
            return get_scheduler(name, connection=self.connection)
        if all(setting.name != name for setting in self.scheduler_settings):
            raise SettingNotFound(f"the app {self.package} has no scheduler setting {name!r}")
        try:
            return settings.resolve(self.connection, self.package, name)
        except SettingNotFound:
            self.declare_scheduler_settings()
            return settings.resolve(self.connection, self.package, name)
