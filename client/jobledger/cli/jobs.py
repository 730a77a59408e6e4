"""`jobledger jobs ...`."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from jobledger.cli import show, why
from jobledger.cli.bulk import act as act_on_many
from jobledger.cli.bulk import create_many
from jobledger.cli.files import files_commands
from jobledger.cli.filters import filter_options, filter_query
from jobledger.cli.output import as_json, connected, dump, dump_lines
from jobledger.condor_workflow import CondorWorkflow
from jobledger.connection import Connection
from jobledger.dask_job import DaskJob
from jobledger.errors import NotFound
from jobledger.job_manager import ORDERS, JobManager, job_from_view
from jobledger.jobs import Job
from jobledger.views import HistoryEntry, JobView

NOT_WELL = 8
"""Exit code when a job that was waited for did not end well."""
ID_CHARS = 36


@click.group()
def jobs() -> None:
    """Make, run, watch and list jobs."""


def full_id(connection: Connection, job_id: str) -> str:
    """The whole id of what was typed: an id, or the beginning of one that only one of the latest 500 jobs has. Raises `NotFound`."""
    if len(job_id) >= ID_CHARS:
        return job_id.lower()
    found = [item["id"] for item in connection.jobs.pages("/jobs", {"order_by": "-creation_time"}, limit=500)]
    matching: list[str] = [full for full in found if full.startswith(job_id.lower())]
    if len(matching) != 1:
        what = "several of the latest jobs have" if matching else "none of the latest 500 jobs has"
        raise NotFound(404, {"title": "Not found", "detail": f"{what} an id that begins with {job_id!r}"})
    return matching[0]


def find(connection: Connection, job_id: str) -> Job:
    """The job that was typed. Raises `NotFound`."""
    view = msgspec.convert(connection.jobs.get(f"/jobs/{full_id(connection, job_id)}"), JobView, strict=False)
    return job_from_view(view, connection)


@jobs.command("list")
@filter_options
@click.option("--limit", "-n", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option(
    "--order-by",
    type=click.Choice(ORDERS[1:]),
    default="creation_time",
    show_default=True,
    help="By execute_time and completion_time only jobs that have one are listed.",
)
@click.option("--oldest-first", "--ascending", "ascending", is_flag=True, help="Begin with the oldest, or with A.")
@as_json
@connected
def list_(connection: Connection, machine: bool, limit: int, order_by: str, ascending: bool, **filters: Any) -> None:
    """List jobs, the latest first."""
    query = {**filter_query(filters), "order_by": order_by if ascending else f"-{order_by}"}
    found = list(connection.jobs.pages("/jobs", query, limit=limit))
    if machine:
        dump(found)
    else:
        show.job_table([msgspec.convert(item, JobView, strict=False) for item in found])


@jobs.command()
@click.option("--label", "-l", help="Only this app's.")
@click.option("--user", "-u", help="This owner's.")
@click.option("--group", help="This group's.")
@as_json
@connected
def count(connection: Connection, machine: bool, **asked: str | None) -> None:
    """Count jobs by status: your own, or, as an administrator, everybody's."""
    counts = connection.jobs.get("/jobs/counts", {name: value for name, value in asked.items() if value})
    if machine:
        dump(counts)
    else:
        show.count_table(counts["statuses"], counts["total"])


@jobs.command("show")
@click.argument("job_id")
@as_json
@connected
def show_(connection: Connection, job_id: str, machine: bool) -> None:
    """Show one job. JOB_ID may be cut short."""
    job = find(connection, job_id)
    if machine:
        dump(job.view)
    else:
        show.job_details(job.view, job.dashboard_link if isinstance(job, DaskJob) else "")


