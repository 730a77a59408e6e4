"""Tokens: made, read, and refused with the same words whatever is wrong with them."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_contracts.statuses import Status
from jobledger_kit.credentials import (
    NOT_ACCEPTED,
    Principal,
    RunClaims,
    new_api_key,
    parse_api_key,
    sign_run_credential,
    verify_run_credential,
)
from jobledger_kit.errors import BadSecret, CannotOpen, Unauthenticated
from jobledger_kit.keyring import Key, KeyRing
from jobledger_kit.seal import Sealer

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
JOB = "01890000-0000-7000-8000-000000000000"
OLD, NEW, OTHER = (Key(bytes([n]) * 32, "run-credential") for n in (1, 2, 3))
RING = KeyRing([NEW, OLD])
CLAIMS = RunClaims(job_id=JOB, run=2, expires_at=NOW + timedelta(hours=1), statuses=frozenset({Status.RUNNING, Status.COMPLETE}))


def test_an_api_key_is_read_back_and_shows_no_secret() -> None:
    key = new_api_key()
    assert parse_api_key(key.token) == key
    assert key.secret not in repr(key)
    assert re.fullmatch(r"jlk_[a-z2-7]{16}_[A-Za-z0-9_-]{43}", key.token)
    assert len(key.digest) == 32


@pytest.mark.parametrize(
    "token",
    ["", "jlk_", "jlk_abc_def", new_api_key().token + "x", new_api_key().token + "\n", " " + new_api_key().token],
    ids=["empty", "prefix", "short", "longer", "line", "blank"],
)
def test_what_has_not_the_form_of_an_api_key_is_none(token: str) -> None:
    assert parse_api_key(token) is None


def test_a_run_credential_says_what_it_allows() -> None:
    claims = verify_run_credential(RING, sign_run_credential(NEW, CLAIMS), NOW)
    assert (claims.run_id, claims.statuses, claims.expires_at, claims.key_id) == (f"{JOB}.2", CLAIMS.statuses, CLAIMS.expires_at, NEW.id)
    assert claims.allows(Status.RUNNING)
    assert not claims.allows(Status.ERROR)


def test_the_key_before_the_current_one_is_still_accepted() -> None:
    assert verify_run_credential(RING, sign_run_credential(OLD, CLAIMS), NOW).key_id == OLD.id


def test_an_expired_or_foreign_credential_is_refused_with_the_same_words() -> None:
    expired = sign_run_credential(NEW, RunClaims(job_id=JOB, run=2, expires_at=NOW))
    for token in (expired, sign_run_credential(OTHER, CLAIMS), "jlr_", "jlr_x.y", "jlr_" + "a" * 5000, new_api_key().token):
        with pytest.raises(Unauthenticated) as caught:
            verify_run_credential(RING, token, NOW)
        assert caught.value.message == NOT_ACCEPTED
        assert caught.value.__cause__ is None


@given(st.data())
def test_no_changed_character_is_accepted(data: st.DataObject) -> None:
    token = sign_run_credential(NEW, CLAIMS)
    at = data.draw(st.integers(0, len(token) - 1))
    new = data.draw(st.characters(min_codepoint=32, max_codepoint=255).filter(lambda c: c != token[at]))
    with pytest.raises(Unauthenticated):
        verify_run_credential(RING, token[:at] + new + token[at + 1 :], NOW)


@given(st.text(max_size=200))
def test_garbage_raises_only_the_declared_error(text: str) -> None:
    with pytest.raises(Unauthenticated):
        verify_run_credential(RING, "jlr_" + text, NOW)


def test_a_credential_for_no_status_or_with_a_naive_expiry_is_not_made() -> None:
    with pytest.raises(ValueError, match="no status"):
        sign_run_credential(NEW, RunClaims(job_id=JOB, run=1, expires_at=NOW, statuses=frozenset()))
    with pytest.raises(ValueError, match="zone"):
        sign_run_credential(NEW, RunClaims(job_id=JOB, run=1, expires_at=NOW.replace(tzinfo=None)))


def test_principals_see_and_change_what_is_theirs() -> None:
    ada, eva = Principal(name="ada", groups=frozenset({"water"})), Principal(name="eva")
    admin, service, run = Principal(name="root", admin=True), Principal(name="sched", service=True), Principal(name="r", run=CLAIMS)
    assert [p.may_see("eva", ["water"]) for p in (ada, eva, admin, service, run)] == [True, True, True, True, False]
    assert [p.may_see("eva", ["air"]) for p in (ada, eva, admin)] == [False, True, True]
    assert [p.may_change("eva") for p in (ada, eva, admin, service, run)] == [False, True, True, False, False]
    assert [p.actor for p in (ada, service, run)] == ["user:ada", "service:sched", f"run:{JOB}.2"]


def test_key_files_are_read_with_their_predecessor(tmp_path: Path) -> None:
    with pytest.raises(BadSecret, match="cannot be read"):
        KeyRing.load(tmp_path, "run-credential.key")
    (tmp_path / "run-credential.key").write_bytes(b"short")
    with pytest.raises(BadSecret, match="at least 32"):
        KeyRing.load(tmp_path, "run-credential.key")
    (tmp_path / "run-credential.key").write_bytes(b"n" * 32)
    (tmp_path / "run-credential.key.previous").write_bytes(b"o" * 64)
    ring = KeyRing.load(tmp_path, "run-credential.key")
    assert len(ring.accepted) == 2
    assert ring.current.material.hex() not in repr(ring.current)


def test_one_file_gives_different_keys_for_different_uses() -> None:
    assert Key(b"x" * 32, "sealing").material != Key(b"x" * 32, "run-credential").material


def sealer(*keys: bytes) -> Sealer:
    return Sealer(KeyRing([Key(key * 32, "sealing") for key in keys]))


def test_what_is_sealed_opens_in_its_place_only() -> None:
    sealed = sealer(b"a").seal(b"tiger", "schedulers/pool/password")
    assert b"tiger" not in sealed
    assert sealer(b"a").open(sealed, "schedulers/pool/password") == b"tiger"
    with pytest.raises(CannotOpen):
        sealer(b"a").open(sealed, "schedulers/other/password")


def test_a_changed_key_still_opens_and_says_that_it_is_time_to_seal_again() -> None:
    sealed = sealer(b"a").seal(b"tiger", "c")
    both = sealer(b"b", b"a")
    assert both.open(sealed, "c") == b"tiger"
    assert not both.is_current(sealed)
    assert both.is_current(both.seal(b"tiger", "c"))
    with pytest.raises(CannotOpen, match="not here any more"):
        sealer(b"b").open(sealed, "c")


@given(st.integers(0), st.integers(1, 255), st.binary(max_size=40))
def test_no_changed_byte_opens(at: int, change: int, plain: bytes) -> None:
    sealed = bytearray(sealer(b"a").seal(plain, "c"))
    sealed[at % len(sealed)] ^= change
    with pytest.raises(CannotOpen):
        sealer(b"a").open(bytes(sealed), "c")


@given(st.binary(max_size=60))
def test_garbage_does_not_open(raw: bytes) -> None:
    with pytest.raises(CannotOpen):
        sealer(b"a").open(raw, "c")


def test_two_seals_of_one_text_differ() -> None:
    assert base64.b64encode(sealer(b"a").seal(b"x", "c")) != base64.b64encode(sealer(b"a").seal(b"x", "c"))
