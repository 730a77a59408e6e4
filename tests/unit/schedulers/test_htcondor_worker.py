"""The process that holds HTCondor's bindings: what it must outlive."""

from __future__ import annotations

import subprocess
import sys

DROP_MORE_THAN_THERE_ARE = """
import ctypes
from jobledger_schedulers.adapters.htcondor.worker import keep_none
keep_none()
for _ in range(200_000):
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(None))
print("alive")
"""


def test_the_worker_outlives_what_the_bindings_drop() -> None:
    done = subprocess.run([sys.executable, "-c", DROP_MORE_THAN_THERE_ARE], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "alive\n", done.stderr
