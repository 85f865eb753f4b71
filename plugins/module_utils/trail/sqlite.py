# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The log in an SQLite file: needs no set-up, any number of processes of one machine append to it.

``line`` holds the bytes that are hashed; the columns that questions ask for are computed from it by SQLite, so they
cannot say anything else. WAL with ``synchronous=FULL``: what ``append`` has returned survives a power failure.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
import sqlite3
import typing as t
from collections.abc import Iterable, Iterator, Sequence

from ..errors import FlowauditError
from . import canonical, checkpoint, entry, merkle, note
from .commitment import Opening
from .entry import Draft, Row
from .home import FileSigner, Home

SCHEMA = 1
BUSY = 30.0  # seconds a writer waits for the others
_TILE = 1 << merkle.STEP
_CHUNK = 1000  # rows read at once

# Said in a question too, so that SQLite sees that the index over these entries answers it.
SELDOM = "type NOT IN ('task.result', 'task.dispatched', 'task.start')"

_TABLES = """
CREATE TABLE entries (
  seq INTEGER PRIMARY KEY,
  line TEXT,
  leaf BLOB NOT NULL CHECK (length(leaf) = 32),
  type TEXT GENERATED ALWAYS AS (json_extract(line, '$.type')) VIRTUAL,
  ts TEXT GENERATED ALWAYS AS (json_extract(line, '$.ts')) VIRTUAL,
  run TEXT GENERATED ALWAYS AS (json_extract(line, '$.run')) VIRTUAL,
  chg TEXT GENERATED ALWAYS AS (json_extract(line, '$.chg')) VIRTUAL,
  host TEXT GENERATED ALWAYS AS (json_extract(line, '$.host')) VIRTUAL,
  status TEXT GENERATED ALWAYS AS (json_extract(line, '$.status')) VIRTUAL,
  changed INTEGER GENERATED ALWAYS AS (json_extract(line, '$.changed')) VIRTUAL,
  actor TEXT GENERATED ALWAYS AS (json_extract(line, '$.actor')) VIRTUAL
);
CREATE INDEX entries_run ON entries (run, host);
CREATE INDEX entries_ts ON entries (ts);
CREATE INDEX entries_host ON entries (host, ts) WHERE host IS NOT NULL;
CREATE INDEX entries_started ON entries (ts, run, actor) WHERE type = 'run.start';
CREATE INDEX entries_ended ON entries (run, type, status) WHERE type IN ('run.end', 'run.aborted');
CREATE INDEX entries_type ON entries (type, ts) WHERE type NOT IN ('task.result', 'task.dispatched', 'task.start');
CREATE INDEX entries_chg ON entries (chg, ts) WHERE type NOT IN ('task.result', 'task.dispatched', 'task.start');
CREATE INDEX entries_changed ON entries (ts, host) WHERE changed = 1 AND type = 'task.result';
CREATE INDEX entries_failed ON entries (ts, host) WHERE status IN ('failed', 'unreachable') AND type = 'task.result';
CREATE TABLE nodes (
  level INTEGER NOT NULL,
  idx INTEGER NOT NULL,
  hash BLOB NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (level, idx)
) WITHOUT ROWID;
CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note TEXT NOT NULL);
CREATE TABLE openings (
  commitment TEXT PRIMARY KEY,
  seq INTEGER NOT NULL,
  kind TEXT NOT NULL,
  salt BLOB NOT NULL,
  value BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX openings_seq ON openings (seq);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TRIGGER entries_follow BEFORE INSERT ON entries
WHEN NEW.seq IS NOT (SELECT ifnull(max(seq), -1) + 1 FROM entries)
BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER entries_are_append_only BEFORE UPDATE ON entries
WHEN NEW.line IS NOT NULL OR NEW.seq IS NOT OLD.seq OR NEW.leaf IS NOT OLD.leaf
BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER checkpoints_stay BEFORE DELETE ON checkpoints BEGIN SELECT RAISE(ABORT, 'checkpoints stay'); END;
CREATE TRIGGER nodes_stay BEFORE DELETE ON nodes BEGIN SELECT RAISE(ABORT, 'nodes stay'); END;
CREATE TRIGGER nodes_are_append_only BEFORE UPDATE ON nodes BEGIN SELECT RAISE(ABORT, 'nodes stay'); END;
CREATE TRIGGER openings_are_append_only BEFORE UPDATE ON openings BEGIN SELECT RAISE(ABORT, 'openings stay'); END;
"""


