# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import datetime
import types

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import calendar, window

NOW = datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.UTC)
MONTHLY = {"name": "monthly", "timezone": "Europe/Berlin", "begin": "02:00", "duration": 7200}
MONTHLY["rule"] = "FREQ=MONTHLY;BYDAY=1SU"
FREEZE = {"name": "year's end; all, of it", "start": "2026-12-20T00:00:00+01:00", "end": "2027-01-10T00:00:00+01:00"}
CALENDAR = window.parse_calendar([MONTHLY], [FREEZE])


def changes(*titles):
    return [types.SimpleNamespace(id=f"CHG-2026-000{number}", title=title) for number, title in enumerate(titles)]


def unfolded(text):
    assert text.endswith("END:VCALENDAR\r\n")
    assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))
    return text.replace("\r\n ", "").split("\r\n")


def test_windows_and_freezes_as_a_calendar():
    lines = unfolded(calendar.icalendar("production", CALENDAR, NOW, 45))
    assert lines[:4] == [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//flowaudit.ops//changes//EN",
        "NAME:production",
    ]
    assert lines.count("BEGIN:VEVENT") == lines.count("END:VEVENT") == 3
    first = lines[lines.index("BEGIN:VEVENT") :]
    assert first[2:7] == [
        "DTSTAMP:20261201T120000Z",
        "DTSTART:20261206T010000Z",
        "DTEND:20261206T030000Z",
        "SUMMARY:Maintenance window production: monthly",
        "TRANSP:TRANSPARENT",
    ]
    assert "SUMMARY:Freeze production: year's end\\; all\\, of it" in lines
    assert "DTSTART:20261219T230000Z" in lines
    uids = [line for line in lines if line.startswith("UID:")]
    assert len(set(uids)) == 3 and all(uid.endswith("@flowaudit.ops") for uid in uids)
    again = unfolded(calendar.icalendar("production", CALENDAR, NOW + datetime.timedelta(hours=1), 45))
    assert [line for line in again if line.startswith("UID:")] == uids, "An event stays the same event."


def test_what_is_further_away_is_left_out():
    lines = unfolded(calendar.icalendar("production", CALENDAR, NOW, 7, "de"))
    assert lines.count("BEGIN:VEVENT") == 1 and "SUMMARY:Wartungsfenster production: monthly" in lines


@pytest.mark.parametrize("name", ["x" * 200, "ä" * 100, "x" + "€" * 90, "😀" * 60])
def test_long_lines_are_folded_between_characters(name):
    named = window.parse_calendar([{**MONTHLY, "name": name}], [])
    lines = unfolded(calendar.icalendar("production", named, NOW, 7))
    assert f"SUMMARY:Maintenance window production: {name}" in lines


def test_what_means_something_in_a_calendar_is_escaped():
    named = window.parse_calendar([{**MONTHLY, "name": "a\\b\nc"}], [])
    assert "SUMMARY:Maintenance window production: a\\\\b\\nc" in calendar.icalendar("production", named, NOW, 7)


def test_the_next_window_is_announced():
    found = calendar.announcement("production", CALENDAR, changes("Release 1.4.0", "Renew"), NOW)
    assert found["subject"] == "Maintenance of production on 2026-12-06"
    assert found["text"] == (
        "On 2026-12-06 from 02:00 to 04:00 (Europe/Berlin) production is maintained; it may be unavailable meanwhile.\n"
        "\nPlanned:\n- CHG-2026-0000: Release 1.4.0\n- CHG-2026-0001: Renew"
    )


def test_nothing_planned_at_short_notice_in_german():
    now = datetime.datetime(2026, 12, 4, 12, tzinfo=datetime.UTC)
    found = calendar.announcement("production", CALENDAR, [], now, "de")
    assert found["subject"] == "Wartung von production am 06.12.2026"
    assert found["text"].splitlines() == [
        "Am 06.12.2026 wird production von 02:00 bis 04:00 Uhr (Europe/Berlin) gewartet und kann dabei ausfallen.",
        "",
        "Bisher ist nichts geplant.",
        "",
        "Das ist weniger als 48 Stunden im Voraus.",
    ]


def test_a_window_that_is_frozen_is_not_announced():
    found = calendar.announcement("production", CALENDAR, [], NOW + datetime.timedelta(days=10))
    assert found["subject"] == "Maintenance of production on 2027-02-07"


def test_no_window_is_said():
    found = calendar.announcement("production", window.parse_calendar([], []), changes("x"), NOW)
    assert found == {"subject": "", "text": "There is no maintenance window of production within 62 days."}


def test_windows_without_a_name_are_announced_in_their_own_zone():
    unnamed = {key: value for key, value in MONTHLY.items() if key != "name"}
    later = {**unnamed, "timezone": "America/New_York", "rule": "FREQ=MONTHLY;BYDAY=2SU"}
    both = window.parse_calendar([later, unnamed], [])
    assert "(Europe/Berlin)" in calendar.announcement("production", both, [], NOW)["text"]
