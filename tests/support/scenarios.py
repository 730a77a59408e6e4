"""Scenarios as data: what is done to a whole Jobledger from outside, and what must be seen of it afterwards.

A scenario is a YAML file: `claim` (one sentence), `timeout_s`, `given` (steps, one after another; `do` says which kind, see the classes
below) and `then` (see `Then`). Texts may hold `{{name}}`: `job_id` (of the job that was created last; before that, a fresh id),
`neighbour_id` (an id in the same partition), `unique`, `now`, and what steps kept. What is expected is compared like this: of a mapping
only the members that are named, of a list every entry; a text `/.../` is a pattern to be found.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from jobledger import Connection, DaskJob, Job, JobManager
from jobledger.errors import Refused
from jobledger.job_manager import JOB_TYPES
from jobledger_contracts.ids import new_job_id, partition_for
from jobledger_devstack.model import Endpoints
from tests.support.eventually import NeverTrue, eventually

LABEL = "scenarios"
_NAME = re.compile(r"\{\{(\w+)\}\}")


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do"):
    """Base of the steps."""


class Create(Step, frozen=True, kw_only=True, tag="create"):
    """By the SDK: make a job with these attributes, and save it. `files` are written here and travel with it."""

    job: dict[str, Any]
    files: dict[str, str] = {}


class Call(Step, frozen=True, kw_only=True, tag="call"):
    """By the SDK: call a method of the job, which may have to be refused with a reason."""

    method: str
    arguments: dict[str, Any] = {}
    refused: str = ""


class Grant(Step, frozen=True, kw_only=True, tag="grant"):
    """By the SDK: get a credential of the job's run; `as: run` uses it."""

    statuses: list[str] | None = None


class Watch(Step, frozen=True, kw_only=True, tag="watch"):
    """By HTTP: follow the job from now on; `then.feed` says what must come."""


class Http(Step, frozen=True, kw_only=True, tag="http"):
    """A plain request to the jobs service, and what it must answer. `keep` names members of the answer."""

    request: str  #: method and path
    sender: Literal["admin", "run", "nobody"] = msgspec.field(default="admin", name="as")
    headers: dict[str, str] = {}
    json: Any = None
    form: dict[str, str] | None = None
    answers: int = 200
    body: Any = None
    keep: dict[str, str] = {}


class Publish(Step, frozen=True, kw_only=True, tag="publish"):
    """By a Kafka client that knows nothing of us: one record, partitioned by murmur2. `keep` is a name for its position."""

    headers: dict[str, str]
    topic: str = "jobledger.jobs"
    key: str = "{{job_id}}"
    json: Any = None
    text: str | None = None  #: instead of `json`: the value as it is
    keep: str = ""


class Until(Step, frozen=True, kw_only=True, tag="until"):
    """Wait until the job is seen like this."""

    view: dict[str, Any]


