# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Trees and proofs, beside a tree as RFC 6962 defines it, and beside the vectors of Certificate Transparency."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import merkle

# ── The definition (RFC 6962, 2.1), as it stands there ───────────────────────────────────────────────────────────────


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _k(n: int) -> int:
    """The largest power of two smaller than n."""
    power = 1
    while power * 2 < n:
        power *= 2
    return power


class Naive:
    """MTH, PATH and SUBPROOF over leaf hashes; remembers subtrees, so that many sizes can be asked for."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = leaves

    @functools.cache  # noqa: B019 - as long as the test
    def mth(self, start: int, stop: int) -> bytes:
        if start == stop:
            return _sha256(b"")
        if stop - start == 1:
            return self.leaves[start]
        middle = start + _k(stop - start)
        return _sha256(b"\x01" + self.mth(start, middle) + self.mth(middle, stop))

    def path(self, m: int, start: int, stop: int) -> list[bytes]:
        n = stop - start
        if n == 1:
            return []
        k = _k(n)
        if m < k:
            return [*self.path(m, start, start + k), self.mth(start + k, stop)]
        return [*self.path(m - k, start + k, stop), self.mth(start, start + k)]

    def subproof(self, m: int, start: int, stop: int, b: bool) -> list[bytes]:
        n = stop - start
        if m == n:
            return [] if b else [self.mth(start, stop)]
        k = _k(n)
        if m <= k:
            return [*self.subproof(m, start, start + k, b), self.mth(start + k, stop)]
        return [*self.subproof(m - k, start + k, stop, False), self.mth(start, start + k)]

    def root(self, size: int) -> bytes:
        return self.mth(0, size)


# ── The vectors of the reference implementation of Certificate Transparency ──────────────────────────────────────────

INPUTS = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    (0, 1): [],
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
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
PROOFS = {
    (1, 1): [],
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
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}

LARGE = 65536 + 600
LEAVES = [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(LARGE)]
NAIVE = Naive(LEAVES)


class Store:
    """The levels that a log keeps, filled as its tree grows."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.levels: dict[int, list[bytes]] = {0: list(leaves)}
        self.asked = 0
        frontier = merkle.Frontier(self.take)
        for leaf in leaves:
            frontier.append(leaf)

    def take(self, level: int, index: int, hashed: bytes) -> None:
        level_hashes = self.levels.setdefault(level, [])
        assert level % merkle.STEP == 0
        assert index == len(level_hashes)
        level_hashes.append(hashed)

    def __call__(self, level: int, start: int, stop: int) -> list[bytes]:
        assert level % merkle.STEP == 0
        assert stop - start <= 1 << merkle.STEP
        self.asked += 1
        return self.levels.get(level, [])[start:stop]


STORE = Store(LEAVES)


def tree(size: int) -> merkle.Tree:
    return merkle.Tree(size, STORE)


SIZES = st.one_of(st.integers(0, 600), st.integers(65000, LARGE), st.sampled_from([255, 256, 257, 65535, 65536, 65537]))


@pytest.mark.parametrize("size", range(9))
def test_roots_of_certificate_transparency(size: int) -> None:
    leaves = [merkle.leaf_hash(data) for data in INPUTS[:size]]
    assert merkle.root(leaves).hex() == ROOTS[size]
    assert merkle.Tree(size, Store(leaves)).root().hex() == ROOTS[size]
    assert Naive(leaves).root(size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), PATHS)
def test_inclusion_proofs_of_certificate_transparency(index: int, size: int) -> None:
    leaves = [merkle.leaf_hash(data) for data in INPUTS]
    proof = [bytes.fromhex(text) for text in PATHS[index, size]]
    assert merkle.Tree(size, Store(leaves)).inclusion_proof(index) == proof == Naive(leaves).path(index, 0, size)
    assert merkle.verify_inclusion(leaves[index], index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("earlier", "size"), PROOFS)
def test_consistency_proofs_of_certificate_transparency(earlier: int, size: int) -> None:
    leaves = [merkle.leaf_hash(data) for data in INPUTS]
    proof = [bytes.fromhex(text) for text in PROOFS[earlier, size]]
    naive = Naive(leaves).subproof(earlier, 0, size, True)
    assert merkle.Tree(size, Store(leaves)).consistency_proof(earlier) == proof == naive
    roots = bytes.fromhex(ROOTS[earlier]), bytes.fromhex(ROOTS[size])
    assert merkle.verify_consistency(earlier, size, proof, *roots)


def test_every_root_up_to_600() -> None:
    frontier = merkle.Frontier()
    for size in range(601):
        assert frontier.size == size
        assert frontier.root() == tree(size).root() == NAIVE.root(size)
        frontier.append(LEAVES[size])


