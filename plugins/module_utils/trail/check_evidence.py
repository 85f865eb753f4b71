# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check an evidence package of flowaudit.ops, and say what it proves.

    python3 check_evidence.py [--key KEY] [--timestamp-ca FILE] [DIRECTORY]

It needs Python 3.8 or newer and nothing beside its standard library but the command openssl (3.0 or newer). Exit
status: 0 when everything holds, 1 when something does not (it is named), 2 when it could not be checked.
"""

# This file goes into every package, so it stands alone, and is written for older Pythons than the rest.
from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

FORMAT = "flowaudit-evidence/1"

_LISTED = re.compile(r"([0-9a-f]{64})  \./([^\n]+)")
_HASH = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile("\u2014 ([^\\s+]+) ([A-Za-z0-9+/]+={0,2})")
_SIZE = re.compile(r"[1-9][0-9]{0,15}")
_LEAF = re.compile(rb"(0|[1-9][0-9]{0,15}) ([0-9a-f]{64})")
_COMMITMENT = re.compile(rb"c:[A-Za-z0-9+/]{43}=")
_MOMENT = re.compile(r"^Time stamp: (\w{3} +\d+ \d+:\d+:\d+)(?:\.\d+)? (\d{4} GMT)$", re.MULTILINE)

_FIRST = "0" * 64  # ``prev`` of the first entry


class Wrong(Exception):
    """Something in the package does not hold; the text is a sentence."""


class CannotCheck(Exception):
    """Something that is needed to check is missing; the text is a sentence."""


class Key(NamedTuple):
    """A public key of the log: as the log names it, its name, its id, and its 32 bytes."""

    text: str
    name: str
    id: bytes
    public: bytes

    def pem(self) -> bytes:
        """The key as openssl reads it."""
        encoded = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + self.public)
        return b"-----BEGIN PUBLIC KEY-----\n" + encoded + b"\n-----END PUBLIC KEY-----\n"


class Note(NamedTuple):
    """A signed checkpoint; ``signatures`` are (name of the key, its id, signature)."""

    path: str
    origin: str
    size: int
    root: bytes
    text: bytes
    signatures: list[tuple[str, bytes, bytes]]


# ── Merkle trees (RFC 6962, RFC 9162) ────────────────────────────────────────────────────────────────────────────────


def leaf_hash(line: bytes) -> bytes:
    """The hash of an entry."""
    return hashlib.sha256(b"\x00" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """Grows leaf by leaf and keeps one hash a level."""

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Take one more leaf hash."""
        index = self.size
        while index & 1:
            leaf = node_hash(self._roots.pop(), leaf)
            index >>= 1
        self._roots.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root over the leaves so far, of which there is one at least."""
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = node_hash(left, root)
        return root


def included(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes | None:
    """The root that the proof leads to from a leaf (RFC 9162, 2.1.3.2); none when it has not the right length."""
    place, last = index, size - 1
    for hashed in proof:
        if last == 0:
            return None
        if place & 1 or place == last:
            leaf = node_hash(hashed, leaf)
            while place and not place & 1:
                place >>= 1
                last >>= 1
        else:
            leaf = node_hash(leaf, hashed)
        place >>= 1
        last >>= 1
    return leaf if last == 0 else None


def consistent(earlier: int, size: int, proof: list[bytes], root: bytes) -> tuple[bytes, bytes] | None:
    """The two roots that the proof leads to (RFC 9162, 2.1.4.2), when it has the right length.

    ``root`` is the one of the earlier tree, which is smaller and not empty.
    """
    hashes = [root, *proof] if earlier & (earlier - 1) == 0 else proof
    if not hashes:
        return None
    place, last = earlier - 1, size - 1
    while place & 1:
        place >>= 1
        last >>= 1
    first = second = hashes[0]
    for hashed in hashes[1:]:
        if last == 0:
            return None
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
    return (first, second) if last == 0 else None


# ── Keys and signed notes (C2SP) ─────────────────────────────────────────────────────────────────────────────────────


def _decoded(text: str) -> bytes:
    """What is written in base64, of which there is one form only."""
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError
    return raw


def parse_key(text: str, who: str) -> Key:
    """A verifier key: name, id and key, with + between them; ``who`` says where it comes from."""
    parts = text.strip().split("+", 2)
    try:
        raw = _decoded(parts[2])
        key_id = bytes.fromhex(parts[1])
    except (ValueError, IndexError) as error:
        raise Wrong(f"{who} names no key: {text[:100]!r}") from error
    if raw[:1] != b"\x01" or len(raw) != 33 or hashlib.sha256(parts[0].encode() + b"\n" + raw).digest()[:4] != key_id:
        raise Wrong(f"{who} names no Ed25519 key: {text[:100]!r}")
    return Key(text.strip(), parts[0], key_id, raw[1:])


def parse_note(note: str, path: str) -> Note:
    """A signed checkpoint."""
    text, _blank, rest = note.partition("\n\n")
    lines = text.split("\n")
    signatures = []
    try:
        for line in rest[:-1].split("\n"):
            match = _SIGNATURE.fullmatch(line)
            if not match:
                raise ValueError
            value = _decoded(match.group(2))
            signatures.append((match.group(1), value[:4], value[4:]))
        root = _decoded(lines[2])
        if (
            not rest.endswith("\n")
            or not lines[0].isprintable()
            or not lines[0]
            or not _SIZE.fullmatch(lines[1])
            or len(root) != 32
        ):
            raise ValueError
    except (ValueError, IndexError) as error:
        raise Wrong(f"{path} is no signed checkpoint.") from error
    return Note(path, lines[0], int(lines[1]), root, f"{text}\n".encode(), signatures)


# ── What openssl is asked ────────────────────────────────────────────────────────────────────────────────────────────


def signed_by_openssl(key: Key, signature: bytes, text: bytes) -> bool:
    """Whether the Ed25519 signature over the text is by the key."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = []
        for name, content in (("key", key.pem()), ("signature", signature), ("text", text)):
            paths.append(os.path.join(scratch, name))
            with open(paths[-1], "wb") as stream:
                stream.write(content)
        command = ["pkeyutl", "-verify", "-pubin", "-inkey", paths[0], "-rawin", "-sigfile", paths[1], "-in", paths[2]]
        status, said = _openssl(command)
    # A version that does not know how is no forgery.
    if status and "Signature Verification Failure" not in said:
        raise CannotCheck(f"openssl cannot verify Ed25519 signatures here; 3.0 or newer is needed. It says: {said}")
    return status == 0


