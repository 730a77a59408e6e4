"""Merkle trees and signed notes against what others have published; what a hash of a record covers."""

from __future__ import annotations

import base64
import hashlib

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jobledger_contracts.chain import GAP, NO_LINK, next_link, record_bytes, record_hash
from jobledger_contracts.envelope import Record
from jobledger_contracts.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from jobledger_contracts.notes import (
    BadNote,
    Checkpoint,
    Proof,
    PublicKey,
    open_checkpoint,
    open_note,
    parse_keys,
    sign_checkpoint,
    sign_note,
)

LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
"""The test data of Certificate Transparency's reference implementation, and the roots of its trees of 1 to 8 leaves."""
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
CONSISTENCY = {
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}

GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = f"{GO_TEXT}\n\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
"""Of golang.org/x/mod/sumdb/note, where the format comes from."""

SEED = bytes(range(32))
SIGNER = Ed25519PrivateKey.from_private_bytes(SEED)
MATERIAL = SIGNER.public_key().public_bytes_raw()
ORIGIN = "ledger.example/jobs/0"


def verify(material: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(material).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def nodes() -> dict[tuple[int, int], bytes]:
    frontier = Frontier()
    return {(level, index): hash_ for data in LEAVES for level, index, hash_ in frontier.append(leaf_hash(bytes.fromhex(data)))}


class TestTree:
    def test_an_empty_tree_has_the_hash_of_nothing(self) -> None:
        assert Frontier().root() == EMPTY_ROOT == hashlib.sha256(b"").digest()

    def test_the_roots_are_those_of_the_reference(self) -> None:
        frontier, known = Frontier(), nodes()
        for size, (data, root) in enumerate(zip(LEAVES, ROOTS, strict=True), 1):
            frontier.add(leaf_hash(bytes.fromhex(data)))
            assert frontier.root().hex() == root
            assert root_of((0, size), lambda level, index: known[level, index]).hex() == root

    @pytest.mark.parametrize(("index", "size"), INCLUSION)
    def test_inclusion_proofs_are_those_of_the_reference(self, index: int, size: int) -> None:
        known = nodes()
        proof = [root_of(part, lambda level, index: known[level, index]) for part in inclusion_ranges(index, size)]
        assert [hash_.hex() for hash_ in proof] == INCLUSION[index, size]
        verify_inclusion(leaf_hash(bytes.fromhex(LEAVES[index])), index, size, proof, bytes.fromhex(ROOTS[size - 1]))

    @pytest.mark.parametrize(("old", "new"), CONSISTENCY)
    def test_consistency_proofs_are_those_of_the_reference(self, old: int, new: int) -> None:
        known = nodes()
        proof = [root_of(part, lambda level, index: known[level, index]) for part in consistency_ranges(old, new)]
        assert [hash_.hex() for hash_ in proof] == CONSISTENCY[old, new]
        verify_consistency(old, new, proof, bytes.fromhex(ROOTS[old - 1]), bytes.fromhex(ROOTS[new - 1]))


class TestNotes:
    def test_a_note_that_go_signed_is_read_and_written(self) -> None:
        key = PublicKey.parse(GO_KEY)
        assert str(key) == GO_KEY
        assert open_note(GO_NOTE, [key], verify) == (GO_TEXT, [key])
        assert sign_note(GO_TEXT, [(key, Ed25519PrivateKey.from_private_bytes(GO_SEED).sign)]) == GO_NOTE

    @pytest.mark.parametrize("place", [0, len(GO_TEXT) - 2])
    def test_a_changed_text_is_noticed(self, place: int) -> None:
        changed = GO_NOTE[:place] + chr(ord(GO_NOTE[place]) ^ 1) + GO_NOTE[place + 1 :]
        with pytest.raises(BadNote, match="was changed after it was signed"):
            open_note(changed, [PublicKey.parse(GO_KEY)], verify)

    def test_signatures_of_others_are_left_alone_but_count_for_nothing(self) -> None:
        mine = PublicKey("me", MATERIAL)
        both = sign_note(GO_TEXT, [(PublicKey.parse(GO_KEY), Ed25519PrivateKey.from_private_bytes(GO_SEED).sign), (mine, SIGNER.sign)])
        assert open_note(both, [mine], verify)[1] == [mine]
        with pytest.raises(BadNote, match="no key that is trusted"):
            open_note(GO_NOTE, [mine], verify)

    @pytest.mark.parametrize("text", ["", "a", "a\n\n", "a\n\nb\n", "\n\n\u2014 a AAAAAAAA\n", GO_NOTE[:-1], GO_NOTE + "\n", "x" * 70_000])
    def test_what_is_no_note_is_said_to_be_none(self, text: str) -> None:
        with pytest.raises(BadNote):
            open_note(text, [PublicKey.parse(GO_KEY)], verify)

    @pytest.mark.parametrize("text", ["", "a+b+c", GO_KEY[:-4], GO_KEY.replace("c74f20a3", "c74f20a4"), "a b+c74f20a3+AR"])
    def test_what_is_no_key_is_said_to_be_none(self, text: str) -> None:
        with pytest.raises(BadNote):
            PublicKey.parse(text)

    def test_a_file_of_keys_may_hold_remarks(self) -> None:
        assert parse_keys(f"# of Go\n{GO_KEY}\n\n") == [PublicKey.parse(GO_KEY)]
        with pytest.raises(BadNote, match="no key"):
            parse_keys("# nothing\n")

    def test_a_checkpoint_is_signed_under_its_own_name(self) -> None:
        checkpoint = Checkpoint(ORIGIN, 8, bytes.fromhex(ROOTS[-1]))
        note = sign_checkpoint(checkpoint, [SIGNER.sign], [MATERIAL])
        assert note.startswith(f"{ORIGIN}\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n\n\u2014 {ORIGIN} ")
        assert open_checkpoint(note, [PublicKey(ORIGIN, MATERIAL)], verify) == checkpoint
        other = PublicKey("ledger.example/jobs/1", MATERIAL)
        with pytest.raises(BadNote, match="its own key"):
            open_checkpoint(sign_note(str(checkpoint), [(other, SIGNER.sign)]), [other], verify)

    @pytest.mark.parametrize("text", ["a\n1\n", "a\n01\nAAAA\n", "a\n-1\nAAAA\n", "\n1\nAAAA\n", "a\n1\nAAAA\n"])
    def test_what_is_no_checkpoint_is_said_to_be_none(self, text: str) -> None:
        with pytest.raises(BadNote):
            Checkpoint.parse(text)

    def test_a_proof_is_read_and_checked(self) -> None:
        note = sign_checkpoint(Checkpoint(ORIGIN, 8, bytes.fromhex(ROOTS[-1])), [SIGNER.sign], [MATERIAL])
        proof = Proof(5, [bytes.fromhex(text) for text in INCLUSION[5, 8]], note)
        assert str(proof).startswith("c2sp.org/tlog-proof@v1\nindex 5\n")
        leaf = leaf_hash(bytes.fromhex(LEAVES[5]))
        assert Proof.parse(str(proof)) == proof
        assert proof.verify(leaf, [PublicKey(ORIGIN, MATERIAL)], verify).size == 8
        with pytest.raises(ValueError, match="not what the tree"):
            proof.verify(leaf_hash(b"other"), [PublicKey(ORIGIN, MATERIAL)], verify)

    @pytest.mark.parametrize(
        "text",
        ["", "c2sp.org/tlog-proof@v1\nindex x\n\n", "c2sp.org/tlog-proof@v2\nindex 1\n\n", "c2sp.org/tlog-proof@v1\nindex 1\nAA\n\n"],
    )
    def test_what_is_no_proof_is_said_to_be_none(self, text: str) -> None:
        with pytest.raises(BadNote):
            Proof.parse(text)


RECORD = Record("jobledger.jobs", 0, 7, 1_767_225_600_000, b"key", b'{"a":1}', (("ce_id", b"1"), ("ce_source", None)))


class TestRecord:
    def test_the_bytes_can_be_made_with_any_messagepack(self) -> None:
        """By hand, from the format's specification: an array of 4, a 64-bit number, binaries with their lengths."""
        expected = (
            b"\x94" + b"\xcf" + RECORD.timestamp_ms.to_bytes(8, "big") + b"\xc4\x03key"
            + b"\x92" + b"\x92\xa5ce_id\xc4\x011" + b"\x92\xa9ce_source\xc0" + b'\xc4\x07{"a":1}'
        )  # fmt: skip
        assert record_bytes(RECORD) == expected
        assert record_hash(RECORD) == leaf_hash(expected)

    @pytest.mark.parametrize(
        "change",
        [
            {"timestamp_ms": 1_767_225_600_001}, {"key": None}, {"key": b""}, {"key": b"kez"}, {"value": None}, {"value": b'{"a":2}'},
            {"headers": (("ce_id", b"1"),)}, {"headers": (("ce_source", None), ("ce_id", b"1"))},
            {"headers": (("ce_id", b"1"), ("ce_source", b""))}, {"headers": (("ce_id", b"1"), ("ce_sourcf", None))},
        ],
    )  # fmt: skip
    def test_everything_that_counts_changes_the_hash(self, change: dict[str, object]) -> None:
        assert record_hash(msgspec.structs.replace(RECORD, **change)) != record_hash(RECORD)

    def test_where_a_record_stands_is_the_trees_matter(self) -> None:
        assert record_hash(msgspec.structs.replace(RECORD, partition=3, offset=9)) == record_hash(RECORD)

    def test_names_that_are_no_text_have_their_bytes(self) -> None:
        strange = msgspec.structs.replace(RECORD, headers=(("a\udcff", b""),))
        assert record_bytes(strange)[15:] == b"\x91\x92\xc4\x02a\xff\xc4\x00" + b'\xc4\x07{"a":1}'

    def test_a_link_holds_all_before_it(self) -> None:
        first, second = record_hash(RECORD), record_hash(msgspec.structs.replace(RECORD, value=b"2"))
        assert next_link(next_link(NO_LINK, first), second) != next_link(next_link(NO_LINK, second), first)
        assert next_link(NO_LINK, first) == hashlib.sha256(b"\x02" + bytes(32) + first).digest()

    def test_a_gap_is_an_empty_leaf(self) -> None:
        assert GAP.hex() == ROOTS[0]
