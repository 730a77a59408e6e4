"""The tree of errors is drawn as it is, and settings tell all their faults at once."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from jobledger_kit import errors
from jobledger_kit.config import ServiceSettings, describe, without_password
from jobledger_kit.errors import BadSettings, JobledgerError, Kind
from jobledger_kit.http import STATUSES, classify

GOOD = {"JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092", "JOBLEDGER_DATABASE_URL": "postgresql://ada:tiger@db/jobledger"}


def every_error() -> list[type[JobledgerError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, JobledgerError)]


def test_the_tree_in_the_docstring_names_every_error_with_its_kind_and_parent() -> None:
    drawn: dict[str, tuple[str, str]] = {}
    above: list[str] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        if match := re.match(r"(?P<indent>[│ ]*(?:├── |└── ))(?P<name>\w+) \.+ (?P<kind>\w+)", line):
            depth = len(match["indent"]) // 4
            above[depth - 1 :] = [match["name"]]
            drawn[match["name"]] = (match["kind"], above[depth - 2] if depth > 1 else "JobledgerError")
    real = {kind.__name__: (kind.kind.value, kind.__mro__[1].__name__) for kind in every_error() if kind is not JobledgerError}
    assert drawn == real


@pytest.mark.parametrize("kind", every_error())
def test_every_error_says_what_it_means_and_whether_a_retry_can_help(kind: type[JobledgerError]) -> None:
    assert (kind.__doc__ or "").count("\n") == 0
    assert kind.retryable is (kind.kind is Kind.RETRYABLE)


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_an_http_status_that_fits_its_kind(kind: type[JobledgerError]) -> None:
    status = classify(kind)[0]
    fitting = {Kind.INVALID: range(400, 423), Kind.REFUSED: range(401, 410), Kind.RETRYABLE: (429, 503, 504), Kind.BROKEN: (500,)}
    assert status in fitting[kind.kind]


def test_slugs_are_unique() -> None:
    assert len({slug for _, slug, _ in STATUSES.values()}) == len(STATUSES)


def test_settings_come_from_the_environment() -> None:
    settings = ServiceSettings.load({**GOOD, "JOBLEDGER_HTTP_PORT": "0", "JOBLEDGER_DATA_DIR": "/var/x", "JOBLEDGER_ACCESS_LOG": "false"})
    assert (settings.http_port, settings.data_dir, settings.access_log, settings.partitions) == (0, Path("/var/x"), False, 4)
    assert settings.instance_id
    assert settings.database_url == "postgresql://ada:tiger@db/jobledger"


def test_all_problems_are_told_at_once_and_none_of_the_secrets() -> None:
    with pytest.raises(BadSettings) as caught:
        ServiceSettings.load(
            {
                "JOBLEDGER_DATABASE_URL": "mysql://ada:tiger@db",
                "JOBLEDGER_HTTP_PORT": "70000",
                "JOBLEDGER_LOG_FORMAT": "xml",
                "JOBLEDGER_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "JOBLEDGER_KAFKA_SSL_KEY_FILE": "/k",
            }
        )
    text = str(caught.value)
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "HTTP_PORT", "LOG_FORMAT", "KAFKA_SASL_USERNAME", "KAFKA_SSL_CERT_FILE"):
        assert f"JOBLEDGER_{name}" in text
    assert "tiger" not in text


def test_no_secret_is_in_the_repr() -> None:
    settings = ServiceSettings.load({**GOOD, "JOBLEDGER_KAFKA_SASL_PASSWORD": "lion"})
    assert "tiger" not in repr(settings)
    assert "lion" not in repr(settings)
    assert settings.kafka_sasl_password == "lion"


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://eva@db/x\n")
    settings = ServiceSettings.load({"JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": "k:1", "JOBLEDGER_DATABASE_URL_FILE": str(tmp_path / "url")})
    assert settings.database_url == "postgresql://eva@db/x"
    with pytest.raises(BadSettings, match="DATABASE_URL"):
        ServiceSettings.load({"JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": "k:1", "JOBLEDGER_DATABASE_URL_FILE": str(tmp_path / "none")})


def test_sasl_over_tls_is_passed_to_the_clients() -> None:
    settings = ServiceSettings.load(
        {
            **GOOD,
            "JOBLEDGER_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "JOBLEDGER_KAFKA_SASL_USERNAME": "ada",
            "JOBLEDGER_KAFKA_SASL_PASSWORD": "lion",
        }
    )
    options = settings.kafka_security()
    assert options.pop("ssl_context").check_hostname
    assert options == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ada",
        "sasl_plain_password": "lion",
    }


def test_every_setting_has_a_meaning_and_durations_and_sizes_name_their_unit() -> None:
    for name, _default, meaning in describe(ServiceSettings):
        assert meaning != "a value", name
        if "timeout" in name.lower() or "time for" in meaning:
            assert name.endswith("_S")
        if "largest" in meaning:
            assert name.endswith("_BYTES")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:ti@ger@db/x", "postgresql://ada:***@db/x"),
        ("postgresql://db/x?user=a&password=tiger", "postgresql://db/x?user=a&password=***"),
        ("postgresql://db/x", "postgresql://db/x"),
    ],
)
def test_a_urls_password_is_masked(url: str, shown: str) -> None:
    assert "tiger" not in without_password(url)
    assert without_password(url).startswith(shown[:20])
