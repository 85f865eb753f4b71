# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The parts of backups that need nothing but their arguments: places in the log, choosing a way, figures, records."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import pathlib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.backup import (
    choice,
    metrics,
    recovery,
    restic,
    settings,
    wal,
)
from ansible_collections.flowaudit.ops.plugins.module_utils.backup.records import Record, Records, moment, stamp
from ansible_collections.flowaudit.ops.plugins.module_utils.backup.restic import Snapshot
from ansible_collections.flowaudit.ops.plugins.module_utils.backup.server import Slot
from ansible_collections.flowaudit.ops.plugins.module_utils.engine import Result
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


def minutes(number: float) -> datetime.datetime:
    return NOON + datetime.timedelta(minutes=number)


# ── The log ──


@pytest.mark.parametrize(
    ("lsn", "timeline", "segment"),
    [
        ("0/3000028", 1, "000000010000000000000003"),
        ("0/FF000000", 1, "0000000100000000000000FF"),
        ("1/0", 2, "000000020000000100000000"),
        ("A/1FFFFFF", 1, "000000010000000A00000001"),
    ],
)
def test_a_place_in_the_log_is_in_a_segment(lsn: str, timeline: int, segment: str) -> None:
    assert wal.segment_of(lsn, timeline) == segment


@pytest.mark.parametrize("wrong", ["", "0", "0/", "3000028", "0/G", "0/123456789"])
def test_what_is_no_place_in_the_log_is_refused(wrong: str) -> None:
    with pytest.raises(FlowauditError, match="no log sequence number"):
        wal.position(wrong)


def test_one_segment_follows_another_over_the_end_of_a_file_id() -> None:
    assert wal.following("0000000100000000000000FE") == "0000000100000000000000FF"
    assert wal.following("0000000100000000000000FF") == "000000010000000100000000"


def test_segments_are_told_from_what_lies_beside_them() -> None:
    names = ["00000002.history", "000000010000000000000002.partial", "000000010000000000000001", "lost+found", "x" * 24]
    assert wal.segments(names) == ["000000010000000000000001", "000000010000000000000002"]


@given(first=st.integers(0, 600), length=st.integers(1, 40), missing=st.sets(st.integers(1, 38), max_size=5))
def test_every_segment_that_is_missing_between_others_is_found(first: int, length: int, missing: set[int]) -> None:
    line = list(
        itertools.accumulate(
            range(first + length), lambda name, _: wal.following(name), initial="0" * 7 + "1" + "0" * 16
        )
    )
    line = line[first : first + length]
    inner = {number for number in missing if number < length - 1}
    kept = [name for number, name in enumerate(line) if number not in inner]
    assert wal.gaps(kept) == [line[number] for number in sorted(inner)]


def test_ten_missing_segments_say_enough() -> None:
    assert len(wal.gaps(["000000010000000000000001", "0000000100000001000000F0"])) == 10


# ── What to recover from ──


def base(ended: float, stream: str = "7/a", first: int = 1, last: int | None = None) -> Snapshot:
    labels = {
        "name": f"base{ended:g}",
        "stream": stream,
        "first_segment": f"{first:024X}",
        "ended_at": stamp(minutes(ended)),
    }
    labels |= {"last_segment": f"{last:024X}"} if last else {}
    return Snapshot(f"b{ended:g}", minutes(ended + 1), "base", labels, ["/data/base"], 100)


def log(at: float, stream: str = "7/a", first: int = 1, last: int = 9) -> Snapshot:
    labels = {"stream": stream, "first": f"{first:024X}", "last": f"{last:024X}"}
    return Snapshot(f"w{at:g}", minutes(at), "wal", labels, ["/data/wal/7/a"])


SNAPSHOTS = [
    *(base(0, first=2), log(5), log(10)),
    *(base(60, first=20), log(65, first=2, last=21), log(120, first=20, last=30)),
    # After a restore, another line.
    *(base(200, "7/b", first=25), log(205, "7/b", first=25, last=26)),
]


