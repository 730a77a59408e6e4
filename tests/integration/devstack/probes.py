"""What a user of each part would do: produce and consume, select, submit a job, compute."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from jobledger_devstack import Endpoints


def eventually(claim: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.1) -> None:
    """Poll until `claim` holds; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, f"still not true after {timeout_s} s"
        time.sleep(interval_s)


def create_topic(endpoints: Endpoints, name: str) -> None:
    async def create() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=endpoints.kafka_bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
        finally:
            await admin.close()

    asyncio.run(create())


def produce(endpoints: Endpoints, topic: str, value: bytes) -> None:
    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=endpoints.kafka_bootstrap, enable_idempotence=True) as producer:
            await producer.send_and_wait(topic, value)

    asyncio.run(send())


def consume(endpoints: Endpoints, topic: str, count: int) -> list[bytes]:
    async def read() -> list[bytes]:
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=endpoints.kafka_bootstrap, auto_offset_reset="earliest")
        async with consumer:
            return [(await asyncio.wait_for(consumer.getone(), 20)).value for _ in range(count)]

    return asyncio.run(read())


def sql(url: str, statement: str) -> object:
    """The first value of the first row."""

    async def run() -> object:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


SUBMIT = """
import os, sys, time
import htcondor2, classad2
collector, schedd_name, tokens, folder, python = sys.argv[1:]
htcondor2.param["SEC_CLIENT_AUTHENTICATION_METHODS"] = "IDTOKENS"
htcondor2.param["SEC_CLIENT_AUTHENTICATION"] = "REQUIRED"
htcondor2.param["SEC_CLIENT_ENCRYPTION"] = "REQUIRED"
htcondor2.param["SEC_TOKEN_DIRECTORY"] = tokens
ad = htcondor2.Collector(collector).locate(htcondor2.DaemonType.Schedd, schedd_name)
schedd = htcondor2.Schedd(ad)
script = os.path.join(folder, "job.sh")
with open(script, "w") as file:
    file.write(f"#!/bin/sh\\n{python} -c 'import dask, os; print(dask.__version__, os.environ.get(\\"JOBLEDGER_STACK\\"))'; id -un\\n")
submit = {"executable": script, "output": "out", "error": "err", "log": "log", "should_transfer_files": "YES", "initialdir": folder}
result = schedd.submit(htcondor2.Submit(submit), spool=True)
schedd.spool(result)
wanted, deadline = f"ClusterId=={result.cluster()}", time.time() + 60
while True:
    rows = schedd.query(wanted, ["JobStatus", "ExitCode"])
    if rows and rows[0]["JobStatus"] == 4:
        break
    if time.time() > deadline:
        sys.exit(f"not completed: {rows}")
    time.sleep(0.2)
schedd.retrieve(str(result.cluster()))
print(rows[0]["ExitCode"], open(os.path.join(folder, "out")).read(), open(os.path.join(folder, "err")).read())
"""


def run_condor_job(endpoints: Endpoints, idtoken: str, folder: Path) -> str:
    """Submit a job that prints dask's version and its account, wait for its end, fetch its output. In a process of its own,
    because the bindings keep one identity per process."""
    tokens = folder / "tokens"
    tokens.mkdir(mode=0o700)
    (tokens / "token").touch(mode=0o600)
    (tokens / "token").write_text(idtoken + "\n")
    argv = [sys.executable, "-c", SUBMIT, endpoints.collector, endpoints.schedd_name, tokens, folder, endpoints.jobs_python]
    done = subprocess.run(argv, env={**os.environ, "CONDOR_CONFIG": "/dev/null"}, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


COMPUTE = """
import os, pwd, sys
from distributed import Client
def who(number):
    return number + 1, pwd.getpwuid(os.getuid()).pw_name
if __name__ == "__main__":
    with Client(sys.argv[1], timeout=20) as client:
        print(*client.submit(who, 41, pure=False).result(timeout=30))
"""


def compute_on_dask(endpoints: Endpoints) -> str:
    """Submit a function and wait for its result."""
    done = subprocess.run([sys.executable, "-c", COMPUTE, endpoints.dask_address], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def marked(home: Path) -> list[str]:
    """Every living process with the stack's mark, by a scan of our own."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            if f"JOBLEDGER_STACK={home}".encode() in environment:
                found.append(f"{folder.name} {(folder / 'cmdline').read_bytes()!r}")
        except OSError:
            continue
    return found


def inside(home: Path) -> list[str]:
    """Every living process whose working directory lies in the data folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cwd").readlink().is_relative_to(home):
                found.append(folder.name)
        except OSError:
            continue
    return found
