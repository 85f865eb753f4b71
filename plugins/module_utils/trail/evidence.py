# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove a log, and hand it or a part of it to somebody who has neither this collection nor a reason to trust its owner.

A package holds::

    README.md            what it is, what it proves, the commands that show it; German and English
    check_evidence.py    the program that checks it
    manifest.json        what was exported
    SHA256SUMS           of all other files
    entries.jsonl        the entries, as they are stored
    leaves.txt           "<seq> <leaf hash>" of those whose bytes are gone (whole log only)
    checkpoints/<size>.checkpoint
    anchors/<size>-<number>.checkpoint, .tsr, timestamp-ca.pem
    proofs/inclusion.jsonl    of each entry, to the newest checkpoint (part of a log only)
    proofs/consistency.jsonl  of each earlier checkpoint, to the newest (part of a log only)
    keys/<number>.vkey, .pem
    openings.jsonl       on request

The same log and the same wishes make the same package, byte for byte.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import filecmp
import gzip
import hashlib
import json
import os
import pathlib
import re
import tarfile
import tempfile
import typing as t
from collections.abc import Iterable, Iterator, Sequence

from ..errors import FlowauditError
from . import anchors as keepers
from . import archive, canonical, check_evidence, checkpoint, entry, evidence_text, merkle, note, query, verify
from .anchors import files as anchor_files
from .anchors import timestamp
from .entry import Row
from .sqlite import SELDOM, SqliteLog

_COMMITMENT = re.compile(rb"c:[A-Za-z0-9+/]{43}=")
_TIMESTAMPS = "timestamps"  # directory beside the log
_REMEMBERED = 100_000  # nodes of the tree
_AT_ONCE = 500  # openings
_TOP = "flowaudit-evidence"  # directory in an archive


# ── Anchors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class Kept:
    """A checkpoint that somebody else keeps; ``keeper`` is where it was looked for, ``token`` its timestamp."""

    anchor: verify.Anchor
    keeper: str
    token: pathlib.Path | None = None


def read_anchors(paths: Iterable[str], origin: str, timestamp_ca: str = "") -> list[Kept]:
    """The checkpoints of a log in directories (``*.checkpoint``), in such files, and in what a syslog server wrote.

    With ``timestamp_ca`` the timestamps beside them are verified, and every checkpoint comes with its own.

    Raises:
        FlowauditError: one cannot be read, holds no checkpoint of the log, or has a timestamp that does not hold.
    """
    found = []
    for path in paths:
        kept = list(_read(pathlib.Path(path), origin, timestamp_ca))
        if not kept:
            raise FlowauditError(f"{path} holds no checkpoint of the log {origin}; name where its anchors are kept.")
        found += kept
    return found


def read_timestamps(log: SqliteLog, timestamp_ca: str) -> list[Kept]:
    """The checkpoints beside the log that a time-stamping authority has signed; none without its certificates.

    Raises:
        FlowauditError: one cannot be read, or does not hold.
    """
    place = log.home.path / _TIMESTAMPS
    if not timestamp_ca or not place.is_dir():
        return []
    # Without a token it is a file of whoever has the log, and says nothing.
    return [item for item in _read(place, log.origin, timestamp_ca) if item.token is not None]


def _read(path: pathlib.Path, origin: str, timestamp_ca: str) -> Iterator[Kept]:
    try:
        if path.is_dir():
            stamped: set[pathlib.Path] = set()
            if timestamp_ca:
                settings = keepers.Settings(timestamp_directory=str(path), timestamp_ca=timestamp_ca)
                stamped = {pathlib.Path(anchor.source) for anchor in keepers.kept(settings, origin)}
            for file in sorted(path.glob(f"*{anchor_files.CHECKPOINT}")):
                signed = anchor_files.text(file)
                if _origin(signed) in ("", origin):  # one that is damaged is noticed when it is verified
                    token = file.absolute().with_suffix(timestamp.TOKEN)
                    yield Kept(verify.Anchor(str(file), signed), str(path), token if token in stamped else None)
        elif path.suffix == anchor_files.CHECKPOINT:
            yield Kept(verify.Anchor(str(path), anchor_files.text(path)), str(path))
        else:
            opened = gzip.open if path.suffix == ".gz" else open
            with opened(path, "rt", encoding="utf-8", errors="replace") as lines:
                for anchor in keepers.from_syslog(t.cast("Iterator[str]", lines), origin):
                    yield Kept(verify.Anchor(f"{path}: {anchor.source}", anchor.note), str(path))
    except (OSError, EOFError) as error:
        raise FlowauditError(f"The anchors in {path} cannot be read: {error}.") from error


