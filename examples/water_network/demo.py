"""Which pipe can this town least do without? The whole of Jobledger, started here and put to work on that question.

    make demo          or: .venv/bin/python examples/water_network/demo.py [--groups 10]

The pipes of a published water network are closed one after the other, by a workflow of HTCondor jobs that prepares the network, simulates
groups of pipes side by side, and ranks and draws what they found. Some of the pipes are closed again by a Dask job; a BASIC job, run by
nobody but this script, compares the answers and reports its own status with curl. What you read here is what an app does: nothing below
knows how Jobledger works inside.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dask_job
import report
import simulate
from progress import Board, console, stack_progress, waiting_for

from jobledger import App, BasicJob, CondorWorkflow, CondorWorkflowJobNode, Connection, DaskJob, Job, JobledgerError, JobManager
from jobledger_devstack.errors import StackError
from jobledger_devstack.model import Endpoints
from jobledger_devstack.options import StackOptions
from jobledger_devstack.stack import Stack

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[1] / "out" / "water_network"
NETWORK = "ky10"  # a real Kentucky system, anonymised; University of Kentucky, shipped with wntr
RESULTS = ["closures.json", "ranking.csv", "map.png"]
DASK_SAMPLE = 24  # the Dask job asks again about every so many-th pipe
TIMEOUT_S = 900


def start_stack() -> Endpoints:
    """Start everything, or find it running; the jobs' Python gets what this example needs."""
    stack = Stack(options=StackOptions(job_requirements=(HERE / "requirements.lock",)))
    if stack.status().ready:
        endpoints = stack.endpoints()
        if has_wntr(endpoints.jobs_python):
            console.print("Jobledger is up already.\n")
            return endpoints
        if at_work(endpoints):
            raise JobledgerError(
                "the stack is up without this example's packages, and jobs are at work on it: run the demo when they have ended"
            )
        console.print("The stack is up without this example's packages: it is started again with them. Its data stays.")
        stack.down()
    with stack_progress() as show:
        return stack.up(on_progress=show)


def has_wntr(python: str) -> bool:
    """True when that Python has what the simulations need."""
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('wntr') is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


def at_work(endpoints: Endpoints) -> bool:
    """True when a restart of the stack would disturb somebody's run."""
    with Connection.discover(home=Path(endpoints.home)) as connection:
        jobs = connection.jobs.pages("/jobs", {"status": ["Submitted", "Running", "Paused", "Various"]})
        return any(job["job_type"] != "BASIC" for job in jobs)


def build_workflow(jobs: JobManager, python: str, groups: int) -> CondorWorkflow:
    """Prepare the network, close the pipes of each group, then rank and plot: each step takes the files that those before it have left."""
    workflow = jobs.create_job(f"pipe criticality of {NETWORK}", job_type="CONDORWORKFLOW", scheduler="local-condor")

    def node(name: str, arguments: list[str], inputs: list[str | Path], outputs: list[str]) -> CondorWorkflowJobNode:
        return CondorWorkflowJobNode(
            name,
            workflow,
            executable=python,
            arguments=arguments,
            remote_input_files=inputs,
            output_files=outputs,
            environment={"MPLCONFIGDIR": "."},  # the jobs' user has no home; wntr brings matplotlib, which looks for one
            attributes={"request_memory": "512MB"},
            retry=1,
        )

    simulate_py = HERE / "simulate.py"
    town = ["town.inp", "town.json"]
    prepare = node("prepare", ["simulate.py", "prepare", NETWORK, *town], [simulate_py], town)
    prepared: list[str | Path] = [f"nodes/prepare/{file}" for file in town]
    found = []
    for group in range(1, groups + 1):
        close = node(
            f"close-{group}",
            ["simulate.py", "close", *town, f"{group}/{groups}"],
            [simulate_py, *prepared],
            [f"closures-{group}.json"],
        )
        close.add_parent(prepare)
        found.append(close)
    answers = {f"closures-{group}.json": f"nodes/close-{group}/closures-{group}.json" for group in range(1, groups + 1)}
    programs = [HERE / name for name in ("rank.py", "plot.py", "simulate.py")]
    rank = node("rank", ["rank.py", "town.json", *answers], [*programs, "nodes/prepare/town.json", *answers.values()], RESULTS)
    rank.add_parents(found)
    return workflow


