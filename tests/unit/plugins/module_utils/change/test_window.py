# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.change import window
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

SUNDAY = {
    "name": "first Sunday",
    "timezone": "Europe/Berlin",
    "begin": "02:00",
    "duration": 7200,
    "rule": "FREQ=MONTHLY;BYDAY=1SU",
}
HOUR = datetime.timedelta(hours=1)


def moment(text):
    return datetime.datetime.fromisoformat(text)


def calendar(*freezes, **changes):
    return window.parse_calendar([SUNDAY | changes], freezes)


@pytest.mark.parametrize(
    ("start", "hours", "fits"),
    [
        ("2026-12-06T02:00:00+01:00", 2, True),
        ("2026-12-06T02:00:01+01:00", 2, False),
        ("2026-12-06T01:59:59+01:00", 1, False),
        ("2026-12-06T01:00:00+00:00", 1, True),
        ("2026-12-06T03:30:00+01:00", 0.5, True),
        ("2026-12-13T02:00:00+01:00", 1, False),
        ("2027-01-03T02:00:00+01:00", 1, True),
        ("2026-07-05T02:00:00+02:00", 2, True),
        ("2026-07-05T02:00:00+01:00", 2, False),
    ],
)
def test_a_run_has_to_fit_the_window(start, hours, fits):
    begin = moment(start)
    assert (calendar().open(begin, begin + hours * HOUR) is not None) == fits


def test_the_night_the_clocks_go_forward():
    """02:00 does not exist on 2027-03-28: the offset before the gap counts, so it opens at 01:00 UTC, for two hours."""
    (span,) = window.parse_window(SUNDAY | {"rule": "FREQ=WEEKLY;BYDAY=SU"}).spans(
        moment("2027-03-28T00:00:00+00:00"), moment("2027-03-28T12:00:00+00:00")
    )
    assert (span.start, span.end) == (moment("2027-03-28T01:00:00+00:00"), moment("2027-03-28T03:00:00+00:00"))


def test_the_night_the_clocks_go_back():
    """02:00 exists twice on 2026-10-25: the first one counts, and two hours are two hours."""
    (span,) = window.parse_window(SUNDAY | {"rule": "FREQ=WEEKLY;BYDAY=SU"}).spans(
        moment("2026-10-25T00:00:00+00:00"), moment("2026-10-25T12:00:00+00:00")
    )
    assert (span.start, span.end) == (moment("2026-10-25T00:00:00+00:00"), moment("2026-10-25T02:00:00+00:00"))


def test_a_window_over_midnight_and_over_months():
    nightly = window.parse_window(SUNDAY | {"begin": "22:00", "duration": 8 * 3600, "rule": "FREQ=DAILY"})
    made = window.Calendar((nightly,))
    begin = moment("2027-01-01T03:00:00+01:00")
    assert made.open(begin, begin + HOUR).start == moment("2026-12-31T22:00:00+01:00")
    assert made.open(begin, begin + 4 * HOUR) is None


def test_every_other_week_is_counted_from_a_date():
    made = window.parse_window(SUNDAY | {"rule": "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU", "since": "2026-11-22"})
    spans = list(made.spans(moment("2026-11-20T00:00:00Z"), moment("2026-12-31T00:00:00Z")))
    assert [span.start.date().isoformat() for span in spans] == ["2026-11-22", "2026-12-06", "2026-12-20"]


def test_a_freeze_closes_what_is_open():
    freeze = {"name": "year's end", "start": "2026-12-06T03:00:00+01:00", "end": "2027-01-04T00:00:00+01:00"}
    made = calendar(freeze)
    begin = moment("2026-12-06T02:00:00+01:00")
    assert made.frozen(begin, begin + HOUR) is None
    assert made.frozen(begin, begin + 1.5 * HOUR).name == "year's end"
    assert made.next_open(begin, HOUR) == begin
    assert made.next_open(begin, 1.5 * HOUR) == moment("2027-02-07T02:00:00+01:00")
    assert made.frozen(moment("2027-01-04T00:00:00+01:00"), moment("2027-01-05T00:00:00+01:00")) is None


