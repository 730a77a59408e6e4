"""A request becomes an event, and its verdict the answer. The log and its projection are in memory; the fold is the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from jobledger_contracts import topics
from jobledger_contracts.envelope import Event, decode
from jobledger_contracts.ids import Position, derived_id
from jobledger_contracts.job_events import ExecuteRequested, JobDeleted, PauseRequested, StatusChanged
from jobledger_contracts.verdicts import Outcome
from jobledger_jobs.domain.rights import Viewer
from jobledger_jobs.inputs import ChangeJob, CondorBody, CreateJob
from jobledger_jobs.projection import project
from jobledger_jobs.requests import (
    CALLBACK_SOURCE,
    SOURCE,
    Caller,
    CreationUnknown,
    Requests,
    check_event,
    check_idempotency_key,
    merged_spec,
)
from jobledger_kit.clock import ManualClock
from jobledger_kit.errors import (
    Conflict,
    InvalidRequest,
    JobledgerError,
    NotFound,
    OutcomeUnknown,
    Refused,
    TooLarge,
    Unavailable,
    Unprocessable,
    UnprocessableKey,
)
from jobledger_kit.folds import fold_log
from jobledger_kit.memory import MemoryBus

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BODY = CreateJob(name="calibration", label="hydro", job_type="BASIC")
ADA = Caller(viewer=Viewer("ada"), actor="user:ada", correlation_id="request-1")


class World:
    """A log in memory, and a projection of it that is as late as `late` says."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.bus = MemoryBus(partitions=4, clock=self.clock)
        self.late = False
        self.randomness = iter(range(1, 1 << 16))
        self.schedulers = {"pool": "condor", "dask1": "dask"}
        self.lost: set[Position] = set()
        self.files: dict[tuple[str, str], bytes] = {}

    async def wait(self, topic: str, position: Position, timeout_s: float) -> bool:
        await asyncio.sleep(0)
        return not self.late

    async def job(self, job_id: str) -> Any:
        rows = {row.job_id: row for row in self._changes().jobs}
        return None if job_id not in rows else msgspec.structs.asdict(rows[job_id]) | {"id": job_id}

    async def verdict(self, position: Position) -> Any:
        for row in self._changes().history:
            if (row.partition, row.log_offset) == (position.partition, position.offset) and position not in self.lost:
                return msgspec.structs.asdict(row)
        return None

    async def first_verdict(self, job_id: str, source: str, event_id: str) -> Any:
        said = [row for row in self._changes().history if (row.job_id, row.source, row.event_id) == (job_id, source, event_id)]
        return msgspec.structs.asdict(said[0]) if said else None

    async def usable_schedulers(self) -> dict[str, str]:
        return self.schedulers

    def events(self) -> list[Event]:
        return [decode(record, 4) for record in self.bus.records(topics.JOBS)]

    def requests(self, bus: Any = None) -> Requests:
        return Requests(
            bus=bus or self.bus,
            positions=self,
            store=self,
            clock=self.clock,
            randomness=lambda n: next(self.randomness).to_bytes(n, "big"),
            wait_s=1.0,
            keep=self.keep,
        )

    async def keep(self, job_id: str, path: str, content: bytes) -> None:
        self.files[job_id, path] = content

    def _changes(self) -> Any:
        return project(fold_log(self.bus.records(topics.JOBS), dict.fromkeys(topics.ALL, 4)).folded)


class LostAnswerBus:
    """A bus whose connection is cut after the record was sent."""

    async def publish(self, *events: Event) -> list[Position]:
        raise OutcomeUnknown


def ask(world: World, make: Callable[[Requests], Awaitable[Any]], bus: Any = None) -> Any:
    async def run() -> Any:
        return await make(world.requests(bus))

    return asyncio.run(run())


def caller(key: str = "", user: str = "ada") -> Caller:
    return Caller(viewer=Viewer(user), actor=f"user:{user}", correlation_id="request-1", idempotency_key=key)


def test_creation_states_an_event_and_answers_with_its_job() -> None:
    world = World()

    settled = ask(world, lambda r: r.create(BODY, ADA))

    (event,) = world.events()
    assert settled.verdict.applied
    assert settled.row["name"] == "calibration"
    assert (event.type, event.source, event.actor, event.correlation_id, event.time) == ("JobCreated", SOURCE, "user:ada", "request-1", NOW)
    assert event.data.user == "ada"