@pytest.mark.parametrize(
    ("text", "chosen", "until"),
    [
        ("latest", "b200", "w205"),
        # The second one that reaches it: the first may lack its last segment.
        ("2026-01-31 12:03:00+00:00", "b0", "w10"),
        ("2026-01-31T13:07:00+01:00", "b0", "w65"),
        # Before the second base backup had ended, the first one leads there, with the log of later.
        ("2026-01-31T12:59:30Z", "b0", "w65"),
        ("2026-01-31T13:30:00Z", "b60", "w120"),
        ("pre-1.2.0-20260131T120400Z", "b0", "w10"),
    ],
)
def test_the_newest_base_backup_before_a_moment_leads_there(text: str, chosen: str, until: str) -> None:
    goal = choice.goal(text)
    found = choice.way(SNAPSHOTS, goal, minutes(300))
    assert (found.base.snapshot_id, found.log.snapshot_id) == (chosen, until)
    assert goal.time is None or found.reaches >= goal.time


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "2026-01-31T11:59:00Z",
            "before the first base backup; possible is 2026-01-31T12:00:00Z to 2026-01-31T15:25:00Z",
        ),
        ("2026-01-31T18:00:00Z", "in the future"),
        ("2026-01-31T16:30:00Z", "after what was saved last"),
        ("pre-x-20269999T999999Z", "write latest, a time with its zone"),
        ("0001-01-01T00:00+10:00", "write latest, a time with its zone"),
        ("yesterday", "write latest, a time with its zone"),
        ("2026-01-31 12:03:00", "write latest, a time with its zone"),
        ("", "write latest, a time with its zone"),
    ],
)
def test_a_moment_that_cannot_be_had_is_refused(text: str, said: str) -> None:
    with pytest.raises(FlowauditError, match=said):
        choice.way(SNAPSHOTS, choice.goal(text), minutes(300))


def test_what_is_still_to_be_saved_counts_when_it_will_be() -> None:
    goal = choice.goal("2026-01-31T16:30:00Z")
    assert choice.way(SNAPSHOTS, goal, minutes(300), reaches=minutes(300)).base.snapshot_id == "b200"


@pytest.mark.parametrize(
    "snapshots", [[], [base(0)], [log(5)], [base(0), log(5, "7/other")], [base(0, first=1), log(5, first=2)]]
)
def test_without_a_base_backup_and_its_log_nothing_can_be_restored(snapshots: list[Snapshot]) -> None:
    with pytest.raises(FlowauditError, match="nothing can be restored"):
        choice.way(snapshots, choice.goal("latest"), minutes(300))


def test_what_a_clock_dated_into_the_future_is_not_the_end() -> None:
    snapshots = [base(60, first=20), log(65, first=20, last=21), log(120, first=20, last=30)]
    wrong = [base(9000, first=22), log(9005, first=20, last=23)]
    for text, until in (("latest", "w120"), ("2026-01-31T13:01:00Z", "w120"), ("2026-01-31T13:30:00Z", "w120")):
        found = choice.way([*snapshots, *wrong], choice.goal(text), minutes(121))
        assert (found.base.snapshot_id, found.log.snapshot_id) == ("b60", until)
    # Better than nothing.
    assert choice.way(wrong, choice.goal("latest"), minutes(121)).base.snapshot_id == "b9000"


def test_after_a_clock_went_back_the_end_is_where_the_log_ends() -> None:
    snapshots = [base(60, first=20, last=20), log(120, first=20, last=30), log(2, first=20, last=40)]
    for now in (3, 200):
        found = choice.way(snapshots, choice.goal("latest"), minutes(now), line="7/a")
        assert (found.base.snapshot_id, found.log.snapshot_id) == ("b60", "w2")
        assert found.heartbeat is not None and found.heartbeat <= minutes(now + 1)
    # A base backup that was taken since, too.
    since = [base(1, first=35, last=35), log(2.5, first=20, last=41)]
    found = choice.way([*snapshots, *since], choice.goal("latest"), minutes(3), line="7/a")
    assert (found.base.snapshot_id, found.log.snapshot_id) == ("b1", "w2.5")


def test_a_label_that_is_no_time_counts_as_none() -> None:
    odd = dataclasses.replace(base(50), labels={**base(50).labels, "ended_at": "garbage"})
    early = dataclasses.replace(base(40), labels={**base(40).labels, "ended_at": "0001-01-01T00:00:00+14:00"})
    naive = dataclasses.replace(log(70), labels={**log(70).labels, "received": "2026-01-31T12:00:00"})
    found = choice.way([base(0), early, odd, log(60), naive], choice.goal("latest"), minutes(300))
    assert (found.base.snapshot_id, found.log.snapshot_id) == ("b50", "w70")


