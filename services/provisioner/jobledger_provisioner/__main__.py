"""`python -m jobledger_provisioner [all|api|projector]`: run the provisioner service, or one of its roles."""

from __future__ import annotations

import argparse
import os
import sys

from jobledger_kit.errors import BadSettings
from jobledger_kit.lifecycle import EX_CONFIG, run_main
from jobledger_kit.telemetry import set_up_logging

from .app import serve
from .config import ROLES, ProvisionerSettings


def main() -> None:
    """Read the settings from the environment and run until a signal comes. Exits with 78 when the settings are bad."""
    parser = argparse.ArgumentParser(prog="python -m jobledger_provisioner", description="The provisioner service.")
    parser.add_argument("role", nargs="?", choices=ROLES, help="which parts to run (default: all)")
    try:
        settings = ProvisionerSettings.load(os.environ, role=parser.parse_args().role)
    except BadSettings as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(EX_CONFIG)
    set_up_logging("provisioner", format=settings.log_format, level=settings.log_level, instance=settings.instance_id)
    run_main(lambda: serve(settings))


if __name__ == "__main__":
    main()
