"""Hypothesis strategies: any event of the catalogue, and any record, good or hostile."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from jobledger_contracts import cluster_events as c
from jobledger_contracts import job_events as j
from jobledger_contracts import scheduler_events as s
from jobledger_contracts import setting_events as t
from jobledger_contracts.envelope import Event, Record, encode, new_event
from jobledger_contracts.examples import JOB_ID
from jobledger_contracts.ids import partition_for
from jobledger_contracts.statuses import Status
from jobledger_contracts.topics import ALL
from tests.support.events import BEGIN

PARTITIONS = 4

SOURCES = ("/jobledger/jobs", "/jobledger/jobs/callback", "/jobledger/schedulers/pool", "urn:elsewhere:1")

_characters = st.characters(codec="utf-8", exclude_characters="\0")
good_text = st.text(_characters, max_size=20)
words = st.text(_characters, min_size=1, max_size=20)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | good_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(good_text, inner, max_size=3),
    max_leaves=6,
)
members = st.dictionaries(good_text, json_values, max_size=3)
codes = st.none() | st.integers(-(2**31), 2**31)
some_status = st.sampled_from([s.value for s in Status] + [s.code for s in Status]) | words

functions = st.sampled_from(["", "flood.results:rank", "flood.results.plot"])

_specs = st.builds(
    j.CondorSpec,
    executable=good_text,
    arguments=st.lists(good_text, max_size=2),
    attributes=st.dictionaries(good_text, good_text | st.booleans()),
)
_graphs = st.builds(j.DaskSpec, function=good_text, args=st.lists(json_values, max_size=2), kwargs=members)
_job = st.just(JOB_ID)
_pool, _school = st.just("pool"), st.just("school")
_descriptions = {
    "name": _pool,
    "type": st.sampled_from(["condor", "dask"]),
    "host": st.sampled_from(["a", "b"]),
    "port": st.integers(0, 65535),
    "transport": st.sampled_from(["bindings", "ssh", "tcp"]),
    "timeout_s": st.floats(0.1, 3600),
}
_CREATED = {
    "job_id": _job,
    "name": st.sampled_from(["Flood", "Flood {id}"]) | words,
    "user": words,
    "label": words,
    "job_type": st.sampled_from(j.JOB_TYPES),
    "groups": st.lists(words, max_size=2),
    "extended_properties": members,
    "scheduler": st.sampled_from(["", "pool"]),
    "condor": st.none() | _specs,
    "dask": st.none() | _graphs,
    "process_results_function": functions,
}

job_reports = st.builds(
    j.StatusChanged,
    job_id=_job,
    status=some_status,
    run=st.none() | st.integers(1, 4),
    restarts=st.none() | st.integers(0, 2),
    message=st.none() | good_text,
    progress=st.none() | st.floats(0, 1),
    scheduler_job_ref=st.none() | good_text,
    exit_code=codes,
    exit_signal=codes,
    evidence=members,
    resources=st.none() | st.builds(j.Resources, cpu_user_s=st.none() | st.floats(0, 1e9), hosts=st.lists(words, max_size=2)),
)
job_requests = st.one_of(
    [
        st.builds(kind, job_id=_job, reason=good_text)
        for kind in (j.StopRequested, j.PauseRequested, j.ResumeRequested, j.ResubmitRequested, j.JobDeleted)
    ]
    + [st.builds(kind, job_id=_job) for kind in (j.ExecuteRequested, j.RefreshRequested)]
)
_attempt = {"job_id": _job, "run": st.integers(1, 3), "attempt": st.integers(1, 4), "worker": good_text, "message": st.none() | good_text}
job_processing = st.one_of(
    st.builds(j.ResultsProcessingStarted, **_attempt),
    st.builds(j.ResultsProcessed, **_attempt),
    st.builds(j.ResultsProcessingFailed, last=st.booleans(), error=good_text, traceback=good_text, **_attempt),
)
job_data = st.one_of(
    st.builds(j.JobCreated, **_CREATED),
    st.builds(
        j.JobChanged,
        job_id=_job,
        name=st.none() | words,
        description=st.none() | good_text,
        scheduler=st.none() | st.sampled_from(["", "pool"]),
        condor=st.none() | _specs,
        extended_properties=st.none() | members,
        process_results_function=st.none() | functions,
    ),
    job_requests,
    job_reports,
    job_reports,
    job_processing,
    st.builds(j.ResultsCollected, job_id=_job, run=st.integers(1, 4), missing=st.lists(good_text, max_size=2)),
)
scheduler_data = st.one_of(
    st.builds(s.SchedulerRegistered, **_descriptions),
    st.builds(s.SchedulerChanged, **_descriptions),
    st.builds(s.SchedulerRemoved, name=_pool, reason=good_text),
    st.builds(
        s.SchedulerHealthChanged, name=_pool, health=st.sampled_from(["up", "degraded", "down"]), detail=good_text, version=good_text
    ),
)
cluster_data = st.one_of(
    st.builds(c.ClusterCreated, name=_school, provider=good_text, kind=st.sampled_from(["condor", "dask"]), size=st.integers(0, 3)),
    st.builds(c.ResizeRequested, name=_school, size=st.integers(0, 3)),
    st.builds(c.TerminateRequested, name=_school),
    st.builds(
        c.ClusterStatusChanged,
        name=_school,
        status=st.sampled_from(["Starting", "Running", "Updating", "Stopped", "Error", "Deleted"]),
        nodes=st.integers(0, 3),
        message=good_text,
    ),
)
_setting, _engine = st.just("hydro/primary"), st.sampled_from(["condor", "dask"])
setting_data = st.one_of(
    st.builds(t.SettingDeclared, setting=_setting, engine=_engine, description=good_text, required=st.booleans()),
    st.builds(t.SettingAssigned, setting=_setting, scheduler=st.sampled_from(["pool", "other"]), engine=_engine),
    st.builds(t.SettingUnassigned, setting=_setting, reason=good_text),
    st.builds(t.SettingWithdrawn, setting=_setting),
)
any_data = st.one_of(job_data, scheduler_data, cluster_data, setting_data)

times: st.SearchStrategy[datetime] = st.integers(-100, 100).map(lambda seconds: BEGIN + timedelta(seconds=seconds))
event_ids = st.sampled_from([f"id-{n}" for n in range(12)]) | words


def events(data: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    """Events about such data, with ids that repeat and clocks that disagree."""
    return st.builds(
        new_event,
        data,
        id=event_ids,
        source=st.sampled_from(SOURCES),
        time=times,
        actor=good_text,
        correlation_id=good_text,
        causation_id=good_text,
        extensions=st.dictionaries(st.from_regex(r"x[a-z0-9]{1,8}", fullmatch=True), words, max_size=2),
    )


# --- hostile records -------------------------------------------------------------------------------------------------------------

_names = st.sampled_from(
    [
        "ce_id",
        "CE_ID",
        "ce_source",
        "ce_type",
        "ce_specversion",
        "ce_time",
        "ce_dataschema",
        "ce_datacontenttype",
        "content-type",
        "Content-Type",
        "ce_partitionkey",
        "ce_subject",
        "ce_x",
        "ce_",
        "ce_data",
        "ce_\0",
        "\udcff",
        "ce_\u212a",
        "",
    ]
)
_header_values = st.one_of(
    st.none(),
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"1.0",
            b"StatusChanged",
            b"JobCreated",
            b"application/json",
            b"application/cloudevents+json",
            b"application/cloudevents",
            b"text/xml",
            b"urn:jobledger:StatusChanged:1",
            b"urn:jobledger:StatusChanged:99999999",
            b"2026-11-20T12:00:60Z",
            b"9999-12-31T23:59:60-23:59",
            b"0001-01-01T00:00:00+23:59",
            JOB_ID.encode(),
            b"\xff",
            b"a\0b",
            b"x" * 9000,
        ]
    ),
)
_scraps = st.sampled_from(
    [
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"\0",
        b"\xff",
        b"NaN",
        b"1e999",
        b"9" * 17,
        b"9" * 5000,
        b"null",
        b'"job_id"',
        b'"status"',
        b'"data"',
        b'"data_base64"',
        b'"specversion":"1.0"',
        b'"id":"1"',
        b'"' + JOB_ID.encode() + b'"',
        b"[" * 2000,
        b'{"a":' * 2000,
        b"\xef\xbb\xbf",
        b" ",
    ]
)
_garbage_values = st.none() | st.binary(max_size=60) | st.lists(_scraps, max_size=12).map(b"".join)


@st.composite
def _damaged(draw: st.DrawFn) -> Record:
    """A good record in which a few bytes, or headers, were replaced."""
    event = draw(events(any_data))
    key, value, headers = encode(event)
    damage = draw(st.lists(st.tuples(st.integers(0, len(value)), st.integers(0, 9), _scraps), max_size=3))
    for place, length, scrap in damage:
        value = value[:place] + scrap + value[place + length :]
    more = draw(st.lists(st.tuples(_names, _header_values), max_size=3))
    topic = draw(st.sampled_from(ALL))
    return Record(topic, partition_for(key, PARTITIONS), 0, draw(_timestamps), key, value, (*headers, *more))


_timestamps = st.sampled_from([0, -1, -(2**63), 2**63 - 1, 1_790_000_000_000])
_keys = st.none() | st.binary(max_size=40) | st.sampled_from([JOB_ID.encode(), b"pool", b"pool\n", b"school\0", b"\xff"])
_garbage = st.builds(
    lambda topic, key, value, headers, timestamp: Record(
        topic, partition_for(key, PARTITIONS) if key else 0, 0, timestamp, key, value, tuple(headers)
    ),
    st.sampled_from(ALL),
    _keys,
    _garbage_values,
    st.lists(st.tuples(_names, _header_values), max_size=8),
    _timestamps,
)
hostile_records: st.SearchStrategy[Record] = _garbage | _damaged()
