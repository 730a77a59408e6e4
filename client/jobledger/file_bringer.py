"""Jobs that have local files: they come into the workspace when the job is saved."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jobledger.errors import InvalidArgument
from jobledger.jobs import Job


class FileBringer(Job):
    """A job that has local files, which come into the workspace under their own names."""

    def __init__(self) -> None:
        self._brought: dict[str, tuple[str, int, int]] = {}

    def _files(self) -> Iterable[Path]:
        """The local files; job types name them here."""
        return ()

    def _inputs(self) -> dict[str, Path]:
        """Path in the workspace -> local file. Raises `InvalidArgument` for two files of one name."""
        found: dict[str, Path] = {}
        for file in self._files():
            if file.name in found and found[file.name] != file:
                raise InvalidArgument(f"two input files are called {file.name}: {found[file.name]} and {file}")
            found[file.name] = file
        return found

    def _bring_files(self) -> None:
        for path, file in self._inputs().items():
            facts = file.stat()
            state = (str(file), facts.st_mtime_ns, facts.st_size)
            if self._brought.get(path) != state:
                self.upload(file, path)
                self._brought[path] = state

    def _forget_brought(self) -> None:
        self._brought = {}
