"""What a Dask run returned, as it lies in the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cloudpickle
import msgspec

from jobledger.errors import NotFound, ResultUnavailable

if TYPE_CHECKING:
    from jobledger.dask_job import DaskJob

GRAPH_FILE: Final = "graph.pickle"
JSON_FILE: Final = "result.json"
PICKLE_FILE: Final = "result.pickle"


def open_result(job: DaskJob, *, allow_pickle: bool) -> Any:
    """Read the result of a job's current run. Raises `ResultUnavailable`."""
    folder = f"run-{job.run}"
    try:
        there = {file.path for file in job.files(folder)}
    except NotFound:
        there = set()
    if f"{folder}/{JSON_FILE}" in there:
        return msgspec.json.decode(job.read(f"{folder}/{JSON_FILE}"))
    if f"{folder}/{PICKLE_FILE}" not in there:
        why = f": {job.status_message}" if job.status_message else ""
        raise ResultUnavailable(f"{job.name!r} has no result; it is {job.cached_status}{why}")
    if not allow_pickle:
        raise ResultUnavailable(
            f"the result of {job.name!r} is a pickle ({folder}/{PICKLE_FILE}); allow_pickle=True opens it, if you trust it"
        )
    return cloudpickle.loads(job.read(f"{folder}/{PICKLE_FILE}"))  # the caller has said that its maker is trusted
