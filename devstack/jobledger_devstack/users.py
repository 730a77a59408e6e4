"""Who runs what. As root two system users are made; as anybody else everything is that somebody.

PostgreSQL refuses to run as root and HTCondor never runs root's jobs. Whatever executes users' code (HTCondor, Dask) gets a
user of its own, who can read neither the secrets nor the database files.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobledger_devstack.errors import MissingPrerequisite
from jobledger_devstack.files import locked

DATABASE_USER = "jobledger"
JOBS_USER = "jobledger-jobs"


@dataclass(frozen=True)
class User:
    """An account of this machine; `drop` says whether we must change to it."""

    name: str
    uid: int
    gid: int
    drop: bool

    def popen(self) -> dict[str, Any]:
        """What `subprocess` needs to run something as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drop else {}

    def own(self, path: Path, mode: int) -> None:
        """Make the folder `path` this user's, with `mode`. Only ever called for folders inside the data folder or the cache."""
        path.mkdir(parents=True, exist_ok=True)
        if self.drop:
            os.chown(path, self.uid, self.gid)
        path.chmod(mode)

    def own_file(self, path: Path) -> None:
        """Give the file `path` (inside the data folder) to this user."""
        if self.drop:
            os.chown(path, self.uid, self.gid)


@dataclass(frozen=True)
class Users:
    """The three hats of a stack."""

    invoking: User
    database: User
    jobs: User


def ensure_users(cache: Path) -> Users:
    """The users of this machine's stacks; as root missing ones are made. Raises `MissingPrerequisite` when that fails."""
    mine = pwd.getpwuid(os.geteuid())
    invoking = User(mine.pw_name, mine.pw_uid, mine.pw_gid, drop=False)
    if os.geteuid() != 0:
        return Users(invoking, invoking, invoking)
    with locked(cache / "locks" / "users.lock"):
        return Users(invoking, _system_user(DATABASE_USER), _system_user(JOBS_USER))


def _system_user(name: str) -> User:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if useradd is None:
            raise MissingPrerequisite(f"running as root needs a system user {name}, and there is no useradd to make it") from None
        command = [
            useradd,
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/usr/sbin/nologin",
            name,
        ]
        if _group_exists(name):
            command[2:3] = ["--gid", name]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise MissingPrerequisite(f"cannot make the system user {name}: {made.stderr.strip()}") from None
        entry = pwd.getpwnam(name)
    return User(name, entry.pw_uid, entry.pw_gid, drop=True)


def ensure_shell(user: User, cache: Path) -> None:
    """See that an SSH server can run commands as `user`: as root, give the system user that we made a shell.

    It still has neither password nor home. Raises `MissingPrerequisite` when that fails.
    """
    if not user.drop or Path(pwd.getpwnam(user.name).pw_shell).name not in ("nologin", "false"):
        return
    with locked(cache / "locks" / "users.lock"):
        usermod = shutil.which("usermod", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if usermod is None:
            raise MissingPrerequisite(f"SSH to {user.name} needs a shell for that user, and there is no usermod to set it")
        done = subprocess.run([usermod, "--shell", "/bin/sh", user.name], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MissingPrerequisite(f"cannot give the user {user.name} a shell: {done.stderr.strip()}")


def _group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def require_traversable(folder: Path, user: User, purpose: str) -> None:
    """Raise `MissingPrerequisite` when `user` cannot enter `folder`. We never change modes outside our own folders."""
    if not user.drop:
        return
    for step in [*reversed(folder.parents), folder]:
        check = subprocess.run(["/usr/bin/test", "-x", str(step)], check=False, cwd="/", **user.popen())
        if check.returncode != 0:
            raise MissingPrerequisite(
                f"{purpose} is {folder}, but the user {user.name} may not enter {step}; choose a folder that everybody may enter "
                f"(for example below /var/lib) or give {step} the execute permission yourself"
            )
