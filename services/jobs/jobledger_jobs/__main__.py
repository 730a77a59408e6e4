"""`python -m jobledger_jobs [all|api|projector|reactors]`: run the jobs service, or one of its roles; `replay`: make its rows again."""

from __future__ import annotations

import argparse
import os
import sys

import uvloop

from jobledger_kit.errors import BadSettings, JobledgerError
from jobledger_kit.lifecycle import EX_CONFIG, EX_SOFTWARE, run_main
from jobledger_kit.telemetry import set_up_logging

from .app import serve
from .config import JobsSettings
from .replay import add_arguments, replay

ROLES = {
    "all": "everything, in one process",
    "api": "answer requests",
    "projector": "write the rows",
    "reactors": "carry out what events ask for",
}
REPLAY = (
    "Makes the read model again from the log, beside the live one, and compares the two row by row. The service goes on meanwhile. "
    "Exits with 1 when they differ (and were not swapped), with 70 when the log cannot be folded as it was."
)


def main() -> None:
    """Read the settings from the environment and run until a signal comes. Exits with 78 when the settings are bad."""
    parser = argparse.ArgumentParser(prog="python -m jobledger_jobs", description="The jobs service.")
    commands = parser.add_subparsers(dest="role", metavar="all|api|projector|reactors|replay", title="what to run (default: all)")
    for role, what in ROLES.items():
        commands.add_parser(role, help=what)
    add_arguments(commands.add_parser("replay", help="make the rows again from the log, compare, and swap", description=REPLAY))
    asked = parser.parse_args()
    replaying = asked.role == "replay"
    try:
        settings = JobsSettings.load(os.environ, role=None if replaying else asked.role)
    except BadSettings as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(EX_CONFIG)
    if replaying:
        sys.exit(_replay(settings, asked))
    set_up_logging("jobs", format=settings.log_format, level=settings.log_level, instance=settings.instance_id)
    run_main(lambda: serve(settings))


def _replay(settings: JobsSettings, asked: argparse.Namespace) -> int:
    try:
        return uvloop.run(replay(settings, asked))
    except JobledgerError as error:
        sys.stderr.write(f"replay: {error.message}\n")
        return EX_SOFTWARE
    except KeyboardInterrupt:
        sys.stderr.write("replay: interrupted; the live rows are as they were\n")
        return 130


if __name__ == "__main__":
    main()