@given(SIZES)
@settings(max_examples=60)
def test_roots_at_the_edges_of_tiles(size: int) -> None:
    assert tree(size).root() == NAIVE.root(size)


def test_a_frontier_keeps_one_hash_a_level_and_its_copy_goes_its_own_way() -> None:
    told = []
    frontier = merkle.Frontier(lambda level, index, hashed: told.append((level, index, hashed)))
    for leaf in LEAVES[:255]:
        frontier.append(leaf)
    copy = frontier.copy()
    copy.append(LEAVES[255])
    assert told == []
    assert (frontier.size, copy.size) == (255, 256)
    assert (frontier.root(), copy.root()) == (NAIVE.root(255), NAIVE.root(256))
    frontier.append(LEAVES[255])
    assert told == [(8, 0, NAIVE.root(256))]


def test_stored_levels_are_the_complete_subtrees() -> None:
    assert {level: len(hashes) for level, hashes in STORE.levels.items()} == {0: LARGE, 8: LARGE // 256, 16: 1}
    assert STORE.levels[8][5] == NAIVE.mth(5 * 256, 6 * 256)
    assert STORE.levels[16][0] == NAIVE.root(65536)
    assert merkle.fold(LEAVES[256:512]) == STORE.levels[8][1]


def test_every_inclusion_proof_up_to_70() -> None:
    for size in range(1, 71):
        root = NAIVE.root(size)
        for index in range(size):
            proof = tree(size).inclusion_proof(index)
            assert proof == NAIVE.path(index, 0, size)
            assert merkle.verify_inclusion(LEAVES[index], index, size, proof, root)


def test_every_consistency_proof_up_to_70() -> None:
    for size in range(71):
        for earlier in range(size + 1):
            proof = tree(size).consistency_proof(earlier)
            if earlier:
                assert proof == NAIVE.subproof(earlier, 0, size, True)
            assert merkle.verify_consistency(earlier, size, proof, NAIVE.root(earlier), NAIVE.root(size))


@given(SIZES, st.data())
@settings(max_examples=150)
def test_inclusion_proofs_of_any_size(size: int, data: st.DataObject) -> None:
    assume(size)
    index = data.draw(st.integers(0, size - 1))
    STORE.asked = 0
    proof = tree(size).inclusion_proof(index)
    assert STORE.asked <= 2 * size.bit_length()
    assert proof == NAIVE.path(index, 0, size)
    assert merkle.verify_inclusion(LEAVES[index], index, size, proof, NAIVE.root(size))


@given(SIZES, st.data())
@settings(max_examples=150)
def test_consistency_proofs_of_any_sizes(size: int, data: st.DataObject) -> None:
    earlier = data.draw(st.one_of(st.integers(0, size), st.sampled_from([0, 1, size // 2, max(size - 1, 0), size])))
    proof = tree(size).consistency_proof(earlier)
    assert proof == (NAIVE.subproof(earlier, 0, size, True) if earlier else [])
    assert merkle.verify_consistency(earlier, size, proof, NAIVE.root(earlier), NAIVE.root(size))


def _wrong(proof: list[bytes], chance: random.Random) -> list[list[bytes]]:
    """The proof with one thing wrong with it, in all ways there are."""
    wrong = [[*proof, bytes(32)], [bytes(32), *proof], [*proof, *proof[-1:]], proof[:-1], proof[1:], proof[::-1]]
    for place, hashed in enumerate(proof):
        bit = 1 << chance.randrange(8)
        byte = chance.randrange(32)
        wrong.append(
            [*proof[:place], hashed[:byte] + bytes([hashed[byte] ^ bit]) + hashed[byte + 1 :], *proof[place + 1 :]]
        )
        wrong.append([*proof[:place], *proof[place + 1 :]])
        wrong.append([*proof[:place], hashed, *proof[place:]])
        wrong.append([*proof[:place], hashed[:31], *proof[place + 1 :]])
        wrong.append([*proof[:place], hashed + b"\x00", *proof[place + 1 :]])
        for other in range(place):
            swapped = list(proof)
            swapped[place], swapped[other] = swapped[other], swapped[place]
            wrong.append(swapped)
    return [item for item in wrong if item != proof]


@given(SIZES, st.data(), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_a_wrong_inclusion_proof_is_refused(size: int, data: st.DataObject, chance: random.Random) -> None:
    assume(size)
    index = data.draw(st.integers(0, size - 1))
    leaf, root = LEAVES[index], NAIVE.root(size)
    proof = tree(size).inclusion_proof(index)
    for wrong in _wrong(proof, chance):
        assert not merkle.verify_inclusion(leaf, index, size, wrong, root)
    for other in {index - 1, index + 1, index ^ 1, size - 1 - index, size, -1, -size} - {index}:
        assert not merkle.verify_inclusion(leaf, other, size, proof, root)
    assert not merkle.verify_inclusion(bytes(32), index, size, proof, root)
    assert not merkle.verify_inclusion(leaf, index, size, proof, bytes(32))
    for other_size in (0, size - 1, size + 1, size * 2):
        other_root = NAIVE.root(other_size) if 0 <= other_size <= LARGE else bytes(32)
        assert not merkle.verify_inclusion(leaf, index, other_size, proof, other_root)


def test_a_size_that_needs_another_proof_is_refused() -> None:
    """RFC 6962 proofs do not bind the size by themselves; the path's length does, and the checkpoint."""
    for size in range(1, 40):
        for index in range(size):
            proof = tree(size).inclusion_proof(index)
            for other in range(1, 40):
                if len(NAIVE.path(index, 0, other) if index < other else [b""] * 99) != len(proof):
                    assert not merkle.verify_inclusion(LEAVES[index], index, other, proof, NAIVE.root(size))


def test_sizes_that_need_another_consistency_proof_are_refused() -> None:
    """With the same roots; what a log of that size really has is not asked for."""
    for size in range(2, 30):
        for earlier in range(1, size):
            proof = tree(size).consistency_proof(earlier)
            for other in range(earlier + 1, 40):
                if len(NAIVE.subproof(earlier, 0, other, True)) != len(proof):
                    roots = NAIVE.root(earlier), NAIVE.root(size)
                    assert not merkle.verify_consistency(earlier, other, proof, *roots)


@given(SIZES, st.data(), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_a_wrong_consistency_proof_is_refused(size: int, data: st.DataObject, chance: random.Random) -> None:
    assume(size)
    earlier = data.draw(st.integers(1, size))
    before, after = NAIVE.root(earlier), NAIVE.root(size)
    proof = tree(size).consistency_proof(earlier)
    for wrong in _wrong(proof, chance):
        assert not merkle.verify_consistency(earlier, size, wrong, before, after)
    for roots in ((bytes(32), after), (before, bytes(32))):
        assert not merkle.verify_consistency(earlier, size, proof, *roots)
    if earlier < size:
        assert not merkle.verify_consistency(earlier, size, proof, after, before)
        assert not merkle.verify_consistency(earlier, size, [], before, after)
    for other in {earlier - 1, earlier + 1} - {size}:
        if 0 < other < size:
            assert not merkle.verify_consistency(other, size, proof, NAIVE.root(other), after)
    for sizes in ((size + 1, size), (-1, size), (earlier, -1)):
        assert not merkle.verify_consistency(*sizes, proof, before, after)


def test_a_tree_that_was_altered_is_not_consistent() -> None:
    """Whatever proof is given for it: here the honest one of each side."""
    for place in range(20):
        altered = list(LEAVES[:37])
        altered[place] = bytes(32)
        other = Naive(altered)
        for earlier in range(place + 1, 37):
            for proof in (NAIVE.subproof(earlier, 0, 37, True), other.subproof(earlier, 0, 37, True)):
                assert not merkle.verify_consistency(earlier, 37, proof, NAIVE.root(earlier), other.root(37))


def test_nothing_is_the_start_of_everything_but_proves_it_by_itself() -> None:
    root = NAIVE.root(3)
    assert merkle.verify_consistency(0, 3, [], merkle.EMPTY, root)
    assert not merkle.verify_consistency(0, 3, [root], merkle.EMPTY, root)
    assert not merkle.verify_consistency(0, 3, [], root, root)
    assert not merkle.verify_consistency(3, 3, [root], root, root)


@pytest.mark.parametrize("index", [-1, 5, 6])
def test_an_entry_that_is_not_there_has_no_proof(index: int) -> None:
    with pytest.raises(FlowauditError, match=f"A log of 5 entries has no entry {index}"):
        tree(5).inclusion_proof(index)


@pytest.mark.parametrize("earlier", [-1, 6])
def test_a_size_that_never_was_has_no_proof(earlier: int) -> None:
    with pytest.raises(FlowauditError, match=f"A log of 5 entries never had {earlier}"):
        tree(5).consistency_proof(earlier)


def test_missing_hashes_are_named() -> None:
    with pytest.raises(FlowauditError, match="lacks hashes of level 0"):
        merkle.Tree(5, lambda level, start, stop: []).root()
    with pytest.raises(FlowauditError, match="lacks hashes of level 8"):
        merkle.Tree(256, lambda level, start, stop: []).root()
