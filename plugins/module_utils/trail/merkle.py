# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Merkle trees as of RFC 6962 (section 2.1), and their proofs as of RFC 9162 (section 2.1.3 and 2.1.4).

Hashes are 32 bytes of SHA-256. A tree of n leaves is described by the hashes of some of its complete subtrees: ``node
(level, index)`` is the root of the 2**level leaves from index * 2**level on. Stored are levels 0, 8, 16, … only (the
levels of a C2SP tlog-tiles tile); the others are folded from at most 256 of them when they are asked for.
"""

from __future__ import annotations

import hashlib
import typing as t
from collections.abc import Iterable, Sequence

from ..errors import FlowauditError

EMPTY = hashlib.sha256().digest()
STEP = 8  # levels between two that are stored

# (level, start, stop) → the hashes of that level from start to stop; level is a multiple of STEP.
Stored = t.Callable[[int, int, int], Sequence[bytes]]


def leaf_hash(data: bytes) -> bytes:
    """The hash of an entry."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root over hashes of one level; their number is a power of two."""
    level = list(hashes)
    while len(level) > 1:
        level = [node_hash(level[place], level[place + 1]) for place in range(0, len(level), 2)]
    return level[0]


class Frontier:
    """Grows a tree leaf by leaf, and knows its root at every size; keeps one hash a level.

    ``completed`` is called for each complete subtree of a level that is stored: (level, index, hash).
    """

    def __init__(self, completed: t.Callable[[int, int, bytes], None] | None = None) -> None:
        self.size = 0
        self._roots: list[bytes] = []  # of the complete subtrees, the largest first
        self._completed = completed

    def append(self, leaf: bytes) -> None:
        """Take the hash of one more leaf."""
        index = self.size
        level = 0
        while index & 1:
            leaf = node_hash(self._roots.pop(), leaf)
            index >>= 1
            level += 1
            if level % STEP == 0 and self._completed is not None:
                self._completed(level, index, leaf)
        self._roots.append(leaf)
        self.size += 1

    def copy(self) -> Frontier:
        """One that grows on from here, and tells nobody."""
        other = Frontier()
        other.size, other._roots = self.size, list(self._roots)
        return other

    def root(self) -> bytes:
        """The root of the leaves so far."""
        if not self._roots:
            return EMPTY
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = node_hash(left, root)
        return root


def root(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


class Tree:
    """A tree of ``size`` leaves whose hashes are stored elsewhere."""

    def __init__(self, size: int, stored: Stored) -> None:
        self.size = size
        self._stored = stored

    def root(self) -> bytes:
        """The root of all leaves."""
        return self._subtree(0, self.size)

    def inclusion_proof(self, index: int) -> list[bytes]:
        """The hashes that lead from leaf ``index`` to the root (RFC 6962, 2.1.1), the lowest first.

        Raises:
            FlowauditError: there is no such leaf.
        """
        if not 0 <= index < self.size:
            raise FlowauditError(f"A log of {self.size} entries has no entry {index}.")
        return self._path(index, 0, self.size)

    def consistency_proof(self, earlier: int) -> list[bytes]:
        """The hashes that show the first ``earlier`` leaves to be the start of this tree (RFC 6962, 2.1.2).

        Raises:
            FlowauditError: the earlier tree is larger than this one.
        """
        if not 0 <= earlier <= self.size:
            raise FlowauditError(f"A log of {self.size} entries never had {earlier}.")
        if earlier in (0, self.size):
            return []
        return self._proof(earlier, 0, self.size, True)

    def _path(self, index: int, start: int, stop: int) -> list[bytes]:
        if stop - start == 1:
            return []
        middle = start + _split(stop - start)
        if index < middle:
            return [*self._path(index, start, middle), self._subtree(middle, stop)]
        return [*self._path(index, middle, stop), self._subtree(start, middle)]

    def _proof(self, earlier: int, start: int, stop: int, whole: bool) -> list[bytes]:
        if earlier == stop:
            return [] if whole else [self._subtree(start, stop)]
        middle = start + _split(stop - start)
        if earlier <= middle:
            return [*self._proof(earlier, start, middle, whole), self._subtree(middle, stop)]
        return [*self._proof(earlier, middle, stop, False), self._subtree(start, middle)]

    def _subtree(self, start: int, stop: int) -> bytes:
        """The root of the leaves from ``start`` to ``stop``; ``start`` is a multiple of the power of two above."""
        if start == stop:
            return EMPTY
        roots = []
        while start < stop:
            # The largest complete subtree that begins here and ends in time.
            level = (stop - start).bit_length() - 1
            roots.append(self._node(level, start >> level))
            start += 1 << level
        root = roots[-1]
        for left in reversed(roots[:-1]):
            root = node_hash(left, root)
        return root

    def _node(self, level: int, index: int) -> bytes:
        base = level - level % STEP
        count = 1 << (level - base)
        hashes = self._stored(base, index * count, (index + 1) * count)
        if len(hashes) != count:
            raise FlowauditError(f"The log lacks hashes of level {base}; verify it.")
        return fold(hashes)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> bool:
    """Whether the proof leads from the leaf to the root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last = index, size - 1
    result = leaf
    for hashed in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            result = node_hash(hashed, result)
            while place and not place & 1:
                place >>= 1
                last >>= 1
        else:
            result = node_hash(result, hashed)
        place >>= 1
        last >>= 1
    return last == 0 and result == root_hash


def verify_consistency(earlier: int, size: int, proof: Sequence[bytes], earlier_root: bytes, root_hash: bytes) -> bool:
    """Whether the proof shows one tree to be the start of the other (RFC 9162, 2.1.4.2)."""
    if not 0 <= earlier <= size:
        return False
    if earlier == 0:
        return not proof and earlier_root == EMPTY
    if earlier == size:
        return not proof and earlier_root == root_hash
    hashes = list(proof)
    if not hashes:
        return False
    if earlier & (earlier - 1) == 0:
        hashes.insert(0, earlier_root)
    place, last = earlier - 1, size - 1
    while place & 1:
        place >>= 1
        last >>= 1
    first = second = hashes[0]
    for hashed in hashes[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first = node_hash(hashed, first)
            second = node_hash(hashed, second)
            while place and not place & 1:
                place >>= 1
                last >>= 1
        else:
            second = node_hash(second, hashed)
        place >>= 1
        last >>= 1
    return last == 0 and first == earlier_root and second == root_hash


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << ((count - 1).bit_length() - 1)
