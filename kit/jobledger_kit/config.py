"""Settings from the environment: `JOBLEDGER_<NAME>` for each field, every problem reported at once, secrets never in a repr.

A service adds its own by subclassing `ServiceSettings`. A secret setting may also come from a file: `JOBLEDGER_<NAME>_FILE`.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from .errors import BadSettings

_USERINFO = re.compile(r"(?<=://)([^/@:]*):[^/@]*(?=@)")


class Secret(str):
    """A text that does not show itself when it is printed as part of something else."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class SecretUrl(Secret):
    """A URL whose password does not show itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(without_password(self))


def without_password(url: str) -> str:
    """Return the URL (or URLs in a text) with its password masked.

    >>> without_password("postgresql://ada:tiger@db/jobledger")
    'postgresql://ada:***@db/jobledger'
    """
    masked = _USERINFO.sub(r"\1:***", url)
    return re.sub(r"(?i)([?&](?:ssl)?password=)[^&\s]*", r"\1***", masked)


SIGNATURE_ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""What a token may be signed by: with a private key that only its issuer has."""

Port = Annotated[int, Meta(ge=0, le=65_535)]


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every service needs to be told. Durations are in seconds, sizes in bytes, as their names say."""

    prefix: ClassVar[str] = "JOBLEDGER_"

    kafka_bootstrap_servers: Annotated[str, Meta(min_length=1, description="Kafka brokers, as host:port separated by commas")]
    database_url: Annotated[SecretUrl, Meta(description="PostgreSQL, as postgresql://user:password@host:port/database")]
    secrets_dir: Annotated[Path, Meta(description="folder with run-credential.key and sealing.key")] = Path("secrets")
    data_dir: Annotated[Path | None, Meta(description="folder for what this instance writes, such as its port file")] = None
    workspaces_url: Annotated[str, Meta(description="where the jobs' folders are, as an fsspec URL")] = (
        "file:///var/lib/jobledger/workspaces"
    )
    jobs_url: Annotated[str, Meta(description="base URL of the jobs service, as the jobs themselves reach it")] = "http://127.0.0.1:8000"

    http_host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    http_port: Annotated[Port, Meta(description="port to listen on; 0 takes a free one")] = 8000
    max_body_bytes: Annotated[int, Meta(ge=1, description="largest request body, except for uploads")] = 1024 * 1024
    shutdown_timeout_s: Annotated[float, Meta(gt=0, description="time for a graceful stop; then the process ends anyway")] = 10.0

    log_format: Annotated[Literal["json", "console"], Meta(description="JSON lines, or text for people")] = "json"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least important level that is logged")] = "info"
    access_log: Annotated[bool, Meta(description="one log line for each request")] = True

    topic_prefix: Annotated[str, Meta(max_length=100, description="goes before every topic's name: several installations on one Kafka")] = (
        ""
    )
    partitions: Annotated[int, Meta(ge=1, le=10_000, description="partitions of each topic; fixed when the topics are made")] = 4
    instance_id: Annotated[str, Meta(min_length=1, max_length=200, description="name of this instance, stable over its restarts")] = ""
    role: Annotated[Literal["all", "api", "projector", "reactors"], Meta(description="the parts of the service that this process runs")] = (
        "all"
    )

    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Meta(description="how to talk to Kafka")
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Meta(description="how to log in to Kafka")] = (
        "SCRAM-SHA-512"
    )
    kafka_sasl_username: Annotated[str, Meta(description="user name for Kafka")] = ""
    kafka_sasl_password: Annotated[Secret, Meta(description="password for Kafka")] = Secret("")
    kafka_ssl_ca_file: Annotated[Path | None, Meta(description="who signs the brokers' certificates; default: as the system has it")] = None
    kafka_ssl_cert_file: Annotated[Path | None, Meta(description="our certificate for Kafka, with its chain")] = None
    kafka_ssl_key_file: Annotated[Path | None, Meta(description="the key of our certificate for Kafka")] = None

    oidc_issuer: Annotated[
        str, Meta(description="whose signed tokens (OpenID Connect) are accepted beside API keys, as their `iss` says it")
    ] = ""
    oidc_audience: Annotated[str, Meta(description="what a token's `aud` has to name; needed with an issuer")] = ""
    oidc_jwks_url: Annotated[str, Meta(description="where the issuer's keys are; default: as its discovery document says")] = ""
    oidc_algorithms: Annotated[str, Meta(description="signature algorithms that count, separated by commas; never a symmetric one")] = (
        "RS256,ES256"
    )
    oidc_user_claim: Annotated[str, Meta(min_length=1, description="the claim with the user's name; dots lead into objects")] = "sub"
    oidc_groups_claim: Annotated[str, Meta(min_length=1, description="the claim with the user's groups; dots lead into objects")] = "groups"
    oidc_admin_group: Annotated[str, Meta(description="the group whose members are administrators; default: nobody is by a token")] = ""
    oidc_leeway_s: Annotated[int, Meta(ge=0, le=300, description="how far the issuer's clock may differ from ours")] = 30

    @classmethod
    def load(cls, environ: Mapping[str, str], **overrides: Any) -> Self:
        """Read the settings; `overrides` (from a command line) win. Raises BadSettings with every problem."""
        values, problems = dict[str, Any](), list[str]()
        hints = get_type_hints(cls, include_extras=True)
        fields = msgspec.structs.fields(cls)
        for field in fields:
            name = f"{cls.prefix}{field.name.upper()}"
            try:
                text = overrides.get(field.name)
                text = _given(environ, name, hints[field.name]) if text is None else text
                if text is not None:
                    values[field.name] = _convert(text, hints[field.name])
                elif field.required:
                    problems.append(f"{name} is not set: {_meaning(hints[field.name])}")
            except (ValueError, OSError) as error:  # msgspec.ValidationError is a ValueError
                problems.append(f"{name}: {_explain(error)}; it is to be {_meaning(hints[field.name])}")
        if not values.get("instance_id"):
            values["instance_id"] = socket.gethostname()
        problems += cls.check(values)
        if problems:
            raise BadSettings(problems)
        return cls(**values)

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> list[str]:
        """Say what is wrong with values that are good one by one. A service extends it with its own rules."""
        problems = []
        url = values.get("database_url")
        if url is not None and urlsplit(url).scheme not in ("postgresql", "postgres"):
            problems.append(f"{cls.prefix}DATABASE_URL: a postgresql:// URL is expected")
        if "SASL" in values.get("kafka_security_protocol", "") and not values.get("kafka_sasl_username"):
            problems.append(f"{cls.prefix}KAFKA_SASL_USERNAME is not set, though {cls.prefix}KAFKA_SECURITY_PROTOCOL asks for a log-in")
        if bool(values.get("kafka_ssl_cert_file")) != bool(values.get("kafka_ssl_key_file")):
            problems.append(f"{cls.prefix}KAFKA_SSL_CERT_FILE and {cls.prefix}KAFKA_SSL_KEY_FILE go together")
        if values.get("oidc_issuer") and not values.get("oidc_audience"):
            problems.append(f"{cls.prefix}OIDC_AUDIENCE is not set: without it, a token that was issued for anything would be accepted")
        if wrong := set(values.get("oidc_algorithms", "").replace(",", " ").split()) - SIGNATURE_ALGORITHMS:
            known = ", ".join(sorted(SIGNATURE_ALGORITHMS))
            problems.append(f"{cls.prefix}OIDC_ALGORITHMS: {', '.join(sorted(wrong))} cannot be used; {known} can")
        return problems

    def kafka_security(self) -> dict[str, Any]:
        """The security arguments that every aiokafka client takes. Reads the certificate files; raises OSError or ssl.SSLError."""
        options: dict[str, Any] = {"security_protocol": self.kafka_security_protocol}
        if "SSL" in self.kafka_security_protocol:
            context = ssl.create_default_context(cafile=self.kafka_ssl_ca_file)
            if self.kafka_ssl_cert_file is not None:
                context.load_cert_chain(self.kafka_ssl_cert_file, self.kafka_ssl_key_file)
            options["ssl_context"] = context
        if self.kafka_security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.kafka_sasl_mechanism,
                "sasl_plain_username": self.kafka_sasl_username,
                "sasl_plain_password": str(self.kafka_sasl_password),
            }
        return options


def describe(cls: type[ServiceSettings]) -> list[tuple[str, str, str]]:
    """Return (variable, default, meaning) of each setting: what the reference page is made of. Default "" means: required, or none."""
    hints = get_type_hints(cls, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(cls):
        default = field.default
        shown = "" if default is msgspec.NODEFAULT or default is None or default == "" else str(default)
        rows.append((f"{cls.prefix}{field.name.upper()}", shown, _meaning(hints[field.name])))
    return rows


def _given(environ: Mapping[str, str], name: str, hint: Any) -> str | None:
    """The text of a variable; of the file that `<NAME>_FILE` names when it is a secret. Unset and empty are the same."""
    text = environ.get(name) or None
    if text is None and _is_secret(hint) and (file := environ.get(f"{name}_FILE")):
        text = Path(file).read_text().strip() or None
    return text


def _is_secret(hint: Any) -> bool:
    bare = getattr(hint, "__origin__", hint)
    return isinstance(bare, type) and issubclass(bare, Secret)


def _convert(value: Any, hint: Any) -> Any:
    # An empty folder name would mean the current folder; msgspec has no type for paths, so they go through the hook.
    return msgspec.convert(value, hint, strict=False, dec_hook=lambda kind, text: kind(text))


def _meaning(hint: Any) -> str:
    found = [meta.description for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta) and meta.description]
    return found[0] if found else "a value"


def _explain(error: Exception) -> str:
    """Words for people, never the value itself: it may be a secret."""
    return str(error) if isinstance(error, (msgspec.ValidationError, OSError)) else "cannot be read"
