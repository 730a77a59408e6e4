"""SQL lives in files: `-- name: <name>`, one sentence as a comment, then the query."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

from .errors import Broken

_NAME: Final = re.compile(r"^-- name: *(?P<name>[a-z][a-z0-9_]*) *$", re.MULTILINE)


class BadQueryFile(Broken):
    """A query file is not as this module's docstring says; only a new release repairs it."""


@cache
def load_queries(package: str, file: str) -> dict[str, str]:
    """Read the named queries of a file that a package carries. Raises BadQueryFile; FileNotFoundError when it is not there.

    Example: `load_queries("jobledger_kit", "sql/ledger.sql")["claim"]`.
    """
    return parse_queries(files(package).joinpath(file).read_text(encoding="utf-8"), f"{package}/{file}")


def parse_queries(text: str, where: str) -> dict[str, str]:
    """Split a file's text into its queries. Raises BadQueryFile."""
    head, *parts = _NAME.split(text)
    if any(line.strip() and not line.startswith("--") for line in head.splitlines()):
        raise BadQueryFile(f"{where}: SQL before the first `-- name:`")
    queries: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        lines = body.strip().splitlines()
        if not lines or not lines[0].startswith("-- "):
            raise BadQueryFile(f"{where}: the query {name} does not say in one sentence what it does")
        query = "\n".join(line for line in lines if not line.startswith("--")).strip().rstrip(";")
        if not query:
            raise BadQueryFile(f"{where}: the query {name} is empty")
        if name in queries:
            raise BadQueryFile(f"{where}: there are two queries named {name}")
        queries[name] = query
    return queries
