# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Small logs of the trail, and what an attacker may do to them."""

from __future__ import annotations

import dataclasses
import functools
import random
import typing as t
from collections.abc import Callable, Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric import ed25519

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import (
    canonical,
    checkpoint,
    entry,
    home,
    merkle,
    note,
    verify,
)

Row = entry.Row
Value = dict[str, t.Any]

ORIGIN = "control.example/trail/5f0c2b1a"
OTHER_ORIGIN = "control.example/trail/00c0ffee"
SIZES = (4, 7, 12)  # of the checkpoints
ROTATED = 6  # the entry that names the second key
ANCHORED = (4, 12)  # sizes that somebody else keeps


@functools.cache
def signer(number: int, name: str = ORIGIN) -> home.FileSigner:
    """A key; the same number is the same key. An attacker has those from 90 on."""
    return home.FileSigner(name, ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


def signed(rows: Sequence[Row], size: int, signers: Iterable[note.Signer], origin: str = ORIGIN) -> str:
    """The checkpoint over the first rows."""
    root = merkle.root(row.leaf if isinstance(row.leaf, bytes) else b"" for row in rows[:size])
    return note.sign(checkpoint.Checkpoint(origin, size, root).text(), signers)


def sealed(drafts: Iterable[Value]) -> list[Row]:
    """The entries one behind the other, as an honest log has them."""
    rows: list[Row] = []
    for draft in drafts:
        rows.append(entry.seal(draft, len(rows), rows[-1].leaf if rows else None))
    return rows


def drafts(origin: str = ORIGIN, keys: tuple[int, int] = (1, 2)) -> list[Value]:
    """A run of eight results with a renewed key in its middle."""
    run = "019a8f2e-6d00-7a10-8b20-0123456789ab"
    made: list[Value] = [
        {"type": entry.LOG_CREATED, "origin": origin, "key": str(signer(keys[0], origin).key), "collection": "0.2.0"},
        {"type": entry.RUN_START, "run": run, "playbook": "site.yml", "commit": "c" * 40},
    ]
    for number in range(9):
        if len(made) == ROTATED:
            made.append({"type": entry.KEY_ROTATED, "key": str(signer(keys[1], origin).key)})
        result = {"host": f"web{number:02d}", "status": "ok", "changed": number % 2 == 0, "dur_ms": 100 + number}
        made.append({"type": entry.TASK_RESULT, "run": run, "task": f"t{number}", **result})
    return [{**draft, "ts": f"2026-03-01T10:00:{place:02d}.000Z"} for place, draft in enumerate(made)]


@dataclasses.dataclass(frozen=True)
class Trail:
    """A log and what others keep of it."""

    rows: tuple[Row, ...]
    checkpoints: tuple[str, ...]
    anchors: tuple[verify.Anchor, ...]

    def verify(
        self, *, trusted: bool = True, origin: str = ORIGIN, nodes: dict[tuple[int, int], bytes] | None = None
    ) -> verify.Report:
        keys = [signer(1).key] if trusted else []
        return verify.verify(origin, iter(self.rows), self.checkpoints, self.anchors, keys, nodes)

    def values(self) -> list[Value]:
        return [canonical.decode(row.line) for row in self.rows if row.line is not None]

    def with_row(self, place: int, **changes: t.Any) -> Trail:
        rows = list(self.rows)
        rows[place] = dataclasses.replace(rows[place], **changes)
        return dataclasses.replace(self, rows=tuple(rows))

    def with_rows(self, rows: Iterable[Row]) -> Trail:
        return dataclasses.replace(self, rows=tuple(rows))

    def first_altered(self) -> int | None:
        """The first place where the entries are not the honest ones."""
        honest = small().rows
        for place, (row, other) in enumerate(zip(self.rows, honest, strict=False)):
            if row != other:
                return place
        return None if len(self.rows) == len(honest) else min(len(self.rows), len(honest))

    def says_the_same(self) -> bool:
        """Whether every entry is the honest one, and what is signed is, by the right keys, at least what anchors need.

        An attacker who gets no further than this has altered nothing: a note may have lost, or got, a signature that
        nobody looks at.
        """
        if self.first_altered() is not None:
            return False
        texts = {honest.partition("\n\n")[0]: size for size, honest in zip(SIZES, small().checkpoints, strict=True)}
        for text in (*self.checkpoints, *(anchor.note for anchor in self.anchors)):
            size = texts.get(text.partition("\n\n")[0])
            if size is None or (2 if size > ROTATED else 1) not in _signers(text):
                return False
        return any({1, 2} <= _signers(text) for text in (*self.checkpoints, *(a.note for a in self.anchors)))


def _signers(text: str) -> set[int]:
    found = set()
    for number in (1, 2):
        try:
            note.verified(text, note.by_name_and_id([signer(number).key]))
            found.add(number)
        except FlowauditError:
            pass
    return found


def trail_of(rows: Sequence[Row], origin: str = ORIGIN, keys: tuple[int, int] = (1, 2)) -> Trail:
    old, new = signer(keys[0], origin), signer(keys[1], origin)
    witness = signer(50, "witness.example/w")
    by_size = {4: [old], 7: [new, old], 12: [new, witness]}
    notes = {size: signed(rows, size, by_size[size], origin) for size in SIZES}
    anchors = tuple(verify.Anchor(f"/worm/{size}", notes[size]) for size in ANCHORED)
    return Trail(tuple(rows), tuple(notes.values()), anchors)


@functools.cache
def small() -> Trail:
    """Twelve entries, three checkpoints, a renewed key signed for by both keys, two anchors."""
    return trail_of(sealed(drafts()))


@functools.cache
def other() -> Trail:
    """The log of another control node."""
    return trail_of(sealed(drafts(OTHER_ORIGIN, (3, 4))), OTHER_ORIGIN, (3, 4))


# ── What an attacker may do ──────────────────────────────────────────────────────────────────────────────────────────

Mutation = Callable[[Trail, random.Random], Trail]
MUTATIONS: list[Mutation] = []


def mutation(function: Mutation) -> Mutation:
    MUTATIONS.append(function)
    return function


def _flipped(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ chance.randrange(1, 256)]) + data[place + 1 :]


