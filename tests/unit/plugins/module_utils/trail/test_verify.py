# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is found of what somebody does to a log. Ten thousand random attacks are in tests/trail/test_mutations.py."""

from __future__ import annotations

import dataclasses
import itertools
import random
import tracemalloc
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry, merkle, verify
from ansible_collections.flowaudit.ops.tests.unit.plugins import trail_logs
from ansible_collections.flowaudit.ops.tests.unit.plugins.trail_logs import (
    ANCHORED,
    MUTATIONS,
    ORIGIN,
    OTHER_ORIGIN,
    ROTATED,
    SIZES,
    Trail,
    drafts,
    is_noticed,
    other,
    resealed,
    sealed,
    sign_all,
    signed,
    signer,
    small,
    trail_of,
)

TRUSTED = pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "anchored"])
LINES = range(len(small().rows))
FLIPS = (0x01, 0x20, 0x80)


def found(trail: Trail, **options: t.Any) -> verify.Finding:
    finding = trail.verify(**options).finding
    assert finding is not None
    altered = trail.first_altered()
    if altered is not None:
        assert finding.first <= altered <= finding.last
    return finding


def flipped(data: bytes, place: int, flip: int) -> bytes:
    return data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]


# ── A log that is whole ──────────────────────────────────────────────────────────────────────────────────────────────


@TRUSTED
def test_a_whole_log(trusted: bool) -> None:
    report = small().verify(trusted=trusted)
    assert report == verify.Report(
        ORIGIN,
        size=12,
        root=merkle.root(row.leaf for row in small().rows),
        checkpoints=3,
        anchors=2,
        signed_size=12,
        anchored_size=12,
        keys=[signer(1).key, signer(2).key],
    )
    assert report.whole


def test_what_is_not_signed_yet_is_not_counted_as_signed() -> None:
    trail = dataclasses.replace(small(), checkpoints=small().checkpoints[:2], anchors=small().anchors[:1])
    report = trail.verify()
    assert (report.whole, report.size, report.signed_size, report.anchored_size) == (True, 12, 7, 4)


def test_a_log_without_anybody_who_knows_it_begins_with_the_key_it_names() -> None:
    trail = dataclasses.replace(small(), anchors=())
    report = trail.verify(trusted=False)
    assert (report.whole, report.anchored_size) == (True, 0)
    rebuilt = dataclasses.replace(trail_of(sealed(drafts(ORIGIN, (92, 93))), ORIGIN, (92, 93)), anchors=())
    assert rebuilt.verify(trusted=False).whole
    assert not rebuilt.verify(trusted=True).whole


def test_several_anchors_may_have_the_same_size() -> None:
    anchors = (*small().anchors, *(dataclasses.replace(anchor, source="postgres") for anchor in small().anchors))
    report = dataclasses.replace(small(), anchors=anchors).verify()
    assert (report.whole, report.anchors) == (True, 4)


def test_memory_does_not_grow_with_the_log() -> None:
    def rows(count: int) -> t.Iterator[entry.Row]:
        row = None
        for number in range(count):
            draft = drafts()[0] if number == 0 else {"type": entry.EVENT, "ts": "2026-03-01T10:00:00.000Z"}
            row = entry.seal(draft, number, row.leaf if row else None)
            yield row

    def peak(count: int) -> int:
        tracemalloc.start()
        report = verify.verify(ORIGIN, rows(count), [])
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (report.whole, report.size) == (True, count)
        return used

    peak(100)
    assert peak(10_000) < peak(1000) + 10_000


# ── Bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def first_of(number: int, trusted: bool) -> int:
    """Exactly that entry. But the anchor behind entry 5 is signed by a key that is not known there yet."""
    return 4 if number in (5, 6) and not trusted else number


