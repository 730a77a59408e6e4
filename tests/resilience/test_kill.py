"""kill -9 of every one of our services, of PostgreSQL and of Kafka in the middle of an ensemble.

What must hold afterwards: every job ended right, none was submitted twice, no acknowledged callback is missing, and what the API
tells is what a fold of the whole log gives.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobledger import BasicJob, CondorJob, Connection, JobledgerError, JobManager
from jobledger_contracts import topics
from jobledger_contracts.envelope import decode
from jobledger_contracts.job import Job, evolve, initial_state
from jobledger_contracts.verdicts import Outcome
from jobledger_devstack.model import Phase
from jobledger_devstack.options import StackOptions
from jobledger_devstack.stack import Stack
from jobledger_devstack.temporary import temporary_stack
from tests.support.eventually import eventually
from tests.support.log import read_topic
from tests.support.pool import submissions_by_run

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

JOBS = 24
VICTIMS = ("schedulers", "jobs", "postgres", "kafka", "schedulers", "jobs", "provisioner")
SCRIPT = "#!/bin/sh\nsleep 2\necho done by $JOBLEDGER_RUN_ID\n"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with temporary_stack(StackOptions(slots=4, fsync=False)) as stack:
        yield stack


@pytest.fixture(scope="module")
def connection(stack: Stack) -> Iterator[Connection]:
    endpoints = stack.endpoints()
    connection = Connection(
        jobs_url=endpoints.jobs_url,
        schedulers_url=endpoints.schedulers_url,
        clusters_url=endpoints.clusters_url,
        api_key=Path(endpoints.admin_key_file).read_text().strip(),
    )
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def ensemble(stack: Stack, connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[CondorJob], BasicJob, list[str]]:
    """Runs the ensemble through the killings; gives the jobs, the job that reported for itself, and the positions that were acked."""
    manager = JobManager("resilience", connection)
    script = tmp_path_factory.mktemp("inputs") / "work.sh"
    script.write_text(SCRIPT)
    jobs = [submit(manager, f"kill-{n}", script) for n in range(JOBS // 2)]

    stop, acked = threading.Event(), []
    reporting = manager.create_job("reports for itself", job_type="BASIC")
    reporting.execute()
    reporter = threading.Thread(target=report_until, args=(stop, reporting, acked))
    reporter.start()
    try:
        for n, victim in enumerate(VICTIMS):
            eventually(lambda seen=len(acked): len(acked) > seen, timeout_s=60)  # the system does work between two killings
            kill_and_wait(stack, victim)
            wanted = JOBS // 2 + (n + 1) * JOBS // 2 // len(VICTIMS)
            while len(jobs) < wanted:  # and it takes new work right after each
                jobs.append(submit(manager, f"kill-{len(jobs)}", script))
    finally:
        stop.set()
        reporter.join()
    manager.wait([*jobs], timeout_s=240)
    return jobs, reporting, acked


def test_every_job_ended_right(ensemble: tuple[list[CondorJob], BasicJob, list[str]]) -> None:
    jobs, _, _ = ensemble
    ends = {job.name: (job.cached_status, job.exit_code, job.status_message) for job in jobs}
    assert len(jobs) == JOBS
    assert {status for status, _, _ in ends.values()} == {"Complete"}, ends
    for job in jobs:
        text = job.read(f"run-{job.run}/stdout.txt").decode()
        assert text == f"done by {job.run_id}\n"


def test_nothing_was_submitted_twice(stack: Stack, ensemble: tuple[list[CondorJob], BasicJob, list[str]]) -> None:
    """HTCondor itself is asked: its queue and its history."""
    jobs, _, _ = ensemble
    submitted = submissions_by_run(stack)
    assert {run: len(ids) for run, ids in submitted.items() if len(ids) != 1} == {}
    assert {job.run_id for job in jobs} <= set(submitted)


def test_no_acknowledged_callback_is_missing(ensemble: tuple[list[CondorJob], BasicJob, list[str]]) -> None:
    _, reporting, acked = ensemble
    assert len(acked) > len(VICTIMS)
    told = [entry.position for entry in reporting.history()]
    assert [position for position in acked if position not in told] == []


def test_what_the_api_tells_is_a_fold_of_the_log(stack: Stack, ensemble: tuple[list[CondorJob], BasicJob, list[str]]) -> None:
    jobs, reporting, _ = ensemble
    endpoints = stack.endpoints()
    records, partitions = read_topic(endpoints.kafka_bootstrap, topics.JOBS)
    states: dict[str, Job] = {}
    history: dict[str, list[tuple[str, str, str]]] = {}
    for record in records:
        event = decode(record, partitions)
        states[event.key], verdict = evolve(states.get(event.key) or initial_state(event.key), event)
        history.setdefault(event.key, []).append((str(record.position), event.type, verdict.outcome.value))
    missing = [job.name for job in (*jobs, reporting) if job.id not in history]
    assert missing == [], f"not in the log, which has {len(records)} records in {partitions} partitions"
    differing = [job.name for job in (*jobs, reporting) if told(job) != history[job.id]]
    assert differing == []
    for job in (*jobs, reporting):
        job.refresh()
        assert (job.cached_status, job.run) == (states[job.id].display_status, states[job.id].run)
    outcomes = Counter(outcome for entries in history.values() for _, _, outcome in entries)
    assert outcomes[Outcome.APPLIED.value] > 0
    print(f"\n{len(records)} records, verdicts {dict(outcomes)}, killed with -9: {', '.join(VICTIMS)}")


def submit(manager: JobManager, name: str, script: Path) -> CondorJob:
    """Create and execute; repeated after errors until it is certain. The job's own keys make that safe."""
    job = manager.create_job(name, job_type="CONDOR", scheduler="local-condor", remote_input_files=[str(script)])
    job.set_attribute("executable", script.name)

    def done() -> bool:
        try:
            job.save()
            if job.refresh().run == 0:
                job.execute()
        except JobledgerError:
            return bool(job.id) and _begun(job)
        return True

    eventually(done, timeout_s=120, interval_s=0.5)
    return job


def _begun(job: Any) -> bool:
    try:
        return bool(job.refresh().run > 0)
    except JobledgerError:
        return False


def report_until(stop: threading.Event, job: BasicJob, acked: list[str]) -> None:
    """Report progress again and again; note where each acknowledged report stands. What was not acknowledged may or may not be there."""
    n = 0
    while not stop.is_set():
        n += 1
        try:
            report = {"status": "Running", "message": f"step {n}", "progress": n % 100 / 100}
            answer = job._connection.jobs.post(f"/update-job-status/{job.id}/", report, idempotency_key="")
        except JobledgerError:
            stop.wait(0.2)
            continue
        assert answer["success"] is True
        acked.append(answer["position"])
        stop.wait(0.05)


def kill_and_wait(stack: Stack, part: str) -> None:
    """kill -9, then wait until the supervisor has it ready again under another pid."""
    before = stack.status().part(part)
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)

    def back() -> bool:
        now = stack.status().part(part)
        return now.phase is Phase.READY and now.pid not in (None, before.pid) and now.restarts > before.restarts

    eventually(back, timeout_s=90)


def told(job: Any) -> list[tuple[str, str, str]]:
    entries = [msgspec.structs.asdict(entry) for entry in job.history()]
    return [(entry["position"], entry["type"], entry["verdict"]) for entry in entries]
