"""What can be said about a scheduler setting: an app needs a scheduler of some kind, and an administrator says which one it gets.

Keyed by `<label>/<name>`: the app's label, and the setting's name within it. So each setting is a stream of its own, in which a
declaration and an assignment that meet have one order.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from .scheduler_events import SchedulerName, SchedulerType, Text

SettingKey = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)")]
SettingPart = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)")]
"""A label, or a name: the half of a key."""


class SettingDeclared(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An app needs a scheduler; the whole declaration, also when an earlier one is replaced."""

    setting: SettingKey  #: `<label>/<name>`
    engine: SchedulerType  #: which kind of scheduler it has to be
    description: Text = ""
    required: bool = False  #: the app does not work without


class SettingWithdrawn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An app does not need this scheduler any more."""

    setting: SettingKey
    reason: Text = ""


class SettingAssigned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A setting has a scheduler from now on."""

    setting: SettingKey
    scheduler: SchedulerName
    engine: SchedulerType  #: the kind of that scheduler, as it is registered


class SettingUnassigned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A setting has no scheduler any more."""

    setting: SettingKey
    reason: Text = ""


SettingEvent = SettingDeclared | SettingWithdrawn | SettingAssigned | SettingUnassigned
"""Any event about a scheduler setting."""


def setting_key(label: str, name: str) -> str:
    """Name a setting of an app as its stream is keyed."""
    return f"{label}/{name}"
