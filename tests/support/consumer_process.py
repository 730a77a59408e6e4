"""A consumer in a process of its own, to be killed: `python -m tests.support.consumer_process`, told by its environment.

Ends with 0 after SIGTERM, and with 70 when the loop ends with an error, as a service does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress

import structlog

from jobledger_contracts import topics
from jobledger_kit.errors import JobledgerError
from jobledger_kit.projector import Projector
from jobledger_kit.reactor import FaustReactor
from tests.support.ledger import CONSUMER, SuiteStore, react

LOOPS = {"projector": Projector, "faust": FaustReactor}


async def main() -> int:
    """Consume until told to stop."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    store = await SuiteStore.open(os.environ["DATABASE_URL"])
    loop = LOOPS[os.environ["LOOP"]](
        consumer=CONSUMER,
        topics=[topics.JOBS],
        bootstrap_servers=os.environ["KAFKA"],
        topic_prefix=os.environ["TOPIC_PREFIX"],
        store=store,
        instance_id=os.environ["INSTANCE"],
        react=react,
        max_records=50,  # small batches: more places to be killed at
        session_timeout_ms=6_000,
    )
    consuming, stopping = asyncio.create_task(loop.run()), asyncio.create_task(told.wait())
    await asyncio.wait((consuming, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    consuming.cancel()
    code = 0
    try:
        with suppress(asyncio.CancelledError):
            await consuming
    except JobledgerError as error:
        print(f"ended: {error!r}", file=sys.stderr)
        code = 70
    await store.close()
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
