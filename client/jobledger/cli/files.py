"""`jobledger jobs files|get|put|tail`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from jobledger.cli.output import as_json, connected, dump, local, show_table, size
from jobledger.connection import Connection
from jobledger.files import check_path
from jobledger.jobs import Job


def files_commands(find: Callable[[Connection, str], Job]) -> list[click.Command]:
    """The commands about a job's workspace; `find` turns what was typed into the job."""

    @click.command("files")
    @click.argument("job_id")
    @as_json
    @connected
    def files(connection: Connection, job_id: str, machine: bool) -> None:
        """List the files of a job. Output of the n-th run is below run-<n>/."""
        found = find(connection, job_id).files()
        if machine:
            dump(found)
        else:
            rows = [(file.path, size(file.size_bytes), local(file.modified_at)) for file in found]
            show_table((("path", "fixed"), ("size", "number"), ("changed", "fixed")), rows, nothing="no files")

    @click.command("get")
    @click.argument("job_id")
    @click.argument("path")
    @click.option("--to", type=click.Path(path_type=Path), default=".", help="A folder or a file's name; - is standard output.")
    @connected
    def get(connection: Connection, job_id: str, path: str, to: Path) -> None:
        """Download the file PATH of a job."""
        check_path(path)
        job = find(connection, job_id)
        if str(to) == "-":
            for piece in job.chunks(path):
                sys.stdout.buffer.write(piece)
        else:
            click.echo(job.download(path, to))

    @click.command("put")
    @click.argument("job_id")
    @click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE...")
    @click.option("--as", "as_", help="Its path in the workspace, for a single file.")
    @connected
    def put(connection: Connection, job_id: str, files: tuple[Path, ...], as_: str | None) -> None:
        """Upload local files to a job's workspace."""
        if as_ and len(files) > 1:
            raise click.UsageError("--as names one file; several were given")
        if as_ is not None:
            check_path(as_)
        job = find(connection, job_id)
        for file in files:
            click.echo(job.upload(file, as_ or ""))

    @click.command("tail")
    @click.argument("job_id")
    @click.option("--follow", "-f", is_flag=True, help="Go on until the run is over.")
    @click.option("--stderr", is_flag=True, help="Standard error instead of standard output.")
    @click.option("--process", type=click.IntRange(min=0), default=0, help="Of a run with several processes: which, from 0.")
    @connected
    def tail(connection: Connection, job_id: str, follow: bool, stderr: bool, process: int) -> None:
        """Show what the current run of a job writes, while it runs or after."""
        for piece in find(connection, job_id).tail("stderr" if stderr else "stdout", follow=follow, process=process):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()

    return [files, get, put, tail]
