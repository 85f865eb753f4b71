# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Questions to a log: right, complete, in pages, and answered by an index."""

from __future__ import annotations

import fcntl
import os
import pathlib
import typing as t
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical, commitment, home, query, sqlite
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.query import EntryFilter, Period, RunFilter
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.run import open_runs
from ansible_collections.flowaudit.ops.tests.unit.plugins import trail_evidence
from ansible_collections.flowaudit.ops.tests.unit.plugins.trail_evidence import RUN_A, RUN_B, RUN_C, RUN_D, Made, moment

NOW = 1_772_366_400.0  # 2026-03-01T12:00:00Z


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return trail_evidence.make(tmp_path_factory.mktemp("original") / "trail")


@pytest.fixture
def made(original: Made, tmp_path: pathlib.Path) -> Made:
    return original.copy(tmp_path)


@pytest.fixture
def log(made: Made) -> Iterator[sqlite.SqliteLog]:
    with made.log() as opened:
        yield opened


def ids(page: query.Page) -> list[str]:
    return [item["run"] for item in page.items]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-03-01", "2026-03-01T00:00:00.000Z"),
        ("2026-03-01T14:00:00Z", "2026-03-01T14:00:00.000Z"),
        ("2026-03-01 14:00", "2026-03-01T14:00:00.000Z"),
        ("2026-03-01T14:00:00.5+02:00", "2026-03-01T12:00:00.500Z"),
        ("90m", "2026-03-01T10:30:00.000Z"),
        ("24h", "2026-02-28T12:00:00.000Z"),
        ("7d", "2026-02-22T12:00:00.000Z"),
        ("2w", "2026-02-15T12:00:00.000Z"),
        ("10s", "2026-03-01T11:59:50.000Z"),
        ("99999999w", "1970-01-01T00:00:00.000Z"),
    ],
)
def test_a_moment_is_a_date_a_time_or_how_long_ago(text: str, meant: str) -> None:
    assert query.moment(text, NOW) == meant


@pytest.mark.parametrize("text", ["yesterday", "7 days", "2026-13-01", "-1d", "", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(FlowauditError, match="is no point in time; write 2026-03-01"):
        query.moment(text, NOW)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (RunFilter(), [RUN_D, RUN_C, RUN_B, RUN_A]),
        (RunFilter(run=RUN_B), [RUN_B]),
        (RunFilter(run=RUN_B, user="nobody"), []),
        (RunFilter(run="none"), []),
        (RunFilter(change_id="CHG-1"), [RUN_A]),
        (RunFilter(run=RUN_A, change_id="CHG-2"), []),
        (RunFilter(change_id="CHG-3"), []),
        (RunFilter(host="web02"), [RUN_A]),
        (RunFilter(host="db01", change_id="CHG-1"), []),
        (RunFilter(status="ok"), [RUN_A]),
        (RunFilter(status="failed"), [RUN_B]),
        (RunFilter(status="unreachable"), []),
        (RunFilter(status="aborted"), [RUN_C]),
        (RunFilter(status="open"), [RUN_D]),
        (RunFilter(user="anna"), [RUN_D, RUN_B, RUN_A]),
        (RunFilter(user="bert"), [RUN_B]),
        (RunFilter(user="ann"), []),
        (RunFilter(playbook="site.yml"), [RUN_A]),
        (RunFilter(playbook="playbooks/site.yml"), [RUN_A]),
        (RunFilter(playbook="ite.yml"), []),
        (RunFilter(playbook="/srv/ops/other.yml"), [RUN_C]),
        (RunFilter(command="ansible"), [RUN_B]),
        (RunFilter(period=Period(moment(10), moment(20))), [RUN_B]),
        (RunFilter(period=Period(since=moment(20))), [RUN_D, RUN_C]),
        (RunFilter(period=Period(until=moment(10))), [RUN_A]),
    ],
)
def test_runs_are_found_by_what_they_were(log: sqlite.SqliteLog, wanted: RunFilter, found: list[str]) -> None:
    assert ids(query.runs(log, wanted, 10)) == found


