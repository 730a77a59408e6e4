"""`python -m jobledger_devstack up|status|logs|down`: the stack's commands without the client package."""

from __future__ import annotations

import click

from jobledger_devstack.commands import COMMANDS

if __name__ == "__main__":
    click.Group("jobledger_devstack", commands={command.name or "": command for command in COMMANDS}, help=__doc__)()
