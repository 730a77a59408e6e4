"""What the services' routes are written with: operations, strict reading of requests, answers, and problem details (RFC 9457).

This module is the only place where an error becomes an HTTP status. `application.build_app` serves what is declared here.

An endpoint is `async def endpoint(request: Request) -> Response`, described by `@operation(...)` and placed by a starlette `Route`:

    @operation("Create a job", body=CreateJob, responses={201: JobView}, errors=[UnprocessableKey])
    async def create_job(request: Request) -> Response:
        principal, body = principal_of(request), await read_json(request, CreateJob)
        ...
        return json_response(view, 201, {"location": f"/jobs/{view.id}"})
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from enum import StrEnum
from functools import cache
from math import ceil
from typing import Any, Final, TypeVar, cast, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from . import errors as e
from .credentials import Principal
from .errors import FieldError, InvalidRequest, JobledgerError, TooLarge, UnsupportedMedia

T = TypeVar("T")
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
MAX_QUERY_PARAMETERS: Final = 100
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")


class Allow(StrEnum):
    """Who may call an operation."""

    PUBLIC = "public"  #: anybody: no credential is read
    USER = "user"  #: whoever has an API key
    RUN = "run"  #: whoever has an API key, and runs with their credential
    ADMIN = "admin"  #: administrators


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint takes and gives: the source of the OpenAPI document, and of what the application checks before the call."""

    summary: str
    description: str = ""
    allow: Allow = Allow.USER
    body: Any = None  #: a struct; read it with `read_json`
    body_types: tuple[str, ...] = (JSON,)
    query: Any = None  #: a struct with one field per query parameter; read it with `read_query`
    headers: Mapping[str, str] = {}  #: request headers that matter, with their meaning
    responses: Mapping[int, Any] = {}  #: status -> struct, or None: no body
    response_type: str = JSON  #: media type of the answers that are no problems
    errors: tuple[type[JobledgerError], ...] = ()
    tag: str = ""
    max_body_bytes: int | None = None  #: None: the application's limit; 0: the endpoint counts for itself, as uploads do


def operation(
    summary: str,
    *,
    description: str = "",
    allow: Allow = Allow.USER,
    body: Any = None,
    body_types: Sequence[str] = (JSON,),
    query: Any = None,
    headers: Mapping[str, str] | None = None,
    response: Any = None,
    responses: Mapping[int, Any] | None = None,
    response_type: str = JSON,
    errors: Sequence[type[JobledgerError]] = (),
    tag: str = "",
    max_body_bytes: int | None = None,
) -> Callable[[Endpoint], Endpoint]:
    """Describe an endpoint. `response=View` is short for `responses={200: View}`.

    Raises TypeError, when the module is read, for a body or query struct that does not forbid unknown fields.
    """
    for struct in (body, query):
        is_struct = isinstance(struct, type) and issubclass(struct, msgspec.Struct)
        if is_struct and not struct.__struct_config__.forbid_unknown_fields:
            raise TypeError(f"{struct.__name__} accepts unknown fields: derive it from jobledger_kit.http.Input")
    described = Operation(
        summary=summary,
        description=description,
        allow=allow,
        body=body,
        body_types=tuple(body_types),
        query=query,
        headers=headers or {},
        responses=responses if responses is not None else {200: response},
        response_type=response_type,
        errors=tuple(errors),
        tag=tag,
        max_body_bytes=max_body_bytes,
    )

    def describe(endpoint: Endpoint) -> Endpoint:
        endpoint.__operation__ = described  # type: ignore[attr-defined]
        return endpoint

    return describe


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the structs that requests are read into: a field that we do not know is refused, not ignored."""


# --- what is known of a request -------------------------------------------------------------------------------------


def principal_of(request: Request) -> Principal:
    """Who asks. Only for operations that are not public; raises KeyError for those."""
    principal: Principal = request.scope["jobledger.principal"]
    return principal


def request_id_of(request: Request) -> str:
    """The id that stands in the answer's `X-Request-Id`, in the log, and in the events as correlation id."""
    return str(request.scope["jobledger.request_id"])


def header_values(request: Request, name: bytes) -> list[str]:
    """The values of a header, whose name is in small letters; straight from the scope, as every callback looks at three."""
    return [value.decode("latin-1") for given, value in request.scope["headers"] if given == name]


def traceparent_of(request: Request) -> str:
    """The caller's W3C trace context, empty when there is none or a bad one."""
    given = header_values(request, b"traceparent")
    return given[0] if given and _TRACEPARENT.match(given[0]) else ""


# --- reading --------------------------------------------------------------------------------------------------------