def test_a_run_says_who_when_what_and_how_it_ended(log: sqlite.SqliteLog) -> None:
    run = query.run(log, RUN_A)
    assert {key: run[key] for key in ("user", "login_user", "uid", "status", "change_id", "playbook")} == {
        "user": "anna",
        "login_user": "anna",
        "uid": 1000,
        "status": "ok",
        "change_id": "CHG-1",
        "playbook": ["playbooks/site.yml"],
    }
    assert (run["started"], run["ended"], run["duration_ms"]) == (moment(0), moment(0, 11), 61_000)
    assert run["stats"]["web01"]["changed"] == 1
    assert run["repositories"][0]["dirty"] is True
    assert not {"v", "prev", "ts", "type", "chg", "actor"} & set(run)


def test_an_aborted_run_says_what_was_under_way(log: sqlite.SqliteLog) -> None:
    run = query.run(log, RUN_C)
    assert (run["status"], run["reason"], run["last_seq"]) == ("aborted", "killed", 30)
    assert run["tasks_in_flight"][0]["host"] == "web01"


def test_a_run_that_has_not_ended_has_no_end(log: sqlite.SqliteLog) -> None:
    run = query.run(log, RUN_D)
    assert (run["status"], run["ended"], run["duration_ms"], run["stats"]) == ("open", None, None, {})


def test_who_was_erased_is_nobody_and_not_found(made: Made, log: sqlite.SqliteLog) -> None:
    log.erase([made.openings["bert"].commitment], {"type": "redaction", "ts": moment(50), "reason": "asked"})
    run = query.run(log, RUN_B)
    assert (run["user"], run["login_user"], run["uid"]) == (None, None, None)
    assert ids(query.runs(log, RunFilter(user="bert"), 10)) == []


@pytest.mark.parametrize("value", [b"no json", b"[]"])
def test_an_actor_that_says_nothing_is_nobody(log: sqlite.SqliteLog, value: bytes) -> None:
    opening = commitment.commit("actor", value)
    log.append([{"type": "run.start", "ts": moment(55), "run": "x", "actor": opening.commitment}], [opening])
    assert query.run(log, "x")["user"] is None


def test_an_unknown_run_is_an_error(log: sqlite.SqliteLog) -> None:
    with pytest.raises(FlowauditError, match="has no run nothing; what was archived"):
        query.run(log, "nothing")


def test_a_playbook_may_be_one_string(made: Made, log: sqlite.SqliteLog) -> None:
    log.append([{"type": "run.start", "ts": moment(55), "run": "x", "playbook": "a/b.yml"}])
    assert query.run(log, "x")["playbook"] == ["a/b.yml"]
    assert ids(query.runs(log, RunFilter(playbook="b.yml"), 10)) == ["x"]


@pytest.mark.parametrize(
    ("wanted", "count", "first"),
    [
        (EntryFilter(), 34, "key.rotated"),
        (EntryFilter(type="run.start"), 4, "run.start"),
        (EntryFilter(type="task.result"), 6, "task.result"),
        (EntryFilter(type="none"), 0, ""),
        (EntryFilter(run=RUN_A), 12, "run.end"),
        (EntryFilter(run=RUN_A, type="task.result"), 4, "task.result"),
        (EntryFilter(run=RUN_A, host="web02"), 2, "task.result"),
        (EntryFilter(change_id="CHG-1"), 12, "run.end"),
        (EntryFilter(change_id="CHG-1", changed=True), 1, "task.result"),
        (EntryFilter(change_id="CHG-2", type="gap"), 1, "gap"),
        (EntryFilter(change_id="CHG-3"), 0, ""),
        (EntryFilter(host="web01"), 4, "task.retry"),
        (EntryFilter(host="web01", changed=True), 1, "task.result"),
        (EntryFilter(host="web02", changed=True), 0, ""),
        (EntryFilter(host="web01", type="event"), 1, "event"),
        (EntryFilter(changed=True), 1, "task.result"),
        (EntryFilter(failed=True), 3, "task.result"),
        (EntryFilter(failed=True, host="db01"), 1, "task.result"),
        (EntryFilter(failed=True, period=Period(since=moment(10))), 2, "task.result"),
        (EntryFilter(period=Period(moment(20), moment(20, 5))), 5, "prompt"),
        (EntryFilter(type="task.start", period=Period(since=moment(10))), 2, "task.start"),
    ],
)
def test_entries_are_found_by_what_they_say(log: sqlite.SqliteLog, wanted: EntryFilter, count: int, first: str) -> None:
    page = query.entries(log, wanted, 100)
    assert len(page.items) == count
    assert page.next is None
    assert [item["type"] for item in page.items[:1]] == ([first] if first else [])
    moments = [(item["ts"], item["seq"]) for item in page.items]
    assert moments == sorted(moments, reverse=True)
    assert sorted(item["seq"] for item in page.items) == query.places(log, wanted)


