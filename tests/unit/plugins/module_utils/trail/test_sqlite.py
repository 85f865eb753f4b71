# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The log in an SQLite file."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import pathlib
import random
import re
import socket
import sqlite3
import stat
import time
import typing as t
from collections.abc import Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import (
    canonical,
    checkpoint,
    entry,
    log,
    merkle,
    note,
    sqlite,
    verify,
)
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.commitment import Opening, commit
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.home import FileSigner, Home
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.sqlite import SqliteLog


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    return Home(tmp_path / "trail")


@pytest.fixture
def trail(home: Home) -> Iterator[SqliteLog]:
    made = SqliteLog.open_or_create(home, "0.2.0", "node1")
    yield made
    made.close()


@contextlib.contextmanager
def opened(home: Home, **options: bool) -> Iterator[SqliteLog]:
    made = SqliteLog(home, **options)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def attacker(home: Home, *triggers: str) -> Iterator[sqlite3.Connection]:
    """Somebody with the file, and without scruples; the triggers are put back, so that nothing shows."""
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as connection:
        found = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"))
        for name in found:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for sql in found.values():
            connection.execute(sql)


def event(number: int = 0, **fields: t.Any) -> entry.Draft:
    return {"type": entry.EVENT, "ts": entry.timestamp(), "number": number, **fields}


def report(trail: SqliteLog) -> verify.Report:
    nodes = {(level, index): hashed for level, index, hashed in trail.ask("SELECT level, idx, hash FROM nodes")}
    return verify.verify(trail.origin, trail.rows(), trail.checkpoints(), nodes=nodes)


# ── Making it ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_log_begins_with_its_name_and_key(home: Home, trail: SqliteLog) -> None:
    (row,) = trail.rows()
    value = canonical.decode(row.line or b"")
    assert value == {
        "v": 1,
        "seq": 0,
        "prev": "0" * 64,
        "type": "log.created",
        "ts": value["ts"],
        "origin": trail.origin,
        "key": str(FileSigner.load(trail.origin, home.signing_key).key),
        "collection": "0.2.0",
    }
    assert trail.origin.startswith("node1/trail/")
    assert trail.current_key() == value["key"]
    assert report(trail).whole


def test_only_its_user_may_read_it(home: Home) -> None:
    old = os.umask(0)
    try:
        trail = SqliteLog.open_or_create(home, "0.2.0")
        trail.append([event()])
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.path.iterdir()}
    assert modes.pop("runs") == 0o700
    assert {"trail.sqlite3", "trail.sqlite3-wal", "signing.key", "lock"} <= set(modes)
    assert set(modes.values()) == {0o600}
    trail.close()


