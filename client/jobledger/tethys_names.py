"""Names of Tethys Platform's Jobs API that say in other words what a job says anyway, so that apps that use them go on."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from jobledger.errors import NotFound

if TYPE_CHECKING:
    from jobledger.views import FileInfo

LOGS: Final = ("stdout.txt", "stderr.txt", "condor.log", "error.txt")
"""How the files end that schedulers leave as a run's logs."""


class TethysNames:
    """Part of `Job`."""

    DoesNotExist = NotFound  #: what is raised for a job that is not there (any more)

    update_status_interval: timedelta = timedelta(seconds=10)
    """How old a status may be before `is_time_to_update` says so. Nothing here waits for it: the service is told of changes."""

    run: int
    _fetched_at: float | None = None

    if TYPE_CHECKING:  # what `Job` has

        def files(self, folder: str = "") -> list[FileInfo]: ...
        def read(self, path: str) -> bytes: ...

    def is_time_to_update(self) -> bool:
        """True when this object was last fetched `update_status_interval` ago or longer, or never."""
        return self._fetched_at is None or time.monotonic() - self._fetched_at >= self.update_status_interval.total_seconds()

    def get_logs(self) -> dict[str, str]:
        """What the current run wrote and its scheduler noted: path below `run-<n>/` -> text. Empty while nothing has been brought home."""
        folder = f"run-{self.run}"
        try:
            found = [file.path for file in self.files(folder) if file.path.endswith(LOGS)] if self.run else []
        except NotFound:
            return {}
        return {path.removeprefix(f"{folder}/"): self.read(path).decode(errors="replace") for path in found}
