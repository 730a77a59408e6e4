"""Listen ports: free ones below the ephemeral range, written down, kept over restarts while they stay free."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import msgspec

from jobledger_devstack.errors import StackError
from jobledger_devstack.files import write_atomically

FIRST, LAST = 20000, 31999
"""Below Linux' usual ephemeral range (32768 and up), so that no outgoing connection takes a port of ours between restarts."""


def bindable(port: int, host: str = "127.0.0.1") -> bool:
    """True when a server could listen on the port now. SO_REUSEADDR as servers set it: old connections do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


class Ports:
    """The ports of one stack by name, in a file. One process (the supervisor) writes it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._chosen: dict[str, int] = msgspec.json.decode(file.read_bytes(), type=dict[str, int])
        except FileNotFoundError:
            self._chosen = {}
        except msgspec.MsgspecError as error:
            raise StackError(f"{file} cannot be read ({error}); correct it or delete it") from error

    def __getitem__(self, name: str) -> int:
        return self._chosen[name]

    def get(self, name: str) -> int | None:
        """The port of `name`, if one was ever chosen."""
        return self._chosen.get(name)

    def ensure(self, name: str) -> int:
        """The port of `name`: the one written down when it is free, else another that is; raises `StackError` when none is."""
        port = self._chosen.get(name)
        if port is not None and bindable(port):
            return port
        for candidate in random.sample(range(FIRST, LAST + 1), 500):
            if candidate not in self._chosen.values() and bindable(candidate):
                self._chosen[name] = candidate
                write_atomically(self._file, msgspec.json.format(msgspec.json.encode(self._chosen)))
                return candidate
        raise StackError(f"no free port between {FIRST} and {LAST} for {name}")
