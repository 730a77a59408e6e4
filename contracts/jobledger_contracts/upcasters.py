"""From old versions of an event's data to the current one.

Version 1 of a type needs nothing here. Whoever changes what a type's data means adds one pure function from version n to n + 1, as
JSON values, at the end of that type's tuple: the type's current version is counted from it. A new field with a default needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Data of one version -> data of the next. May raise msgspec.ValidationError, and nothing else."""

UPCASTERS: Final[Mapping[str, tuple[Upcaster, ...]]] = {}
"""Event type -> its upcasters, from version 1 on."""
