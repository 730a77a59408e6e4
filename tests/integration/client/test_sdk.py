"""The SDK against the real services, a real HTCondor pool and a real Dask cluster."""

from __future__ import annotations

import threading
import time
import urllib.request
import uuid
from pathlib import Path

import pytest

from jobledger import BasicJob, CondorJob, Connection, Job, JobManager, get_cluster_manager, get_scheduler, list_schedulers
from jobledger.errors import InvalidRequest, NotFound, Refused, ResultUnavailable, TimedOut

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
CONDOR, DASK = "local-condor", "local-dask"


def basic(manager: JobManager, name: str = "a basic job") -> BasicJob:
    job = manager.create_job(name, job_type="BASIC")
    job.execute()
    return job


def test_a_job_is_created_once_however_often_it_is_saved(manager: JobManager) -> None:
    job = manager.create_job("once {id}", job_type="BASIC", extended_properties={"one": 1})
    twin = manager.create_job("once {id}", job_type="BASIC", extended_properties={"one": 1})
    twin.idempotency_key = job.idempotency_key  # what a repeated request after a lost answer looks like
    job.save()
    twin.save()
    assert twin.id == job.id
    assert job.name == f"once {job.id}"
    assert [entry.verdict for entry in job.history()] in (["applied"], ["applied", "duplicate"])


def test_changes_are_kept_and_read_back(manager: JobManager) -> None:
    job = manager.create_job("change me", job_type="BASIC")
    job.save()
    job.description, job.extended_properties["basin"] = "upper", {"area_km2": 12.5}
    job.save()
    again = manager.get_job(job.id)
    assert again is not None
    assert (again.description, again.extended_properties) == ("upper", {"basin": {"area_km2": 12.5}})
    assert type(again) is BasicJob


def test_the_life_of_a_basic_job_is_what_it_reports(manager: JobManager) -> None:
    job = basic(manager)
    assert job.status == "Submitted"
    job.update_status("RUN", message="half way", progress=0.5)
    assert (job.cached_status, job.status_message, job.progress) == ("Running", "half way", 0.5)
    job.status = "Calibrating"
    assert (job.cached_status, job.status_code) == ("Calibrating", "OTH")
    job.update_status("COM")
    assert job.is_terminal
    job.update_status("RUN")
    assert job.cached_status == "Complete"
    last = job.history()[-1]
    assert (last.verdict, last.reason) == ("superseded", "run_ended")


def test_a_refused_request_is_raised_and_stands_in_the_history(manager: JobManager) -> None:
    job = basic(manager)
    with pytest.raises(Refused) as caught:
        job.execute()
    assert caught.value.reason == "already_started"
    last = job.history()[-1]
    assert (last.type, last.verdict, last.reason) == ("ExecuteRequested", "refused", "already_started")


