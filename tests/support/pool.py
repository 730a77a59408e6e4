"""HTCondor itself, asked behind our services' backs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from jobledger_devstack.stack import Stack

_ASK = """
import json, os, sys
os.environ["CONDOR_CONFIG"] = "/dev/null"
import htcondor2 as h
collector, schedd, tokens = sys.argv[1:]
h.param["SEC_TOKEN_DIRECTORY"] = tokens
for level in ("AUTHENTICATION", "ENCRYPTION"):
    h.param["SEC_CLIENT_" + level] = "REQUIRED"
h.param["SEC_CLIENT_AUTHENTICATION_METHODS"] = "IDTOKENS"
schedd = h.Schedd(h.Collector(collector).locate(h.DaemonType.Schedd, schedd))
# A spooled job is held (code 16) until it has its files. One that never got them never could run: a submission that was cut off
# before, and taken back when it was looked up. What is not spooled (by SSH, and DAGMan's nodes) is never held like that.
whole = "(StageInFinish =!= undefined || (HoldReasonCode =!= 16 && LastHoldReasonCode =!= 16))"
ours, wanted = "JobledgerRunId =!= undefined && " + whole, ["ClusterId", "ProcId", "JobledgerRunId"]
found = {(ad["JobledgerRunId"], ad["ClusterId"]) for ads in (schedd.query(ours, wanted), schedd.history(ours, wanted, -1)) for ad in ads}
print(json.dumps(sorted(found)))
"""


def submissions_by_run(stack: Stack) -> dict[str, list[int]]:
    """Run id -> the condor cluster ids under which it was ever handed over whole, from the queue and the history."""
    endpoints = stack.endpoints()
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder) / "token"
        token.touch(mode=0o600)
        token.write_text(stack.mint_token("auditor", 300))
        done = subprocess.run(
            [sys.executable, "-c", _ASK, endpoints.collector, endpoints.schedd_name, folder],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[int]] = {}
    for run, cluster in json.loads(done.stdout):
        found.setdefault(run, []).append(cluster)
    return found
