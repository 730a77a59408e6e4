"""What a Dask run returned, as it lies in the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jobledger.dask_job import DaskJob

GRAPH_FILE: Final = "graph.pkl"
RESULT_FILE: Final = "result"


def open_result(job: DaskJob, *, allow_pickle: bool) -> Any:
    """Read the result of a job's current run. Raises `ResultUnavailable`."""
    raise NotImplementedError
