# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When changes may run: maintenance windows that recur (RFC 5545), and freezes.

A window begins at a wall-clock time of its zone. Where that time does not exist (the night the clocks go forward) the
offset before the gap counts, where it exists twice the first one does (RFC 5545, 3.3.5). Its length is exact: a window
of two hours lasts two hours in these nights too.
"""

from __future__ import annotations

# Exactly this type: true is an integer, and Ansible's values are strings that may say something else.
# pylint: disable=unidiomatic-typecheck
import dataclasses
import datetime
import re
import typing as t
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping

from ..errors import FlowauditError

if t.TYPE_CHECKING:
    from dateutil import rrule

UTC = datetime.UTC
LONGEST = datetime.timedelta(days=31)
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_RULE = re.compile(r"FREQ=(DAILY|WEEKLY|MONTHLY|YEARLY)(;[A-Z]+=[A-Z0-9,+-]+)*")
# The rules are counted from here when they do not say from when on: a Thursday, long before any change.
_BEGIN = datetime.date(2020, 1, 2)


@dataclasses.dataclass(frozen=True)
class Span:
    """From one moment to another (aware datetimes; the end is not part of it), and what it is called."""

    start: datetime.datetime
    end: datetime.datetime
    name: str = ""
    zone: datetime.tzinfo = datetime.UTC  # in which people speak of it

    def holds(self, start: datetime.datetime, end: datetime.datetime) -> bool:
        """Whether all the time from ``start`` to ``end`` is in it."""
        return self.start <= start and end <= self.end

    def meets(self, start: datetime.datetime, end: datetime.datetime) -> bool:
        """Whether it has any of that time."""
        return self.start < end and start < self.end


@dataclasses.dataclass(frozen=True)
class Window:
    """A window that recurs; ``begin`` is the wall-clock time of the day it opens."""

    name: str
    zone: zoneinfo.ZoneInfo
    begin: datetime.time
    duration: datetime.timedelta
    rule: str
    since: datetime.date = _BEGIN

    def spans(self, start: datetime.datetime, end: datetime.datetime) -> Iterator[Span]:
        """The times it is open that have any of the time from ``start`` to ``end``, in order."""
        # A day more on both sides: the rule counts wall-clock time, the question is about moments.
        day = datetime.timedelta(days=1)
        first = start.astimezone(self.zone).replace(tzinfo=None) - self.duration - day
        last = end.astimezone(self.zone).replace(tzinfo=None) + day
        for local in self._rule().between(first, last, inc=True):
            opens = local.replace(tzinfo=self.zone).astimezone(UTC)
            span = Span(opens, opens + self.duration, self.name, self.zone)
            if span.meets(start, end):
                yield span

    def _rule(self) -> rrule.rrule | rrule.rruleset:
        from dateutil import rrule

        return rrule.rrulestr(self.rule, dtstart=datetime.datetime.combine(self.since, self.begin))


@dataclasses.dataclass(frozen=True)
class Calendar:
    """When changes may run, and when not in any case."""

    windows: tuple[Window, ...] = ()
    freezes: tuple[Span, ...] = ()

    def open(self, start: datetime.datetime, end: datetime.datetime) -> Span | None:
        """The window that has all the time from ``start`` to ``end``, if there is one."""
        spans = (span for window in self.windows for span in window.spans(start, end))
        return next((span for span in spans if span.holds(start, end)), None)

    def frozen(self, start: datetime.datetime, end: datetime.datetime) -> Span | None:
        """The first freeze that has any of that time."""
        return min((span for span in self.freezes if span.meets(start, end)), key=_begin, default=None)

    def coming(self, start: datetime.datetime, days: int) -> list[Span]:
        """The windows that are open or open within so many days, the earliest first."""
        end = start + datetime.timedelta(days=days)
        return sorted((span for window in self.windows for span in window.spans(start, end)), key=_begin)

    def next_open(self, start: datetime.datetime, duration: datetime.timedelta) -> datetime.datetime | None:
        """The first moment from ``start`` on at which something of that duration may begin; none within a year."""
        for span in self.coming(start, 366):
            moment = max(span.start, start)
            while span.holds(moment, moment + duration):
                freeze = self.frozen(moment, moment + duration)
                if freeze is None:
                    return moment
                moment = freeze.end
        return None


def parse_window(value: Mapping[str, t.Any]) -> Window:
    """A window from ``name``, ``timezone``, ``begin`` (HH:MM), ``duration`` (seconds), ``rule`` and perhaps ``since``.

    Raises:
        FlowauditError: something of it is missing or makes no sense.
    """
    name = str(value.get("name", "window"))
    unknown = set(value) - {"name", "timezone", "begin", "duration", "rule", "since"}
    if unknown:
        raise FlowauditError(f"The window {name} has {', '.join(sorted(unknown))}, which a window does not know.")
    clock = _CLOCK.fullmatch(str(value.get("begin", "")))
    if not clock:
        raise FlowauditError(
            f"The window {name} begins at {value.get('begin')!r}; write the time as '02:00', in quotes."
        )
    seconds = value.get("duration")
    if type(seconds) is not int or not 0 < seconds <= LONGEST.total_seconds():
        raise FlowauditError(f"The window {name} has the duration {seconds!r}; write seconds, up to 31 days.")
    window = Window(
        name,
        _zone(name, value.get("timezone")),
        datetime.time(int(clock[1]), int(clock[2])),
        datetime.timedelta(seconds=seconds),
        _written_rule(name, value.get("rule")),
        _date(name, value.get("since", _BEGIN)),
    )
    try:
        window._rule()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FlowauditError(f"The rule of the window {name} is none of RFC 5545: {error}.") from error
    return window


def parse_freeze(value: Mapping[str, t.Any]) -> Span:
    """A freeze from ``name``, ``start`` and ``end`` (RFC 3339, with an offset).

    Raises:
        FlowauditError: something of it is missing or makes no sense.
    """
    name = str(value.get("name", "freeze"))
    unknown = set(value) - {"name", "start", "end"}
    if unknown:
        raise FlowauditError(f"The freeze {name} has {', '.join(sorted(unknown))}, which a freeze does not know.")
    start, end = (parse_moment(f"The {edge} of the freeze {name}", value.get(edge)) for edge in ("start", "end"))
    if end <= start:
        raise FlowauditError(f"The freeze {name} ends before it begins.")
    return Span(start, end, name)


def parse_moment(what: str, value: t.Any) -> datetime.datetime:
    """A moment in UTC from RFC 3339 text, or from what YAML made of it; it has to have an offset."""
    try:
        moment = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(str(value))
    except ValueError:
        raise FlowauditError(f"{what} is {value!r}; write it as '2026-12-20T00:00:00+01:00'.") from None
    if moment.tzinfo is None:
        raise FlowauditError(f"{what} is {value!r}, which does not say its offset; write it as '{value}+01:00' or 'Z'.")
    return moment.astimezone(UTC)


def parse_calendar(windows: Iterable[Mapping[str, t.Any]], freezes: Iterable[Mapping[str, t.Any]]) -> Calendar:
    """A calendar from lists of both."""
    return Calendar(tuple(map(parse_window, windows)), tuple(map(parse_freeze, freezes)))


def _begin(span: Span) -> datetime.datetime:
    return span.start


def _zone(name: str, value: t.Any) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(str(value))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise FlowauditError(
            f"The window {name} is in the time zone {value!r}, which there is not; write one such as Europe/Berlin."
        ) from error


def _written_rule(name: str, value: t.Any) -> str:
    if not isinstance(value, str) or not _RULE.fullmatch(value):
        raise FlowauditError(
            f"The window {name} has the rule {value!r}; write one of RFC 5545 for days or longer, such as"
            " FREQ=MONTHLY;BYDAY=1SU."
        )
    # The time of day is said by ``begin``; COUNT and UNTIL would close the window for ever without anybody noticing.
    refused = [part for part in ("BYHOUR", "BYMINUTE", "BYSECOND", "COUNT", "UNTIL") if f";{part}=" in value]
    if refused:
        raise FlowauditError(f"The rule of the window {name} has {refused[0]}, which a window does not take.")
    return str.__str__(value)


def _date(name: str, value: t.Any) -> datetime.date:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    try:
        return datetime.date.fromisoformat(str(value))
    except ValueError:
        raise FlowauditError(
            f"The window {name} is counted since {value!r}; write a date such as 2026-01-04."
        ) from None
