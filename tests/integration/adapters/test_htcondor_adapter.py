"""The HTCondor adapter on a real pool: what users say reaches the program unchanged, and nothing that goes wrong is mistaken."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobledger_contracts.job_events import CondorSpec
from jobledger_contracts.statuses import Status
from jobledger_devstack import Stack
from jobledger_devstack.condor import binaries_of, run_condor
from jobledger_devstack.layout import default_cache
from jobledger_devstack.users import ensure_users
from jobledger_schedulers.adapters.htcondor import selection
from jobledger_schedulers.adapters.htcondor.adapter import HTCondorAdapter
from jobledger_schedulers.adapters.port import (
    AuthenticationFailed,
    Handle,
    Observation,
    OutcomeUnknown,
    RunSpec,
    SubmitRefused,
    Unreachable,
)
from tests.integration.adapters.conftest import new_run
from tests.support.eventually import eventually_async
from tests.support.pools import condor_settings

pytestmark = [pytest.mark.anyio, pytest.mark.stack]

WAIT_S = 60.0
SHOW = """#!/bin/sh
for a in "$@"; do printf '[%s]' "$a"; done
printf '\\n%s\\n' "$SITE"
cat "$JOBLEDGER_CREDENTIAL_FILE"
stat -c %a "$JOBLEDGER_CREDENTIAL_FILE"
cat in.txt tree/leaf.txt
echo made > made.txt
"""


@asynccontextmanager
async def opened(pool: Stack, private_dir: Path, **settings: Any) -> AsyncIterator[HTCondorAdapter]:
    adapter = HTCondorAdapter(condor_settings(pool, private_dir, **settings))
    try:
        yield adapter
    finally:
        await adapter.close()


def shell(script: str, folder: Path = Path("/"), credential: str = "", **condor: Any) -> RunSpec:
    spec = CondorSpec(executable="/bin/sh", arguments=["-c", script], **condor)
    return RunSpec(run_id=new_run(), job_name="integration", condor=spec, input_dir=folder, credential=credential)


async def until(adapter: HTCondorAdapter, run: str, wanted: Callable[[Observation], bool]) -> Observation:
    last: list[Observation] = []

    async def look() -> bool:
        last[:] = await adapter.observe([run])
        return wanted(last[0])

    wait: Any = eventually_async
    try:
        await wait(look, WAIT_S, 0.1)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from error
    return last[0]


async def test_the_program_gets_exactly_what_the_user_said(pool: Stack, tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    (inputs / "data" / "tree").mkdir(parents=True)
    (inputs / "show.sh").write_text(SHOW)
    (inputs / "data" / "in.txt").write_text("input\n")
    (inputs / "data" / "tree" / "leaf.txt").write_text("leaf\n")
    arguments = [
        "a b",
        "it's",
        'say "hi"',
        "",
        "$HOME",
        "$$x",
        "$(x)",
        "$ENV(PATH)",
        "back\\",
        "é",
        "#1",
        "p$(Process)",
        "%d",
        "{x}",
        "`id`",
        "*",
    ]
    run = new_run()
    spec = RunSpec(
        run_id=run,
        job_name='a "name" with $(x) and ünicode',
        condor=CondorSpec(
            executable="show.sh",
            arguments=arguments,
            environment={"SITE": 'it\'s $(here) "quoted"'},
            input_files=["data/in.txt", "data/tree"],
            attributes={"+Basin": 'Rhein "upper" $(x)', "request_memory": "64 MB"},
        ),
        input_dir=inputs,
        credential="jlr_hush",
    )
    async with opened(pool, tmp_path / "private") as adapter:
        (answer,) = await adapter.submit([spec])
        assert isinstance(answer, Handle), answer
        assert not list((tmp_path / "private" / "runs").glob("*")), "credentials are not kept"
        seen = await until(adapter, run, lambda o: o.results_ready)
        assert seen.status is Status.COMPLETE
        (row,) = await adapter._bindings.rows("query", constraint=f"ClusterId == {seen.ref}", projection=["Basin", "JobBatchName"])
        assert (row["Basin"], row["JobBatchName"]) == ('Rhein "upper" $(x)', 'a "name" with $(x) and ünicode')
        collected = (await adapter.collect([run], lambda _: tmp_path / "out"))[run]
    shown = (tmp_path / "out" / "stdout.txt").read_text().splitlines()
    expected = "".join(f"[{argument}]" for argument in arguments).replace("$(Process)", "0")
    assert shown == [expected, 'it\'s $(here) "quoted"', "jlr_hush", "600", "input", "leaf"]
    assert collected.files == ["condor.log", "made.txt", "stderr.txt", "stdout.txt"], "the credential stays where it was"
    assert sorted(path.name for path in inputs.iterdir()) == ["data", "show.sh"], "the inputs' folder is left as it was"


async def test_secrets_are_in_no_command_line_and_in_private_files(pool: Stack, tmp_path: Path) -> None:
    async with opened(pool, tmp_path / "private") as adapter:
        await adapter.ping()
        token = (tmp_path / "private" / "tokens" / "token").read_text().strip()
        (pid,) = adapter.pids().values()
        child = psutil.Process(pid)
        assert token not in " ".join(child.cmdline())
        assert token not in str(child.environ())
        assert (tmp_path / "private").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "private" / "tokens" / "token").stat().st_mode & 0o777 == 0o600


async def test_links_that_lead_out_are_refused(pool: Stack, tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    (inputs / "folder").mkdir(parents=True)
    (inputs / "link").symlink_to("/etc/hostname")
    (inputs / "folder" / "deep").symlink_to("/etc/hostname")
    async with opened(pool, tmp_path / "private") as adapter:
        answers = await adapter.submit([shell("true", inputs, input_files=[name]) for name in ("link", "folder", "absent")])
    assert [type(answer) for answer in answers] == [SubmitRefused] * 3
    assert "leads out" in answers[0].message  # type: ignore[union-attr]


async def test_processes_of_one_run_are_one_run(pool: Stack, tmp_path: Path) -> None:
    spec = shell("echo $(Process) > n.txt; exit $(Process)", num_jobs=2)
    async with opened(pool, tmp_path / "private") as adapter:
        await adapter.submit([spec])
        seen = await until(adapter, spec.run_id, lambda o: o.results_ready)
        assert (seen.status, seen.evidence["counts"]) == (Status.VARIOUS_COMPLETE, {"Complete": 1, "Error": 1})
        collected = (await adapter.collect([spec.run_id], lambda _: tmp_path / "out"))[spec.run_id]
        assert [name for name in collected.files if name.endswith("n.txt")] == ["process-0/n.txt", "process-1/n.txt"]

        # One by one they leave the queue for the history; what is said stays the same.
        seen = await until(adapter, spec.run_id, lambda o: o.evidence.get("StageOutFinish") is not None)
        assert seen.status is Status.VARIOUS_COMPLETE


async def test_runs_of_others_with_our_ids_do_not_count(pool: Stack, tmp_path: Path) -> None:
    spec = shell("sleep 60")
    async with opened(pool, tmp_path / "a") as ours, opened(pool, tmp_path / "b", identity="mallory") as theirs:
        await theirs.submit([spec])
        (seen,) = await ours.observe([spec.run_id])
        assert seen.gone
        await ours.stop([spec.run_id], "not ours to stop")
        assert not (await theirs.observe([spec.run_id]))[0].gone
        await theirs.stop([spec.run_id], "enough")


async def test_a_hold_right_after_submission_holds(pool: Stack, tmp_path: Path) -> None:
    spec = shell("sleep 60")
    async with opened(pool, tmp_path / "private") as adapter:
        await adapter.submit([spec])
        await adapter.hold([spec.run_id], "at once")
        seen = await until(adapter, spec.run_id, lambda o: o.status is Status.PAUSED)
        assert "at once" in seen.message
        await adapter.stop([spec.run_id], "enough")


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("garbage", "the token is no IDTOKEN"),
        ("", "there is no token"),
        (
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIiwiaXNzIjoiYiIsImV4cCI6MTAwMH0.c2VjcmV0",
            "the token is a's, signed by b, and expired 1970-01-01",
        ),
    ],
)
async def test_a_bad_token_is_told_in_plain_words(pool: Stack, tmp_path: Path, token: str, words: str) -> None:
    async with opened(pool, tmp_path / "private", token=token) as adapter:
        with pytest.raises(AuthenticationFailed, match="does not let us in") as told:
            await adapter.ping()
        assert words in str(told.value)
        with pytest.raises(AuthenticationFailed):
            await adapter.submit([shell("true")])


async def refused(pool: Stack, folder: Path, token: str) -> AuthenticationFailed:
    """Come anew with a token, as often as it takes until we are not let in."""

    async def kept_out() -> AuthenticationFailed | None:
        async with opened(pool, folder / new_run(), token=token) as adapter:
            try:
                await adapter.ping()
            except AuthenticationFailed as error:
                return error
        return None

    wait: Any = eventually_async
    told: AuthenticationFailed = await wait(kept_out, 30, 0.5)
    return told


async def test_a_token_that_expires_is_told_with_its_time(pool: Stack, tmp_path: Path) -> None:
    told = await refused(pool, tmp_path, pool.mint_token("jobledger", 1))
    assert "the token is jobledger@" in str(told)
    assert "and expired" in str(told)


@pytest.fixture
def revoke(pool: Stack) -> Iterator[Callable[[str], None]]:
    """Has the pool revoke a token; it is forgotten again afterwards."""
    config = pool.layout.condor / "condor_config"
    text = config.read_text()

    def configure(more: str) -> None:
        config.write_text(text + more)
        run_condor(pool.layout, binaries_of(pool.layout), ensure_users(default_cache()).jobs, ["condor_reconfig", "-all"])

    def revoking(token: str) -> None:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        configure(f'\nSEC_TOKEN_REVOCATION_EXPR = (jti =?= "{claims["jti"]}")\n')

    yield revoking
    configure("")


async def test_a_revoked_token_is_told_and_other_tokens_are_good(pool: Stack, tmp_path: Path, revoke: Callable[[str], None]) -> None:
    token = pool.mint_token("jobledger", 3600)
    async with opened(pool, tmp_path / "before", token=token) as adapter:
        assert (await adapter.ping()).identity.startswith("jobledger@")
    revoke(token)
    told = await refused(pool, tmp_path, token)
    assert "does not let us in" in str(told)
    async with opened(pool, tmp_path / "after") as adapter:
        assert (await adapter.ping()).identity.startswith("jobledger@")


async def test_nobody_there_is_unreachable(pool: Stack, tmp_path: Path, unused_port: int) -> None:
    import msgspec

    settings = condor_settings(pool, tmp_path / "private")
    adapter = HTCondorAdapter(msgspec.structs.replace(settings, port=unused_port))
    with pytest.raises(Unreachable, match="nothing answers"):
        await adapter.ping()
    await adapter.close()
    adapter = HTCondorAdapter(msgspec.structs.replace(settings, schedd_name="other@nowhere"))
    with pytest.raises(Unreachable, match="no schedd named 'other@nowhere'"):
        await adapter.ping()
    await adapter.close()


@pytest.fixture
def schedd(pool: Stack) -> psutil.Process:
    """The pool's schedd process."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it may have ended, or be a zombie
            if process.name() == "condor_schedd" and str(pool.layout.home) in process.environ().get("CONDOR_CONFIG", ""):
                return process
    raise AssertionError("the pool has no schedd")