def test_the_end_is_that_of_the_line_that_is_followed() -> None:
    snapshots = [base(200), log(205), base(100, "7/b"), log(105, "7/b")]
    for line, chosen in (("7/b", "b100"), ("", "b200")):
        assert choice.way(snapshots, choice.goal("latest"), minutes(300), line=line).base.snapshot_id == chosen
    with pytest.raises(FlowauditError, match="What is written at present has no base backup on the target yet"):
        choice.way(snapshots, choice.goal("latest"), minutes(300), line="7/c")
    # A moment is one, whatever line it was on.
    assert (
        choice.way(snapshots, choice.goal("2026-01-31T15:21:00Z"), minutes(300), line="7/b").base.snapshot_id == "b200"
    )


def test_a_goal_says_what_it_is() -> None:
    names = ("latest", "2026-01-31 13:00:00+01:00", "pre-1.2.0-20260131T120400Z")
    assert [str(choice.goal(name)) for name in names] == [
        "latest",
        "2026-01-31T12:00:00Z",
        "pre-1.2.0-20260131T120400Z",
    ]


# ── What was recovered ──


def test_what_had_rows_and_has_none_is_told() -> None:
    before = {"flowaudit": {"documents": 5, "empty": 0, "gone": 2}, "other": {"x": 1}}
    said = recovery.differences(before, {"flowaudit": {"documents": 9, "new": 0}})
    assert said == [
        "flowaudit has no rows in gone, which had some when the base backup was taken.",
        "The database other is not there.",
    ]
    assert recovery.differences(before, {**before, "more": {}}) == []


# ── restic's answers ──


def test_a_snapshot_is_read_as_restic_tells_it() -> None:
    told = {
        "id": "ab12",
        "time": "2026-01-31T13:00:00.123456789+01:00",
        "tags": ["base", "stream=7/a", "odd"],
        "paths": ["/data/base/1"],
        "summary": {"total_bytes_processed": 42, "total_files_processed": 3},
    }
    found = restic._snapshot(told)
    assert (found.kind, found.labels, found.size, found.files) == ("base", {"stream": "7/a"}, 42, 3)
    assert stamp(found.time) == "2026-01-31T12:00:00Z"
    assert restic._snapshot({"id": "x", "time": "2026-01-31T12:00:00Z", "tags": None, "paths": []}).kind == ""


def test_what_was_saved_is_the_last_line() -> None:
    summary = {
        "message_type": "summary",
        "snapshot_id": "ab",
        "total_files_processed": 2,
        "total_bytes_processed": 9,
        "data_added": 4,
    }
    assert restic._summary('{"message_type": "status"}\nno json\n' + json.dumps(summary), "x") == restic.Saved(
        "ab", 2, 9, 4
    )
    with pytest.raises(FlowauditError, match="nothing is proved"):
        restic._summary('{"message_type": "status"}', "x")


@pytest.mark.parametrize(
    ("output", "errors", "said"),
    [
        ('{"message_type": "exit_error", "code": 1, "message": "Fatal: no space."}', "", "Fatal: no space"),
        ("", '{"message_type": "error", "error": {"message": "lstat /x"}}', "lstat /x"),
        (
            "",
            "one\nssh: connect to host nas port 22: No route to host",
            "one / ssh: connect to host nas port 22: No route to host",
        ),
        ("[]", "", "[]"),
    ],
)
def test_the_reason_of_a_failure_is_found(output: str, errors: str, said: str) -> None:
    assert restic.reason(Result(1, output, errors)) == said


def test_a_name_is_no_pattern() -> None:
    assert restic._literal(r"a*[1]?\.pdf") == r"a\*\[1\]\?\\.pdf"


# ── Settings, records, figures ──


def test_settings_are_read_or_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "settings.json"
    with pytest.raises(FlowauditError, match="this host has no backups"):
        settings.load(str(path))
    for wrong in ("", "[]", "{}", '{"targets": [{"name": "nas"}], "odd": 1}'):
        path.write_text(wrong)
        with pytest.raises(FlowauditError, match=r"not what this version writes"):
            settings.load(str(path))


def test_a_job_that_was_killed_has_not_succeeded(tmp_path: pathlib.Path) -> None:
    records = Records(str(tmp_path))
    records.prepare()
    assert records.job("wal") == Record()
    records.began("wal", NOON)
    records.succeeded("wal", 1.23456, 7, {"segments": 2})
    assert records.job("wal") == Record(stamp(NOON), "", stamp(NOON), 1.235, 7, {"segments": 2})
    records.began("wal", minutes(5))
    killed = records.job("wal")
    assert (killed.succeeded_at, killed.error) == (stamp(NOON), "It was ended before its end.")
    records.failed("wal", "No route to host")
    assert records.job("wal").error == "No route to host"
    (tmp_path / "jobs" / "wal.json").write_text("{")
    assert records.job("wal") == Record()


