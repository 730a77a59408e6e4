"""Whether a job's type, scheduler and spec belong together."""

from __future__ import annotations

import pytest

from jobledger_contracts.job_events import CondorSpec, DaskSpec
from jobledger_jobs.domain.submission import check_scheduler, check_spec

CONDOR = CondorSpec(executable="run.sh")
DASK = DaskSpec(function="models:run")
KNOWN = {"pool": "condor", "pool2": "condor", "dask1": "dask"}


@pytest.mark.parametrize(
    ("job_type", "scheduler", "condor", "dask"),
    [("BASIC", "", None, None), ("CONDOR", "pool", CONDOR, None), ("DASK", "d", None, DASK), ("DASK", "d", None, DaskSpec(graph_file="g"))],
)
def test_good_specs_have_no_fault(job_type: str, scheduler: str, condor: CondorSpec | None, dask: DaskSpec | None) -> None:
    assert check_spec(job_type, scheduler, condor, dask) == []


@pytest.mark.parametrize(
    ("job_type", "scheduler", "condor", "dask", "paths"),
    [
        ("BASIC", "pool", CONDOR, DASK, ["$.scheduler", "$.condor", "$.dask"]),
        ("CONDOR", "", None, None, ["$.scheduler", "$.condor.executable"]),
        ("CONDOR", "pool", CondorSpec(), DASK, ["$.dask", "$.condor.executable"]),
        ("DASK", "", None, None, ["$.scheduler", "$.dask"]),
        ("DASK", "d", CONDOR, DaskSpec(), ["$.condor", "$.dask"]),
        ("DASK", "d", None, DaskSpec(function="a:b", graph_file="g"), ["$.dask"]),
    ],
)
def test_every_fault_is_named(job_type: str, scheduler: str, condor: CondorSpec | None, dask: DaskSpec | None, paths: list[str]) -> None:
    assert [fault.path for fault in check_spec(job_type, scheduler, condor, dask)] == paths


def test_known_scheduler_of_the_right_type_is_accepted() -> None:
    assert check_scheduler("CONDOR", "pool", KNOWN) is None
    assert check_scheduler("BASIC", "", {}) is None


def test_unknown_scheduler_is_refused_with_those_that_would_do() -> None:
    fault = check_scheduler("CONDOR", "nowhere", KNOWN)

    assert fault is not None
    assert "'nowhere'" in fault.message
    assert "pool, pool2" in fault.message
    assert "dask1" not in fault.message


def test_scheduler_of_the_wrong_type_is_refused() -> None:
    fault = check_scheduler("DASK", "pool", {"pool": "condor"})

    assert fault is not None
    assert "is of type condor" in fault.message
    assert "there is none of type dask" in fault.message
