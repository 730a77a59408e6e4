"""The schedulers service as a process of its own, and the log that it is driven through."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from jobledger_contracts import topics
from jobledger_contracts.envelope import Event, Record, new_event
from jobledger_contracts.ids import new_job_id
from jobledger_contracts.job import Job, initial_state
from jobledger_contracts.job_events import (
    CondorSpec,
    DaskSpec,
    ExecuteRequested,
    JobCreated,
    NodeStatusChanged,
    ResultsCollected,
    StatusChanged,
    WorkflowSpec,
)
from jobledger_contracts.nodes import Node, fold_nodes
from jobledger_contracts.scheduler import Scheduler
from jobledger_contracts.scheduler_events import SchedulerHealthChanged
from jobledger_devstack import Stack
from jobledger_kit.auth import Access, migrate_access
from jobledger_kit.bus import KafkaBus
from jobledger_kit.folds import Folded, FoldedBatch, fold_log
from jobledger_kit.keyring import RUN_CREDENTIAL_KEY, KeyRing

from .eventually import eventually, eventually_async

OUR_SOURCE = "/jobledger/schedulers"


class LogView:
    """Everything in a test's topics, read by a plain consumer as it comes, and folded as every service folds it.

    Kafka's clients live in a thread with a loop of their own, so that they are no tasks of the test's.
    """

    def __init__(self, bootstrap_servers: str, prefix: str, partitions: int) -> None:
        self._bootstrap, self._prefix, self._partitions = bootstrap_servers, prefix, partitions
        self._records: list[Record] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._bus = KafkaBus(bootstrap_servers, "test", topic_prefix=prefix)

    def __enter__(self) -> Self:
        self._thread.start()
        self._following = asyncio.run_coroutine_threadsafe(self._follow(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._following.cancel()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self._bus.stop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=10)

    async def publish(self, *events: Event) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._bus.publish(*events), self._loop))

    async def _follow(self) -> None:
        async with AIOKafkaConsumer(bootstrap_servers=self._bootstrap, isolation_level="read_committed") as consumer:
            places = [TopicPartition(self._prefix + t, p) for t in (topics.JOBS, topics.SCHEDULERS) for p in range(self._partitions)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            while True:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    for r in batch:
                        topic = r.topic.removeprefix(self._prefix)
                        self._records.append(Record(topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers)))

    def fold(self) -> FoldedBatch:
        batch = fold_log(list(self._records), dict.fromkeys(topics.ALL, self._partitions))
        assert not batch.dead, f"dead letters: {batch.dead}"
        return batch

    def records(self) -> list[Record]:
        return list(self._records)

    def job(self, job_id: str) -> Job:
        state: Job = self.fold().states.get((topics.JOBS, job_id), initial_state(job_id))
        return state

    def scheduler(self, name: str) -> Scheduler | None:
        return self.fold().states.get((topics.SCHEDULERS, name))

    def events(self, key: str) -> list[Folded]:
        return [f for f in self.fold().folded if f.event.key == key]

    def reports(self, job_id: str) -> list[StatusChanged]:
        """What our service said of a job's status and what took effect, in order."""
        return [
            f.event.data
            for f in self.events(job_id)
            if isinstance(f.event.data, StatusChanged) and f.event.source.startswith(OUR_SOURCE) and f.verdict.applied
        ]

    def statuses(self, job_id: str) -> list[str]:
        """The statuses that our service reported, without repetitions."""
        said = [report.status for report in self.reports(job_id)]
        return [status for number, status in enumerate(said) if number == 0 or said[number - 1] != status]

    def collected(self, job_id: str) -> list[ResultsCollected]:
        return [f.event.data for f in self.events(job_id) if isinstance(f.event.data, ResultsCollected) and f.verdict.applied]

    def healths(self, name: str) -> list[str]:
        return [f.event.data.health for f in self.events(name) if isinstance(f.event.data, SchedulerHealthChanged) and f.verdict.applied]

    async def say(self, *data: Any) -> None:
        now = datetime.now(UTC)
        await self.publish(*(new_event(one, id=uuid4().hex, source="/jobledger/jobs", time=now, actor="user:ada") for one in data))

    def nodes(self, job_id: str) -> dict[str, Node]:
        """The nodes of a workflow's current run, as the fold of the reports has them."""
        run = self.job(job_id).run
        said = [f for f in self.events(job_id) if isinstance(f.event.data, NodeStatusChanged) and f.verdict.applied]
        return fold_nodes({}, ((report, f.event.time) for f in said if f.event.data.run == run for report in f.event.data.nodes))

    async def run(
        self,
        scheduler: str,
        *,
        condor: CondorSpec | None = None,
        dask: DaskSpec | None = None,
        workflow: WorkflowSpec | None = None,
        job_id: str = "",
    ) -> str:
        """Create a job and ask for its run."""
        job_id = job_id or fresh_job_id()
        job_type = "CONDOR" if condor else "DASK" if dask else "CONDORWORKFLOW"
        what: dict[str, Any] = {"condor": condor, "dask": dask, "workflow": workflow}
        created = JobCreated(job_id=job_id, name="Flood", user="ada", label="hydro", job_type=job_type, scheduler=scheduler, **what)
        await self.say(created, ExecuteRequested(job_id=job_id))
        return job_id

    async def until(self, job_id: str, status: str | Callable[[Job], bool], timeout_s: float = 40) -> Job:
        """Wait until the fold of the log has a job in this status."""
        wanted = status if callable(status) else lambda job: job.status == status

        def reached() -> Job | None:
            job = self.job(job_id)
            return job if wanted(job) else None

        try:
            job = await eventually_async(reached, timeout_s, 0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.job(job_id).status!r}: {self.reports(job_id)}") from error
        assert job is not None
        return job


