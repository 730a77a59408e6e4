"""Kafka's jars: exactly those of `kafka.sha256`, fetched through jgo (which knows the repository), each checked by its SHA-256."""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jobledger_devstack.cache import Report, ensure_entry
from jobledger_devstack.errors import FetchFailed

VERSION = "4.3.1"


@dataclass(frozen=True)
class Jar:
    """One jar by its Maven coordinates, and the sum that it must have."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def pinned_text() -> str:
    """The checked-in list."""
    return resources.files(__package__).joinpath("kafka.sha256").read_text()


def parse_pinned(text: str) -> list[Jar]:
    """The jars of a list of `<sha256>  <group>:<artifact>:<version>` lines; `#` starts a comment line."""
    jars = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            sha256, coordinates = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, sha256))
    return jars


def ensure_jars(cache: Path, report: Report) -> Path:
    """The folder with all jars, fetched if need be. Raises `FetchFailed` for a failed or a wrong download."""
    text = pinned_text()
    name = f"kafka-{VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return ensure_entry(cache, name, lambda folder: _fetch(folder, parse_pinned(text), report))


def _fetch(folder: Path, jars: list[Jar], report: Report) -> None:
    repository = folder / "repository"
    with ThreadPoolExecutor(max_workers=6) as pool:
        waiting = [pool.submit(_fetch_one, jar, repository, folder) for jar in jars]
        for done, future in enumerate(as_completed(waiting), start=1):
            future.result()
            report(f"Kafka {VERSION}: {done} of {len(jars)} jars", 100 * done // len(jars))
    shutil.rmtree(repository)


def _fetch_one(jar: Jar, repository: Path, folder: Path) -> None:
    import requests
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=repository, timeout=60)
    try:
        path = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except (requests.RequestException, RuntimeError) as error:
        raise FetchFailed(f"cannot fetch {jar.file_name}: {error}") from error
    verify(path, jar)
    path.replace(folder / jar.file_name)


def verify(path: Path, jar: Jar) -> None:
    """Raise `FetchFailed` unless the file has the pinned SHA-256."""
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != jar.sha256:
        raise FetchFailed(
            f"{jar.file_name} is not what this version of Jobledger was tested with: its SHA-256 is {actual}, expected {jar.sha256}. "
            "Somebody between the repository and this machine changed it; nothing was started"
        )