def test_same_key_and_content_is_one_job() -> None:
    world = World()

    first = ask(world, lambda r: r.create(BODY, caller("k1")))
    again = ask(world, lambda r: r.create(BODY, caller("k1")))

    assert first.job_id == again.job_id == derived_id("job", "ada", "k1")
    assert first.verdict.applied
    assert again.verdict.outcome is Outcome.DUPLICATE


def test_same_key_with_other_content_is_refused() -> None:
    world = World()
    ask(world, lambda r: r.create(BODY, caller("k1")))

    with pytest.raises(UnprocessableKey):
        ask(world, lambda r: r.create(msgspec.structs.replace(BODY, name="other"), caller("k1")))


def test_same_key_of_another_user_is_another_job() -> None:
    world = World()

    assert ask(world, lambda r: r.create(BODY, caller("k1"))).job_id != ask(world, lambda r: r.create(BODY, caller("k1", "bob"))).job_id


def test_key_of_a_deleted_job_is_a_conflict() -> None:
    world = World()
    job_id = ask(world, lambda r: r.create(BODY, caller("k1"))).job_id
    ask(world, lambda r: r.ask(JobDeleted(job_id=job_id), ADA))

    with pytest.raises(Conflict, match="deleted"):
        ask(world, lambda r: r.create(BODY, caller("k1")))


def test_without_a_key_every_creation_is_a_job() -> None:
    world = World()

    async def two(requests: Requests) -> set[str]:
        return {(await requests.create(BODY, ADA)).job_id for _ in range(2)}

    assert len(ask(world, two)) == 2


def test_late_projection_leaves_the_verdict_open() -> None:
    world = World()
    world.late = True

    settled = ask(world, lambda r: r.create(BODY, ADA))

    assert settled.verdict is None
    assert settled.position.offset == 0


def test_unknown_outcome_of_a_creation_names_the_job() -> None:
    with pytest.raises(CreationUnknown) as caught:
        ask(World(), lambda r: r.create(BODY, caller("k1")), LostAnswerBus())

    assert caught.value.job_id == derived_id("job", "ada", "k1")
    assert caught.value.job_id in caught.value.message
    assert caught.value.retryable


def test_bus_that_is_away_is_said_so() -> None:
    world = World()
    world.bus.away = True

    with pytest.raises(Unavailable):
        ask(world, lambda r: r.create(BODY, ADA))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (CreateJob(name="n", label="l", job_type="CONDOR", scheduler="nowhere", condor=CondorBody(executable="x")), "nowhere"),
        (CreateJob(name="n", label="l", job_type="CONDOR", scheduler="dask1", condor=CondorBody(executable="x")), "of type dask"),
        (CreateJob(name="n", label="l", job_type="CONDOR", scheduler="pool"), "executable"),
        (CreateJob(name="n", label="l", job_type="BASIC", scheduler="pool"), "BASIC"),
    ],
)
def test_job_that_no_scheduler_could_run_is_refused_before_it_is_in_the_log(body: CreateJob, words: str) -> None:
    world = World()

    with pytest.raises(Unprocessable, match=words):
        ask(world, lambda r: r.create(body, ADA))

    assert world.events() == []


def test_refused_request_says_why_and_where() -> None:
    world = World()
    job_id = ask(world, lambda r: r.create(BODY, ADA)).job_id

    with pytest.raises(Refused) as caught:
        ask(world, lambda r: r.ask(PauseRequested(job_id=job_id), ADA))

    assert caught.value.verdict.reason == "not_started"
    assert caught.value.position.endswith(":1")
    assert "Pending" in caught.value.message


def test_request_about_a_job_that_is_gone_finds_nothing() -> None:
    world = World()
    job_id = ask(world, lambda r: r.create(BODY, ADA)).job_id
    ask(world, lambda r: r.ask(JobDeleted(job_id=job_id), ADA))

    with pytest.raises(NotFound):
        ask(world, lambda r: r.ask(ExecuteRequested(job_id=job_id), ADA))