def _place(trail: Trail, chance: random.Random) -> int:
    return chance.randrange(len(trail.rows))


def resealed(trail: Trail, values: Sequence[Value], start: int, stop: int | None = None) -> Trail:
    """Places, ``prev`` and hashes made right again from ``start`` on, up to ``stop``; those before stay."""
    rows = list(trail.rows[:start])
    for place, value in enumerate(values[start:stop], start):
        previous = rows[-1].leaf if rows else None
        rows.append(entry.seal(value, place, previous if isinstance(previous, bytes) else None))
    return trail.with_rows([*rows, *trail.rows[len(rows) :]] if stop is not None else rows)


def _all_values(trail: Trail) -> list[Value]:
    """Of what is no entry any more, the attacker makes one."""
    values = []
    for row in trail.rows:
        try:
            value = canonical.decode(row.line or b"")
            canonical.encode(value)
        except FlowauditError:
            value = {"type": entry.EVENT, "ts": "2026-03-01T11:00:00.000Z"}
        values.append(value)
    return values


def _altered(value: Value, chance: random.Random) -> Value:
    return {**value, "host": f"db{chance.randrange(100):02d}", "changed": chance.random() < 0.5}


@mutation
def flip_a_line(trail: Trail, chance: random.Random) -> Trail:
    place = _place(trail, chance)
    line = trail.rows[place].line
    return trail.with_row(place, line=_flipped(line, chance)) if line else trail


@mutation
def flip_a_line_and_hash_it(trail: Trail, chance: random.Random) -> Trail:
    place = _place(trail, chance)
    line = trail.rows[place].line
    if not line:
        return trail
    line = _flipped(line, chance)
    return trail.with_row(place, line=line, leaf=merkle.leaf_hash(line))


@mutation
def flip_a_leaf(trail: Trail, chance: random.Random) -> Trail:
    place = _place(trail, chance)
    leaf = trail.rows[place].leaf
    return trail.with_row(place, leaf=_flipped(leaf, chance)) if leaf and isinstance(leaf, bytes) else trail


@mutation
def damage_a_leaf(trail: Trail, chance: random.Random) -> Trail:
    leaf = chance.choice([b"", b"x", bytes(31), bytes(33), "x" * 32, None, 7])
    return trail.with_row(_place(trail, chance), leaf=leaf)


@mutation
def lose_bytes(trail: Trail, chance: random.Random) -> Trail:
    return trail.with_row(_place(trail, chance), line=None)