class SqliteLog:
    """A log in the directory of a ``Home``."""

    def __init__(self, home: Home, *, read_only: bool = False) -> None:
        """Open a log that exists.

        Raises:
            FlowauditError: there is none, or it cannot be opened.
        """
        self.home = home
        if not _exists(home):
            raise FlowauditError(f"There is no trail in {home.path}; the first recorded run makes one.")
        self._connection = _connect(home, read_only)
        try:
            self._place = _place(home)
            self._origin = self._identified()
        except FlowauditError:
            self.close()
            raise

    @classmethod
    def open_or_create(cls, home: Home, version: str, name: str = "") -> SqliteLog:
        """Open the log; make it, with a new key, when there is none.

        ``version`` is the collection's; ``name`` is what the log's name begins with (the node's, when empty).
        """
        if not _exists(home):
            home.make()
            with home.locked():
                if not _exists(home):
                    _create(home, version, name)
        home.make()
        return cls(home)

    def _identified(self) -> str:
        """The log's name, if it is a log of this version."""
        meta: dict[str, str] = dict(self.ask("SELECT key, value FROM meta"))
        if meta.get("schema") != str(SCHEMA) or "origin" not in meta:
            raise FlowauditError(
                f"The trail in {self.home.path} has the schema {meta.get('schema')}, this version of the collection"
                f" knows {SCHEMA}."
            )
        # A column could say something else than its line, a trigger could swallow entries.
        if self.ask(_SCHEMA) != _schema():
            raise FlowauditError(
                f"The trail in {self.home.path} has not the tables and triggers that it was made with: restore it."
            )
        return meta["origin"]

    @property
    def origin(self) -> str:
        """The log's name, and that of its key."""
        return self._origin

    def append(self, drafts: Sequence[Draft], openings: Sequence[Opening] = ()) -> range:
        """See ``Log.append``."""
        with _sentences(self.home), self._transaction():
            # What is written to a file that nobody can find any more is gone with this process.
            if _place(self.home) != self._place:
                raise FlowauditError(
                    f"The trail in {self.home.path} was moved, deleted or replaced while it was written to."
                )
            return _append(self._connection, drafts, openings)

    def add_checkpoint(self) -> str:
        """See ``Log.add_checkpoint``."""
        # Nobody changes the key between the question for the last entry and the signature.
        with self.home.locked():
            return self.sign([self._signer()])

    def demand_key(self) -> None:
        """See that the log can be signed, now or when a renewal of its key is finished.

        Raises:
            FlowauditError: its key is lost, damaged, known to others, or that of another log.
        """
        fresh = self.home.signing_key.with_suffix(".new")
        with self.home.locked():
            try:
                self._signer()
            except FlowauditError:
                if not fresh.exists() or str(FileSigner.load(self._origin, fresh).key) != self.current_key():
                    raise

    def _signer(self) -> FileSigner:
        signer = FileSigner.load(self._origin, self.home.signing_key)
        if str(signer.key) != self.current_key():
            raise FlowauditError(
                f"The key in {self.home.signing_key} is not the one the trail names; a renewal that was interrupted"
                " is finished by flowaudit.ops.trail_rotate_key."
            )
        return signer

    def sign(self, signers: Sequence[note.Signer]) -> str:
        """Sign the log as it is by all of the signers, and keep that.

        Raises:
            FlowauditError: it is no continuation of what was signed before; nothing was signed.
        """
        with _sentences(self.home):
            last = self._connection.execute("SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1").fetchone()
            size = self.size()
            if last is not None:
                before = checkpoint.parse(str(last[0]))
                if before.size > size or merkle.Tree(before.size, self.hashes).root() != before.root:
                    raise FlowauditError(
                        f"The trail in {self.home.path} was altered below entry {before.size}, so it is not signed any"
                        " more; verify it (flowaudit.ops.trail_verify)."
                    )
            kept = self._connection.execute("SELECT note FROM checkpoints WHERE size = ?", (size,)).fetchone()
            if kept is not None and len(signers) == 1:
                return str(kept[0])
            root = merkle.Tree(size, self.hashes).root()
            signed = note.sign(checkpoint.Checkpoint(self._origin, size, root).text(), signers)
            with self._transaction():
                self._connection.execute(
                    "INSERT INTO checkpoints (size, note) VALUES (?, ?) ON CONFLICT DO UPDATE SET note = excluded.note",
                    (size, signed),
                )
        return signed

    def size(self) -> int:
        """How many entries it has."""
        ((last,),) = self.ask("SELECT max(seq) FROM entries")
        return 0 if last is None else int(last) + 1

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """See ``Reader.rows``."""
        # As bytes: what was altered may be no text.
        question = "SELECT seq, CAST(line AS BLOB), leaf FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?"
        stop = self.size() if stop is None else stop
        # There are none below 0, unless somebody has put them there.
        start = start or -(2**63)
        while start < stop:
            chunk = self.ask(question, (start, stop, _CHUNK))
            if not chunk:
                return
            for seq, line, leaf in chunk:
                yield Row(seq, line, leaf)
            start = chunk[-1][0] + 1

    def hashes(self, level: int, start: int, stop: int) -> list[bytes]:
        """See ``merkle.Stored``."""
        with _sentences(self.home):
            return _hashes(self._connection, level, start, stop)

    def checkpoints(self) -> Iterator[str]:
        """See ``Reader.checkpoints``."""
        for (signed,) in self.ask("SELECT CAST(note AS BLOB) FROM checkpoints ORDER BY size"):
            yield signed.decode(errors="replace")

    def openings(self, commitments: Iterable[str]) -> dict[str, Opening]:
        """See ``Reader.openings``."""
        found = {}
        with _sentences(self.home):
            for commitment in commitments:
                row = self._connection.execute(
                    "SELECT kind, salt, value FROM openings WHERE commitment = ?", (commitment,)
                ).fetchone()
                if row:
                    found[commitment] = Opening(*row)
                    if not found[commitment].opens(commitment):
                        raise FlowauditError(
                            f"What the trail in {self.home.path} keeps for {commitment} was altered: it is not what an"
                            " entry commits to."
                        )
        return found

    def ask(self, question: str, arguments: Sequence[t.Any] = ()) -> list[tuple[t.Any, ...]]:
        """The rows of a question in SQL."""
        with _sentences(self.home):
            return self._connection.execute(question, tuple(arguments)).fetchall()

    def told(self, kind: str) -> list[dict[str, t.Any]]:
        """The entries of a type that is seldom written."""
        rows = self.ask(f"SELECT line FROM entries WHERE {SELDOM} AND type = ? ORDER BY seq", (kind,))
        return [canonical.decode(line.encode()) for (line,) in rows if line is not None]

    def damage(self) -> str:
        """What SQLite finds wrong with the file; empty when nothing is.

        Questions are answered through indexes; one that was altered would answer wrongly, and the entries still verify.
        """
        ((found,),) = self.ask("PRAGMA integrity_check(1)")
        return "" if found == "ok" else str(found).strip().splitlines()[-1]

    def current_key(self) -> str:
        """The verifier key that the log names last."""
        ((line,),) = self.ask(
            f"SELECT line FROM entries WHERE {SELDOM} AND type IN ('log.created', 'key.rotated')"
            " ORDER BY seq DESC LIMIT 1"
        )
        return str(canonical.decode(line.encode())["key"])

    def erase(self, commitments: Sequence[str], draft: Draft) -> None:
        """Delete openings and append the entry that says so, both or none."""
        with self.changing() as connection:
            connection.executemany("DELETE FROM openings WHERE commitment = ?", [(item,) for item in commitments])
            _append(connection, [draft], ())

    def forget(self) -> None:
        """Overwrite what was deleted in the files too: pages that were freed, and the log of writes."""
        with _sentences(self.home):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def copy_to(self, other: sqlite3.Connection) -> None:
        """Copy the whole database as it is at one moment."""
        with _sentences(self.home):
            self._connection.backup(other)

    @contextlib.contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction for what is more than appending (erasing, pruning)."""
        with _sentences(self.home), self._transaction():
            yield self._connection

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk may have ended it already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name"


@functools.cache
def _schema() -> list[tuple[t.Any, ...]]:
    """What the question ``_SCHEMA`` has as its answer."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_TABLES)
        return connection.execute(_SCHEMA).fetchall()


