"""Following what a run writes: from where it runs, then from what it left, without a gap and without repetition."""

from __future__ import annotations

import httpx
import pytest

from jobledger import BasicJob, Connection
from jobledger.errors import InvalidArgument, Refused
from jobledger.http import ServiceClient
from jobledger.tailing import REFUSALS, tail
from jobledger.views import JobView

JOB_ID = "0198c0de-0000-8000-8000-000000000001"


class World:
    """A run whose states are played one after the other: each look at the job turns the page."""

    def __init__(self, *pages: tuple[str, bytes | None]) -> None:
        self.pages, self.page, self.asked = list(pages), -1, list[str]()
        self.slept = 0
        connection = Connection(jobs_url="http://jobs.test", schedulers_url="http://schedulers.test", api_key="k")
        for name in ("jobs", "schedulers"):
            transport = httpx.MockTransport(self)
            connection._clients[name] = ServiceClient(f"http://{name}.test", "k", name=name, transport=transport, sleep=lambda _: None)
        self.connection = connection

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if "/files/" in path:
            return self._file(request)
        if path.startswith("/schedulers/"):
            return self._piece(request)
        self.page = min(self.page + 1, len(self.pages) - 1)
        code = self.pages[self.page][0]
        view = {"id": JOB_ID, "status": code, "status_code": code, "run": 1, "run_id": f"{JOB_ID}.1", "scheduler": "pool"}
        return httpx.Response(200, json=view)

    def _piece(self, request: httpx.Request) -> httpx.Response:
        written, offset = self.pages[self.page][1], int(request.url.params["offset"])
        if written is None:
            return httpx.Response(409, json={"title": "no", "detail": "nothing yet"})
        start = offset if offset <= len(written) else 0
        headers = {"jobledger-offset": str(start), "jobledger-size": str(len(written))}
        return httpx.Response(200, content=written[start : start + 4], headers=headers)

    def _file(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path.partition("/files/")[2])
        written = self.pages[-1][1]
        if written is None or "process-0" in request.url.path:
            return httpx.Response(404, json={"title": "Not found"})
        wanted = request.headers.get("range", "bytes=0-")
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(written):
            return httpx.Response(416, json={"title": "no such bytes"})
        return httpx.Response(206, content=written[start:])

    def said(self, **how: object) -> bytes:
        job = BasicJob("flood", connection=self.connection, label="hydro")
        job.view = JobView(id=JOB_ID)
        return b"".join(tail(job, self.connection, sleep=self._sleep, **how))  # type: ignore[arg-type]

    def _sleep(self, _: float) -> None:
        self.slept += 1


def test_followed_to_its_end_everything_comes_once() -> None:
    world = World(("SUB", None), ("RUN", None), ("RUN", b"one "), ("RUN", b"one two three"), ("COM", b"one two three four"))
    assert world.said(follow=True) == b"one two three four"


def test_without_following_it_is_what_there_is_now() -> None:
    world = World(("RUN", b"one two"))
    assert (world.said(), world.slept) == (b"one two", 0)
    assert World(("SUB", None)).said() == b""


def test_what_is_begun_anew_is_read_from_its_beginning() -> None:
    world = World(("RUN", b"first try"), ("RUN", b"first try"), ("RUN", b"first try"), ("RUN", b"2"), ("COM", b"2nd"))
    assert world.said(follow=True) == b"first try2nd"


def test_nothing_more_after_the_end_is_no_error() -> None:
    assert World(("COM", b"all")).said(offset=3) == b""
    assert World(("ERR", None)).said() == b""


def test_a_process_has_a_folder_of_its_own() -> None:
    world = World(("COM", b"all"))
    assert world.said(process=2, stream="stderr") == b"all"
    assert world.asked == ["run-1/process-2/stderr.txt"]


def test_refused_again_and_again_it_says_so() -> None:
    world = World(("RUN", None))
    with pytest.raises(Refused, match="nothing yet"):
        world.said(follow=True)
    assert world.slept == REFUSALS
    with pytest.raises(InvalidArgument):
        world.said(stream="log")
