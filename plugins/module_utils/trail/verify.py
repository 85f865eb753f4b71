# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove a log whole, or name the first entry that is not.

Memory does not grow with the log; the time is that of reading, parsing and hashing it.
"""

from __future__ import annotations

# Exactly this type: true is an integer, and Ansible's values are strings that may say something else.
# pylint: disable=unidiomatic-typecheck
import contextlib
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..errors import FlowauditError
from . import canonical, checkpoint, entry, merkle, note
from .entry import Row


@dataclasses.dataclass(frozen=True)
class Anchor:
    """A checkpoint as somebody else keeps it; ``source`` says who (``/srv/worm/…``, ``postgres``)."""

    source: str
    note: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong, and with the entries from where to where.

    What comes before ``first`` is proven; the first entry that is wrong is not behind ``last``.
    """

    first: int
    last: int
    message: str


@dataclasses.dataclass
class Report:
    """What was verified; ``finding`` is none when the log is whole."""

    origin: str
    size: int = 0  # entries that were read: all, unless something was found
    root: bytes = merkle.EMPTY
    pruned: int = 0  # entries of which only the hash is left
    checkpoints: int = 0
    anchors: int = 0
    signed_size: int = 0  # entries that the last checkpoint covers
    anchored_size: int = 0  # entries that the last anchor covers
    keys: list[note.VerifierKey] = dataclasses.field(default_factory=list)
    finding: Finding | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing was found."""
        return self.finding is None


class _Wrong(Exception):
    def __init__(self, first: int, last: int, message: str) -> None:
        super().__init__(message)
        self.finding = Finding(first, last, message)


class _Contradiction(_Wrong):
    """An entry contradicts itself or one before it; ``unread`` is that entry, if it is not in the tree yet."""

    def __init__(self, first: int, last: int, message: str, unread: Row | None) -> None:
        super().__init__(first, last, message)
        self.unread = unread


def verify(
    origin: str,
    rows: Iterable[Row],
    checkpoints: Iterable[str],
    anchors: Iterable[Anchor] = (),
    trusted: Sequence[note.VerifierKey] = (),
    nodes: Mapping[tuple[int, int], bytes] | None = None,
) -> Report:
    """Verify a log that is given as its rows.

    Args:
        origin: the name that the log must have.
        rows: the entries, in order.
        checkpoints: the signed notes that the log keeps.
        anchors: the signed notes that others keep; the log must be consistent with each of them.
        trusted: the keys the log may begin with; when none is given, the one its first entry names is taken.
        nodes: the stored hashes above the leaves, to be looked at too: (level, index) → hash.
    """
    verification = _Verification(Report(origin), list(trusted), nodes)
    report = verification.report
    try:
        verification.run(rows, list(checkpoints), list(anchors))
    except _Wrong as wrong:
        report.finding = wrong.finding
    report.size = verification.frontier.size
    report.root = verification.frontier.root()
    return report


_decode = json.JSONDecoder().raw_decode

# Entries that the verification itself goes by.
_TELLING = (entry.LOG_CREATED, entry.KEY_ROTATED, entry.ARCHIVED, entry.PRUNED)

_Due = tuple[checkpoint.Checkpoint, str, str]  # what is compared, who keeps it (nobody else: empty), the signed note


class _Verification:
    def __init__(
        self, report: Report, trusted: list[note.VerifierKey], nodes: Mapping[tuple[int, int], bytes] | None
    ) -> None:
        self.report = report
        self.trusted = trusted
        self.nodes = nodes
        self.node_problem: tuple[int, int] | None = None
        self.nodes_seen = 0
        self.frontier = merkle.Frontier(self._node if nodes is not None else None)
        self.keys: list[tuple[int, note.VerifierKey]] = []  # from which entry on, in order
        self.handed_over: set[int] = set()  # rotations that the key before has signed too
        self.signed = 0  # entries that a checkpoint has covered so far
        self.proven = 0  # those of them whose checkpoint proves them
        self.anchors_only = False
        self.gone: list[tuple[int, int]] = []  # entries whose bytes are not there, from and to
        self.told: list[tuple[int, int]] = []  # those of which the log says so
        self.foreign: list[str] = []  # checkpoints that prove nothing here, a sentence each

    def run(self, rows: Iterable[Row], checkpoints: list[str], anchors: list[Anchor]) -> None:
        # Somebody who makes a whole log anew, with a key of his own, makes its checkpoints too. When no key is trusted,
        # only those prove anything that are kept elsewhere.
        self.anchors_only = bool(anchors) and not self.trusted
        due = self._due(checkpoints, anchors)
        reading = iter(rows)
        wrong: _Wrong | None = None
        try:
            self._read(reading, due)
            self._conclude(due)
        except _Contradiction as found:
            wrong = self._placed(found, reading, due)
        except _Wrong as found:
            wrong = found
        if self.gone:
            wrong = self._unaccounted(wrong, reading) or wrong
        if wrong is None and self.foreign:
            # What is proven by nothing may also end too early.
            wrong = _Wrong(self.proven, self.frontier.size, self.foreign[0])
        if wrong is not None:
            raise wrong

    def _conclude(self, due: list[_Due]) -> None:
        """What is left to say when all entries were read."""
        size = self.frontier.size
        if not size:
            raise _Wrong(0, 0, "The log has no entries, not even the one that begins it.")
        if due and due[-1][0].size > size:
            behind, source, _signed = due[-1]
            raise _Wrong(
                self.proven,
                behind.size - 1,
                f"The log ends with {size} entries, but {source or 'a checkpoint'} has {behind.size}.",
            )
        for number, (seq, _key) in enumerate(self.keys):
            if number and number not in self.handed_over and self.signed > seq:
                raise _Wrong(self.proven, size, f"The key of entry {seq} was not signed by the key before it.")
        if self.nodes is not None and self.nodes_seen != len(self.nodes):
            raise _Wrong(self.proven, size, "There are stored hashes of entries that are not there.")

    def _read(self, rows: Iterator[Row], due: list[_Due]) -> None:
        report = self.report
        previous: bytes | None = None
        place = 0  # in due
        append, sha256 = self.frontier.append, hashlib.sha256
        for seq, row in enumerate(rows):
            leaf = row.leaf
            line = row.line
            if row.seq != seq:
                raise _Wrong(self.proven, seq, f"Entry {seq} is missing; entry {row.seq} is in its place.")
            if line is None:
                if not _is_hash(leaf):
                    raise _Contradiction(seq, seq, f"Entry {seq} has neither its bytes nor their hash.", row)
                report.pruned += 1
                if not self.gone or self.gone[-1][1] != seq:
                    self.gone.append((seq, seq))
                self.gone[-1] = (self.gone[-1][0], seq + 1)
            else:
                if sha256(b"\x00" + line).digest() != leaf:
                    raise _Contradiction(seq, seq, f"Entry {seq} was altered: its bytes do not have its hash.", row)
                try:
                    text = line.decode()
                    value, end = _decode(text)
                    number, prev, kind = value["seq"], value["prev"], value["type"]
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise _Contradiction(seq, seq, f"Entry {seq} is no entry.", row) from None
                if number != seq or type(number) is not int or end != len(text):
                    raise _Contradiction(seq, seq, f"Entry {seq} is no entry of that place.", row)
                if prev != (entry.FIRST if previous is None else previous.hex()):
                    raise _Contradiction(
                        max(seq - 1, 0), seq, f"Entry {seq} was written behind another entry than {seq - 1}.", row
                    )
                if kind in _TELLING:
                    if kind in (entry.LOG_CREATED, entry.KEY_ROTATED):
                        self._key(row, value)
                    else:
                        self._moved(row, value)
            if seq == 0 and not self.keys:
                raise _Wrong(0, 0, "Entry 0 does not begin a log.")
            append(leaf)
            previous = leaf
            while place < len(due) and due[place][0].size == seq + 1:
                self._checkpoint(*due[place])
                place += 1
            if self.node_problem is not None:
                level, index = self.node_problem
                message = f"The stored hash {index} of level {level} is not that of its entries."
                raise _Contradiction(index << level, seq, message, None)

    def _placed(self, found: _Contradiction, rows: Iterator[Row], due: list[_Due]) -> _Wrong:
        """The finding as it is, if the next checkpoint proves all else; or from the last on that did."""
        finding = found.finding
        somewhere = _Wrong(min(finding.first, self.proven), finding.last, finding.message)
        proofs = (item for item in due if item[0].size > self.frontier.size and (item[1] or not self.anchors_only))
        proof, _source, signed = next(proofs, (None, "", ""))
        if proof is None or not self._keys_hold() or not self._is_signed(signed):
            return somewhere
        # Only the bytes were altered, or only a stored hash.
        stored, made = self.frontier.copy(), self.frontier.copy()
        for row in itertools.chain([found.unread] if found.unread else [], rows):
            if row.seq != stored.size:
                break
            leaf = row.leaf if _is_hash(row.leaf) else merkle.EMPTY
            stored.append(leaf)
            made.append(leaf if row.line is None else merkle.leaf_hash(row.line))
            if stored.size == proof.size:
                return found if proof.root in (stored.root(), made.root()) else somewhere
        return somewhere

    def _due(self, checkpoints: list[str], anchors: list[Anchor]) -> list[_Due]:
        """What is to be compared, by size."""
        due = []
        for source, signed in [("", text) for text in checkpoints] + [(item.source, item.note) for item in anchors]:
            what = source or "A checkpoint of the log"
            try:
                parsed = checkpoint.parse(signed)
            except FlowauditError as error:
                self.foreign.append(f"{what} is no checkpoint: {error}")
                continue
            if parsed.origin != self.report.origin:
                self.foreign.append(f"{what} is of the log {parsed.origin}, this one is {self.report.origin}.")
            elif parsed.size == 0:
                self.foreign.append(f"{what} has no entries, but a log begins with one.")
            else:
                due.append((parsed, source, signed))
        due.sort(key=lambda item: (item[0].size, item[1]))
        return due

    def _key(self, row: Row, value: dict[str, object]) -> None:
        seq = row.seq
        if (seq == 0) != (value["type"] == entry.LOG_CREATED):
            raise _Contradiction(seq, seq, f"Entry {seq} begins a log that has begun.", row)
        try:
            key = note.parse_key(str(value.get("key")))
        except FlowauditError as error:
            raise _Contradiction(seq, seq, f"Entry {seq} names no key: {error}", row) from error
        if seq == 0:
            if value.get("origin") != self.report.origin:
                raise _Wrong(0, 0, f"The log was begun as {value.get('origin')!r}, not as {self.report.origin}.")
            if self.trusted and key not in self.trusted:
                raise _Wrong(0, 0, f"The log was begun with the key {key}, which is none of those that are trusted.")
        if key.name != self.report.origin:
            raise _Contradiction(seq, seq, f"The key of entry {seq} is that of {key.name}.", row)
        self.keys.append((seq, key))
        self.report.keys.append(key)

    def _moved(self, row: Row, value: dict[str, object]) -> None:
        """An entry that says that the bytes of others are in an archive, or are no more."""
        first, last = value.get("first"), value.get("last")
        if type(first) is not int or type(last) is not int or not 0 <= first <= last < row.seq:
            raise _Contradiction(row.seq, row.seq, f"Entry {row.seq} does not say which entries it is about.", row)
        self.told.append((first, last + 1))

    def _unaccounted(self, wrong: _Wrong | None, rest: Iterator[Row]) -> _Wrong | None:
        """The first entry without bytes of which no entry says why, if nothing is wrong before it."""
        for row in rest:
            if row.line is not None and (b'"archived"' in row.line or b'"pruned"' in row.line):
                with contextlib.suppress(_Wrong, FlowauditError):
                    self._moved(row, canonical.decode(row.line))
        told = sorted(self.told)
        place = until = 0
        for start, stop in self.gone:
            until = max(until, start)
            while place < len(told) and told[place][0] <= until:
                until = max(until, told[place][1])
                place += 1
            if until < stop:
                message = f"The bytes of entry {until} are gone, and no entry says that they were archived or pruned."
                if wrong is None:
                    return _Wrong(min(self.proven, until), until, message)
                return _Wrong(until, until, message) if until < wrong.finding.first else None
        return None

    def _checkpoint(self, parsed: checkpoint.Checkpoint, source: str, signed: str) -> None:
        what = f"{source or 'the checkpoint'} at {parsed.size} entries"
        first, last = self.proven, parsed.size - 1
        current = len(self.keys) - 1
        try:
            signers = self._signers(signed)
        except FlowauditError as error:
            self.foreign.append(f"The signature of {what} does not hold: {error}")
            return
        if self.keys[current][1] not in signers:
            self.foreign.append(f"{what} is not signed by the key of that time.")
            return
        if parsed.root != self.frontier.root():
            raise _Wrong(
                first,
                last,
                f"The entries {first} to {last} are not those that {what} was signed over.",
            )
        if current and self.keys[current - 1][1] in signers:
            self.handed_over.add(current)
        self.signed = parsed.size
        if self._keys_hold() and (source or not self.anchors_only):
            self.proven = parsed.size
        if source:
            self.report.anchors += 1
            self.report.anchored_size = parsed.size
        else:
            self.report.checkpoints += 1
            self.report.signed_size = parsed.size

    def _signers(self, signed: str) -> list[note.VerifierKey]:
        _text, signers = note.verified(signed, note.by_name_and_id(key for _seq, key in self.keys))
        return signers

    def _is_signed(self, signed: str) -> bool:
        """Whether the last of the keys has signed this."""
        try:
            return self.keys[-1][1] in self._signers(signed)
        except FlowauditError:
            return False

    def _keys_hold(self) -> bool:
        """Whether each key was handed over by the one before it."""
        return len(self.handed_over) == len(self.keys) - 1

    def _node(self, level: int, index: int, hashed: bytes) -> None:
        self.nodes_seen += 1
        if (self.nodes or {}).get((level, index)) != hashed and self.node_problem is None:
            self.node_problem = (level, index)


def _is_hash(value: object) -> bool:
    """A damaged file may hold anything."""
    return isinstance(value, bytes) and len(value) == len(merkle.EMPTY)
