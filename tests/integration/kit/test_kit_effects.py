"""The ledger of effects on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from jobledger_kit.effects import Due, Effect, EffectLedger
from jobledger_kit.folds import FoldedBatch
from tests.support.ledger import CONSUMER, SuiteStore

pytestmark = [pytest.mark.anyio, pytest.mark.stack]
LEASE_S = 30.0


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SuiteStore]:
    store = await SuiteStore.open(database_url)
    await store.make_tables()
    yield store
    await store.close()


@pytest.fixture
def ledger(store: SuiteStore) -> EffectLedger:
    return EffectLedger(store.pool)


def effect(key: str, stream: str = "job", lane: str = "lane", kind: str = "do") -> Effect:
    return Effect(key, lane, stream, kind, b"payload")


async def record(store: SuiteStore, *effects: Effect) -> None:
    await store.apply(CONSUMER, [], FoldedBatch(), {}, effects)


def keys(dues: Sequence[Due]) -> list[str]:
    return [due.effect.key for due in dues]


async def test_an_effect_is_recorded_once(store: SuiteStore, ledger: EffectLedger) -> None:
    await record(store, effect("a"))
    [due] = await ledger.take(10, LEASE_S)
    await ledger.done([due])
    await record(store, effect("a"))
    assert await ledger.take(10, LEASE_S) == []


async def test_a_stream_is_carried_out_in_order_one_at_a_time(store: SuiteStore, ledger: EffectLedger) -> None:
    await record(store, effect("1"), effect("2"), effect("other", stream="other"))
    await record(store, effect("3"))
    seen = []
    while dues := await ledger.take(10, LEASE_S):
        seen.append(keys(dues))
        assert await ledger.take(10, LEASE_S) == []
        await ledger.done(dues)
    assert seen == [["1", "other"], ["2"], ["3"]]


async def test_a_lease_that_runs_out_is_given_again(store: SuiteStore, ledger: EffectLedger) -> None:
    await record(store, effect("a"))
    [first] = await ledger.take(10, 0.05)
    await asyncio.sleep(0.1)
    [second] = await ledger.take(10, LEASE_S)
    assert (first.attempt, second.attempt) == (1, 2)
    assert await ledger.done([first]) == set()  # no longer his to end
    assert not await ledger.retry(first, 0, "late")
    assert not await ledger.give_up(first, "late")
    assert await ledger.done([second]) == {"a"}


async def test_a_failed_attempt_waits_and_holds_its_stream(store: SuiteStore, ledger: EffectLedger) -> None:
    await record(store, effect("a"), effect("b"))
    [due] = await ledger.take(10, LEASE_S)
    assert await ledger.retry(due, 0.3, "cannot\0connect")
    assert await ledger.take(10, LEASE_S) == []
    assert await ledger.lanes() == []
    assert await store.pool.fetchval("select error from effects where key = 'a'") == "cannot\\0connect"
    await asyncio.sleep(0.4)
    [again] = await ledger.take(10, LEASE_S)
    assert (again.effect.key, again.attempt) == ("a", 2)
    await ledger.done([again])
    assert keys(await ledger.take(10, LEASE_S)) == ["b"]


async def test_giving_up_is_visible_and_lets_the_stream_go_on(store: SuiteStore, ledger: EffectLedger) -> None:
    await record(store, effect("a"), effect("b"))
    [due] = await ledger.take(10, LEASE_S)
    await ledger.retry(due, 0, "first")
    [due] = await ledger.take(10, LEASE_S)
    assert await ledger.give_up(due, "no such executable")
    [failed] = await ledger.failed()
    assert (failed.key, failed.attempt, failed.error) == ("a", 2, "no such executable")
    assert await ledger.failed(before=failed.position) == []
    assert keys(await ledger.take(10, LEASE_S)) == ["b"]


async def test_lanes_and_kinds_choose(store: SuiteStore, ledger: EffectLedger) -> None:
    await record(store, effect("a", "s1", "pool", "submit"), effect("b", "s2", "dask", "stop"), effect("c", "s3", "pool", "stop"))
    assert await ledger.lanes() == ["dask", "pool"]
    assert await ledger.open_by_lane() == {"pool": 2, "dask": 1}
    assert keys(await ledger.take(10, LEASE_S, lanes=["pool"], kinds=["stop"])) == ["c"]
    assert keys(await ledger.take(10, LEASE_S, lanes=["dask"])) == ["b"]
    assert await ledger.open_keys(["a", "x"]) == {"a"}


async def test_workers_do_not_take_the_same(store: SuiteStore, ledger: EffectLedger) -> None:
    await record(store, *(effect(str(n), stream=str(n % 50)) for n in range(200)))
    taken: list[str] = []

    async def work() -> None:
        while dues := await ledger.take(7, LEASE_S):
            taken.extend(keys(dues))
            await ledger.done(dues)

    for _ in range(20):
        await asyncio.gather(*(work() for _ in range(4)))
    assert sorted(taken, key=int) == [str(n) for n in range(200)]


async def test_a_hundred_thousand_rows_do_not_slow_it_down(store: SuiteStore, ledger: EffectLedger) -> None:
    """Most done, many waiting behind a scheduler that is away, some due: the due ones are found without reading the others."""
    insert = "insert into effects (key, lane, stream, kind, payload, status, due_at) "
    generate = (
        "select 'k' || n, 'lane' || (n % 5), 's' || (n / 3), 'do', '', $1, now() + make_interval(secs => $2) from generate_series({}) n"
    )
    await store.pool.execute(insert + generate.format("1, 60000"), "done", 0.0)
    await store.pool.execute(insert + generate.format("60001, 100000"), "open", 600.0)
    await record(store, *(effect(f"due{n}", stream=f"due{n}", lane="lane3") for n in range(500)))
    await store.pool.execute("analyze effects")
    begun = time.perf_counter()
    for _ in range(5):
        assert await ledger.lanes() == ["lane3"]
        assert len(await ledger.take(50, LEASE_S, lanes=["lane3"])) == 50
        assert len(await ledger.take(50, LEASE_S)) == 50
    assert time.perf_counter() - begun < 3.0
