"""What the services say of themselves: logs (a sentence and machine keys, no secrets) and metrics (declared once, with their meaning)."""

from __future__ import annotations

import asyncio
import atexit
import logging
import re
import sys
import time
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec
import prometheus_client
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from .repeats import Repeats

# --- metrics --------------------------------------------------------------------------------------------------------

REGISTRY: Final = CollectorRegistry()
PREFIX: Final = "jobledger_"
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class MetricKind(StrEnum):
    """How a metric's numbers are to be read."""

    COUNTER = "counter"  #: only grows; read its rate
    GAUGE = "gauge"  #: as it is now
    HISTOGRAM = "histogram"  #: how values are spread


class Metric(msgspec.Struct, frozen=True):
    """A metric as the reference page shows it."""

    name: str
    kind: MetricKind
    meaning: str
    labels: tuple[str, ...]


METRICS: Final[dict[str, Metric]] = {}
"""Every metric that was declared, by its full name."""


def counter(name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
    """Declare a counter; its name ends in `_total`. Raises ValueError when it was declared before."""
    _declare(name, MetricKind.COUNTER, meaning, labels)
    return Counter(PREFIX + name, meaning, labels, registry=REGISTRY)


def gauge(name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
    """Declare a gauge; its name says the unit. Raises ValueError when it was declared before."""
    _declare(name, MetricKind.GAUGE, meaning, labels)
    return Gauge(PREFIX + name, meaning, labels, registry=REGISTRY)


def histogram(name: str, meaning: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_BUCKETS_S) -> Histogram:
    """Declare a histogram; its name says the unit. Raises ValueError when it was declared before."""
    _declare(name, MetricKind.HISTOGRAM, meaning, labels)
    return Histogram(PREFIX + name, meaning, labels, registry=REGISTRY, buckets=buckets)


def _declare(name: str, kind: MetricKind, meaning: str, labels: Sequence[str]) -> None:
    if PREFIX + name in METRICS:
        raise ValueError(f"the metric {name} is declared twice")
    if (kind is MetricKind.COUNTER) != name.endswith("_total"):
        raise ValueError(f"{name}: counters, and only they, end in _total")
    METRICS[PREFIX + name] = Metric(PREFIX + name, kind, meaning, tuple(labels))


def render_metrics() -> bytes:
    """Every metric in Prometheus' text format."""
    return prometheus_client.generate_latest(REGISTRY)


prometheus_client.ProcessCollector(registry=REGISTRY)
prometheus_client.GCCollector(registry=REGISTRY)

HTTP_REQUESTS: Final = counter("http_requests_total", "Requests answered, by route and status", ("method", "route", "status"))
HTTP_SECONDS: Final = histogram("http_request_seconds", "Time from a request's head to its answer's end", ("method", "route"))
SSE_CLIENTS: Final = gauge("sse_clients", "Open event streams")
SSE_DROPPED: Final = counter("sse_clients_dropped_total", "Event streams closed because the client was too slow")

# --- logs -----------------------------------------------------------------------------------------------------------

_SECRET_KEY = re.compile(
    r"(?i)(passw(or)?d|passphrase|secret|token|credential|authorization|api_?key|private_?key|cookie)(?!s?_?(id|file|dir|path)\b)"
)
_SECRET_TEXT = re.compile(
    r"\bjl(?P<kind>[kr])_[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]+)?"  # our own tokens
    r"|(?P<scheme>\b[a-z][a-z0-9+.\-]*://[^/\s:@]*):[^@/\s]+(?=@)"  # a URL's password
    r"|(?P<bearer>\b[Bb]earer )[A-Za-z0-9._~+/\-]{8,}=*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
_MASK: Final = "***"


def redact_text(text: str) -> str:
    """Mask what looks like a secret inside a text.

    >>> redact_text("cannot connect to postgresql://ada:tiger@db")
    'cannot connect to postgresql://ada:***@db'
    """

    def mask(match: re.Match[str]) -> str:
        if match["kind"]:
            return f"jl{match['kind']}_{_MASK}"
        if match["scheme"]:
            return f"{match['scheme']}:{_MASK}"
        return f"{match['bearer'] or ''}{_MASK}"

    return _SECRET_TEXT.sub(mask, text)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: mask values whose key names a secret, and texts that look like one, at any depth."""
    for key, value in event.items():
        event[key] = _clean(key, value)
    return event


def _clean(key: str, value: Any) -> Any:
    if isinstance(value, (bool, int, float, type(None))):
        return value
    if _SECRET_KEY.search(key) and value not in ("", b""):
        return _MASK
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {name: _clean(str(name), member) for name, member in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean("", member) for member in value]
    return redact_text(repr(value)) if not isinstance(value, bytes) else f"<{len(value)} bytes>"


def _to_json(event: Any, **_options: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


class _Stdout(logging.Handler):
    """Writes to whatever standard output is at the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            self.handleError(record)  # a log that cannot be written must not end what it tells of


def set_up_logging(
    service: str,
    *,
    format: Literal["json", "console"] = "json",
    level: Literal["debug", "info", "warning", "error"] = "info",
    instance: str = "",
    beside_output: bool = False,
) -> None:
    """Send every log line, ours and the libraries', to standard output in one form. Called once, by the composition root.

    `beside_output`: to standard error instead, for commands whose output is for somebody else.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # as text, so that it is masked too; and without local variables, which hold secrets
        _identify(service, instance),
        redact,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if format == "json"
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    handler: logging.Handler = logging.StreamHandler() if beside_output else _Stdout()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in LOUD.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    logging.captureWarnings(capture=True)
    _request_log.service, _request_log.instance = service, instance
    _request_log.direct = format == "json" and root.isEnabledFor(logging.INFO)


LOUD: Final = {"aiokafka": logging.WARNING, "uvicorn": logging.WARNING, "asyncio": logging.WARNING, "kafka": logging.WARNING}
"""Libraries whose informative lines would drown ours."""


def _identify(service: str, instance: str) -> Any:
    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", service)
        if instance:
            event.setdefault("instance", instance)
        return event

    return add


# --- the log line of a request --------------------------------------------------------------------------------------


class _RequestLine(msgspec.Struct, frozen=True, omit_defaults=True):
    timestamp: str
    level: str
    logger: str
    service: str
    event: str
    method: str
    path: str
    status: int
    duration_ms: float
    request_id: str
    route: str = ""
    actor: str = ""
    instance: str = ""


class _RequestLog:
    """Where request lines go. As JSON they are encoded directly and written in batches: structlog's processors, and a system call for
    each line, would cost a request more than all else that we do for it. A kill may lose the lines of the last `_FLUSH_S`."""

    def __init__(self) -> None:
        self._logger = structlog.get_logger("jobledger.http")
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self._minute, self._minute_text = -1, ""
        self.service, self.instance, self.direct = "", "", False
        atexit.register(self.flush)

    def write(self, *, method: str, path: str, route: str, status: int, duration_ms: float, request_id: str, actor: str) -> None:
        path = path[:500]
        if "jl" in path:
            path = redact_text(path)
        level = "warning" if status >= 500 else "info"
        if not self.direct:
            fields = {"method": method, "path": path, "route": route, "status": status, "duration_ms": duration_ms}
            getattr(self._logger, level)("Request answered", **fields, request_id=request_id, actor=actor)
            return
        line = _RequestLine(
            self._now(),
            level,
            "jobledger.http",
            self.service,
            "Request answered",
            method,
            path,
            status,
            duration_ms,
            request_id,
            route,
            actor,
            self.instance,
        )
        self._lines.append(self._encode(line))
        if len(self._lines) == 1:
            self._flush_later()
        elif len(self._lines) >= _MAX_LINES:
            self.flush()

    def _now(self) -> str:
        now_s = time.time()
        minute, second = divmod(now_s, 60)
        if minute != self._minute:
            self._minute, self._minute_text = int(minute), datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:")
        return f"{self._minute_text}{second:09.6f}Z"

    def _flush_later(self) -> None:
        try:
            asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)
        except RuntimeError:  # no loop: a test, or the end
            self.flush()

    def flush(self) -> None:
        """Write what waits, through the same text stream as every other line, so that lines never mix."""
        lines, self._lines = self._lines, []
        if lines and not sys.stdout.closed:
            sys.stdout.write(b"\n".join(lines).decode() + "\n")
            sys.stdout.flush()


_FLUSH_S: Final = 0.1
_MAX_LINES: Final = 500
_request_log = _RequestLog()


def log_request(*, method: str, path: str, route: str, status: int, duration_ms: float, request_id: str, actor: str) -> None:
    """One canonical line for each request. Never the query or a header: both may hold secrets."""
    _request_log.write(method=method, path=path, route=route, status=status, duration_ms=duration_ms, request_id=request_id, actor=actor)


def stop_direct_lines() -> None:
    """Write what waits, and send request lines through structlog again: for tests that undo `set_up_logging`."""
    _request_log.flush()
    _request_log.direct = False