async def read_body(request: Request) -> bytes:
    """The whole body. Raises TooLarge (from the application's counting `receive`) and starlette's ClientDisconnect."""
    receive = request.receive
    message = await receive()
    if message["type"] != "http.request":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts = [body]
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def stream_body(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """The body in pieces, for uploads. Raises TooLarge once more than `max_bytes` have come, and ClientDisconnect."""
    left = max_bytes
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        if chunk := message.get("body", b""):
            left -= len(chunk)
            if left < 0:
                raise TooLarge(max_bytes)
            yield chunk
        if not message.get("more_body"):
            return


async def read_json(request: Request, type_: type[T]) -> T:
    """Read a JSON body into a struct. Raises InvalidRequest (all faults, with paths), UnsupportedMedia, TooLarge."""
    content_type = request.headers.get("content-type", "")
    if content_type != JSON:
        media_type, _, parameters = content_type.partition(";")
        media_type = media_type.strip().lower()
        if media_type != JSON and not (media_type.startswith("application/") and media_type.endswith("+json")):
            raise UnsupportedMedia(media_type[:100], JSON)
        if "charset" in parameters.lower() and "utf-8" not in parameters.lower():
            raise UnsupportedMedia(content_type[:100], f"{JSON} in UTF-8")
    return decode_json(await read_body(request), type_)


def decode_json(body: bytes, type_: type[T]) -> T:
    """Read JSON bytes into a struct: strict types, no unknown fields, no NUL characters. Raises InvalidRequest."""
    try:
        try:
            value = _decoder(cast("Any", type_)).decode(body)
        except msgspec.ValidationError as error:
            # The rare path: decode again without types, so that every fault can be named and not only the first.
            raise InvalidRequest(errors=faults(msgspec.json.decode(body), type_, error)) from None
        if b"\\u0000" in body and _has_nul(msgspec.json.decode(body)):
            raise InvalidRequest(errors=[FieldError("$", "a text holds a NUL character")])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(errors=[FieldError("$", f"the body is no JSON: {error}")]) from None
    except RecursionError:
        raise InvalidRequest(errors=[FieldError("$", "the body is nested too deeply")]) from None
    return value  # type: ignore[no-any-return]


def read_query(request: Request, type_: type[T]) -> T:
    """Read the query string into a struct: repeated parameters where the field is a list. Raises InvalidRequest."""
    raw = request.scope["query_string"].decode("latin-1")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, max_num_fields=MAX_QUERY_PARAMETERS, errors="strict")
    except ValueError as error:
        raise InvalidRequest(errors=[FieldError("?", f"the query cannot be read: {error}")]) from None
    lists = _list_fields(cast("Any", type_))
    values: dict[str, Any] = {}
    problems: list[FieldError] = []
    for name, text in pairs:
        if "\0" in text or "\0" in name:
            problems.append(FieldError(f"?{name}".replace("\0", ""), "a NUL character"))
        elif name in lists:
            values.setdefault(name, []).append(text)
        elif name in values:
            problems.append(FieldError(f"?{name}", "given more than once"))
        else:
            values[name] = text
    try:
        value = msgspec.convert(values, type_, strict=False)
    except msgspec.ValidationError as error:
        problems += faults(values, type_, error, prefix="?", strict=False)
    if problems:
        raise InvalidRequest(errors=problems)
    return value


def faults(value: Any, type_: Any, first: msgspec.ValidationError, *, prefix: str = "$.", strict: bool = True) -> list[FieldError]:
    """Every fault of a value that is to become a struct; `first` is the one that stopped the decoder."""
    problems: list[FieldError] = []
    if isinstance(value, dict) and isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
        problems += [FieldError(f"{prefix}{name[:100]}", "unknown") for name in value if name not in fields]
        for name, field in fields.items():
            if name not in value:
                if field.required:
                    problems.append(FieldError(f"{prefix}{name}", "missing"))
                continue
            try:
                msgspec.convert(value[name], field.type, strict=strict)
            except msgspec.ValidationError as error:
                text, path = _split(error)
                problems.append(FieldError(f"{prefix}{name}{path}", text))
    if not problems:
        text, path = _split(first)
        problems.append(FieldError("$" + path, text))
    return problems


def _split(error: msgspec.ValidationError) -> tuple[str, str]:
    """Take msgspec's "what - at `$.where`" apart; the `$` is left off."""
    text, _, path = str(error).partition(" - at `$")
    return text, path.removesuffix("`")


@cache
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_)


@cache
def _list_fields(type_: Any) -> frozenset[str]:
    def is_list(hint: Any) -> bool:
        if hasattr(hint, "__metadata__"):
            return is_list(hint.__origin__)
        origin = get_origin(hint) or hint
        if isinstance(origin, type):
            return issubclass(origin, (list, tuple, set, frozenset))
        return any(is_list(argument) for argument in get_args(hint))

    return frozenset(field.encode_name for field in msgspec.structs.fields(type_) if is_list(field.type))


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in name or _has_nul(member) for name, member in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


