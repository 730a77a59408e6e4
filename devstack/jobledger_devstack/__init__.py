"""A whole Jobledger on one machine, out of real parts."""

from __future__ import annotations

from jobledger_devstack.errors import FetchFailed, MissingPrerequisite, NotRunning, PartFailed, StackError
from jobledger_devstack.layout import default_home
from jobledger_devstack.model import Endpoints, PartStatus, Phase, Snapshot
from jobledger_devstack.options import PARTS, StackOptions
from jobledger_devstack.stack import Stack, mint_token

__all__ = [
    "PARTS",
    "Endpoints",
    "FetchFailed",
    "MissingPrerequisite",
    "NotRunning",
    "PartFailed",
    "PartStatus",
    "Phase",
    "Snapshot",
    "Stack",
    "StackError",
    "StackOptions",
    "default_home",
    "mint_token",
]
