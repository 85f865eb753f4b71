# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A run: what happens between the start of a command and its end, also when the end is a kill."""

from __future__ import annotations

import fcntl
import os
import pathlib
import re
import typing as t
from collections.abc import Iterator, Sequence

from ..errors import FlowauditError
from . import canonical, entry
from .commitment import Opening
from .home import Home
from .sqlite import SELDOM, SqliteLog
from .writer import Writer

Fields = dict[str, t.Any]

ENDED = "type IN ('run.end', 'run.aborted')"  # in SQL, as the index has it

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_NO_HOST = frozenset({"meta", "ansible.builtin.meta"})  # tasks that no host does


class Run:
    """The run of this process, as the trail has it."""

    def __init__(self, writer: Writer, home: Home | None, run_id: str = "") -> None:
        """``home`` is where its lock lies; none when something else tells others that it lives (a connection)."""
        self.id = run_id or entry.new_id()
        self.change_id = ""
        self.ended = False
        self._writer = writer
        self._home = home
        self._lock: int | None = None

    def record(self, kind: str, fields: Fields, openings: Sequence[Opening] = ()) -> None:
        """Record something that has happened; returns at once."""
        draft = {"ts": entry.timestamp(), **fields, "type": kind, "run": self.id}
        if self.change_id:
            draft["chg"] = self.change_id
        self._writer.put(draft, openings)

    def flush(self) -> None:
        """Wait until what was recorded is durable.

        Raises:
            FlowauditError: it is not.
        """
        self._writer.flush()

    def end(self, kind: str, fields: Fields) -> None:
        """Record how the run ended; nothing comes after it.

        Raises:
            FlowauditError: the trail cannot be written; the run will show as aborted.
        """
        if self.ended:
            return
        self.ended = True
        self.record(kind, fields)
        self._writer.flush()
        self._release()

    def hold(self) -> None:
        """Take the lock by which others know that this run lives; once is enough.

        Raises:
            FlowauditError: it cannot be had.
        """
        if self._lock is not None or self.ended or self._home is None:
            return
        path = _lock_path(self._home, self.id)
        try:
            self._home.make()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # POSIX locks are those of a process: a worker that outlives it does not hold it.
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise
            self._lock = descriptor
        except OSError as error:
            raise FlowauditError(f"The run cannot be recorded: {path}: {error.strerror}.") from error

    def _release(self) -> None:
        if self._lock is not None and self._home is not None:
            _lock_path(self._home, self.id).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def open_runs(log: SqliteLog) -> list[str]:
    """The runs that have not ended: those that live, and those that were killed and not closed yet; oldest first."""
    rows = log.ask(
        "SELECT s.run FROM entries AS s INDEXED BY entries_started WHERE s.type = 'run.start'"
        " AND s.run IS NOT NULL AND NOT EXISTS"
        f" (SELECT 1 FROM entries INDEXED BY entries_ended WHERE run = s.run AND {ENDED}) ORDER BY s.ts, s.seq"
    )
    return [str(found) for (found,) in rows]


def close_dead_runs(log: SqliteLog, own: str = "") -> list[str]:
    """Record the runs whose process is gone as aborted, with what they were doing; returns their ids.

    ``own`` is the run of this process, which is left alone (and whose lock must not be touched: closing a file lets go
    of all POSIX locks on it).
    """
    closed: list[str] = []
    if log.home.custody.exists():
        # Its runs live by their connections, of which only the service knows.
        return closed
    for run in open_runs(log):
        # An id is the name of a file here; one that somebody else has written may be anything.
        if run == own or not _ID.fullmatch(run):
            continue
        path = _lock_path(log.home, run)
        descriptor = _lock_of_the_dead(path)
        if descriptor is None:
            continue
        try:
            # Somebody else may have closed it, or it may have ended, before the lock was ours.
            if not log.ask("SELECT 1 FROM entries WHERE run = ? AND type IN ('run.end', 'run.aborted')", (run,)):
                log.append([aborted(log, run)])
                closed.append(run)
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return closed


def unended(log: SqliteLog) -> list[str]:
    """The runs that have begun, or were let begin, and have not ended; for who knows that none of them lives."""
    rows = log.ask(
        f"SELECT DISTINCT run FROM entries INDEXED BY entries_type WHERE {SELDOM}"
        f" AND type IN ('{entry.RUN_START}', '{entry.RUN_AUTHORIZED}') AND run NOT IN"
        f" (SELECT run FROM entries INDEXED BY entries_ended WHERE {ENDED} AND run IS NOT NULL) ORDER BY ts, seq"
    )
    return [str(found) for (found,) in rows]


def aborted(log: SqliteLog, run: str) -> entry.Draft:
    """The entry that says of a run that it was killed, with what it was doing."""
    last, chg, ts = -1, "", ""
    started: dict[str, Fields] = {}
    flying: dict[tuple[str, str], None] = {}
    waiting = ""  # the task that began last and of which nothing else is known
    for seq, line in _lines(log, run):
        value = canonical.decode(line.encode())
        last, chg, ts = seq, value.get("chg", chg), value["ts"]
        # Whatever it is: a run that was recorded is closed, also when what it said makes no sense.
        task, host, hosts = (value.get(name) for name in ("task", "host", "hosts"))
        if not isinstance(task, str):
            continue
        if value["type"] == entry.TASK_START:
            started[task] = value
            waiting = task
        elif value["type"] == entry.TASK_DISPATCHED:
            flying |= {
                (name, task): None for name in (hosts if isinstance(hosts, list) else ()) if isinstance(name, str)
            }
            waiting = "" if task == waiting else waiting
        elif value["type"] == entry.TASK_RESULT:
            if isinstance(host, str):
                flying.pop((host, task), None)
            waiting = "" if task == waiting else waiting
    if waiting and started[waiting].get("fqcn") not in _NO_HOST:
        # Killed before it was written which hosts had begun.
        flying[("?", waiting)] = None
    draft: entry.Draft = {
        "type": entry.RUN_ABORTED,
        "ts": entry.timestamp(),
        "run": run,
        "reason": "killed",
        "last_seq": last,
        "last_ts": ts,
        "tasks_in_flight": in_flight(flying, started),
    }
    return {**draft, "chg": chg} if chg else draft


def _lines(log: SqliteLog, run: str) -> Iterator[tuple[int, str]]:
    """The entries of a run, in order; memory does not grow with their number."""
    question = "SELECT seq, line FROM entries WHERE run = ? AND line IS NOT NULL AND seq > ? ORDER BY seq LIMIT 1000"
    rows = log.ask(question, (run, -1))
    while rows:
        yield from ((int(seq), str(line)) for seq, line in rows)
        rows = log.ask(question, (run, rows[-1][0]))


def in_flight(flying: t.Iterable[tuple[str, str]], started: t.Mapping[str, Fields]) -> list[Fields]:
    """The tasks that hosts were at, for people: ``flying`` as (host, task), ``started`` as task → its start."""
    return [
        {
            "host": host,
            "task": task,
            "name": started.get(task, {}).get("name", ""),
            "src": started.get(task, {}).get("src", ""),
        }
        for host, task in flying
    ]


def _lock_path(home: Home, run: str) -> pathlib.Path:
    return home.runs / f"{run}.lock"


def _lock_of_the_dead(path: pathlib.Path) -> int | None:
    """The lock of a run whose process is gone; none while it lives."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FlowauditError(f"Whether a run still lives cannot be told: {path}: {error.strerror}.") from error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
