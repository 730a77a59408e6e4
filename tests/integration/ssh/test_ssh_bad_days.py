"""HTCondor by way of SSH on bad days: cut, frozen, impostors, wrong keys. Nothing runs twice, nothing is left, and words are plain."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import psutil
import pytest

from jobledger_contracts.ids import new_job_id, run_id
from jobledger_contracts.job_events import CondorSpec
from jobledger_contracts.statuses import Status
from jobledger_devstack import Stack
from jobledger_schedulers.adapters.htcondor_ssh import script
from jobledger_schedulers.adapters.htcondor_ssh.adapter import HTCondorSshAdapter
from jobledger_schedulers.adapters.htcondor_ssh.fetch import NotFetched, fetch
from jobledger_schedulers.adapters.htcondor_ssh.host_keys import fingerprint, shown_key
from jobledger_schedulers.adapters.htcondor_ssh.link import Link
from jobledger_schedulers.adapters.port import (
    AuthenticationFailed,
    Handle,
    Observation,
    OutcomeUnknown,
    RunSpec,
    SchedulerError,
    SubmitRefused,
    Unreachable,
)
from tests.support.access_point import encrypted_key, folders, ssh_settings
from tests.support.eventually import eventually_async
from tests.support.line import Line
from tests.support.pool import submissions_by_run

pytestmark = [pytest.mark.anyio, pytest.mark.stack]


def a_run(folder: Path, **condor: Any) -> RunSpec:
    run = run_id(new_job_id(int(time.time() * 1000), os.urandom(10)), 1)
    return RunSpec(run_id=run, job_name="bad day", condor=CondorSpec(**condor), input_dir=folder, credential="s3cret")


def sleeping(folder: Path) -> RunSpec:
    return a_run(folder, executable="/bin/sleep", arguments=["60"])


async def arrives(adapter: HTCondorSshAdapter, run: str, *statuses: Status, ready: bool = False) -> Observation:
    last: list[Observation] = []

    async def look() -> bool:
        last[:] = await adapter.observe([run])
        return last[0].status in statuses and last[0].results_ready >= ready

    wait: Any = eventually_async
    await wait(look, 60, 0.1)
    return last[0]


async def looking(adapter: HTCondorSshAdapter, run: str) -> None:
    """Look until it fails."""
    while True:
        await adapter.observe([run])


async def found(adapter: HTCondorSshAdapter, runs: list[str]) -> dict[str, Observation]:
    """Look runs up, as often as it takes."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await adapter.find(runs)
        except SchedulerError as error:
            if not error.retryable or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def ended(adapter: HTCondorSshAdapter, runs: list[str], folder: Path) -> None:
    """Stop runs and take what they left."""
    await adapter.stop(runs, "enough")
    for run in runs:
        await arrives(adapter, run, Status.ABORTED, Status.COMPLETE, Status.ERROR, ready=True)
    await adapter.collect(runs, lambda run: folder / run)


@pytest.mark.timeout(280)
async def test_cut_at_any_moment_of_a_submission_nothing_is_submitted_twice_or_lost(access_point: Stack, tmp_path: Path) -> None:
    endpoints = access_point.endpoints()
    runs: list[str] = []
    unknown = 0
    async with Line(endpoints.ssh_host, endpoints.ssh_port) as line:
        adapter = HTCondorSshAdapter(ssh_settings(access_point, tmp_path, port=line.port))
        try:
            for moment in range(24):
                await found(adapter, [])
                await adapter.ping()
                specs = {spec.run_id: spec for spec in (sleeping(tmp_path) for _ in range(3))}
                runs += specs
                cutting = asyncio.get_running_loop().call_later(0.006 * moment, line.cut)
                missing = dict(specs)
                while missing:
                    try:
                        answers = await adapter.submit(list(missing.values()))
                    except (OutcomeUnknown, Unreachable) as error:
                        unknown += isinstance(error, OutcomeUnknown)
                        there = await found(adapter, list(missing))
                        missing = {run: spec for run, spec in missing.items() if run not in there}
                    else:
                        assert all(isinstance(answer, Handle) for answer in answers), answers
                        missing = {}
                cutting.cancel()
            assert line.cuts > 10
            assert unknown > 0, "no cut fell into a submission"
            submissions = submissions_by_run(access_point)
            assert {run: len(submissions.get(run, [])) for run in runs} == dict.fromkeys(runs, 1)
            await ended(adapter, runs, tmp_path / "out")
        finally:
            await adapter.close()
    assert not set(runs) & set(folders(access_point))


