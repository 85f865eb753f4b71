# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tells people what must not wait: the trail has it, a message brings it.

The message is JSON with a ``text``, which Slack, Mattermost, Rocket.Chat and Teams take as it is. What was not taken is
told again, so a message may come twice, and none is lost.
"""

from __future__ import annotations

import pathlib
import typing as t

from .. import webhook
from ..trail import canonical, entry
from ..trail.sqlite import SELDOM, SqliteLog

_AT_ONCE = 20  # entries in a message
_KINDS = (entry.BREAK_GLASS_USED, entry.SESSION_UNACCOUNTED, entry.HOST_UNWATCHED)
_REASONS = {
    "no_certificate": "with a key or a password instead of a certificate",
    "foreign_certificate": "with a certificate of another CA",
    "unknown_run": "with a certificate of no run that the trail has",
    "unknown_seal": "with a sealed credential that this control node has not made",
    "other_hosts": "with a certificate of a run that is about other hosts",
    "before_run": "before its run began",
    "after_run": "after its run had ended",
}


def sentence(value: t.Mapping[str, t.Any]) -> str:
    """An entry, said to people."""
    where = f"{value['host']} ({value['inventory']})"
    if value["type"] == entry.BREAK_GLASS_USED:
        return (
            f"BREAK-GLASS: the sealed credential {value['seal']} was used on {where} at {value['at']}. Normal changes"
            " wait until it was reviewed (flowaudit.ops.break_glass_review)."
        )
    if value["type"] == entry.HOST_UNWATCHED:
        return f"Logins to {where} have not been watched since {value['since']}: the host cannot be reached."
    why = _REASONS.get(value["reason"], value["reason"])
    return f"Somebody logged in to {where} at {value['at']} {why}; the trail has it as entry {value['seq']}."


class Alarm:
    """Where messages go, and how far they have come."""

    def __init__(self, url: str, position: pathlib.Path) -> None:
        self._url = url
        self._position = position

    def deliver(self, log: SqliteLog) -> list[str]:
        """Send what was not sent yet; returns what was said.

        Raises:
            FlowauditError: nobody has taken it; it is sent again by the next call.
        """
        entries = self._waiting(log)
        said = [sentence(value) for value in entries]
        if said and self._url:
            webhook.post(self._url, {"text": "\n".join(said)}, "alarm_url")
        if entries:
            self._remember(entries[-1]["seq"])
        return said

    def _waiting(self, log: SqliteLog) -> list[dict[str, t.Any]]:
        try:
            told = int(self._position.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            told = -1
        marks = ", ".join("?" * len(_KINDS))
        rows = log.ask(
            f"SELECT line FROM entries INDEXED BY entries_type WHERE {SELDOM} AND type IN ({marks}) AND seq > ?"
            f" ORDER BY seq LIMIT {_AT_ONCE}",
            (*_KINDS, told),
        )
        return [canonical.decode(line.encode()) for (line,) in rows if line is not None]

    def _remember(self, seq: int) -> None:
        made = self._position.with_suffix(".new")
        made.write_text(f"{seq}\n", "ascii")
        made.replace(self._position)
