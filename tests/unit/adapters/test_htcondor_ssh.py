"""What is said to an access point's shell, what its answers are taken to say, and what travels there."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import tarfile
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_contracts.job_events import CondorSpec, NodeSpec, ScriptSpec, WorkflowSpec
from jobledger_schedulers.adapters import port
from jobledger_schedulers.adapters.htcondor.command import NotSubmittable
from jobledger_schedulers.adapters.htcondor_ssh import script
from jobledger_schedulers.adapters.htcondor_ssh.host_keys import fingerprint, host_keys
from jobledger_schedulers.adapters.htcondor_ssh.parcels import packed, parcel, workflow_parcel
from jobledger_schedulers.adapters.port import Incompatible, Refused, RunSpec, Unreachable

CAPTURED = json.loads((Path(__file__).parents[2] / "data" / "htcondor" / "ssh-23.9.6.json").read_text())
RUN = "01890a5d-ac96-774b-bcce-b302099a8057.1"
OTHER = "01890a5d-ac96-774b-bcce-b302099a8058.2"


def shell(text: str, home: Path, **programs: str) -> bytes:
    """Have a real shell do it, with programs of ours instead of HTCondor's."""
    tools = home / "tools"
    tools.mkdir(exist_ok=True)
    for name, body in programs.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    environment = {"HOME": str(home), "PATH": f"{tools}:/usr/bin:/bin"}
    return subprocess.run(["/bin/sh", "-s"], input=text.encode(), env=environment, capture_output=True, check=True, timeout=30).stdout


def spec(folder: Path, run: str = RUN, credential: str = "", **condor: object) -> RunSpec:
    return RunSpec(run_id=run, job_name="j", condor=CondorSpec(**condor), input_dir=folder, credential=credential)


# -- answers ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("captured", CAPTURED["failures"], ids=lambda captured: captured["tool"])
def test_what_the_tools_say_is_told_apart(captured: dict[str, str]) -> None:
    error = script.failure(captured["text"])
    assert type(error) is getattr(port, captured["kind"])
    assert "\n" not in str(error)
    assert not script.found_nothing(captured["text"])


@pytest.mark.parametrize("text", CAPTURED["found_nothing"])
def test_an_act_that_meets_no_job_is_no_failure(text: str) -> None:
    assert script.found_nothing(text)


def test_the_cluster_and_the_identity_are_read() -> None:
    assert script.cluster_of(CAPTURED["submitted"]) == 5
    assert script.cluster_of("WARNING: the line 'bogus = 7' was unused 12.0 - 12.9") == 12
    assert script.cluster_of("nothing") is None
    assert script.identity_of(CAPTURED["ping"]) == "jobledger-jobs@jobledger.pool"
    assert script.identity_of("WRITE failed!") == ""


def test_nothing_at_all_is_no_ads() -> None:
    assert script.rows_of("\n") == []
    assert script.rows_of('[\n{\n "ClusterId": 1\n}\n]\n') == [{"ClusterId": 1}]
    with pytest.raises(Refused, match="cannot be read"):
        script.rows_of("-- Schedd: ap@")


def test_a_home_that_submit_descriptions_cannot_carry_is_said_to_be_one() -> None:
    assert script.home_of("/home/ada") == "/home/ada"
    for home in ("/home/a b", "/home/a,b", "/home/$(x)", "relative", ""):
        with pytest.raises(Incompatible):
            script.home_of(home)


# -- scripts ----------------------------------------------------------------------------------------------------------------------


def test_sections_are_what_steps_said_whatever_a_login_script_prints(tmp_path: Path) -> None:
    said = shell(script.script("mark", {"one": "echo 1; echo 2", "two": "exit 3; echo never", "three": "printf x"}), tmp_path)
    found = script.sections("mark", b"Welcome!\nmark\n" + said + b"bye\n")
    assert {name: (section.text, section.status) for name, section in found.items() if name != "begin"} == {
        "one": ("1\n2", 0),
        "two": ("", 3),
        "three": ("x", 0),
    }


@given(st.integers(min_value=0, max_value=600))
def test_a_script_that_is_cut_off_does_nothing_or_all(length: int) -> None:
    text = script.script("mark", {"one": "echo done", "two": "echo done"})
    done = subprocess.run(["/bin/sh", "-s"], input=text[:length].encode(), capture_output=True, check=False, timeout=10)
    assert done.stdout.count(b"done") in (0, 2)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80))