@pytest.mark.parametrize("number", LINES)
def test_every_byte_of_every_line_counts(number: int) -> None:
    """Altered alone, it is named exactly."""
    line = small().rows[number].line or b""
    for place, flip in zip(range(len(line)), itertools.cycle(FLIPS)):
        trusted = flip != 0x20
        finding = found(small().with_row(number, line=flipped(line, place, flip)), trusted=trusted)
        assert (finding.first, finding.last) == (first_of(number, trusted), number)
        assert finding.message == f"Entry {number} was altered: its bytes do not have its hash."


@pytest.mark.parametrize("number", LINES)
def test_every_byte_of_every_line_counts_when_its_hash_is_made_new(number: int) -> None:
    line = small().rows[number].line or b""
    for place, flip in zip(range(len(line)), itertools.cycle(FLIPS)):
        altered = flipped(line, place, flip)
        found(small().with_row(number, line=altered, leaf=merkle.leaf_hash(altered)), trusted=place % 2 == 0)


@TRUSTED
@pytest.mark.parametrize("number", LINES)
def test_every_byte_of_every_hash_counts(number: int, trusted: bool) -> None:
    leaf = small().rows[number].leaf
    for place, flip in zip(range(32), itertools.cycle(FLIPS)):
        finding = found(small().with_row(number, leaf=flipped(leaf, place, flip)), trusted=trusted)
        assert (finding.first, finding.last) == (first_of(number, trusted), number)


@TRUSTED
@pytest.mark.parametrize("size", SIZES)
def test_every_byte_of_every_checkpoint_counts(size: int, trusted: bool) -> None:
    """Only what a signature that nobody knows says may change: it says nothing."""
    place = SIZES.index(size)
    raw = small().checkpoints[place].encode()
    harmless = 0
    for byte, flip in zip(range(len(raw)), itertools.cycle(FLIPS)):
        notes = list(small().checkpoints)
        notes[place] = flipped(raw, byte, flip).decode(errors="replace")
        trail = dataclasses.replace(small(), checkpoints=tuple(notes))
        report = trail.verify(trusted=trusted)
        if report.finding is None:
            assert trail.says_the_same()
            assert byte > raw.index(b"witness.example") - 5
            harmless += 1
    assert (harmless > 0) == (size == 12)


@TRUSTED
@pytest.mark.parametrize("place", range(len(ANCHORED)))
def test_every_byte_of_every_anchor_counts(place: int, trusted: bool) -> None:
    raw = small().anchors[place].note.encode()
    for byte, flip in zip(range(len(raw)), itertools.cycle(FLIPS)):
        anchors = list(small().anchors)
        anchors[place] = verify.Anchor("/worm/x", flipped(raw, byte, flip).decode(errors="replace"))
        trail = dataclasses.replace(small(), anchors=tuple(anchors))
        report = trail.verify(trusted=trusted)
        if report.finding is None:
            assert trail.says_the_same()
            assert byte > raw.index(b"witness.example") - 5
        else:
            assert "/worm/x" in report.finding.message


# ── Entries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@TRUSTED
@pytest.mark.parametrize("number", LINES)
def test_an_entry_that_is_rewritten_with_all_that_depends_on_it(number: int, trusted: bool) -> None:
    """From that entry on, and up to any other behind it."""
    values = small().values()
    values[number] |= {"host": "db01"}
    for stop in range(number + 1, 13):
        found(resealed(small(), values, number, stop), trusted=trusted)


@TRUSTED
@pytest.mark.parametrize("number", LINES)
def test_an_entry_that_is_deleted(number: int, trusted: bool) -> None:
    rows = small().rows
    finding = found(small().with_rows(rows[:number] + rows[number + 1 :]), trusted=trusted)
    if number < 11:
        assert finding.message == f"Entry {number} is missing; entry {number + 1} is in its place."
    values = small().values()
    del values[number]
    found(resealed(small(), values, number), trusted=trusted)


@TRUSTED
@pytest.mark.parametrize("number", range(12))
def test_an_entry_that_is_inserted(number: int, trusted: bool) -> None:
    forged = {"type": entry.EVENT, "ts": "2026-03-01T10:00:00.500Z"}
    values = small().values()
    values.insert(number, forged)
    found(resealed(small(), values, number), trusted=trusted)
    row = entry.seal(forged, number, small().rows[number - 1].leaf if number else None)
    found(small().with_rows([*small().rows[:number], row, *small().rows[number:]]), trusted=trusted)


