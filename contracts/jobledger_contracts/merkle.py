"""Merkle trees as RFC 6962 and RFC 9162 have them: roots, inclusion proofs, consistency proofs. Pure; SHA-256.

A tree is an ordered list of leaves, of which only hashes are seen here. Its complete subtrees never change once they are full, so a node
is named by its level (0: leaves) and its index in it, and whoever stores nodes can answer for every size that the tree ever had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

LEAF, NODE = b"\x00", b"\x01"  # what keeps a leaf from being passed off as a node
HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

Node = tuple[int, int]
"""Level and index: the root of the leaves `[index << level, (index + 1) << level)`."""
Range = tuple[int, int]
"""The leaves from the first to before the second."""
NodeHash = Callable[[int, int], bytes]
"""The hash of a complete subtree, by level and index."""


class BadProof(ValueError):
    """A proof does not prove what it should; the text says why."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over its two children."""
    return hashlib.sha256(NODE + left + right).digest()


class Frontier:
    """The roots of a growing tree's complete subtrees, largest first: all that is needed to append to it and to know its root."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Go on with a tree of this size; `peaks` are the hashes of `peaks_of(size)`. Raises ValueError when their number is wrong."""
        if len(peaks) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks, not {len(peaks)}")
        self.size, self.peaks = size, list(peaks)

    def append(self, leaf: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Add a leaf's hash. Yields (level, index, hash) of the leaf and of each subtree that it completes; to be consumed wholly."""
        level, index = 0, self.size
        yield level, index, leaf
        while index & 1:
            leaf = node_hash(self.peaks.pop(), leaf)
            level, index = level + 1, index >> 1
            yield level, index, leaf
        self.peaks.append(leaf)
        self.size += 1

    def add(self, leaf: bytes) -> None:
        """Add a leaf's hash, when nobody wants to know what it completes."""
        for _ in self.append(leaf):
            pass

    def root(self) -> bytes:
        """The tree's root."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def peaks_of(size: int) -> list[Node]:
    """The complete subtrees that a tree of this size is made of, largest first."""
    return nodes_of((0, size))


def nodes_of(part: Range) -> list[Node]:
    """The complete subtrees that a range is made of. The range begins where a subtree of at least its size does."""
    start, end = part
    found = []
    while start < end:
        level = (end - start).bit_length() - 1
        found.append((level, start >> level))
        start += 1 << level
    return found


def root_of(part: Range, node: NodeHash) -> bytes:
    """The root of a range of leaves, such as `nodes_of` takes."""
    hashes = [node(level, index) for level, index in nodes_of(part)]
    if not hashes:
        return EMPTY_ROOT
    root = hashes.pop()
    while hashes:
        root = node_hash(hashes.pop(), root)
    return root


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The ranges whose roots prove that a leaf is in a tree, from its sibling up: RFC 6962, 2.1.1. Raises ValueError: no such leaf."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    found: list[Range] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start = middle
    return found[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """The ranges whose roots prove that a tree goes on from an older one: RFC 6962, 2.1.2. Raises ValueError: not 0 < old <= new."""
    if not 0 < old <= new:
        raise ValueError(f"no proof leads from a tree of {old} to one of {new}")
    found: list[Range] = []
    start, end = 0, new
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start = middle
    if start:  # a tree that is a complete subtree of the new one is known to whoever verifies
        found.append((start, end))
    return found[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf's hash is at this place of the tree with this root: RFC 9162, 2.1.3.2. Raises BadProof."""
    if not 0 <= index < size:
        raise BadProof(f"there is no leaf {index} in a tree of {size}")
    place, last = index, size - 1
    found = leaf
    for sibling in proof:
        if last == 0:
            raise BadProof("the proof is too long")
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise BadProof("the proof is too short")
    if found != root:
        raise BadProof(f"leaf {index} is not what the tree of {size} has there")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check that the tree with the new root goes on from the one with the old root: RFC 9162, 2.1.4.2. Raises BadProof."""
    if old == new or old == 0:
        if proof or (old == new and old_root != new_root) or (old == 0 and old_root != EMPTY_ROOT):
            raise BadProof(f"the trees of {old} and {new} leaves are not the same log")
        return
    if not 0 < old < new:
        raise BadProof(f"a log does not shrink from {old} to {new} leaves")
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise BadProof("the proof is too short")
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise BadProof("the proof is too long")
        if place & 1 or place == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise BadProof("the proof is too short")
    if before != old_root or after != new_root:
        raise BadProof(f"the tree of {new} leaves does not go on from that of {old}")


def _split(size: int) -> int:
    """The largest power of two that is smaller than the size, which is more than 1."""
    return 1 << (size - 1).bit_length() - 1
