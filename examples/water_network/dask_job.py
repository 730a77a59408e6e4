"""The same question as a Dask graph: one task for each handful of pipes, and one that joins their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import simulate
from dask.delayed import delayed


def study(network: str, people: dict[str, int], pipes: Sequence[str], tasks: int) -> Any:
    """A delayed list of closures. Workers need wntr; our own functions travel with the graph."""
    close = delayed(simulate.close_pipes, pure=True)
    parts = [close(network, people, pipes[number::tasks]) for number in range(tasks)]
    return delayed(join)(parts)


def join(parts: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One list of all parts' answers."""
    return [closure for part in parts for closure in part]