async def test_a_schedd_that_hangs_costs_a_child_and_not_a_job(pool: Stack, tmp_path: Path, schedd: psutil.Process) -> None:
    spec, more = shell("sleep 60"), shell("sleep 60")
    async with opened(pool, tmp_path / "private", timeout_s=2) as adapter:
        await adapter.submit([spec])
        before = adapter.pids()
        schedd.suspend()
        try:
            async with asyncio.timeout(30):
                with pytest.raises(Unreachable, match="did not answer within 2 s"):
                    await adapter.observe([spec.run_id])
                with pytest.raises((OutcomeUnknown, Unreachable)):
                    await adapter.submit([more])
        finally:
            schedd.resume()
        assert not any(psutil.pid_exists(pid) for pid in before.values())

        async def answers() -> bool:
            try:
                return not (await adapter.observe([spec.run_id]))[0].gone
            except Unreachable:
                return False

        wait: Any = eventually_async
        await wait(answers, WAIT_S, 0.2)
        await adapter.stop([spec.run_id, more.run_id], "enough")


async def test_a_schedd_that_restarts_is_found_again(pool: Stack, tmp_path: Path, schedd: psutil.Process) -> None:
    spec = shell("sleep 60")
    async with opened(pool, tmp_path / "private") as adapter:
        await adapter.submit([spec])
        schedd.send_signal(signal.SIGKILL)

        async def back() -> bool:
            try:
                return not (await adapter.observe([spec.run_id]))[0].gone
            except Unreachable:
                return False

        wait: Any = eventually_async
        await wait(back, WAIT_S, 0.2)
        await adapter.stop([spec.run_id], "enough")