def test_an_entry_behind_all_that_is_signed_is_not_said_to_be() -> None:
    """Who can write to the file can do this; the next checkpoint signs it, the report says up to where that is."""
    trail = small().with_rows([*small().rows, entry.seal({"type": entry.EVENT}, 12, small().rows[-1].leaf)])
    report = trail.verify()
    assert (report.whole, report.size, report.signed_size, report.anchored_size) == (True, 13, 12, 12)


@TRUSTED
@pytest.mark.parametrize(("one", "two"), [(0, 1), (1, 11), (2, 4), (3, 4), (5, 6), (6, 7), (6, 11), (8, 10), (10, 11)])
def test_entries_that_are_swapped(one: int, two: int, trusted: bool) -> None:
    rows = list(small().rows)
    rows[one], rows[two] = rows[two], rows[one]
    found(small().with_rows(rows), trusted=trusted)
    found(small().with_rows(dataclasses.replace(row, seq=place) for place, row in enumerate(rows)), trusted=trusted)
    values = small().values()
    values[one], values[two] = values[two], values[one]
    found(resealed(small(), values, min(one, two)), trusted=trusted)


@TRUSTED
@pytest.mark.parametrize("number", LINES)
def test_an_entry_that_is_there_twice(number: int, trusted: bool) -> None:
    rows = small().rows
    for where in (number, 12):
        finding = found(small().with_rows([*rows[:where], rows[number], *rows[where:]]), trusted=trusted)
        assert "in its place" in finding.message


@TRUSTED
@pytest.mark.parametrize("size", range(12))
def test_a_log_that_is_cut_below_an_anchor(size: int, trusted: bool) -> None:
    trail = trail_logs.truncate(small(), _Fixed(size))
    finding = found(trail, trusted=trusted)
    if size:
        assert finding.last == 11
        assert finding.message == f"The log ends with {size} entries, but /worm/12 has 12."
    else:
        assert finding.message == "The log has no entries, not even the one that begins it."


class _Fixed(random.Random):
    """No chance at all."""

    def __init__(self, value: int) -> None:
        super().__init__(0)
        self._value = value

    def randrange(self, *_arguments: t.Any) -> int:
        return self._value


@TRUSTED
def test_a_cut_log_whose_checkpoint_stayed(trusted: bool) -> None:
    trail = dataclasses.replace(small().with_rows(small().rows[:9]), anchors=small().anchors[:1])
    finding = found(trail, trusted=trusted)
    assert finding.message == "The log ends with 9 entries, but a checkpoint has 12."


@pytest.mark.parametrize("trail", [Trail((), (), ()), Trail((), small().checkpoints, ())])
def test_an_empty_log_is_no_log(trail: Trail) -> None:
    finding = trail.verify().finding
    assert finding == verify.Finding(0, 0, "The log has no entries, not even the one that begins it.")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"seq":4}',
        b'{"seq":4,"prev":"x"}',
        '{"seq":4}'.encode("utf-16"),
        b'{"seq":4,"type":"\xff"}',
        b'{"seq":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_entry_is_found_not_fatal(line: bytes) -> None:
    finding = found(small().with_row(4, line=line, leaf=merkle.leaf_hash(line)))
    assert finding.message == "Entry 4 is no entry."


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'"seq":4', b'"seq":4.0'), (b'"seq":4', b'"seq":3'), (b'"v":1}', b'"v":1} '), (b'"seq":4', b'"seq":true')],
)
def test_an_entry_of_another_place_is_none_of_this(before: bytes, after: bytes) -> None:
    line = (small().rows[4].line or b"").replace(before, after)
    finding = found(small().with_row(4, line=line, leaf=merkle.leaf_hash(line)))
    assert finding.message == "Entry 4 is no entry of that place."


