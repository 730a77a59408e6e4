"""The life of a service's process: its parts start in order, are watched, and stop in reverse.

Exit codes: 0 after SIGTERM or SIGINT, 70 (EX_SOFTWARE) when a part ended by itself or the stop took too long: whoever supervises the
process starts it again. A half-dead service is worse than a restarted one, so no part may end unnoticed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
import structlog
import uvicorn
import uvloop

from .application import Application
from .errors import BadSettings, JobledgerError

log = structlog.get_logger(__name__)

EX_OK: Final = 0
EX_SOFTWARE: Final = 70
EX_CONFIG: Final = 78
SHUTDOWN_TIMEOUT_S: Final = 10.0
EXIT_TIMEOUT_S: Final = 5.0
GC_THRESHOLD: Final = 50_000
"""Objects made before the youngest are looked through. A batch of events makes some fifty each, and keeps them until it is committed: at
Python's own 700 a third of a projector's time went into looking at them again and again."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Something that runs as long as the service does: a server, a consumer loop, a reconciler.

    `run` goes on until it is cancelled; if it returns or raises before, the service ends with 70. `stop`, if given, asks it to finish in
    good order (then `run` may return); it is cancelled after `stop_timeout_s`.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]] | None = None
    stop_timeout_s: float = 5.0


async def run_service(parts: Sequence[Part], *, shutdown_timeout_s: float = SHUTDOWN_TIMEOUT_S) -> int:
    """Run the parts until a signal comes or one of them ends. Returns the exit code; all parts have ended by then.

    When the stop as a whole takes longer than `shutdown_timeout_s`, or a second signal comes, the process ends at once with 70.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unobserved)
    signalled = asyncio.Event()
    with _signals(loop, signalled):
        tasks = {part.name: asyncio.create_task(_run(part), name=f"part-{part.name}") for part in parts}
        if len(tasks) != len(parts):
            raise ValueError("two parts have one name")
        waiting = asyncio.create_task(signalled.wait(), name="signal")
        await asyncio.wait((waiting, *tasks.values()), return_when=asyncio.FIRST_COMPLETED)
        ended = [name for name, task in tasks.items() if task.done()]
        code = EX_SOFTWARE if ended else EX_OK
        for name in ended:
            _report(name, tasks[name])
        log.info("The service stops", cause="signal" if signalled.is_set() else "a part ended", code=code)
        with last_resort(shutdown_timeout_s):
            waiting.cancel()
            for part in reversed(parts):
                if not await _stop(part, tasks[part.name]):
                    code = EX_SOFTWARE
    log.info("The service has stopped", code=code)
    if _main.runs:
        _arm(EXIT_TIMEOUT_S, code)  # what is closed after us may hang, too
    return code


class _Main:
    """Whether `run_main` owns this process; if not (a test), nothing may end it."""

    runs = False


_main = _Main()


async def _run(part: Part) -> None:
    await part.run()


async def _stop(part: Part, task: asyncio.Task[None]) -> bool:
    """Stop one part, gracefully and then not. Says whether it ended well."""
    if task.done():
        return True  # reported already, or it ended between two stops, which is no matter any more
    if part.stop is not None:
        try:
            async with asyncio.timeout(part.stop_timeout_s):
                await part.stop()
                await asyncio.wait((task,))
        except TimeoutError:
            log.warning("A part does not stop in time and is cancelled", part=part.name, timeout_s=part.stop_timeout_s)
        except Exception:
            log.exception("A part's stop failed; it is cancelled", part=part.name)
    task.cancel()
    await asyncio.wait((task,))
    if task.cancelled() or task.exception() is None:
        return True
    log.error("A part failed while it stopped", part=part.name, exc_info=task.exception())
    return False


def _report(name: str, task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, JobledgerError):
        log.error("A part has ended", part=name, error=type(error).__name__, message=error.message)
    else:
        log.error("A part has ended", part=name, error=type(error).__name__ if error else "it returned", exc_info=error)


def _unobserved(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited is an error of ours; it is never silent."""
    log.error("An error that nobody waited for", what=context.get("message", ""), exc_info=context.get("exception"))


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop, signalled: asyncio.Event) -> Iterator[None]:
    """The first signal asks for a graceful stop, the second ends the process."""

    def handle() -> None:
        if signalled.is_set():
            os._exit(EX_SOFTWARE)
        signalled.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextmanager
def last_resort(timeout_s: float, code: int = EX_SOFTWARE) -> Iterator[None]:
    """End the process, whatever hangs, if the block takes longer. A thread of its own: the event loop may be what hangs."""
    timer = _arm(timeout_s, code)
    try:
        yield
    finally:
        timer.cancel()


def _arm(timeout_s: float, code: int) -> threading.Timer:
    timer = threading.Timer(timeout_s, os._exit, [code])
    timer.daemon = True
    timer.start()
    return timer


def run_main(main: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    """Run a service's main coroutine on uvloop and exit with the code that it returns; 70 when it raises.

    Once `run_service` has returned, the rest has `EXIT_TIMEOUT_S`: neither a connection that does not close nor a library's thread may
    keep a stopped service alive.
    """
    code = EX_SOFTWARE
    _main.runs = True
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 100)
    try:
        code = uvloop.run(main())
    except BadSettings as error:
        log.critical("The service cannot start", problems=list(error.problems))
        code = EX_CONFIG
    except JobledgerError as error:
        log.critical("The service cannot start", error=type(error).__name__, message=error.message)
    except Exception:
        log.exception("The service has failed")
    finally:
        _arm(EXIT_TIMEOUT_S, code)
        sys.stdout.flush()
    sys.exit(code)


# --- the server -----------------------------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to `run_service` and says when it listens."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()


def http_part(
    app: Application,
    *,
    host: str,
    port: int,
    data_dir: Path | None = None,
    name: str = "http",
    graceful_timeout_s: int = 4,
) -> Part:
    """The HTTP server as a part. Port 0 takes a free one; the real one is logged, and written to `<data_dir>/port`.

    It stops in good order: no new connections, event streams end at once, other requests have `graceful_timeout_s` to finish.
    """
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # nothing here trusts an address
        timeout_graceful_shutdown=graceful_timeout_s,
        timeout_keep_alive=65,  # longer than the usual minute of proxies, so that it is they who close
        h11_max_incomplete_event_size=None,
    )
    servers: list[_Server] = []

    async def run() -> None:
        listener = bind(host, port)
        address, real_port = listener.getsockname()[:2]

        def listening() -> None:
            if data_dir is not None:
                write_port(data_dir, real_port)
            log.info("listening", address=address, port=real_port, url=_url(address, real_port))

        server = _Server(config, listening)
        servers.append(server)
        try:
            await server.serve(sockets=[listener])
        finally:
            listener.close()

    async def stop() -> None:
        app.stopping.set()
        for server in servers:
            server.should_exit = True

    return Part(name=name, run=run, stop=stop, stop_timeout_s=graceful_timeout_s + 2.0)


def bind(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises OSError; the words name the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def write_port(data_dir: Path, port: int) -> None:
    """Tell the port to whoever started us with port 0; a reader sees all of it or nothing."""
    data_dir.mkdir(parents=True, exist_ok=True)
    temporary = data_dir / f".port.{os.getpid()}"
    temporary.write_text(f"{port}\n")
    temporary.replace(data_dir / "port")


def _url(address: str, port: int) -> str:
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
