"""An OpenSSH server beside the HTCondor pool: an access point that is reached the way a computing centre's is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

from jobledger_devstack.cache import Report
from jobledger_devstack.condor_packages import ensure_binaries
from jobledger_devstack.files import ensure_secret, write_atomically
from jobledger_devstack.layout import Layout
from jobledger_devstack.part import Part
from jobledger_devstack.process import Argv, Launch, mark, plain_env, run_tool
from jobledger_devstack.users import ensure_shell

HOST_KEY = "host_key"


def host_key(layout: Layout) -> str:
    """The server's public key: its type and the key itself. Raises FileNotFoundError before its first start."""
    return " ".join((layout.ssh / f"{HOST_KEY}.pub").read_text().split()[:2])


def sshd_config(*, folder: Path, root: Path, port: int, username: str, session: dict[str, str]) -> str:
    """The server's configuration: loopback, keys only, one account, no forwarding. `session` is the environment of its commands."""
    helpers = root / "usr/lib/openssh"
    environment = " ".join(f"{name}={value}" for name, value in session.items())
    return f"""\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/{HOST_KEY}
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
AllowUsers {username}
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
# as an ordinary account: no PAM, and folders above may be anybody's
UsePAM no
StrictModes no
UseDNS no
DisableForwarding yes
PrintMotd no
PrintLastLog no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
SshdSessionPath {helpers}/sshd-session
SshdAuthPath {helpers}/sshd-auth
SetEnv {environment}
"""


class Ssh(Part):
    """sshd, as the account that the pool runs as: whoever logs in submits as that account."""

    name = "ssh"
    needs = ("condor",)

    @property
    def port(self) -> int | None:
        return self.context.ports.get("ssh")

    def port_names(self) -> tuple[str, ...]:
        return ("ssh",)

    def prepare(self, report: Report) -> None:
        self._root = ensure_binaries(self.context.cache, self.context.home, report)
        ensure_shell(self.context.users.jobs, self.context.cache)

    def launch(self) -> Launch:
        layout, user, folder = self.context.layout, self.context.users.jobs, self.context.layout.ssh
        user.own(folder, 0o755)
        user.own(folder / "home", 0o700)
        self._make_key(folder / HOST_KEY)
        for file in (folder / HOST_KEY, folder / f"{HOST_KEY}.pub"):
            user.own_file(file)
        encrypted = layout.ssh_key.with_name(f"{layout.ssh_key.name}.encrypted")
        passphrase = layout.ssh_key.with_name(f"{layout.ssh_key.name}.passphrase")
        ensure_secret(passphrase, text=True)
        self._make_key(layout.ssh_key)
        self._make_key(encrypted, passphrase)
        public = [file.with_name(f"{file.name}.pub").read_text() for file in (layout.ssh_key, encrypted)]
        write_atomically(folder / "authorized_keys", "".join(public))
        session = {
            "HOME": str(folder / "home"),
            "CONDOR_CONFIG": str(layout.condor / "condor_config"),
            "_CONDOR_SEC_TOKEN_DIRECTORY": str(layout.condor / "etc" / "user.d"),
            "PATH": f"{self._root}/usr/bin:{self._root}/usr/sbin:/usr/local/bin:/usr/bin:/bin",
            **mark(self.context.home, self.name),
        }
        config = sshd_config(folder=folder, root=self._root, port=self.context.ports["ssh"], username=user.name, session=session)
        write_atomically(folder / "sshd_config", config)
        argv: Argv = [self._root / "usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd_config"]
        return Launch(argv, user, plain_env(folder / "home"), folder, stop_grace_s=5)

    def _make_key(self, file: Path, passphrase: Path | None = None) -> None:
        """Make a key pair where there is none, as the invoking user. A passphrase comes out of its file: never on a command line."""
        if file.with_name(f"{file.name}.pub").exists():
            return
        file.unlink(missing_ok=True)  # half of a pair
        environment = dict(os.environ)
        argv: Argv = [self._root / "usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-C", f"jobledger {self.name}", "-f", file]
        if passphrase is None:
            argv += ["-N", ""]
        else:
            asker = file.with_name(f"{file.name}.ask")
            write_atomically(asker, f"#!/bin/sh\nexec {shutil.which('cat')} {passphrase}\n", mode=0o700)
            environment |= {"SSH_ASKPASS": str(asker), "SSH_ASKPASS_REQUIRE": "force"}
        try:
            run_tool(self.context.home, self.name, argv, env=environment, timeout_s=20)
        finally:
            file.with_name(f"{file.name}.ask").unlink(missing_ok=True)

    async def probe(self) -> bool:
        try:
            async with asyncio.timeout(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.context.ports["ssh"])
                try:
                    return (await reader.read(4)) == b"SSH-"
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError):
            return False