def _exists(home: Home) -> bool:
    with _sentences(home):
        return home.database.exists()


def _place(home: Home) -> tuple[int, int]:
    """Which file it is, whatever its name."""
    with _sentences(home):
        found = home.database.stat()
    return found.st_dev, found.st_ino


def _connect(home: Home, read_only: bool) -> sqlite3.Connection:
    with _sentences(home):
        how = "mode=ro" if read_only else "mode=rw"
        wal = home.database.with_name(f"{home.database.name}-wal")
        if read_only and not wal.exists() and not os.access(home.path, os.W_OK):
            # Even to read, SQLite makes files beside a database in WAL mode. Where it cannot, it takes it as it is.
            how += "&immutable=1"
        connection = sqlite3.connect(
            f"{home.database.absolute().as_uri()}?{how}",
            uri=True,
            timeout=BUSY,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            # What is erased or pruned is overwritten, not only forgotten.
            connection.execute("PRAGMA secure_delete = ON")
            if not read_only:
                connection.execute("PRAGMA synchronous = FULL")
        except (sqlite3.Error, UnicodeError):
            connection.close()
            raise
    return connection


def _create(home: Home, version: str, name: str) -> None:
    """Make key and log, each whole or not at all; a killed attempt is finished or made again."""
    fresh, fresh_key = home.database.with_suffix(".new"), home.signing_key.with_suffix(".new")
    if home.signing_key.exists():
        if not fresh.exists():
            raise FlowauditError(
                f"There is a signing key in {home.path} but no trail; restore the trail from its backup, or move"
                " the key away to begin a new one."
            )
    else:
        for leftover in (fresh_key, *home.path.glob(f"{fresh.name}*")):
            leftover.unlink(missing_ok=True)
        # A few random characters, so that two machines of one name are two logs.
        origin = f"{name or socket.gethostname() or 'control-node'}/trail/{secrets.token_hex(4)}"
        signer = FileSigner.generate(origin, fresh_key)
        with _sentences(home), contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            os.chmod(fresh, 0o600)
            connection.execute("PRAGMA secure_delete = ON")
            connection.executescript(f"BEGIN; {_TABLES} COMMIT;")
            connection.executemany("INSERT INTO meta VALUES (?, ?)", [("schema", str(SCHEMA)), ("origin", origin)])
            first = {"type": entry.LOG_CREATED, "ts": entry.timestamp(), "origin": origin, "key": str(signer.key)}
            _append(connection, [{**first, "collection": version}], ())
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.rename(fresh_key, home.signing_key)
    os.rename(fresh, home.database)
    directory = os.open(home.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _append(connection: sqlite3.Connection, drafts: Sequence[Draft], openings: Sequence[Opening]) -> range:
    last = connection.execute("SELECT seq, leaf FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    start, previous = (0, None) if last is None else (last[0] + 1, last[1])
    rows = []
    for seq, draft in enumerate(drafts, start):
        row = entry.seal(draft, seq, previous)
        rows.append((seq, (row.line or b"").decode(), row.leaf))
        previous = row.leaf
    connection.executemany("INSERT INTO entries (seq, line, leaf) VALUES (?, ?, ?)", rows)
    # Beside the first of their entries: good enough to find them when that is pruned.
    connection.executemany(
        "INSERT INTO openings (commitment, seq, kind, salt, value) VALUES (?, ?, ?, ?, ?)",
        [(item.commitment, start, item.kind, item.salt, item.value) for item in openings],
    )
    stop = start + len(rows)
    level, below, above = merkle.STEP, start, stop
    while below // _TILE < above // _TILE:
        for index in range(below // _TILE, above // _TILE):
            hashes = _hashes(connection, level - merkle.STEP, index * _TILE, (index + 1) * _TILE)
            connection.execute("INSERT INTO nodes VALUES (?, ?, ?)", (level, index, merkle.fold(hashes)))
        level, below, above = level + merkle.STEP, below // _TILE, above // _TILE
    return range(start, stop)


def _hashes(connection: sqlite3.Connection, level: int, start: int, stop: int) -> list[bytes]:
    if level == 0:
        found = connection.execute("SELECT leaf FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq", (start, stop))
    else:
        found = connection.execute(
            "SELECT hash FROM nodes WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx", (level, start, stop)
        )
    return [row[0] for row in found]


@contextlib.contextmanager
def _sentences(home: Home) -> Iterator[None]:
    """What SQLite says, as a sentence that says where."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeError) as error:  # a damaged file is described by the damage
        raise FlowauditError(f"The trail in {home.path} cannot be used: {error}.") from error