# --- answering ------------------------------------------------------------------------------------------------------

_ENCODER = msgspec.json.Encoder()


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON; `content` is a struct, or bytes that are JSON already."""
    body = content if isinstance(content, bytes) else _ENCODER.encode(content)
    return Response(body, status, headers, JSON)


def etag(*parts: str) -> str:
    """A weak entity tag of an answer, from what changes when it does. What time alone changes, as a run time so far, does not count."""
    return f'W/"{hashlib.blake2b(chr(0).join(parts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()}"'


def is_known(request: Request, tag: str) -> bool:
    """Say whether the caller has the answer of this tag already, by its If-None-Match."""
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or tag.removeprefix("W/") in (one.strip().removeprefix("W/") for one in given.split(","))


def not_modified(tag: str) -> Response:
    """The answer to somebody who has it already."""
    return Response(None, 304, {"etag": tag})


STATUSES: Final[dict[type[JobledgerError], tuple[int, str, str]]] = {
    e.JobledgerError: (500, "internal-error", "Something went wrong on our side"),
    e.InvalidRequest: (400, "invalid-request", "The request is not valid"),
    e.InvalidPath: (400, "invalid-path", "The path is not valid"),
    e.Unprocessable: (422, "unprocessable", "The request names something that is not there or cannot be"),
    e.UnprocessableKey: (422, "idempotency-key-reused", "The idempotency key stands for another request"),
    e.UnsupportedMedia: (415, "unsupported-media-type", "The body's media type is not read here"),
    e.TooLarge: (413, "too-large", "The body is too large"),
    e.Unauthenticated: (401, "unauthenticated", "A valid credential is needed"),
    e.Forbidden: (403, "forbidden", "This is not allowed"),
    e.NotFound: (404, "not-found", "There is no such thing"),
    e.Conflict: (409, "conflict", "This is not possible now"),
    e.Refused: (409, "refused", "The request was refused"),
    e.RateLimited: (429, "rate-limited", "Too many requests"),
    e.Unavailable: (503, "unavailable", "A part of the system is away; nothing was done"),
    e.OutcomeUnknown: (504, "outcome-unknown", "It may or may not have been done"),
}
"""error -> status, slug, title. An error that is not here is answered as its nearest base is; `Broken` ones are internal."""

OTHER_TITLES: Final[dict[int, tuple[str, str]]] = {
    404: ("not-found", "There is no such thing"),
    405: ("method-not-allowed", "The method is not allowed here"),
    406: ("not-acceptable", "No acceptable answer"),
    416: ("range-not-satisfiable", "The range cannot be served"),
    429: ("rate-limited", "Too many requests"),
}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details (RFC 9457) as every error is answered."""

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    errors: list[FieldError] = []  #: one entry per fault of the request
    reason: str = ""  #: why the fold refused
    position: str = ""  #: where the refused request stands in the log


def problem(
    status: int, slug: str, title: str, detail: str = "", *, instance: str = "", headers: Mapping[str, str] | None = None, **extensions: Any
) -> Response:
    """Answer with problem details; `extensions` are more members, left out when they are None."""
    members = {"type": f"urn:jobledger:problem:{slug}", "title": title, "status": status}
    members |= {name: value for name, value in (("detail", detail), ("instance", instance)) if value}
    members |= {name: value for name, value in extensions.items() if value is not None}
    return Response(_ENCODER.encode(members), status, headers, PROBLEM_JSON)


def classify(kind: type[JobledgerError]) -> tuple[int, str, str]:
    """The status, slug and title of an error's class."""
    return next(STATUSES[base] for base in kind.__mro__ if base in STATUSES)


def problem_of(error: JobledgerError, *, instance: str = "") -> Response:
    """The answer that an error is given. What is broken on our side says nothing but that."""
    status, slug, title = classify(type(error))
    headers: dict[str, str] = {}
    extensions: dict[str, Any] = {}
    if status == 500:
        return problem(status, slug, title, instance=instance)
    if isinstance(error, InvalidRequest) and error.errors:
        extensions["errors"] = error.errors
    if isinstance(error, e.Refused):
        extensions |= {"verdict": error.verdict.outcome, "reason": error.verdict.reason, "position": error.position or None}
    if isinstance(error, e.Unauthenticated):
        headers["www-authenticate"] = 'Bearer realm="jobledger"'
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["retry-after"] = str(max(1, ceil(retry_after_s)))
    return problem(status, slug, title, error.message, instance=instance, headers=headers, **extensions)


def not_allowed(methods: Collection[str], instance: str = "") -> Response:
    """The answer to a method that a path does not have."""
    slug, title = OTHER_TITLES[405]
    allowed = ", ".join(sorted(methods))
    return problem(405, slug, title, f"This path has {allowed}.", instance=instance, headers={"allow": allowed})