@pytest.mark.parametrize(
    ("name", "host", "begins"), [("", "web01", "web01/"), ("", "", "control-node/"), ("a", "b", "a/")]
)
def test_the_name_of_a_log(home: Home, monkeypatch: pytest.MonkeyPatch, name: str, host: str, begins: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    made = SqliteLog.open_or_create(home, "0.2.0", name)
    assert made.origin.startswith(f"{begins}trail/")
    made.close()


def test_two_machines_of_one_name_are_two_logs(tmp_path: pathlib.Path) -> None:
    origins = set()
    for number in range(3):
        made = SqliteLog.open_or_create(Home(tmp_path / str(number)), "0.2.0", "node")
        origins.add(made.origin)
        made.close()
    assert len(origins) == 3


def test_what_is_there_is_opened(home: Home, trail: SqliteLog) -> None:
    again = SqliteLog.open_or_create(home, "0.3.0", "node2")
    assert (again.origin, again.size()) == (trail.origin, 1)
    again.close()


def test_there_may_be_none(home: Home) -> None:
    with pytest.raises(FlowauditError, match=r"There is no trail in .*; the first recorded run makes one"):
        SqliteLog(home)


def test_made_by_somebody_else_while_waiting(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def locked(self: Home) -> Iterator[None]:
        if not home.database.exists():
            sqlite._create(home, "0.2.0", "first")
        yield

    monkeypatch.setattr(Home, "locked", locked)
    made = SqliteLog.open_or_create(home, "0.2.0", "second")
    assert made.origin.startswith("first/")
    made.close()


def _stop_at(monkeypatch: pytest.MonkeyPatch, function: str, count: int) -> None:
    """Be killed at the n-th call of a function of ``os``."""
    honest, calls = getattr(os, function), []

    def killed(*arguments: t.Any, **options: t.Any) -> t.Any:
        calls.append(arguments)
        if len(calls) == count:
            raise SystemExit
        return honest(*arguments, **options)

    monkeypatch.setattr(os, function, killed)


@pytest.mark.parametrize(
    ("function", "count"), [("fsync", 1), ("chmod", 1), ("rename", 1), ("rename", 2), ("fsync", 2)]
)
def test_an_attempt_that_was_killed_is_finished_or_made_again(
    home: Home, monkeypatch: pytest.MonkeyPatch, function: str, count: int
) -> None:
    with monkeypatch.context() as patched:
        _stop_at(patched, function, count)
        with pytest.raises(SystemExit):
            SqliteLog.open_or_create(home, "0.2.0")
    made = SqliteLog.open_or_create(home, "0.2.0")
    made.append([event()])
    made.add_checkpoint()
    assert report(made).whole
    assert made.size() == 2
    assert not list(home.path.glob("*.new*"))
    made.close()


def test_a_key_without_a_log_is_not_used_for_another(home: Home, trail: SqliteLog) -> None:
    trail.close()
    home.database.unlink()
    with pytest.raises(FlowauditError, match=r"a signing key in .* but no trail; restore the trail from its backup"):
        SqliteLog.open_or_create(home, "0.2.0")


def test_another_schema_is_refused(home: Home, trail: SqliteLog) -> None:
    with attacker(home) as connection:
        connection.execute("UPDATE meta SET value = '2' WHERE key = 'schema'")
    with pytest.raises(FlowauditError, match="has the schema 2, this version of the collection knows 1"):
        SqliteLog(home)


@pytest.mark.parametrize(
    "change",
    [
        "DROP TRIGGER entries_stay",
        "DROP INDEX entries_ts",
        "CREATE TRIGGER swallow BEFORE INSERT ON entries BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TRIGGER gone AFTER INSERT ON entries BEGIN DELETE FROM checkpoints; END",
        "CREATE TABLE more (a)",
        "ALTER TABLE entries ADD COLUMN extra TEXT",
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '$.host', '$.status')",
    ],
)
def test_tables_that_somebody_changed_are_refused(home: Home, trail: SqliteLog, change: str) -> None:
    trail.close()
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        connection.executescript(change)
        connection.commit()
    with pytest.raises(FlowauditError, match=r"has not the tables and triggers that it was made with|cannot be used"):
        SqliteLog(home)


@pytest.mark.parametrize("damage", [b"x" * 4096, b""])
def test_a_damaged_file_is_named(home: Home, trail: SqliteLog, damage: bytes) -> None:
    trail.close()
    home.database.write_bytes(damage)
    with pytest.raises(FlowauditError, match=r"The trail in .* cannot be used: (file is not a database|no such table)"):
        SqliteLog(home)


def test_a_file_that_may_not_be_looked_at_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: pathlib.Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "exists", refuse)
    with pytest.raises(FlowauditError, match=r"cannot be used: .*Permission denied"):
        SqliteLog(home)
    with pytest.raises(FlowauditError, match=r"cannot be used: .*Permission denied"):
        SqliteLog.open_or_create(home, "0.2.0")


# ── Appending ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_entries_get_their_places(trail: SqliteLog) -> None:
    assert trail.append([event(1), event(2)]) == range(1, 3)
    assert trail.append([]) == range(3, 3)
    assert trail.append([event(3)]) == range(3, 4)
    rows = list(trail.rows())
    assert [row.seq for row in rows] == [0, 1, 2, 3]
    for before, row in itertools.pairwise(rows):
        assert row.line is not None
        assert row.leaf == hashlib.sha256(b"\x00" + row.line).digest()
        assert canonical.decode(row.line)["prev"] == before.leaf.hex()
    assert trail.size() == 4


def test_a_batch_is_appended_whole_or_not_at_all(trail: SqliteLog) -> None:
    with pytest.raises(FlowauditError, match="An entry holds no float"):
        trail.append([event(1), event(2), {"type": "event", "x": 1.5}], [commit("actor", b"ada")])
    assert trail.size() == 1
    assert trail.ask("SELECT count(*) FROM openings") == [(0,)]
    assert trail.append([event(1)]) == range(1, 2)