def test_a_seq_of_true_is_not_one() -> None:
    line = (small().rows[1].line or b"").replace(b'"seq":1', b'"seq":true')
    finding = found(small().with_row(1, line=line, leaf=merkle.leaf_hash(line)))
    assert finding.message == "Entry 1 is no entry of that place."


@pytest.mark.parametrize("leaf", [b"", bytes(31), bytes(33), "x" * 32, None, 7])
@pytest.mark.parametrize("line", [True, False])
def test_what_is_no_hash_is_found_not_fatal(leaf: t.Any, line: bool) -> None:
    trail = small().with_row(4, leaf=leaf, **({} if line else {"line": None}))
    finding = found(trail)
    assert (finding.last, "Entry 4" in finding.message) == (4, True)


@pytest.mark.parametrize("number", range(12))
def test_an_entry_that_names_another_before_it(number: int) -> None:
    """Even if it was signed like that: who follows the log with other tools goes by ``prev``."""
    rows: list[entry.Row] = []
    for place, draft in enumerate(drafts()):
        rows.append(entry.seal(draft, place, bytes(31) + b"x" if place == number else rows[-1].leaf if rows else None))
    finding = trail_of(rows).verify().finding
    assert finding is not None
    assert finding.message == f"Entry {number} was written behind another entry than {number - 1}."
    assert (max(number - 1, 0), number) == (finding.first, finding.last)


def test_an_entry_that_is_replaced_where_nobody_signed_yet() -> None:
    values = small().values()
    values[9] |= {"host": "db01"}
    trail = dataclasses.replace(small(), checkpoints=small().checkpoints[:2], anchors=small().anchors[:1])
    finding = found(resealed(trail, values, 9, 10))
    assert finding == verify.Finding(7, 10, "Entry 10 was written behind another entry than 9.")


# ── How exactly a finding names its place ────────────────────────────────────────────────────────────────────────────


def test_a_finding_is_exact_when_the_next_checkpoint_proves_the_rest() -> None:
    line = (small().rows[9].line or b"").replace(b"web", b"xyz")
    assert found(small().with_row(9, line=line)).first == 9
    # The next that does not prove it, or is not there, leaves the entries since the last one.
    unsigned = dataclasses.replace(small().with_row(9, line=line), checkpoints=small().checkpoints[:2], anchors=())
    assert (found(unsigned).first, found(unsigned).last) == (7, 9)
    both = small().with_row(9, line=line).with_row(11, leaf=bytes(32))
    assert (found(both).first, found(both).last) == (7, 9)
    gap = small().with_rows([*small().with_row(9, line=line).rows[:10], small().rows[11]])
    assert (found(gap).first, found(gap).last) == (7, 9)


def test_a_log_that_was_rewritten_before_is_not_said_to_be_whole_there() -> None:
    """Entry 8 is altered and what follows is made to fit; then a byte of entry 10 as well."""
    values = small().values()
    values[8] |= {"host": "db01"}
    trail = resealed(small(), values, 8)
    trail = trail.with_row(10, line=(trail.rows[10].line or b"") + b" ")
    finding = found(trail)
    assert (finding.first, finding.last) == (7, 10)


def test_what_anchors_prove_counts_when_no_key_is_trusted() -> None:
    line = (small().rows[5].line or b"").replace(b"web", b"xyz")
    trail = dataclasses.replace(small().with_row(5, line=line), anchors=small().anchors[:1])
    assert (found(trail, trusted=True).first, found(trail, trusted=True).last) == (5, 5)
    assert (found(trail, trusted=False).first, found(trail, trusted=False).last) == (4, 5)


def test_a_checkpoint_that_does_not_hold_does_not_prove_the_rest() -> None:
    line = (small().rows[9].line or b"").replace(b"web", b"xyz")
    bad = small().checkpoints[2].replace("—", "-", 1)
    trail = dataclasses.replace(small().with_row(9, line=line), checkpoints=(*small().checkpoints[:2], bad), anchors=())
    assert (found(trail).first, found(trail).last) == (7, 9)
    forged = signed(small().rows, 12, [signer(90)])
    trail = dataclasses.replace(trail, checkpoints=(*small().checkpoints[:2], forged))
    assert (found(trail).first, found(trail).last) == (7, 9)


