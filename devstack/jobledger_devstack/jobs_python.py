"""The jobs' environment: a Python that HTCondor jobs and Dask workers run on, with dask of exactly our versions.

Built from an interpreter that the jobs' user may execute (as root, a private Python below /root is not) and of the same minor
version as ours: Dask ships functions as bytecode, which differs between minor versions.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from uv import find_uv_bin

from jobledger_devstack.cache import Report, ensure_entry
from jobledger_devstack.errors import MissingPrerequisite
from jobledger_devstack.part import Part
from jobledger_devstack.process import Argv, run_tool
from jobledger_devstack.users import User, require_traversable

OVERRIDE = "JOBLEDGER_JOBS_PYTHON"
"""An interpreter to use instead of searching for one."""


def locked_requirements() -> str:
    """The checked-in requirements of the environment: a part of the project's lock, with hashes."""
    return resources.files(__package__).joinpath("jobs_requirements.lock").read_text()


def pins(lock: str) -> str:
    """Only `name==version` of each entry of a lock: constraints for whatever else goes into the environment."""
    return "".join(line.removesuffix("\\").rstrip() + "\n" for line in lock.splitlines() if line and not line.startswith((" ", "#")))


def candidates() -> list[Path]:
    """Interpreters that could do, best first."""
    if override := os.environ.get(OVERRIDE):
        return [Path(override)]
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base = getattr(sys, "_base_executable", sys.executable)
    found = [Path("/usr/bin") / version, Path("/usr/local/bin") / version, Path(base).resolve()]
    on_path = shutil.which(version)
    return list(dict.fromkeys([*found, *([Path(on_path)] if on_path else [])]))


def find_interpreter(user: User, tried: Iterable[Path] | None = None) -> Path:
    """The first candidate that `user` can execute and that has our minor version; raises `MissingPrerequisite`, saying what was tried."""
    said = []
    for python in tried if tried is not None else candidates():
        answer = _version_as(python, user)
        if answer == f"{sys.version_info[0]}.{sys.version_info[1]}":
            return python
        said.append(f"{python}: {answer}")
    wanted = f"{sys.version_info[0]}.{sys.version_info[1]}"
    raise MissingPrerequisite(
        f"jobs need a Python {wanted} (as ours) that the user {user.name} can execute, and there is none "
        f"({'; '.join(said) or 'none found'}). Install python{wanted} for everybody, or name one in {OVERRIDE}"
    )


def _version_as(python: Path, user: User) -> str:
    code = "import sys, ctypes, ssl; print('%d.%d' % sys.version_info[:2])"
    try:
        said = subprocess.run([python, "-I", "-c", code], cwd="/", capture_output=True, text=True, timeout=20, check=False, **user.popen())
    except FileNotFoundError:
        return "not there"
    except PermissionError:
        return f"may not be executed by {user.name}"
    except subprocess.TimeoutExpired:
        return "does not answer"
    return said.stdout.strip() if said.returncode == 0 else f"does not work for {user.name}"


class JobsPython(Part):
    """The step that builds the environment, or finds it in the cache."""

    name = "jobs-python"
    once = True
    python: Path

    def prepare(self, report: Report) -> None:
        user, cache = self.context.users.jobs, self.context.cache
        require_traversable(cache, user, "the parts cache")
        interpreter = find_interpreter(user)
        lock = locked_requirements()
        further = self.context.options.job_requirements
        key = hashlib.sha256()
        for text in (str(interpreter), sys.version, lock, *(path.read_text() for path in further)):
            key.update(text.encode() + b"\0")
        entry = ensure_entry(cache, f"jobs-python-{key.hexdigest()[:16]}", lambda folder: self._build(folder, interpreter, lock, report))
        self.python = entry / "env" / "bin" / "python"

    def _build(self, folder: Path, interpreter: Path, lock: str, report: Report) -> None:
        uv, environment = find_uv_bin(), folder / "env"
        locked, constraints = folder / "locked.txt", folder / "constraints.txt"
        locked.write_text(lock)
        constraints.write_text(pins(lock))
        report("creating the jobs' Python environment", 10)
        self._run([uv, "venv", "--no-project", "--no-config", "--python", interpreter, environment])
        install: Argv = [
            uv,
            "pip",
            "install",
            "--no-config",
            "--link-mode",
            "copy",
            "--compile-bytecode",
            "--python",
            environment / "bin" / "python",
        ]
        report("installing Dask for the jobs", 30)
        self._run([*install, "--require-hashes", "--no-deps", "-r", locked])
        for file in self.context.options.job_requirements:
            report(f"installing {file.name} for the jobs", 60)
            strict = ["--require-hashes", "--no-deps"] if "--hash=" in file.read_text() else []
            self._run([*install, *strict, "--constraint", constraints, "-r", file])

    def _run(self, argv: Argv) -> None:
        env = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"}}
        run_tool(self.context.home, self.name, argv, env=env)
