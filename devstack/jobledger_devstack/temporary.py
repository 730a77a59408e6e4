"""A stack for the length of a `with`: for tests and measurements, which want nothing to be left behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobledger_devstack.options import StackOptions
from jobledger_devstack.stack import Stack


@contextmanager
def temporary_stack(options: StackOptions | None = None, *, timeout_s: float = 300) -> Iterator[Stack]:
    """Start a stack in a fresh folder; afterwards no process and no file of it is left, whatever happened. Raises what `Stack.up` does."""
    home = Path(tempfile.mkdtemp(prefix="jobledger-"))
    home.chmod(0o755)  # as root, the users that jobs and PostgreSQL run as must get through
    stack = Stack(home, options=options)
    try:
        stack.up(timeout_s=timeout_s)
        yield stack
    finally:
        stack.down()
        shutil.rmtree(home)
