"""The command's root: its groups, and how errors become one clear line and an exit code."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import click

from jobledger.cli import access, callback, dead_letters, events, jobs, pool, schedulers, settings, worker
from jobledger.errors import (
    ApiError,
    InvalidArgument,
    JobledgerError,
    NotConfigured,
    NotFound,
    Refused,
    StillStarting,
    TimedOut,
    Unreachable,
)

EXIT_CODES: dict[type[JobledgerError], int] = {
    NotConfigured: 2,
    InvalidArgument: 2,
    StillStarting: 3,
    Unreachable: 4,
    NotFound: 5,
    Refused: 6,
    TimedOut: 7,
    JobledgerError: 1,
}
"""Error -> exit code; the nearest base counts. 2 is click's own for a wrong command line."""

EPILOG = """\
\b
Exit codes: 0 done; 1 failed; 2 wrong command line or configuration; 3 the local
stack is not ready; 4 no service answers; 5 not found; 6 refused by the ledger;
7 not in time; 8 the job that was waited for did not end well.

Addresses and the API key come from JOBLEDGER_JOBS_URL, JOBLEDGER_SCHEDULERS_URL,
JOBLEDGER_CLUSTERS_URL and JOBLEDGER_API_KEY_FILE (or JOBLEDGER_API_KEY), else from
the local stack that `jobledger up` started.
"""


class Root(click.Group):
    """Lists the commands in the order in which one needs them, not in the alphabet's."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Root, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jobledger", prog_name="jobledger")
def cli() -> None:
    """Scientific compute jobs on HTCondor and Dask, with a history that nothing is ever missing from."""


def _add_stack_commands(root: click.Group) -> None:
    """`up`, `status`, `logs`, `down` and `replay` exist where the package that runs a local stack is installed."""
    if importlib.util.find_spec("jobledger_devstack") is None:
        return
    from jobledger_devstack.commands import COMMANDS

    for command in COMMANDS:
        root.add_command(command)


_add_stack_commands(cli)
schedulers.schedulers.add_command(settings.settings)
schedulers.schedulers.add_command(settings.assign)
for part in (
    jobs.jobs,
    schedulers.schedulers,
    pool.pool,
    access.keys,
    access.whoami,
    dead_letters.dead_letters,
    events.events,
    callback.callback,
    worker.worker,
):
    cli.add_command(part)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; never returns."""
    try:
        result: Any = cli.main(args=argv, prog_name="jobledger", standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except JobledgerError as error:
        click.echo(f"jobledger: {_line(error)}", err=True)
        sys.exit(next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind)))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"jobledger: {where}{error.strerror or error}", err=True)
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)


def _line(error: JobledgerError) -> str:
    if isinstance(error, NotConfigured):
        return error.message
    reason = f" [{error.reason}]" if isinstance(error, ApiError) and error.reason and error.reason not in str(error) else ""
    return " ".join(f"{error}{reason}".split())
