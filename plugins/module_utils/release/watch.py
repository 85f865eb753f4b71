# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the edge says of a colour while users are on it: answers and errors, from Traefik's access log (JSON)."""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t

#: How much of the log's end is read for the time before the switch, in bytes.
_TAIL = 4 * 1024 * 1024


@dataclasses.dataclass
class Count:
    """Answers of one colour; errors are those with a status of 500 and above."""

    answers: int = 0
    errors: int = 0

    @property
    def ratio(self) -> float:
        return self.errors / self.answers if self.answers else 0.0


def count(lines: t.Iterable[str], server: str, since: str = "") -> Count:
    """What the servers whose name begins with ``server`` answered, such as ``flowaudit-green-``.

    Args:
        since: the earliest time that counts (RFC 3339, UTC, without its zone).
    """
    found = Count()
    for line in lines:
        try:
            entry = json.loads(line)
            # What the edge answered by itself is nobody's error.
            if not str(entry.get("ServiceAddr", "")).startswith(server) or str(entry.get("StartUTC", "~")) < since:
                continue
            status = int(entry.get("OriginStatus") or entry.get("DownstreamStatus") or 0)
        except (ValueError, TypeError, AttributeError):
            continue
        found.answers += 1
        found.errors += status >= 500
    return found


def rises(before: Count, after: Count, *, ratio: float, least: int) -> bool:
    """Whether the new colour has more errors than the old one had.

    Args:
        before: the old colour's answers in the time before the switch.
        after: the new colour's since then.
        ratio: by how much the share of errors may rise, such as 0.02.
        least: number of errors below which a share says nothing.
    """
    return after.errors >= least and after.ratio > before.ratio + ratio


class AccessLog:
    """The log from now on, also when it is rotated meanwhile."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._identity, self._offset = self._look()
        self._rest = b""

    def tail(self) -> list[str]:
        """The log's last lines so far."""
        if not self.path or self._identity is None:
            return []
        with open(self.path, "rb") as stream:
            stream.seek(max(0, self._offset - _TAIL))
            content = stream.read(min(self._offset, _TAIL))
        return content.decode(errors="replace").splitlines()[1 if self._offset > _TAIL else 0 :]

    def read(self) -> list[str]:
        """The whole lines that have come since the last call."""
        identity, size = self._look()
        if identity is None:
            return []
        if identity != self._identity or size < self._offset:
            self._identity, self._offset, self._rest = identity, 0, b""
        with open(self.path, "rb") as stream:
            stream.seek(self._offset)
            content = self._rest + stream.read()
            self._offset = stream.tell()
        *lines, self._rest = content.split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def _look(self) -> tuple[int | None, int]:
        try:
            status = os.stat(self.path)
        except OSError:
            return None, 0
        return status.st_ino, status.st_size