def fresh_job_id() -> str:
    return new_job_id(int(datetime.now(UTC).timestamp() * 1000), os.urandom(10))


class Service:
    """A process of the schedulers service. `start` returns when it is ready."""

    def __init__(self, folder: Path, environment: Mapping[str, str], main: Sequence[str] = ("-m", "jobledger_schedulers")) -> None:
        self.folder, self._environment, self._main = folder, dict(environment), list(main)
        self.data_dir = folder / "data"
        self.log_file = folder / "service.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{(self.data_dir / 'port').read_text().strip()}"

    def start(self, *arguments: str, wait: bool = True) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (self.data_dir / "port").unlink(missing_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("JOBLEDGER_")}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._main, *arguments],
                env={**inherited, **self._environment, "JOBLEDGER_DATA_DIR": str(self.data_dir)},
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )
        if wait:
            eventually(self.ready, 40)

    def ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it has ended with {self._process.returncode}:\n{self.tail()}"
        try:
            return httpx.get(f"{self.url}/schedulers/health/ready", timeout=3, trust_env=False).status_code == 200
        except (httpx.TransportError, FileNotFoundError):
            return False

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self, timeout_s: float = 20) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(timeout_s)

    def end(self) -> None:
        """Whatever state it is in: gone afterwards."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])


async def make_key(environment: dict[str, str], database: asyncpg.Pool[asyncpg.Record], user: str, *, admin: bool) -> str:
    async with database.acquire() as connection:
        await migrate_access(connection)
    access = Access(database, KeyRing.load(Path(environment["JOBLEDGER_SECRETS_DIR"]), RUN_CREDENTIAL_KEY))
    await access.put_user(user, admin=admin)
    _, token = await access.create_key(user)
    return token


def client(service: Service, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=service.url, headers={"authorization": f"Bearer {key}"}, timeout=30, trust_env=False)


def condor_body(pool: Stack, name: str = "pool") -> dict[str, object]:
    endpoints = pool.endpoints()
    host, _, port = endpoints.collector.partition(":")
    where = {"host": host, "port": int(port), "schedd_name": endpoints.schedd_name}
    where["event_log"] = str(pool.layout.condor_event_log)
    return {"name": name, "type": "condor", **where, "token": pool.mint_token("jobledger", 3600)}


def dask_body(pool: Stack, name: str = "dask") -> dict[str, object]:
    return {"name": name, "type": "dask", "host": pool.endpoints().dask_address}


async def register(service: Service, key: str, body: dict[str, object]) -> httpx.Response:
    async with client(service, key) as http:
        answer = await http.post("/schedulers", json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer


_EMPTY = """
import os, sys
os.environ["CONDOR_CONFIG"] = "/dev/null"
import htcondor2 as h
collector, schedd, tokens = sys.argv[1:]
h.param["SEC_TOKEN_DIRECTORY"] = tokens
for level in ("AUTHENTICATION", "ENCRYPTION"):
    h.param["SEC_CLIENT_" + level] = "REQUIRED"
h.param["SEC_CLIENT_AUTHENTICATION_METHODS"] = "IDTOKENS"
schedd = h.Schedd(h.Collector(collector).locate(h.DaemonType.Schedd, schedd))
schedd.act(h.JobAction.Remove, "true", ("the test is over", 1))
"""


def empty_pool(pool: Stack) -> None:
    """Remove whatever a test has left in the queue: the next one needs the machines."""
    endpoints = pool.endpoints()
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder) / "token"
        token.touch(mode=0o600)
        token.write_text(pool.mint_token("jobledger", 300))
        arguments = [sys.executable, "-c", _EMPTY, endpoints.collector, endpoints.schedd_name, folder]
        subprocess.run(arguments, check=True, timeout=60)
