"""The command `jobledger`."""

from jobledger.cli.main import main

__all__ = ["main"]