@mutation
def replace_a_line(trail: Trail, chance: random.Random) -> Trail:
    line = chance.choice(
        [b"", b"null", b"[]", b"{", b"[" * 100_000, b'{"seq":0}', b"\xff\xfe{\x00}\x00", b'{"a":"\\ud800"}']
    )
    leaf = {"leaf": merkle.leaf_hash(line)} if chance.random() < 0.5 else {}
    return trail.with_row(_place(trail, chance), line=line, **leaf)


@mutation
def rewrite_an_entry_and_some_behind_it(trail: Trail, chance: random.Random) -> Trail:
    place = _place(trail, chance)
    values = _all_values(trail)
    values[place] = _altered(values[place], chance)
    return resealed(trail, values, place, chance.randint(place + 1, len(values)))


@mutation
def rewrite_from_an_entry_on(trail: Trail, chance: random.Random) -> Trail:
    place = _place(trail, chance)
    values = _all_values(trail)
    values[place] = _altered(values[place], chance)
    return resealed(trail, values, place)


@mutation
def delete_an_entry(trail: Trail, chance: random.Random) -> Trail:
    place = _place(trail, chance)
    return trail.with_rows(trail.rows[:place] + trail.rows[place + 1 :])


@mutation
def delete_an_entry_and_close_the_gap(trail: Trail, chance: random.Random) -> Trail:
    place = _place(trail, chance)
    values = _all_values(trail)
    del values[place]
    return resealed(trail, values, place)


@mutation
def insert_an_entry(trail: Trail, chance: random.Random) -> Trail:
    place = _place(trail, chance)
    previous = trail.rows[place - 1].leaf if place else None
    forged_of = {"type": entry.EVENT, "ts": "2026-03-01T10:00:00.500Z"}
    forged = entry.seal(forged_of, place, previous if isinstance(previous, bytes) else None)
    return trail.with_rows([*trail.rows[:place], forged, *trail.rows[place:]])


@mutation
def insert_an_entry_and_move_the_others(trail: Trail, chance: random.Random) -> Trail:
    place = chance.randint(0, len(trail.rows))
    values = _all_values(trail)
    values.insert(place, {"type": entry.EVENT, "ts": "2026-03-01T10:00:00.500Z"})
    return resealed(trail, values, place)


@mutation
def swap_two_entries(trail: Trail, chance: random.Random) -> Trail:
    rows = list(trail.rows)
    one, two = _place(trail, chance), _place(trail, chance)
    rows[one], rows[two] = rows[two], rows[one]
    if chance.random() < 0.5:
        # With the numbers of the places they now have.
        rows = [dataclasses.replace(row, seq=place) for place, row in enumerate(rows)]
    return trail.with_rows(rows)


@mutation
def swap_two_entries_and_mend(trail: Trail, chance: random.Random) -> Trail:
    values = _all_values(trail)
    one, two = sorted((_place(trail, chance), _place(trail, chance)))
    values[one], values[two] = values[two], values[one]
    return resealed(trail, values, one)


@mutation
def duplicate_an_entry(trail: Trail, chance: random.Random) -> Trail:
    place, where = _place(trail, chance), chance.randint(0, len(trail.rows))
    return trail.with_rows([*trail.rows[:where], trail.rows[place], *trail.rows[where:]])


@mutation
def renumber(trail: Trail, chance: random.Random) -> Trail:
    place, by = _place(trail, chance), chance.choice([-1, 1, 2, -100, 2**62])
    rows = [dataclasses.replace(row, seq=row.seq + by) for row in trail.rows[place:]]
    return trail.with_rows([*trail.rows[:place], *rows])


@mutation
def truncate(trail: Trail, chance: random.Random) -> Trail:
    size = _place(trail, chance)
    kept = [text for text in trail.checkpoints if _size(text) <= size]
    return dataclasses.replace(trail, rows=trail.rows[:size], checkpoints=tuple(kept))


def _size(text: str) -> int:
    try:
        return checkpoint.parse(text).size
    except FlowauditError:
        return 0


@mutation
def drop_checkpoints(trail: Trail, chance: random.Random) -> Trail:
    return dataclasses.replace(trail, checkpoints=tuple(c for c in trail.checkpoints if chance.random() < 0.5))


