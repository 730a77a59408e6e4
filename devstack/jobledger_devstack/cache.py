"""The parts cache: downloaded and unpacked binaries that all stacks of this machine share.

An entry is built in place (HTCondor's binaries carry absolute paths) under a lock, and is there once its `.ready` file is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from jobledger_devstack.files import locked

Report = Callable[[str, int | None], None]
"""Told what is being done and, where known, how much of it (percent)."""


def ensure_entry(cache: Path, name: str, build: Callable[[Path], None]) -> Path:
    """The cache entry `name`, built by `build(folder)` if it is not there. Blocks while another stack builds the same one.

    Whatever `build` raises is raised, and the next call starts afresh. Everything in an entry can be read by everybody.
    """
    entry = cache / name
    if (entry / ".ready").exists():
        return entry
    with locked(cache / "locks" / f"{name}.lock"):
        if (entry / ".ready").exists():
            return entry
        shutil.rmtree(entry, ignore_errors=True)
        entry.mkdir(parents=True)
        try:
            build(entry)
        except BaseException:
            shutil.rmtree(entry, ignore_errors=True)
            raise
        _let_everybody_read(entry)
        (entry / ".ready").touch()
    return entry


def _let_everybody_read(entry: Path) -> None:
    for folder, _, files in os.walk(entry):
        for path in [Path(folder), *(Path(folder, file) for file in files)]:
            if path.is_symlink():
                continue
            mode = path.stat().st_mode & 0o7777
            wanted = mode | 0o444 | (0o111 if mode & 0o100 else 0)
            if wanted != mode:
                path.chmod(wanted)
