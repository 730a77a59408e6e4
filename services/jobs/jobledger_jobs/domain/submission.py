"""Whether what is asked of a new or changed job makes sense: its type, its scheduler and its spec belong together."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from jobledger_contracts.job_events import CondorSpec, DaskSpec, WorkflowSpec
from jobledger_contracts.workflows import check_workflow

SCHEDULER_TYPE: Mapping[str, str] = {"CONDOR": "condor", "CONDORWORKFLOW": "condor", "DASK": "dask"}
"""Job type -> the type of scheduler that can run it. A BASIC job is run by nobody of ours."""


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with a request; `path` names the member as JSONPath does."""

    path: str
    message: str


def check_spec(
    job_type: str, scheduler: str, condor: CondorSpec | None, dask: DaskSpec | None, workflow: WorkflowSpec | None = None
) -> list[Fault]:
    """List what does not fit together, from the request alone."""
    if job_type == "BASIC":
        given = {"scheduler": bool(scheduler), "condor": condor is not None, "dask": dask is not None, "workflow": workflow is not None}
        return [
            Fault(f"$.{name}", "a BASIC job has no scheduler: it reports its own status") for name, is_given in given.items() if is_given
        ]
    faults = [] if scheduler else [Fault("$.scheduler", f"a {job_type} job names the scheduler that runs it")]
    if workflow is not None and job_type != "CONDORWORKFLOW":
        faults.append(Fault("$.workflow", f"a {job_type} job has no workflow: a CONDORWORKFLOW job has"))
    if job_type == "CONDORWORKFLOW":
        for name, spec in (("condor", condor), ("dask", dask)):
            if spec is not None:
                faults.append(Fault(f"$.{name}", "a CONDORWORKFLOW job has a workflow, whose nodes say what to run"))
        if workflow is None:
            faults.append(Fault("$.workflow", "a CONDORWORKFLOW job has a workflow"))
        else:
            faults += [Fault(fault.path, fault.message) for fault in check_workflow(workflow)]
    elif job_type == "CONDOR":
        if dask is not None:
            faults.append(Fault("$.dask", "a CONDOR job has no Dask spec"))
        if condor is None or not condor.executable:
            faults.append(Fault("$.condor.executable", "a CONDOR job names its executable"))
    else:
        if condor is not None:
            faults.append(Fault("$.condor", "a DASK job has no HTCondor spec"))
        if dask is None or not (dask.function or dask.graph_file):
            faults.append(Fault("$.dask", "a DASK job names a function, as module:function, or a graph_file in its workspace"))
        elif dask.function and dask.graph_file:
            faults.append(Fault("$.dask", "a DASK job has either a function or a graph_file, not both"))
    return faults


def check_scheduler(job_type: str, scheduler: str, known: Mapping[str, str]) -> Fault | None:
    """Say what is wrong with the choice of scheduler; `known` maps each usable scheduler's name to its type."""
    if not scheduler:
        return None
    wanted = SCHEDULER_TYPE.get(job_type)
    fitting = sorted(name for name, kind in known.items() if kind == wanted)
    choice = f"of type {wanted} there are: {', '.join(fitting)}" if fitting else f"there is none of type {wanted}"
    if scheduler not in known:
        return Fault("$.scheduler", f"no scheduler is called {scheduler!r}; {choice}")
    if known[scheduler] != wanted:
        return Fault("$.scheduler", f"{scheduler!r} is of type {known[scheduler]} and cannot run a {job_type} job; {choice}")
    return None