HOSTS = ["", "web01", "web02", "db01", "db02", "none"]
TYPES = ["", "run.start", "task.result", "task.start", "event", "none"]
MOMENTS = ["", *(moment(minute) for minute in (0, 5, 10, 20, 40, 59)), moment(0, 5), moment(20, 4)]
FILTERS = st.builds(
    EntryFilter,
    type=st.sampled_from(TYPES),
    run=st.sampled_from(["", RUN_A, RUN_B, RUN_C, RUN_D, "none"]),
    change_id=st.sampled_from(["", "CHG-1", "CHG-2", "none"]),
    host=st.sampled_from(HOSTS),
    changed=st.booleans(),
    failed=st.booleans(),
    period=st.builds(Period, st.sampled_from(MOMENTS), st.sampled_from(MOMENTS)),
)


def fits(value: dict[str, t.Any], wanted: EntryFilter) -> bool:
    """The filter again, without an index."""
    is_result = value["type"] == "task.result"
    return (
        wanted.type in ("", value["type"])
        and wanted.run in ("", value.get("run"))
        and wanted.change_id in ("", value.get("chg"))
        and wanted.host in ("", value.get("host"))
        and (not wanted.changed or (is_result and value["changed"]))
        and (not wanted.failed or (is_result and value["status"] in ("failed", "unreachable")))
        and wanted.period.since <= value["ts"]
        and (not wanted.period.until or value["ts"] < wanted.period.until)
    )


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=FILTERS, limit=st.integers(1, 40), first=st.integers(0, 40), stop=st.integers(0, 40))
def test_an_index_finds_what_reading_everything_finds(
    log: sqlite.SqliteLog, wanted: EntryFilter, limit: int, first: int, stop: int
) -> None:
    lines = [canonical.decode(row.line or b"") for row in log.rows()]
    expected = [value for value in lines if fits(value, wanted)]
    found: list[dict[str, t.Any]] = []
    page = query.entries(log, wanted, limit)
    while page.next is not None:
        assert len(page.items) == limit
        found += page.items
        page = query.entries(log, wanted, limit, page.next)
    found += page.items
    assert found == sorted(expected, key=lambda value: (value["ts"], value["seq"]), reverse=True)
    assert query.places(log, wanted, first, stop) == [v["seq"] for v in expected if first <= v["seq"] < stop]


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_what_is_written_between_two_pages_shifts_nothing(log: sqlite.SqliteLog, limit: int) -> None:
    found: list[str] = []
    page = query.runs(log, RunFilter(), limit)
    while True:
        found += ids(page)
        if page.next is None:
            break
        log.append([{"type": "run.start", "ts": moment(59), "run": "meanwhile"}])
        page = query.runs(log, RunFilter(), limit, page.next)
    assert found == [RUN_D, RUN_C, RUN_B, RUN_A]


@pytest.mark.parametrize("before", [999, -1])
def test_a_page_goes_on_behind_an_entry_that_is_there(log: sqlite.SqliteLog, before: int) -> None:
    with pytest.raises(FlowauditError, match=f"has no entry {before} to go on behind"):
        query.entries(log, EntryFilter(), 1, before)


def test_entries_without_bytes_are_not_found(log: sqlite.SqliteLog) -> None:
    with log.changing() as connection:
        connection.execute("UPDATE entries SET line = NULL WHERE seq < 14")
    assert len(query.entries(log, EntryFilter(), 100).items) == 20
    assert ids(query.runs(log, RunFilter(), 10)) == [RUN_D, RUN_C, RUN_B]
    assert list(query.entries_of(log, RUN_A)) == []


def test_the_entries_of_a_run_come_in_order(log: sqlite.SqliteLog) -> None:
    entries = list(query.entries_of(log, RUN_A))
    assert [value["seq"] for value in entries] == list(range(1, 13))