def test_repeated_request_under_one_key_takes_effect_once() -> None:
    world = World()
    job_id = ask(world, lambda r: r.create(BODY, ADA)).job_id

    first = ask(world, lambda r: r.ask(ExecuteRequested(job_id=job_id), caller("go")))
    again = ask(world, lambda r: r.ask(ExecuteRequested(job_id=job_id), caller("go")))

    assert first.verdict.applied
    assert again.verdict.applied
    assert again.row["run"] == 1
    assert world.events()[-1].id == world.events()[-2].id


def test_repeated_request_is_refused_again_as_it_was_at_first() -> None:
    world = World()
    job_id = ask(world, lambda r: r.create(BODY, ADA)).job_id

    for _ in range(2):
        with pytest.raises(Refused) as caught:
            ask(world, lambda r: r.ask(PauseRequested(job_id=job_id), caller("wait")))
        assert caught.value.verdict.reason == "not_started"


def test_third_creation_with_other_content_is_refused_like_the_second() -> None:
    world = World()
    ask(world, lambda r: r.create(BODY, caller("k1")))

    for _ in range(2):
        with pytest.raises(UnprocessableKey):
            ask(world, lambda r: r.create(msgspec.structs.replace(BODY, name="other"), caller("k1")))


def test_request_behind_a_dead_letter_is_a_conflict() -> None:
    world = World()
    job_id = ask(world, lambda r: r.create(BODY, ADA)).job_id
    world.lost.add(Position(world.bus.records(topics.JOBS)[0].partition, 1))

    with pytest.raises(Conflict, match="dead letters"):
        ask(world, lambda r: r.ask(ExecuteRequested(job_id=job_id), ADA))


def test_callback_does_not_wait_for_the_projection() -> None:
    world = World()
    job_id = ask(world, lambda r: r.create(BODY, ADA)).job_id
    world.late = True

    position = ask(world, lambda r: r.report(StatusChanged(job_id=job_id, status="Running"), ADA))

    assert position.offset == 1
    assert world.events()[-1].source == CALLBACK_SOURCE


def test_change_without_anything_to_change_is_invalid() -> None:
    with pytest.raises(InvalidRequest, match="nothing"):
        ask(World(), lambda r: r.change({"id": "x"}, ChangeJob(), ADA))


def test_change_that_says_what_is_known_is_no_error() -> None:
    world = World()
    job_id = ask(world, lambda r: r.create(BODY, ADA)).job_id

    async def change(requests: Requests) -> Any:
        return await requests.change(await world.job(job_id), ChangeJob(name="calibration"), ADA)

    assert ask(world, change).verdict.reason == "unchanged"


def test_changed_spec_is_what_is_given_over_what_is_there() -> None:
    row = {"scheduler": "pool", "condor": '{"executable":"a"}', "dask": None, "workflow": None}

    scheduler, condor, dask, workflow = merged_spec(row, ChangeJob(scheduler="other"))

    assert (scheduler, condor and condor.executable, dask, workflow) == ("other", "a", None, None)
    assert merged_spec(row, ChangeJob(condor=CondorBody(executable="b")))[1] == CondorBody(executable="b")


@pytest.mark.parametrize("key", ["a b", "ü", "x" * 256, "tab\t"])
def test_bad_idempotency_key_is_invalid(key: str) -> None:
    with pytest.raises(InvalidRequest):
        check_idempotency_key(key)


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("properties", "error"),
    [
        ({"a": _nested(120)}, InvalidRequest),
        ({"a": "x" * 950_000}, TooLarge),
        ({"a": "\0"}, InvalidRequest),
        ({"a": [[i] for i in range(500)]}, None),
        ({"a": _nested(50)}, None),
    ],
)
def test_no_request_ends_as_a_dead_letter(properties: dict[str, Any], error: type[JobledgerError] | None) -> None:
    world = World()
    body = msgspec.structs.replace(BODY, extended_properties=properties)

    if error is None:
        assert ask(world, lambda r: r.create(body, ADA)).verdict.applied
        check_event(world.events()[0])
    else:
        with pytest.raises(error):
            ask(world, lambda r: r.create(body, ADA))
        assert world.events() == []
