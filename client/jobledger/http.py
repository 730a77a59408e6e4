"""One service's HTTP client: authentication, time limits, retries of what is safe to repeat, problems turned into errors."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from jobledger.errors import ApiError, OutcomeUnknown, ServerError, Unreachable, from_problem

ATTEMPTS = 5
"""At most; with the pauses between them, a service that restarts (some seconds) is waited for."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 3.0
_TRY_AGAIN = frozenset({429, 502, 503, 504})
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

Params = Mapping[str, Any]


class ServiceClient:
    """Speaks to one service. Thread-safe.

    Reads, and writes that carry an Idempotency-Key, are repeated when the service is away for a moment. Other writes are repeated
    only when they were certainly not sent; if they were cut off, `OutcomeUnknown` is raised.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        name: str,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url, self.name = base_url, name
        self._sleep = sleep
        self._client = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {api_key}", "User-Agent": "jobledger-sdk"},
            timeout=httpx.Timeout(timeout_s, connect=min(5.0, timeout_s)),
            transport=transport,
            trust_env=not _is_loopback(base_url),  # a company's proxy cannot reach this machine
        )

    def get(self, path: str, params: Params | None = None) -> Any:
        """Return the JSON that is at `path`."""
        return self._json(self.request("GET", path, params=params))

    def post(self, path: str, body: Any = None, *, idempotency_key: str = "") -> Any:
        """Post JSON (nothing when None) and return the answer's."""
        return self._json(self.request("POST", path, body=body, idempotency_key=idempotency_key))

    def patch(self, path: str, body: Any, *, idempotency_key: str = "") -> Any:
        """Patch with JSON and return the answer's."""
        return self._json(self.request("PATCH", path, body=body, idempotency_key=idempotency_key))

    def put(self, path: str, body: Any) -> Any:
        """Put JSON and return the answer's."""
        return self._json(self.request("PUT", path, body=body))

    def delete(self, path: str, params: Params | None = None, *, idempotency_key: str = "") -> Any:
        """Delete what is at `path`."""
        return self._json(self.request("DELETE", path, params=params, idempotency_key=idempotency_key))

    def pages(self, path: str, params: Params | None = None, *, limit: int | None = None) -> Iterator[Any]:
        """Yield the items of a paged collection, fetching pages as they are needed; at most `limit` of them."""
        query = dict(params or {})
        left = limit
        while left is None or left > 0:
            query["limit"] = min(left or 500, 500)
            page = self.get(path, query)
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            if not (cursor := page.get("next_cursor")):
                return
            query["cursor"] = cursor

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        content: Callable[[], Any] | None = None,
        idempotency_key: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send and return the answer. `content` is called for each attempt, as a stream can be read only once.

        Raises `Unreachable`, `OutcomeUnknown` or the `ApiError` of the problem.
        """
        sent_headers = dict(headers or {})
        if idempotency_key:
            sent_headers["Idempotency-Key"] = idempotency_key
        if body is not None:
            sent_headers["Content-Type"] = "application/json"
        repeatable = method in _REPEATABLE or bool(idempotency_key)
        for attempt in range(1, ATTEMPTS + 1):
            raw = content() if content else None if body is None else msgspec.json.encode(body)
            try:
                response = self._client.request(method, path, params=_plain(params), content=raw, headers=sent_headers)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS or not (repeatable or isinstance(error, _NEVER_SENT)):
                    raise self._lost(error, method) from error
                self._pause(attempt)
                continue
            if response.status_code in _TRY_AGAIN and repeatable and attempt < ATTEMPTS:
                self._pause(attempt, response.headers.get("Retry-After", ""))
                continue
            if response.status_code == 504 and not repeatable:
                raise OutcomeUnknown(str(problem_of(response)))
            if response.is_error:
                raise problem_of(response)
            return response
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def stream(
        self, path: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None, read_timeout_s: float | None = None
    ) -> Iterator[httpx.Response]:
        """Open a response whose body is read piece by piece. Not repeated here: only the caller knows where it stopped."""
        timeout = self._client.timeout if read_timeout_s is None else httpx.Timeout(read_timeout_s, connect=5.0)
        try:
            with self._client.stream("GET", path, params=_plain(params), headers=dict(headers or {}), timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    raise problem_of(response)
                yield response
        except httpx.TransportError as error:
            raise self._lost(error, "GET") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _pause(self, attempt: int, retry_after: str = "") -> None:
        pause_s = min(FIRST_PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S) * random.uniform(0.7, 1.3)  # noqa: S311 - only spreads retries
        if retry_after.isdigit():
            pause_s = max(pause_s, min(float(retry_after), 10.0))
        self._sleep(pause_s)

    def _lost(self, error: httpx.TransportError, method: str) -> Unreachable:
        where = f"the {self.name} service at {self.base_url}"
        if isinstance(error, _NEVER_SENT):
            return Unreachable(f"{where} cannot be reached ({error or type(error).__name__}); is it running? (`jobledger status`)")
        what = "took too long to answer" if isinstance(error, httpx.TimeoutException) else "cut the connection"
        if method in ("GET", "HEAD"):
            return Unreachable(f"{where} {what}")
        return OutcomeUnknown(f"{where} {what}: whether the request took effect is not known")

    def _json(self, response: httpx.Response) -> Any:
        if not response.content:
            return None
        try:
            return msgspec.json.decode(response.content)
        except msgspec.DecodeError as error:
            message = f"the {self.name} service answered something that is not JSON: is {self.base_url} really Jobledger?"
            raise ServerError(response.status_code, {"title": "Bad answer", "detail": message}) from error


def problem_of(response: httpx.Response) -> ApiError:
    """The error that a response with a status of 400 or more stands for, whatever its body is."""
    try:
        problem = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": f"HTTP {response.status_code}", "detail": response.text.strip()[:200]}
    return from_problem(response.status_code, problem)


def _plain(params: Params | None) -> dict[str, Any]:
    """Leave out what was not given."""
    return {name: value for name, value in (params or {}).items() if value not in (None, "", [], ())}


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
