"""From folded events to rows: every event is kept, every job has one row, and batches make no difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobledger_contracts import job_events as e
from jobledger_contracts import scheduler_events as s
from jobledger_contracts import topics
from jobledger_contracts.catalogue import by_struct
from jobledger_contracts.envelope import Record, encode, new_event
from jobledger_contracts.ids import partition_for
from jobledger_jobs.projection import HistoryRow, JobRow, SearchRow, Share, WaitingRow, project, project_schedulers, project_waiting
from jobledger_kit.folds import FoldedBatch, fold_batch, fold_log

JOBS = [f"01990000-0000-7000-8000-00000000000{n}" for n in range(3)]
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARTITIONS = dict.fromkeys(topics.ALL, 1)


def record(offset: int, data: Any, *, id: str = "", value: bytes | None = None, source: str = "/test") -> Record:
    event = new_event(data, id=id or f"event-{offset}", source=source, time=START + timedelta(seconds=offset), actor="user:ada")
    key, encoded, headers = encode(event)
    assert partition_for(key, 1) == 0
    topic = by_struct(type(data)).topic
    return Record(topic, 0, offset, 1_772_366_400_000 + offset, key, encoded if value is None else value, list(headers))


def created(job_id: str = JOBS[0], **more: Any) -> e.JobCreated:
    return e.JobCreated(job_id=job_id, name="calibration", user="ada", label="hydro", job_type="BASIC", **more)


def folded(*data: Any) -> FoldedBatch:
    return fold_log([record(offset, item) for offset, item in enumerate(data)], PARTITIONS)


def test_job_has_one_row_a_batch_its_last_state() -> None:
    changes = project(
        folded(created(), e.ExecuteRequested(job_id=JOBS[0]), e.StatusChanged(job_id=JOBS[0], status="RUN", progress=0.5)).folded
    )

    (row,) = changes.jobs
    assert (row.job_id, row.version, row.partition, row.log_offset) == (JOBS[0], 3, 0, 2)
    assert (row.status, row.progress, row.run, row.owner, row.label) == ("Running", 0.5, 1, "ada", "hydro")
    assert row.execute_time == START + timedelta(seconds=1)


def test_every_event_is_kept_with_its_verdict() -> None:
    report = e.StatusChanged(job_id=JOBS[0], status="Complete")
    batch = fold_log(
        [
            record(0, created()),
            record(1, e.PauseRequested(job_id=JOBS[0])),
            record(2, report, id="same"),
            record(3, report, id="same"),
            record(4, e.StatusChanged(job_id=JOBS[0], status="Running")),
            record(5, e.StopRequested(job_id=JOBS[1])),
        ],
        PARTITIONS,
    )

    history = project(batch.folded).history

    assert [(row.outcome, row.reason) for row in history] == [
        ("applied", ""),
        ("refused", "not_started"),
        ("applied", ""),
        ("duplicate", "same_event"),
        ("superseded", "run_ended"),
        ("refused", "unknown"),
    ]
    assert [row.version for row in history] == [1, 2, 3, 4, 5, 1]


def test_event_without_effect_still_moves_the_jobs_position() -> None:
    (row,) = project(folded(created(), e.PauseRequested(job_id=JOBS[0])).folded).jobs

    assert (row.version, row.log_offset, row.status) == (2, 1, "Pending")


def test_event_about_an_unknown_job_makes_no_job() -> None:
    changes = project(folded(e.StopRequested(job_id=JOBS[1])).folded)

    assert changes.jobs == []
    assert changes.history[0].job_id == JOBS[1]
    assert changes.history[0].status == ""


def test_history_keeps_the_text_as_it_was_sent() -> None:
    text = b'{ "job_id": "%s",  "status":"RUN", "later_field": [1, 2] }' % JOBS[0].encode()
    batch = fold_log([record(0, created()), record(1, e.StatusChanged(job_id=JOBS[0], status="x"), value=text)], PARTITIONS)

    assert project(batch.folded).history[1].data == text.decode()


def test_shares_follow_the_groups_and_end_with_the_job() -> None:
    first = project(folded(created(groups=["ops", "hydro"])).folded)
    changed = project(folded(created(groups=["ops"]), e.JobChanged(job_id=JOBS[0], groups=["hydro"])).folded)
    deleted = project(folded(created(groups=["ops"]), e.JobDeleted(job_id=JOBS[0])).folded)
    untouched = project(folded(created(groups=["ops"]), e.StatusChanged(job_id=JOBS[0], status="RUN")).folded[1:])

    assert first.shares == [Share(JOBS[0], "hydro", START), Share(JOBS[0], "ops", START)]
    assert [share.group_name for share in changed.shares] == ["hydro"]
    assert (deleted.reshared, deleted.shares) == ([JOBS[0]], [])
    assert (untouched.reshared, untouched.shares) == ([], [])


class TestWaiting:
    READY = (created(process_results_function="flood:rank"), e.StatusChanged(job_id=JOBS[0], status="Complete"))

    def test_a_run_whose_results_wait_has_a_row(self) -> None:
        changes = project_waiting(folded(*self.READY).folded)
        assert changes.waiting == [WaitingRow(job_id=JOBS[0], run=1, label="hydro", owner="ada", attempt=0)]
        assert changes.over == []

    def test_an_attempt_is_counted(self) -> None:
        changes = project_waiting(folded(*self.READY, e.ResultsProcessingStarted(job_id=JOBS[0], run=1, attempt=3)).folded)
        assert [row.attempt for row in changes.waiting] == [3]

    @pytest.mark.parametrize(
        "last",
        [
            e.ResultsProcessed(job_id=JOBS[0], run=1, attempt=1),
            e.ResultsProcessingFailed(job_id=JOBS[0], run=1, attempt=1, last=True),
            e.StopRequested(job_id=JOBS[0]),
            e.ResubmitRequested(job_id=JOBS[0]),
            e.JobDeleted(job_id=JOBS[0]),
        ],
        ids=lambda data: type(data).__name__,
    )
    def test_it_goes_with_whatever_ends_the_wait(self, last: Any) -> None:
        batch = folded(*self.READY, last)
        for part in (batch.folded, batch.folded[2:]):
            changes = project_waiting(part)
            assert (changes.waiting, changes.over) == ([], [JOBS[0]])

    def test_other_jobs_have_none(self) -> None:
        changes = project_waiting(folded(created(), e.StatusChanged(job_id=JOBS[0], status="Complete")).folded)
        assert (changes.waiting, changes.over) == ([], [])


def test_schedulers_have_one_row_their_last_state() -> None:
    registered = s.SchedulerRegistered(name="pool", type="condor", host="h")
    batch = folded(
        registered,
        s.SchedulerHealthChanged(name="pool", health="up"),
        s.SchedulerRegistered(name="gone", type="dask", host="h"),
        s.SchedulerRemoved(name="gone"),
        s.SchedulerHealthChanged(name="never", health="up"),
    )

    rows = project_schedulers(batch.folded)

    assert [(row.name, row.type, row.health, row.usable) for row in rows if row.usable] == [("pool", "condor", "up", True)]
    assert [row.name for row in rows] == ["gone", "pool"]


# --- batches make no difference ---


class Tables:
    """What the SQL does with row changes, in memory."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobRow] = {}
        self.history: dict[tuple[int, int], HistoryRow] = {}
        self.shares: set[Share] = set()
        self.searched: dict[str, SearchRow] = {}
        self.counts: Counter[tuple[str, str, str, str, int]] = Counter()

    def apply(self, batch: FoldedBatch) -> None:
        changes = project(batch.folded)
        for row in changes.jobs:
            if row.job_id not in self.jobs or self.jobs[row.job_id].version < row.version:
                self.jobs[row.job_id] = row
        for event in changes.history:
            self.history.setdefault((event.partition, event.log_offset), event)
        self.shares = {share for share in self.shares if share.job_id not in changes.reshared} | set(changes.shares)
        for job_id in changes.reshared:
            self.searched.pop(job_id, None)
        self.searched |= {row.job_id: row for row in changes.searched}
        for row in changes.counts:
            self.counts[row.kind, row.name, row.label, row.status, row.partition] += row.jobs

    def bytes(self) -> bytes:
        return msgspec.json.encode([sorted(self.jobs.items()), sorted(self.history.items()), sorted(self.shares),
                                    sorted(self.searched.items()), sorted(self.counts.items())])  # fmt: skip


