"""The status callback, and the credentials that runs call it with.

The callback is the hot path: with a run's credential it touches no database. It answers once Kafka has acknowledged the event, and
never waits for the projection.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger_contracts.ids import is_job_id
from jobledger_kit.auth import Access
from jobledger_kit.clock import Clock
from jobledger_kit.credentials import RunClaims
from jobledger_kit.errors import FieldError, Forbidden, InvalidRequest, NotFound, OutcomeUnknown, Unprocessable, UnsupportedMedia
from jobledger_kit.http import (
    Allow,
    decode_json,
    faults,
    header_values,
    json_response,
    operation,
    principal_of,
    read_body,
    read_json,
)

from .domain.callbacks import Denial, callback_event, credential_statuses, judge_callback
from .domain.rights import Right
from .inputs import CredentialBody, StatusReport
from .reads import Reads
from .requests import Requests
from .routes import KEY_HEADER, caller_of, job_id_of, viewer_of
from .views import Credential, Reported

FORM: Final = "application/x-www-form-urlencoded"
MAX_CALLBACK_BYTES: Final = 64 * 1024
_NOTHING: Final = StatusReport()

_CALLBACK: Final = operation(
    "Report a run's status",
    description=(
        "With the run's credential, or the owner's or an administrator's API key. Without a status it asks to have the status looked "
        "up. The answer comes once the log has the report; what the fold makes of it stands in the job's history."
    ),
    allow=Allow.RUN,
    headers=KEY_HEADER,
    body=StatusReport,
    body_types=("application/json", FORM),
    response=Reported,
    errors=(NotFound, OutcomeUnknown),
    tag="callback",
    max_body_bytes=MAX_CALLBACK_BYTES,
)


class CallbackRoutes:
    """The endpoints that runs use, and the one that gives them their credentials."""

    def __init__(self, *, requests: Requests, reads: Reads, access: Access, clock: Clock, jobs_url: str, max_age_s: int) -> None:
        self._requests, self._reads, self._access, self._clock = requests, reads, access, clock
        self._jobs_url, self._max_age_s = jobs_url.rstrip("/"), max_age_s

    def routes(self) -> list[Route]:
        """The table. Jobs have called this path with and without the last slash for years."""
        return [
            Route("/update-job-status/{job_id}/", self.report_status, methods=["POST"]),
            Route("/update-job-status/{job_id}", self.report_status_bare, methods=["POST"]),
            Route("/jobs/{job_id}/credentials", self.issue_credential, methods=["POST"]),
        ]

    @_CALLBACK
    async def report_status_bare(self, request: Request) -> Response:
        """As `report_status`."""
        return await self.report_status(request)

    @_CALLBACK
    async def report_status(self, request: Request) -> Response:
        principal, job_id = principal_of(request), job_id_of(request)
        report = await read_report(request)
        run: int | None = None
        if principal.run is not None:
            run = principal.run.run
            denial = judge_callback(principal.run.job_id, principal.run.statuses, job_id, report.status)
            if denial is Denial.OTHER_JOB or not is_job_id(job_id):
                raise NotFound("job", job_id)
            if denial is Denial.OTHER_STATUS:
                raise Forbidden("This credential does not cover the status that it reports.")
        else:
            await self._reads.job(job_id, viewer_of(principal), Right.WRITE)
        position = await self._requests.report(
            callback_event(job_id, run, report.status, report.message, report.progress), caller_of(request)
        )
        return json_response(b'{"success":true,"position":"%d:%d"}' % (position.partition, position.offset))

    @operation(
        "Issue a credential for a run's callbacks",
        description="A secret: shown this once, and kept nowhere. It goes into a file or the environment of the run, never into a URL.",
        body=CredentialBody,
        responses={201: Credential},
        errors=(NotFound, Forbidden, Unprocessable),
        tag="callback",
    )
    async def issue_credential(self, request: Request) -> Response:
        body = await read_json(request, CredentialBody)
        row = await self._reads.job(job_id_of(request), viewer_of(principal_of(request)), Right.WRITE)
        run = body.run if body.run is not None else max(1, row["run"])
        if run > row["run"] + 1:
            raise Unprocessable(errors=[FieldError("$.run", f"the job has had {row['run']} runs; the next one is {row['run'] + 1}")])
        if body.expires_in_s > self._max_age_s:
            raise InvalidRequest(errors=[FieldError("$.expires_in_s", f"{self._max_age_s} is the most")])
        statuses = None
        if body.statuses is not None:
            statuses = credential_statuses(body.statuses)
            if statuses is None:
                raise InvalidRequest(errors=[FieldError("$.statuses", "names or codes of statuses; Other allows texts of the job's own")])
        expires_at = (self._clock.now() + timedelta(seconds=body.expires_in_s)).replace(microsecond=0)
        token = self._access.sign_run(RunClaims(job_id=row["id"], run=run, expires_at=expires_at, statuses=statuses))
        return json_response(
            Credential(
                token=token,
                callback_url=f"{self._jobs_url}/update-job-status/{row['id']}/",
                run=run,
                statuses=None if statuses is None else sorted(status.value for status in statuses),
                expires_at=expires_at,
            ),
            201,
            {"cache-control": "no-store"},
        )


async def read_report(request: Request) -> StatusReport:
    """Read a callback's body: JSON, a form, or nothing at all. Raises InvalidRequest, UnsupportedMedia, TooLarge."""
    content_type = "".join(header_values(request, b"content-type")[:1]).partition(";")[0].strip().lower()
    body = await read_body(request)
    if not body:
        return _NOTHING
    if content_type == FORM:
        return read_form(body)
    if content_type == "application/json" or content_type.endswith("+json"):
        return decode_json(body, StatusReport)
    raise UnsupportedMedia(content_type[:100], f"application/json or {FORM}")


def read_form(body: bytes) -> StatusReport:
    """Read a report from a form. An empty field is one that was left out. Raises InvalidRequest."""
    try:
        pairs = parse_qsl(body.decode("ascii"), max_num_fields=20, errors="strict")
    except ValueError as error:
        raise InvalidRequest(errors=[FieldError("$", f"the form cannot be read: {error}")]) from None
    values = dict(pairs)
    problems = [FieldError("$", "a field is given more than once")] if len(values) != len(pairs) else []
    problems += [FieldError("$", "a text holds a NUL character")] if any("\0" in text for text in values.values()) else []
    if problems:
        raise InvalidRequest(errors=problems)
    try:
        return msgspec.convert(values, StatusReport, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(errors=faults(values, StatusReport, error, strict=False)) from None
