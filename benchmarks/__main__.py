"""`make bench`: starts Kafka, PostgreSQL and the services in a folder of their own, measures, prints, and removes them.

make bench                                  all
make bench ARGS="projector --jobs 30000"    one, larger
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console

from jobledger_devstack.options import StackOptions
from jobledger_devstack.temporary import temporary_stack

from . import callbacks, condor, dask, lists, projection, sweep, transports
from .figures import Report, machine, memory_of, save, show

ALL = frozenset({"projector", "callbacks", "memory", "transports", "lists", "sweep", "condor", "dask"})
RESULTS = Path(__file__).with_name("results") / "latest.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"{', '.join(sorted(ALL))}; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs, of 6 events each, that the projector folds (default 10,000)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each load (default 5)")
    chosen = parser.parse_args()
    what = frozenset(chosen.what) or ALL
    if unknown := what - ALL:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    report = Report(machine=machine(), taken=datetime.now(UTC).isoformat(timespec="minutes"), rounds=chosen.rounds)
    console = Console()
    if "projector" in what:
        with console.status("projector: log to rows ..."):
            _projector(report, chosen)
    if "callbacks" in what:
        with console.status("callbacks: HTTP to log ..."):
            _callbacks(report, chosen)
    if "memory" in what:
        with console.status("memory of the whole system ..."):
            _memory(report)
    if "transports" in what:
        with (
            console.status("transports: SSH against the bindings ..."),
            temporary_stack(StackOptions(parts=frozenset({"condor", "ssh"}))) as stack,
        ):
            asyncio.run(transports.measure(report, stack, rounds=chosen.rounds))
    if "sweep" in what:
        with (
            console.status("sweep: one look at all runs against one query ..."),
            temporary_stack(StackOptions(parts=frozenset({"postgres", "condor", "ssh"}))) as stack,
        ):
            _as_a_service()
            uvloop.run(sweep.measure(report, stack, rounds=chosen.rounds))
    if "condor" in what:
        with (
            console.status("condor: the whole way, submission and status ..."),
            temporary_stack(StackOptions(slots=10)) as stack,  # those jobs only sleep
        ):
            asyncio.run(condor.measure(report, stack))
    if "lists" in what:
        with (
            console.status("lists: pages of 10 thousand to 1 million jobs ..."),
            temporary_stack(StackOptions(parts=frozenset({"kafka", "postgres"}))) as stack,
        ):
            endpoints = stack.endpoints()
            uvloop.run(lists.measure(report, bootstrap_servers=endpoints.kafka_bootstrap, database_url=endpoints.database_url))
    if "dask" in what:
        parts = frozenset({"kafka", "postgres", "dask", "services"})
        with console.status("dask: 1000 jobs end to end ..."), temporary_stack(StackOptions(parts=parts)) as stack:
            dask.measure(report, stack, rounds=chosen.rounds)
    show(report, console)
    save(report, RESULTS)
    console.print(f"raw figures: {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")


def _projector(report: Report, chosen: argparse.Namespace) -> None:
    """Kafka and PostgreSQL alone, so that nobody else folds the same log; topics as the services make them."""
    with temporary_stack(StackOptions(parts=frozenset({"kafka", "postgres"}))) as stack:
        from jobledger_kit.bus import ensure_topics

        endpoints = stack.endpoints()
        asyncio.run(ensure_topics(endpoints.kafka_bootstrap, 4))
        _as_a_service()
        uvloop.run(
            projection.measure(
                report,
                bootstrap_servers=endpoints.kafka_bootstrap,
                database_url=endpoints.database_url,
                jobs=chosen.jobs,
                rounds=chosen.rounds,
            )
        )


def _as_a_service() -> None:
    """Let this process collect garbage as a service's does."""
    from jobledger_kit.lifecycle import GC_THRESHOLD

    gc.set_threshold(GC_THRESHOLD, 50, 100)


def _callbacks(report: Report, chosen: argparse.Namespace) -> None:
    with temporary_stack(StackOptions(parts=frozenset({"kafka", "postgres"}))) as stack:
        endpoints = stack.endpoints()
        asyncio.run(
            callbacks.measure(
                report,
                bootstrap_servers=endpoints.kafka_bootstrap,
                database_url=endpoints.database_url,
                connections=(1, 64),
                seconds=chosen.seconds,
                rounds=chosen.rounds,
            )
        )


def _memory(report: Report) -> None:
    """The whole system, idle; and how long it takes to come back once it is stopped."""
    with temporary_stack() as stack:
        report.memory += [memory_of(part.name, part.pid) for part in stack.status().parts if part.pid is not None]
        stack.down()
        begun = time.perf_counter()
        stack.up(timeout_s=300)
        report.notes.append(f"warm start of the whole system to ready: {time.perf_counter() - begun:.1f} s")


if __name__ == "__main__":
    main()
