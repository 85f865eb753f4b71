# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import gzip
import hashlib
import pathlib

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import (
    archive,
    commitment,
    entry,
    home,
    sqlite,
    verify,
)

DAY = 86400.0


@pytest.fixture
def directory(tmp_path):
    made = tmp_path / "archive"
    made.mkdir()
    return made


@pytest.fixture
def old(tmp_path, clock, monkeypatch):
    """A log of 100 days, ten entries a day; three of the entries are committed to a person."""
    monkeypatch.setattr(archive, "LARGEST", 200)
    monkeypatch.setattr(archive, "_STRADDLE", 10)
    end = clock.now
    clock.now = end - 100 * DAY
    log = sqlite.SqliteLog.open_or_create(home.Home(tmp_path / "trail"), "0.2.0", "test")
    for day in range(100):
        clock.now = end - (100 - day) * DAY + 60
        opening = commitment.commit("actor", f'{{"user":"person{day}"}}'.encode())
        drafts = [{"type": "task.result", "ts": clock.timestamp(), "host": f"h{n}", "status": "ok"} for n in range(9)]
        log.append([{"type": "run.start", "ts": clock.timestamp(), "actor": opening.commitment}, *drafts], [opening])
        if day % 30 == 0:
            log.add_checkpoint()
    clock.now = end
    log.add_checkpoint()
    yield log
    log.close()


def before(clock, days):
    return clock.timestamp(clock.now - days * DAY)


def report(log, rows=None):
    made = verify.verify(log.origin, log.rows() if rows is None else rows, log.checkpoints())
    assert made.finding is None
    return made


def test_what_is_old_goes_into_files_and_the_log_stays_whole(old, directory, clock):
    size = old.size()
    planned = archive.due(old, before(clock, 50))
    made = archive.archive(old, str(directory), before(clock, 50))
    assert [(item.first, item.last, item.file) for item in planned] == [
        (item.first, item.last, item.file) for item in made
    ]
    assert [(item.first, item.last) for item in made] == [(0, 199), (200, 399), (400, 500)]
    assert sorted(path.name for path in directory.iterdir()) == sorted(item.file for item in made)
    assert old.size() == size + 3
    # The first entry names the key, so it stays.
    assert report(old).pruned == 500
    assert report(old, archive.with_archives(old, str(directory))).pruned == 0
    assert archive.archive(old, str(directory), before(clock, 50)) == []
    assert archive.due(old, before(clock, 50)) == []
    # A day later there is a little more.
    assert [(item.first, item.last) for item in archive.archive(old, str(directory), before(clock, 49))] == [(501, 510)]


def test_the_last_entry_always_stays(old, directory, clock):
    clock.now += 1000 * DAY
    archive.archive(old, str(directory), before(clock, 1))
    rows = list(old.rows())
    assert rows[-1].line is not None
    old.append([{"type": "event", "ts": clock.timestamp()}])
    report(old)


def test_no_bytes_of_an_archived_entry_stay_in_the_files(old, directory, clock):
    def contents():
        return b"".join(path.read_bytes() for path in old.home.path.iterdir() if path.is_file())

    fifth_day = clock.timestamp(clock.now - 95 * DAY + 60).encode()
    assert fifth_day in contents()
    archive.archive(old, str(directory), before(clock, 50))
    assert fifth_day not in contents()


def test_files_that_are_over_go_with_their_openings(old, directory, clock):
    archive.archive(old, str(directory), before(clock, 50))
    assert archive.prune(old, str(directory), before(clock, 200)) == []
    people = len(old.ask("SELECT 1 FROM openings"))
    gone = archive.over(old, str(directory), before(clock, 70))
    assert archive.prune(old, str(directory), before(clock, 70)) == gone
    assert [(item.first, item.last) for item in gone] == [(0, 199)]
    assert not (directory / gone[0].file).exists()
    # Those at the very end of the file stay until the next: better late than one too many.
    assert len(old.ask("SELECT 1 FROM openings")) == people - 19
    assert archive.pruned_until(old) == 200
    assert report(old, archive.with_archives(old, str(directory))).pruned == 199
    assert archive.prune(old, str(directory), before(clock, 70)) == []


