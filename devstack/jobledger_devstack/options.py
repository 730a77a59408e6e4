"""What a stack is asked to be: which parts, how many slots and workers, how careful with the disk.

Every option may be left open (`None`): then what an earlier `up` of the same data folder was told holds, else the default.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from jobledger_devstack.errors import StackError
from jobledger_devstack.files import write_atomically
from jobledger_devstack.layout import Layout

PARTS = ("kafka", "postgres", "condor", "ssh", "dask", "services")
"""What can be chosen. `services` needs `kafka` and a database, `ssh` the pool that it leads to; whatever else is chosen gets registered
with the services."""


class StackOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller asks for; `None` leaves an option as it was, or at its default."""

    parts: frozenset[str] | None = None
    slots: int | None = None
    """CPUs that the HTCondor pool advertises; default: this machine's, at least 2."""
    dask_workers: int | None = None
    dask_threads: int | None = None
    """Threads per Dask worker."""
    fsync: bool | None = None
    """False lets PostgreSQL answer before the disk has it: for tests only."""
    job_requirements: tuple[Path, ...] | None = None
    """Further requirement files for the jobs' Python environment."""
    database_url: str | None = None
    """A PostgreSQL that is already there; none is started then. Empty: back to our own."""


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """The same with every question answered."""

    parts: frozenset[str]
    slots: int
    dask_workers: int
    dask_threads: int
    fsync: bool
    job_requirements: tuple[Path, ...]
    database_url: str

    def has(self, part: str) -> bool:
        """True when `part` is to be started by us."""
        return part in self.parts and not (part == "postgres" and self.database_url)


def load(layout: Layout) -> StackOptions:
    """What earlier `up`s of this data folder were told; nothing when there was none.

    Raises `StackError` when the file was damaged by hand.
    """
    try:
        raw = layout.options.read_bytes()
    except FileNotFoundError:
        return StackOptions()
    try:
        return msgspec.json.decode(raw, type=StackOptions, dec_hook=lambda kind, value: kind(value))
    except msgspec.MsgspecError as error:
        raise StackError(f"{layout.options} cannot be read ({error}); correct it or delete it") from error


def save(layout: Layout, options: StackOptions) -> None:
    """Remember `options`; 0600 because a database URL may carry a password."""
    write_atomically(layout.options, msgspec.json.format(msgspec.json.encode(options, enc_hook=str)), mode=0o600)


def merge(remembered: StackOptions, asked: StackOptions) -> StackOptions:
    """What was asked now wins, what was remembered fills the gaps. Paths become absolute: the supervisor works elsewhere."""
    now = {name: value for name in StackOptions.__struct_fields__ if (value := getattr(asked, name)) is not None}
    if asked.job_requirements is not None:
        now["job_requirements"] = tuple(path.absolute() for path in asked.job_requirements)
    return msgspec.structs.replace(remembered, **now)


def resolve(options: StackOptions, *, cores: int | None = None) -> Resolved:
    """Fill the defaults in and check the rest; raises `StackError` for a choice that cannot work."""
    parts = frozenset(PARTS) if options.parts is None else options.parts
    unknown = sorted(parts - set(PARTS))
    if unknown:
        raise StackError(f"there is no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    if "services" in parts and not ("kafka" in parts and ("postgres" in parts or options.database_url)):
        raise StackError("the services need the parts kafka and postgres (or a database URL)")
    if "ssh" in parts and "condor" not in parts:
        raise StackError("the part ssh is the way to the pool: it needs the part condor")
    resolved = Resolved(
        parts=parts,
        slots=options.slots if options.slots is not None else max(2, cores or os.cpu_count() or 2),
        dask_workers=options.dask_workers if options.dask_workers is not None else 1,
        dask_threads=options.dask_threads if options.dask_threads is not None else 2,
        fsync=options.fsync if options.fsync is not None else True,
        job_requirements=options.job_requirements or (),
        database_url=options.database_url or "",
    )
    for name in ("slots", "dask_workers", "dask_threads"):
        if getattr(resolved, name) < 1:
            raise StackError(f"{name} must be at least 1")
    for path in resolved.job_requirements:
        if not path.is_file():
            raise StackError(f"the requirements file {path} does not exist")
    return resolved
