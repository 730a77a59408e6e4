"""Each of our packages, installed with what it declares and nothing else: an import that it does not declare fails here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
MEMBERS = {
    "contracts": ("jobledger_contracts", []),
    "kit": ("jobledger_kit", ["contracts"]),
    "services/jobs": ("jobledger_jobs", ["contracts", "kit"]),
    "services/schedulers": ("jobledger_schedulers", ["contracts", "kit"]),
    "services/provisioner": ("jobledger_provisioner", ["contracts", "kit"]),
    "client": ("jobledger", ["contracts"]),
    "devstack": ("jobledger_devstack", ["contracts"]),
}
_IMPORT_ALL = """
import importlib, pkgutil, sys, warnings
package = importlib.import_module(sys.argv[1])
names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".") if not m.name.endswith(".__main__")]
warnings.simplefilter("ignore")
for name in names:
    importlib.import_module(name)
print(len(names))
"""


@pytest.mark.parametrize("member", MEMBERS)
def test_package_declares_what_it_imports(member: str, tmp_path: Path) -> None:
    package, siblings = MEMBERS[member]
    source = tmp_path / "source"
    for folder in (member, *siblings):  # a copy: building leaves files behind
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    venv = tmp_path / "venv"
    run(UV, "venv", "--quiet", "--python", sys.executable, venv)
    constraints = ("--constraints", ROOT / "requirements.lock", "--build-constraints", ROOT / "requirements.lock")
    folders = [source / folder for folder in (member, *siblings)]
    # As the image recipes do it: sources are siblings given by path, not a workspace.
    run(UV, "pip", "install", "--quiet", "--no-sources", "--python", venv / "bin/python", *constraints, *folders)
    out = run(venv / "bin/python", "-c", _IMPORT_ALL, package, cwd=tmp_path)
    assert int(out) > 0


def run(*argv: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=240, cwd=cwd, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, argv))}\n{done.stdout}{done.stderr}"
    return done.stdout
