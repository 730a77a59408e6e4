"""Logs hold no secrets, whoever writes them; metrics are declared once."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from jobledger_kit.credentials import new_api_key, sign_run_credential
from jobledger_kit.keyring import Key
from jobledger_kit.telemetry import METRICS, counter, gauge, redact, redact_text, render_metrics
from tests.unit.kit_http.support import RUN


def tokens() -> list[str]:
    return [new_api_key().token, sign_run_credential(Key(b"x" * 32, "run-credential"), RUN)]


@pytest.mark.parametrize("token", tokens(), ids=["api key", "run credential"])
def test_our_tokens_are_masked_in_any_text(token: str) -> None:
    for text in (token, f"got {token}.", f"Authorization: Bearer {token}", f"?token={token}&x=1"):
        assert token[4:] not in redact_text(text)
        assert token[20:40] not in redact_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ada:tiger@db:5432/x",
        "cannot reach amqp+ssl://ada:tiger@host",
        "Bearer tigertiger",
        "-----BEGIN RSA PRIVATE KEY-----\ntiger\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\ntiger",
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    assert "tiger" not in redact_text(text)


def test_values_under_a_secrets_name_are_masked_at_any_depth() -> None:
    event = {
        "event": "x",
        "password": "tiger",
        "api_key": b"tiger",
        "headers": {"Authorization": "tiger", "cookie": ["tiger"]},
        "list": [{"private_key_pass": "tiger"}, ("a", {"accessToken": "tiger"})],
        "settings": {"database_url": "postgresql://ada:tiger@db"},
        "key_id": "abc",
        "token_file": "/x",
        "count": 3,
    }
    masked = redact(None, "info", event)
    assert "tiger" not in repr(masked)
    assert (masked["key_id"], masked["token_file"], masked["count"]) == ("abc", "/x", 3)


def test_ours_and_the_libraries_lines_have_one_form(json_logs: None, capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger("ours").info("Job created", job_id="1", password="tiger")
    logging.getLogger("theirs").warning("cannot reach %s", "postgresql://ada:tiger@db")
    try:
        raise ConnectionError("postgresql://ada:tiger@db")
    except ConnectionError:
        structlog.get_logger("ours").exception("Failed")
    logging.getLogger("aiokafka").info("chatter")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["logger"], line["level"], line["service"]) for line in lines] == [
        ("ours", "info", "things"),
        ("theirs", "warning", "things"),
        ("ours", "error", "things"),
    ]
    assert "tiger" not in json.dumps(lines)
    assert "ConnectionError" in lines[2]["exception"]


def test_a_metric_is_declared_once_and_named_by_its_kind() -> None:
    counter("test_things_total", "Things", ("kind",)).labels("a").inc()
    with pytest.raises(ValueError, match="twice"):
        counter("test_things_total", "Things")
    with pytest.raises(ValueError, match="_total"):
        counter("test_things", "Things")
    with pytest.raises(ValueError, match="_total"):
        gauge("test_gauge_total", "Things")
    assert METRICS["jobledger_test_things_total"].labels == ("kind",)
    assert b'jobledger_test_things_total{kind="a"} 1.0' in render_metrics()
    assert all(metric.meaning for metric in METRICS.values())
