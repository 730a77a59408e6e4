"""An HTCondor pool of our own on one port: central manager, access point and execution point."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from signal import SIGQUIT

import psutil

from jobledger_devstack.cache import Report
from jobledger_devstack.condor_config import TRUST_DOMAIN, condor_config
from jobledger_devstack.condor_packages import ensure_binaries
from jobledger_devstack.errors import NotRunning, PartFailed, ToolFailed
from jobledger_devstack.files import write_atomically
from jobledger_devstack.layout import Layout
from jobledger_devstack.part import Part
from jobledger_devstack.process import Argv, Launch, mark, plain_env, run_tool
from jobledger_devstack.users import User, require_traversable

SUBMITTER = "jobledger"
"""The identity under which our services submit. The daemons' own identity, condor@, may not own jobs."""


def tool_env(layout: Layout, root: Path) -> dict[str, str]:
    """The environment in which HTCondor's tools of this pool work, as its administrator."""
    env = plain_env(layout.condor)
    return {**env, "CONDOR_CONFIG": str(layout.condor / "condor_config"), "PATH": f"{root}/usr/bin:{root}/usr/sbin:{env['PATH']}"}


def run_condor(layout: Layout, root: Path, user: User, argv: Sequence[str], *, timeout_s: float = 20) -> str:
    """Run one of HTCondor's tools against this pool."""
    return run_tool(layout.home, "condor", argv, user=user, env=tool_env(layout, root), cwd=layout.condor, timeout_s=timeout_s)


def token(layout: Layout, root: Path, user: User, identity: str, lifetime_s: int | None = None) -> str:
    """A fresh IDTOKEN for `identity` (`name`, or `name@trust-domain`), signed by this pool's key."""
    full = identity if "@" in identity else f"{identity}@{TRUST_DOMAIN}"
    lifetime = [] if lifetime_s is None else ["-lifetime", str(lifetime_s)]
    return run_condor(layout, root, user, ["condor_token_create", "-identity", full, *lifetime]).strip()


def binaries_of(layout: Layout) -> Path:
    """Where the binaries are that this pool was last configured for; raises `NotRunning` when it never was."""
    try:
        text = (layout.condor / "condor_config").read_text()
    except FileNotFoundError:
        raise NotRunning(f"there is no HTCondor pool in {layout.home}") from None
    release = next(line for line in text.splitlines() if line.startswith("RELEASE_DIR"))
    return Path(release.partition("=")[2].strip()).parent


class Condor(Part):
    """condor_master, which looks after the daemons itself."""

    name = "condor"
    # Each look is a process of its own.
    probe_interval_s = 0.3

    @property
    def port(self) -> int | None:
        return self.context.ports.get("condor")

    def port_names(self) -> tuple[str, ...]:
        return ("condor",)

    def prepare(self, report: Report) -> None:
        require_traversable(self.context.cache, self.context.users.jobs, "the parts cache")
        require_traversable(self.context.home, self.context.users.jobs, "the data folder")
        self._root = ensure_binaries(self.context.cache, self.context.home, report)

    def launch(self) -> Launch:
        layout, user, folder = self.context.layout, self.context.users.jobs, self.context.layout.condor
        port = self.context.ports["condor"]
        user.own(folder, 0o755)
        for name, mode in {"log": 0o755, "run": 0o755, "lock": 0o755, "spool": 0o755, "execute": 0o755, "etc": 0o700}.items():
            user.own(folder / name, mode)
        for name in ("passwords.d", "tokens.d", "user.d"):
            user.own(folder / "etc" / name, 0o700)
        self._write_key(folder / "etc" / "passwords.d" / "POOL")
        config = condor_config(
            folder=folder,
            root=self._root,
            port=port,
            slots=self.context.options.slots,
            memory_mb=psutil.virtual_memory().total // 2**20,
            job_env=mark(self.context.home, self.name),
        )
        write_atomically(folder / "condor_config", config)
        for name, identity in {"tokens.d/condor": "condor", "user.d/dagman": SUBMITTER}.items():
            self._write_token(folder / "etc" / name, identity)
        program = folder / "condor_tail"  # where our service, which starts at the same time, looks for it
        program.unlink(missing_ok=True)
        program.symlink_to(self._root / "usr/bin/condor_tail")
        (folder / "log" / "MasterLog").unlink(missing_ok=True)
        argv: Argv = [self._root / "usr/sbin/condor_master", "-f"]
        # SIGQUIT is condor_master's fast shutdown: it takes its daemons and their jobs along.
        return Launch(argv, user, tool_env(layout, self._root), folder, stop_signal=SIGQUIT, stop_grace_s=15)

    def _write_key(self, file: Path) -> None:
        if not file.exists():
            # A zero byte would end the key early for HTCondor.
            write_atomically(file, bytes(byte or 1 for byte in secrets.token_bytes(64)), mode=0o600)
            self.context.users.jobs.own_file(file)

    def _write_token(self, file: Path, identity: str) -> None:
        if file.exists():
            return
        write_atomically(file, token(self.context.layout, self._root, self.context.users.jobs, identity) + "\n", mode=0o600)
        self.context.users.jobs.own_file(file)

    async def probe(self) -> bool:
        return await asyncio.to_thread(self._answers)

    def _answers(self) -> bool:
        log = self.context.layout.condor / "log" / "MasterLog"
        # The daemons would wait a minute for a port that somebody else took; starting again on another takes a second.
        if log.exists() and "Failed to listen(" in log.read_text(errors="replace"):
            raise PartFailed(self.name, "its port was taken in the meantime")
        ask = ["condor_status", "-any", "-af", "MyType"]
        try:
            types = set(run_condor(self.context.layout, self._root, self.context.users.jobs, ask, timeout_s=5).split())
        except ToolFailed:
            return False
        return {"Scheduler", "Machine", "Negotiator"} <= types
