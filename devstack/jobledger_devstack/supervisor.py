"""The process that runs a stack: `python -m jobledger_devstack.supervisor <data folder>`, started by `up`, ended by SIGTERM.

It detaches itself, prints its pid, starts the parts side by side as far as their needs allow, and keeps them running. A start that
cannot succeed is undone: everything is stopped again and `state.json` says which part failed and why.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path

import msgspec
import structlog

from jobledger_devstack.board import Board
from jobledger_devstack.errors import PartFailed, StackError
from jobledger_devstack.files import tail, write_atomically
from jobledger_devstack.layout import Layout, default_cache
from jobledger_devstack.model import Phase
from jobledger_devstack.options import load, resolve
from jobledger_devstack.part import Context
from jobledger_devstack.parts import build_endpoints, build_parts
from jobledger_devstack.ports import Ports
from jobledger_devstack.process import PidFile, started_at, sweep
from jobledger_devstack.runner import Runner
from jobledger_devstack.users import ensure_users, require_traversable

log = structlog.get_logger("supervisor")


def main() -> None:
    """Detach from the caller, which gets our pid on stdout, and supervise."""
    layout = Layout(Path(sys.argv[1]))
    if pid := os.fork():
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        os._exit(0)
    os.setsid()
    os.umask(0o022)
    os.chdir("/")
    with layout.log("supervisor").open("ab") as file, Path(os.devnull).open("rb") as nothing:
        for target, source in enumerate((nothing, file, file)):
            os.dup2(source.fileno(), target)
    timestamp = structlog.processors.TimeStamper(fmt="iso")
    structlog.configure(processors=[timestamp, structlog.processors.add_log_level, structlog.processors.JSONRenderer()])
    with layout.supervisor_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code = asyncio.new_event_loop().run_until_complete(_supervise(layout))
    sys.stdout.flush()
    # A thread that still downloads cannot be interrupted, and leaving politely would wait for it.
    os._exit(code)


async def _supervise(layout: Layout) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    cache, pids = default_cache(), PidFile(layout.pids)
    board = Board(layout, os.getpid(), started_at(os.getpid()) or 0.0)
    if cleaned := await asyncio.to_thread(sweep, layout.home, cache=cache, pids=pids):
        await log.awarning("an earlier supervisor left processes behind; they were ended", processes=cleaned)
    runners: dict[str, Runner] = {}
    try:
        context = await asyncio.to_thread(_context, layout, cache)
        parts = build_parts(context)
        board.show(parts)
        runners.update({part.name: Runner(part, board, pids) for part in parts})
        return await _keep_running(context, runners, board, stop)
    except StackError as error:
        await log.aerror("the stack cannot be started", reason=str(error))
        board.fail("stack", str(error), "")
        return 1
    finally:
        await _stop_all(runners)
        await asyncio.to_thread(sweep, layout.home, cache=cache, pids=pids)
        board.gone()
        await log.ainfo("everything is stopped")


def _context(layout: Layout, cache: Path) -> Context:
    """Look at the machine and lay out the data folder. Blocks; raises `StackError` when something essential is missing."""
    options = resolve(load(layout))
    cache.mkdir(parents=True, exist_ok=True)
    users = ensure_users(cache)
    if options.has("postgres"):
        require_traversable(layout.home, users.database, "the data folder")
        require_traversable(cache, users.database, "the parts cache")
    for folder in (layout.secrets, layout.workspaces, layout.services):
        users.invoking.own(folder, 0o700)
    return Context(layout, cache, options, Ports(layout.ports), users)


async def _keep_running(context: Context, runners: dict[str, Runner], board: Board, stop: asyncio.Event) -> int:
    """Run everything until we are told to stop (0) or a part cannot be started (1)."""
    tasks = {asyncio.create_task(runner.run(runners), name=name): name for name, runner in runners.items()}
    stopping = asyncio.create_task(stop.wait(), name="stop")
    complete = asyncio.create_task(_complete(context, runners, board), name="complete")
    watched = {*tasks, stopping, complete}
    try:
        while True:
            done, watched = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if stopping in done:
                return 0
            for task in done:
                if (error := task.exception()) is not None:
                    await _note_failure(context.layout, board, task.get_name(), error)
                    return 1
    finally:
        left = [task for task in (*tasks, stopping, complete) if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _complete(context: Context, runners: dict[str, Runner], board: Board) -> None:
    """When the last part is ready, publish the addresses and say so."""
    for runner in runners.values():
        await runner.ready.wait()
    for runner in runners.values():
        await runner.restart_if_stale()
    endpoints = build_endpoints(context, [runner.part for runner in runners.values()])
    write_atomically(context.layout.endpoints, msgspec.json.format(msgspec.json.encode(endpoints)), mode=0o600)
    board.complete()
    await log.ainfo("everything is ready")


async def _note_failure(layout: Layout, board: Board, name: str, error: BaseException) -> None:
    if isinstance(error, PartFailed):
        reason, text = error.reason, error.log or tail(layout.log(name), 20)
    elif isinstance(error, StackError):
        reason, text = str(error), ""
    else:
        reason, text = f"{type(error).__name__}: {error}", tail(layout.log(name), 20)
        await log.aerror("the supervisor failed at a part", part=name, exc_info=error)
    await log.aerror("a part cannot be started; everything is stopped again", part=name, reason=reason)
    if name in board.names:
        board.update(name, Phase.FAILED, message=reason, pid=None)
    board.fail(name, reason, text)


async def _stop_all(runners: dict[str, Runner]) -> None:
    """Stop the parts, those that need others first, so that nobody's last words meet a closed door."""
    left = dict(runners)
    while left:
        needed = {need for runner in left.values() for need in runner.part.needs}
        now = [name for name in left if name not in needed] or list(left)
        await asyncio.gather(*(left.pop(name).stop() for name in now))


if __name__ == "__main__":
    main()