def stamped_by_openssl(token: str, digest: str, ca: str) -> str:
    """When the token (RFC 3161) says that it has seen the SHA-256; empty when it does not hold."""
    status, said = _openssl(["ts", "-reply", "-in", token, "-text"])
    match = _MOMENT.search(said)
    if status or not match:
        return ""
    moment = f"{match.group(1)} {match.group(2)}"
    # The authority's certificate may have expired since; it must have been good when the token was made.
    when = str(int(ssl.cert_time_to_seconds(moment)))
    status, said = _openssl(["ts", "-verify", "-digest", digest, "-in", token, "-CAfile", ca, "-attime", when])
    return "" if status else moment


def _openssl(arguments: list[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            ["openssl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise CannotCheck(f"The command openssl is needed and does not run: {error}") from error
    return done.returncode, done.stdout.decode("utf-8", "replace")


# ── The package ──────────────────────────────────────────────────────────────────────────────────────────────────────


def check(
    directory: str,
    trusted: Iterable[str] = (),
    timestamp_ca: str = "",
    signed: Callable[[Key, bytes, bytes], bool] = signed_by_openssl,
    stamped: Callable[[str, str, str], str] = stamped_by_openssl,
) -> dict[str, Any]:
    """Check an unpacked package; returns what it proves.

    Args:
        directory: where its files are.
        trusted: verifier keys the log may have begun with; when there is none, the one in the package is taken.
        timestamp_ca: certificates of the time-stamping authority; those in the package, when empty.
        signed: whether a signature over a text is by a key.
        stamped: when a token says that it has seen a SHA-256.

    Raises:
        Wrong: something does not hold.
        CannotCheck: something that is needed to check is missing.
    """
    return _Package(directory, list(trusted), timestamp_ca, signed, stamped).check()


class _Package:
    def __init__(
        self,
        directory: str,
        trusted: list[str],
        timestamp_ca: str,
        signed: Callable[[Key, bytes, bytes], bool],
        stamped: Callable[[str, str, str], str],
    ) -> None:
        self.directory = directory
        self.trusted = [parse_key(text, "The trusted key") for text in trusted]
        self.timestamp_ca = timestamp_ca
        self.signed = signed
        self.stamped = stamped
        self.files: set[str] = set()
        self.keys: list[tuple[int, Key]] = []  # from which entry on, in order
        self.announced: list[tuple[int, int]] = []  # entries whose bytes the log says went
        self.openings: dict[bytes, bool] = {}  # commitment → whether an entry names it
        self.roots: dict[int, bytes] = {}  # size → the root that the entries make

    def check(self) -> dict[str, Any]:
        self.files = self._check_files()
        manifest = self._manifest()
        notes = self._notes()
        newest = max((note for note in notes if note.path.startswith("checkpoints/")), key=lambda note: note.size)
        for note in notes:
            if note.origin != newest.origin:
                raise Wrong(f"{note.path} is of the log {note.origin}, the newest checkpoint of {newest.origin}.")
            if note.size > newest.size:
                raise Wrong(f"{note.path} has {note.size} entries, the newest checkpoint only {newest.size}.")
        self._read_openings()
        whole = manifest["whole"]
        with_bytes = self._read_whole(notes, newest) if whole else self._read_part(newest)
        self._check_keys(newest.origin)
        self._check_signatures(notes)
        if whole:
            self._check_roots(notes)
        else:
            self._check_consistency(notes, newest)
        for commitment, used in self.openings.items():
            if not used:
                raise Wrong(f"openings.jsonl has {commitment.decode()}, which no entry names.")
        anchors = [note.size for note in notes if note.path.startswith("anchors/")]
        return {
            "origin": newest.origin,
            "whole": whole,
            "selection": manifest["selection"],
            "size": newest.size,
            "root": newest.root.hex(),
            "entries": with_bytes,
            "without_bytes": newest.size - with_bytes if whole else 0,
            "keys": [key.text for _start, key in self.keys],
            "trusted": bool(self.trusted),
            "checkpoints": len(notes) - len(anchors),
            "anchors": len(anchors),
            "anchored_size": max(anchors, default=0),
            "timestamps": self._timestamps({note.path for note in notes}),
            "openings": len(self.openings),
        }

    # ── Files ──

    def _check_files(self) -> set[str]:
        """Each file is listed with its hash, and each that is listed is there."""
        listed = {}
        for line in self._text("SHA256SUMS").splitlines():
            match = _LISTED.fullmatch(line)
            if not match or match.group(2) in listed:
                raise Wrong(f"SHA256SUMS has a line that it cannot have: {line[:100]!r}")
            listed[match.group(2)] = match.group(1)
        found = set(self._walk())
        for name in sorted(found ^ set(listed)):
            raise Wrong(f"{name} was added: SHA256SUMS does not list it." if name in found else f"{name} is missing.")
        for name in sorted(found):
            digest = hashlib.sha256()
            with open(self._path(name), "rb") as stream:
                block = stream.read(1 << 20)
                while block:
                    digest.update(block)
                    block = stream.read(1 << 20)
            if digest.hexdigest() != listed[name]:
                raise Wrong(f"{name} was altered: it has not the SHA-256 that SHA256SUMS says.")
        return found

    def _walk(self) -> Iterator[str]:
        for top, directories, files in os.walk(self.directory):
            for name in files + directories:
                path = os.path.join(top, name)
                shown = os.path.relpath(path, self.directory).replace(os.sep, "/")
                if os.path.islink(path) or not shown.isprintable():
                    raise Wrong(f"{shown!r} is a link or an odd name, and a package has neither.")
                if name in files and shown != "SHA256SUMS":
                    yield shown

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, *name.split("/"))

    def _text(self, name: str) -> str:
        try:
            with open(self._path(name), "rb") as stream:
                return stream.read().decode()
        except OSError as error:
            raise Wrong(f"{name} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise Wrong(f"{name} is no UTF-8 text.") from error

    def _lines(self, name: str) -> Iterator[bytes]:
        if name not in self.files:
            raise Wrong(f"{name} is missing.")
        with open(self._path(name), "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    raise Wrong(f"{name} ends in the middle of a line.")
                yield line[:-1]

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest = json.loads(self._text("manifest.json"))
            known = manifest["format"] == FORMAT and isinstance(manifest["selection"], dict)
            whole = manifest["whole"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Wrong("manifest.json does not say what the package is.") from error
        if not known or not isinstance(whole, bool):
            raise Wrong(f"manifest.json is not that of a package of the format {FORMAT}, the only one known here.")
        return dict(manifest)

    def _notes(self) -> list[Note]:
        """The checkpoints, by size."""
        notes = []
        for name in self.files:
            folder, _slash, rest = name.partition("/")
            if folder not in ("checkpoints", "anchors") or not rest.endswith(".checkpoint"):
                continue
            note = parse_note(self._text(name), name)
            if not rest.startswith(f"{note.size:016d}" + ("." if folder == "checkpoints" else "-")):
                raise Wrong(f"{name} is the checkpoint of {note.size} entries, its name says another.")
            notes.append(note)
        if not any(note.path.startswith("checkpoints/") for note in notes):
            raise Wrong("The package has no checkpoint, so it proves nothing.")
        return sorted(notes, key=lambda note: (note.size, note.path))

    # ── Entries ──

    def _read_whole(self, notes: list[Note], newest: Note) -> int:
        """Every entry that the newest checkpoint covers; returns how many have their bytes."""
        due = {note.size for note in notes}
        tree = Tree()
        previous = b""
        gone: list[list[int]] = []  # first and last of the entries without bytes
        lines, leaves = self._lines("entries.jsonl"), self._leaves()
        without = next(leaves, None)
        while tree.size < newest.size:
            seq = tree.size
            if without is not None and without[0] == seq:
                leaf = without[1]
                without = next(leaves, None)
                if gone and gone[-1][1] == seq - 1:
                    gone[-1][1] = seq
                else:
                    gone.append([seq, seq])
            else:
                line = next(lines, None)
                if line is None:
                    raise Wrong(f"Entry {seq} is missing.")
                leaf = leaf_hash(line)
                if self._entry(line, seq)["prev"] != (previous.hex() or _FIRST):
                    raise Wrong(f"Entry {seq} was not written behind entry {seq - 1} as it is here.")
            tree.append(leaf)
            previous = leaf
            if tree.size in due:
                self.roots[tree.size] = tree.root()
        if next(lines, None) is not None or without is not None:
            raise Wrong("There are more entries than the newest checkpoint covers.")
        for first, last in gone:
            self._check_announced(first, last)
        return newest.size - sum(last + 1 - first for first, last in gone)

    def _read_part(self, newest: Note) -> int:
        """Some entries, each with its proof; returns how many."""
        before, count = -1, 0
        proofs = self._proofs("proofs/inclusion.jsonl", "seq")
        for line in self._lines("entries.jsonl"):
            seq = self._entry(line, None)["seq"]
            if seq <= before:
                raise Wrong(f"Entry {seq} is not in its place: it is behind entry {before}.")
            proof = next(proofs, None)
            if proof is None or (proof["seq"], proof["size"]) != (seq, newest.size):
                raise Wrong(f"Entry {seq} has no proof.")
            if seq >= newest.size or included(leaf_hash(line), seq, newest.size, proof["hashes"]) != newest.root:
                raise Wrong(f"Entry {seq} is not as it was when the newest checkpoint was signed.")
            before, count = seq, count + 1
        if next(proofs, None) is not None:
            raise Wrong("There are proofs of entries that are not there.")
        return count

    def _entry(self, line: bytes, place: int | None) -> dict[str, Any]:
        """An entry; at its place, when that is known."""
        try:
            entry = json.loads(line.decode())
            seq, kind, _prev = entry["seq"], entry["type"], entry["prev"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Wrong(f"This is no entry: {line[:100]!r}") from error
        if not _is_number(seq) or seq < 0 or place not in (None, seq):
            raise Wrong(f"Entry {place} is missing or not in its place; there is {line[:100]!r}")
        if kind in ("log.created", "key.rotated"):
            if (seq == 0) != (kind == "log.created"):
                raise Wrong(f"Entry {seq} begins a log that has begun.")
            self.keys.append((seq, parse_key(str(entry.get("key")), f"Entry {seq}")))
        elif kind in ("archived", "pruned"):
            first, last = entry.get("first"), entry.get("last")
            if not _is_number(first) or not _is_number(last) or not 0 <= first <= last < seq:
                raise Wrong(f"Entry {seq} does not say which entries it is about.")
            self.announced.append((first, last))
        if self.openings:
            for commitment in _COMMITMENT.findall(line):
                if commitment in self.openings:
                    self.openings[commitment] = True
        return dict(entry)

    def _leaves(self) -> Iterator[tuple[int, bytes]]:
        """The places and leaf hashes of the entries whose bytes are not here."""
        if "leaves.txt" not in self.files:
            return
        for line in self._lines("leaves.txt"):
            match = _LEAF.fullmatch(line)
            if not match:
                raise Wrong(f"leaves.txt has a line that it cannot have: {line[:100]!r}")
            yield int(match.group(1)), bytes.fromhex(match.group(2).decode())

    def _check_announced(self, first: int, last: int) -> None:
        """The log says of entries without bytes that they were archived or deleted."""
        missing = first
        for start, stop in sorted(self.announced):
            if start <= missing <= stop:
                missing = stop + 1
        if missing <= last:
            raise Wrong(f"Entry {missing} is missing, and no entry of the log says that it was archived or deleted.")

    def _proofs(self, name: str, key: str) -> Iterator[dict[str, Any]]:
        for line in self._lines(name):
            try:
                proof = json.loads(line)
                numbers = _is_number(proof[key]) and _is_number(proof["size"])
                hashes = [bytes.fromhex(text) for text in proof["hashes"] if _HASH.fullmatch(text)]
                if not numbers or len(hashes) != len(proof["hashes"]):
                    raise ValueError
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise Wrong(f"{name} has a line that is no proof: {line[:100]!r}") from error
            yield {**proof, "hashes": hashes}

    # ── Keys and checkpoints ──

    def _check_keys(self, origin: str) -> None:
        if not self.keys or self.keys[0][0] != 0:
            raise Wrong("Entry 0, which names the log's first key, is missing.")
        expected = {f"keys/{number}.{kind}" for number in range(1, len(self.keys) + 1) for kind in ("pem", "vkey")}
        if {name for name in self.files if name.startswith("keys/")} != expected:
            raise Wrong("The files in keys are not those of the keys that the entries name.")
        for number, (start, key) in enumerate(self.keys, 1):
            if key.name != origin:
                raise Wrong(f"Entry {start} names a key of {key.name}, and the log is {origin}.")
            pem = self._text(f"keys/{number}.pem").encode()
            if self._text(f"keys/{number}.vkey") != f"{key.text}\n" or pem != key.pem():
                raise Wrong(f"keys/{number} is not the key that entry {start} names.")
        first = self.keys[0][1]
        if self.trusted and first not in self.trusted:
            raise Wrong(f"The log began with the key {first.text}, which is not the one that is trusted.")

    def _check_signatures(self, notes: list[Note]) -> None:
        handed_over = {0}
        for note in notes:
            current = sum(start < note.size for start, _key in self.keys) - 1
            if not self._is_signed(note, self.keys[current][1]):
                raise Wrong(f"{note.path} is not signed by the key of its time, keys/{current + 1}.pem.")
            if current and self._is_signed(note, self.keys[current - 1][1]):
                handed_over.add(current)
        for number, (start, _key) in enumerate(self.keys):
            if number not in handed_over:
                raise Wrong(f"The key of entry {start} was not signed by the key before it.")

    def _is_signed(self, note: Note, key: Key) -> bool:
        return any(
            (name, key_id) == (key.name, key.id) and len(signature) == 64 and self.signed(key, signature, note.text)
            for name, key_id, signature in note.signatures
        )

    def _check_roots(self, notes: list[Note]) -> None:
        """The entries make the root of every checkpoint."""
        before = 0
        for note in notes:
            if self.roots[note.size] != note.root:
                raise Wrong(f"The entries {before} to {note.size - 1} are not those that {note.path} was signed over.")
            before = note.size

    def _check_consistency(self, notes: list[Note], newest: Note) -> None:
        """Each checkpoint is of the log that the newest is of."""
        proofs = {}
        for proof in self._proofs("proofs/consistency.jsonl", "earlier"):
            if proof["size"] != newest.size or proof["earlier"] in proofs:
                raise Wrong(f"The proof of consistency of {proof['earlier']} entries belongs to no checkpoint.")
            proofs[proof["earlier"]] = proof["hashes"]
        for note in notes:
            if note.size == newest.size:
                holds = note.root == newest.root
            else:
                hashes = proofs.get(note.size)
                roots = None if hashes is None else consistent(note.size, newest.size, hashes, note.root)
                holds = roots == (note.root, newest.root)
            if not holds:
                raise Wrong(f"{note.path} is not proved to be of the log that the newest checkpoint is of.")
        for earlier in set(proofs) - {note.size for note in notes if note.size < newest.size}:
            raise Wrong(f"The proof of consistency of {earlier} entries belongs to no checkpoint.")

    # ── What comes with it ──

    def _read_openings(self) -> None:
        if "openings.jsonl" not in self.files:
            return
        for line in self._lines("openings.jsonl"):
            try:
                opening = json.loads(line)
                salt, value = _decoded(opening["salt"]), _decoded(opening["value"])
                commitment = str(opening["commitment"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise Wrong(f"openings.jsonl has a line that is no opening: {line[:60]!r}") from error
            if commitment != "c:" + base64.b64encode(hashlib.sha256(salt + value).digest()).decode():
                raise Wrong(f"openings.jsonl has another value than the one that {commitment} was made of.")
            self.openings[commitment.encode()] = False

    def _timestamps(self, notes: set[str]) -> list[dict[str, Any]]:
        stamps = []
        ca = self.timestamp_ca or self._path("anchors/timestamp-ca.pem")
        for token in sorted(name for name in self.files if name.endswith(".tsr")):
            note = token[: -len("tsr")] + "checkpoint"
            if note not in notes:
                raise Wrong(f"{token} belongs to no checkpoint.")
            moment = self.stamped(self._path(token), hashlib.sha256(self._text(note).encode()).hexdigest(), ca)
            if not moment:
                raise Wrong(f"{token} is no timestamp of its checkpoint, or not by the authority.")
            stamps.append({"file": token, "time": moment})
        return stamps


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def told(proved: dict[str, Any]) -> list[str]:
    """What was proved, a line each."""
    origin, size = proved["origin"], proved["size"]
    if proved["whole"]:
        lines = [f"OK: this is the whole log {origin} as it was signed at {size} entries."]
    else:
        lines = [
            f"OK: these are {proved['entries']} entries of the log {origin} as it was signed at {size} entries.",
            f"Selected by: {json.dumps(proved['selection'], sort_keys=True)}.",
            "That no other entry fits the selection is not proved by this.",
        ]
    if proved["without_bytes"]:
        lines.append(f"{proved['without_bytes']} of them were archived or deleted; only their hashes are here.")
    lines.append(f"Checkpoints: {proved['checkpoints']}; kept by others: {proved['anchors']}.")
    lines += [f"Timestamp {stamp['file']}: {stamp['time']}." for stamp in proved["timestamps"]]
    if proved["openings"]:
        lines.append(f"Opened commitments: {proved['openings']}.")
    lines += [f"Root (SHA-256): {proved['root']}", f"Key: {proved['keys'][0]}"]
    if not proved["trusted"]:
        lines.append(
            "NOTE: the key came with the package. Compare it with the one that you got by another way (--key)."
        )
    return lines


def main(arguments: list[str]) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Check an evidence package of flowaudit.ops.")
    parser.add_argument("directory", nargs="?", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--key", action="append", default=[], help="the log's first key, got by another way")
    parser.add_argument("--timestamp-ca", default="", help="certificates of the time-stamping authority (PEM)")
    options = parser.parse_args(arguments)
    try:
        lines, status = told(check(options.directory, options.key, options.timestamp_ca)), 0
    except Wrong as wrong:
        lines, status = [f"WRONG: {wrong}"], 1
    except CannotCheck as error:
        lines, status = [f"NOT CHECKED: {error}"], 2
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
