"""What the supervisor asks of a part. A part knows its program; the supervisor knows processes, order and patience."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jobledger_devstack.cache import Report
from jobledger_devstack.layout import Layout
from jobledger_devstack.options import Resolved
from jobledger_devstack.ports import Ports
from jobledger_devstack.process import Launch
from jobledger_devstack.users import Users


@dataclass(frozen=True)
class Context:
    """What all parts of one stack share."""

    layout: Layout
    cache: Path
    options: Resolved
    ports: Ports
    users: Users

    @property
    def home(self) -> Path:
        return self.layout.home


class Part:
    """One process, or one step that is done once. Methods are called by the supervisor, in this order.

    `prepare` runs at once and in a thread, next to all other parts' (fetch, build: no addresses yet). When everything in `needs`
    is ready, `launch` follows before each start (also in a thread), then `probe` until it answers True.
    """

    name: str = ""
    needs: Iterable[str] = ()
    once: bool = False
    """True for a step: its process (if any) ends with exit code 0 and the part is ready then."""
    ready_timeout_s: float = 60.0
    probe_interval_s: float = 0.1

    def __init__(self, context: Context) -> None:
        self.context = context

    @property
    def port(self) -> int | None:
        """The port to show for it."""
        return None

    def prepare(self, report: Report) -> None:
        """Fetch and build what can be before anything else runs. May block for minutes; idempotent. Raises `StackError`."""

    def stale(self) -> bool:
        """True when an address it was started with has changed since: it is started again before the stack is called ready."""
        return False

    def port_names(self) -> tuple[str, ...]:
        """The ports it listens on. Before its first start they are chosen; after that they are kept."""
        return ()

    def launch(self) -> Launch | None:
        """Write its configuration and say how to start it; None for a step that needs no process. May block. Raises `StackError`."""
        return None

    async def probe(self) -> bool:
        """True once it answers as its users will ask. Not to raise for `not yet`; `PartFailed` when waiting longer is pointless."""
        return True

    async def work(self) -> None:
        """What a step without a process does instead. Raises when it fails."""