def test_open_runs_are_those_without_an_end(log: sqlite.SqliteLog) -> None:
    assert open_runs(log) == [RUN_D]
    log.append([{"type": "run.start", "ts": moment(41)}, {"type": "run.start", "ts": moment(39), "run": "e"}])
    assert open_runs(log) == ["e", RUN_D]
    log.append([{"type": "run.aborted", "ts": moment(42), "run": RUN_D}])
    assert open_runs(log) == ["e"]


def test_a_run_lives_while_its_lock_is_held(made: Made, log: sqlite.SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    assert query.is_alive(log.home, RUN_D) is False
    path = made.directory / "runs" / f"{RUN_D}.lock"
    path.touch()
    assert query.is_alive(log.home, RUN_D) is False

    def held(*_arguments: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(fcntl, "lockf", held)
    assert query.is_alive(log.home, RUN_D) is True

    def forbidden(*_arguments: object) -> t.NoReturn:
        raise PermissionError

    monkeypatch.setattr(os, "open", forbidden)
    assert query.is_alive(log.home, RUN_D) is None


def test_the_last_run_is_one_that_is_over(made: Made, log: sqlite.SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    assert query.last_run(log)["run"] == RUN_D  # it was killed: nobody holds its lock
    monkeypatch.setattr(query, "is_alive", lambda _home, run: run == RUN_D)
    assert query.last_run(log)["run"] == RUN_C
    monkeypatch.setattr(query, "_LIVING", 1)
    assert query.last_run(log)["run"] == RUN_C


def test_a_log_without_a_run_has_no_last_one(tmp_path: pathlib.Path) -> None:
    log = sqlite.SqliteLog.open_or_create(home.Home(tmp_path / "trail"), "0.2.0", "node")
    with pytest.raises(FlowauditError, match="has no run that is over"):
        query.last_run(log)
    log.close()


def test_a_snapshot_stays_as_it_is(made: Made, log: sqlite.SqliteLog) -> None:
    with query.snapshot(log):
        size = log.size()
        made.append({"type": "event", "ts": moment(50)})
        assert log.size() == size
    assert log.size() == size + 1


WANTED = [
    *(EntryFilter(**{name: "x"}) for name in ("type", "run", "change_id", "host")),
    EntryFilter(),
    EntryFilter(changed=True, host="x"),
    EntryFilter(failed=True, host="x"),
    EntryFilter(type="task.start"),
    EntryFilter(period=Period(moment(0), moment(1))),
]


@pytest.mark.parametrize("wanted", WANTED)
def test_no_question_for_entries_reads_the_whole_log(log: sqlite.SqliteLog, wanted: EntryFilter) -> None:
    for question, values in asked(log, lambda: (query.entries(log, wanted, 5), query.places(log, wanted, 1, 9))):
        assert not [step for step in plan(log, question, values) if step.startswith("SCAN") and "INDEX" not in step]


@pytest.mark.parametrize(
    "wanted",
    [
        *(RunFilter(**{name: "x"}) for name in ("run", "change_id", "host", "user", "playbook", "command")),
        *(RunFilter(status=status) for status in ("ok", "aborted", "open")),
        RunFilter(),
    ],
)
def test_no_question_for_runs_reads_more_than_runs(log: sqlite.SqliteLog, wanted: RunFilter) -> None:
    for question, values in asked(log, lambda: (query.runs(log, wanted, 5), open_runs(log))):
        for step in plan(log, question, values):
            assert not step.startswith("SCAN") or "entries_started" in step or "json_each" in step


def asked(log: sqlite.SqliteLog, ask: t.Callable[[], object]) -> list[tuple[str, t.Sequence[t.Any]]]:
    """The questions in SQL."""
    questions: list[tuple[str, t.Sequence[t.Any]]] = []
    real = log.ask

    def record(question: str, values: t.Sequence[t.Any] = ()) -> list[tuple[t.Any, ...]]:
        questions.append((question, values))
        return real(question, values)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(log, "ask", record)
        ask()
    assert questions
    return questions


def plan(log: sqlite.SqliteLog, question: str, values: t.Sequence[t.Any]) -> list[str]:
    return [str(step[3]) for step in log.ask(f"EXPLAIN QUERY PLAN {question}", values)]