def test_a_callback_needs_nothing_but_its_credential(manager: JobManager) -> None:
    job = basic(manager)
    credential = job.callback_credential(statuses=["Running"], expires_in_s=60)
    assert credential.callback_url == job.callback_url == manager.get_job_status_callback_url(None, job.id)
    assert credential.token not in repr(credential)
    name, _, value = credential.header.partition(": ")
    request = urllib.request.Request(credential.callback_url, b'{"status": "RUN"}', {name: value, "Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert b'"success":true' in answer.read().replace(b" ", b"")
    deadline = time.monotonic() + 20
    while job.status != "Running":
        assert time.monotonic() < deadline
    assert job.history()[-1].actor.startswith("run:")


def test_waiting_ends_with_the_run_and_tells_each_change(manager: JobManager) -> None:
    job = basic(manager)
    seen: list[str] = []
    first = threading.Event()

    def note(changed: Job) -> None:
        seen.append(changed.cached_status)
        first.set()

    other = manager.get_job(job.id)
    assert other is not None

    def report() -> None:
        assert first.wait(30)
        other.update_status("RUN")
        other.update_status("COM")

    reporter = threading.Thread(target=report)
    reporter.start()
    began = time.monotonic()
    assert job.wait(timeout_s=60, on_change=note) == "Complete"
    reporter.join()
    assert (seen[0], seen[-1]) == ("Submitted", "Complete")
    assert time.monotonic() - began < 20


def test_waiting_ends_in_time(manager: JobManager) -> None:
    job = basic(manager)
    began = time.monotonic()
    with pytest.raises(TimedOut, match="Submitted still"):
        job.wait(timeout_s=1.5)
    assert 1.4 < time.monotonic() - began < 5


def test_jobs_of_another_app_are_not_listed(manager: JobManager, connection: Connection) -> None:
    label = f"app_{uuid.uuid4().hex[:8]}"
    own = JobManager(label, connection)
    made = [basic(own, f"job {number}").id for number in range(3)]
    assert [job.id for job in own.list_jobs()] == made
    assert [job.id for job in own.list_jobs(order_by="-id", limit=2)] == made[:0:-1]
    assert [job.id for job in own.list_jobs(filters={"status": ["SUB"], "q": "job 1"})] == [made[1]]
    assert manager.get_job(made[0]) is None
    with pytest.raises(InvalidRequest):
        own.list_jobs(filters={"colour": "red"})


def test_files_go_to_the_workspace_and_come_back(manager: JobManager, tmp_path: Path) -> None:
    job = manager.create_job("files", job_type="BASIC")
    job.save()
    source = tmp_path / "höhe & tiefe.txt"
    source.write_bytes(b"x" * 1_000_000)
    job.upload(source)
    job.upload(source, as_="in/put.txt")
    assert [(file.path, file.size_bytes) for file in job.files()] == [("höhe & tiefe.txt", 1_000_000), ("in/put.txt", 1_000_000)]
    (tmp_path / "here").mkdir()
    assert job.download("in/put.txt", tmp_path / "here").read_bytes() == source.read_bytes()
    with pytest.raises(NotFound):
        job.download("nothing", tmp_path / "here")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["put.txt"]


def test_a_deleted_job_is_gone_from_the_list(manager: JobManager) -> None:
    job = manager.create_job("delete me", job_type="BASIC")
    job.save()
    job.delete()
    assert manager.get_job(job.id) is None


def test_schedulers_are_found_by_name(connection: Connection) -> None:
    names = {scheduler.name: scheduler.type for scheduler in list_schedulers(connection=connection)}
    assert names.items() >= {CONDOR: "condor", DASK: "dask"}.items()
    assert get_scheduler("no-such", connection=connection) is None
    found = get_scheduler(CONDOR, connection=connection)
    assert found is not None
    assert found.check().reachable
    assert get_cluster_manager(connection=connection).get_clusters() == []
    assert not get_cluster_manager(connection=connection).cluster_exists("none")


def test_an_htcondor_job_runs_with_its_files_and_reports_from_inside(manager: JobManager, tmp_path: Path) -> None:
    script = tmp_path / "count.sh"
    script.write_text(
        "#!/bin/sh\n"
        'curl --silent --noproxy "*" -H "Authorization: Bearer $(cat $JOBLEDGER_CREDENTIAL_FILE)" --data "status=RUN&message=counting" '
        '"$JOBLEDGER_CALLBACK_URL"\n'
        'wc -c < "$1" > result.txt\necho "said $2"\n'
    )
    (tmp_path / "input.txt").write_text("12345")
    job = manager.create_job("count", job_type="CONDOR", scheduler=CONDOR, remote_input_files=[script, tmp_path / "input.txt"])
    job.set_attribute("executable", "count.sh")
    job.set_attribute("arguments", ["input.txt", 'with "quotes" and $(Cluster)s'])
    job.execute()
    assert job.wait(timeout_s=180) == "Complete", job.history()
    assert (job.exit_code, job.read("run-1/result.txt").strip()) == (0, b"5")
    assert 'said with "quotes"' in job.get_logs()["stdout.txt"]
    assert job.cluster_id > 0
    assert "counting" in [entry.data.get("message") for entry in job.history()]
    again = manager.get_job(job.id)
    assert isinstance(again, CondorJob)
    assert again.get_attribute("executable") == "count.sh"


def test_an_htcondor_job_that_fails_says_how(manager: JobManager) -> None:
    job = manager.create_job("fail", job_type="CONDOR", scheduler=CONDOR, executable="/bin/sh", arguments=["-c", "echo no >&2; exit 3"])
    job.execute()
    assert job.wait(timeout_s=180) == "Error"
    assert (job.exit_code, job.read("run-1/stderr.txt")) == (3, b"no\n")


def test_an_htcondor_job_is_stopped_on_request(manager: JobManager) -> None:
    job = manager.create_job("sleep", job_type="CONDOR", scheduler=CONDOR, executable="/bin/sleep", arguments=["600"])
    job.execute()
    job.stop("enough")
    assert job.wait(timeout_s=180) == "Aborted"


def test_a_dask_job_runs_a_function_by_name(manager: JobManager) -> None:
    job = manager.create_job("hypot", job_type="DASK", scheduler=DASK, function="math:hypot", args=[3, 4])
    job.execute()
    assert job.wait(timeout_s=120) == "Complete", job.history()
    assert (job.result(), job.done(), job.key) == (5.0, True, job.scheduler_job_ref)


def test_a_dask_job_runs_what_is_made_here(manager: JobManager) -> None:
    from dask.delayed import delayed

    def square(number: int) -> int:
        return number * number

    job = manager.create_job("squares", job_type="DASK", scheduler=DASK)
    job.execute(delayed(sum)([delayed(square)(number) for number in range(5)]))
    assert job.wait(timeout_s=120) == "Complete", job.history()
    assert job.result() == 30


def test_a_dask_result_that_is_no_json_needs_consent(manager: JobManager) -> None:
    job = manager.create_job("a set", job_type="DASK", scheduler=DASK)
    job.execute(lambda: {1, 2})
    assert job.wait(timeout_s=120) == "Complete", job.history()
    with pytest.raises(ResultUnavailable, match="allow_pickle"):
        job.result()
    assert job.result(allow_pickle=True) == {1, 2}


def test_a_dask_job_that_raises_is_an_error(manager: JobManager) -> None:
    job = manager.create_job("zero", job_type="DASK", scheduler=DASK)
    job.execute(lambda: 1 / 0)
    assert job.wait(timeout_s=120) == "Error"
    with pytest.raises(ResultUnavailable, match="ZeroDivisionError"):
        job.result()


def test_several_jobs_are_waited_for_at_once(manager: JobManager) -> None:
    jobs = [
        manager.create_job(f"many {number}", job_type="DASK", scheduler=DASK, function="math:sqrt", args=[number]) for number in range(6)
    ]
    for job in jobs:
        job.execute()
    manager.wait(jobs, timeout_s=120)
    assert [job.result() for job in jobs] == [number**0.5 for number in range(6)]
