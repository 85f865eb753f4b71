# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One run, from what the callback hands over to the entries; the trail is real, and breaks where a test wants it to."""

from __future__ import annotations

import pathlib
import time
import typing as t
from collections.abc import Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import anchors, canonical, entry, events, provenance
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.home import Home
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.publish import Publishing
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.recorder import Recorder, Settings
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.sqlite import SqliteLog

START = {"command": "ansible-playbook"}
TASK = {"name": "Touch", "src": "site.yml:3", "fqcn": "ansible.builtin.raw"}


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    return Home(tmp_path / "trail")


@pytest.fixture
def make(home: Home) -> Iterator[t.Callable[..., Recorder]]:
    made = []

    def recorder(**settings: t.Any) -> Recorder:
        made.append(
            Recorder(Settings(**{"directory": str(home.path), "version": "0.2.0", "accept_ephemeral": True} | settings))
        )
        return made[-1]

    yield recorder
    for one in made:
        one.close()


@pytest.fixture
def recorder(make: t.Callable[..., Recorder]) -> Recorder:
    return make()


def entries(home: Home) -> list[dict[str, t.Any]]:
    log = SqliteLog(home)
    found = [canonical.decode(row.line) for row in log.rows() if row.line is not None]
    log.close()
    return found


def kinds(home: Home) -> list[str]:
    return [value["type"] for value in entries(home)]