class Then(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must be seen at last."""

    view: dict[str, Any] = {}  #: of the job
    history: list[dict[str, Any]] = []  #: all of it
    history_in_order: list[dict[str, Any]] = []  #: these, perhaps with others between them
    verdicts: list[str] = []  #: no others stand in the history
    feed: list[dict[str, Any]] = []  #: server-sent events, perhaps with others between them
    files: dict[str, str] = {}  #: path in the workspace -> content
    result: Any = None  #: of a DASK job
    dead_letters: dict[str, dict[str, Any]] = {}  #: by position


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file."""

    claim: str
    timeout_s: float
    given: list[Create | Call | Grant | Watch | Http | Publish | Until]
    then: Then


def load(path: Path) -> Scenario:
    """Read a scenario. Raises msgspec.ValidationError for what is none."""
    return msgspec.yaml.decode(path.read_bytes(), type=Scenario)


class Stage(msgspec.Struct, frozen=True):
    """Where scenarios are played: any number of them at once."""

    endpoints: Endpoints
    connection: Connection
    api_key: str
    partitions: int

    @classmethod
    def open(cls, endpoints: Endpoints) -> Stage:
        api_key = Path(endpoints.admin_key_file).read_text().strip()

        return cls(endpoints, Connection.discover(home=Path(endpoints.home), environ={}), api_key, _partitions(endpoints.kafka_bootstrap))


def play(scenario: Scenario, stage: Stage) -> float:
    """Do what is given, check what is said of it, and return how many seconds it took. Raises AssertionError with the whole history."""
    begun = time.monotonic()
    with ExitStack() as exits:
        one = _Play(scenario, stage, exits)
        try:
            for step in scenario.given:
                one.do(step)
            one.check(scenario.then)
        except (AssertionError, Refused) as error:
            raise AssertionError(f"{scenario.claim}\n{error}\n{one.story()}") from error
    return time.monotonic() - begun


class _Play:
    def __init__(self, scenario: Scenario, stage: Stage, exits: ExitStack) -> None:
        self._stage, self._exits = stage, exits
        self._deadline = time.monotonic() + scenario.timeout_s
        self._http = exits.enter_context(httpx.Client(base_url=stage.endpoints.jobs_url, timeout=30, trust_env=False))
        self._names = fresh_names(stage.partitions)
        self._job: Job | None = None
        self._run_token = ""
        self._feed: Iterator[dict[str, Any]] = iter(())

    def do(self, step: Step) -> None:
        action = {Create: self._create, Call: self._call, Grant: self._grant, Watch: self._watch, Http: self._request}
        action |= {Publish: self._publish, Until: self._until}
        action[type(step)](step)  # type: ignore[operator]  # each takes its own kind

    # --- steps ------------------------------------------------------------------------------------------------------------

    def _create(self, step: Create) -> None:
        folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory()))
        for name, text in step.files.items():
            (folder / name).write_text(text)
        wanted = self._filled(step.job) | ({"remote_input_files": [str(folder / name) for name in step.files]} if step.files else {})
        kind = JOB_TYPES[wanted.pop("job_type")]
        self._job = JobManager(LABEL, self._stage.connection).create_job(wanted.pop("name"), job_type=kind, **wanted)
        self._job.save()
        self._names["job_id"] = self._job.id

    def _call(self, step: Call) -> None:
        assert self._job is not None, "no job was created"
        reason = ""
        try:
            getattr(self._job, step.method)(**self._filled(step.arguments))
        except Refused as error:
            reason = error.reason
        assert reason == step.refused, f"{step.method} is refused: {reason!r}"

    def _grant(self, step: Grant) -> None:
        assert self._job is not None, "no job was created"
        self._run_token = self._job.callback_credential(statuses=step.statuses).token

    def _watch(self, step: Watch) -> None:
        path = f"/jobs/{self._names['job_id']}/events"
        answer = self._exits.enter_context(self._http.stream("GET", path, headers=self._bearer("admin"), timeout=self._left_s()))
        assert answer.status_code == 200, answer.read()
        self._feed = _server_sent(answer.iter_lines(), self._deadline)

    def _request(self, step: Http) -> None:
        method, path = self._filled(step.request).split()
        headers = {**self._bearer(step.sender), **self._filled(step.headers)}
        answer = self._http.request(method, path, json=self._filled(step.json), data=self._filled(step.form), headers=headers)
        assert answer.status_code == step.answers, f"{step.request} answers {answer.status_code}: {answer.text}"
        body = answer.json() if answer.content else None
        assert step.body is None or fits(self._filled(step.body), body), f"{step.request} answers {body}"
        for name, member in step.keep.items():
            assert isinstance(body, dict), f"{step.request} answers {body}"
            self._names[name] = str(body[member])

    def _publish(self, step: Publish) -> None:
        value = step.text if step.text is not None else json.dumps(self._filled(step.json))
        options = {"bootstrap.servers": self._stage.endpoints.kafka_bootstrap, "partitioner": "murmur2_random"}
        producer = Producer({**options, "acks": "all", "enable.idempotence": True})
        placed: list[str] = []

        def note(error: Any, message: Any) -> None:
            placed.append(f"failed: {error}" if error else f"{message.partition()}:{message.offset()}")

        headers = list(self._filled(step.headers).items())
        producer.produce(step.topic, key=self._filled(step.key), value=self._filled(value), headers=headers, on_delivery=note)
        assert producer.flush(30) == 0, "Kafka does not answer"
        assert not placed[0].startswith("failed"), placed
        self._names[step.keep or "published"] = placed[0]

    def _until(self, step: Until) -> None:
        self._eventually(lambda: fits(self._filled(step.view), self._view()), f"the job is never seen like {step.view}")

    # --- what is seen -----------------------------------------------------------------------------------------------------

    def check(self, then: Then) -> None:
        then = msgspec.convert(self._filled(msgspec.to_builtins(then)), Then)
        if then.view:
            self._until(Until(view=then.view))
        if then.history:
            self._eventually(lambda: fits(then.history, self._history()), "the history is another")
        if then.history_in_order:
            self._eventually(lambda: in_order(then.history_in_order, self._history()), f"not in the history: {then.history_in_order}")
        if then.verdicts:
            other = [entry for entry in self._history() if entry["verdict"] not in then.verdicts]
            assert not other, f"verdicts that are not expected: {other}"
        self._check_feed(then.feed)
        for path, content in then.files.items():
            answer = self._get(f"/jobs/{self._names['job_id']}/files/{path}")
            assert answer.status_code == 200, f"{path} answers {answer.status_code}"
            assert fits(content, answer.text), f"{path} holds {answer.text!r}"
        if then.result is not None:
            assert isinstance(self._job, DaskJob)
            assert self._job.result() == then.result
        for position, letter in then.dead_letters.items():
            path = f"/jobs/dead-letters/jobledger.jobs/{position}"
            self._eventually(lambda path=path: self._get(path).status_code == 200, f"no dead letter at {position}")
            assert fits(letter, self._get(path).json()), self._get(path).json()

    def _check_feed(self, expected: Sequence[Mapping[str, Any]]) -> None:
        seen = []
        for wanted in expected:
            for event in self._feed:
                seen.append(event)
                if fits(wanted, event):
                    break
            else:
                raise AssertionError(f"{wanted} does not come: {seen}")

    def _view(self) -> dict[str, Any]:
        answer = self._get(f"/jobs/{self._names['job_id']}")
        view: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return view

    def _history(self) -> list[dict[str, Any]]:
        answer = self._get(f"/jobs/{self._names['job_id']}/history?limit=500")
        entries: list[dict[str, Any]] = answer.json()["items"] if answer.status_code == 200 else []
        return entries

    def story(self) -> str:
        """All that is known of the job, for whoever reads the failure."""
        lines = [f"{e['position']} {e['type']} {e['actor']} {e['verdict']} {e['reason']} {e['data']}" for e in self._history()]
        return "\n".join([f"{self._names}", f"{self._view()}", *lines])

    def _get(self, path: str) -> httpx.Response:
        return self._http.get(path, headers=self._bearer("admin"))

    def _bearer(self, who: str) -> dict[str, str]:
        token = {"admin": self._stage.api_key, "run": self._run_token, "nobody": ""}[who]
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _eventually(self, fn: Any, complaint: str) -> None:
        try:
            eventually(fn, self._left_s(), 0.1)
        except NeverTrue as error:
            raise AssertionError(complaint) from error

    def _left_s(self) -> float:
        return max(0.5, self._deadline - time.monotonic())

    def _filled(self, value: Any) -> Any:
        return filled(value, self._names)


