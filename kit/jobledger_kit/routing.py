"""Finding a route: by dictionaries instead of trying one pattern after another, because every request pays for it.

The rules are starlette's own `Route` declarations; fixed paths win over variable ones, among which the first declared wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from starlette.convertors import Convertor, PathConvertor
from starlette.routing import Route

H = TypeVar("H")


class WrongMethodError(Exception):
    """The path is there, but not with this method; `methods` are those that it has."""

    def __init__(self, methods: set[str]) -> None:
        super().__init__()
        self.methods = methods


_Pattern = tuple[re.Pattern[str], Mapping[str, Convertor[Any]], dict[str, H]]


class Table(Generic[H]):
    """Finds a route: fixed paths by a dictionary, others by first segment and number of segments; fixed before variable."""

    def __init__(self) -> None:
        self._fixed: dict[str, dict[str, H]] = {}
        self._variable: dict[tuple[str, int], list[_Pattern[H]]] = {}
        self._tails: list[_Pattern[H]] = []  # paths that end in {name:path}
        self._by_path: dict[str, dict[str, H]] = {}

    def add(self, route: Route, handlers: Mapping[str, H]) -> None:
        """Raises ValueError when a path has a method twice, or does not begin with a fixed segment."""
        methods = self._by_path.setdefault(route.path, {})
        if twice := methods.keys() & handlers.keys():
            raise ValueError(f"{route.path} has {', '.join(sorted(twice))} twice")
        if "{" in _first(route.path):
            raise ValueError(f"{route.path} does not begin with a noun")
        if not methods:
            pattern = (route.path_regex, route.param_convertors, methods)
            if not route.param_convertors:
                self._fixed[route.path] = methods
            elif any(isinstance(convertor, PathConvertor) for convertor in route.param_convertors.values()):
                self._tails.append(pattern)
            else:
                self._variable.setdefault((_first(route.path), route.path.count("/")), []).append(pattern)
        methods.update(handlers)

    def find(self, path: str, method: str) -> tuple[H, dict[str, Any]] | None:
        """The handler and the path's parameters; None for an unknown path. Raises WrongMethodError."""
        allowed: set[str] = set()
        methods = self._fixed.get(path)
        if methods is not None:
            if (handler := methods.get(method)) is not None:
                return handler, {}
            raise WrongMethodError(set(methods))
        for patterns in (self._variable.get((_first(path), path.count("/")), ()), self._tails):
            for pattern, convertors, methods in patterns:
                match = pattern.match(path)
                if match is None:
                    continue
                if (handler := methods.get(method)) is not None:
                    return handler, {name: convertors[name].convert(text) for name, text in match.groupdict().items()}
                allowed |= methods.keys()
        if allowed:
            raise WrongMethodError(allowed)
        return None


def _first(path: str) -> str:
    """The first segment of a path."""
    return path[1 : path.find("/", 1)]