def test_words_reach_the_tools_as_they_are(text: str) -> None:
    words = subprocess.run(
        ["/bin/sh", "-c", 'condor_q() { for word; do last=$word; done; printf %s "$last"; }; ' + script.queue(text)],
        capture_output=True,
        check=True,
        timeout=10,
    )
    assert words.stdout == text.encode()


@pytest.mark.parametrize("run", ["../../etc", "a.1", f"{RUN}; rm -rf /", "", "*"])
def test_only_runs_are_named(run: str) -> None:
    for step in (lambda: script.remove([run]), lambda: script.submit("m", [run]), lambda: script.settle("m", [run])):
        with pytest.raises(ValueError, match=r".*"):
            step()


# -- one submission, whatever happens ---------------------------------------------------------------------------------------------

COUNTING = 'echo submitted >> "$HOME/count"; echo "7.0 - 7.0"'


def folder_of(home: Path, run: str = RUN) -> Path:
    folder = home / script.BASE / run
    folder.mkdir(parents=True)
    (folder / script.LOCK).touch()
    (folder / script.DESCRIPTION).write_text("queue 1\n")
    return folder


def submitted(home: Path) -> int:
    return len((home / "count").read_text().splitlines()) if (home / "count").exists() else 0


def test_a_description_is_submitted_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    folder, text = folder_of(tmp_path), script.script("m", {"submit": script.submit("mark", [RUN])})
    first = shell(text, tmp_path, condor_submit=COUNTING)
    second = shell(text, tmp_path, condor_submit=COUNTING)
    assert f"mark {RUN} 0 7.0 - 7.0".encode() in first
    assert f"mark {RUN} 75 taken".encode() in second
    assert submitted(tmp_path) == 1
    assert (folder / script.SUBMITTED).exists()


