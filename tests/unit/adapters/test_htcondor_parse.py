"""What rows that a real access point gave are taken to say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobledger_contracts.job_events import Resources
from jobledger_contracts.statuses import Status
from jobledger_schedulers.adapters.htcondor.parse import hold_reason, judge, missing_procs, token_facts, version_of, waiting_for_files
from jobledger_schedulers.adapters.htcondor.resources import resources_of
from jobledger_schedulers.adapters.port import Observation

CAPTURED = json.loads((Path(__file__).parents[2] / "data" / "htcondor" / "jobs-23.9.6.json").read_text())["runs"]


def seen(name: str, **changes: Any) -> Observation:
    rows = CAPTURED[name]
    judged = judge([{**row, **changes} for row in rows["queue"]], [{**row, **changes} for row in rows["history"]])
    (observation,) = judged.values()
    return observation


@pytest.mark.parametrize(
    ("name", "status", "restarts", "says"),
    [
        ("spooling", Status.SUBMITTED, 0, "its input files are on their way"),
        ("idle", Status.SUBMITTED, 0, "waiting for a machine"),
        ("running", Status.RUNNING, 0, "running on slot1_"),
        ("suspended", Status.PAUSED, 0, "suspended"),
        ("held", Status.PAUSED, 1, "held on request: wait for data (by user alice)"),
        ("policy", Status.PAUSED, 0, "held by the job's own policy (periodic_hold or on_exit_hold): enough seen"),
        ("too_long", Status.PAUSED, 1, "held because it ran longer than its allowed execute duration"),
        ("no_output", Status.PAUSED, 1, "held because its output files could not be brought back"),
        ("cannot_start", Status.PAUSED, 1, "held because the program could not be started (No such file or directory)"),
        ("removed", Status.ABORTED, 1, "not needed (by user alice)"),
        ("complete", Status.COMPLETE, 0, "ended with exit code 0"),
        ("failed", Status.ERROR, 0, "ended with exit code 3"),
        ("signalled", Status.ERROR, 0, "ended by signal 9 (SIGKILL)"),
        ("removed_after_end", Status.ERROR, 0, "ended with exit code 4"),
        ("retrieved", Status.COMPLETE, 0, "ended with exit code 0"),
        ("mixed", Status.VARIOUS, 0, "2 processes: 1 Complete, 1 Running"),
        ("several", Status.VARIOUS_COMPLETE, 0, "3 processes: 1 Complete, 2 Error; process 1: ended with exit code 1"),
    ],
)
def test_captured_rows_are_judged(name: str, status: Status, restarts: int, says: str) -> None:
    observation = seen(name)
    assert (observation.status, observation.restarts) == (status, restarts)
    assert observation.message.startswith(says)
    json.dumps(observation.evidence)


def test_exit_code_and_signal_exclude_one_another() -> None:
    assert (seen("failed").exit_code, seen("failed").exit_signal) == (3, None)
    assert (seen("signalled").exit_code, seen("signalled").exit_signal) == (None, 9)


def test_results_wait_only_in_the_queue_and_only_until_they_are_retrieved() -> None:
    ready = {
        name: seen(name).results_ready for name in ("complete", "several", "mixed", "just_retrieved", "retrieved", "removed", "running")
    }
    assert ready == {
        "complete": True,
        "several": True,
        "mixed": False,
        "just_retrieved": False,
        "retrieved": False,
        "removed": False,
        "running": False,
    }


@pytest.mark.parametrize(("status", "starts", "restarts"), [(1, 0, 0), (1, 2, 2), (2, 0, 0), (2, 1, 0), (2, 3, 2), (7, 2, 1), (6, 1, 0)])
def test_restarts_count_executions_that_are_over(status: int, starts: int, restarts: int) -> None:
    assert seen("running", JobStatus=status, NumJobStarts=starts).restarts == restarts


def test_lingering_hold_reason_of_a_running_job_means_nothing() -> None:
    assert seen("running", HoldReasonCode=1, HoldReason="of long ago").status is Status.RUNNING


def test_another_exit_code_may_be_success() -> None:
    assert seen("failed", JobSuccessExitCode=3).status is Status.COMPLETE


def test_ad_without_exit_is_an_error_and_does_not_break() -> None:
    row = {key: value for key, value in CAPTURED["complete"]["queue"][0].items() if key not in ("ExitCode", "ExitBySignal")}
    (observation,) = judge([row]).values()
    assert observation.status is Status.ERROR


def test_unknown_status_is_other() -> None:
    assert seen("running", JobStatus=11).status is Status.OTHER


def test_processes_that_agree_give_their_status() -> None:
    rows = [{**row, "ExitCode": 0} for row in CAPTURED["several"]["queue"]]
    (observation,) = judge(rows).values()
    assert (observation.status, observation.exit_code, observation.evidence["counts"]) == (Status.COMPLETE, 0, {"Complete": 3})


def test_processes_are_put_together_from_queue_and_history() -> None:
    first, *others = CAPTURED["several"]["queue"]
    assert missing_procs(others) == {first["JobledgerRunId"]}
    assert judge(others)[first["JobledgerRunId"]].status is not Status.VARIOUS_COMPLETE
    assert judge(others, [first])[first["JobledgerRunId"]].status is Status.VARIOUS_COMPLETE


def test_the_first_of_two_submissions_counts() -> None:
    (row,) = CAPTURED["running"]["queue"]
    again = {**CAPTURED["complete"]["queue"][0], "JobledgerRunId": row["JobledgerRunId"], "ClusterId": row["ClusterId"] + 1}
    (observation,) = judge([again, row]).values()
    assert observation.status is Status.RUNNING
    assert observation.evidence["also_submitted_as"] == [row["ClusterId"] + 1]


def test_runs_that_wait_for_files_which_we_do_not_send_are_told() -> None:
    (row,) = CAPTURED["half_submitted"]["queue"]
    assert waiting_for_files([row], set()) == [row]
    assert waiting_for_files([row], {row["JobledgerRunId"]}) == []
    assert waiting_for_files([{**row, "StageInFinish": row["QDate"]}], set()) == []
    assert waiting_for_files([{**row, "HoldReasonCode": 1}], set()) == []


def test_half_submitted_run_that_was_removed_never_was() -> None:
    assert judge([], CAPTURED["half_submitted"]["history"]) == {}


def test_rows_of_others_are_passed_over() -> None:
    assert judge([{"ClusterId": 1, "ProcId": 0, "JobStatus": 2}, {"JobledgerRunId": 7, "ClusterId": 1}]) == {}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"HoldReasonCode": 34, "HoldReasonSubCode": 102},
            "held because it used more memory or disk than it asked for (memory: ",
        ),
        ({"HoldReasonCode": 999, "HoldReason": "new"}, "held (code 999): new"),
        ({}, "held"),
    ],
)
def test_hold_reasons_are_plain_words(row: dict[str, Any], words: str) -> None:
    assert hold_reason(row).startswith(words)


def test_version_is_read_off() -> None:
    assert version_of("$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6+dfsg-2.1+b10 $") == "23.9.6"
    assert version_of("something else") == "something else"


def test_token_tells_whose_it_is_and_not_its_signature() -> None:
    # {"alg":"HS256"} . {"sub":"alice@test.pool","iss":"test.pool","exp":1000} . signature
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZUB0ZXN0LnBvb2wiLCJpc3MiOiJ0ZXN0LnBvb2wiLCJleHAiOjEwMDB9.c2VjcmV0"
    facts = token_facts(token, datetime(2026, 1, 1, tzinfo=UTC))
    assert facts == "the token is alice@test.pool's, signed by test.pool, and expired 1970-01-01 00:16:40 UTC"
    assert token_facts("garbage", datetime.now(UTC)) == "the token is no IDTOKEN"
    assert token_facts("a.b.c", datetime.now(UTC)) == "the token is no IDTOKEN"
    assert token_facts("", datetime.now(UTC)) == "there is no token"


def test_a_job_that_its_own_limit_removed_is_an_error_and_one_that_somebody_removed_is_not() -> None:
    held = {
        "JobStatus": 3,
        "LastHoldReason": "Failed to execute",
        "LastHoldReasonCode": 6,
        "LastHoldReasonSubCode": 2,
        "JobledgerHoldLimit": 60,
    }
    given_up = seen("removed", **held, RemoveReason="held for longer than the job allows")
    assert given_up.status is Status.ERROR
    assert given_up.message == (
        "given up after 60 s: held because the program could not be started (No such file or directory): Failed to execute [hold code 6.2]"
    )
    assert seen("removed", **held, RemoveReason="via condor_rm (by user alice)").status is Status.ABORTED


def test_an_eviction_says_why_and_a_hold_is_none() -> None:
    evicted = seen("idle", NumJobStarts=1, VacateReason="the machine was needed", VacateReasonCode=1004)
    assert (evicted.message, evicted.restarts) == ("waiting for a machine again: the machine was needed", 1)
    released = seen("idle", NumJobStarts=1, VacateReason="by user alice", VacateReasonCode=1, LastHoldReasonCode=1)
    assert released.message == "waiting for a machine again"


@pytest.mark.parametrize(("value", "progress"), [(0.4, 0.4), (1, 1.0), (0, 0.0), (1.5, 0.0), (-1, 0.0), (True, 0.0), ("x", 0.0)])
def test_progress_is_what_the_job_says_when_it_can_be_one(value: Any, progress: float) -> None:
    assert seen("running", ChirpJobledgerProgress=value).progress == progress
    assert seen("running").progress is None


def test_progress_of_several_processes_is_their_mean() -> None:
    rows = [{**row} for row in CAPTURED["mixed"]["queue"]]
    next(row for row in rows if row["JobStatus"] == 2)["ChirpJobledgerProgress"] = 0.5
    (observation,) = judge(rows, CAPTURED["mixed"]["history"]).values()
    assert observation.progress == 0.75


def test_processes_that_are_not_to_be_seen_keep_a_run_from_ending() -> None:
    rows = CAPTURED["several"]["queue"] + CAPTURED["several"]["history"]
    good = {**next(row for row in rows if row["ProcId"] == 0), "TotalSubmitProcs": 3}
    (observation,) = judge([], [good]).values()
    assert (observation.status, observation.results_ready) == (Status.VARIOUS, False)
    assert observation.message.startswith("3 processes: 1 Complete, 2 Pending")
    (observation,) = judge([], [{**good, "ProcId": number} for number in range(3)]).values()
    assert observation.status is Status.COMPLETE


def test_times_of_processes_add_up_and_sizes_do_not() -> None:
    one = {
        "RequestCpus": 2,
        "RequestMemory": 64,
        "RequestDisk": "/Expr(DiskUsage)/",
        "DiskProvisioned": 2048,
        "RemoteUserCpu": 3.0,
        "CumulativeRemoteUserCpu": 5.0,
        "ResidentSetSize": 1000,
        "RemoteWallClockTime": 10.0,
        "LastRemoteHost": "slot1@a",
    }
    two = {**one, "RequestMemory": 128, "ResidentSetSize": 500, "RemoteHost": "slot1@b", "RemoteSysCpu": -1}
    assert resources_of([one, two]) == Resources(
        cpus_asked=2,
        cpu_user_s=10,
        memory_asked_bytes=128 * 2**20,
        memory_used_bytes=1000 * 2**10,
        disk_asked_bytes=2 * 2**20,
        wall_s=20,
        hosts=["slot1@a", "slot1@b"],
    )
    assert resources_of([{}]) == Resources()
    shadow_still_there = {"JobStatus": 4, "RemoteWallClockTime": 10.0, "ShadowBday": 1000, "EnteredCurrentStatus": 1007}
    assert resources_of([shadow_still_there]).wall_s == 17
