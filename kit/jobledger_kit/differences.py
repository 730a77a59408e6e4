"""Two tables that should be the same, compared row by row while they are read: as much memory for a million rows as for ten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

Row = tuple[str, str]
"""A row's key, and a digest of all of it. Both sides come sorted by the two."""

SHOWN: Final = 20


class Difference(msgspec.Struct, frozen=True):
    """One key at which the sides differ."""

    key: str
    kind: str  #: `changed`, `missing` (only the rebuilt side has it) or `extra` (only the live side has it)


class Comparison(msgspec.Struct, kw_only=True):
    """What became of one table."""

    table: str
    rows: int = 0  #: of the rebuilt side
    changed: int = 0
    missing: int = 0
    extra: int = 0
    examples: list[Difference] = []  #: the first of them, `SHOWN` at most

    @property
    def same(self) -> bool:
        return not (self.changed or self.missing or self.extra)

    def note(self, key: str, kind: str) -> None:
        """Count a difference."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < SHOWN:
            self.examples.append(Difference(key, kind))


async def compare(table: str, live: AsyncIterator[Row], rebuilt: AsyncIterator[Row]) -> Comparison:
    """Walk along both sides. A key may stand in several rows; then as many as differ are counted."""
    found = Comparison(table=table)
    ours, theirs = await _next(live), await _next(rebuilt)
    while ours is not None or theirs is not None:
        if theirs is None or (ours is not None and ours[0] < theirs[0]):
            assert ours is not None
            found.note(ours[0], "extra")
            ours = await _next(live)
        elif ours is None or theirs[0] < ours[0]:
            found.rows += 1
            found.note(theirs[0], "missing")
            theirs = await _next(rebuilt)
        else:
            found.rows += 1
            if ours[1] != theirs[1]:
                found.note(ours[0], "changed")
            ours, theirs = await _next(live), await _next(rebuilt)
    return found


async def _next(rows: AsyncIterator[Row]) -> Row | None:
    return await anext(rows, None)
