# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs, in one process; with real kills in tests/trail/test_writers.py."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import typing as t
from collections.abc import Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical, entry, run
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.commitment import commit
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.home import Home
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.run import Run, close_dead_runs
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.sqlite import SqliteLog
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.writer import Writer


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    return Home(tmp_path / "trail")


@pytest.fixture
def writer(home: Home) -> Iterator[Writer]:
    made = Writer(lambda: SqliteLog.open_or_create(home, "0.2.0"))
    yield made
    made.close()


@pytest.fixture
def log(home: Home) -> Iterator[SqliteLog]:
    made = SqliteLog.open_or_create(home, "0.2.0")
    yield made
    made.close()


def values(log: SqliteLog) -> list[dict[str, t.Any]]:
    return [canonical.decode(row.line) for row in log.rows() if row.line is not None][1:]


@contextlib.contextmanager
def alive(*runs: str) -> Iterator[None]:
    """In one process a lock never is somebody else's; these are."""
    honest = fcntl.lockf

    def lockf(descriptor: int, operation: int) -> None:
        if os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")) in {f"{run}.lock" for run in runs}:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        honest(descriptor, operation)

    fcntl.lockf = lockf  # type: ignore[assignment]
    try:
        yield
    finally:
        fcntl.lockf = honest


def started(log: SqliteLog, name: str, **fields: t.Any) -> None:
    log.append([{"type": entry.RUN_START, "ts": "2026-03-01T10:00:00.000Z", "run": name, **fields}])


def task(log: SqliteLog, name: str, kind: str, number: int, /, **fields: t.Any) -> None:
    log.append([{"type": kind, "ts": f"2026-03-01T10:00:{number:02d}.000Z", "run": name, **fields}])


# ── A run that ends by itself ────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_from_its_start_to_its_end(home: Home, writer: Writer, log: SqliteLog) -> None:
    mine = Run(writer, home)
    mine.change_id = "CHG-2026-0042"
    mine.hold()
    lock = home.runs / f"{mine.id}.lock"
    assert lock.exists()
    actor = commit("actor", b"ada")
    mine.record(entry.RUN_START, {"actor": actor.commitment}, [actor])
    mine.flush()
    assert log.size() == 2
    mine.record(entry.EVENT, {"text": "x"})
    mine.end(entry.RUN_END, {"status": "ok"})
    assert not lock.exists()
    assert mine.ended
    found = values(log)
    assert [value["type"] for value in found] == [entry.RUN_START, entry.EVENT, entry.RUN_END]
    assert {(value["run"], value["chg"]) for value in found} == {(mine.id, "CHG-2026-0042")}
    assert log.openings([actor.commitment]) == {actor.commitment: actor}


def test_a_run_ends_once(home: Home, writer: Writer, log: SqliteLog) -> None:
    mine = Run(writer, home, "r1")
    mine.hold()
    mine.end(entry.RUN_ABORTED, {"reason": "signal"})
    mine.end(entry.RUN_END, {"status": "ok"})
    mine.hold()
    assert [value["type"] for value in values(log)] == [entry.RUN_ABORTED]
    assert list(home.runs.iterdir()) == []


def test_a_run_without_a_change_has_none(home: Home, writer: Writer, log: SqliteLog) -> None:
    mine = Run(writer, home, "r1")
    mine.record(entry.EVENT, {})
    mine.flush()
    assert set(values(log)[0]) == {"v", "seq", "prev", "ts", "type", "run"}
    mine.end(entry.RUN_END, {})


def test_what_a_run_says_of_itself_is_its_own(home: Home, writer: Writer, log: SqliteLog) -> None:
    mine = Run(writer, home, "r1")
    mine.record(entry.EVENT, {"run": "other", "type": "run.end", "ts": "2026-01-01T00:00:00.000Z"})
    mine.flush()
    (value,) = values(log)
    assert (value["run"], value["type"], value["ts"]) == ("r1", entry.EVENT, "2026-01-01T00:00:00.000Z")


