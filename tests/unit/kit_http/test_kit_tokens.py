"""Tokens of an identity provider: what counts, what never does, and how its keys are fetched. The provider is a real server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from joserfc.jwk import OctKey, RSAKey

from jobledger_kit.clock import ManualClock
from jobledger_kit.config import ServiceSettings
from jobledger_kit.errors import BadSettings, Unauthenticated, Unavailable
from jobledger_kit.tokens import KEYS_KEPT_S, REFETCH_S, TokenRules, Tokens, looks_like_jwt
from tests.support.identity_provider import IdentityProvider, identity_provider

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_S = int(NOW.timestamp())


@pytest.fixture(scope="module")
def shared() -> Iterator[IdentityProvider]:
    with identity_provider() as provider:
        yield provider


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as one:
        yield one


def rules(provider: IdentityProvider, **more: Any) -> TokenRules:
    return TokenRules(issuer=provider.issuer, audience="jobledger", algorithms=("RS256", "ES256"), **more)


def claims(provider: IdentityProvider, **more: Any) -> dict[str, Any]:
    said = {"iss": provider.issuer, "aud": "jobledger", "sub": "ada", "exp": NOW_S + 60, "groups": ["hydro"]} | more
    return {name: value for name, value in said.items() if value is not None}


@pytest.mark.parametrize("kid", ["rsa-1", "ec-1"])
async def test_good_token_names_its_user(shared: IdentityProvider, kid: str) -> None:
    token = shared.token(claims(shared, groups=["hydro", "ops", "bad name!", 7]), kid)
    assert looks_like_jwt(token)

    principal, ends_s = await Tokens(rules(shared), ManualClock(NOW)).verify(token)

    assert (principal.name, principal.groups, principal.admin, principal.service) == ("ada", {"hydro", "ops"}, False, False)
    assert principal.actor == "user:ada"
    assert ends_s == NOW_S + 60


async def test_claims_are_read_where_the_settings_say(shared: IdentityProvider) -> None:
    mapped = rules(shared, user_claim="preferred_username", groups_claim="realm_access.roles", admin_group="admins")
    token = shared.token(
        claims(shared, preferred_username="ada@example.org", realm_access={"roles": ["admins", "x"]}, aud=["a", "jobledger"])
    )

    principal, _ = await Tokens(mapped, ManualClock(NOW)).verify(token)

    assert (principal.name, principal.groups, principal.admin) == ("ada@example.org", {"admins", "x"}, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": NOW_S - 31},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": NOW_S + 31},
        {"iat": NOW_S + 3600},
        {"aud": "other"},
        {"aud": ["other", "more"]},
        {"aud": None},
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "../admin"},
        {"sub": 7},
        {"sub": ["ada"]},
    ],
    ids=str,
)
async def test_token_with_wrong_claims_is_not_accepted(shared: IdentityProvider, wrong: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        await Tokens(rules(shared), ManualClock(NOW)).verify(shared.token(claims(shared, **wrong)))


async def test_clocks_may_differ_by_the_leeway(shared: IdentityProvider) -> None:
    await Tokens(rules(shared), ManualClock(NOW)).verify(shared.token(claims(shared, exp=NOW_S - 20, nbf=NOW_S + 20)))


def unsigned(provider: IdentityProvider) -> str:
    parts = [msgspec.json.encode({"alg": "none", "kid": "rsa-1"}), msgspec.json.encode(claims(provider))]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def confused(provider: IdentityProvider) -> str:
    """Signed symmetrically with the public key as the secret: the classic attack."""
    public = provider.keys["rsa-1"].as_pem(private=False)  # type: ignore[attr-defined]
    return provider.token(claims(provider), alg="HS256", key=OctKey.import_key(public.hex()))


def changed(provider: IdentityProvider) -> str:
    header, _, signature = provider.token(claims(provider)).split(".")
    body = base64.urlsafe_b64encode(msgspec.json.encode(claims(provider, sub="admin"))).rstrip(b"=").decode()
    return f"{header}.{body}.{signature}"


@pytest.mark.parametrize(
    "forge",
    [
        unsigned,
        confused,
        changed,
        lambda p: p.token(claims(p), alg="RS512"),
        lambda p: p.token(claims(p), key=RSAKey.generate_key(2048)),
        lambda p: p.token(claims(p), kid="unknown", key=p.keys["rsa-1"], alg="RS256"),
        lambda p: p.token(claims(p), kid="ec-1", key=p.keys["rsa-1"], alg="RS256"),
        lambda p: p.token(claims(p, more="x" * 9000)),
        lambda _: "eyJ.eyJ.x",
        lambda _: "",
        lambda _: "...",
    ],
)  # fmt: skip
async def test_forged_token_is_not_accepted(shared: IdentityProvider, forge: Any) -> None:
    with pytest.raises(Unauthenticated):
        await Tokens(rules(shared), ManualClock(NOW)).verify(forge(shared))


async def test_keys_are_kept_fetched_anew_when_they_change_and_never_in_a_loop(provider: IdentityProvider) -> None:
    clock = ManualClock(NOW)
    tokens = Tokens(rules(provider), clock)
    for _ in range(3):
        await tokens.verify(provider.token(claims(provider)))
    assert provider.requests == 1

    provider.rotate("rsa-2")
    fresh = provider.token(claims(provider, exp=NOW_S + 10_000), "rsa-2")
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await tokens.verify(fresh)
    assert provider.requests == 1, "somebody who makes up names of keys cannot make us ask"

    clock.advance(REFETCH_S)
    await tokens.verify(fresh)
    assert provider.requests == 2
    with pytest.raises(Unauthenticated):
        await tokens.verify(provider.token(claims(provider)))

    provider.broken = True
    clock.advance(KEYS_KEPT_S + 1)
    await tokens.verify(fresh)  # what is known stays


async def test_provider_that_was_never_reached_is_no_verdict_on_a_token(provider: IdentityProvider) -> None:
    provider.broken = True
    clock = ManualClock(NOW)
    tokens = Tokens(rules(provider), clock)
    with pytest.raises(Unavailable):
        await tokens.verify(provider.token(claims(provider)))

    provider.broken = False
    clock.advance(REFETCH_S)
    await tokens.verify(provider.token(claims(provider)))


async def test_discovery_document_of_somebody_else_is_not_believed(provider: IdentityProvider) -> None:
    issuer, provider.issuer = provider.issuer, "https://elsewhere.example"
    with pytest.raises(Unavailable):
        await Tokens(TokenRules(issuer=issuer, audience="jobledger", algorithms=("RS256",)), ManualClock(NOW)).verify(
            provider.token(claims(provider))
        )


def test_settings_name_what_would_be_unsafe() -> None:
    needed = {"JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": "k:1", "JOBLEDGER_DATABASE_URL": "postgresql://x/y"}
    with pytest.raises(BadSettings) as caught:
        ServiceSettings.load(needed | {"JOBLEDGER_OIDC_ISSUER": "https://id.example", "JOBLEDGER_OIDC_ALGORITHMS": "RS256, HS256 none"})
    assert len(caught.value.problems) == 2
    assert "OIDC_AUDIENCE" in str(caught.value)
    assert "HS256, none" in str(caught.value)
    assert TokenRules.of(ServiceSettings.load(needed)) is None
    good = TokenRules.of(ServiceSettings.load(needed | {"JOBLEDGER_OIDC_ISSUER": "https://id.example", "JOBLEDGER_OIDC_AUDIENCE": "jl"}))
    assert good is not None
    assert good.algorithms == ("RS256", "ES256")