# --- pieces --------------------------------------------------------------------------------------------------------------


def fresh_names(partitions: int) -> dict[str, str]:
    """The names that every scenario has: two fresh job ids of one partition among them."""
    ids: dict[int, list[str]] = {}
    while True:
        job_id = new_job_id(time.time_ns() // 1_000_000, os.urandom(10))
        pair = ids.setdefault(partition_for(job_id.encode(), partitions), [])
        pair.append(job_id)
        if len(pair) == 2:
            break
    return {"job_id": pair[0], "neighbour_id": pair[1], "unique": uuid.uuid4().hex, "now": datetime.now(UTC).isoformat()}


def filled(value: Any, names: Mapping[str, str]) -> Any:
    """The value with names put in wherever a text holds `{{name}}`. Raises KeyError for a name that there is not."""
    if isinstance(value, str):
        return _NAME.sub(lambda match: names[match[1]], value)
    if isinstance(value, Mapping):
        return {filled(name, names): filled(member, names) for name, member in value.items()}
    return [filled(entry, names) for entry in value] if isinstance(value, list) else value


def fits(expected: Any, actual: Any) -> bool:
    """Say whether `actual` is as expected; see the module's words."""
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(name in actual and fits(value, actual[name]) for name, value in expected.items())
    if isinstance(expected, list):
        return isinstance(actual, list) and len(actual) == len(expected) and all(map(fits, expected, actual))
    if isinstance(expected, str) and len(expected) > 1 and expected[0] == expected[-1] == "/":
        return isinstance(actual, str) and re.search(expected[1:-1], actual) is not None
    return bool(expected == actual)


def in_order(expected: Sequence[Any], actual: Sequence[Any]) -> bool:
    """Say whether all that is expected comes, in this order."""
    rest = iter(actual)
    return all(any(fits(wanted, entry) for entry in rest) for wanted in expected)


def _server_sent(lines: Iterator[str], deadline: float) -> Iterator[dict[str, Any]]:
    """Server-sent events as {id, event, data}, until the deadline; the data is JSON. Keep-alive comments let it notice that in time."""
    event: dict[str, Any] = {}
    for line in lines:
        if time.monotonic() > deadline:
            return
        name, _, value = line.partition(":")
        if not line:
            if "data" in event:
                yield event | {"data": json.loads(event["data"])}
            event = {}
        elif name:
            event[name] = value.removeprefix(" ")


def _partitions(bootstrap_servers: str) -> int:
    """How many partitions the topic of jobs has."""
    known = AdminClient({"bootstrap.servers": bootstrap_servers}).list_topics("jobledger.jobs", timeout=30)
    return len(known.topics["jobledger.jobs"].partitions)