def test_the_lock_is_taken_once(home: Home, writer: Writer) -> None:
    mine = Run(writer, home, "r1")
    mine.hold()
    before = os.listdir("/proc/self/fd")
    mine.hold()
    assert os.listdir("/proc/self/fd") == before
    mine.end(entry.RUN_END, {})


def test_a_lock_that_cannot_be_had_stops_the_run(home: Home, writer: Writer) -> None:
    home.make()
    before = len(os.listdir("/proc/self/fd"))
    with alive("r1"), pytest.raises(FlowauditError, match=r"The run cannot be recorded: .*r1\.lock: Resource temp"):
        Run(writer, home, "r1").hold()
    assert len(os.listdir("/proc/self/fd")) == before
    (home.runs / "r2.lock").mkdir()
    with pytest.raises(FlowauditError, match=r"The run cannot be recorded: .*r2\.lock: Is a directory\."):
        Run(writer, home, "r2").hold()


def test_an_end_that_cannot_be_written_leaves_the_run_to_others(
    home: Home, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Run(writer, home, "r1")
    mine.hold()

    def fail() -> None:
        raise FlowauditError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "flush", fail)
        with pytest.raises(FlowauditError, match="The disk is full"):
            mine.end(entry.RUN_END, {})
    assert (home.runs / "r1.lock").exists()


# ── Runs that were killed ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_killed_run_is_aborted_with_what_it_was_doing(log: SqliteLog, home: Home) -> None:
    started(log, "r1", chg="CHG-1")
    task(log, "r1", entry.TASK_START, 1, task="t1", name="Copy", src="main.yml:1", chg="CHG-1")
    task(log, "r1", entry.TASK_DISPATCHED, 2, task="t1", hosts=["web01", "web02"])
    task(log, "r1", entry.TASK_RESULT, 3, task="t1", host="web01", status="ok")
    task(log, "r1", entry.TASK_DISPATCHED, 4, task="t9", hosts=["web03"])
    assert close_dead_runs(log) == ["r1"]
    aborted = values(log)[-1]
    assert {key: aborted[key] for key in set(aborted) - {"v", "seq", "prev", "ts"}} == {
        "type": entry.RUN_ABORTED,
        "run": "r1",
        "chg": "CHG-1",
        "reason": "killed",
        "last_seq": 5,
        "last_ts": "2026-03-01T10:00:04.000Z",
        "tasks_in_flight": [
            {"host": "web02", "task": "t1", "name": "Copy", "src": "main.yml:1"},
            {"host": "web03", "task": "t9", "name": "", "src": ""},
        ],
    }
    assert list(home.runs.iterdir()) == []


def test_a_task_that_had_only_begun_is_in_flight_on_nobody_knows_where(log: SqliteLog) -> None:
    for name, fqcn in (("r1", "ansible.builtin.copy"), ("r2", "ansible.builtin.meta")):
        started(log, name)
        task(log, name, entry.TASK_START, 1, task="t1", name="A", src="", fqcn=fqcn)
        task(log, name, entry.TASK_RESULT, 2, task="t1", host="h", status="ok")
        task(log, name, entry.TASK_START, 3, task="t2", name="B", src="", fqcn=fqcn)
    assert sorted(close_dead_runs(log)) == ["r1", "r2"]
    flying = {value["run"]: value["tasks_in_flight"] for value in values(log)[-2:]}
    assert flying == {"r1": [{"host": "?", "task": "t2", "name": "B", "src": ""}], "r2": []}


def test_an_id_that_is_no_name_of_a_file_opens_and_deletes_none(log: SqliteLog, home: Home) -> None:
    victim = home.path / "victim.lock"
    victim.touch()
    started(log, "../victim")
    assert close_dead_runs(log) == []
    assert victim.exists()


def test_a_lock_that_cannot_be_opened_is_said(log: SqliteLog, home: Home) -> None:
    started(log, "r1")
    (home.runs / "r1.lock").mkdir()
    with pytest.raises(FlowauditError, match="Whether a run still lives cannot be told"):
        close_dead_runs(log)


