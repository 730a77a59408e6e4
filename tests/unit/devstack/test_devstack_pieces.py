"""The stack's small mechanisms, each alone: options, ports, cache, files, users, what is shown."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from rich.console import Console

from jobledger_devstack import Endpoints, MissingPrerequisite, NotRunning, PartStatus, Phase, Snapshot, Stack, StackError, StackOptions
from jobledger_devstack.cache import ensure_entry
from jobledger_devstack.commands import down, logs, status, up
from jobledger_devstack.files import ensure_secret, tail, write_atomically
from jobledger_devstack.jobs_python import find_interpreter
from jobledger_devstack.layout import Layout
from jobledger_devstack.options import PARTS, load, merge, resolve, save
from jobledger_devstack.ports import FIRST, LAST, Ports, bindable
from jobledger_devstack.services import introduce
from jobledger_devstack.users import User
from jobledger_devstack.view import addresses, duration, table


def test_what_is_asked_now_wins_and_the_rest_is_remembered(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert load(layout) == StackOptions()
    save(layout, merge(load(layout), StackOptions(slots=3, fsync=False)))

    merged = merge(load(layout), StackOptions(slots=5))

    assert (merged.slots, merged.fsync, merged.dask_workers) == (5, False, None)
    assert layout.options.stat().st_mode & 0o777 == 0o600


def test_requirement_files_are_remembered_by_their_whole_path(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    save(layout, merge(StackOptions(), StackOptions(job_requirements=(Path("wntr.txt"),))))

    assert load(layout).job_requirements == (Path.cwd() / "wntr.txt",)


def test_defaults_are_everything_and_at_least_two_slots() -> None:
    resolved = resolve(StackOptions(), cores=1)

    assert resolved.parts == frozenset(PARTS)
    assert (resolved.slots, resolved.dask_workers, resolved.dask_threads, resolved.fsync) == (2, 1, 2, True)


def test_database_that_is_there_replaces_ours() -> None:
    assert not resolve(StackOptions(database_url="postgresql://h/d")).has("postgres")
    assert resolve(StackOptions(parts=frozenset({"kafka", "services"}), database_url="postgresql://h/d")).has("services")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (StackOptions(parts=frozenset({"redis"})), "no part redis"),
        (StackOptions(parts=frozenset({"services"})), "need the parts kafka and postgres"),
        (StackOptions(parts=frozenset({"ssh"})), "needs the part condor"),
        (StackOptions(slots=0), "slots must be at least 1"),
        (StackOptions(job_requirements=(Path("/nowhere/r.txt"),)), "does not exist"),
    ],
)
def test_choice_that_cannot_work_is_refused(options: StackOptions, said: str) -> None:
    with pytest.raises(StackError, match=said):
        resolve(options)


def test_damaged_options_name_the_file(tmp_path: Path) -> None:
    Layout(tmp_path).options.write_text("{")

    with pytest.raises(StackError, match=r"options\.json cannot be read"):
        load(Layout(tmp_path))


def test_port_is_kept_while_free_and_replaced_when_taken(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = Ports(file).ensure("kafka")
    assert FIRST <= first <= LAST
    assert Ports(file).ensure("kafka") == first

    with socket.create_server(("127.0.0.1", first)):
        assert not bindable(first)
        other = Ports(file).ensure("kafka")

    assert other != first
    assert Ports(file).get("kafka") == other
    assert Ports(file).get("postgres") is None


def test_cache_entry_is_built_once_by_many(tmp_path: Path) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "tool").write_text("#!/bin/sh\n")
        (folder / "tool").chmod(0o700)

    threads = [threading.Thread(target=ensure_entry, args=(tmp_path, "tools-1", build)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(built) == 1
    assert (tmp_path / "tools-1" / "tool").stat().st_mode & 0o777 == 0o755


def test_entry_whose_building_failed_is_built_afresh(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("network is gone")

    with pytest.raises(OSError, match="network"):
        ensure_entry(tmp_path, "tools-1", fail)
    assert not (tmp_path / "tools-1").exists()

    entry = ensure_entry(tmp_path, "tools-1", lambda folder: (folder / "whole").touch())

    assert sorted(path.name for path in entry.iterdir()) == [".ready", "whole"]


def test_secret_is_made_once_and_private(tmp_path: Path) -> None:
    first = ensure_secret(tmp_path / "sealing.key")

    assert len(first) == 32
    assert ensure_secret(tmp_path / "sealing.key") == first
    assert (tmp_path / "sealing.key").stat().st_mode & 0o777 == 0o600


def test_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, "old")

    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_tail_of_a_long_log(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    path.write_text("".join(f"line {number}\n" for number in range(10000)))

    assert tail(path, 2) == "line 9998\nline 9999"
    assert tail(path, 0) == ""
    assert tail(tmp_path / "none.log", 5) == ""


def test_interpreter_that_cannot_be_used_is_named_with_the_reason() -> None:
    me = User("me", 0, 0, drop=False)

    with pytest.raises(MissingPrerequisite, match=r"/nowhere/python3: not there.*JOBLEDGER_JOBS_PYTHON"):
        find_interpreter(me, [Path("/nowhere/python3")])


def row(name: str, phase: Phase) -> PartStatus:
    return PartStatus(name=name, phase=phase, since=datetime(2026, 1, 1, tzinfo=UTC), pid=12, port=20001)


def test_stack_is_ready_only_when_every_part_is() -> None:
    half = Snapshot(running=True, complete=True, parts=[row("kafka", Phase.READY), row("postgres", Phase.RESTARTING)])

    assert not half.ready
    assert Snapshot(running=True, complete=True, parts=[row("kafka", Phase.READY)]).ready
    assert not Snapshot(running=False, complete=True, parts=[row("kafka", Phase.READY)]).ready
    assert not Snapshot(running=True, parts=[]).ready


@pytest.mark.parametrize(("seconds", "text"), [(4.9, "4 s"), (720, "12 min"), (11100, "3 h 5 min"), (176400, "2 d 1 h"), (-1, "0 s")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def shown(thing: object) -> str:
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def test_table_shows_each_part_with_its_phase() -> None:
    text = shown(table(Snapshot(running=True, parts=[row("kafka", Phase.READY)]), datetime(2026, 1, 1, 0, 5, tzinfo=UTC)))

    assert all(word in text for word in ("kafka", "ready", "12", "20001", "5 min"))


def test_addresses_hide_the_password() -> None:
    text = shown(
        addresses(
            Endpoints(home="/h", workspaces="/w", admin_key_file="/a", database_url="postgresql://jobledger:hush@127.0.0.1:1/jobledger")
        )
    )

    assert "postgresql://jobledger@127.0.0.1:1/jobledger" in text
    assert "hush" not in text


def test_status_of_nothing_is_three_and_touches_nothing(tmp_path: Path) -> None:
    home = tmp_path / "none"

    result = CliRunner().invoke(status, ["--home", str(home)])

    assert result.exit_code == 3
    assert "jobledger up" in result.output
    assert not home.exists()
    assert CliRunner().invoke(down, ["--home", str(home)]).exit_code == 0
    with pytest.raises(NotRunning):
        Stack(home).endpoints()


def test_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    mode = tmp_path.stat().st_mode

    with pytest.raises(StackError, match="neither empty nor a data folder"):
        Stack(tmp_path).up()

    assert tmp_path.stat().st_mode == mode


def test_unknown_part_is_explained(tmp_path: Path) -> None:
    result = CliRunner().invoke(up, ["--home", str(tmp_path), "--parts", "kafka,redis"])

    assert result.exit_code == 2
    assert "there is no part redis; the parts are kafka, postgres, condor, ssh, dask, services" in result.output.replace("\n", " ")


def test_logs_without_a_part_says_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "kafka.log").write_text("a\nb\n")

    assert "kafka" in CliRunner().invoke(logs, ["--home", str(tmp_path)]).output
    assert CliRunner().invoke(logs, ["--home", str(tmp_path), "kafka", "-n", "1"]).output == "b\n"
    wrong = CliRunner().invoke(logs, ["--home", str(tmp_path), "redis"])
    assert wrong.exit_code == 1
    assert "there are: kafka" in wrong.output


class Registry:
    """A schedulers service as registration sees it: creates once, then says 409, takes replacements."""

    def __init__(self, secrets_set: list[str] | None = None) -> None:
        self.known: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.secrets_set = secrets_set or []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request.method)
        if request.method == "GET":
            return httpx.Response(200, json={"secrets_set": self.secrets_set})
        if request.method == "POST":
            if self.known:
                return httpx.Response(409)
            self.known["local-dask"] = request.content
            return httpx.Response(201)
        self.known[request.url.path.rpartition("/")[2]] = request.content
        return httpx.Response(200)


@pytest.mark.parametrize(("kept", "calls"), [(["token"], ["POST", "POST", "GET"]), ([], ["POST", "POST", "GET", "PUT"])])
def test_credentials_that_the_service_has_lost_are_sent_again(tmp_path: Path, kept: list[str], calls: list[str]) -> None:
    import asyncio

    registry, note = Registry(secrets_set=kept), tmp_path / "registered.json"

    async def twice() -> None:
        async with httpx.AsyncClient(base_url="http://schedulers", transport=httpx.MockTransport(registry)) as client:
            for _ in range(2):
                await introduce(client, {"name": "local-condor", "token": "t"}, note)

    asyncio.run(twice())

    assert registry.calls == calls


@pytest.mark.parametrize(("second_port", "calls"), [(1, ["POST", "POST"]), (2, ["POST", "POST", "PUT"])])
def test_known_scheduler_is_replaced_only_when_something_changed(tmp_path: Path, second_port: int, calls: list[str]) -> None:
    import asyncio

    registry, note = Registry(), tmp_path / "registered.json"

    async def twice() -> None:
        async with httpx.AsyncClient(base_url="http://schedulers", transport=httpx.MockTransport(registry)) as client:
            await introduce(client, {"name": "local-dask", "port": 1}, note)
            await introduce(client, {"name": "local-dask", "port": second_port}, note)

    asyncio.run(twice())

    assert registry.calls == calls
    assert registry.known["local-dask"].endswith(f'"port":{second_port}}}'.encode())