def test_a_freeze_that_ends_within_a_window_leaves_its_rest():
    made = calendar({"start": "2026-12-01T00:00:00Z", "end": "2026-12-06T01:30:00Z"})
    assert made.next_open(moment("2026-12-01T00:00:00Z"), HOUR) == moment("2026-12-06T01:30:00Z")


def test_no_window_ever():
    assert window.Calendar().next_open(moment("2026-12-01T00:00:00Z"), HOUR) is None
    assert calendar().next_open(moment("2026-12-01T00:00:00Z"), 3 * HOUR) is None


@given(st.datetimes(datetime.datetime(2021, 1, 1), datetime.datetime(2035, 1, 1)), st.integers(1, 7200))
def test_what_next_open_says_is_open(when, seconds):
    made = calendar({"start": "2030-01-01T00:00:00Z", "end": "2030-03-01T00:00:00Z"})
    duration = datetime.timedelta(seconds=seconds)
    found = made.next_open(when.replace(tzinfo=datetime.UTC), duration)
    assert made.open(found, found + duration)
    assert made.frozen(found, found + duration) is None


@given(st.datetimes(datetime.datetime(2021, 1, 1), datetime.datetime(2035, 1, 1)))
def test_every_span_lasts_as_long_as_it_says_and_opens_at_its_hour(when):
    start = when.replace(tzinfo=datetime.UTC)
    made = window.parse_window(SUNDAY | {"rule": "FREQ=DAILY"})
    spans = list(made.spans(start, start + 24 * HOUR))
    assert 1 <= len(spans) <= 3
    for span in spans:
        assert span.end - span.start == 2 * HOUR
        assert span.start.astimezone(made.zone).strftime("%H:%M") in ("02:00", "03:00")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"begin": "2:00"}, "write the time as '02:00'"),
        ({"begin": 120}, "write the time as '02:00'"),
        ({"begin": "24:00"}, "write the time as '02:00'"),
        ({"duration": 0}, "write seconds"),
        ({"duration": "2h"}, "write seconds"),
        ({"duration": True}, "write seconds"),
        ({"duration": 32 * 86400}, "up to 31 days"),
        ({"timezone": "Europe/Atlantis"}, "which there is not"),
        ({"timezone": "../../etc/passwd"}, "which there is not"),
        ({"timezone": None}, "which there is not"),
        ({"rule": "every Sunday"}, "write one of RFC 5545"),
        ({"rule": None}, "write one of RFC 5545"),
        ({"rule": "FREQ=SECONDLY"}, "for days or longer"),
        ({"rule": "FREQ=MONTHLY;BYDAY=1XX"}, "none of RFC 5545"),
        ({"rule": "FREQ=MONTHLY;BYHOUR=3"}, "has BYHOUR"),
        ({"rule": "FREQ=MONTHLY;COUNT=3"}, "has COUNT"),
        ({"rule": "FREQ=MONTHLY;UNTIL=20261231"}, "has UNTIL"),
        ({"since": "soon"}, "write a date"),
        ({"rrule": "x"}, "which a window does not know"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(FlowauditError, match=message):
        window.parse_window(SUNDAY | changes)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ({"start": "2026-12-20", "end": "2027-01-01T00:00:00Z"}, "does not say its offset"),
        ({"start": "soon", "end": "2027-01-01T00:00:00Z"}, "write it as"),
        ({"start": "2027-01-01T00:00:00Z"}, "write it as"),
        ({"start": "2027-01-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"}, "ends before it begins"),
        ({"start": "2027-01-01T00:00:00Z", "end": "2028-01-01T00:00:00Z", "rule": "x"}, "does not know"),
    ],
)
def test_a_freeze_that_makes_no_sense_is_refused(freeze, message):
    with pytest.raises(FlowauditError, match=message):
        window.parse_freeze(freeze)


def test_yaml_may_have_made_dates_of_it():
    assert window.parse_window(SUNDAY | {"since": datetime.date(2026, 1, 4)}).since == datetime.date(2026, 1, 4)
    freeze = {"start": moment("2026-12-20T00:00:00+01:00"), "end": moment("2026-12-21T00:00:00+01:00")}
    assert window.parse_freeze(freeze).start == moment("2026-12-19T23:00:00Z")