def events() -> st.SearchStrategy[Any]:
    job_ids = st.sampled_from(JOBS)
    statuses = st.sampled_from(["Submitted", "RUN", "Complete", "ERR", "Calibrating", "Paused", "RES"])
    groups = st.lists(st.sampled_from(["a", "b"]), unique=True)
    return st.one_of(
        st.builds(lambda job_id, g: created(job_id, groups=g), job_ids, groups),
        st.builds(lambda job_id, g: e.JobChanged(job_id=job_id, groups=g), job_ids, groups),
        st.builds(lambda job_id, status: e.StatusChanged(job_id=job_id, status=status), job_ids, statuses),
        *(
            st.builds(lambda job_id, kind=kind: kind(job_id=job_id), job_ids)
            for kind in (e.ExecuteRequested, e.StopRequested, e.PauseRequested, e.ResumeRequested, e.ResubmitRequested, e.JobDeleted)
        ),
    )


def cut(records: Sequence[Record], sizes: Iterable[int]) -> Iterable[Sequence[Record]]:
    start = 0
    for size in sizes:
        yield records[start : start + size]
        start += size
    yield records[start:]


@settings(max_examples=150, deadline=None)
@given(st.lists(events(), max_size=30), st.lists(st.integers(1, 7), max_size=12))
def test_rows_are_the_same_whatever_the_batches_were(data: list[Any], sizes: list[int]) -> None:
    records = [record(offset, item) for offset, item in enumerate(data)]
    whole = Tables()
    whole.apply(fold_log(records, PARTITIONS))

    in_batches, states = Tables(), dict[tuple[str, str], Any]()
    for part in cut(records, sizes):
        batch = fold_batch(part, PARTITIONS, states, ())
        in_batches.apply(batch)
        states |= batch.states

    assert in_batches.bytes() == whole.bytes()
    assert set(whole.searched) == {job_id for job_id, row in whole.jobs.items() if not row.deleted}
    assert +whole.counts == counted_anew(whole.jobs.values())


def counted_anew(rows: Iterable[JobRow]) -> Counter[tuple[str, str, str, str, int]]:
    """What the counts come to when the jobs are counted."""
    counts: Counter[tuple[str, str, str, str, int]] = Counter()
    for row in rows:
        if not row.deleted:
            named = [("any", "", ""), ("any", "", row.label), ("owner", row.owner, row.label)]
            named += [("group", group, row.label) for group in msgspec.json.decode(row.groups, type=list[str])]
            counts.update((*name, row.status, row.partition) for name in named)
    return counts
