"""Submit descriptions: what a user says comes out as data, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_contracts.job_events import CondorSpec
from jobledger_schedulers.adapters.htcondor.command import PROCESS_MACROS, NotSubmittable, Submission, describe, literal, quoted
from jobledger_schedulers.adapters.port import RunSpec

RUN = "0190b5a0-0000-7000-8000-000000000001.2"


def make(*, job_name: str = "Flood", environment: dict[str, str] | None = None, credential: str = "", **condor: Any) -> Submission:
    spec = RunSpec(
        run_id=RUN,
        job_name=job_name,
        condor=CondorSpec(**{"executable": "run.sh", **condor}),
        input_dir=Path("/in"),
        environment=environment or {},
        credential=credential,
    )
    return describe(spec, Path("/private"), "us")


def test_a_whole_description() -> None:
    made = make(
        arguments=["--level", "3 m"],
        environment={"JOBLEDGER_JOB_ID": "x"},
        credential="secret",
        input_files=["data/dem.tif"],
        output_files=["depth.tif"],
        attributes={"request_memory": "2 GB", "+Project": "flood"},
        num_jobs=3,
    )
    assert made.count == 3
    assert made.description == {
        "batch_name": "Flood",
        "executable": "/in/run.sh",
        "transfer_executable": "true",
        "arguments": "\"--level '3 m'\"",
        "environment": '"JOBLEDGER_CREDENTIAL_FILE=.jobledger-credential JOBLEDGER_JOB_ID=x"',
        "initialdir": "/private",
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "output": "stdout.txt",
        "error": "stderr.txt",
        "log": "condor.log",
        "notification": "never",
        "getenv": "false",
        "transfer_input_files": "/in/data/dem.tif,/private/.jobledger-credential",
        "transfer_output_files": "depth.tif",
        "request_memory": "2 GB",
        "My.Project": '"flood"',
        "My.JobledgerRunId": f'"{RUN}"',
        "My.JobledgerJobId": f'"{RUN[:-2]}"',
        "My.JobledgerSubmitter": '"us"',
    }


def test_the_secret_itself_is_nowhere_in_the_description() -> None:
    assert "hush" not in str(make(credential="hush"))


def test_absolute_executable_is_one_of_the_execution_point() -> None:
    made = make(executable="/usr/bin/python3").description
    assert (made["executable"], made["transfer_executable"]) == ("/usr/bin/python3", "false")


@pytest.mark.parametrize(
    ("argument", "written"),
    [
        ("plain", "plain"),
        ("two words", "'two words'"),
        ("it's", "'it''s'"),
        ('say "hi"', '\'say ""hi""\''),
        ("", "''"),
        ("\t", "'\t'"),
        ("$HOME", "$HOME"),
        ("$$x", "$$x"),
        ("$(x)", "$(DOLLAR)(x)"),
        ("$ENV(HOME)", "$(DOLLAR)ENV(HOME)"),
        ("part-$(Process)", "part-$(Process)"),
        ("back\\slash\\", "back\\slash\\"),
    ],
)
def test_arguments_are_quoted(argument: str, written: str) -> None:
    assert make(arguments=[argument]).description["arguments"] == f'"{written}"'


@pytest.mark.parametrize("text", ["a\nqueue 100", "a\rb", "a\0b", "$$(Arch)", "$$ENV(HOME)", "$(DOLLAR)", "$$$(x)", "$$([1+1])"])
def test_what_the_language_would_act_on_is_refused(text: str) -> None:
    for kwargs in (
        {"arguments": [text]},
        {"environment": {"A": text}},
        {"attributes": {"requirements": text}},
        {"attributes": {"+A": text}},
    ):
        with pytest.raises(NotSubmittable):
            make(**kwargs)


@given(st.text())
def test_no_text_leaves_a_macro_or_a_line_behind(text: str) -> None:
    try:
        written = literal(text)
    except NotSubmittable:
        return
    assert not set(written) & set("\n\r\0")
    for macro in (*PROCESS_MACROS, "$(DOLLAR)"):
        written = written.replace(macro, "")
    assert "$(" not in written


@given(st.text(alphabet=st.characters(exclude_characters="\n\r\0$", exclude_categories=["Cs"])))
def test_quoted_text_is_one_string_literal(text: str) -> None:
    body = quoted(text)[1:-1]
    assert body.replace("\\\\", "").replace('\\"', "").count('"') == 0
    assert body.replace('\\"', '"').replace("\\\\", "\\") == text or "\\" in text


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", ".", "http://host/x", "a,b", " a"])
def test_paths_stay_below_the_folder(name: str) -> None:
    with pytest.raises(NotSubmittable):
        make(input_files=[name])
    with pytest.raises(NotSubmittable):
        make(output_files=[name])


def test_files_that_would_overwrite_one_another_are_refused() -> None:
    with pytest.raises(NotSubmittable, match="two input files"):
        make(input_files=["a/x.txt", "b/x.txt"])
    with pytest.raises(NotSubmittable, match="two input files"):
        make(input_files=["sub/run.sh"])


def test_a_limit_of_a_hold_stands_beside_the_users_own_policy() -> None:
    alone = make(hold_limit_s=60).description
    assert alone["periodic_remove"].endswith("time() - EnteredCurrentStatus >= 60)")
    assert alone["My.JobledgerHoldLimit"] == "60"
    both = make(hold_limit_s=0, attributes={"periodic_remove": "NumJobStarts > 3"}).description
    assert both["periodic_remove"].startswith("((NumJobStarts > 3) =?= true) || (JobStatus =?= 5")
    assert both["My.PeriodicRemoveReason"].startswith("ifThenElse((JobStatus =?= 5")
    assert "periodic_remove" not in make().description


def test_processes_are_made_late_only_where_no_files_are_spooled() -> None:
    with pytest.raises(NotSubmittable, match="ssh can"):
        make(attributes={"max_materialize": 5})
    spec = RunSpec(
        run_id=RUN, job_name="many", condor=CondorSpec(executable="/bin/true", attributes={"max_materialize": 5}), input_dir=Path("/in")
    )
    assert describe(spec, Path("/p"), "", spools=False).description["max_materialize"] == "5"
    bad = CondorSpec(executable="/bin/true", attributes={"max_idle": "5\n+Owner=1"})
    with pytest.raises(NotSubmittable):
        describe(RunSpec(run_id=RUN, job_name="many", condor=bad, input_dir=Path("/in")), Path("/p"), "", spools=False)


def test_the_credential_is_no_output() -> None:
    with pytest.raises(NotSubmittable, match="credential"):
        make(output_files=[".jobledger-credential"])


_RESERVED = """
executable arguments environment getenv initialdir transfer_input_files transfer_output_remaps log queue output_destination
should_transfer_files leave_in_queue x509userproxy include manifest Iwd
+JobledgerRunId My.JobledgerRunId +Owner +TransferOutputRemaps +SUBMIT_Iwd +Iwd MY.Cmd +leaveJobInQueue +a-b +
+PeriodicRemoveReason +ChirpJobledgerProgress
"""


@pytest.mark.parametrize("name", _RESERVED.split())
def test_reserved_attributes_are_refused(name: str) -> None:
    with pytest.raises(NotSubmittable):
        make(attributes={name: "x"})


@pytest.mark.parametrize("universe", ["local", "scheduler", "grid", "Local"])
def test_universes_of_the_access_point_are_refused(universe: str) -> None:
    with pytest.raises(NotSubmittable, match="universe"):
        make(attributes={"universe": universe})


def test_container_images_are_never_files_of_ours() -> None:
    with pytest.raises(NotSubmittable, match="container_image"):
        make(attributes={"container_image": "image.sif"})
    assert make(attributes={"container_image": "/cvmfs/image.sif"}).description["transfer_container"] == "false"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (3, "3"),
        (0.5, "0.5"),
        ("a", '"a"'),
        ('"a"', '"a"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("1 + 1", '"1 + 1"'),
        ("StreamGauge", '"StreamGauge"'),
    ],
)
def test_own_attributes_become_classad_literals(value: Any, written: str) -> None:
    assert make(attributes={"+StreamGauge": value}).description["My.StreamGauge"] == written


def test_bad_environment_name_is_refused() -> None:
    with pytest.raises(NotSubmittable, match="environment variable"):
        make(environment={"A B": "x"})


def test_ours_wins_in_the_environment() -> None:
    made = describe(
        RunSpec(
            run_id=RUN,
            job_name="x",
            condor=CondorSpec(executable="run.sh", environment={"JOBLEDGER_JOB_ID": "forged"}),
            input_dir=Path("/in"),
            environment={"JOBLEDGER_JOB_ID": "real"},
        ),
        Path("/private"),
        "us",
    )
    assert made.description["environment"] == '"JOBLEDGER_JOB_ID=real"'


def test_name_of_many_lines_becomes_one() -> None:
    assert make(job_name="a\n queue 3").description["batch_name"] == "a queue 3"


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(NotSubmittable, match="executable"):
        make(executable="")
