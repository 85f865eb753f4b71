# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Questions to a log, answered through its indexes: each names the one it uses, so none reads the whole log.

Answers are pages, the newest first. A page goes on behind the last item of the one before it, so that what is appended
in between shifts nothing. What was archived is not in the log any more and is not found.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import re
import time
import typing as t
from collections.abc import Iterator

from ..errors import FlowauditError
from . import canonical, entry
from .home import Home
from .run import ENDED
from .sqlite import SELDOM, SqliteLog

Fields = dict[str, t.Any]

_AGO = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>[smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_LIVING = 10  # runs that are looked at at once for one that is over
_OFTEN = frozenset({entry.TASK_START, entry.TASK_DISPATCHED, entry.TASK_RESULT})  # those that SELDOM leaves out
_NOBODY: Fields = {"user": None, "login_user": None, "uid": None}


@dataclasses.dataclass(frozen=True)
class Period:
    """From a moment on and before another one, as entries have them; empty for no limit."""

    since: str = ""
    until: str = ""

    def limits(self, column: str) -> tuple[list[str], list[str]]:
        """Conditions on a column, and their values."""
        pairs = [(f"{column} >= ?", self.since), (f"{column} < ?", self.until)]
        return [condition for condition, value in pairs if value], [value for _condition, value in pairs if value]


ALWAYS = Period()


@dataclasses.dataclass(frozen=True)
class RunFilter:
    """Which runs; what is empty says nothing."""

    run: str = ""
    change_id: str = ""
    host: str = ""
    status: str = ""  # ok, failed, unreachable, aborted, open
    user: str = ""  # the account, or the one that logged in
    playbook: str = ""  # its path, or the end of it
    command: str = ""
    period: Period = ALWAYS


@dataclasses.dataclass(frozen=True)
class EntryFilter:
    """Which entries; what is empty says nothing."""

    type: str = ""
    run: str = ""
    change_id: str = ""
    host: str = ""
    changed: bool = False  # only results that changed something
    failed: bool = False  # only results that failed or did not reach the host
    period: Period = ALWAYS


@dataclasses.dataclass(frozen=True)
class Page:
    """Some items; ``next`` is the ``before`` of the page after it, none when this is the last."""

    items: list[Fields]
    next: int | None


def moment(text: str, now: float | None = None) -> str:
    """A point in time, as entries have it.

    ``text`` is a date (its midnight, UTC), a date and time (ISO 8601; UTC, when it names no zone), or how long ago it
    was: ``90m``, ``24h``, ``7d``, ``2w``.

    Raises:
        FlowauditError: it is none of these.
    """
    if match := _AGO.fullmatch(text):
        now = time.time() if now is None else now
        return entry.timestamp(max(now - int(match["number"]) * _UNITS[match["unit"]], 0))
    try:
        value = datetime.datetime.fromisoformat(text)
        zoned = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return entry.timestamp(zoned.timestamp())
    except (ValueError, OverflowError) as error:
        raise FlowauditError(
            f"'{text}' is no point in time; write 2026-03-01, 2026-03-01T14:00:00Z, or how long ago: 90m, 24h, 7d, 2w."
        ) from error


def runs(log: SqliteLog, wanted: RunFilter, limit: int, before: int | None = None) -> Page:
    """The runs that fit, by their start."""
    where = ["s.type = 'run.start'"]
    values: list[t.Any] = []
    index = "entries_started"
    if wanted.run:
        index = "entries_run"
        where.append("s.run = ?")
        values.append(wanted.run)
    elif wanted.change_id:
        index = "entries_chg"
        where.append(f"s.{SELDOM}")
    if wanted.change_id:
        where.append("s.chg = ?")
        values.append(wanted.change_id)
    if wanted.host:
        where.append("EXISTS (SELECT 1 FROM entries INDEXED BY entries_run WHERE run = s.run AND host = ?)")
        values.append(wanted.host)
    if wanted.user:
        where.append(
            "EXISTS (SELECT 1 FROM openings WHERE commitment = s.actor AND kind = 'actor' AND ?"
            " IN (json_extract(CAST(value AS TEXT), '$.user'), json_extract(CAST(value AS TEXT), '$.login_user')))"
        )
        values.append(wanted.user)
    if wanted.playbook:
        where.append(
            "EXISTS (SELECT 1 FROM json_each(s.line, '$.playbook') WHERE value = ? OR"
            " substr(value, -length(?) - 1) = '/' || ?)"
        )
        values += [wanted.playbook] * 3
    if wanted.command:
        where.append("json_extract(s.line, '$.command') = ?")
        values.append(wanted.command)
    if wanted.status == "open":
        where.append(f"NOT EXISTS (SELECT 1 FROM entries INDEXED BY entries_ended WHERE run = s.run AND {ENDED})")
    elif wanted.status == "aborted":
        where.append(f"{_end_of('type')} = 'run.aborted'")
    elif wanted.status:
        where.append(f"{_end_of('status')} = ?")
        values.append(wanted.status)
    _add_limits(log, where, values, wanted.period, before)
    rows = log.ask(
        f"SELECT s.seq, s.line, {_end_of('line')} FROM entries AS s INDEXED BY {index} WHERE {' AND '.join(where)}"
        " ORDER BY s.ts DESC, s.seq DESC LIMIT ?",
        [*values, limit + 1],
    )
    page = rows[:limit]
    items = [_run(_decoded(line), None if end is None else _decoded(end)) for _seq, line, end in page]
    actors = _actors(log, [item["actor"] for item in items])
    items = [item | actors.get(item.pop("actor"), dict(_NOBODY)) for item in items]
    return Page(items, int(page[-1][0]) if len(rows) > limit else None)


def run(log: SqliteLog, run_id: str) -> Fields:
    """One run.

    Raises:
        FlowauditError: there is none of this id.
    """
    found = runs(log, RunFilter(run=run_id), 1).items
    if not found:
        raise FlowauditError(f"The trail in {log.home.path} has no run {run_id}; what was archived is not found here.")
    return found[0]


def last_run(log: SqliteLog) -> Fields:
    """The run that was started last and does not live any more: who asks is often recorded too.

    Raises:
        FlowauditError: there is none.
    """
    before: int | None = None
    while True:
        page = runs(log, RunFilter(), _LIVING, before)
        for item in page.items:
            if item["status"] != "open" or not is_alive(log.home, item["run"]):
                return item
        before = page.next
        if before is None:
            raise FlowauditError(f"The trail in {log.home.path} has no run that is over.")


def entries_of(log: SqliteLog, run_id: str) -> Iterator[Fields]:
    """The entries of a run, in order; memory holds their places, not their bytes."""
    for seq in places(log, EntryFilter(run=run_id)):
        for (line,) in log.ask("SELECT line FROM entries WHERE seq = ?", (seq,)):
            yield _decoded(line)


def entries(log: SqliteLog, wanted: EntryFilter, limit: int, before: int | None = None) -> Page:
    """The entries that fit, as they are stored."""
    index, where, values = _where(wanted)
    _add_limits(log, where, values, wanted.period, before)
    rows = log.ask(
        f"SELECT s.seq, s.line FROM entries AS s {index or 'INDEXED BY entries_ts'} WHERE {' AND '.join(where)}"
        " ORDER BY s.ts DESC, s.seq DESC LIMIT ?",
        [*values, limit + 1],
    )
    page = rows[:limit]
    return Page([_decoded(line) for _seq, line in page], int(page[-1][0]) if len(rows) > limit else None)


def places(log: SqliteLog, wanted: EntryFilter, first: int = 0, stop: int | None = None) -> list[int]:
    """Where the entries are that fit, from ``first`` to ``stop``, in order."""
    index, where, values = _where(wanted)
    _add_limits(log, where, values, wanted.period, None)
    where.append("s.seq >= ? AND s.seq < ?")
    values += [first, log.size() if stop is None else stop]
    if not index and wanted.period != ALWAYS:
        index = "INDEXED BY entries_ts"
    rows = log.ask(f"SELECT s.seq FROM entries AS s {index} WHERE {' AND '.join(where)} ORDER BY s.seq", values)
    return [int(seq) for (seq,) in rows]


def is_alive(home: Home, run_id: str) -> bool | None:
    """Whether the process of a run holds its lock; none when that cannot be told (another user's, another machine's).

    Not for a process that records a run itself: closing the file would let go of its own lock.
    """
    try:
        descriptor = os.open(home.runs / f"{run_id}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def snapshot(log: SqliteLog) -> Iterator[None]:
    """The log as it is at one moment, whatever others append meanwhile."""
    log.ask("BEGIN")
    try:
        yield
    finally:
        log.ask("COMMIT")


def _where(wanted: EntryFilter) -> tuple[str, list[str], list[t.Any]]:
    """The index that leaves least to look at (none when there is no such), the conditions and their values."""
    index, where = "", ["s.ts IS NOT NULL"]
    values: list[t.Any] = []
    if wanted.run:
        index = "INDEXED BY entries_run"
    elif wanted.change_id:
        of_change = f"FROM entries INDEXED BY entries_chg WHERE {SELDOM} AND chg = ?"
        where.append(
            f"s.seq IN (SELECT seq {of_change} UNION SELECT seq FROM entries INDEXED BY entries_run"
            f" WHERE run IN (SELECT run {of_change}))"
        )
        values += [wanted.change_id] * 2
        index = "NOT INDEXED"  # by their places
    elif wanted.failed:
        index = "INDEXED BY entries_failed"
    elif wanted.changed:
        index = "INDEXED BY entries_changed"
    elif wanted.type and wanted.type not in _OFTEN:
        index = "INDEXED BY entries_type"
        where.append(f"s.{SELDOM}")
    elif wanted.host:
        index = "INDEXED BY entries_host"
    for condition, value in (
        ("s.type = ?", wanted.type),
        ("s.run = ?", wanted.run),
        ("s.chg = ?", wanted.change_id),
        ("s.host = ?", wanted.host),
    ):
        if value:
            where.append(condition)
            values.append(value)
    if wanted.changed:
        where.append("s.changed = 1 AND s.type = 'task.result'")
    if wanted.failed:
        where.append("s.status IN ('failed', 'unreachable') AND s.type = 'task.result'")
    return index, where, values


def _add_limits(log: SqliteLog, where: list[str], values: list[t.Any], period: Period, before: int | None) -> None:
    conditions, moments = period.limits("s.ts")
    where += conditions
    values += moments
    if before is None:
        return
    rows = log.ask("SELECT ts FROM entries WHERE seq = ?", (before,))
    if not rows or rows[0][0] is None:
        raise FlowauditError(f"The trail in {log.home.path} has no entry {before} to go on behind.")
    where.append("(s.ts, s.seq) < (?, ?)")
    values += [rows[0][0], before]


def _end_of(column: str) -> str:
    """The column of the entry that ended a run; of the first, should there be two."""
    return f"(SELECT {column} FROM entries INDEXED BY entries_ended WHERE run = s.run AND {ENDED} ORDER BY seq LIMIT 1)"


def _run(start: Fields, end: Fields | None) -> Fields:
    end = end or {}
    playbook = start.get("playbook", [])
    status = "aborted" if end.get("type") == entry.RUN_ABORTED else end.get("status", "open")
    item: Fields = {
        "run": start["run"],
        "seq": start["seq"],
        "status": status,
        "started": start["ts"],
        "ended": end.get("ts"),
        "duration_ms": end.get("dur_ms"),
        "change_id": start.get("chg", ""),
        "playbook": [playbook] if isinstance(playbook, str) else playbook,
        "stats": end.get("stats", {}),
        "actor": start.get("actor", ""),
    }
    if status == "aborted":
        item |= {key: end[key] for key in ("reason", "signal", "last_seq", "last_ts", "tasks_in_flight") if key in end}
    # What else the callback said of the run, under the names it gave.
    known = {"v", "prev", "ts", "type", "chg"}
    return item | {key: value for key, value in start.items() if key not in item and key not in known}


def _actors(log: SqliteLog, commitments: list[str]) -> dict[str, Fields]:
    """Who is behind the commitments; what was erased is not there."""
    return {name: _actor(opening.value) for name, opening in log.openings(set(commitments)).items()}


def _actor(value: bytes) -> Fields:
    try:
        told = json.loads(value)
    except ValueError:
        told = None
    return {key: told.get(key) for key in _NOBODY} if isinstance(told, dict) else dict(_NOBODY)


def _decoded(line: str) -> Fields:
    return canonical.decode(line.encode())