async def test_cut_during_an_upload_it_is_done_again_and_leaves_no_garbage(access_point: Stack, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(os.urandom(4 * 2**20))
    spec, other = a_run(tmp_path, executable="/bin/cat", arguments=["big.bin"], input_files=["big.bin"]), sleeping(tmp_path)
    endpoints = access_point.endpoints()
    async with Line(endpoints.ssh_host, endpoints.ssh_port) as line:
        adapter = HTCondorSshAdapter(ssh_settings(access_point, tmp_path, port=line.port))
        try:
            await adapter.ping()
            line.cut_after(2 * 2**20)
            with pytest.raises(Unreachable):  # and not OutcomeUnknown: it is certain that nothing was submitted
                await adapter.submit([spec, other])
            assert line.cuts == 1
            assert await found(adapter, [spec.run_id, other.run_id]) == {}
            assert not {spec.run_id, other.run_id} & set(folders(access_point))
            assert [type(answer) for answer in await adapter.submit([spec])] == [Handle]
            await arrives(adapter, spec.run_id, Status.COMPLETE, ready=True)
            line.cut_after(10_000)  # in the middle of looking and fetching
            with pytest.raises(Unreachable):
                await looking(adapter, spec.run_id)
            collected = (await adapter.collect([spec.run_id], lambda _: tmp_path / "out"))[spec.run_id]
            assert not collected.error
            assert (tmp_path / "out" / "stdout.txt").read_bytes() == (tmp_path / "big.bin").read_bytes()
        finally:
            await adapter.close()
    assert spec.run_id not in folders(access_point)


async def test_an_attempt_that_nobody_waits_for_is_waited_for_and_then_cannot_happen(access_point: Stack, tmp_path: Path) -> None:
    """The worst case: the connection is lost, and the access point is slow to come to what it was told."""
    adapter, spec = HTCondorSshAdapter(ssh_settings(access_point, tmp_path, timeout_s=15)), sleeping(tmp_path)
    try:
        await adapter.ping()
        await adapter._send(adapter._parcels([spec], {}))
        lock = access_point.layout.ssh / "home" / script.BASE / spec.run_id / script.LOCK
        with lock.open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(Unreachable, match="still under way"):
                await adapter.find([spec.run_id])
        assert await adapter.find([spec.run_id]) == {}
        with pytest.raises(OutcomeUnknown):  # the late attempt finds nothing to submit
            await adapter._submit([spec.run_id], {})
        assert await adapter.find([spec.run_id]) == {}
    finally:
        await adapter.close()
    assert spec.run_id not in submissions_by_run(access_point)


async def test_a_server_with_another_key_is_not_spoken_to(access_point: Stack, tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    adapter = HTCondorSshAdapter(ssh_settings(access_point, tmp_path, known_host_key=other))
    with pytest.raises(AuthenticationFailed) as refused:
        await adapter.ping()
    said = str(refused.value)
    assert fingerprint(other) in said
    assert fingerprint(access_point.endpoints().ssh_host_key) in said
    await adapter.close()


async def test_the_key_that_a_server_shows_can_be_asked_for(access_point: Stack) -> None:
    endpoints = access_point.endpoints()
    shown = await shown_key(endpoints.ssh_host, endpoints.ssh_port)
    assert shown.line == endpoints.ssh_host_key
    assert shown.fingerprint.startswith("SHA256:")


async def test_a_key_with_a_passphrase_lets_us_in(access_point: Stack, tmp_path: Path) -> None:
    key, passphrase = encrypted_key(access_point)
    adapter = HTCondorSshAdapter(ssh_settings(access_point, tmp_path, private_key=key, private_key_pass=passphrase))
    identity = await adapter.ping()
    assert identity.version.startswith("23.")
    assert identity.identity.endswith("@jobledger.pool")
    await adapter.close()


def _other_key() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()


@pytest.mark.parametrize(
    ("what", "kind", "says"),
    [
        ({"private_key_pass": "wrong"}, AuthenticationFailed, "does not open with the given passphrase"),
        ({"private_key_pass": ""}, AuthenticationFailed, "it has a passphrase, and none is given"),
        ({"private_key": "rubbish"}, AuthenticationFailed, "cannot be used"),
        ({"private_key": _other_key()}, AuthenticationFailed, "does not let"),
        ({"private_key": "", "password": "guess"}, AuthenticationFailed, "does not let"),
        ({"username": "nobody-of-this-name"}, AuthenticationFailed, "does not let nobody-of-this-name in"),
        ({"known_host_key": ""}, AuthenticationFailed, "no host key is registered"),
        ({"port": 0, "host": "127.0.0.1"}, Unreachable, ""),
        ({"host": "no-such-host.invalid"}, Unreachable, "cannot be reached"),
    ],
)
async def test_what_is_wrong_is_said_in_plain_words(
    access_point: Stack, tmp_path: Path, unused_port: int, what: dict[str, Any], kind: type[SchedulerError], says: str
) -> None:
    if "private_key_pass" in what:
        what = {"private_key": encrypted_key(access_point)[0], **what}
    if what.get("port") == 0:
        what, says = {"port": unused_port}, f"nothing listens at 127.0.0.1:{unused_port}"
    adapter = HTCondorSshAdapter(ssh_settings(access_point, tmp_path, **what))
    with pytest.raises(kind) as failed:
        await adapter.ping()
    assert says in str(failed.value)
    assert "rubbish" not in str(failed.value)
    assert "guess" not in str(failed.value)
    await adapter.close()


@contextmanager
def frozen(stack: Stack) -> Iterator[None]:
    """The SSH server and all its sessions stand still."""
    server = psutil.Process(stack.status().part("ssh").pid)
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


async def test_a_server_that_stands_still_costs_a_deadline_and_what_was_asked_is_uncertain(access_point: Stack, tmp_path: Path) -> None:
    adapter, spec = HTCondorSshAdapter(ssh_settings(access_point, tmp_path, timeout_s=2)), sleeping(tmp_path)
    fresh = HTCondorSshAdapter(ssh_settings(access_point, tmp_path, timeout_s=2))
    try:
        await adapter.submit([spec])
        with frozen(access_point):
            started = time.monotonic()
            with pytest.raises(Unreachable):
                await adapter.observe([spec.run_id])
            with pytest.raises((OutcomeUnknown, Unreachable)):
                await adapter.stop([spec.run_id], "enough")
            with pytest.raises(Unreachable, match="does not answer in time"):
                await fresh.ping()
            assert time.monotonic() - started < 20
        assert (await found(adapter, [spec.run_id])).keys() == {spec.run_id}
        await ended(adapter, [spec.run_id], tmp_path / "out")
    finally:
        await adapter.close()
        await fresh.close()


async def test_a_command_cut_off_in_the_middle_has_an_unknown_outcome(access_point: Stack, tmp_path: Path) -> None:
    link = Link(ssh_settings(access_point, tmp_path, timeout_s=1))
    try:
        with pytest.raises(OutcomeUnknown, match="no word for 1 s"):
            await link.run("sleep 30", changes=True)
        with pytest.raises(Unreachable):
            await link.run("sleep 30", changes=False)
        assert (await link.run("exit 3", changes=True)).exit_status == 3
        with pytest.raises(SchedulerError, match="more than 1000 bytes"):
            await link.run("head -c 100000 /dev/zero", changes=False, max_bytes=1000)
    finally:
        await link.close()


async def test_output_can_be_followed_while_the_run_goes_on(access_point: Stack, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\necho one; sleep 3; echo two; echo no >&2\n")
    adapter, spec = HTCondorSshAdapter(ssh_settings(access_point, tmp_path)), a_run(tmp_path, executable="run.sh")
    try:
        await adapter.submit([spec])
        await arrives(adapter, spec.run_id, Status.RUNNING)

        async def first() -> bool:
            try:
                return (await adapter.tail(spec.run_id, "stdout", 0, 100)).data == b"one\n"
            except SchedulerError:
                return False

        wait: Any = eventually_async
        await wait(first, 20, 0.1)
        assert (await adapter.observe([spec.run_id]))[0].status is Status.RUNNING
        await arrives(adapter, spec.run_id, Status.COMPLETE, ready=True)
        rest = await adapter.tail(spec.run_id, "stdout", 4, 100)
        assert (rest.data, rest.offset, rest.size) == (b"two\n", 4, 8)
        assert (await adapter.tail(spec.run_id, "stdout", 2, 3)).data == b"e\nt"
        assert (await adapter.tail(spec.run_id, "stderr", 0, 100)).data == b"no\n"
        await ended(adapter, [spec.run_id], tmp_path / "out")
        with pytest.raises(SchedulerError, match="collected already"):
            await adapter.tail(spec.run_id, "stdout", 0, 100)
    finally:
        await adapter.close()


async def test_processes_get_folders_of_their_own(access_point: Stack, tmp_path: Path) -> None:
    arguments = ["-c", "echo $1 > mine.txt; echo out $1", "sh", "$(Process)"]
    spec = a_run(tmp_path, executable="/bin/sh", arguments=arguments, num_jobs=3)
    adapter = HTCondorSshAdapter(ssh_settings(access_point, tmp_path))
    try:
        await adapter.submit([spec])
        await arrives(adapter, spec.run_id, Status.COMPLETE, ready=True)
        collected = (await adapter.collect([spec.run_id], lambda _: tmp_path / "out"))[spec.run_id]
        assert not collected.error
        for number in range(3):
            assert (tmp_path / "out" / f"process-{number}" / "mine.txt").read_text() == f"{number}\n"
            assert (tmp_path / "out" / f"process-{number}" / "stdout.txt").read_text() == f"out {number}\n"
        assert not any("credential" in name for name in collected.files)
    finally:
        await adapter.close()


async def test_what_a_shell_might_take_for_its_own_arrives_as_it_is(access_point: Stack, tmp_path: Path) -> None:
    evil = "$(touch /tmp/jobledger-was-here) `id` ; touch ~/evil ' \" && x"
    (tmp_path / "it's $HOME.txt").write_text("named badly")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside.txt").write_text("inside")
    (tmp_path / "run.sh").write_text('#!/bin/sh\nprintf %s "$1" > said.txt; cat "it\'s \\$HOME.txt" folder/inside.txt\n')
    spec = a_run(tmp_path, executable="run.sh", arguments=[evil], input_files=["it's $HOME.txt", "folder"])
    adapter = HTCondorSshAdapter(ssh_settings(access_point, tmp_path))
    try:
        answers = await adapter.submit([spec])
        if isinstance(answers[0], SubmitRefused):  # the submit language has no way to say $(...): refused is as good
            assert "$(touch" in answers[0].message
            evil = evil.replace("$(touch /tmp/jobledger-was-here)", "$HOME")
            spec = a_run(tmp_path, executable="run.sh", arguments=[evil], input_files=["it's $HOME.txt", "folder"])
            await adapter.submit([spec])
        await adapter.hold([spec.run_id], evil)
        assert evil.replace('"', "'") in (await arrives(adapter, spec.run_id, Status.PAUSED)).message
        await adapter.release([spec.run_id], evil)
        seen = await arrives(adapter, spec.run_id, Status.COMPLETE, Status.ERROR, ready=True)
        assert seen.status is Status.COMPLETE, seen
        await adapter.collect([spec.run_id], lambda _: tmp_path / "out")
        assert (tmp_path / "out" / "said.txt").read_text() == evil
        assert (tmp_path / "out" / "stdout.txt").read_text() == "named badlyinside"
        assert not Path("/tmp/jobledger-was-here").exists()
    finally:
        await adapter.close()


async def test_output_is_fetched_once_within_limits_and_never_through_links(access_point: Stack, tmp_path: Path) -> None:
    settings = ssh_settings(access_point, tmp_path)
    link, local = Link(settings), tmp_path / "local"
    made = (
        'rm -rf "$HOME/fetched"; mkdir -p "$HOME/fetched/deep"; cd "$HOME/fetched" || exit; pwd; echo a > a; echo b > deep/b; ln -s /etc l'
    )
    try:
        remote = (await link.run(made, changes=True)).stdout.decode().strip()
        sftp = await link.sftp()
        with pytest.raises(NotFetched, match="is the limit"):
            await fetch(sftp, remote, local, timeout_s=10, max_bytes=3)
        await fetch(sftp, remote, local, timeout_s=10)
        assert sorted(path.relative_to(local).as_posix() for path in local.rglob("*") if not path.is_dir()) == ["a", "deep/b"]
        before = (local / "a").stat().st_ino
        await link.run(f"echo more >> {remote}/deep/b", changes=True)
        await fetch(sftp, remote, local, timeout_s=10)
        assert (local / "a").stat().st_ino == before
        assert (local / "deep" / "b").read_text() == "b\nmore\n"
        with pytest.raises(NotFetched):
            await fetch(sftp, remote + "-not-there", local, timeout_s=10)
    finally:
        await link.close()
