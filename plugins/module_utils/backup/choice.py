# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What to recover a database from: which base backup and which part of the log lead to the moment that is wanted."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
from collections.abc import Sequence

from ..errors import FlowauditError
from .records import moment, stamp
from .restic import Snapshot

LATEST = "latest"
_SECOND = datetime.timedelta(seconds=1)
#: What two hosts' clocks may differ by.
_SKEW = datetime.timedelta(minutes=1)
#: The end of a restore point's name, as a deployment gives it: pre-1.2.0-20260131T120000Z.
_POINT = re.compile(r"[A-Za-z0-9._-]+-(?P<at>\d{8}T\d{6}Z)")


@dataclasses.dataclass(frozen=True)
class Goal:
    """The moment that is wanted.

    Attributes:
        point: name of a restore point; empty for a time or the end.
        time: the moment, or that of the restore point; None for the end of what there is.
    """

    point: str = ""
    time: datetime.datetime | None = None

    def __str__(self) -> str:
        return self.point or (stamp(self.time) if self.time else LATEST)


@dataclasses.dataclass(frozen=True)
class Way:
    """What leads there.

    Attributes:
        base: the base backup.
        log: the part of the log, up to the goal or the end.
        reaches: the moment up to which the log certainly reaches.
        heartbeat: one that was received before the goal, so it must be in what is recovered; None where none is known.
    """

    base: Snapshot
    log: Snapshot
    reaches: datetime.datetime
    heartbeat: datetime.datetime | None = None


def goal(text: str) -> Goal:
    """Read what a person gives: ``latest``, a time with its zone, or a restore point.

    Raises:
        FlowauditError: it is none of them.
    """
    text = text.strip()
    if text == LATEST:
        return Goal()
    match = _POINT.fullmatch(text)
    if match:
        with contextlib.suppress(ValueError):
            at = datetime.datetime.strptime(match["at"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
            return Goal(text, at)
    time = None
    with contextlib.suppress(ValueError, OverflowError):
        read = datetime.datetime.fromisoformat(text)
        time = read.astimezone(datetime.UTC) if read.tzinfo else None
    if time is None:
        raise FlowauditError(
            f"restore_time is '{text}'; write latest, a time with its zone such as '2026-11-21 14:03:00+01:00', or the "
            "restore point that flowaudit.ops.release_list shows."
        )
    return Goal("", time)


def way(
    snapshots: Sequence[Snapshot],
    wanted: Goal,
    now: datetime.datetime,
    *,
    line: str = "",
    reaches: datetime.datetime | None = None,
) -> Way:
    """The newest base backup that ended before the goal, and the log from its beginning to the goal.

    A clock that jumped in between has dated some of them wrongly. So the end of the line that is followed is found by
    places in the log alone; and elsewhere, what lies in the future counts only where there is nothing else.

    Args:
        snapshots: of the repository of the database.
        wanted: the goal.
        now: the time, no earlier than the last of them was saved.
        line: the line that the database writes at present, empty on a host that has none; the end of what there is, is
            the end of that one.
        reaches: the moment up to which the log will reach once the rest is saved, too.

    Raises:
        FlowauditError: nothing leads there; the sentence says what is possible.
    """
    bases = sorted((each for each in snapshots if each.kind == "base"), key=_ended)
    logs = [each for each in snapshots if each.kind == "wal"]
    soon = now + _SKEW
    if wanted.time is None and line:
        of_line = [each for each in bases if each.labels.get("stream") == line and _logs_after(each, logs)]
        reachable = sorted(of_line, key=lambda each: each.labels.get("first_segment", ""))
        if bases and not reachable:
            raise FlowauditError(
                "What is written at present has no base backup on the target yet, so its end cannot be restored; run "
                "flowaudit.ops.backup_now, or give a moment before."
            )
    else:
        logs = [each for each in logs if max(received(each), each.time) <= soon] or logs
        reachable = [each for each in bases if _logs_after(each, logs)]
        reachable = [each for each in reachable if _ended(each) <= soon] or reachable
    if not reachable:
        raise FlowauditError("There is no base backup with a write-ahead log after it, so nothing can be restored.")
    known = max(received(each) for base in reachable for each in _logs_after(base, logs))
    possible = f"possible is {stamp(_ended(reachable[0]))} to {stamp(reaches or known)}"
    if wanted.time is not None and wanted.time > now:
        raise FlowauditError(f"restore_time {wanted} is in the future; {possible}.")
    suitable = [each for each in reachable if wanted.time is None or _ended(each) <= wanted.time]
    if not suitable:
        raise FlowauditError(f"restore_time {wanted} is before the first base backup; {possible}.")
    base = suitable[-1]
    after = _logs_after(base, logs)
    enough = [each for each in after if wanted.time is not None and received(each) >= wanted.time]
    # Not the first: its last segment may have got another name while it was saved, and be missing.
    log = enough[:2][-1] if enough else after[-1]
    end = received(log)
    if wanted.time is not None and wanted.time > max(end, reaches or end):
        raise FlowauditError(f"restore_time {wanted} is after what was saved last; {possible}, or latest.")
    # Labels are of whole seconds: one of the goal's own second may be after it.
    until = soon if wanted.time is None else wanted.time - _SECOND
    proof = [received(each) for each in after if received(each) <= until]
    return Way(base, log, end, max(proof, default=None))


def _logs_after(base: Snapshot, logs: Sequence[Snapshot]) -> list[Snapshot]:
    """The parts of the log of the base's line that have all of it, the shortest first."""
    first, last = base.labels.get("first_segment", ""), base.labels.get("last_segment", "~")
    found = []
    for each in logs:
        begins, ends = each.labels.get("first", "~"), each.labels.get("last", "")
        same = each.labels.get("stream") == base.labels.get("stream")
        if same and begins <= first <= ends and (ends > last or each.time >= _ended(base)):
            found.append(each)
    return sorted(found, key=lambda each: (each.labels["last"], each.time))


def received(log: Snapshot) -> datetime.datetime:
    """Up to when a part of the log has everything: its last heartbeat. When it was saved says nothing about that."""
    return _read(log.labels.get("received", "")) or log.time


def _ended(base: Snapshot) -> datetime.datetime:
    return _read(base.labels.get("ended_at", "")) or base.time


def _read(text: str) -> datetime.datetime | None:
    """A time in a label; None for what is none, as somebody else may have put it there."""
    with contextlib.suppress(ValueError, OverflowError):
        found = moment(text)
        return found.astimezone(datetime.UTC) if found and found.tzinfo else None
    return None