def test_a_refused_description_can_be_asked_for_again(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    said = shell(
        script.script("m", {"submit": script.submit("mark", [RUN])}), tmp_path, condor_submit="echo 'ERROR: no' >&2; echo two; exit 1"
    )
    assert f"mark {RUN} 1 ERROR: no two".encode() in said
    assert (folder / script.DESCRIPTION).exists()


def test_what_was_settled_is_never_submitted_after(tmp_path: Path) -> None:
    folder_of(tmp_path)
    folder_of(tmp_path, OTHER)
    shell(script.script("m", {"submit": script.submit("mark", [OTHER])}), tmp_path, condor_submit=COUNTING)
    said = shell(script.script("m", {"settle": script.settle("mark", [RUN, OTHER, RUN.replace("8057", "8059")])}), tmp_path).decode()
    late = shell(script.script("m", {"submit": script.submit("mark", [RUN])}), tmp_path, condor_submit=COUNTING)
    assert [line for line in said.splitlines() if line.startswith("mark")] == [f"mark {RUN} revoked", f"mark {OTHER} submitted"]
    assert b"75 taken" in late
    assert submitted(tmp_path) == 1


def test_only_folders_that_we_made_are_removed(tmp_path: Path) -> None:
    folder, foreign = folder_of(tmp_path), tmp_path / script.BASE / OTHER
    foreign.mkdir()
    (foreign / "precious").touch()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (folder / "link").symlink_to(outside)
    found = script.sections("m", shell(script.script("m", {"remove": script.remove([RUN, OTHER])}), tmp_path))
    assert found["remove"].status == 0
    assert (folder.exists(), (foreign / "precious").exists(), (outside / "file").exists()) == (False, True, True)


# -- workflows --------------------------------------------------------------------------------------------------------------------

WORKFLOW = WorkflowSpec(
    nodes=[
        NodeSpec(name="a", condor=CondorSpec(executable="run.sh"), pre_script=ScriptSpec(executable="check.sh")),
        NodeSpec(name="b", condor=CondorSpec(executable="run.sh"), parents=["a"]),
    ],
    max_jobs_total=3,
)
DAGMAN_TOOL = """while [ "$1" != run/workflow.dag ]; do [ "$1" != -insert_sub_file ] || given=$2; echo "$1" >>"$HOME/options"; shift; done
cp "$given" "$1.condor.sub"; echo 'nothing of this is an answer: 1.0 - 1.0'"""


def a_workflow(folder: Path) -> RunSpec:
    for name in ("run.sh", "check.sh"):
        (folder / name).write_text("#!/bin/sh\n")
    return RunSpec(run_id=RUN, job_name="floods", workflow=WORKFLOW, input_dir=folder)


def test_a_workflow_is_submitted_once_with_our_part_in_dagmans_description(tmp_path: Path) -> None:
    folder, text = folder_of(tmp_path), script.script("m", {"submit": script.submit("mark", [RUN])})
    (folder / "run").mkdir()
    for name, content in script.dag_files(a_workflow(tmp_path)).items():
        (folder / name).write_text(content)
    counting = f'cp "$2" "$HOME/description"; {COUNTING}'
    first = shell(text, tmp_path, condor_submit_dag=DAGMAN_TOOL, condor_submit=counting)
    second = shell(text, tmp_path, condor_submit_dag=DAGMAN_TOOL, condor_submit=counting)
    assert f"mark {RUN} 0 7.0 - 7.0".encode() in first
    assert f"mark {RUN} 75 taken".encode() in second
    assert submitted(tmp_path) == 1
    said = (tmp_path / "description").read_text().splitlines()
    assert {f'My.JobledgerRunId = "{RUN}"', "batch_name = floods", "log = run/condor.log"} <= set(said)
    assert "queue" not in said  # condor_submit_dag puts it behind ours
    assert (tmp_path / "options").read_text().split() == ["-no_submit", "-force", "-insert_sub_file", "job.sub", "-maxjobs", "3"]


def test_a_workflow_that_condor_submit_dag_refuses_is_refused_with_its_words(tmp_path: Path) -> None:
    folder_of(tmp_path).joinpath(script.DAG_OPTIONS).write_text("\n")
    text = script.script("m", {"submit": script.submit("mark", [RUN])})
    said = shell(text, tmp_path, condor_submit_dag="echo 'ERROR: bad DAG' >&2; exit 1", condor_submit=COUNTING)
    assert f"mark {RUN} 1 ERROR: bad DAG".encode() in said
    assert submitted(tmp_path) == 0


def test_status_files_are_read_when_they_are_new_and_only_then(tmp_path: Path) -> None:
    run = folder_of(tmp_path) / "run"
    folder_of(tmp_path, OTHER)  # DAGMan has written nothing there yet
    run.mkdir()

    def read(stamp: str = "") -> dict[str, tuple[str, dict[str, str]]]:
        text = script.script("m", {"endings": script.endings("mark", {RUN: stamp, OTHER: ""})})
        return script.endings_of("mark", script.sections("m", shell(text, tmp_path))["endings"].text)

    assert read() == {}
    (run / "node.status").write_text("one")
    (run / "within-d.dag.status").write_text("two")
    stamp, texts = read()[RUN]
    assert texts == {"node.status": "one", "within-d.dag.status": "two"}
    assert read(stamp) == {}
    (run / "new").write_text("three")
    (run / "new").rename(run / "node.status")
    assert read(stamp)[RUN][1]["node.status"] == "three"
    assert script.endings_of("mark", f"mark {RUN} 1.2, node.status !!!\nmark too short") == {}


@pytest.mark.anyio
async def test_the_parcel_of_a_workflow_holds_what_dagman_reads(tmp_path: Path) -> None:
    workspace, staged = tmp_path / "workspace", tmp_path / "staged"
    workspace.mkdir()
    one = a_workflow(workspace)
    with pytest.raises(NotSubmittable, match="JOBLEDGER_DAG_SCRIPTS"):
        workflow_parcel(one, staged, scripts=False)
    stream = b"".join([chunk async for chunk in packed([workflow_parcel(one, staged, scripts=True)])])
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        found = {info.name.removeprefix(f"{RUN}/"): info for info in archive}
    assert {"run/workflow.dag", "submit/1.sub", "inputs/run.sh", "inputs/check.sh", "run/nodes/a", "run/nodes/b"} <= found.keys()
    assert list(found)[-1] == script.DESCRIPTION  # without it nothing can be submitted
    assert all(info.isfile() or info.isdir() for info in found.values())  # no link to what is on this machine
    assert found["inputs/check.sh"].mode == 0o700


# -- what travels -----------------------------------------------------------------------------------------------------------------


def test_the_description_lies_where_its_files_lie(tmp_path: Path) -> None:
    made, count = script.submit_file(
        spec(tmp_path, executable="run.sh", input_files=["a.txt"], num_jobs=3, credential="x"), f"/home/a/{RUN}"
    )
    lines = dict(line.split(" = ", 1) for line in made.splitlines() if " = " in line)
    assert lines["executable"] == f"/home/a/{RUN}/in/run.sh"
    assert lines["transfer_input_files"] == f"/home/a/{RUN}/in/a.txt,/home/a/{RUN}/out/.jobledger-credential"
    assert lines["initialdir"] == f"/home/a/{RUN}/out/process-$(Process)"
    assert lines["My.JobledgerRunId"] == f'"{RUN}"'
    assert "My.JobledgerSubmitter" not in lines
    assert "stream_output" not in lines  # it would lose a program's last words
    assert made.endswith("queue 3\n")
    assert count == 3
    assert str(tmp_path) not in made


def test_what_cannot_be_submitted_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    for condor in ({"executable": "no.sh"}, {"executable": "/bin/cat", "input_files": ["link"]}, {"executable": "/bin/cat\nqueue 9 \\"}):
        with pytest.raises(NotSubmittable):
            parcel(spec(tmp_path, **condor), "/home/a")


async def _archive(*specs: RunSpec) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    stream = b"".join([chunk async for chunk in packed([parcel(one, "/home/a") for one in specs])])
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        return {info.name: (info, getattr(archive.extractfile(info), "read", bytes)()) for info in archive}


@pytest.mark.anyio
async def test_a_parcel_holds_the_run_and_nothing_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "data.bin").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "twin").hardlink_to(tmp_path / "run.sh")
    one = spec(tmp_path, executable="run.sh", input_files=["deep/er", "twin"], num_jobs=2, credential="s3cret")
    found = await _archive(one, spec(tmp_path, OTHER, executable="/bin/true"))
    assert found[f"{RUN}/in/deep/er/data.bin"][1] == bytes(range(256)) * 4096
    assert found[f"{RUN}/in/twin"][1] == b"#!/bin/sh\n"
    assert found[f"{RUN}/out/.jobledger-credential"][1] == b"s3cret\n"
    assert f"{RUN}/out/process-1" in found
    assert list(found)[-1] == f"{OTHER}/job.sub"
    for name, (info, _) in found.items():
        assert (info.uid, info.uname, info.mode & 0o077) == (0, "", 0), name
    assert found[f"{RUN}/in/run.sh"][0].mode == 0o700
    assert found[f"{RUN}/out/.jobledger-credential"][0].mode == 0o600


