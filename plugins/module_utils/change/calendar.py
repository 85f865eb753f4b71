# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When changes may run, for people: a calendar file (RFC 5545), and the announcement of the next window."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Sequence

from .model import Change
from .window import Calendar, Span

_NOTICE = datetime.timedelta(hours=48)

_TEXT = {
    "en": {
        "subject": "Maintenance of {inventory} on {day}",
        "when": "On {day} from {start} to {end} ({zone}) {inventory} is maintained; it may be unavailable meanwhile.",
        "none": "Nothing is planned so far.",
        "plan": "Planned:",
        "late": "This is less than 48 hours ahead.",
        "nothing": "There is no maintenance window of {inventory} within {days} days.",
        "freeze": "Freeze",
        "window": "Maintenance window",
    },
    "de": {
        "subject": "Wartung von {inventory} am {day}",
        "when": "Am {day} wird {inventory} von {start} bis {end} Uhr ({zone}) gewartet und kann dabei ausfallen.",
        "none": "Bisher ist nichts geplant.",
        "plan": "Geplant:",
        "late": "Das ist weniger als 48 Stunden im Voraus.",
        "nothing": "In den nächsten {days} Tagen hat {inventory} kein Wartungsfenster.",
        "freeze": "Änderungssperre",
        "window": "Wartungsfenster",
    },
}
LANGUAGES = tuple(_TEXT)


def icalendar(inventory: str, calendar: Calendar, now: datetime.datetime, days: int, language: str = "en") -> str:
    """The windows and freezes of the next days as an iCalendar file."""
    words = _TEXT[language]
    freezes = [span for span in calendar.freezes if span.meets(now, now + datetime.timedelta(days=days))]
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//flowaudit.ops//changes//EN", f"NAME:{_escaped(inventory)}"]
    for kind, spans in (("window", calendar.coming(now, days)), ("freeze", freezes)):
        for span in spans:
            lines += _event(inventory, words[kind], span, now)
    return "".join(f"{_folded(line)}\r\n" for line in [*lines, "END:VCALENDAR"])


def announcement(
    inventory: str, calendar: Calendar, changes: Iterable[Change], now: datetime.datetime, language: str = "en"
) -> dict[str, str]:
    """The ``subject`` and ``text`` that tell of the next window which is not frozen; empty when there is none."""
    words, days = _TEXT[language], 62
    span = next((span for span in calendar.coming(now, days) if not calendar.frozen(span.start, span.end)), None)
    if span is None:
        return {"subject": "", "text": words["nothing"].format(inventory=inventory, days=days)}
    start, end = span.start.astimezone(span.zone), span.end.astimezone(span.zone)
    day = start.strftime("%d.%m.%Y" if language == "de" else "%Y-%m-%d")
    clock = {"start": start.strftime("%H:%M"), "end": end.strftime("%H:%M"), "zone": str(span.zone)}
    planned = [f"- {change.id}: {change.title}" for change in changes]
    text = [words["when"].format(day=day, inventory=inventory, **clock), ""]
    text += [words["plan"], *planned] if planned else [words["none"]]
    if span.start - now < _NOTICE:
        text += ["", words["late"]]
    return {"subject": words["subject"].format(inventory=inventory, day=day), "text": "\n".join(text)}


def _event(inventory: str, kind: str, span: Span, now: datetime.datetime) -> Sequence[str]:
    name = hashlib.sha256(f"{inventory} {kind} {span.name} {span.start.isoformat()}".encode()).hexdigest()[:32]
    return [
        "BEGIN:VEVENT",
        f"UID:{name}@flowaudit.ops",
        f"DTSTAMP:{_stamp(now)}",
        f"DTSTART:{_stamp(span.start)}",
        f"DTEND:{_stamp(span.end)}",
        f"SUMMARY:{_escaped(f'{kind} {inventory}: {span.name}')}",
        "TRANSP:TRANSPARENT",
        "END:VEVENT",
    ]


def _stamp(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,").replace("\n", "\\n")


def _folded(line: str) -> str:
    """Lines have at most 75 bytes (RFC 5545, 3.1)."""
    parts, rest = [], line
    while len(rest.encode()) > 74:
        length = 74
        while len(rest[:length].encode()) > 74:
            length -= 1
        parts.append(rest[:length])
        rest = rest[length:]
    return "\r\n ".join([*parts, rest])