async def test_a_child_killed_in_the_middle_leaves_the_outcome_unknown_and_known_answers_known(pool: Stack, tmp_path: Path) -> None:
    specs = [shell("sleep 60") for _ in range(150)]
    async with opened(pool, tmp_path / "private") as adapter:
        await adapter.submit([shell("true")])
        submission = asyncio.create_task(adapter.submit(specs))
        wait: Any = eventually_async

        async def some() -> bool:
            return len(adapter._procs) > 20

        await wait(some, WAIT_S, 0.005)
        os.kill(adapter.pids()["transfer"], signal.SIGKILL)
        with pytest.raises(OutcomeUnknown) as told:
            await submission
        known = {answer.run_id for answer in told.value.known}
        assert 20 <= len(known) < len(specs)
        found = await _find(adapter, [spec.run_id for spec in specs])
        assert known <= found.keys()
        assert len(found) <= len(known) + 1
        # Those that are not found are submitted again: once each, in the end.
        rest = [spec for spec in specs if spec.run_id not in found]
        await adapter.submit(rest)
        rows = await adapter._query(next(selection.members([spec.run_id for spec in specs])))
        assert len(rows) == len(specs) == len({row["JobledgerRunId"] for row in rows})
        await adapter.stop([spec.run_id for spec in specs], "enough")


