"""What a Dask scheduler, or somebody who poses as one, may say when it is looked at: nothing of it is believed or opened."""

from __future__ import annotations

from typing import Any

import pytest

from jobledger_schedulers.adapters.dask.view import DaskView
from jobledger_schedulers.adapters.dask.wire import Opaque, Rpc
from jobledger_schedulers.adapters.port import Refused

pytestmark = pytest.mark.anyio

OPAQUE = Opaque({"serializer": "pickle"}, [b"cos\nsystem\n(S'false'\ntR."])


class Answers:
    """Stands in for the connection."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    async def call(self, op: str, **_: Any) -> Any:
        return self._answers[op]


def view(**answers: Any) -> DaskView:
    looking = DaskView(Rpc("tcp://127.0.0.1:1", 1.0))
    looking._rpc = Answers(**answers)  # type: ignore[assignment]
    return looking


async def test_what_is_missing_or_of_another_kind_is_zero() -> None:
    worker = {
        "name": OPAQUE, "nthreads": "2", "memory_limit": None, "metrics": {"cpu": float("nan"), "memory": OPAQUE, "task_counts": OPAQUE},
        "last_seen": float("inf"), "resources": [OPAQUE],
    }  # fmt: skip
    answer = {"n_workers": OPAQUE, "total_threads": True, "workers": {"tcp://w": worker, "tcp://x": OPAQUE}}
    workers = await view(identity=answer).workers()
    (told,) = workers.items
    assert (workers.total, workers.threads) == (0, 0)
    assert (told.threads, told.cpu_percent, told.memory_bytes, told.tasks, told.seen_time, told.resources) == (0, 0.0, 0, 0, None, {})
    assert "system" not in told.name


async def test_workers_are_cut_at_the_limit() -> None:
    answer = {"n_workers": 3, "workers": {f"tcp://{n}": {"name": str(n), "nthreads": 1} for n in range(3)}}
    workers = await view(identity=answer).workers(2)
    assert ([worker.name for worker in workers.items], workers.total, workers.truncated) == (["0", "1"], 3, True)


async def test_the_most_busy_tasks_come_first() -> None:
    states = {"a": {"memory": 9}, "b": {"processing": 1, "erred": OPAQUE}, "c": OPAQUE}
    tasks = await view(get_task_prefix_states=states).tasks()
    assert [(line.prefix, line.processing, line.memory, line.erred) for line in tasks.items] == [("b", 1, 0, 0), ("a", 0, 9, 0)]


@pytest.mark.parametrize("answer", [None, [], "x", OPAQUE])
async def test_an_answer_that_is_none_is_refused(answer: Any) -> None:
    with pytest.raises(Refused):
        await view(identity=answer).workers()
