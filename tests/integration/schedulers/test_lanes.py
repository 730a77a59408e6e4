"""One lane's work step by step, over a real database and a scheduler in memory, with a crash at every point where one can hurt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobledger_contracts import job_events as e
from jobledger_contracts import topics
from jobledger_contracts.envelope import Event
from jobledger_contracts.ids import Position, run_id
from jobledger_contracts.job import Job
from jobledger_contracts.scheduler import initial_state
from jobledger_contracts.statuses import Status
from jobledger_kit.clock import ManualClock
from jobledger_kit.deadletters import Fuse
from jobledger_kit.effects import EffectLedger
from jobledger_kit.errors import OutcomeUnknown
from jobledger_kit.folds import fold_log
from jobledger_kit.keyring import Key
from jobledger_kit.memory import MemoryBus
from jobledger_kit.pipeline import Pipeline
from jobledger_schedulers.adapters.memory import MemoryAdapter, MemoryScheduler
from jobledger_schedulers.adapters.port import AuthenticationFailed, NotSupported, Refused, Unreachable
from jobledger_schedulers.adapters.port import OutcomeUnknown as SchedulerOutcomeUnknown
from jobledger_schedulers.collection import Collection
from jobledger_schedulers.config import SchedulersSettings
from jobledger_schedulers.domain.runs import Phase
from jobledger_schedulers.health import Health
from jobledger_schedulers.lane import Lane, LaneLost
from jobledger_schedulers.orders import Orders
from jobledger_schedulers.reactors import react
from jobledger_schedulers.staging import Staging
from jobledger_schedulers.store import SchedulersStore
from jobledger_schedulers.submission import Submission
from jobledger_schedulers.sweep import Sweep
from tests.support.events import event, job_id

pytestmark = [pytest.mark.stack, pytest.mark.anyio]

CONSUMER = "schedulers"
PLACES = [(topics.JOBS, number) for number in range(4)]


class Crashed(Exception):
    """The process has died here."""


class CrashingStore(SchedulersStore):
    """Dies once: before, or after, the named method."""

    crash = ""

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        crash = super().__getattribute__("crash")
        if crash not in (f"before {name}", f"after {name}"):
            return method

        async def dying(*args: Any, **kwargs: Any) -> Any:
            self.crash = ""
            if crash.startswith("after"):
                await method(*args, **kwargs)
            raise Crashed(crash)

        return dying


class CrashingBus(MemoryBus):
    """Dies once around a publication, or loses its answer."""

    crash = ""

    async def publish(self, *events: Event) -> list[Position]:
        crash, self.crash = self.crash, ""
        if crash == "before publish":
            raise Crashed(crash)
        positions = await super().publish(*events)
        if crash == "after publish":
            raise Crashed(crash)
        if crash == "answer lost":
            raise OutcomeUnknown
        return positions


class CrashingEffects(EffectLedger):
    """Dies once before it notes that effects are done."""

    crash = ""

    async def done(self, dues: Any) -> set[str]:
        crash, self.crash = self.crash, ""
        if crash == "before done":
            raise Crashed(crash)
        return await super().done(dues)


class Bench:
    """A lane whose far side, log and database outlive it."""

    def __init__(self, store: CrashingStore, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.far = MemoryScheduler()
        self.clock = ManualClock(datetime.now(UTC))
        self.bus = CrashingBus(4, self.clock)
        self.effects = CrashingEffects(store.pool)
        self._folded = 0
        self._pipeline = Pipeline(CONSUMER, store, react, Fuse(), None)
        self._pipeline.partitions = dict.fromkeys(topics.ALL, 4)
        self.begin()

    def begin(self) -> None:
        """A new process."""
        settings = SchedulersSettings(
            kafka_bootstrap_servers="-", database_url="-", workspaces_url=(self.folder / "workspaces").as_uri(), collect_attempts=4
        )
        self.adapter = MemoryAdapter(self.far)
        self.lane = Lane(
            name="pool",
            adapter=self.adapter,
            store=self.store,
            effects=self.effects,
            bus=self.bus,
            clock=self.clock,
            settings=settings,
            staging=Staging(self.folder / "data", settings.workspaces_url),
            held_until=self.clock.monotonic() + 1e9,
        )
        self.orders = Orders(self.lane, Submission(self.lane, Key(b"k" * 32, "run-credential")))
        self.sweep = Sweep(self.lane, Health(self.lane, initial_state("pool")))
        self.collection = Collection(self.lane)

    async def restart(self) -> None:
        """What a successor does first."""
        self.begin()
        await self.fold()
        await self.store.reopen_lane("pool")

    async def say(self, *data: Any, **more: Any) -> None:
        for one in data:
            await self.bus.publish(event(one, **more))
        await self.fold()

    async def fold(self) -> None:
        """What the reactor does with the new records of the log."""
        if not self._pipeline.claims:
            await self._pipeline.claim(PLACES)
        for place in PLACES:
            records = [r for r in self.bus.records(topics.JOBS) if r.partition == place[1]][self._pipeline.claims[place].next_offset :]
            if records:
                await self._pipeline.commit(await self._pipeline.fold(records, {place: records[-1].offset + 1}))

    async def run(self, number: int = 1, **more: Any) -> str:
        """Ask for a run; returns its id."""
        job = job_id(number)
        spec = e.CondorSpec(executable="/bin/true")
        created = e.JobCreated(
            job_id=job, name="Flood", user="ada", label="hydro", job_type="CONDOR", scheduler="pool", **{"condor": spec, **more}
        )
        await self.say(created, e.ExecuteRequested(job_id=job))
        return run_id(job, 1)

    async def carry_out(self) -> None:
        await self.orders.once()
        await self.fold()

    async def look(self) -> None:
        self.clock.advance(2)
        await self.sweep.once()
        await self.fold()

    async def bring_home(self) -> None:
        await self.collection.once()
        await self.fold()

    def job(self, run: str) -> Job:
        batch = fold_log(self.bus.records(topics.JOBS), dict.fromkeys(topics.ALL, 4))
        assert not batch.dead, batch.dead
        state: Job = batch.states[topics.JOBS, run.rpartition(".")[0]]
        return state

    def applied(self, run: str) -> list[str]:
        """The statuses that took effect."""
        batch = fold_log(self.bus.records(topics.JOBS), dict.fromkeys(topics.ALL, 4))
        job = run.rpartition(".")[0]
        return [
            f.event.data.status
            for f in batch.folded
            if f.event.key == job and isinstance(f.event.data, e.StatusChanged) and f.verdict.applied
        ]

    async def phase(self, run: str) -> Phase:
        return (await self.store.runs([run]))[run].phase


@pytest.fixture
async def bench(database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    store = await CrashingStore.open(database_url)
    yield Bench(store, tmp_path)
    await store.close()


async def test_a_life(bench: Bench) -> None:
    run = await bench.run()
    await bench.carry_out()
    bench.far.start(run)
    await bench.look()
    bench.far.end(run, files={"result.txt": b"42"})
    await bench.look()
    assert bench.job(run).status is Status.RUNNING
    await bench.bring_home()

    job = bench.job(run)
    assert (job.status, job.exit_code, job.scheduler_job_ref) == (Status.COMPLETE, 0, "1")
    assert job.resources == e.Resources(cpu_user_s=2.0)
    assert (bench.folder / "workspaces" / job.job_id / "run-1" / "result.txt").read_bytes() == b"42"
    assert await bench.phase(run) is Phase.ENDED
    assert "find" not in bench.far.calls


async def test_many_runs_are_one_call(bench: Bench) -> None:
    for number in range(30):
        await bench.run(number)
    await bench.carry_out()
    assert bench.far.calls.count("submit") == 1
    assert len(bench.far.submissions) == 30


CRASHES = [
    "before begin_submission", "after begin_submission", "before place", "after place", "before publish", "after publish", "before done",
]  # fmt: skip


@pytest.mark.parametrize("crash", CRASHES)
async def test_a_crash_while_handing_over_neither_repeats_nor_forgets(bench: Bench, crash: str) -> None:
    run = await bench.run()
    await _die(bench, crash, bench.orders.once)
    await bench.restart()
    await bench.carry_out()

    assert bench.far.submissions == [run]
    assert bench.job(run).scheduler_job_ref == "1"
    assert bench.applied(run) == ["Submitted"]
    assert await bench.effects.open_by_lane() == {}


@pytest.mark.parametrize("crash", ["before publish", "after publish", "before reported", "after reported"])
async def test_a_crash_while_looking_tells_it_once(bench: Bench, crash: str) -> None:
    run = await bench.run()
    await bench.carry_out()
    bench.far.start(run)
    await _die(bench, crash, bench.look)
    await bench.restart()
    await bench.look()

    assert bench.applied(run) == ["Submitted", "Running"]


@pytest.mark.parametrize("crash", ["before begin_collection", "after begin_collection", "before publish", "after publish", "before ended"])
async def test_a_crash_at_the_end_loses_neither_output_nor_end(bench: Bench, crash: str) -> None:
    run = await bench.run()
    await bench.carry_out()
    await bench.look()
    bench.far.end(run, 3, files={"result.txt": b"42"})

    async def end() -> None:
        await bench.look()
        await bench.bring_home()

    await _die(bench, crash, end)
    await bench.restart()
    await end()

    job = bench.job(run)
    assert (job.status, job.exit_code) == (Status.ERROR, 3)
    collected = [f.event.data for f in _folded(bench) if isinstance(f.event.data, e.ResultsCollected) and f.verdict.applied]
    assert {file.path for file in collected[0].files} == {"run-1/result.txt", "run-1/stdout.txt", "run-1/stderr.txt"}
    assert await bench.phase(run) is Phase.ENDED


async def test_output_that_was_fetched_before_a_crash_is_told_though_the_scheduler_has_let_go_of_it(bench: Bench) -> None:
    run = await bench.run()
    await bench.carry_out()
    bench.far.end(run, files={"result.txt": b"42"})
    await bench.look()
    bench.far.lose_answer("collect")
    with pytest.raises(SchedulerOutcomeUnknown):
        await bench.bring_home()
    await bench.restart()
    await bench.bring_home()

    assert bench.job(run).status is Status.COMPLETE
    [collected] = [f.event.data for f in _folded(bench) if isinstance(f.event.data, e.ResultsCollected)]
    assert "run-1/result.txt" in {file.path for file in collected.files}


async def test_a_lost_answer_to_a_submission_is_looked_up(bench: Bench) -> None:
    run = await bench.run()
    bench.far.lose_answer("submit")
    with pytest.raises(SchedulerOutcomeUnknown):
        await bench.carry_out()
    await bench.carry_out()
    assert bench.far.submissions == [run]
    assert bench.far.calls == ["submit", "find"]
    assert bench.job(run).scheduler_job_ref == "1"


async def test_a_lost_answer_of_the_log_is_said_again(bench: Bench) -> None:
    run = await bench.run()
    bench.bus.crash = "answer lost"
    with pytest.raises(OutcomeUnknown):
        await bench.carry_out()
    await bench.carry_out()
    assert bench.far.submissions == [run]
    assert bench.applied(run) == ["Submitted"]


async def test_a_submission_that_did_not_arrive_is_made_again(bench: Bench) -> None:
    run = await bench.run()
    bench.far.fail("submit", Unreachable("no route"))
    with pytest.raises(Unreachable):
        await bench.carry_out()
    assert bench.applied(run) == []
    await bench.carry_out()
    assert bench.far.submissions == [run]


async def test_stopped_before_it_was_handed_over_it_never_is(bench: Bench) -> None:
    run = await bench.run()
    await bench.say(e.StopRequested(job_id=job_id(1)))
    await bench.carry_out()
    await bench.carry_out()
    assert bench.far.submissions == []
    assert bench.job(run).status is Status.ABORTED
    assert await bench.effects.open_by_lane() == {}


async def test_stopped_while_nobody_knows_whether_the_scheduler_has_it(bench: Bench) -> None:
    run = await bench.run()
    bench.far.lose_answer("submit")
    with pytest.raises(SchedulerOutcomeUnknown):
        await bench.carry_out()
    await bench.say(e.StopRequested(job_id=job_id(1)))
    await bench.carry_out()
    await bench.carry_out()
    await bench.look()
    assert bench.far.submissions == [run]
    assert bench.job(run).status is Status.ABORTED


async def test_a_refusal_is_an_error_in_plain_words_and_costs_the_others_nothing(bench: Bench) -> None:
    bad = await bench.run(1, condor=None)
    good = await bench.run(2)
    await bench.carry_out()
    assert bench.job(bad).status is Status.ERROR
    assert "what to run" in bench.job(bad).status_message
    assert bench.job(good).scheduler_job_ref
    assert await bench.phase(bad) is Phase.ENDED


async def test_a_refusal_of_a_whole_call_is_traced_to_the_one_at_fault(bench: Bench) -> None:
    runs = [await bench.run(number) for number in range(3)]
    bench.far.fail("submit", Refused("something is wrong with one of these"))
    await bench.carry_out()
    assert sorted(bench.far.submissions) == sorted(runs)


async def test_a_scheduler_that_does_not_let_us_in_costs_no_run(bench: Bench) -> None:
    run = await bench.run()
    bench.far.fail("submit", AuthenticationFailed("the token has expired"))
    with pytest.raises(AuthenticationFailed):
        await bench.carry_out()
    await bench.carry_out()
    assert bench.far.submissions == [run]


async def test_what_a_scheduler_cannot_do_is_told(bench: Bench) -> None:
    run = await bench.run()
    await bench.carry_out()
    await bench.say(e.PauseRequested(job_id=job_id(1)))
    bench.far.fail("hold", NotSupported("it holds no runs"))
    await bench.carry_out()
    assert "it holds no runs" in bench.job(run).status_message
    assert bench.job(run).status is Status.SUBMITTED
    assert await bench.effects.open_by_lane() == {}


async def test_held_elsewhere_and_released_it_is_paused_and_goes_on(bench: Bench) -> None:
    run = await bench.run()
    await bench.carry_out()
    for _ in range(2):
        bench.far.move(run, Status.RUNNING, "running")
        await bench.look()
        bench.far.move(run, Status.PAUSED, "suspended by the machine's owner")
        await bench.look()
    assert bench.applied(run) == ["Submitted", "Running", "Paused", "Running", "Paused"]
    assert bench.job(run).status_message == "suspended by the machine's owner"


async def test_what_a_run_uses_while_it_runs_is_no_news(bench: Bench) -> None:
    run = await bench.run()
    await bench.carry_out()
    bench.far.start(run)
    for _ in range(3):
        await bench.look()
    assert bench.applied(run) == ["Submitted", "Running"]


async def test_a_pause_holds_or_suspends_as_the_job_says(bench: Bench) -> None:
    held, suspended = await bench.run(), await bench.run(2, condor=e.CondorSpec(executable="/bin/true", pause_by="suspend"))
    await bench.carry_out()
    for run in (held, suspended):
        bench.far.start(run)
        await bench.say(e.PauseRequested(job_id=run.rpartition(".")[0], reason="lunch"))
    await bench.carry_out()
    await bench.look()
    assert {bench.job(run).status for run in (held, suspended)} == {Status.PAUSED}
    assert (bench.job(held).restarts, bench.job(suspended).restarts) == (1, 0)
    for run in (held, suspended):
        await bench.say(e.ResumeRequested(job_id=run.rpartition(".")[0]))
    await bench.carry_out()
    await bench.look()
    assert (bench.job(held).status, bench.job(suspended).status) == (Status.SUBMITTED, Status.RUNNING)


async def test_a_schedulers_limit_keeps_runs_waiting_the_oldest_first_and_lets_them_in_as_others_end(bench: Bench) -> None:
    bench.lane.max_runs = 2
    runs = sorted([await bench.run(number) for number in range(1, 5)])  # all were asked for at the same moment of the bench's clock
    await bench.carry_out()
    assert bench.far.submissions == runs[:2]
    assert [bench.job(run).status for run in runs] == [Status.SUBMITTED] * 4
    await bench.say(e.StopRequested(job_id=runs[3].rpartition(".")[0]))
    bench.far.end(runs[0])
    await bench.look()
    await bench.bring_home()
    await bench.store.pool.execute("update effects set due_at = now() where status = 'open'")
    for _ in range(3):
        await bench.carry_out()
    assert bench.far.submissions == runs[:3]
    assert bench.job(runs[3]).status is Status.ABORTED, "what waits is stopped without ever being handed over"


async def test_an_unreachable_scheduler_says_nothing_about_runs(bench: Bench) -> None:
    run = await bench.run()
    await bench.carry_out()
    bench.far.fail("observe", Unreachable("no route"))
    bench.far.fail("ping", Unreachable("no route"))
    with pytest.raises(Unreachable):
        await bench.look()
    said = bench.applied(run)
    await bench.look()
    healths = [f.event.data.health for f in _folded(bench, topics.SCHEDULERS)]
    assert said == ["Submitted"]
    assert healths == ["down", "up"]


async def test_one_failed_call_alone_is_no_bad_health(bench: Bench) -> None:
    await bench.run()
    await bench.carry_out()
    await bench.look()
    bench.far.fail("observe", Unreachable("a hiccup"))
    with pytest.raises(Unreachable):
        await bench.look()
    await bench.look()
    assert [f.event.data.health for f in _folded(bench, topics.SCHEDULERS)] == ["up"]


async def test_a_run_that_nobody_knows_any_more_is_an_error_with_evidence_after_a_while(bench: Bench) -> None:
    run = await bench.run()
    await bench.carry_out()
    await bench.look()
    bench.far.forget(run)
    for _ in range(8):
        await bench.look()
    assert bench.job(run).status is Status.SUBMITTED
    for _ in range(4):
        await bench.look()
    assert bench.job(run).status is Status.ERROR
    assert "lost" in bench.job(run).status_message
    last = [f.event.data for f in _folded(bench) if isinstance(f.event.data, e.StatusChanged)][-1]
    assert last.evidence["ref"] == "1"


async def test_a_stop_that_was_lost_is_repeated(bench: Bench) -> None:
    run = await bench.run()
    await bench.carry_out()
    await bench.say(e.StopRequested(job_id=job_id(1)))
    [due] = await bench.effects.take(10, 30)
    await bench.effects.give_up(due, "the worst has happened")
    await bench.look()
    assert bench.far.runs[run].status is Status.SUBMITTED
    bench.clock.advance(60)
    await bench.look()
    await bench.look()
    assert bench.job(run).status is Status.ABORTED


async def test_a_run_that_was_forgotten_is_taken_up(bench: Bench) -> None:
    run = await bench.run()
    [due] = await bench.effects.take(10, 30)
    await bench.effects.give_up(due, "the worst has happened")
    await bench.store.pool.execute("update runs set asked_at = asked_at - interval '1 minute'")
    await bench.carry_out()
    await bench.fold()
    assert bench.far.submissions == [run]
    assert bench.job(run).scheduler_job_ref == "1"


async def test_output_that_cannot_be_fetched_is_told_tried_again_and_at_last_told(bench: Bench, tmp_path: Path) -> None:
    run = await bench.run()
    await bench.carry_out()
    bench.far.end(run)
    await bench.look()
    expected = [Status.SUBMITTED, Status.SUBMITTED, Status.RESULTS_READY, Status.COMPLETE]
    for status in expected:
        bench.far.fail("collect", Refused("the disk over there is broken"))
        await bench.store.pool.execute("update runs set collect_after = now()")
        await bench.bring_home()
        assert bench.job(run).status is status
    assert "the disk over there is broken" in bench.job(run).status_message
    assert bench.applied(run) == ["Submitted", "Results-Ready", "Complete"]


async def test_files_that_were_asked_for_and_are_missing_are_named(bench: Bench) -> None:
    run = await bench.run(condor=e.CondorSpec(executable="/bin/true", output_files=["result.txt"]))
    await bench.carry_out()
    bench.far.end(run)
    await bench.look()
    await bench.bring_home()
    assert "result.txt" in bench.job(run).status_message


async def test_without_its_lease_it_does_nothing(bench: Bench) -> None:
    await bench.run()
    bench.lane.held_until = bench.clock.monotonic()
    with pytest.raises(LaneLost):
        await bench.carry_out()
    assert bench.far.submissions == []


async def test_a_lane_has_one_holder(bench: Bench) -> None:
    store = bench.store
    assert await store.hold_lanes(["pool"], "one", "a", 30, retake=True) == {"pool"}
    assert await store.hold_lanes(["pool"], "two", "b", 30, retake=True) == set()
    assert await store.hold_lanes(["pool"], "one", "a", 30, retake=False) == {"pool"}
    assert await store.hold_lanes(["pool"], "one", "c", 30, retake=True) == {"pool"}, "a restart takes its own lanes back"
    assert await store.hold_lanes(["pool"], "one", "a", 30, retake=False) == set(), "and its earlier life has lost them"
    await store.pool.execute("update lanes set lease_until = now() - interval '1 second'")
    assert await store.hold_lanes(["pool"], "two", "b", 30, retake=False) == {"pool"}
    await store.leave_lanes("b")
    assert await store.hold_lanes(["pool"], "three", "d", 30, retake=False) == {"pool"}


async def test_rows_that_are_rebuilt_from_the_log_begin_nothing_again(bench: Bench) -> None:
    ended, going = await bench.run(1), await bench.run(2)
    await bench.carry_out()
    bench.far.end(ended)
    await bench.look()
    await bench.bring_home()
    for table in ("runs", "effects", "streams", "checkpoints"):
        await bench.store.pool.execute(f"delete from {table}")
    fresh = Bench(bench.store, bench.folder)
    fresh.far, fresh.bus = bench.far, bench.bus
    fresh.begin()
    await fresh.fold()
    await fresh.carry_out()
    await fresh.look()

    assert sorted(bench.far.submissions) == sorted([ended, going])
    assert await fresh.phase(ended) is Phase.ENDED
    assert await fresh.phase(going) is Phase.PLACED
    assert fresh.applied(going) == ["Submitted", "Submitted"]  # handed over; and once it was seen to wait


async def _die(bench: Bench, crash: str, work: Any) -> None:
    where: Any = {"publish": bench.bus, "done": bench.effects}.get(crash.split()[1], bench.store)
    where.crash = crash
    with pytest.raises(Crashed):
        await work()


def _folded(bench: Bench, topic: str = topics.JOBS) -> Sequence[Any]:
    return [f for f in fold_log(bench.bus.records(topic), dict.fromkeys(topics.ALL, 4)).folded if f.record.topic == topic]