def _origin(signed: str) -> str:
    try:
        return checkpoint.parse(signed).origin
    except FlowauditError:
        return ""


# ── Proving a log ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class Proof:
    """What was found of a log; ``archived`` entries lie in files elsewhere, ``deleted`` ones nowhere any more."""

    report: verify.Report
    archived: int
    deleted: int


def prove(
    log: SqliteLog, kept: Iterable[Kept] = (), trusted: Sequence[note.VerifierKey] = (), archive_directory: str = ""
) -> Proof:
    """Verify a log: its entries and the hashes that it stores of its tree.

    With ``archive_directory`` the entries that were archived are read from there.

    Raises:
        FlowauditError: the log or its archive cannot be read.
    """
    watched = _Watched(_rows(log, archive_directory))
    nodes = {(level, index): hashed for level, index, hashed in log.ask("SELECT level, idx, hash FROM nodes")}
    report = verify.verify(log.origin, iter(watched), log.checkpoints(), [item.anchor for item in kept], trusted, nodes)
    archived, deleted = _covered(watched.gone, watched.archived), _covered(watched.gone, watched.deleted)
    return Proof(report, archived - deleted, deleted)


_Ranges = list[tuple[int, int]]  # first and last, in order


class _Watched:
    """Rows on their way to be verified: which of them have no bytes, and where the log says these are."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.gone: _Ranges = []
        self.archived: _Ranges = []
        self.deleted: _Ranges = []

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            if row.line is None:
                first = self.gone.pop()[0] if self.gone and self.gone[-1][1] == row.seq - 1 else row.seq
                self.gone.append((first, row.seq))
            elif b'"type":"archived"' in row.line:
                self.archived += _told(row.line, entry.ARCHIVED)
            elif b'"type":"pruned"' in row.line:
                self.deleted += _told(row.line, entry.PRUNED)
            yield row


def _told(line: bytes, kind: str) -> _Ranges:
    with contextlib.suppress(FlowauditError):
        value = canonical.decode(line)
        first, last = value.get("first"), value.get("last")
        if value.get("type") == kind and isinstance(first, int) and isinstance(last, int):
            return [(first, last)]
    return []


def _covered(ranges: _Ranges, by: _Ranges) -> int:
    """How many numbers of the ranges are in the others, which do not overlap."""
    return sum(
        max(0, min(last, until) + 1 - max(first, since)) for first, last in ranges for since, until in sorted(set(by))
    )


def _rows(log: SqliteLog, archive_directory: str, stop: int | None = None) -> Iterator[Row]:
    if not archive_directory:
        yield from log.rows(0, stop)
        return
    for row in archive.with_archives(log, archive_directory):
        if stop is not None and row.seq >= stop:
            return
        yield row


# ── The package ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which entries are wanted; all that is given must hold. Nothing given is the whole log."""

    run: str = ""
    change_id: str = ""
    period: query.Period = query.ALWAYS
    first: int | None = None
    last: int | None = None

    @property
    def whole(self) -> bool:
        """Whether everything is wanted."""
        return self == Selection()

    def told(self) -> dict[str, t.Any]:
        """What is wanted, under the names of the module's options."""
        told = {"run": self.run, "change_id": self.change_id, "since": self.period.since, "until": self.period.until}
        given: dict[str, t.Any] = {name: value for name, value in told.items() if value}
        numbers = {"first": self.first, "last": self.last}
        return given | {name: value for name, value in numbers.items() if value is not None}

    def fits(self, value: dict[str, t.Any]) -> bool:
        """Whether an entry is wanted."""
        return (
            self.run in ("", value.get("run"))
            and self.change_id in ("", value.get("chg"))
            and (not self.period.since or str(value.get("ts")) >= self.period.since)
            and (not self.period.until or str(value.get("ts")) < self.period.until)
            and (self.first is None or value["seq"] >= self.first)
            and (self.last is None or value["seq"] <= self.last)
        )


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What goes into a package beside the entries, and where the entries are."""

    selection: Selection = Selection()
    openings: bool = False
    archive_directory: str = ""
    timestamp_ca: str = ""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What was exported."""

    origin: str
    size: int  # entries that the newest checkpoint covers
    root: str  # of these, in hex
    entries: int
    without_bytes: int
    checkpoints: int
    anchors: int
    openings: int


def write(log: SqliteLog, directory: pathlib.Path, wishes: Wishes, kept: Sequence[Kept] = ()) -> Summary:
    """Write the files of a package into a directory that is there and empty.

    The log is one that was proved. What comes after its newest checkpoint is signed by nobody and left out.

    Raises:
        FlowauditError: nothing fits, nothing is signed, or something cannot be read or written.
    """
    try:
        return _Writing(log, directory, wishes, kept).write()
    except OSError as error:
        raise FlowauditError(f"The evidence cannot be written to {directory}: {error}.") from error