def test_one_at_a_time_and_the_other_is_told_who(tmp_path: pathlib.Path) -> None:
    records = Records(str(tmp_path))
    assert not records.locked("base")
    with records.lock("base", 0, {"since": "noon"}):
        assert records.locked("base")
        with (
            pytest.raises(FlowauditError, match=r"The job base is under way since noon \(process \d+\)"),
            records.lock("base", 0, {}),
        ):
            pass
    assert not records.locked("base")


def test_state_is_kept_and_what_cannot_be_read_is_nothing(tmp_path: pathlib.Path) -> None:
    records = Records(str(tmp_path))
    assert (records.state(), records.paused(), records.journal(), records.retired(), records.proofs()) == (
        {},
        {},
        {},
        {},
        {},
    )
    records.prepare()
    records.note(gaps=1)
    records.note(received_at="x")
    assert records.state() == {"gaps": 1, "received_at": "x"}
    records.pause({"/x": ["chroma"]})
    assert records.paused() == {"/x": ["chroma"]}
    records.resumed()
    records.resumed()
    assert records.paused() == {}
    records.write_journal(step="stop")
    assert records.journal() == {"step": "stop"}
    records.close_journal()
    records.close_journal()
    records.retire("old", NOON)
    assert records.retired() == {"old": stamp(NOON)}
    records.forget_retired("old")
    assert records.retired() == {}
    records.prove("drill", NOON, {"problems": []})
    assert list(records.proofs().values()) == [{"kind": "drill", "at": stamp(NOON), "problems": []}]
    shown = {"name": "20260131T120000Z-drill.json", "kind": "drill", "at": stamp(NOON), "problems": []}
    assert records.unrecorded() == [shown]
    (tmp_path / "proofs" / "recorded" / shown["name"]).touch()
    assert records.unrecorded() == []
    (tmp_path / "state.json").write_text("[]")
    assert records.state() == {}


def status(**more: t.Any) -> dict[str, t.Any]:
    job = {"succeeded_at": stamp(NOON), "error": "", "seconds": 1.5, "size": 10, "due": 900}
    never = {"succeeded_at": "", "error": "x", "seconds": 0, "size": 0, "due": 0}
    return {"jobs": {"wal": job, "base": never}, "rpo_host": 3.0, "rpo_site": None, "gaps": 2, "drill": {}, **more}


def test_figures_are_what_prometheus_reads(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "backup.prom"
    metrics.write(str(path), status(), None)
    lines = path.read_text().splitlines()
    assert f'flowaudit_backup_last_success_timestamp_seconds{{job="wal"}} {int(NOON.timestamp())}' in lines
    assert 'flowaudit_backup_last_success_timestamp_seconds{job="base"} 0' in lines
    assert 'flowaudit_backup_success{job="base"} 0' in lines
    assert 'flowaudit_backup_duration_seconds{job="wal"} 1.500' in lines
    assert "flowaudit_backup_wal_gap_total 2" in lines
    assert "# TYPE flowaudit_backup_wal_gap_total counter" in lines
    assert 'flowaudit_rpo_seconds{scope="host"} 3' in lines
    assert not any("drill" in line or 'scope="site"' in line for line in lines)
    drill = {"at": stamp(NOON), "problems": ["x"], "rpo": 60.0, "rto": 12.0}
    metrics.write(str(path), status(drill=drill), Slot("reserved", True, 17, None))
    lines = path.read_text().splitlines()
    assert {"flowaudit_drill_success 0", "flowaudit_drill_rpo_seconds 60", "flowaudit_drill_rto_seconds 12"} <= set(
        lines
    )
    assert "flowaudit_backup_wal_receiver_lag_bytes 17" in lines
    # Every figure is described before it comes.
    assert [line.split()[2] for line in lines if line.startswith("# HELP")] == list(
        dict.fromkeys(line.partition("{")[0].split()[0] for line in lines if not line.startswith("#"))
    )


def test_a_label_may_hold_anything() -> None:
    text = metrics.text({"flowaudit_backup_bytes": {metrics.label(job='a"b\\c\nd'): 1}})
    assert text.splitlines()[-1] == 'flowaudit_backup_bytes{job="a\\"b\\\\c\\nd"} 1'


def test_a_time_is_read_as_it_was_written() -> None:
    assert moment(stamp(NOON)) == NOON
    assert moment("") is None
