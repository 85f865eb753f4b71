# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sign a log, tell the anchors, ship it; the log is real, those who are told are played."""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t
from collections.abc import Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import anchors, canonical, entry, postgres, publish
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.publish import Publisher, Publishing
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.sqlite import SqliteLog
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.writer import Writer

FINE = anchors.Outcome("worm", True, "/worm/1.checkpoint")
SILENT = anchors.Outcome("syslog", False, "Nobody answers at tls://me:secret@log.example.org.")
DATABASE = Publishing(database="service=trail")


class Shared:
    """Plays the shared database."""

    made: t.ClassVar[list[Shared]] = []
    takes = 1_000  # entries at once
    refuses = ""

    def __init__(self, conninfo: str) -> None:
        assert conninfo == DATABASE.database
        self.made.append(self)
        self.size = 0
        self.open = True

    def ship(self, log: SqliteLog, seconds: float) -> t.Any:
        if self.refuses:
            raise FlowauditError(self.refuses)
        assert seconds == publish.PATIENCE
        self.size = min(log.size(), self.size + self.takes)
        return type("Shipped", (), {"size": self.size, "witnessed": self.size})

    def close(self) -> None:
        self.open = False


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> type[Shared]:
    made = type("Played", (Shared,), {"made": []})
    monkeypatch.setattr(postgres, "PostgresLog", made)
    return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints that anchors were told of; each says FINE."""
    notes: list[str] = []

    def keep_all(keepers: t.Any, signed: str, timeout: float) -> list[anchors.Outcome]:
        notes.append(signed)
        return [FINE]

    monkeypatch.setattr(anchors, "keep_all", keep_all)
    return notes


@pytest.fixture
def writer(log: SqliteLog) -> Iterator[Writer]:
    made = Writer(lambda: SqliteLog(log.home))
    yield made
    made.close()


def anchored(log: SqliteLog) -> list[dict[str, t.Any]]:
    values = [canonical.decode(row.line) for row in log.rows() if row.line is not None]
    return [value for value in values if value["type"] == entry.ANCHOR]


# ── At once ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_whoever_is_to_be_told_is_told_and_it_is_recorded(
    log: SqliteLog, told: list[str], shared: type[Shared]
) -> None:
    assert publish.publish(log, DATABASE) == [FINE, anchors.Outcome("postgres", True, "1 entries, witnessed to 1")]
    assert told == list(log.checkpoints())
    (found,) = anchored(log)
    assert found["size"] == 1 and [item["keeper"] for item in found["results"]] == ["worm", "postgres"]
    assert not shared.made[0].open


def test_when_there_is_nobody_it_is_only_signed(log: SqliteLog) -> None:
    assert publish.publish(log, Publishing()) == []
    assert len(list(log.checkpoints())) == 1 and anchored(log) == []


def test_what_others_say_is_recorded_without_secrets() -> None:
    (result,) = publish.anchor_entry(7, [SILENT])["results"]
    assert result == {
        "keeper": "syslog",
        "kept": False,
        "detail": "Nobody answers at tls://[withheld]@log.example.org.",
    }


def test_what_could_not_be_sent_is_said(log: SqliteLog, told: list[str], shared: type[Shared]) -> None:
    log.append([{"type": entry.EVENT, "ts": entry.timestamp()} for number in range(4)])
    shared.takes = 3
    assert publish.publish(log, DATABASE)[1] == anchors.Outcome("postgres", False, "2 entries are still to be sent.")
    shared.refuses = "It was forked."
    assert publish.publish(log, DATABASE)[1] == anchors.Outcome("postgres", False, "It was forked.")


def test_a_run_is_published_in_its_end(log: SqliteLog, told: list[str], writer: Writer) -> None:
    publisher = Publisher(Publishing(), log.home)
    publisher.start()
    assert publisher.finish(writer) == []
    assert told == list(log.checkpoints()) and len(anchored(log)) == 1
    publisher.stop()


def test_what_did_not_work_is_said(log: SqliteLog, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors, "keep_all", lambda keepers, signed, timeout: [FINE, SILENT])
    assert Publisher(Publishing(), log.home).finish(writer) == [f"The trail's anchor syslog: {SILENT.detail}"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FlowauditError("The key is lost."), "The trail could not be signed: The key is lost."),
        (ValueError("what"), "The trail could not be signed: ValueError: what"),
    ],
)
def test_a_log_that_cannot_be_signed_is_said(
    log: SqliteLog, writer: Writer, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fails(log: SqliteLog) -> t.NoReturn:
        raise error

    monkeypatch.setattr(SqliteLog, "add_checkpoint", fails)
    assert Publisher(Publishing(), log.home).finish(writer) == [message]


def test_anchors_that_do_not_answer_do_not_hold_up_the_end(
    log: SqliteLog, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()

    def keep_all(keepers: t.Any, signed: str, timeout: float) -> list[anchors.Outcome]:
        answer.wait(30)
        return [FINE]

    monkeypatch.setattr(anchors, "keep_all", keep_all)
    monkeypatch.setattr(publish, "PATIENCE", 0.05)
    publisher = Publisher(Publishing(anchors=anchors.Settings(timeout=0.05)), log.home)
    begun = time.monotonic()
    assert publisher.finish(writer) == ["The trail's anchors did not answer in time; they are told with the next run."]
    assert time.monotonic() - begun < 10
    answer.set()
    with contextlib.suppress(AttributeError):
        next(thread for thread in threading.enumerate() if thread.name == "flowaudit-trail-tell").join()


def test_in_between_they_are_told_now_and_then(log: SqliteLog, told: list[str], writer: Writer) -> None:
    seldom, often = Publisher(Publishing(every=3600), log.home), Publisher(Publishing(every=0), log.home)
    seldom.tick(writer)
    assert told == []
    often.tick(writer)
    deadline = time.monotonic() + 20
    while not anchored(log) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(told) == 1 and len(anchored(log)) == 1


def test_a_log_is_shipped_while_the_run_lasts(
    log: SqliteLog, told: list[str], writer: Writer, shared: type[Shared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "PAUSE", 0.01)
    shared.takes = 1
    publisher = Publisher(DATABASE, log.home)
    publisher.start()
    log.append([{"type": entry.EVENT, "ts": entry.timestamp()} for number in range(4)])
    deadline = time.monotonic() + 20
    while not (shared.made and shared.made[0].size == 5) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shared.made[0].size == 5 and len(shared.made) == 1
    assert publisher.finish(writer) == []
    assert not shared.made[0].open
    # The database's answer is in the entry; the entry itself is shipped by the next run.
    assert anchored(log)[0]["results"][1]["detail"] == "5 entries, witnessed to 5"


def test_a_database_that_refuses_is_said_in_the_end(
    log: SqliteLog, told: list[str], writer: Writer, shared: type[Shared]
) -> None:
    shared.refuses = "It is down."
    publisher = Publisher(DATABASE, log.home)
    publisher.start()
    assert publisher.finish(writer) == ["The trail's anchor postgres: It is down."]


@pytest.mark.parametrize(
    ("error", "detail"),
    [(FlowauditError("There is no trail."), "There is no trail."), (OSError("no"), "It failed: OSError: no")],
)
def test_a_shipper_that_cannot_begin_is_said_in_the_end(
    log: SqliteLog, told: list[str], writer: Writer, monkeypatch: pytest.MonkeyPatch, error: Exception, detail: str
) -> None:
    writer.flush()

    def fails(home: t.Any) -> t.NoReturn:
        raise error

    monkeypatch.setattr(publish, "SqliteLog", fails)
    publisher = Publisher(DATABASE, log.home)
    publisher.start()
    assert publisher.finish(writer) == [f"The trail's anchor postgres: {detail}"]


def test_when_python_ends_it_is_done_without_threads(
    log: SqliteLog, told: list[str], writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> t.NoReturn:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Publisher(Publishing(), log.home).finish(writer) == []
    assert told == list(log.checkpoints())


def test_a_database_that_nobody_can_reach_is_said(
    log: SqliteLog, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(conninfo: str) -> t.NoReturn:
        raise FlowauditError("It cannot be reached.")

    monkeypatch.setattr(postgres, "PostgresLog", unreachable)
    assert publish.publish(log, DATABASE)[1] == anchors.Outcome("postgres", False, "It cannot be reached.")