class _Writing:
    def __init__(self, log: SqliteLog, directory: pathlib.Path, wishes: Wishes, kept: Sequence[Kept]) -> None:
        self.log = log
        self.directory = directory
        self.wishes = wishes
        self.kept = sorted(kept, key=lambda item: (_size(item.anchor.note), item.anchor.source))
        self.sums: dict[str, str] = {}
        self.notes = {_size(signed): signed for signed in log.checkpoints()}
        # One that only others have (the log was restored from a backup) is as good as the log's own.
        self.notes = {_size(item.anchor.note): item.anchor.note for item in self.kept} | self.notes
        if not self.notes:
            raise FlowauditError(f"The trail in {log.home.path} is signed by nobody yet; anchor it (trail_anchor).")
        self.newest = checkpoint.parse(self.notes[max(self.notes)])
        self.nodes: dict[tuple[int, int], bytes] = {}  # of the tree, shared by all proofs
        self.keys = [
            (int(seq), note.parse_key(str(canonical.decode(line.encode()).get("key"))))
            for seq, line in log.ask(
                f"SELECT seq, line FROM entries WHERE {SELDOM} AND type IN ('log.created', 'key.rotated') ORDER BY seq"
            )
            if seq < self.newest.size
        ]
        self.commitments: dict[str, None] = {}  # that the exported entries name, in order

    def write(self) -> Summary:
        selection = self.wishes.selection
        if selection.whole:
            entries, without = self._whole()
        else:
            entries, without = self._part(), 0
        for size, signed in sorted(self.notes.items()):
            self._put(f"checkpoints/{size:016d}.checkpoint", signed.encode())
        anchors = self._anchors()
        for number, (_seq, key) in enumerate(self.keys, 1):
            self._put(f"keys/{number}.vkey", f"{key}\n".encode())
            self._put(f"keys/{number}.pem", key.pem().encode())
        openings = self._openings() if self.wishes.openings else 0
        manifest = {
            "format": check_evidence.FORMAT,
            "origin": self.log.origin,
            "whole": selection.whole,
            "selection": selection.told(),
            "size": self.newest.size,
            "root": self.newest.root.hex(),
            "entries": entries,
            "without_bytes": without,
            "anchors": anchors,
        }
        self._put("manifest.json", json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")
        self._put("check_evidence.py", checker().encode())
        facts = evidence_text.Facts(
            self.log.origin,
            self.newest.size,
            entries,
            without,
            ", ".join(f"{name} {value}" for name, value in selection.told().items()),
            anchors=bool(anchors),
            timestamps=any(item.token for item in self.kept),
            openings=openings > 0,
        )
        self._put("README.md", evidence_text.readme(facts).encode())
        sums = "".join(f"{digest}  ./{name}\n" for name, digest in sorted(self.sums.items()))
        self._put("SHA256SUMS", sums.encode())
        return Summary(
            self.log.origin,
            self.newest.size,
            self.newest.root.hex(),
            entries,
            without,
            len(self.notes),
            len(anchors),
            openings,
        )

    # ── Entries ──

    def _whole(self) -> tuple[int, int]:
        """Every entry; returns how many with their bytes, and how many without."""
        without: list[bytes] = []
        entries = 0
        with self._open("entries.jsonl") as put:
            for row in _rows(self.log, self.wishes.archive_directory, self.newest.size):
                if row.line is None:
                    without.append(f"{row.seq} {row.leaf.hex()}\n".encode())
                else:
                    put(self._line(row.line))
                    entries += 1
        if without:
            self._put("leaves.txt", b"".join(without))
        return entries, len(without)

    def _part(self) -> int:
        """The entries that were selected and those that name a key, each with its proof; returns how many."""
        tree = self._tree(self.newest.size)
        entries, last = 0, -1
        with self._open("entries.jsonl") as put, self._open("proofs/inclusion.jsonl") as prove_it:
            for row, wanted in self._selected():
                put(self._line(row.line or b""))
                prove_it(_proof(seq=row.seq, size=tree.size, hashes=tree.inclusion_proof(row.seq)))
                entries += 1
                last = row.seq if wanted else last
        if last < 0:
            raise FlowauditError(
                f"No entry of the trail in {self.log.home.path} fits {self.wishes.selection.told()}, of those that are"
                f" signed ({self.newest.size}) and not archived."
            )
        self._leave_out(last)
        with self._open("proofs/consistency.jsonl") as put:
            sizes = {*self.notes, *(_size(item.anchor.note) for item in self.kept)} - {self.newest.size}
            for size in sorted(sizes):
                put(_proof(earlier=size, size=tree.size, hashes=tree.consistency_proof(size)))
        return entries

    def _selected(self) -> Iterator[tuple[Row, bool]]:
        """The rows that go into a part, in order, and whether they were selected."""
        selection, size = self.wishes.selection, self.newest.size
        naming = {seq for seq, _key in self.keys}
        if self.wishes.archive_directory:
            for row in _rows(self.log, self.wishes.archive_directory, size):
                wanted = row.line is not None and selection.fits(canonical.decode(row.line))
                if wanted or row.seq in naming:
                    yield row, wanted
            return
        wished = query.EntryFilter(run=selection.run, change_id=selection.change_id, period=selection.period)
        stop = size if selection.last is None else min(size, selection.last + 1)
        wanted_places = set(query.places(self.log, wished, selection.first or 0, stop))
        for place in sorted(wanted_places | naming):
            for row in self.log.rows(place, place + 1):
                yield row, place in wanted_places

    def _line(self, line: bytes) -> bytes:
        if b"\n" in line:
            raise FlowauditError(f"An entry has a line break, which no entry has: {line[:80]!r}; verify the trail.")
        if self.wishes.openings:
            self.commitments |= dict.fromkeys(commitments(line))
        return line + b"\n"

    # ── Checkpoints and proofs ──

    def _leave_out(self, last: int) -> None:
        """For a part, of checkpoints and anchors only those that say something about it.

        The newest; the first that was signed after the entry ``last``, because it dates the part; those by which a key
        was handed over.
        """
        wanted = {max(self.notes), min(size for size in self.notes if size > last)}
        for number in range(1, len(self.keys)):
            both = {(key.name, key.id) for _seq, key in self.keys[number - 1 : number + 1]}
            until = self.keys[number + 1][0] if number + 1 < len(self.keys) else self.newest.size
            handing_over = (
                size
                for size, signed in sorted(self.notes.items())
                if self.keys[number][0] < size <= until
                and both <= {(name, key_id) for name, key_id, _signature in note.split(signed)[1]}
            )
            wanted.add(next(handing_over, self.newest.size))
        self.notes = {size: signed for size, signed in self.notes.items() if size in wanted}
        by_keeper: dict[str, list[Kept]] = {}
        for item in self.kept:
            by_keeper.setdefault(item.keeper, []).append(item)
        self.kept = []
        for items in by_keeper.values():
            after = [item for item in items if _size(item.anchor.note) > last]
            self.kept += list(dict.fromkeys([*after[:1], items[-1]]))

    def _anchors(self) -> list[dict[str, t.Any]]:
        """Write the anchors; returns what the manifest says of them."""
        told = []
        for number, item in enumerate(self.kept, 1):
            stem = f"anchors/{_size(item.anchor.note):016d}-{number:04d}"
            self._put(f"{stem}{anchor_files.CHECKPOINT}", item.anchor.note.encode())
            if item.token is not None:
                self._put(f"{stem}{timestamp.TOKEN}", item.token.read_bytes())
            told.append({"file": f"{stem}{anchor_files.CHECKPOINT}", "source": item.anchor.source})
        if any(item.token for item in self.kept):
            self._put("anchors/timestamp-ca.pem", pathlib.Path(self.wishes.timestamp_ca).expanduser().read_bytes())
        return told

    def _tree(self, size: int) -> merkle.Tree:
        return _Tree(size, self.log.hashes, self.nodes)

    # ── Files ──

    def _openings(self) -> int:
        """Write the openings of the entries' commitments that are still there; returns how many."""
        wanted, lines = list(self.commitments), []
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            found = self.log.openings(some)
            for opening in (found[commitment] for commitment in some if commitment in found):
                salt, value = (base64.b64encode(part).decode() for part in (opening.salt, opening.value))
                told = {"commitment": opening.commitment, "salt": salt, "value": value}
                lines.append(canonical.encode(told) + b"\n")
        if lines:
            self._put("openings.jsonl", b"".join(lines))
        return len(lines)

    def _put(self, name: str, content: bytes) -> None:
        with self._open(name) as put:
            put(content)

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[t.Callable[[bytes], None]]:
        path = self.directory / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        digest = hashlib.sha256()
        with open(path, "xb", opener=_private) as stream:

            def put(content: bytes) -> None:
                digest.update(content)
                stream.write(content)

            yield put
            stream.flush()
            os.fsync(stream.fileno())
        if name != "SHA256SUMS":
            self.sums[name] = digest.hexdigest()


class _Tree(merkle.Tree):
    """A tree that remembers nodes: neighbouring proofs have most of theirs in common."""

    def __init__(self, size: int, stored: merkle.Stored, known: dict[tuple[int, int], bytes]) -> None:
        super().__init__(size, stored)
        self._known = known

    def _node(self, level: int, index: int) -> bytes:
        hashed = self._known.get((level, index))
        if hashed is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            hashed = self._known[(level, index)] = super()._node(level, index)
        return hashed


def commitments(line: bytes) -> list[str]:
    """The commitments that an entry names."""
    return [found.decode() for found in _COMMITMENT.findall(line)]


def checker() -> str:
    """The program that checks a package, as its source; also where this runs out of an archive of modules."""
    spec = check_evidence.__spec__
    loader = spec.loader if spec else None
    source = loader.get_source(check_evidence.__name__) if loader and hasattr(loader, "get_source") else None
    if not source:
        raise FlowauditError("The source of check_evidence.py is not there; install the collection anew.")
    # Ansible's own loader hands over bytes.
    return source.decode() if isinstance(source, bytes) else str(source)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _size(signed: str) -> int:
    return checkpoint.parse(signed).size


def _proof(hashes: Sequence[bytes], **numbers: int) -> bytes:
    return canonical.encode({**numbers, "hashes": [hashed.hex() for hashed in hashes]}) + b"\n"


def is_signed(key: check_evidence.Key, signature: bytes, text: bytes) -> bool:
    """What ``check_evidence`` has openssl do."""
    return note.VerifierKey(key.name, key.public).verify(signature, text)


# ── Delivery ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_archive(dest: pathlib.Path) -> bool:
    """Whether a package of this name is one file."""
    return dest.name.endswith((".tar.gz", ".tgz"))


def pack(directory: pathlib.Path, path: pathlib.Path) -> None:
    """Make one file of a package: tar, gzip; nothing in it says when, where or by whom it was made."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mtime = 315532800  # 1980-01-01; some programs warn of older ones
        info.mode = 0o755 if info.isdir() else 0o644
        return info

    with (
        open(path, "xb", opener=_private) as stream,
        gzip.GzipFile("", "wb", 6, stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive_file,
    ):
        for file in [directory, *sorted(directory.rglob("*"))]:
            name = pathlib.PurePosixPath(_TOP, file.relative_to(directory))
            archive_file.add(file, str(name), recursive=False, filter=plain)


@contextlib.contextmanager
def scratch(place: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """A directory of this process alone that is gone afterwards, whatever happens.

    Raises:
        FlowauditError: it cannot be made.
    """
    try:
        path = pathlib.Path(tempfile.mkdtemp(prefix=f".{name}.", dir=place))
    except OSError as error:
        raise FlowauditError(f"The evidence cannot be written to {place}: {error.strerror}.") from error
    try:
        yield path
    finally:
        # What is deepest comes first.
        for inner in sorted(path.rglob("*"), reverse=True):
            inner.rmdir() if inner.is_dir() else inner.unlink()
        path.rmdir()


def same(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two packages, both unpacked or both packed, are the same."""
    if one.is_dir() != other.is_dir():
        return False
    if not one.is_dir():
        return filecmp.cmp(one, other, shallow=False)
    names = [{path.relative_to(top) for path in top.rglob("*")} for top in (one, other)]
    return names[0] == names[1] and all(
        filecmp.cmp(one / name, other / name, shallow=False) for name in names[0] if not (one / name).is_dir()
    )


def deliver(made: pathlib.Path, dest: pathlib.Path, *, force: bool) -> None:
    """Give a package its name: whole, or not at all.

    Raises:
        FlowauditError: something else has the name.
    """
    try:
        if dest.exists() and not force:
            raise FlowauditError(f"{dest} is there already and holds something else; name another one, or force.")
        if not dest.is_dir():
            os.replace(made, dest)
        elif made.is_dir() and is_package(dest):
            # A directory that holds something cannot be replaced in one step.
            replaced = made.with_name("replaced")
            os.rename(dest, replaced)
            try:
                os.rename(made, dest)
            except OSError:
                os.rename(replaced, dest)
                raise
        else:
            raise FlowauditError(f"{dest} is there already and is no evidence package; it is not replaced.")
        directory = os.open(dest.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise FlowauditError(f"The evidence cannot be written to {dest}: {error.strerror}.") from error


def is_package(directory: pathlib.Path) -> bool:
    """Whether a directory looks like a package."""
    try:
        manifest = json.loads((directory / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == check_evidence.FORMAT