def fetch(workflow: CondorWorkflow) -> tuple[dict[str, Any], list[report.Closure]]:
    """Bring what the nodes have left to the output folder; return the network's facts and the ranked closures."""
    OUT.mkdir(parents=True, exist_ok=True)
    for node, files in (("prepare", ["town.inp", "town.json"]), ("rank", RESULTS)):
        for file in files:
            workflow.download(f"run-{workflow.run}/nodes/{node}/{file}", OUT)
    return json.loads((OUT / "town.json").read_text()), json.loads((OUT / "closures.json").read_text())


def submit_dask(jobs: JobManager, facts: dict[str, Any]) -> DaskJob:
    """A sample of the same closures as a graph of tasks. The workers need no file of ours: functions and input travel along."""
    sample = simulate.pipes_to_close(facts)[::DASK_SAMPLE]
    job = jobs.create_job(name=f"the same for {len(sample)} pipes", job_type="DASK", scheduler="local-dask")
    graph = dask_job.study((OUT / "town.inp").read_text(), facts["people"], sample, tasks=4)
    job.execute(graph, by_value=[simulate, dask_job])
    return job


def compare(jobs: JobManager, closures: list[report.Closure], again: list[report.Closure]) -> BasicJob:
    """A job that no scheduler runs: we do, and report as any program in any language can, by HTTP."""
    job = jobs.create_job(name="compare Dask with HTCondor", job_type="BASIC")
    job.execute()
    credential = job.callback_credential(expires_in_s=600)
    header = OUT / ".callback-header"
    header.touch(mode=0o600)
    header.write_text(credential.header)  # in a file: a command line can be read by everybody on this machine
    try:
        curl(credential.callback_url, header, {"status": "Running", "message": "comparing", "progress": 0.1})
        known = {closure["pipe"]: closure for closure in closures}
        different = [closure["pipe"] for closure in again if closure != known[closure["pipe"]]]
        if different:
            curl(credential.callback_url, header, {"status": "Error", "message": f"they disagree about {', '.join(different)}"})
            raise JobledgerError(f"Dask and HTCondor disagree about {', '.join(different)}")
        said = f"the same people, junctions and hours for all {len(again)} pipes"
        curl(credential.callback_url, header, {"status": "Complete", "message": said, "progress": 1.0})
    finally:
        header.unlink()
    return job


def curl(url: str, header: Path, report: dict[str, Any]) -> None:
    """Report a status from outside, with nothing of ours."""
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--noproxy", "127.0.0.1", "--header", f"@{header}"]
    said = subprocess.run([*command, "--json", json.dumps(report), url], capture_output=True, text=True, check=False)
    if said.returncode:
        raise JobledgerError(f"curl could not report {report['status']}: {said.stdout or said.stderr}")
    console.print(f"  curl  {report['status']:<9} → {said.stdout.strip()}", style="dim", markup=False)


def well(job: Job) -> None:
    """Raises JobledgerError when a job did not end well."""
    if job.status_code != "COM":
        raise JobledgerError(f"{job.name!r} ended as {job.cached_status}: {job.status_message} (jobledger jobs history {job.id})")


def main() -> None:
    """Ask, wait, answer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--groups", type=int, default=10, help="how many nodes of the workflow share the pipes (10)")
    groups = parser.parse_args().groups
    if shutil.which("curl") is None:
        raise JobledgerError("this demo reports a status with curl, which is not installed here (Debian: apt-get install curl)")
    began = time.monotonic()
    endpoints = start_stack()
    ready = time.monotonic()

    with Connection.discover(home=Path(endpoints.home)) as connection:
        jobs = App("water_network", connection=connection).get_job_manager()
        workflow = build_workflow(jobs, endpoints.jobs_python, groups)
        workflow.execute()
        with Board(workflow) as board:
            jobs.wait([workflow], timeout_s=TIMEOUT_S, on_change=board.update)
        well(workflow)
        facts, closures = fetch(workflow)

        again = submit_dask(jobs, facts)
        with waiting_for(again):
            jobs.wait([again], timeout_s=TIMEOUT_S)
        well(again)
        compare(jobs, closures, again.result())

        report.ranking(closures, facts)
        report.history(workflow)
        report.what_next(endpoints, workflow, OUT, started_s=ready - began, asked_s=time.monotonic() - ready)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        console.print("\nInterrupted. The stack and its jobs go on; `jobledger jobs list` shows them, `jobledger down` stops everything.")
        sys.exit(130)
    except (JobledgerError, StackError, TimeoutError) as error:
        console.print("\nThe demo stopped:", style="bold red")
        console.print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)