def test_the_columns_say_what_the_line_says(trail: SqliteLog) -> None:
    trail.append(
        [
            {"type": "task.result", "ts": "2026-01-01T00:00:00.000Z", "run": "r", "chg": "CHG-1", "host": "web01"}
            | {"status": "ok", "changed": True},
            {"type": "event"},
        ]
    )
    question = "SELECT type, ts, run, chg, host, status, changed FROM entries WHERE seq > 0 ORDER BY seq"
    assert trail.ask(question) == [
        ("task.result", "2026-01-01T00:00:00.000Z", "r", "CHG-1", "web01", "ok", 1),
        ("event", None, None, None, None, None, None),
    ]


def test_hashes_of_complete_subtrees_are_stored(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiles of four, so that three levels of them come about."""
    monkeypatch.setattr(merkle, "STEP", 2)
    monkeypatch.setattr(sqlite, "_TILE", 4)
    chance = random.Random(7)
    trail = SqliteLog.open_or_create(home, "0.2.0")
    while trail.size() < 150:
        trail.append([event(number) for number in range(chance.choice([1, 2, 3, 5, 30]))])
        tree = log.tree(trail)
        leaves = [row.leaf for row in trail.rows()]
        assert tree.root() == merkle.root(leaves)
        assert log.tree(trail, 3).root() == merkle.root(leaves[:3])
        place = chance.randrange(tree.size)
        assert merkle.verify_inclusion(leaves[place], place, tree.size, tree.inclusion_proof(place), tree.root())
    levels = dict(trail.ask("SELECT level, count(*) FROM nodes GROUP BY level"))
    size = trail.size()
    assert levels == {2: size // 4, 4: size // 16, 6: size // 64}
    trail.add_checkpoint()
    assert report(trail).whole
    trail.close()


def test_hashes_are_stored_at_256(trail: SqliteLog) -> None:
    trail.append([event(number) for number in range(254)])
    assert trail.ask("SELECT count(*) FROM nodes") == [(0,)]
    trail.append([event()])
    assert trail.ask("SELECT level, idx FROM nodes") == [(8, 0)]
    trail.append([event(number) for number in range(600)])
    assert trail.ask("SELECT level, idx FROM nodes") == [(8, 0), (8, 1), (8, 2)]
    trail.add_checkpoint()
    assert report(trail).whole


def test_rows_come_in_order_and_in_parts(trail: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_CHUNK", 3)
    trail.append([event(number) for number in range(10)])
    assert [row.seq for row in trail.rows()] == list(range(11))
    assert [row.seq for row in trail.rows(4)] == list(range(4, 11))
    assert [row.seq for row in trail.rows(4, 7)] == [4, 5, 6]
    assert [row.seq for row in trail.rows(9, 100)] == [9, 10]
    assert list(trail.rows(11)) == []
    assert list(trail.rows(5, 5)) == []


def test_entries_below_the_first_are_seen(home: Home, trail: SqliteLog) -> None:
    """They are in what questions find, so they have to be in what is verified."""
    with attacker(home) as connection:
        connection.execute("INSERT INTO entries (seq, line, leaf) VALUES (-5, '{}', zeroblob(32))")
    assert next(trail.rows()).seq == -5
    finding = report(trail).finding
    assert finding is not None
    assert (finding.first, finding.last) == (0, 0)


def test_openings_are_kept_as_long_as_they_are_there(trail: SqliteLog) -> None:
    ada, diff = commit("actor", b"ada"), commit("diff", b"\x00\xff")
    trail.append([event(actor=ada.commitment, diff=diff.commitment)], [ada, diff])
    there = trail.openings([ada.commitment, "c:none", diff.commitment])
    assert there == {ada.commitment: ada, diff.commitment: diff}
    trail.erase([ada.commitment], event(erased=ada.commitment))
    assert trail.openings([ada.commitment, diff.commitment]) == {diff.commitment: diff}
    assert trail.size() == 3
    trail.add_checkpoint()
    assert report(trail).whole


@pytest.mark.parametrize("change", ["value = 'ben'", "value = CAST('ben' AS BLOB)", "salt = zeroblob(32)", "salt = 1"])
def test_an_opening_that_opens_nothing_is_not_believed(home: Home, trail: SqliteLog, change: str) -> None:
    ada = commit("actor", b"ada")
    trail.append([event(actor=ada.commitment)], [ada])
    with attacker(home) as connection:
        connection.execute(f"UPDATE openings SET {change}")
    with pytest.raises(FlowauditError, match=f"keeps for {re.escape(ada.commitment)} was altered"):
        trail.openings([ada.commitment])


def test_what_is_erased_is_in_no_file_any_more(home: Home, trail: SqliteLog) -> None:
    secret = b"ada.lovelace@example.com, " * 500  # more than a page
    opening = commit("actor", secret)
    trail.append([event(actor=opening.commitment)], [opening])
    trail.forget()
    assert b"ada.lovelace" in _files(home)
    trail.erase([opening.commitment], event())
    trail.forget()
    assert b"ada.lovelace" not in _files(home)


def _files(home: Home) -> bytes:
    return b"".join(path.read_bytes() for path in home.path.glob("trail.sqlite3*"))


def test_what_is_pruned_is_in_no_file_any_more(home: Home, trail: SqliteLog) -> None:
    trail.append([event(number, text="something that is gone") for number in range(200)])
    trail.append([{"type": entry.PRUNED, "ts": entry.timestamp(), "first": 1, "last": 150}])
    with trail.changing() as connection:
        connection.execute("UPDATE entries SET line = NULL WHERE seq BETWEEN 1 AND 200")
    trail.forget()
    assert b"something that is gone" not in _files(home)
    found = report(trail)
    assert found.pruned == 200
    assert found.finding is not None
    assert (found.finding.first, found.finding.last) == (0, 151)


def test_a_copy_is_the_log(trail: SqliteLog, tmp_path: pathlib.Path) -> None:
    trail.append([event(number) for number in range(10)])
    trail.add_checkpoint()
    copy = Home(tmp_path / "copy")
    copy.make()
    with contextlib.closing(sqlite3.connect(copy.database)) as connection:
        trail.copy_to(connection)
    with opened(copy) as other:
        assert report(other) == report(trail)


# ── What fails ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_locked_file_is_waited_for_and_then_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY", 0.2)
    trail = SqliteLog.open_or_create(home, "0.2.0")
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        with pytest.raises(FlowauditError, match=r"cannot be used: database is locked\."):
            trail.append([event()])
        assert time.monotonic() - begun >= 0.15
        other.execute("ROLLBACK")
    assert trail.append([event()]) == range(1, 2)
    trail.close()


def test_a_full_disk_appends_nothing(trail: SqliteLog) -> None:
    trail.append([event()])
    ((pages,),) = trail.ask("PRAGMA page_count")
    trail.ask(f"PRAGMA max_page_count = {pages + 3}")
    before = list(trail.rows())
    with pytest.raises(FlowauditError, match="cannot be used: database or disk is full"):
        trail.append([event(number, text="x" * 1000) for number in range(64)], [commit("actor", b"ada")])
    assert list(trail.rows()) == before
    assert trail.ask("SELECT count(*) FROM openings") == [(0,)]
    trail.ask("PRAGMA max_page_count = 1000000")
    assert trail.append([event(number, text="x" * 1000) for number in range(64)]) == range(2, 66)
    trail.add_checkpoint()
    assert report(trail).whole


def test_a_transaction_that_has_ended_by_itself_is_not_ended_again(trail: SqliteLog) -> None:
    with pytest.raises(FlowauditError, match="cannot be used: disk I/O error"), trail.changing() as connection:
        connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("disk I/O error")
    assert trail.append([event()]) == range(1, 2)


def test_an_interrupt_appends_nothing(trail: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: t.Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(entry, "seal", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trail.append([event()])
    assert trail.append([event()]) == range(1, 2)


def test_who_may_only_read_does_not_write(home: Home, trail: SqliteLog) -> None:
    trail.append([event()])
    trail.add_checkpoint()
    for wal in (True, False):
        if not wal:
            trail.close()
        with opened(home, read_only=True) as reader:
            assert report(reader).whole
            assert reader.size() == 2
            with pytest.raises(FlowauditError, match="attempt to write a readonly database"):
                reader.append([event()])


def test_a_log_in_a_directory_that_may_not_be_written_is_read_as_it_is(
    home: Home, trail: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.append([event()])
    trail.add_checkpoint()
    trail.close()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with opened(home, read_only=True) as reader:
        assert report(reader).whole
        # Nothing is made beside it.
        assert not list(home.path.glob("trail.sqlite3-*"))


def test_every_use_of_a_file_that_breaks_is_named(home: Home, trail: SqliteLog) -> None:
    trail.append([event(number) for number in range(1000)])
    trail.forget()
    trail.close()
    content = bytearray(home.database.read_bytes())
    content[8192:] = b"\xaa" * (len(content) - 8192)
    home.database.write_bytes(content)
    uses: list[t.Callable[[SqliteLog], t.Any]] = [
        lambda broken: broken.append([event()]),
        lambda broken: broken.size(),
        lambda broken: list(broken.rows()),
        lambda broken: list(broken.checkpoints()),
        lambda broken: broken.openings(["c:x"]),
        lambda broken: broken.hashes(0, 0, 1000),
        lambda broken: broken.hashes(8, 0, 3),
        lambda broken: log.tree(broken, 1000).root(),
        lambda broken: broken.add_checkpoint(),
    ]
    for use in uses:
        refused = pytest.raises(FlowauditError, match=r"in .* cannot be used: .*(malformed|not a database|locked)")
        with refused, opened(home) as broken:
            use(broken)


def test_nothing_is_written_to_a_file_that_is_not_there_any_more(home: Home, trail: SqliteLog) -> None:
    trail.append([event()])
    home.database.rename(home.path / "moved")
    with pytest.raises(FlowauditError, match=r"The trail in .* cannot be used: .*No such file or directory"):
        trail.append([event()])
    home.database.write_bytes((home.path / "moved").read_bytes())
    with pytest.raises(FlowauditError, match="was moved, deleted or replaced while it was written to"):
        trail.append([event()])
    assert trail.size() == 2


def test_an_index_that_was_altered_is_damage(home: Home, trail: SqliteLog) -> None:
    """Questions would be answered wrongly, while every entry verifies."""
    assert trail.damage() == ""
    trail.append([event(host=f"web{number:02d}") for number in range(20)])
    trail.add_checkpoint()
    trail.forget()
    trail.close()
    content = home.database.read_bytes()
    places = [found.start() for found in re.finditer(b"web07", content)]
    indexed = [place for place in places if content[place - 1 : place] != b'"']
    assert len(indexed) >= 1
    for place in indexed:
        content = content[:place] + b"db999" + content[place + 5 :]
    home.database.write_bytes(content)
    with opened(home) as altered:
        assert report(altered).whole
        assert altered.ask("SELECT seq FROM entries WHERE host = 'web07'") == []
        assert "index entries_" in altered.damage()


# ── What protects it ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET line = '{}' WHERE seq = 1",
        "UPDATE entries SET leaf = zeroblob(32) WHERE seq = 1",
        "UPDATE entries SET seq = 7 WHERE seq = 1",
        "UPDATE entries SET line = NULL, leaf = zeroblob(32) WHERE seq = 1",
        "UPDATE entries SET line = NULL, seq = 9 WHERE seq = 1",
        "DELETE FROM entries WHERE seq = 1",
        "DELETE FROM entries",
        "INSERT OR REPLACE INTO entries (seq, line, leaf) VALUES (1, '{}', zeroblob(32))",
        "INSERT INTO entries (seq, line, leaf) VALUES (-1, '{}', zeroblob(32))",
        "INSERT INTO entries (seq, line, leaf) VALUES (9, '{}', zeroblob(32))",
        "INSERT INTO entries (seq, line, leaf) VALUES (2, '{}', zeroblob(31))",
        "DELETE FROM checkpoints",
        "DELETE FROM nodes",
        "UPDATE nodes SET hash = zeroblob(32)",
        "UPDATE openings SET value = 'x'",
    ],
)
def test_entries_are_append_only(home: Home, trail: SqliteLog, change: str) -> None:
    ada = commit("actor", b"ada")
    trail.append([event(number) for number in range(300)], [ada])
    trail.add_checkpoint()
    change = change.replace("(2,", "(301,")
    refused = pytest.raises(sqlite3.IntegrityError, match=r"(append-only|stay|CHECK constraint)")
    with contextlib.closing(sqlite3.connect(home.database)) as connection, refused:
        connection.execute(change)
    assert report(trail).whole


def test_the_bytes_of_an_entry_may_go(trail: SqliteLog) -> None:
    trail.append([event(), {"type": entry.PRUNED, "ts": entry.timestamp(), "first": 1, "last": 1}])
    with trail.changing() as connection:
        connection.execute("UPDATE entries SET line = NULL WHERE seq = 1")
    trail.add_checkpoint()
    found = report(trail)
    assert (found.whole, found.pruned, found.size) == (True, 1, 3)
    assert trail.append([event()]) == range(3, 4)


# ── Checkpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_is_signed_and_kept(home: Home, trail: SqliteLog) -> None:
    trail.append([event()])
    signed = trail.add_checkpoint()
    assert list(trail.checkpoints()) == [signed]
    key = note.parse_key(trail.current_key())
    text, signers = note.verified(signed, note.by_name_and_id([key]))
    assert signers == [key]
    root = merkle.root(row.leaf for row in trail.rows())
    assert checkpoint.parse_text(text) == checkpoint.Checkpoint(trail.origin, 2, root)


def test_the_same_log_has_the_same_checkpoint(trail: SqliteLog) -> None:
    first = trail.add_checkpoint()
    assert trail.add_checkpoint() == first
    trail.append([event()])
    second = trail.add_checkpoint()
    assert list(trail.checkpoints()) == [first, second]


def test_two_keys_sign_again(home: Home, trail: SqliteLog, tmp_path: pathlib.Path) -> None:
    first = trail.add_checkpoint()
    old = FileSigner.load(trail.origin, home.signing_key)
    new = FileSigner.generate(trail.origin, tmp_path / "new")
    second = trail.sign([new, old])
    assert second != first
    assert list(trail.checkpoints()) == [second]
    assert note.verified(second, note.by_name_and_id([old.key, new.key]))[1] == [new.key, old.key]


def test_no_other_key_signs(home: Home, trail: SqliteLog) -> None:
    home.signing_key.unlink()
    with pytest.raises(FlowauditError, match=r"signing key .* cannot be read"):
        trail.add_checkpoint()
    FileSigner.generate(trail.origin, home.signing_key)
    with pytest.raises(FlowauditError, match="is not the one the trail names; a renewal that was interrupted"):
        trail.add_checkpoint()
    home.signing_key.chmod(0o644)
    with pytest.raises(FlowauditError, match="is open to others"):
        trail.add_checkpoint()
    assert list(trail.checkpoints()) == []


def test_the_key_that_is_named_last_is_the_one(trail: SqliteLog, tmp_path: pathlib.Path) -> None:
    new = FileSigner.generate(trail.origin, tmp_path / "new")
    trail.append([{"type": entry.KEY_ROTATED, "ts": entry.timestamp(), "key": str(new.key)}, event()])
    assert trail.current_key() == str(new.key)


def test_the_key_is_demanded(home: Home, trail: SqliteLog) -> None:
    trail.demand_key()
    new = FileSigner.generate(trail.origin, home.signing_key.with_suffix(".new"))
    trail.append([{"type": entry.KEY_ROTATED, "ts": entry.timestamp(), "key": str(new.key)}])
    trail.demand_key()  # a renewal that was interrupted can be finished
    trail.append([{"type": entry.KEY_ROTATED, "ts": entry.timestamp(), "key": str(new.key).replace("+", "+x", 1)}])
    with pytest.raises(FlowauditError, match="is not the one the trail names"):
        trail.demand_key()
    home.signing_key.with_suffix(".new").unlink()
    home.signing_key.unlink()
    with pytest.raises(FlowauditError, match="cannot be read"):
        trail.demand_key()


def test_what_the_log_tells_of_a_type(trail: SqliteLog) -> None:
    trail.append([event(1), {"type": entry.ANCHOR, "ts": "x", "size": 1}, {"type": entry.ANCHOR, "ts": "y", "size": 2}])
    assert [value["size"] for value in trail.told(entry.ANCHOR)] == [1, 2]
    assert trail.told(entry.PRUNED) == []


def _rewrite(home: Home, place: int, nodes: bool) -> None:
    """Alter an entry and all that depends on it, but not what was signed."""
    with attacker(home) as connection:
        rows = connection.execute("SELECT seq, line, leaf FROM entries ORDER BY seq").fetchall()
        previous = rows[place - 1][2]
        for seq, line, _leaf in rows[place:]:
            value = {**canonical.decode(line.encode()), "number": 7777 if seq == place else 0}
            row = entry.seal(value, seq, previous)
            previous = row.leaf
            connection.execute(
                "UPDATE entries SET line = ?, leaf = ? WHERE seq = ?", ((row.line or b"").decode(), row.leaf, seq)
            )
        if nodes:
            leaves = [leaf for (leaf,) in connection.execute("SELECT leaf FROM entries ORDER BY seq")]
            for (index,) in connection.execute("SELECT idx FROM nodes").fetchall():
                folded = merkle.fold(leaves[index * 256 : (index + 1) * 256])
                connection.execute("UPDATE nodes SET hash = ? WHERE idx = ?", (folded, index))


@pytest.mark.parametrize("place", [3, 258])
def test_what_was_altered_is_not_signed_any_more(home: Home, trail: SqliteLog, place: int) -> None:
    """Or the key itself would make a forged log a good one."""
    trail.append([event(number) for number in range(300)])
    trail.add_checkpoint()
    trail.append([event()])
    _rewrite(home, place, nodes=True)
    with pytest.raises(FlowauditError, match="was altered below entry 301, so it is not signed any more; verify it"):
        trail.add_checkpoint()
    assert len(list(trail.checkpoints())) == 1
    finding = report(trail).finding
    assert finding is not None
    assert finding.first <= place <= finding.last


def test_hashes_that_were_not_altered_with_their_entries_are_found(home: Home, trail: SqliteLog) -> None:
    trail.append([event(number) for number in range(300)])
    _rewrite(home, 3, nodes=False)
    finding = report(trail).finding
    assert finding is not None
    assert "The stored hash 0 of level 8" in finding.message
    assert finding.first <= 3 <= finding.last


def test_a_log_that_was_cut_is_not_signed_any_more(home: Home, trail: SqliteLog) -> None:
    trail.append([event(number) for number in range(20)])
    trail.add_checkpoint()
    with attacker(home) as connection:
        connection.execute("DELETE FROM entries WHERE seq >= 15")
    assert trail.append([event()]) == range(15, 16)
    with pytest.raises(FlowauditError, match="was altered below entry 21"):
        trail.add_checkpoint()
    finding = report(trail).finding
    assert finding is not None
    assert finding.first <= 15 <= finding.last


@pytest.mark.parametrize("damage", ["'x'", "CAST(x'ff00fe' AS TEXT)", "x'00ff'", "12"])
def test_a_damaged_checkpoint_is_found_not_fatal(home: Home, trail: SqliteLog, damage: str) -> None:
    trail.append([event()])
    trail.add_checkpoint()
    with attacker(home) as connection:
        connection.execute(f"UPDATE checkpoints SET note = {damage}")
    finding = report(trail).finding
    assert finding is not None
    assert "is no checkpoint" in finding.message
    with pytest.raises(FlowauditError):
        trail.add_checkpoint()


@pytest.mark.parametrize(
    "damage",
    [
        "leaf = 'a string that is 32 characters..'",
        "leaf = zeroblob(32)",
        "line = NULL, leaf = 'a string that is 32 characters..'",
        "line = NULL",
        "line = 12",
    ],
)
def test_a_damaged_entry_is_found_not_fatal(home: Home, trail: SqliteLog, damage: str) -> None:
    trail.append([event(number) for number in range(5)])
    trail.add_checkpoint()
    with attacker(home) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'").fetchall():
            if name.startswith("entries_"):
                connection.execute(f"DROP INDEX {name}")
        connection.execute(f"UPDATE entries SET {damage} WHERE seq = 3")
    finding = report(trail).finding
    assert finding is not None
    assert (finding.first <= 3, finding.last) == (True, 3)


@pytest.mark.parametrize("damage", [b"\xff", b"\x00", b"{", b" "])
def test_bytes_that_are_altered_in_the_file_itself_are_found(home: Home, trail: SqliteLog, damage: bytes) -> None:
    trail.append([event(number, text="look here") for number in range(5)])
    trail.add_checkpoint()
    (row,) = trail.rows(3, 4)
    trail.forget()
    trail.close()
    line = row.line or b""
    content = home.database.read_bytes()
    assert content.count(line) == 1
    home.database.write_bytes(content.replace(line, line.replace(b"look", damage * 4)))
    with opened(home) as altered:
        finding = report(altered).finding
    assert finding is not None
    assert (finding.first, finding.last, finding.message[:19]) == (3, 3, "Entry 3 was altered")


def test_the_openings_are_bytes(trail: SqliteLog) -> None:
    opening = Opening("diff", b"\x00" * 32, b"")
    trail.append([event()], [opening])
    assert trail.openings([opening.commitment]) == {opening.commitment: opening}