def test_a_fault_below_a_renewal_that_was_not_handed_over_is_not_exact() -> None:
    notes = (small().checkpoints[0], signed(small().rows, 7, [signer(2)]), small().checkpoints[2])
    line = (small().rows[9].line or b"").replace(b"web", b"xyz")
    finding = found(dataclasses.replace(small().with_row(9, line=line), checkpoints=notes))
    assert (finding.first, finding.last) == (4, 9)


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@TRUSTED
@pytest.mark.parametrize("size", SIZES)
def test_a_checkpoint_that_another_key_signed(size: int, trusted: bool) -> None:
    notes = list(small().checkpoints)
    notes[SIZES.index(size)] = signed(small().rows, size, [signer(90)])
    finding = found(dataclasses.replace(small(), checkpoints=tuple(notes)), trusted=trusted)
    assert (
        "None of the keys that are known has signed this" in finding.message or "was not signed by" in finding.message
    )


@TRUSTED
def test_a_key_that_was_renewed_signs_no_more(trusted: bool) -> None:
    notes = (*small().checkpoints[:2], signed(small().rows, 12, [signer(1)]))
    finding = found(dataclasses.replace(small(), checkpoints=notes, anchors=small().anchors[:1]), trusted=trusted)
    assert finding.message == "the checkpoint at 12 entries is not signed by the key of that time."


@TRUSTED
def test_a_key_does_not_sign_before_it_is_named(trusted: bool) -> None:
    notes = (signed(small().rows, 4, [signer(2)]), *small().checkpoints[1:])
    finding = found(dataclasses.replace(small(), checkpoints=notes, anchors=small().anchors[1:]), trusted=trusted)
    assert "the checkpoint at 4 entries does not hold" in finding.message


@TRUSTED
def test_a_renewal_that_the_old_key_did_not_sign(trusted: bool) -> None:
    notes = (small().checkpoints[0], signed(small().rows, 7, [signer(2)]), small().checkpoints[2])
    finding = found(dataclasses.replace(small(), checkpoints=notes), trusted=trusted)
    assert finding == verify.Finding(4, 12, f"The key of entry {ROTATED} was not signed by the key before it.")


@TRUSTED
@pytest.mark.parametrize("place", range(1, 13))
def test_a_forged_renewal(place: int, trusted: bool) -> None:
    forged = {"type": entry.KEY_ROTATED, "ts": "2026-03-01T10:00:00.500Z", "key": str(signer(94).key)}
    values = small().values()
    values.insert(place, forged)
    trail = resealed(small(), values, place)
    kept = [text for text, size in zip(small().checkpoints, SIZES, strict=True) if size <= place]
    forged_note = signed(trail.rows, 13, [signer(94)])
    finding = found(dataclasses.replace(trail, checkpoints=(*kept, forged_note)), trusted=trusted)
    assert finding.first <= place <= finding.last


def test_a_renewal_without_any_checkpoint_yet_is_no_fault() -> None:
    trail = dataclasses.replace(small(), checkpoints=small().checkpoints[:1], anchors=small().anchors[:1])
    assert trail.verify().whole


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "names no key"),
        (None, "names no key"),
        ("\udce4+00000000+AAAA", "names no key"),
        ("a+00000000+ä", "names no key"),
        (str(signer(94, OTHER_ORIGIN).key), f"is that of {OTHER_ORIGIN}"),
    ],
)
def test_a_renewal_with_no_key_of_this_log(key: t.Any, message: str) -> None:
    values = small().values()
    values[5] = {"type": entry.KEY_ROTATED, "key": key}
    finding = found(resealed(small(), values, 5))
    assert message in finding.message
    assert finding.last == 5


