"""What is written for the parts and read from the machine's tools: pure text in, pure text out."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from uuid import UUID

import pytest

from jobledger_devstack import FetchFailed, MissingPrerequisite
from jobledger_devstack.condor_config import condor_config
from jobledger_devstack.condor_packages import acquire_settings, apt_conf, choose_mirror
from jobledger_devstack.java import parse_version
from jobledger_devstack.jobs_python import locked_requirements, pins
from jobledger_devstack.kafka import new_cluster_id, server_properties
from jobledger_devstack.kafka_jars import Jar, parse_pinned, pinned_text, verify
from jobledger_devstack.layout import Layout
from jobledger_devstack.postgres import postgresql_conf
from jobledger_devstack.services import base_environment, condor_body, condor_ssh_body, dask_body
from jobledger_devstack.ssh import sshd_config

ROOT = Path(__file__).parents[3]


def entries(text: str, separator: str = "=") -> dict[str, str]:
    """name -> value of a `name = value` file."""
    lines = (line.partition(separator) for line in text.splitlines() if separator in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in lines}


def test_broker_listens_on_loopback_only_and_comes_back_soon_after_a_kill() -> None:
    settings = entries(server_properties(data=Path("/data"), broker_port=20001, controller_port=20002))

    assert settings["listeners"] == "BROKER://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:20002"
    assert settings["broker.session.timeout.ms"] == "2000"
    assert settings["auto.create.topics.enable"] == "false"


def test_cluster_id_is_never_taken_for_an_option() -> None:
    ids = iter([UUID(bytes=b"\xfb" + bytes(15)), UUID(int=1)])

    assert new_cluster_id(lambda: next(ids)) == "AAAAAAAAAAAAAAAAAAAAAQ"


@pytest.mark.parametrize("fsync", [True, False])
def test_database_is_careless_only_when_told_so(fsync: bool) -> None:
    settings = entries(postgresql_conf(data=Path("/data"), hba=Path("/hba"), port=20003, fsync=fsync))

    assert settings["port"] == "20003"
    assert settings["listen_addresses"] == "'127.0.0.1'"
    assert settings.get("fsync") == (None if fsync else "off")


def test_pool_lets_nobody_in_without_a_token() -> None:
    marks = {"JOBLEDGER_STACK": "/home/x", "JOBLEDGER_PART": "condor"}
    settings = entries(condor_config(folder=Path("/pool"), root=Path("/root-of-it"), port=20004, slots=3, memory_mb=4096, job_env=marks))

    assert settings["SEC_DEFAULT_AUTHENTICATION"] == "REQUIRED"
    assert settings["SEC_DEFAULT_AUTHENTICATION_METHODS"] == "IDTOKENS"
    assert settings["COLLECTOR_HOST"] == "127.0.0.1:20004"
    assert settings["SHARED_PORT_PORT"] == "20004"
    assert settings["NUM_CPUS"] == "3"
    assert settings["RELEASE_DIR"] == "/root-of-it/usr"
    assert settings["STARTER_JOB_ENVIRONMENT"] == '"JOBLEDGER_STACK=/home/x JOBLEDGER_PART=condor"'


def test_ssh_server_lets_one_account_in_by_key_and_nobody_through() -> None:
    text = sshd_config(folder=Path("/ssh"), root=Path("/root-of-it"), port=20005, username="ada", session={"HOME": "/ssh/home", "A": "b"})
    settings = entries(text, " ")

    assert (settings["ListenAddress"], settings["Port"]) == ("127.0.0.1", "20005")
    assert (settings["AllowUsers"], settings["AuthenticationMethods"], settings["PasswordAuthentication"]) == ("ada", "publickey", "no")
    assert settings["DisableForwarding"] == "yes"
    assert settings["SetEnv"] == "HOME=/ssh/home A=b"
    assert settings["SshdSessionPath"] == "/root-of-it/usr/lib/openssh/sshd-session"


def test_mirror_is_the_machines_own_and_never_the_security_one() -> None:
    lines = [
        "https://packages.example/apt/|stable|main|Example",
        "http://mirror.example/debian-security/|bookworm-security|main|Debian",
        "http://mirror.example/debian/|bookworm|contrib|Debian",
        "http://mirror.example/debian/|bookworm|main|Debian",
    ]

    assert choose_mirror("\n".join(lines)) == "http://mirror.example/debian/"


def test_mirror_of_another_name_is_known_by_its_origin() -> None:
    assert choose_mirror("http://snap.example/archive/2025/|bookworm|main|Debian") == "http://snap.example/archive/2025/"


def test_no_debian_mirror_is_said_plainly() -> None:
    with pytest.raises(MissingPrerequisite, match="JOBLEDGER_DEBIAN_MIRROR"):
        choose_mirror("http://archive.example/ubuntu/|noble|main|Ubuntu")


def test_private_apt_keeps_how_the_machine_downloads() -> None:
    dump = 'APT "";\nAcquire "";\nAcquire::http::Proxy "http://proxy:3128";\nAcquire::IndexTargets::x "y";\nAcquire::Languages "de";\n'

    settings = acquire_settings(dump)

    assert settings == ['Acquire::http::Proxy "http://proxy:3128";']
    text = apt_conf(Path("/private"), settings)
    assert 'Acquire::http::Proxy "http://proxy:3128";' in text
    paths = re.findall(r'"(/[^"]*)"', text)
    assert len(paths) > 5
    assert all(path.startswith("/private") for path in paths)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "25" 2025-09-16', 25),
        ('java version "1.8.0_402"', 8),
        ("command not found", 0),
    ],
)
def test_java_version_is_read_from_what_java_says(text: str, version: int) -> None:
    assert parse_version(text) == version


def test_broker_class_path_is_of_one_kafka_version() -> None:
    jars = parse_pinned(pinned_text())

    assert len(jars) == 46
    assert len({jar.file_name for jar in jars}) == len(jars)
    assert {jar.version for jar in jars if jar.group == "org.apache.kafka"} == {"4.3.1"}
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars)


def test_changed_jar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.jar"
    path.write_bytes(b"as published")
    jar = Jar("group", "some", "1", hashlib.sha256(b"as published").hexdigest())
    verify(path, jar)
    path.write_bytes(b"as changed by somebody")

    with pytest.raises(FetchFailed, match=r"some-1\.jar is not what"):
        verify(path, jar)


def blocks(lock: str) -> dict[str, str]:
    """requirement -> its whole entry."""
    return {entry.split()[0]: entry for entry in re.findall(r"^\S.*\n(?:[ \t].*\n)*", lock, flags=re.MULTILINE)}


def test_jobs_environment_is_a_part_of_the_projects_lock() -> None:
    ours, whole = blocks(locked_requirements()), blocks((ROOT / "requirements.lock").read_text())

    assert {name: whole.get(name) for name in ours} == ours
    assert {name.partition("==")[0] for name in ours} >= {"dask", "distributed", "cloudpickle", "msgpack", "tornado"}


def test_pins_carry_no_hashes() -> None:
    lock = "dask==2026.8.0 \\\n    --hash=sha256:aa\nzipp==4.1.2 ; python_full_version < '3.12' \\\n    --hash=sha256:bb\n"

    assert pins(lock) == "dask==2026.8.0\nzipp==4.1.2 ; python_full_version < '3.12'\n"


def test_services_are_told_everything_by_environment() -> None:
    told = base_environment(Layout(Path("/home/x")), bootstrap="127.0.0.1:1", database="postgresql://u:p@h/d", jobs_port=20005)

    assert told["JOBLEDGER_JOBS_URL"] == "http://127.0.0.1:20005"
    assert told["JOBLEDGER_WORKSPACES_URL"] == "file:///home/x/workspaces"
    assert told["JOBLEDGER_PARTITIONS"] == "4"


def test_local_schedulers_are_introduced_by_address() -> None:
    local = condor_body(20004, "token", Path("/pool/EventLog"))
    assert (local["port"], local["schedd_name"]) == (20004, "ap@")
    by_ssh = condor_ssh_body(20005, "ada", "PRIVATE", "ssh-ed25519 AAAA", Path("/pool/EventLog"))
    assert (by_ssh["name"], by_ssh["transport"], by_ssh["known_host_key"]) == ("local-condor-ssh", "ssh", "ssh-ed25519 AAAA")
    assert (local["event_log"], by_ssh["event_log"]) == ("/pool/EventLog", "/pool/EventLog")
    assert dask_body(20006, 20007)["host"] == "tcp://127.0.0.1:20006"
