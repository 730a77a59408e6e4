"""`jobledger worker`: an app's own process, which processes the results of its jobs."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from jobledger.cli.output import connected
from jobledger.connection import Connection
from jobledger.processing import LEASE_S
from jobledger.worker import DEADLINE_S, Worker

FAILED = 8


@click.command()
@click.option("--app", "-a", "label", required=True, metavar="LABEL", help="The app, by the label of its jobs.")
@click.option(
    "--import-path",
    "-I",
    "import_paths",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with the app's code, beside the current one; may be given again.",
)
@click.option(
    "--allow", multiple=True, metavar="PACKAGE", help="Take all owners' jobs, and run only functions of this package; may be given again."
)
@click.option("--concurrency", "-c", type=click.IntRange(1, 64), default=1, show_default=True, help="How many at a time.")
@click.option("--once", is_flag=True, help="End when nothing is due any more.")
@click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(min=1),
    default=DEADLINE_S,
    show_default=True,
    help="Seconds that a function may take.",
)
@click.option(
    "--lease",
    "lease_s",
    type=click.FloatRange(1, 3600),
    default=LEASE_S,
    show_default=True,
    help="Seconds after which another worker takes over from one that is not heard of.",
)
@connected
def worker(
    connection: Connection,
    label: str,
    import_paths: tuple[Path, ...],
    allow: tuple[str, ...],
    concurrency: int,
    once: bool,
    deadline_s: float,
    lease_s: float,
) -> None:
    """Process the results of an app's jobs.

    Jobs that name a process_results_function are Results-Ready when their run has ended well, and Complete when this has called it with
    the job. Each call is a process of its own. What fails is tried again, and is an error in the end, with its traceback in the history.

    Without --allow, only jobs that the API key's own user owns are taken. With it, those of all owners that the key may change (an
    administrator's key: all), but no function outside of the packages is run.

    A first SIGTERM or SIGINT lets what runs end; a second one ends it, too: then it is tried again later. With --once the exit code is 8
    when something failed.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request
    one = Worker(label, connection, import_paths=import_paths, allow=allow, concurrency=concurrency, lease_s=lease_s, deadline_s=deadline_s)
    heard = 0

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal heard
        heard += 1
        if heard == 1:
            one.stop()
        else:
            one.abort()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    one.run(once=once)
    if once and one.failed:
        raise click.exceptions.Exit(FAILED)