@pytest.mark.anyio
async def test_a_file_that_vanishes_ends_the_stream_and_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 2**22)
    sent = parcel(spec(tmp_path, executable="/bin/cat", input_files=["a"]), "/home/a")
    (tmp_path / "a").unlink()
    with pytest.raises(Unreachable, match="cannot be read"):
        async for _ in packed([sent]):
            pass


@pytest.mark.anyio
async def test_a_stream_that_nobody_reads_to_its_end_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 2**24)
    stream = packed([parcel(spec(tmp_path, executable="/bin/cat", input_files=["a"]), "/home/a")])
    await anext(stream)
    async with asyncio.timeout(10):
        await stream.aclose()


# -- host keys --------------------------------------------------------------------------------------------------------------------


def test_host_keys_are_read_as_people_paste_them() -> None:
    key = " ".join(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2])
    for text in (key, f"{key} root@host", f"[host]:2222 {key}", f"# host:22 SSH-2.0-OpenSSH\nhost {key}\n\nhost,10.0.0.1 {key}\n"):
        assert host_keys(text) == [key]
    assert host_keys("") == []
    assert fingerprint(key).startswith("SHA256:")


@pytest.mark.parametrize("text", ["yes", "ssh-ed25519", "ssh-ed25519 AAAA", "@cert-authority * ssh-ed25519 AAAA", "ssh-dss AAAAB3Nz"])
def test_what_is_no_host_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"public key|not supported"):
        host_keys(text)


def test_the_path_of_an_event_log_is_one_word_of_the_command() -> None:
    assert script.follow("/var/log/it's; rm -rf ~") == "exec env LC_ALL=C tail -n 0 -F -- '/var/log/it'\"'\"'s; rm -rf ~'"