async def _find(adapter: HTCondorAdapter, runs: list[str]) -> dict[str, Observation]:
    found: dict[str, Observation] = {}

    async def look() -> bool:
        try:
            found.update(await adapter.find(runs))
        except Unreachable:
            return False
        return True

    wait: Any = eventually_async
    await wait(look, WAIT_S, 0.5)
    return found


HALF = """
import os, sys
os.environ["CONDOR_CONFIG"] = "/dev/null"
import htcondor2 as h, classad2
collector, schedd, tokens, run, submitter = sys.argv[1:]
for name in ("AUTHENTICATION", "ENCRYPTION"):
    h.param["SEC_CLIENT_" + name] = "REQUIRED"
h.param["SEC_CLIENT_AUTHENTICATION_METHODS"] = "IDTOKENS"
h.param["SEC_TOKEN_DIRECTORY"] = tokens
schedd = h.Schedd(h.Collector(collector).locate(h.DaemonType.Schedd, schedd))
description = {"executable": "/bin/true", "transfer_executable": "false", "should_transfer_files": "YES", "initialdir": "/tmp"}
description |= {"My.JobledgerRunId": classad2.quote(run), "My.JobledgerSubmitter": classad2.quote(submitter)}
schedd.submit(h.Submit(description), spool=True)
"""


async def test_a_run_that_was_handed_over_half_counts_as_not_there(pool: Stack, tmp_path: Path) -> None:
    private, spec = tmp_path / "private", shell("true")
    async with opened(pool, private) as adapter:
        await adapter.ping()
        submitter = (private / "submitter").read_text()
        where = [pool.endpoints().collector, pool.endpoints().schedd_name, str(private / "tokens"), spec.run_id, submitter]
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", HALF, *where], check=True)
        with pytest.raises(Unreachable, match="cannot be told yet"):
            await adapter.find([spec.run_id])
        assert await _find(adapter, [spec.run_id]) == {}
        assert await adapter.find([spec.run_id]) == {}, "nor does its removal count as the run's end"
        (answer,) = await adapter.submit([spec])
        assert isinstance(answer, Handle)
        seen = await until(adapter, spec.run_id, lambda o: o.results_ready)
        assert seen.status is Status.COMPLETE
        await adapter.collect([spec.run_id], lambda _: tmp_path / "out")


async def test_undefined_attributes_are_absent(pool: Stack, tmp_path: Path) -> None:
    spec = shell("sleep 60")
    async with opened(pool, tmp_path / "private") as adapter:
        await adapter.submit([spec])
        (row,) = await adapter._bindings.rows(
            "query", constraint=f'JobledgerRunId == "{spec.run_id}"', projection=["ClusterId", "ExitCode", "NoSuchThing"]
        )
        assert "ExitCode" not in row
        assert "NoSuchThing" not in row
        await adapter.stop([spec.run_id], "enough")


async def test_a_result_that_cannot_be_written_here_stays_there(pool: Stack, tmp_path: Path) -> None:
    spec = shell("echo x > made.txt")
    async with opened(pool, tmp_path / "private") as adapter:
        await adapter.submit([spec])
        await until(adapter, spec.run_id, lambda o: o.results_ready)
        out = tmp_path / "out"
        (out / "made.txt").mkdir(parents=True)  # a folder is where the file should go
        collected = (await adapter.collect([spec.run_id], lambda _: out))[spec.run_id]
        assert collected.error
        assert (await adapter.observe([spec.run_id]))[0].results_ready
        collected = (await adapter.collect([spec.run_id], lambda _: tmp_path / "elsewhere"))[spec.run_id]
        assert (collected.error, "made.txt" in collected.files) == ("", True)