def done(recorder: Recorder, task: str = "t1", host: str = "h1", **fields: t.Any) -> None:
    def made(duration: float, items: events.Items) -> events.Result:
        given = {
            "status": "ok",
            "fqcn": "ansible.builtin.raw",
            "src": "site.yml:3",
            "result": {},
            "items": items.counts,
        }
        return events.Result(task=task, host=host, duration=duration, delegates=items.delegates, **given | fields)

    recorder.result(task, host, made)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Writing to the log fails while there is a reason in it."""
    reasons: dict[str, str] = {}
    append = SqliteLog.append

    def failing(log: SqliteLog, *arguments: t.Any) -> range:
        if reasons:
            raise FlowauditError(next(iter(reasons.values())))
        return append(log, *arguments)

    monkeypatch.setattr(SqliteLog, "append", failing)
    return reasons


# ── As it should be ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_from_its_start_to_its_end(home: Home, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorder.begin(dict(START), "CHG-1") == []
    assert kinds(home) == ["log.created", "run.start"] and recorder.begun and not recorder.ended
    recorder.note(entry.PLAY_START, {"play": "p1"})
    recorder.task_started("t1", dict(TASK))
    assert recorder.proceed() == []
    assert kinds(home)[-1] == "task.start"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    recorder.dispatched("t1", "h1")
    recorder.mention(entry.TASK_RETRY, "t1", "h1", {"attempts": 1})
    monkeypatch.setattr(time, "monotonic", lambda: now + 1.5)
    done(recorder, changed=True)
    done(recorder, host="never dispatched")
    assert recorder.end({"h1": {"ok": 1, "failures": 0}}) == []
    assert recorder.ended
    found = entries(home)
    assert [value["type"] for value in found[4:]] == [
        "task.dispatched",
        "task.retry",
        "task.result",
        "task.result",
        "run.end",
    ]
    start, end = found[1], found[-1]
    assert (start["command"], start["node"]) == ("ansible-playbook", provenance.node())
    assert {value["chg"] for value in found[1:]} == {"CHG-1"}
    assert [value["dur_ms"] for value in found if value["type"] == "task.result"] == [1500, 0]
    assert (end["status"], end["stats"]) == ("ok", {"h1": {"ok": 1, "failures": 0}})
    log = SqliteLog(home)
    assert log.openings([start["actor"]])[start["actor"]].kind == "actor"
    assert len(list(log.checkpoints())) == 1
    log.close()
    assert list(home.runs.iterdir()) == []


@pytest.mark.parametrize(
    ("stats", "status"),
    [
        ({}, "ok"),
        ({"h1": {"ok": 1}, "h2": {"unreachable": 1}}, "unreachable"),
        ({"h1": {"failures": 1}, "h2": {"unreachable": 1}}, "failed"),
    ],
)
def test_the_end_says_how_it_went(home: Home, recorder: Recorder, stats: dict[str, t.Any], status: str) -> None:
    recorder.begin(dict(START))
    recorder.end(stats)
    assert entries(home)[-1]["status"] == status


def test_hosts_may_have_any_name(home: Home, recorder: Recorder) -> None:
    recorder.begin(dict(START))
    recorder.end({"büro": {"ok": 1}, "🖥": {"ok": 2}})
    assert entries(home)[-1]["stats"] == {"b\\xfcro": {"ok": 1}, "\\U0001f5a5": {"ok": 2}}


def test_the_items_of_a_loop_go_with_its_result(home: Home, recorder: Recorder) -> None:
    recorder.begin(dict(START))
    recorder.task_started("t1", dict(TASK))
    recorder.dispatched("t1", "h1")
    recorder.item("t1", "h1", "ok", True, "h2")
    recorder.item("t1", "h1", "failed", False)
    done(recorder)
    done(recorder, host="h2")
    recorder.end({})
    first, second = [value for value in entries(home) if value["type"] == "task.result"]
    assert first["items"] == {"ok": 0, "changed": 1, "failed": 1, "skipped": 0} and first["delegate"] == "h2"
    assert "items" not in second and "delegate" not in second


def test_what_looks_after_a_task_is_told_of_that_task(home: Home, recorder: Recorder) -> None:
    recorder.begin(dict(START))
    recorder.task_started("t1", dict(TASK))
    recorder.dispatched("t1", "h1")
    recorder.mention(entry.TASK_ASYNC, "poll", "h1", {"status": "started"})
    recorder.mention(entry.TASK_ASYNC, "poll", "h2", {"status": "started"})
    recorder.end({})
    found = [(value["task"], value["host"]) for value in entries(home) if value["type"] == "task.async"]
    assert found == [("t1", "h1"), ("poll", "h2")]


# ── How it may end ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_figures_of_ansible_the_results_are_counted(home: Home, recorder: Recorder) -> None:
    recorder.begin(dict(START))
    done(recorder, changed=True)
    done(recorder, status="failed", changed=True)
    done(recorder, status="failed", ignored=True)
    done(recorder, host="h2", status="skipped")
    done(recorder, host="h2", status="unreachable")
    assert recorder.leave(own_end=True) == []
    end = entries(home)[-1]
    assert (end["type"], end["status"]) == ("run.end", "failed")
    assert end["stats"] == {
        "h1": {"ok": 2, "changed": 1, "failures": 1, "unreachable": 0, "skipped": 0},
        "h2": {"ok": 0, "changed": 0, "failures": 0, "unreachable": 1, "skipped": 1},
    }
    assert recorder.leave(own_end=True) == [] and kinds(home).count("run.end") == 1


def test_a_playbook_that_is_not_followed_by_the_next_has_failed(home: Home, recorder: Recorder) -> None:
    recorder.begin(dict(START))
    recorder.playbook_ended({"h1": {"ok": 1}})
    recorder.playbook_started("second.yml")
    recorder.playbook_ended({"h1": {"ok": 2}})
    assert recorder.leave(own_end=False) == []
    assert kinds(home)[2:] == ["playbook.end", "playbook.start", "playbook.end", "run.end"]
    assert entries(home)[-1]["status"] == "failed" and entries(home)[-1]["stats"] == {"h1": {"ok": 2}}


def test_an_end_that_nothing_announced_is_an_error(home: Home, recorder: Recorder) -> None:
    assert recorder.leave(own_end=False) == [] and not home.path.exists()
    recorder.begin(dict(START))
    recorder.playbook_ended({})
    recorder.playbook_started("second.yml")
    recorder.task_started("t1", dict(TASK))
    recorder.dispatched("t1", "h1")
    assert recorder.leave(own_end=False) == []
    aborted = entries(home)[-1]
    assert (aborted["type"], aborted["reason"]) == ("run.aborted", "error")
    flying = {"host": "h1", "task": "t1", "name": "Touch", "src": "site.yml:3"}
    assert aborted["tasks_in_flight"] == [flying]


def test_a_signal_is_recorded_once_and_not_published(home: Home, recorder: Recorder) -> None:
    assert recorder.abort("signal") == [] and not home.path.exists()
    recorder.begin(dict(START))
    assert recorder.abort("signal", {"signal": "SIGTERM"}, publish=False) == []
    assert recorder.abort("signal", {"signal": "SIGINT"}, publish=False) == []
    assert [value.get("signal") for value in entries(home)][-2:] == [None, "SIGTERM"]
    log = SqliteLog(home)
    assert list(log.checkpoints()) == []
    log.close()


def test_a_killed_run_is_closed_by_the_next(home: Home, make: t.Callable[..., Recorder]) -> None:
    log = SqliteLog.open_or_create(home, "0.2.0")
    log.append([{"type": entry.RUN_START, "ts": entry.timestamp(), "run": "killed"}])
    log.close()
    assert make().begin(dict(START)) == ["killed"]
    assert kinds(home)[2:] == ["run.aborted", "run.start"]


# ── When it cannot be recorded ───────────────────────────────────────────────────────────────────────────────────────


def test_without_a_key_nothing_begins(home: Home, make: t.Callable[..., Recorder]) -> None:
    SqliteLog.open_or_create(home, "0.2.0").close()
    home.signing_key.unlink()
    recorder = make()
    with pytest.raises(FlowauditError, match="signing key"):
        recorder.begin(dict(START))
    assert recorder.leave(own_end=False) == recorder.abort("signal") == []
    recorder.close()
    assert kinds(home) == ["log.created"]


def test_what_was_held_up_comes_first_when_it_goes_on(
    home: Home, make: t.Callable[..., Recorder], broken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    SqliteLog.open_or_create(home, "0.2.0").close()
    recorder = make()
    key = home.signing_key.rename(home.path / "away")
    with pytest.raises(FlowauditError):
        recorder.begin(dict(START))
    recorder.note(entry.PROMPT, {"name": "x"})
    recorder.goes_on = True
    recorder.go_on()
    recorder.go_on()  # once is enough
    recorder.note(entry.PLAY_START, {"on_failure": "continue"})
    broken["disk"] = "The disk is full."
    assert recorder.proceed() == ["The disk is full."]
    assert recorder.proceed() == []  # it was said
    assert kinds(home) == ["log.created"]
    broken.clear()
    key.rename(home.signing_key)
    assert recorder.proceed() == []
    assert kinds(home)[1:] == ["run.start", "prompt", "play.start"]
    broken["disk"] = "The disk is full again."
    assert recorder.proceed() == []  # there was nothing to write
    recorder.note(entry.PROMPT, {"name": "y"})
    assert recorder.proceed() == ["The disk is full again."]
    broken.clear()
    assert recorder.end({}) == []


def test_it_does_not_go_on_by_itself(home: Home, recorder: Recorder, broken: dict[str, str]) -> None:
    recorder.begin(dict(START))
    broken["disk"] = "The disk is full."
    recorder.task_started("t1", dict(TASK))
    with pytest.raises(FlowauditError, match="full"):
        recorder.proceed()
    with pytest.raises(FlowauditError, match="full"):
        recorder.leave(own_end=False)
    broken.clear()
    recorder.close()
    # Kept, and written as soon as it could be
    assert kinds(home)[1:] == ["run.start", "task.start", "run.aborted"]


def test_a_log_that_is_gone_is_not_begun_anew(home: Home, recorder: Recorder) -> None:
    recorder.begin(dict(START))
    home.path.rename(home.path.with_name("elsewhere"))
    recorder.note(entry.PLAY_START, {})
    for why in ("No such file", "There is no trail"):
        with pytest.raises(FlowauditError, match=why):
            recorder.proceed()
    assert not home.database.exists()


def test_what_we_could_not_record_stops_it(home: Home, recorder: Recorder) -> None:
    recorder.begin(dict(START))
    recorder.missed("A fault.")
    recorder.missed("Another, which came of it.")
    with pytest.raises(FlowauditError, match="A fault"):
        recorder.proceed()
    assert recorder.proceed() == []
    assert [value["lost"] for value in entries(home) if value["type"] == "gap"] == [1, 1]


@pytest.mark.parametrize("goes_on", [False, True])
def test_what_we_could_not_record_at_the_end_fails_it(home: Home, recorder: Recorder, goes_on: bool) -> None:
    recorder.begin(dict(START))
    recorder.goes_on = goes_on
    recorder.missed("A fault.")
    if goes_on:
        assert recorder.end({}) == []
    else:
        with pytest.raises(FlowauditError, match="A fault"):
            recorder.end({})
    assert kinds(home)[-2:] == ["gap", "run.end"]


def unreadable(*arguments: t.Any) -> t.NoReturn:
    raise PermissionError("not for you")


def test_what_would_not_last_is_refused(
    home: Home, make: t.Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def why(directory: str, mounts: str, environment: t.Any) -> str:
        asked.append((directory, bool(mounts)))
        return "it is a test"

    monkeypatch.setattr(provenance, "why_ephemeral", why)
    with pytest.raises(FlowauditError, match="would not last: it is a test"):
        make(accept_ephemeral=False).begin(dict(START))
    assert not home.path.exists()
    monkeypatch.setattr(pathlib.Path, "read_text", unreadable)
    with pytest.raises(FlowauditError, match="would not last"):
        make(accept_ephemeral=False).begin(dict(START))
    # Asked of what is there already
    assert asked == [(str(home.path.parent), True), (str(home.path.parent), False)]


def test_what_lasts_or_is_shipped_is_not(
    home: Home, make: t.Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "why_ephemeral", lambda *arguments: "")
    lasting = make(accept_ephemeral=False)
    assert lasting.begin(dict(START)) == [] and lasting.end({}) == []
    monkeypatch.setattr(provenance, "why_ephemeral", lambda *arguments: pytest.fail("asked"))
    shipped = make(accept_ephemeral=False, publishing=Publishing(database="host=127.0.0.1 port=9"))
    monkeypatch.setattr(shipped._publisher, "start", lambda: None)
    assert shipped.begin(dict(START)) == []


def test_the_anchors_are_told_in_the_end(
    home: Home, make: t.Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [anchors.Outcome("worm", True, "/worm/1"), anchors.Outcome("syslog", False, "Nobody answers.")]
    monkeypatch.setattr(anchors, "keep_all", lambda *arguments: told)
    recorder = make()
    recorder.begin(dict(START))
    assert recorder.end({}) == ["The trail's anchor syslog: Nobody answers."]
    assert kinds(home)[-1] == "anchor"