def test_a_log_begins_once() -> None:
    values = small().values()
    values[5] = values[0]
    assert "Entry 5 begins a log that has begun" in found(resealed(small(), values, 5)).message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": entry.KEY_ROTATED}, "Entry 0 begins a log that has begun"),
        ({"type": entry.EVENT}, "Entry 0 does not begin a log"),
        ({"origin": OTHER_ORIGIN}, f"The log was begun as '{OTHER_ORIGIN}', not as {ORIGIN}"),
        ({"key": str(signer(90).key)}, "which is none of those that are trusted"),
        ({"key": "x"}, "names no key"),
    ],
)
def test_a_log_that_begins_otherwise(change: dict[str, t.Any], message: str) -> None:
    values = small().values()
    values[0] |= change
    finding = found(resealed(small(), values, 0))
    assert (finding.first, finding.last) == (0, 0)
    assert message in finding.message


def test_a_log_whose_first_entry_is_not_there_does_not_begin() -> None:
    assert found(small().with_row(0, line=None)).message == "Entry 0 does not begin a log."


# ── Whole logs ───────────────────────────────────────────────────────────────────────────────────────────────────────


@TRUSTED
@pytest.mark.parametrize("number", LINES)
@pytest.mark.parametrize("sizes", [(), (12,), SIZES], ids=["unsigned", "once", "as before"])
def test_a_log_that_is_rebuilt_without_the_key(number: int, sizes: tuple[int, ...], trusted: bool) -> None:
    values = small().values()
    values[number] |= {"status": "changed by somebody"}
    found(sign_all(resealed(small(), values, 0), lambda size: [signer(90)], sizes), trusted=trusted)


@TRUSTED
@pytest.mark.parametrize("number", LINES)
def test_a_log_that_is_rebuilt_with_a_key_of_its_own(number: int, trusted: bool) -> None:
    made = drafts(ORIGIN, (92, 93))
    made[number] |= {"status": "changed by somebody"}
    rebuilt = dataclasses.replace(trail_of(sealed(made), ORIGIN, (92, 93)), anchors=small().anchors)
    finding = found(rebuilt, trusted=trusted)
    assert finding.first == 0


@TRUSTED
def test_another_log_in_its_place(trusted: bool) -> None:
    swapped = dataclasses.replace(other(), anchors=small().anchors)
    finding = found(swapped, trusted=trusted)
    assert finding.message == f"The log was begun as '{OTHER_ORIGIN}', not as {ORIGIN}."
    # Also when it is asked for by the name that it has itself.
    finding = found(swapped, trusted=trusted, origin=OTHER_ORIGIN)
    assert finding.first == 0
    assert trusted or finding.message == f"/worm/4 is of the log {ORIGIN}, this one is {OTHER_ORIGIN}."


def test_checkpoints_of_another_log() -> None:
    finding = found(dataclasses.replace(small(), checkpoints=other().checkpoints, anchors=()))
    assert finding.message == f"A checkpoint of the log is of the log {OTHER_ORIGIN}, this one is {ORIGIN}."


def test_nobody_signed_a_log_without_entries() -> None:
    empty = signed(small().rows, 0, [signer(1)])
    finding = found(dataclasses.replace(small(), checkpoints=(*small().checkpoints, empty)))
    assert finding.message == "A checkpoint of the log has no entries, but a log begins with one."


@TRUSTED
@pytest.mark.parametrize("text", ["", "x", "\udce4\n\n— a AAAAAAA=\n", f"{ORIGIN}\n4\nä\n\n— a AAAAAAA=\n"])
def test_an_anchor_that_is_none_is_found_not_fatal(text: str, trusted: bool) -> None:
    anchors = (*small().anchors, verify.Anchor("/worm/x", text))
    finding = found(dataclasses.replace(small(), anchors=anchors), trusted=trusted)
    assert finding.message.startswith("/worm/x is no checkpoint")
    assert (finding.first, finding.last) == (12, 12)


# ── Bytes that are gone ──────────────────────────────────────────────────────────────────────────────────────────────


