"""A Faust agent that counts events, and prints events/s between the first and the last.

`python -m benchmarks.noop_agent BROKER TOPIC COUNT GROUP`
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time

import faust


async def main(broker: str, topic: str, count: int, group: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        app = faust.App(
            group, broker=f"kafka://{broker}", datadir=folder, web_enabled=False, topic_disable_leader=True, topic_allow_declare=False,
            key_serializer="raw", value_serializer="raw", consumer_auto_offset_reset="earliest",
        )  # fmt: skip
        done = asyncio.Event()
        times = [0.0, 0.0]

        async def react(stream: faust.StreamT[bytes]) -> None:
            seen = 0
            async for _ in stream:
                times[0] = times[0] or time.perf_counter()
                seen += 1
                if seen == count:
                    times[1] = time.perf_counter()
                    done.set()

        app.agent(app.topic(topic))(react)
        await app.start()
        try:
            await asyncio.wait_for(done.wait(), 300)
        finally:
            await app.stop()
    return count / (times[1] - times[0])


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))}\n")