def test_another_task_may_have_begun_meanwhile(log: SqliteLog) -> None:
    started(log, "r1")
    task(log, "r1", entry.TASK_DISPATCHED, 1, task="t0", hosts=["h1"])
    task(log, "r1", entry.TASK_START, 2, task="t1", name="A", src="", fqcn="x")
    task(log, "r1", entry.TASK_DISPATCHED, 3, task="t0", hosts=["h2"])
    task(log, "r1", entry.TASK_RESULT, 4, task="t0", host="h1", status="ok")
    assert close_dead_runs(log) == ["r1"]
    assert [(item["host"], item["task"]) for item in values(log)[-1]["tasks_in_flight"]] == [("h2", "t0"), ("?", "t1")]


def test_the_dead_are_closed_and_the_living_are_not(log: SqliteLog, home: Home) -> None:
    for number in range(6):
        started(log, f"r{number}")
    log.append([{"type": entry.RUN_END, "ts": "x", "run": "r0"}, {"type": entry.RUN_ABORTED, "ts": "x", "run": "r1"}])
    (home.runs / "r2.lock").touch()
    (home.runs / "r3.lock").touch()
    with alive("r3"):
        assert close_dead_runs(log, "r5") == ["r2", "r4"]
        assert close_dead_runs(log, "r5") == []
    assert sorted(path.name for path in home.runs.iterdir()) == ["r3.lock"]
    assert close_dead_runs(log) == ["r3", "r5"]
    assert close_dead_runs(log) == []


def test_a_run_without_any_change_is_aborted_without_one(log: SqliteLog) -> None:
    started(log, "r1")
    close_dead_runs(log)
    assert "chg" not in values(log)[-1]


def test_of_two_who_find_a_dead_run_one_closes_it(log: SqliteLog, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other has asked which runs are open before, and gets the lock after."""
    started(log, "r1")
    honest = run._lock_of_the_dead

    def late(path: pathlib.Path) -> int | None:
        monkeypatch.setattr(run, "_lock_of_the_dead", honest)
        other = SqliteLog(home)
        assert close_dead_runs(other) == ["r1"]
        other.close()
        return honest(path)

    monkeypatch.setattr(run, "_lock_of_the_dead", late)
    assert close_dead_runs(log) == []
    assert [value["type"] for value in values(log)] == [entry.RUN_START, entry.RUN_ABORTED]
    assert list(home.runs.iterdir()) == []


def test_a_run_that_ends_while_it_is_looked_at_is_left(
    log: SqliteLog, home: Home, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Run(writer, home, "r1")
    mine.hold()
    mine.record(entry.RUN_START, {})
    mine.flush()
    honest = run._lock_of_the_dead

    def late(path: pathlib.Path) -> int | None:
        mine.end(entry.RUN_END, {})
        return honest(path)

    monkeypatch.setattr(run, "_lock_of_the_dead", late)
    assert close_dead_runs(log) == []
    assert [value["type"] for value in values(log)] == [entry.RUN_START, entry.RUN_END]
    assert list(home.runs.iterdir()) == []


def test_a_dead_run_that_cannot_be_recorded_stays_open(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    started(log, "r1")

    def fail(*arguments: t.Any) -> None:
        raise FlowauditError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(log, "append", fail)
        with pytest.raises(FlowauditError, match="The disk is full"):
            close_dead_runs(log)
    assert close_dead_runs(log) == ["r1"]


def test_what_was_pruned_of_a_run_is_passed_over(log: SqliteLog) -> None:
    started(log, "r1")
    task(log, "r1", entry.TASK_START, 1, task="t1", name="A", src="", fqcn="x")
    task(log, "r1", entry.TASK_RESULT, 2, task="t1", host="h", status="ok")
    with log.changing() as connection:
        connection.execute("UPDATE entries SET line = NULL WHERE seq = 2")
    assert close_dead_runs(log) == ["r1"]
    assert values(log)[-1]["last_seq"] == 3