def _pruned(*told: tuple[str, t.Any, t.Any], gone: t.Iterable[int]) -> Trail:
    """A log of 20 entries; from 12 on it says which bytes are gone."""
    made = [*drafts(), *({"type": kind, "first": first, "last": last} for kind, first, last in told)]
    trail = trail_of(sealed(made))
    end = signed(trail.rows, len(made), [signer(2)])
    trail = dataclasses.replace(trail, checkpoints=(*trail.checkpoints, end))
    for number in gone:
        trail = trail.with_row(number, line=None)
    return trail


@pytest.mark.parametrize(
    "told",
    [
        [(entry.PRUNED, 1, 5)],
        [(entry.ARCHIVED, 1, 5)],
        [(entry.ARCHIVED, 1, 2), (entry.PRUNED, 1, 2), (entry.ARCHIVED, 3, 5)],
        [(entry.ARCHIVED, 4, 5), (entry.ARCHIVED, 0, 3)],
        [(entry.ARCHIVED, 0, 11)],
    ],
)
def test_bytes_may_be_gone_when_the_log_says_so(told: list[tuple[str, int, int]]) -> None:
    report = _pruned(*told, gone=[1, 2, 4, 5]).verify()
    assert (report.finding, report.pruned) == (None, 4)


@pytest.mark.parametrize(
    ("told", "missing"),
    [
        ([], 1),
        ([(entry.PRUNED, 2, 5)], 1),
        ([(entry.PRUNED, 1, 1)], 2),
        ([(entry.PRUNED, 1, 4)], 5),
        ([(entry.PRUNED, 0, 1), (entry.ARCHIVED, 5, 8)], 2),
    ],
)
def test_bytes_that_are_gone_unsaid_are_missing(told: list[tuple[str, int, int]], missing: int) -> None:
    finding = _pruned(*told, gone=[1, 2, 4, 5]).verify().finding
    assert finding is not None
    assert (finding.first, finding.last) == (missing, missing)
    assert finding.message.startswith(f"The bytes of entry {missing} are gone, and no entry says")


def test_bytes_that_are_gone_from_what_nobody_signed_are_not_exact() -> None:
    trail = dataclasses.replace(small(), checkpoints=small().checkpoints[:1], anchors=()).with_row(9, line=None)
    finding = found(trail)
    assert (finding.first, finding.last) == (4, 9)


def test_the_first_of_two_things_is_named() -> None:
    """Entry 2 has lost its bytes, which only shows at the end of the log; entry 9 was altered."""
    trail = _pruned(gone=[2]).with_row(9, line=b"{}")
    finding = trail.verify().finding
    assert finding is not None
    assert (finding.first, finding.last) == (2, 2)
    trail = _pruned((entry.PRUNED, 1, 3), (entry.EVENT, "archived", 0), gone=[2]).with_row(9, line=b"{}")
    finding = trail.verify().finding
    assert finding is not None
    assert (finding.first, finding.last) == (9, 9)
    trail = _pruned((entry.PRUNED, 1, 3), gone=[2, 10]).with_row(9, line=b"{}")
    finding = trail.verify().finding
    assert finding is not None
    assert (finding.first, finding.last) == (9, 9)


def test_what_comes_after_a_fault_is_read_with_care() -> None:
    trail = _pruned((entry.PRUNED, "x", None), (entry.PRUNED, 1, 3), gone=[2]).with_row(9, line=b"{}")
    trail = trail.with_row(11, line=b'"archived" but no entry')
    finding = trail.verify().finding
    assert finding is not None
    assert (finding.first, finding.last) == (9, 9)


