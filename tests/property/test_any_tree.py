"""Proofs of trees of any size: what is in the tree can be proved, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobledger_contracts.merkle import (
    EMPTY_ROOT,
    BadProof,
    Frontier,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    node_hash,
    nodes_of,
    peaks_of,
    root_of,
    verify_consistency,
    verify_inclusion,
)

MOST = 130
LEAVES = [leaf_hash(str(number).encode()) for number in range(MOST)]


def recursive_root(leaves: list[bytes]) -> bytes:
    """MTH, word for word as RFC 6962, 2.1, defines it."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(recursive_root(leaves[:k]), recursive_root(leaves[k:]))


def grown() -> tuple[dict[tuple[int, int], bytes], list[bytes]]:
    """All complete subtrees, and the root at each size."""
    frontier, known, roots = Frontier(), {}, [EMPTY_ROOT]
    for leaf in LEAVES:
        known.update({(level, index): hash_ for level, index, hash_ in frontier.append(leaf)})
        roots.append(frontier.root())
    return known, roots


KNOWN, ROOTS = grown()


def node(level: int, index: int) -> bytes:
    return KNOWN[level, index]


def test_every_root_is_the_definitions() -> None:
    for size in range(MOST + 1):
        assert ROOTS[size] == recursive_root(LEAVES[:size]) == root_of((0, size), node)


@given(st.integers(0, MOST), st.integers(0, MOST))
def test_a_tree_goes_on_from_its_peaks(a: int, b: int) -> None:
    size, more = sorted((a, b))
    frontier = Frontier(size, [node(*peak) for peak in peaks_of(size)])
    for leaf in LEAVES[size:more]:
        frontier.add(leaf)
    assert frontier.root() == ROOTS[more]
    with pytest.raises(ValueError, match="peaks"):
        Frontier(size, [*frontier.peaks, b""] * 2 + [b""] * 9)


indexes = st.integers(1, MOST).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size)))


@given(indexes, st.integers(0, MOST - 1), st.data())
@settings(max_examples=300, deadline=None)
def test_inclusion_proves_what_is_there_and_nothing_else(place: tuple[int, int], other: int, data: st.DataObject) -> None:
    index, size = place
    proof = [root_of(part, node) for part in inclusion_ranges(index, size)]
    verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])
    wrong = [(LEAVES[index], index, size, [*proof, LEAVES[0]], ROOTS[size]), (LEAVES[index], size, size, proof, ROOTS[size])]
    if other != index:
        wrong += [(LEAVES[other], index, size, proof, ROOTS[size])]
        wrong += [(LEAVES[index], other, size, proof, ROOTS[size])]
    if proof:
        place_ = data.draw(st.integers(0, len(proof) - 1))
        wrong += [(LEAVES[index], index, size, proof[:-1], ROOTS[size])]
        wrong += [(LEAVES[index], index, size, [*proof[:place_], flipped(proof[place_]), *proof[place_ + 1 :]], ROOTS[size])]
    for arguments in wrong:
        with pytest.raises(BadProof):
            verify_inclusion(*arguments)


@given(st.integers(1, MOST), st.integers(1, MOST), st.data())
@settings(max_examples=300, deadline=None)
def test_consistency_proves_that_nothing_was_rewritten(a: int, b: int, data: st.DataObject) -> None:
    old, new = sorted((a, b))
    proof = [root_of(part, node) for part in consistency_ranges(old, new)]
    verify_consistency(old, new, proof, ROOTS[old], ROOTS[new])
    verify_consistency(0, new, [], EMPTY_ROOT, ROOTS[new])
    wrong = [
        (flipped(ROOTS[old]), ROOTS[new], proof),
        (ROOTS[old], flipped(ROOTS[new]), proof),
        (ROOTS[old], ROOTS[new], [*proof, LEAVES[0]]),
    ]
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        wrong += [(ROOTS[old], ROOTS[new], proof[:-1])]
        wrong += [(ROOTS[old], ROOTS[new], [*proof[:place], flipped(proof[place]), *proof[place + 1 :]])]
    for old_root, new_root, hashes in wrong:
        with pytest.raises(BadProof):
            verify_consistency(old, new, hashes, old_root, new_root)


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 20))
def test_a_range_is_made_of_subtrees_side_by_side(start: int, size: int) -> None:
    start <<= size.bit_length()
    at = start
    for level, index in nodes_of((start, start + size)):
        assert index << level == at
        at = (index + 1) << level
    assert at == start + size


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (1, 1), (0, 0)])
def test_no_proof_of_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_ranges(index, size)
    with pytest.raises(ValueError, match="no proof"):
        consistency_ranges(size + 1, size)


def flipped(raw: bytes) -> bytes:
    return bytes([raw[0] ^ 1]) + raw[1:]