@jobs.command()
@click.argument("name")
@click.option("--label", "-l", default="command", show_default=True, help="The app that it belongs to.")
@click.option(
    "--type", "job_type", type=click.Choice(["BASIC", "CONDOR", "DASK"], case_sensitive=False), default="BASIC", show_default=True
)
@click.option("--scheduler", help="The scheduler that runs it (CONDOR, DASK).")
@click.option("--description", default="")
@click.option("--group", "groups", multiple=True, help="A group whose members may see it; may be given again.")
@click.option("--executable", help="CONDOR: an input file's name, or an absolute path on the execution point.")
@click.option(
    "--input", "inputs", multiple=True, type=click.Path(exists=True, dir_okay=False), help="CONDOR: a local file; may be given again."
)
@click.option("--argument", "arguments", multiple=True, help="CONDOR: one argument; may be given again, in order.")
@click.option("--set", "attributes", multiple=True, metavar="NAME=VALUE", help="CONDOR: a submit command such as request_memory=2GB.")
@click.option("--processes", "num_jobs", type=click.IntRange(min=1, max=100_000), help="CONDOR: how many; `$(Process)` tells them apart.")
@click.option("--suspend", is_flag=True, help="CONDOR: pausing stops it where it is and keeps its machine, instead of holding it.")
@click.option(
    "--hold-limit", "hold_limit_s", type=click.IntRange(min=0), help="CONDOR: held by the pool for so many seconds, it is an error."
)
@click.option("--function", help="DASK: MODULE:FUNCTION that the workers can import.")
@click.option("--kwargs", metavar="JSON", help="DASK: the function's keyword arguments.")
@click.option("--process-results", metavar="PACKAGE.MODULE:FUNCTION", help="What the app's worker calls when a run has ended well.")
@click.option("--execute", is_flag=True, help="Ask for the first run at once.")
@as_json
@connected
def create(connection: Connection, machine: bool, execute: bool, name: str, label: str, job_type: str, **asked: Any) -> None:
    """Create a job. `{id}` in NAME becomes the job's id."""
    job = JobManager(label, connection).create_job(name, None, list(asked["groups"]) or None, job_type.upper(), **_given(job_type, asked))
    if execute:
        job.execute()
    else:
        job.save()
    _say(job, machine, "asked to run" if execute else "")


def _given(job_type: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The attributes for a job of a type. Raises UsageError for options of another type."""
    own = {
        "CONDOR": {"executable", "inputs", "arguments", "attributes", "num_jobs", "suspend", "hold_limit_s"},
        "DASK": {"function", "kwargs"},
    }
    kind = job_type.upper()
    for other, options in own.items():
        if other != kind and (wrong := sorted(name for name in options if asked[name] not in (None, False, "", ()))):
            raise click.UsageError(f"a {kind} job has no {', '.join(wrong)}: those belong to {other} jobs")
    given = {name: asked[name] for name in ("description", "scheduler")} | {"process_results_function": asked["process_results"]}
    if kind == "CONDOR":
        pairs = [text.partition("=") for text in asked["attributes"]]
        if bad := [name for name, equals, _ in pairs if not equals]:
            raise click.UsageError(f"--set takes NAME=VALUE, not {bad[0]!r}")
        given |= {
            "executable": asked["executable"] or "",
            "remote_input_files": asked["inputs"],
            "arguments": asked["arguments"],
            "num_jobs": asked["num_jobs"] or 1,
            "pause_by": "suspend" if asked["suspend"] else "hold",
            "hold_limit_s": asked["hold_limit_s"],
            "attributes": {name.strip(): value.strip() for name, _, value in pairs},
        }
    if kind == "DASK":
        try:
            kwargs = msgspec.json.decode(asked["kwargs"] or "{}", type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise click.UsageError(f"--kwargs is not a JSON object: {error}") from error
        given |= {"function": asked["function"] or "", "kwargs": kwargs}
    return given


def _action(name: str, help_text: str) -> None:
    @jobs.command(name, help=help_text)
    @click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID...")
    @click.option("--reason", default="", help="Why; it stands in the history.")
    @as_json
    @connected
    def act(connection: Connection, job_ids: tuple[str, ...], reason: str, machine: bool) -> None:
        for job_id in job_ids:
            job = find(connection, job_id)
            getattr(job, name)(reason)
            _say(job, machine, f"asked to {name}")


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID...")
@as_json
@connected
def execute(connection: Connection, job_ids: tuple[str, ...], machine: bool) -> None:
    """Ask for a job's first run."""
    for job_id in job_ids:
        job = find(connection, job_id)
        Job.execute(job)
        _say(job, machine, "asked to run")


_action("stop", "Ask to end the current run.")
_action("pause", "Ask to hold the current run.")
_action("resume", "Ask to let a held run go on.")
_action("resubmit", "Ask for another run of a job whose last one is over.")


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID...")
@connected
def delete(connection: Connection, job_ids: tuple[str, ...]) -> None:
    """Take jobs out of the list. Their history stays. Refused while a run is active."""
    for job_id in job_ids:
        job = find(connection, job_id)
        job.delete()
        click.echo(f"{job.id} deleted")


@jobs.command()
@click.argument("job_id")
@click.option("--limit", "-n", type=click.IntRange(min=1), help="At most so many, from the oldest.")
@as_json
@connected
def history(connection: Connection, job_id: str, limit: int | None, machine: bool) -> None:
    """Show everything that was ever said about a job, with the ledger's verdict.

    A deleted job's history is still there, by its full JOB_ID.
    """
    found = connection.jobs.pages(f"/jobs/{full_id(connection, job_id)}/history", limit=limit)
    entries = [msgspec.convert(entry, HistoryEntry, strict=False) for entry in found]
    if machine:
        dump(entries)
    else:
        show.history_table(entries)


@jobs.command()
@click.argument("job_id")
@as_json
@connected
def traceback(connection: Connection, job_id: str, machine: bool) -> None:
    """Show why processing a job's results failed: the latest attempt that did."""
    job = find(connection, job_id)
    failure = job.processing_failure()
    if machine:
        dump(failure)
    elif failure is None:
        click.echo(f"no attempt at processing the results of {job.name} has failed")
    else:
        click.echo(f"run {failure.run}, attempt {failure.attempt}, by {failure.worker}: {failure.error}")
        click.echo(failure.traceback.rstrip("\n"))


@jobs.command("why")
@click.argument("job_id")
@as_json
@connected
def why_(connection: Connection, job_id: str, machine: bool) -> None:
    """Say how a job came to stand as it does: who asked for what and why, what was seen, and what did not take effect since.

    A deleted job's history is still there, by its full JOB_ID.
    """
    found = connection.jobs.pages(f"/jobs/{full_id(connection, job_id)}/history", {"order_by": "-position"})
    explanation = why.explain(msgspec.convert(entry, HistoryEntry, strict=False) for entry in found)
    if machine:
        dump(explanation)
    else:
        why.show_explanation(explanation)


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID...")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait at most.")
@as_json
@connected
def watch(connection: Connection, job_ids: tuple[str, ...], timeout_s: float | None, machine: bool) -> None:
    """Follow jobs until their runs are over; one line for each change.

    Exit code 8 when one of them did not end well.
    """
    found = [find(connection, job_id) for job_id in job_ids]

    def line(job: Job) -> None:
        if machine:
            dump_lines([job.view])
        else:
            show.change_line(job.view)

    JobManager("", connection).wait(found, timeout_s=timeout_s, on_change=line)
    if any(job.status_code != "COM" for job in found):
        raise click.exceptions.Exit(NOT_WELL)


