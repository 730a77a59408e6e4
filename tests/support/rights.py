"""Who may call what: every route of the three services, with what it takes to be let in. A route that is not here fails a test."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec


class For(StrEnum):
    """Whom a route lets in."""

    ANYBODY = "anybody"
    USERS = "users"  #: whoever has a key
    ADMINS = "admins"
    READERS = "readers"  #: owner, administrators and members of the job's groups; to others the job does not exist
    WRITERS = "writers"  #: owner and administrators; members of its groups are refused
    REPORTERS = "reporters"  #: as writers, and the run itself with its credential


class Entry(msgspec.Struct, frozen=True):
    """One operation. `body` is one that is good enough to be acted on; `missing`: what it names besides the job is not there."""

    who: For
    body: Any = None
    missing: bool = False


_JOB: Final = {"name": "n", "label": "rights", "job_type": "BASIC"}
_DASK: Final = {"name": "made", "type": "dask", "host": "tcp://127.0.0.1:1"}


def _service(noun: str) -> dict[str, Entry]:
    """What every service has."""
    return {
        f"GET /{noun}/health/live": Entry(For.ANYBODY),
        f"GET /{noun}/health/ready": Entry(For.ANYBODY),
        f"GET /{noun}/openapi.json": Entry(For.ANYBODY),
        f"GET /{noun}/metrics": Entry(For.ADMINS),
        f"GET /{noun}/dead-letters": Entry(For.ADMINS),
        f"GET /{noun}/dead-letters/{{topic}}/{{position}}": Entry(For.ADMINS, missing=True),
    }


RIGHTS: Final[dict[str, dict[str, Entry]]] = {
    "jobs": {
        **_service("jobs"),
        "GET /jobs/whoami": Entry(For.USERS),
        "GET /jobs/keys": Entry(For.ADMINS),
        "POST /jobs/keys": Entry(For.ADMINS, {"user": "made", "groups": []}),
        "DELETE /jobs/keys/{key_id}": Entry(For.ADMINS, missing=True),
        "POST /jobs/processing/claims": Entry(For.USERS, {"label": "rights"}),
        "POST /jobs/{job_id}/processing/renew": Entry(For.WRITERS, {"run": 1, "attempt": 1}, missing=True),
        "POST /jobs/{job_id}/processing/done": Entry(For.WRITERS, {"run": 1, "attempt": 1}, missing=True),
        "POST /jobs/{job_id}/processing/failed": Entry(For.WRITERS, {"run": 1, "attempt": 1, "error": "no data"}, missing=True),
        "POST /jobs": Entry(For.USERS, _JOB),
        "GET /jobs": Entry(For.USERS),
        "GET /jobs/counts": Entry(For.USERS),
        "POST /jobs/bulk": Entry(For.USERS, {"jobs": [_JOB]}),
        "POST /jobs/bulk/actions": Entry(For.USERS, {"action": "stop", "ids": ["x"]}),
        "GET /jobs/events": Entry(For.USERS),
        "GET /jobs/{job_id}": Entry(For.READERS),
        "PATCH /jobs/{job_id}": Entry(For.WRITERS, {"description": "changed"}),
        "DELETE /jobs/{job_id}": Entry(For.WRITERS),
        "GET /jobs/{job_id}/history": Entry(For.READERS),
        "GET /jobs/{job_id}/events": Entry(For.READERS),
        "GET /jobs/{job_id}/nodes": Entry(For.READERS, missing=True),
        **{
            f"POST /jobs/{{job_id}}/{action}": Entry(For.WRITERS, {})
            for action in ("execute", "stop", "pause", "resume", "resubmit", "refresh")
        },
        "GET /jobs/{job_id}/files": Entry(For.READERS),
        "GET /jobs/{job_id}/files/{path}": Entry(For.READERS),
        "PUT /jobs/{job_id}/files/{path}": Entry(For.WRITERS, b"content"),
        "POST /jobs/{job_id}/credentials": Entry(For.WRITERS, {}),
        "POST /update-job-status/{job_id}/": Entry(For.REPORTERS, {"status": "Running"}),
        "POST /update-job-status/{job_id}": Entry(For.REPORTERS, {"status": "Running"}),
    },
    "schedulers": {
        **_service("schedulers"),
        "GET /schedulers": Entry(For.USERS),
        "POST /schedulers": Entry(For.ADMINS, _DASK),
        "POST /schedulers/credentials/reseal": Entry(For.ADMINS),
        "GET /schedulers/{name}": Entry(For.USERS, missing=True),
        "PUT /schedulers/{name}": Entry(For.ADMINS, _DASK | {"name": "nothing"}, missing=True),
        "DELETE /schedulers/{name}": Entry(For.ADMINS, missing=True),
        "POST /schedulers/{name}/check": Entry(For.ADMINS, {}, missing=True),
        "GET /schedulers/settings": Entry(For.USERS),
        "GET /schedulers/settings/{label}": Entry(For.USERS),
        "PUT /schedulers/settings/{label}": Entry(For.USERS, {"settings": []}),
        "GET /schedulers/settings/{label}/{name}": Entry(For.USERS, missing=True),
        "PUT /schedulers/settings/{label}/{name}": Entry(For.ADMINS, {"scheduler": None}, missing=True),
        **{f"GET /schedulers/{{name}}/pool/{view}": Entry(For.USERS, missing=True) for view in ("daemons", "slots", "queue", "priorities")},
        **{f"GET /schedulers/{{name}}/pool/{view}": Entry(For.ADMINS, missing=True) for view in ("jobs", "history", "identity")},
        "GET /schedulers/{name}/workers": Entry(For.USERS, missing=True),
        "GET /schedulers/{name}/tasks": Entry(For.USERS, missing=True),
        "GET /schedulers/{name}/runs/{run_id}/output": Entry(For.USERS, missing=True),
    },
    "clusters": {
        **_service("clusters"),
        "GET /clusters": Entry(For.USERS),
        "GET /clusters/{name}": Entry(For.USERS, missing=True),
        "GET /clusters/{name}/history": Entry(For.USERS, missing=True),
    },
}
"""Noun -> operation, as `METHOD /path` of the OpenAPI document -> who is let in."""
