"""`python -m jobledger_jobs replay`: make the read model again from the log, compare it with the live one, and swap the two.

The service goes on meanwhile. After a swap, or on the way back, its projectors are fenced: they end, are started again by whoever looks
after them, and read the new rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from jobledger_contracts import topics
from jobledger_kit.differences import Comparison
from jobledger_kit.rebuild import Progress, Source, compare_with_live, rebuild, roll_back, swap
from jobledger_kit.telemetry import set_up_logging

from .config import JobsSettings
from .store import CONSUMER, JobsStore

EX_DIFFERENT: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said behind `replay`."""
    parser.add_argument("--processes", type=int, default=0, metavar="N", help="processes that share the partitions (default: one a core)")
    parser.add_argument("--swap", action="store_true", help="put the new rows in the old ones' place, if they are the same")
    parser.add_argument("--swap-anyway", action="store_true", help="put them there also if they differ: what was wrong is repaired")
    parser.add_argument("--roll-back", action="store_true", help="put the rows from before the last swap back, and do nothing else")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")


async def replay(settings: JobsSettings, asked: argparse.Namespace) -> int:
    """Do what was asked. Returns 0, or 1 when the rows differ and were not swapped. Raises what `rebuild` raises."""
    source = source_of(settings)
    log_beside = partial(set_up_logging, "jobs", format="console", level="warning", beside_output=True)
    log_beside()
    if asked.roll_back:
        await roll_back(source)
        say("the rows from before the last swap are back; what came since is folded again")
        return 0
    done = await rebuild(source, processes=asked.processes, on_progress=show, initializer=log_beside)
    say(f"{done.of} records folded in {done.elapsed_s:.1f} s ({done.rate:,.0f} a second); comparing ...")
    compared = await compare_with_live(source)
    same = all(table.same for table in compared)
    swapped = (asked.swap and same) or asked.swap_anyway
    if swapped:
        await swap(source)
    report(compared, done, swapped=swapped, machine=asked.json)
    return 0 if same or swapped else EX_DIFFERENT


def source_of(settings: JobsSettings) -> Source:
    """The jobs service's rows, and the log that they are made from."""
    return Source(
        store=JobsStore,
        database_url=settings.database_url,
        consumer=CONSUMER,
        topics=(topics.JOBS, topics.SCHEDULERS),
        bootstrap_servers=settings.kafka_bootstrap_servers,
        security=settings.kafka_security(),
        topic_prefix=settings.topic_prefix,
    )


def say(text: str) -> None:
    """For people, beside what goes to standard output."""
    sys.stderr.write(f"{text}\n")


def show(progress: Progress) -> None:
    """One line that is written over on a terminal; a pipe gets none."""
    if sys.stderr.isatty():
        share = 100 * progress.records // progress.of if progress.of else 100
        sys.stderr.write(f"\r{progress.records:,} of {progress.of:,} records ({share} %), {progress.rate:,.0f} a second   \r")
        sys.stderr.flush()


def report(compared: Sequence[Comparison], done: Progress, *, swapped: bool, machine: bool) -> None:
    """The result, table by table."""
    if machine:
        whole = {"records": done.of, "elapsed_s": round(done.elapsed_s, 3), "swapped": swapped, "tables": msgspec.to_builtins(compared)}
        sys.stdout.write(json.dumps(whole, indent=2) + "\n")
        return
    sys.stdout.write(f"{'table':<14} {'rows':>10} {'changed':>9} {'missing':>9} {'extra':>9}\n")
    for table in compared:
        sys.stdout.write(f"{table.table:<14} {table.rows:>10,} {table.changed:>9,} {table.missing:>9,} {table.extra:>9,}\n")
        for example in table.examples:
            sys.stdout.write(f"    {example.kind}: {example.key}\n")
    if all(table.same for table in compared):
        verdict = "the live rows are what the log says"
    else:
        verdict = "the live rows differ from what the log says (changed, missing: in the live rows; extra: not in the log)"
    sys.stdout.write(f"{verdict}; {'swapped: --roll-back goes back' if swapped else 'nothing was changed'}\n")