@mutation
def flip_a_checkpoint(trail: Trail, chance: random.Random) -> Trail:
    notes = list(trail.checkpoints)
    if notes:
        place = chance.randrange(len(notes))
        notes[place] = _flipped(notes[place].encode(), chance).decode(errors="replace")
    return dataclasses.replace(trail, checkpoints=tuple(notes))


@mutation
def flip_an_anchor(trail: Trail, chance: random.Random) -> Trail:
    anchors = list(trail.anchors)
    place = chance.randrange(len(anchors))
    flipped = _flipped(anchors[place].note.encode(), chance).decode(errors="replace")
    anchors[place] = dataclasses.replace(anchors[place], note=flipped)
    return dataclasses.replace(trail, anchors=tuple(anchors))


def sign_all(trail: Trail, signers: Callable[[int], list[home.FileSigner]], sizes: Iterable[int]) -> Trail:
    notes = [signed(trail.rows, size, signers(size)) for size in sizes if size <= len(trail.rows)]
    return dataclasses.replace(trail, checkpoints=tuple(notes))


@mutation
def sign_with_another_key(trail: Trail, chance: random.Random) -> Trail:
    return sign_all(trail, lambda _size: [signer(90)], SIZES)


@mutation
def sign_with_an_old_key(trail: Trail, chance: random.Random) -> Trail:
    """The first key was found out after it was renewed."""
    if trail.first_altered() is None:
        return trail
    return sign_all(trail, lambda _size: [signer(1)], [size for size in SIZES if size > ROTATED])


@mutation
def rebuild_without_the_key(trail: Trail, chance: random.Random) -> Trail:
    values = _all_values(trail)
    place = _place(trail, chance)
    values[place] = _altered(values[place], chance)
    return sign_all(resealed(trail, values, 0), lambda _size: [signer(91)], chance.sample(SIZES, chance.randint(0, 3)))


@mutation
def rebuild_with_a_new_key(trail: Trail, chance: random.Random) -> Trail:
    made = drafts(ORIGIN, (92, 93))
    place = chance.randrange(len(made))
    made[place] = _altered(made[place], chance)
    rebuilt = trail_of(sealed(made), ORIGIN, (92, 93))
    return dataclasses.replace(rebuilt, anchors=trail.anchors)


@mutation
def forge_a_renewal(trail: Trail, chance: random.Random) -> Trail:
    place = chance.randint(1, len(trail.rows))
    values = _all_values(trail)
    forged = {"type": entry.KEY_ROTATED, "ts": "2026-03-01T10:00:00.500Z", "key": str(signer(94).key)}
    if chance.random() < 0.5:
        values.insert(place, forged)
    else:
        values[place - 1] = forged
        place -= 1
    trail = resealed(trail, values, place)
    kept = tuple(text for text in trail.checkpoints if _size(text) <= place)
    return dataclasses.replace(trail, checkpoints=(*kept, signed(trail.rows, len(trail.rows), [signer(94)])))


@mutation
def put_another_log_in_its_place(trail: Trail, chance: random.Random) -> Trail:
    return dataclasses.replace(other(), anchors=trail.anchors)


@mutation
def put_the_end_of_another_log_in_its_place(trail: Trail, chance: random.Random) -> Trail:
    place = _place(trail, chance)
    return trail.with_rows([*trail.rows[:place], *other().rows[place:]])


def attacked(seed: int) -> tuple[Trail, list[str]]:
    """The small log after one to three mutations, and their names; the same seed gives the same."""
    chance = random.Random(seed)
    trail, names = small(), []
    for change in chance.choices(MUTATIONS, k=chance.choice([1, 1, 2, 3])):
        if trail.rows:
            trail = change(trail, chance)
            names.append(change.__name__)
    return trail, names


def is_noticed(trail: Trail, names: Sequence[str], report: verify.Report) -> bool:
    """Whether the report is right about a log that was attacked."""
    altered, finding = trail.first_altered(), report.finding
    if finding is None:
        # Nothing was altered; or something behind what anybody has signed, and the report says up to where that is.
        unsigned = altered is not None and altered >= max(report.signed_size, report.anchored_size, *SIZES)
        return trail.says_the_same() or unsigned
    if altered is None or "sign_with_an_old_key" in names:
        # What a key signed that was stolen is as good as what it signed before; anchors tell, but not from where on.
        return True
    return finding.first <= altered <= finding.last