@pytest.mark.parametrize(("first", "last"), [(3, 2), (-1, 2), (1, 12), (1, None), ("1", 2), (True, 2), (1, 2.0)])
def test_an_entry_that_does_not_say_which_are_gone_is_none(first: t.Any, last: t.Any) -> None:
    if isinstance(last, float):
        line = (small().rows[11].line or b"").replace(b'"type":"task.result"', b'"type":"pruned","first":1,"last":2.0')
        finding = found(small().with_row(11, line=line, leaf=merkle.leaf_hash(line)))
        assert finding.message == "Entry 11 does not say which entries it is about."
        return
    finding = _pruned((entry.PRUNED, first, last), gone=[]).verify().finding
    assert finding is not None
    assert finding.message == "Entry 12 does not say which entries it is about."


# ── Stored hashes ────────────────────────────────────────────────────────────────────────────────────────────────────


def _large() -> tuple[Trail, dict[tuple[int, int], bytes]]:
    rows = sealed([*drafts(), *({"type": "event", "number": number} for number in range(600))])
    nodes: dict[tuple[int, int], bytes] = {}
    frontier = merkle.Frontier(lambda level, index, hashed: nodes.__setitem__((level, index), hashed))
    for row in rows:
        frontier.append(row.leaf)
    trail = trail_of(rows)
    notes = (*trail.checkpoints, *(signed(rows, size, [signer(2)]) for size in (300, 512)))
    return dataclasses.replace(trail, checkpoints=notes), nodes


LARGE, NODES = _large()


def test_stored_hashes_are_those_of_the_entries() -> None:
    assert sorted(NODES) == [(8, 0), (8, 1)]
    assert LARGE.verify(nodes=NODES).whole
    assert LARGE.verify().whole


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("damage", [bytes(32), None, "x"])
def test_a_stored_hash_that_was_altered(index: int, damage: t.Any) -> None:
    """The entries are as they were; the finding names those it stands for."""
    finding = LARGE.verify(nodes=NODES | {(8, index): damage}).finding
    assert finding == verify.Finding(
        index * 256, index * 256 + 255, f"The stored hash {index} of level 8 is not that of its entries."
    )


def test_a_stored_hash_that_is_gone() -> None:
    finding = LARGE.verify(nodes={(8, 1): NODES[8, 1]}).finding
    assert finding is not None
    assert finding.message == "The stored hash 0 of level 8 is not that of its entries."


@pytest.mark.parametrize("extra", [(8, 2), (16, 0), (0, 0), (-8, 3)])
def test_a_stored_hash_of_nothing(extra: tuple[int, int]) -> None:
    finding = LARGE.verify(nodes=NODES | {extra: bytes(32)}).finding
    assert finding == verify.Finding(512, 612, "There are stored hashes of entries that are not there.")


def test_entries_that_are_altered_with_all_but_their_stored_hashes() -> None:
    trail = dataclasses.replace(LARGE, checkpoints=LARGE.checkpoints[:3])
    values = LARGE.values()
    values[100] |= {"number": 7}
    trail = resealed(trail, values, 100)
    finding = trail.verify(nodes=NODES).finding
    assert finding is not None
    assert (finding.first, finding.last) == (0, 255)
    values = LARGE.values()
    values[280] |= {"number": 7}
    trail = dataclasses.replace(LARGE, checkpoints=LARGE.checkpoints[:3])
    finding = resealed(trail, values, 280).verify(nodes=NODES).finding
    assert finding is not None
    assert finding.first <= 280 <= finding.last


# ── Anything else ────────────────────────────────────────────────────────────────────────────────────────────────────


@TRUSTED
@pytest.mark.parametrize("change", MUTATIONS, ids=lambda change: change.__name__)
def test_each_kind_of_attack_is_noticed(change: trail_logs.Mutation, trusted: bool) -> None:
    for seed in range(10):
        trail = change(small(), random.Random(seed))
        if trail != small():
            assert is_noticed(trail, [change.__name__], trail.verify(trusted=trusted)), seed


def test_attacks_of_several_kinds_are_noticed() -> None:
    """A selection; ten thousand and more in the campaign."""
    for seed in range(400):
        trail, names = trail_logs.attacked(seed)
        if trail != small():
            assert is_noticed(trail, names, trail.verify(trusted=seed % 2 == 0)), (seed, names)
