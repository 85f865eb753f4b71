# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Entries: what a line of the log holds.

Every entry has ``v`` (1), ``seq`` (its place, from 0), ``prev`` (the leaf hash before it, in hex; so ``jq`` and
``sha256sum`` can follow the log), ``ts`` (UTC, RFC 3339, milliseconds) and ``type``. What belongs to a run has ``run``
(UUIDv7), what belongs to a change ``chg``. The other fields depend on the type; docs/trail.md lists them.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import time
import typing as t
import uuid

from . import canonical, merkle

VERSION = 1
FIRST = "0" * 64  # ``prev`` of the first entry

LOG_CREATED = "log.created"
KEY_ROTATED = "key.rotated"
RUN_START = "run.start"
RUN_AUTHORIZED = "run.authorized"
RUN_DENIED = "run.denied"
RUN_END = "run.end"
RUN_ABORTED = "run.aborted"
PLAYBOOK_START = "playbook.start"
PLAYBOOK_END = "playbook.end"
PLAY_START = "play.start"
TASK_START = "task.start"
TASK_DISPATCHED = "task.dispatched"
TASK_RESULT = "task.result"
TASK_RETRY = "task.retry"
TASK_ASYNC = "task.async"
INCLUDE = "include"
NOTIFIED = "handler.notified"
PROMPT = "prompt"
NO_HOSTS = "no_hosts"
EVENT = "event"
GAP = "gap"
ANCHOR = "anchor"
CHANGE_REQUESTED = "change.requested"
CHANGE_APPROVED = "change.approved"
CHANGE_REVOKED = "change.revoked"
CHANGE_REVIEWED = "change.reviewed"
POLICY_ACCEPTED = "policy.accepted"
POLICY_SIGNED = "policy.signed"
SESSION_OPENED = "session.opened"
SESSION_UNACCOUNTED = "session.unaccounted"
HOST_UNWATCHED = "host.unwatched"
HOST_WATCHED = "host.watched"
BREAK_GLASS_SEALED = "break_glass.sealed"
BREAK_GLASS_USED = "break_glass.used"
BREAK_GLASS_SIGNED = "break_glass.signed"
BREAK_GLASS_REVIEWED = "break_glass.reviewed"
REDACTION = "redaction"
ARCHIVED = "archived"
PRUNED = "pruned"

# What is needed to verify the rest, to know whom to trust and what waits for a review, is never pruned.
KEPT_FOR_EVER = frozenset(
    {
        *(LOG_CREATED, KEY_ROTATED, REDACTION, ARCHIVED, PRUNED),
        *(POLICY_ACCEPTED, RUN_AUTHORIZED, CHANGE_REVOKED, CHANGE_REVIEWED),
        *(BREAK_GLASS_SEALED, BREAK_GLASS_USED, BREAK_GLASS_REVIEWED),
    }
)

Draft = dict[str, t.Any]  # an entry without ``v``, ``seq`` and ``prev``


@dataclasses.dataclass(frozen=True)
class Row:
    """An entry as it is stored: its place, its bytes (none once they are pruned), its leaf hash (32 bytes)."""

    seq: int
    line: bytes | None
    leaf: bytes


def seal(draft: Draft, seq: int, previous: bytes | None) -> Row:
    """Give a draft its place behind the entry whose leaf hash is ``previous`` (none for the first).

    Raises:
        FlowauditError: it holds what an entry cannot.
    """
    prev = FIRST if previous is None else previous.hex()
    line = canonical.encode({**draft, "v": VERSION, "seq": seq, "prev": prev})
    return Row(seq, line, merkle.leaf_hash(line))


def timestamp(moment: float | None = None) -> str:
    """A moment (seconds since the epoch; now, when none is given) as an entry has it."""
    moment = time.time() if moment is None else moment
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def new_id(moment: float | None = None) -> str:
    """A UUID that sorts by its time (version 7, RFC 9562, 5.7)."""
    milliseconds = int((time.time() if moment is None else moment) * 1000)
    value = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