@jobs.command()
@click.argument("job_id")
@click.option("--status", "-s", multiple=True, help="Only nodes with this status, by name or code; may be given again.")
@click.option("--run", type=click.IntRange(min=1), help="Of this run; without it of the current one.")
@click.option("--limit", "-n", type=click.IntRange(min=1), help="At most so many.")
@as_json
@connected
def nodes(connection: Connection, job_id: str, status: tuple[str, ...], run: int | None, limit: int | None, machine: bool) -> None:
    """Show the nodes of a workflow."""
    job = find(connection, job_id)
    if not isinstance(job, CondorWorkflow):
        raise click.UsageError(f"a {job.job_type} job has no nodes: CONDORWORKFLOW jobs have")
    found = job.nodes(status, run, limit)
    if machine:
        dump(found)
    else:
        show.node_table(found)


@jobs.command("node-logs")
@click.argument("job_id")
@click.argument("node")
@click.option("--only", type=click.Choice(["stdout", "stderr", "log"]), help="This one alone, as it is.")
@click.option("--run", type=click.IntRange(min=1), help="Of this run; without it of the current one.")
@click.option("--live", is_flag=True, help="What a node that is at work now has written so far: stdout, or with --only stderr that.")
@connected
def node_logs(connection: Connection, job_id: str, node: str, only: str | None, run: int | None, live: bool) -> None:
    """Print what a node of a workflow has written: stdout, stderr and HTCondor's log.

    They are brought back when the run is over; before, --live reads where the node runs.
    """
    job = find(connection, job_id)
    if not isinstance(job, CondorWorkflow):
        raise click.UsageError(f"a {job.job_type} job has no nodes: CONDORWORKFLOW jobs have")
    if live:
        if run is not None or only == "log":
            raise click.UsageError("--live reads stdout or stderr of the current run")
        for piece in job.tail_node(node, only or "stdout"):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    try:
        texts = job.node_logs(node, run)
    except KeyError:
        raise click.UsageError(f"{job.name!r} has no node {node!r}: `jobledger jobs nodes {job_id}` lists them") from None
    if not texts or (only and only not in texts):
        why = "the run is not over yet" if not job.is_terminal and run in (None, job.run) else "it has not run, or left nothing"
        raise click.ClickException(f"there is no {only or 'output'} of {node!r}: {why}")
    if only:
        click.echo(texts[only], nl=False)
        return
    for name, text in texts.items():
        click.echo(f"==> {name} <==\n{text}" + ("" if text.endswith("\n") or not text else "\n"))


def _say(job: Job, machine: bool, asked: str = "") -> None:
    """Show a job after a request, which may be accepted long before anything comes of it."""
    if machine:
        dump(job.view)
    else:
        show.change_line(job.view, asked)


for command in (create_many, act_on_many, *files_commands(find)):
    jobs.add_command(command)
