"""Reading event streams."""

from __future__ import annotations

from jobledger.watching import ServerSentEvent, parse_events


def test_events_are_read_as_the_standard_has_them() -> None:
    lines = [
        "id: 0:1",
        "event: status",
        'data: {"a":',
        "data: 1}",
        "",
        ": keep-alive",
        "id: 0:2",
        "",
        "data:x",
        "retry: 10",
        "",
        "data: cut",
    ]
    assert list(parse_events(iter(lines))) == [
        ServerSentEvent("0:1", "status", '{"a":\n1}'),
        ServerSentEvent("0:1"),
        ServerSentEvent("0:2", "message", ""),
        ServerSentEvent("0:2", "message", "x"),
    ]
