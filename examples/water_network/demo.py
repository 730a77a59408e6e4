"""Which pipe can this town least do without? The whole of Jobledger, started here and put to work on that question.

    make demo          or: .venv/bin/python examples/water_network/demo.py [--groups 10]

The pipes of a published water network are closed one after the other, in HTCondor jobs; some of them again in a Dask job, whose answers
must be the same; and a BASIC job, run by nobody but this script, draws the map and reports its own status with curl. What you read here
is what an app does: nothing below knows how Jobledger works inside.
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
from progress import Board, console, stack_progress

from jobledger import App, BasicJob, CondorJob, Connection, DaskJob, JobledgerError, JobManager
from jobledger_devstack.errors import StackError
from jobledger_devstack.model import Endpoints
from jobledger_devstack.options import StackOptions
from jobledger_devstack.stack import Stack

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[1] / "out" / "water_network"
NETWORK = "ky10"  # a real Kentucky system, anonymised; University of Kentucky, shipped with wntr
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


def prepare(python: str) -> dict[str, Any]:
    """Write the network and its facts to the output folder."""
    OUT.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, HERE / "simulate.py", "prepare", NETWORK, OUT / "town.inp", OUT / "town.json"], cwd=OUT, check=True)
    facts: dict[str, Any] = json.loads((OUT / "town.json").read_text())
    return facts


def submit_condor(jobs: JobManager, python: str, groups: int) -> list[CondorJob]:
    """One HTCondor job for each group of pipes."""
    submitted = []
    for group in range(1, groups + 1):
        job = jobs.create_job(
            name=f"closures {group:02} of {groups}",
            job_type="CONDOR",
            scheduler="local-condor",
            remote_input_files=[HERE / "simulate.py", OUT / "town.inp", OUT / "town.json"],
            attributes={"request_memory": "512MB"},
        )
        job.set_attribute("executable", python)
        job.set_attribute("arguments", ["simulate.py", "close", "town.inp", "town.json", f"{group}/{groups}"])
        job.set_attribute("transfer_output_files", ["closures.json"])
        job.set_attribute("environment", {"MPLCONFIGDIR": "."})  # the jobs' user has no home; wntr brings matplotlib, which looks for one
        job.extended_properties = {"group": group, "groups": groups}
        job.execute()
        submitted.append(job)
    return submitted


def submit_dask(jobs: JobManager, facts: dict[str, Any]) -> DaskJob:
    """A sample of the same closures as a graph of tasks. The workers need no file of ours: functions and input travel along."""
    sample = simulate.pipes_to_close(facts)[::DASK_SAMPLE]
    job = jobs.create_job(name=f"the same for {len(sample)} pipes", job_type="DASK", scheduler="local-dask")
    graph = dask_job.study((OUT / "town.inp").read_text(), facts["people"], sample, tasks=4)
    job.execute(graph, by_value=[simulate, dask_job])
    return job


def draw_map(jobs: JobManager, python: str) -> BasicJob:
    """A job that no scheduler runs: we do, and report as any program in any language can, by HTTP."""
    job = jobs.create_job(name="draw the map", job_type="BASIC")
    job.execute()
    credential = job.callback_credential(expires_in_s=600)
    header = OUT / ".callback-header"
    header.touch(mode=0o600)
    header.write_text(credential.header)  # in a file: a command line can be read by everybody on this machine
    try:
        curl(credential.callback_url, header, {"status": "Running", "message": "drawing", "progress": 0.1})
        subprocess.run([python, HERE / "plot.py", OUT / "town.json", OUT / "closures.json", OUT / "map.png"], cwd=OUT, check=True)
        curl(credential.callback_url, header, {"status": "Complete", "message": "map.png", "progress": 1.0})
    finally:
        header.unlink()
    job.upload(OUT / "map.png")
    return job


def curl(url: str, header: Path, report: dict[str, Any]) -> None:
    """Report a status from outside, with nothing of ours."""
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--noproxy", "127.0.0.1", "--header", f"@{header}"]
    said = subprocess.run([*command, "--json", json.dumps(report), url], capture_output=True, text=True, check=False)
    if said.returncode:
        raise JobledgerError(f"curl could not report {report['status']}: {said.stdout or said.stderr}")
    console.print(f"  curl  {report['status']:<9} → {said.stdout.strip()}", style="dim", markup=False)


def wait(jobs: JobManager, condor: list[CondorJob], again: DaskJob, facts: dict[str, Any]) -> None:
    """Show how far the jobs are until they have all ended. Raises JobledgerError when one did not end well."""
    with Board(condor, again, pipes=len(simulate.pipes_to_close(facts))) as board:
        jobs.wait([*condor, again], timeout_s=TIMEOUT_S, on_change=board.update)
    for job in [*condor, again]:
        if job.status_code != "COM":
            raise JobledgerError(f"{job.name!r} ended as {job.cached_status}: {job.status_message} (jobledger jobs history {job.id})")


def main() -> None:
    """Ask, wait, answer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--groups", type=int, default=10, help="how many HTCondor jobs share the pipes (10)")
    groups = parser.parse_args().groups
    if shutil.which("curl") is None:
        raise JobledgerError("this demo reports a status with curl, which is not installed here (Debian: apt-get install curl)")
    began = time.monotonic()
    endpoints = start_stack()
    facts = prepare(endpoints.jobs_python)
    ready = time.monotonic()

    with Connection.discover(home=Path(endpoints.home)) as connection:
        jobs = App("water_network", connection=connection).get_job_manager()
        condor = submit_condor(jobs, endpoints.jobs_python, groups)
        again = submit_dask(jobs, facts)
        wait(jobs, condor, again, facts)

        closures = [closure for job in condor for closure in json.loads(job.read(f"run-{job.run}/closures.json"))]
        report.save(closures, facts, OUT)
        map_job = draw_map(jobs, endpoints.jobs_python)
        report.ranking(closures, facts)
        report.agreement(closures, again.result())
        report.history(condor[0])
        report.what_next(endpoints, condor[0], map_job, OUT, started_s=ready - began, asked_s=time.monotonic() - ready)


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