def test_a_file_that_is_missing_or_altered_is_found(old, directory, clock):
    first, second, _third = archive.archive(old, str(directory), before(clock, 50))
    path = directory / second.file
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(FlowauditError, match="was altered"):
        list(archive.with_archives(old, str(directory)))
    path.unlink()
    with pytest.raises(FlowauditError, match="cannot be read"):
        list(archive.with_archives(old, str(directory)))
    (directory / first.file).unlink()
    with pytest.raises(FlowauditError, match="bring it back"):
        archive.over(old, str(directory), before(clock, 1))


def test_the_log_lets_go_of_nothing_that_the_file_does_not_hold(old, directory, clock, monkeypatch):
    read = archive._lines
    monkeypatch.setattr(archive, "_lines", lambda path, sha256: [*read(path, sha256)[:-1], b"{}"])
    with pytest.raises(FlowauditError, match="does not hold entry 199; the log still does"):
        archive.archive(old, str(directory), before(clock, 50))
    assert report(old).pruned == 0
    monkeypatch.undo()


@pytest.mark.parametrize("step", ["write", "record", "release"])
def test_what_a_kill_left_is_done_again(old, directory, clock, monkeypatch, step):
    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(archive.os, "replace", killed)
        elif step == "record":
            patch.setattr(old, "append", killed)
        else:
            patch.setattr(old, "changing", killed)
        with pytest.raises(Killed):
            archive.archive(old, str(directory), before(clock, 50))
    assert report(old).pruned == 0
    archive.archive(old, str(directory), before(clock, 50))
    made = report(old, archive.with_archives(old, str(directory)))
    assert made.pruned == 0
    assert not [path for path in directory.iterdir() if path.name.startswith(".")]
    # Recorded but not released: these bytes are in both places, which is harmless.
    assert report(old).pruned == (301 if step == "release" else 500)


def test_a_directory_that_cannot_be_written_is_said(old, directory, clock, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.os, "fsync", full)
    with pytest.raises(FlowauditError, match="No space left on device"):
        archive.archive(old, str(directory), before(clock, 50))
    assert list(directory.iterdir()) == []
    with pytest.raises(FlowauditError, match="cannot be written"):
        archive.archive(old, str(pathlib.Path(directory, "none")), before(clock, 50))


def test_what_the_log_tells_of_files_is_not_believed_blindly(old, directory, clock):
    made = archive.archive(old, str(directory), before(clock, 50))[0]
    short = gzip.compress(b"{}\n")
    (directory / made.file).chmod(0o600)
    (directory / made.file).write_bytes(short)
    told = {"type": entry.ARCHIVED, "ts": clock.timestamp(), "first": 1, "last": 2}
    digest = hashlib.sha256(short).hexdigest()
    with old.changing() as connection:
        ((trigger,),) = old.ask("SELECT sql FROM sqlite_master WHERE name = 'entries_are_append_only'")
        connection.execute("DROP TRIGGER entries_are_append_only")
        connection.execute("UPDATE entries SET line = replace(line, ?, ?)", (made.sha256, digest))
        connection.execute(trigger)
    with pytest.raises(FlowauditError, match="has 1 entries, not 200"):
        list(archive.with_archives(old, str(directory)))
    old.append([{**told, "file": "../trail/signing.key", "sha256": "0" * 64}])
    with pytest.raises(FlowauditError, match=r"'../trail/signing.key', which it would not name so"):
        archive.over(old, str(directory), before(clock, 1))


def test_an_entry_without_bytes_is_not_archived_as_if_it_had_some(old, directory, clock):
    with old.changing() as connection:
        connection.execute("UPDATE entries SET line = NULL WHERE seq = 7")
    with pytest.raises(FlowauditError, match="Entry 7 has no bytes"):
        archive.archive(old, str(directory), before(clock, 50))


def test_kept_for_ever_is_kept(old, directory, clock):
    old.append([{"type": entry.REDACTION, "ts": clock.timestamp(clock.now), "commitments": [], "reason": "x"}])
    clock.now += 400 * DAY
    archive.archive(old, str(directory), before(clock, 90))
    kinds = {row[0] for row in old.ask("SELECT type FROM entries WHERE line IS NOT NULL")}
    assert entry.REDACTION in kinds
    assert entry.LOG_CREATED in kinds
