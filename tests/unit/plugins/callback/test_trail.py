# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The hooks, with Ansible played; with Ansible in earnest in tests/trail/test_callback.py and beside it."""

from __future__ import annotations

import os
import pathlib
import signal
import types
import typing as t
from collections.abc import Iterator

import pytest
from ansible import context
from ansible.plugins.loader import callback_loader

from ansible_collections.flowaudit.ops.plugins.callback import trail
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical, provenance
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.home import Home
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.recorder import Recorder
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.sqlite import SqliteLog

Some = types.SimpleNamespace


class Display:
    """What was shown."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.verbosity = 0

    def error(self, message: str, wrap_text: bool = True) -> None:
        self.errors.append(message)

    def warning(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    return Home(tmp_path / "trail")


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[t.Any]:
    """What was registered to be done when the process ends."""
    registered: list[t.Any] = []
    monkeypatch.setattr(trail.atexit, "register", lambda *call: registered.append(call))
    return registered


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch, home: Home, exits: list[t.Any]) -> Iterator[None]:
    """A process of its own for each test, in which nothing has been recorded yet."""
    for name, value in (
        ("recorder", None),
        ("pid", 0),
        ("command", ""),
        ("playbooks_left", 0),
        ("failure", ""),
        ("hosts", None),
    ):
        monkeypatch.setattr(trail._Process, name, value)
    monkeypatch.setenv("FLOWAUDIT_TRAIL_DIRECTORY", str(home.path))
    monkeypatch.setenv("FLOWAUDIT_TRAIL_ACCEPT_EPHEMERAL", "true")
    monkeypatch.setattr(provenance, "Repositories", lambda places: Some(answers=lambda: [{"name": "project"}]))
    arguments(monkeypatch)
    earlier = {number: signal.getsignal(number) for number in trail._SIGNALS}
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)
    if trail._Process.recorder is not None:
        trail._Process.recorder.close()


def arguments(monkeypatch: pytest.MonkeyPatch, **more: t.Any) -> None:
    """What the command line has."""
    monkeypatch.setattr(context, "CLIARGS", {"args": ("site.yml",), "inventory": (), "start_at_task": None} | more)


def plugin() -> t.Any:
    made = callback_loader.get("flowaudit.ops.trail", class_only=True)(display=Display())
    made.set_options()
    return made


@pytest.fixture
def callback() -> t.Any:
    return plugin()


class Host(str):
    def get_name(self) -> str:
        return str.__str__(self)


class Inventory:
    """The hosts h1 and h2, and what the group all says."""

    def __init__(self, said: t.Any = None) -> None:
        own = {} if said is None else {"trail_on_failure": said}
        self.groups = {"all": Some(get_vars=lambda: own)}
        self._sources: list[str] = []

    def get_hosts(self, pattern: t.Any, order: t.Any) -> list[Host]:
        return [Host("h1"), Host("h2")]

    def get_host(self, name: str) -> Host | None:
        return Host(name) if name in ("h1", "h2") else None


def play(said: t.Any = None, **extra: t.Any) -> t.Any:
    manager = Some(_inventory=Inventory(said), _loader=None, extra_vars=extra)
    source = {"name": "Play {{ x }}"}
    return Some(get_variable_manager=lambda: manager, hosts="all", order=None, _uuid="p1", get_ds=lambda: source)


def playbook(name: str = "site.yml", directory: pathlib.Path | None = None) -> t.Any:
    return Some(_file_name=name, _basedir=str(directory or ""), _loader=None)


def task(number: str = "t1", **more: t.Any) -> t.Any:
    given: dict[str, t.Any] = {
        "_uuid": number, "_role": None, "action": "raw", "resolved_action": "ansible.builtin.raw", "vars": {},
        "delegate_to": None, "no_log": False, "check_mode": False, "get_path": lambda: "/project/site.yml:3",
        "get_ds": lambda: {"name": "Touch {{ x }}"},
    }  # fmt: skip
    return Some(**given | more)


def result(of: t.Any = None, host: str = "h1", changed: bool = False, **told: t.Any) -> t.Any:
    return Some(task=of or task(), host=Host(host), result=told, is_changed=lambda: changed)


def stats(**hosts: dict[str, int]) -> t.Any:
    return Some(processed=hosts, summarize=lambda host: hosts[host])


def entries(home: Home) -> list[dict[str, t.Any]]:
    log = SqliteLog(home)
    found = [canonical.decode(row.line) for row in log.rows() if row.line is not None]
    log.close()
    return found


def kinds(home: Home) -> list[str]:
    return [value["type"] for value in entries(home)][1:]


def started(callback: t.Any, **extra: t.Any) -> t.Any:
    """A run that has come to its first play."""
    callback.v2_playbook_on_start(playbook())
    callback.v2_playbook_on_play_start(play(**extra))
    return callback


def refused(callback: t.Any, hook: t.Callable[..., None], *arguments: t.Any) -> str:
    with pytest.raises(SystemExit) as end:
        hook(*arguments)
    assert end.value.code == 1
    return str(callback._display.errors[-1])


# ── Start ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_playbook_from_start_to_end(callback: t.Any, home: Home) -> None:
    started(callback)
    callback.v2_playbook_on_task_start(task(), False)
    callback.v2_runner_on_start(Host("h1"), task())
    callback.v2_runner_on_ok(result(changed=True, path="/etc/x", rc=0))
    callback.v2_playbook_on_stats(stats(h1={"ok": 1, "failures": 0, "unreachable": 0}))
    found = entries(home)
    assert kinds(home) == ["run.start", "play.start", "task.start", "task.dispatched", "task.result", "run.end"]
    start, begun, touch, sent, done, end = found[1:]
    assert start["command"] == "ansible-playbook" and start["playbook"] == ["site.yml"]
    assert start["repositories"] == [{"name": "project"}] and start["limit"] == "" and start["tags"] == []
    assert (begun["name"], begun["hosts"], "on_failure" in begun) == ("Play {{ x }}", ["h1", "h2"], False)
    assert (touch["name"], touch["fqcn"], touch["src"]) == ("Touch {{ x }}", "ansible.builtin.raw", "site.yml:3")
    assert sent["hosts"] == ["h1"]
    assert (done["changed"], done["kept"]) == (True, {"rc": 0})
    assert end["status"] == "ok" and callback._display.warnings == []


def test_what_the_command_line_says(
    monkeypatch: pytest.MonkeyPatch, home: Home, tmp_path: pathlib.Path, callback: t.Any
) -> None:
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    for name in ("site.yml", "hosts"):
        (project / name).write_text("")
    (tmp_path / "alone").write_text("")
    monkeypatch.setattr(trail, "load_extra_vars", lambda loader: {"change_id": "CHG-1", "api_token": "secret"})
    arguments(
        monkeypatch, args=(str(project / "site.yml"), "acme.net.play"), check=True, diff=True, subset="h1",
        tags=("all", "web"), skip_tags=("slow",), inventory=(str(project / "hosts"), str(tmp_path / "alone"), "h1,"),
    )  # fmt: skip
    callback.v2_playbook_on_start(playbook(str(project / "site.yml"), project))
    (start,) = entries(home)[1:]
    told = {
        "playbook": ["site.yml", "acme.net.play"], "inventory": ["project/hosts", "alone", "h1,"], "limit": "h1",
        "tags": ["web"], "skip_tags": ["slow"], "check": True, "diff": True, "chg": "CHG-1",
        "extra_vars": ["api_token", "change_id"],
    }  # fmt: skip
    assert {key: start[key] for key in told} == told


@pytest.mark.parametrize("change_id", ["", "no id", "x" * 65, 42, None, "-1", "a\nb"])
def test_what_is_no_change_id_is_none(
    monkeypatch: pytest.MonkeyPatch, home: Home, callback: t.Any, change_id: t.Any
) -> None:
    monkeypatch.setattr(trail, "load_extra_vars", lambda loader: {"change_id": change_id})
    callback.v2_playbook_on_start(playbook())
    assert "chg" not in entries(home)[1]


def test_an_ad_hoc_command(monkeypatch: pytest.MonkeyPatch, home: Home, callback: t.Any) -> None:
    arguments(monkeypatch, args="web:db", module_name="raw", module_args="secret")
    callback.v2_playbook_on_start(playbook("__adhoc_playbook__"))
    start = entries(home)[1]
    assert (start["command"], start["module"], start["pattern"]) == ("ansible", "raw", "web:db")
    assert "secret" not in str(start)


def test_a_console(home: Home, exits: list[t.Any]) -> None:
    first = plugin()
    first.v2_playbook_on_play_start(play())
    first.v2_runner_on_failed(result(changed=True))
    second = plugin()
    second.v2_playbook_on_play_start(play())
    assert len(exits) == 1
    exits[0][0](*exits[0][1:])
    assert kinds(home) == ["run.start", "play.start", "task.result", "play.start", "run.end"]
    assert entries(home)[1]["command"] == "ansible-console" and entries(home)[-1]["status"] == "failed"


def test_several_playbooks(monkeypatch: pytest.MonkeyPatch, home: Home, callback: t.Any) -> None:
    arguments(monkeypatch, args=("a.yml", "b.yml"))
    fine = stats(h1={"ok": 1, "failures": 1, "unreachable": 0})
    callback.v2_playbook_on_start(playbook("a.yml"))
    callback.v2_playbook_on_stats(fine)
    callback.v2_playbook_on_start(playbook("b.yml"))
    callback.v2_playbook_on_stats(fine)
    assert kinds(home) == ["run.start", "playbook.end", "playbook.start", "run.end"]
    assert [value.get("playbook") for value in entries(home)[1:4]] == [["a.yml", "b.yml"], None, "b.yml"]


def test_a_run_that_was_killed_is_told(home: Home, callback: t.Any) -> None:
    log = SqliteLog.open_or_create(home, "0.2.0")
    log.append([{"type": "run.start", "ts": "2026-01-01T00:00:00.000Z", "run": "killed-1"}])
    log.close()
    callback.v2_playbook_on_start(playbook())
    assert len(callback._display.warnings) == 1 and "The run killed-1 was killed" in callback._display.warnings[0]


# ── What happens ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_outcome_has_its_entry(home: Home, callback: t.Any) -> None:
    started(callback)
    callback.v2_runner_on_failed(result(attempts=2), ignore_errors=True)
    callback.v2_runner_on_skipped(result(task(check_mode=True)))
    callback.v2_runner_on_unreachable(result(task(check_mode="{{ x }}")))
    callback.v2_runner_retry(result(attempts=1))
    callback.v2_runner_on_async_poll(result())
    callback.v2_runner_on_async_ok(result())
    callback.v2_runner_on_async_failed(result())
    callback._recorder().proceed()
    found = entries(home)[3:]
    assert [(value.get("status"), value.get("check"), value.get("ignored")) for value in found[:3]] == [
        ("failed", False, True),
        ("skipped", True, None),
        ("unreachable", False, None),
    ]
    assert [(value["type"], value.get("status"), value.get("attempts")) for value in found[3:]] == [
        ("task.retry", None, 1),
        ("task.async", "started", None),
        ("task.async", "ok", None),
        ("task.async", "failed", None),
    ]


def test_what_else_happens_has_its_entry(home: Home, callback: t.Any) -> None:
    started(callback)
    role = Some(get_name=lambda: "web")
    handler = task("t2", _role=role, get_ds=lambda: {"name": "restart"})
    callback.v2_playbook_on_include(Some(_filename="/x/more.yml", _hosts=[Host("h1")]))
    callback.v2_playbook_on_notify(handler, Host("h1"))
    callback.v2_playbook_on_vars_prompt("answer", default="secret")
    callback.v2_playbook_on_no_hosts_matched()
    callback.v2_playbook_on_no_hosts_remaining()
    callback.v2_playbook_on_handler_task_start(handler)
    callback.v2_playbook_on_task_start(task("t3", _role=role, get_ds=lambda: None, resolved_action=None), False)
    include, notified, prompt, matched, remaining, handled, unnamed = entries(home)[3:]
    assert (include["file"], include["hosts"]) == ("more.yml", ["h1"])
    assert (notified["name"], notified["host"], notified["task"]) == ("web : restart", "h1", "t2")
    assert prompt["name"] == "answer" and "secret" not in str(prompt)
    assert (matched["reason"], remaining["reason"], matched["play"]) == ("none matched", "none remaining", "p1")
    assert (handled["name"], handled["handler"]) == ("web : restart", True)
    assert (unnamed["name"], unnamed["fqcn"], unnamed["handler"]) == ("web : raw", "raw", False)


@pytest.mark.parametrize(
    ("no_log", "told", "hidden"),
    [
        (False, {}, False),
        (None, {}, False),
        (True, {}, True),
        ("{{ secret }}", {}, True),  # nobody knows what it comes to
        (False, {"censored": "x"}, True),
        (False, {"_ansible_no_log": True}, True),
    ],
)
def test_what_is_hidden_stays_so(
    home: Home, callback: t.Any, no_log: t.Any, told: dict[str, t.Any], hidden: bool
) -> None:
    started(callback)
    callback.v2_runner_on_ok(result(task(no_log=no_log), rc=0, **told))
    callback._recorder().proceed()
    assert ("no_log" in entries(home)[-1]) is hidden and ("kept" in entries(home)[-1]) is not hidden


@pytest.mark.parametrize(
    ("delegate", "no_log", "told"),
    [("h2", False, "h2"), ("db.example.org", False, "db.example.org"), ("a b", False, "[withheld]"),
     ("h2", True, "h2"), ("db.example.org", True, "[withheld]")],
)  # fmt: skip
def test_who_did_it_instead(home: Home, callback: t.Any, delegate: str, no_log: bool, told: str) -> None:
    started(callback)
    callback.v2_runner_on_ok(result(task(delegate_to=delegate, no_log=no_log)))
    item = result(task(delegate_to=delegate, no_log=no_log))
    for hook in (callback.v2_runner_item_on_ok, callback.v2_runner_item_on_failed, callback.v2_runner_item_on_skipped):
        hook(item)
    callback.v2_runner_item_on_ok(result(host="h2"))
    looped = task(delegate_to="{{ item }}", no_log=no_log)
    callback.v2_runner_on_ok(result(looped))
    callback.v2_runner_on_ok(result(host="h2"))
    callback._recorder().proceed()
    assert [value.get("delegate") for value in entries(home)[-3:]] == [told, told, None]
    counts = {"ok": 1, "changed": 0, "failed": 1, "skipped": 1}
    assert [value.get("items") for value in entries(home)[-3:-1]] == [None, None if no_log else counts]


def test_a_diff_is_kept_where_the_task_says_so(home: Home, callback: t.Any) -> None:
    started(callback)
    diff = {"before": "", "after": "x\n"}
    for variables in ({"trail_keep_diff": True}, {"trail_keep_diff": "{{ true }}"}, {}):
        callback.v2_runner_on_ok(result(task(vars=variables), diff=diff))
    callback._recorder().proceed()
    assert ["blobs" in value for value in entries(home)[-3:]] == [True, False, False]


def test_an_event(home: Home, callback: t.Any) -> None:
    started(callback)
    event = task(resolved_action="flowaudit.ops.trail_event")
    told = {"trail_event": {"name": "Said", "data": {"rows": "42"}}}
    callback.v2_runner_on_ok(result(event, **told))
    callback.v2_runner_on_ok(result(event, results=[told, "text", {"skipped": True}, told]))
    callback.v2_runner_on_ok(result(event, results="text"))
    callback.v2_runner_on_ok(result(task(resolved_action="flowaudit.ops.trail_event", no_log=True), **told))
    callback.v2_runner_on_ok(result(**told))  # any module could say so
    callback._recorder().proceed()
    found = [value for value in entries(home) if value["type"] == "event"]
    assert [(value["name"], value["host"], value["data"]) for value in found] == [("Said", "h1", {"rows": "42"})] * 3


# ── When it cannot be recorded ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("KEEP_FIELDS", "ansible.builtin.copy.mode", "keep_fields has 'ansible.builtin.copy.mode'"),
        ("ANCHOR_EVERY", "often", "anchor_every"),
        ("SYSLOG", "tls://me:secret@log.example.org", "syslog server is 'tls://[withheld]@log.example.org'"),
    ],
)
def test_wrong_settings_are_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str) -> None:
    monkeypatch.setenv(f"FLOWAUDIT_TRAIL_{variable}", value)
    made = callback_loader.get("flowaudit.ops.trail", class_only=True)(display=Display())
    assert told in refused(made, made.set_options)
    assert trail._Process.recorder is None


def test_settings_are_as_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWAUDIT_TRAIL_KEEP_FIELDS", "a.b.c:x,a.b.c:y")
    monkeypatch.setenv("FLOWAUDIT_TRAIL_KEEP_DIFF", "a.b.c")
    settings = plugin()._recorder().settings
    assert settings.policy.fields == {"a.b.c": ["x", "y"]} and settings.policy.keeps_diff("a.b.c")


class Broken:
    """Makes a method of the recorder fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, method: str, error: Exception) -> None:
        def fails(*arguments: t.Any, **more: t.Any) -> t.NoReturn:
            raise error

        self._monkeypatch.setattr(Recorder, method, fails)

    def mend(self) -> None:
        self._monkeypatch.undo()


@pytest.fixture
def broken() -> Iterator[Broken]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Broken(monkeypatch)


def test_a_beginning_that_cannot_be_recorded_stops_the_run(home: Home, callback: t.Any, broken: Broken) -> None:
    SqliteLog.open_or_create(home, "0.2.0").close()
    home.signing_key.unlink()
    callback.v2_playbook_on_start(playbook())
    assert callback._display.errors == []  # the inventory is asked first
    told = refused(callback, callback.v2_playbook_on_play_start, play())
    assert "signing key" in told and told.endswith("so the run stops here.")
    assert kinds(home) == []


def test_the_inventory_may_say_to_go_on(home: Home, callback: t.Any) -> None:
    SqliteLog.open_or_create(home, "0.2.0").close()
    key = home.signing_key.rename(home.path / "away")
    callback.v2_playbook_on_start(playbook())
    callback.v2_playbook_on_play_start(play("continue"))
    assert len(callback._display.warnings) == 1 and "The inventory says to go on" in callback._display.warnings[0]
    key.rename(home.signing_key)
    callback.v2_playbook_on_task_start(task(), False)
    assert kinds(home) == ["run.start", "play.start", "task.start"]
    assert entries(home)[2]["on_failure"] == "continue"


def test_where_the_choice_is_made(monkeypatch: pytest.MonkeyPatch, home: Home, callback: t.Any) -> None:
    """In group_vars too, which come after what the inventory's file says; not on the command line."""
    asked = []

    def found(loader: t.Any, sources: t.Any, entities: t.Any, stage: str) -> dict[str, str]:
        asked.append((sources, stage))
        return {"trail_on_failure": "continue"}

    callback.v2_playbook_on_start(playbook())
    callback.v2_playbook_on_play_start(play(trail_on_failure="continue"))
    monkeypatch.setattr(trail, "get_vars_from_inventory_sources", found)
    callback.v2_playbook_on_play_start(play("stop"))
    assert [value.get("on_failure") for value in entries(home)[2:]] == [None, "continue"]
    assert asked == [([], "all")]


@pytest.mark.parametrize(("said", "shown"), [("perhaps", "perhaps"), (True, "[withheld]"), (["stop"], "[withheld]")])
def test_a_wrong_choice_is_refused(callback: t.Any, said: t.Any, shown: str) -> None:
    callback.v2_playbook_on_start(playbook())
    told = refused(callback, callback.v2_playbook_on_play_start, play(said))
    assert told == f"The inventory's trail_on_failure is stop or continue, not {shown}."


def test_it_stops_before_the_next_task(callback: t.Any, broken: Broken) -> None:
    started(callback)
    broken("proceed", FlowauditError("The disk is full."))
    told = refused(callback, callback.v2_playbook_on_task_start, task(), False)
    assert told == "The disk is full. Nothing is done that is not recorded, so the run stops here."


def test_it_says_that_it_goes_on(callback: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started(callback)
    monkeypatch.setattr(Recorder, "proceed", lambda recorder: ["The disk is full."])
    callback.v2_playbook_on_task_start(task(), False)
    assert callback._display.warnings == ["The disk is full. The inventory says to go on (trail_on_failure)."]


@pytest.mark.parametrize("goes_on", [False, True])
def test_an_end_that_cannot_be_recorded(callback: t.Any, broken: Broken, goes_on: bool) -> None:
    started(callback, **({"said": "continue"} if goes_on else {}))
    broken("end", FlowauditError("The disk is full."))
    if goes_on:
        callback.v2_playbook_on_stats(stats())
        assert callback._display.warnings == ["The disk is full."]
    else:
        assert refused(callback, callback.v2_playbook_on_stats, stats()) == "The disk is full."


def test_what_the_anchors_say_is_shown(callback: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started(callback)
    monkeypatch.setattr(Recorder, "end", lambda recorder, stats: ["No answer from https://me:secret@tsa.example.org."])
    callback.v2_playbook_on_stats(stats())
    assert callback._display.warnings == ["No answer from https://[withheld]@tsa.example.org."]


# ── Faults of ours ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fault_where_something_is_about_to_happen_stops_it(callback: t.Any, broken: Broken) -> None:
    started(callback)
    broken("task_started", ValueError("secret"))
    told = refused(callback, callback.v2_playbook_on_task_start, task(), False)
    assert "ValueError in v2_playbook_on_task_start (test_trail.py:" in told and "secret" not in told


def test_a_screen_that_is_gone_changes_nothing(home: Home, callback: t.Any, broken: Broken) -> None:
    def gone(*arguments: t.Any, **more: t.Any) -> t.NoReturn:
        raise BrokenPipeError

    callback._display.error = callback._display.warning = gone
    started(callback, said="continue")
    broken("proceed", FlowauditError("The disk is full."))
    with pytest.raises(SystemExit):
        callback.v2_playbook_on_task_start(task(), False)
    callback._warn(["Something else."])


def test_without_a_recorder_nothing_happens(callback: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = trail._Process.recorder
    monkeypatch.setattr(trail._Process, "recorder", None)
    assert "AttributeError in v2_playbook_on_start" in refused(callback, callback.v2_playbook_on_start, playbook())
    monkeypatch.setattr(trail._Process, "recorder", recorder)


def test_a_fault_is_recorded_where_the_inventory_says_to_go_on(home: Home, callback: t.Any, broken: Broken) -> None:
    started(callback, said="continue")
    broken("task_started", ValueError("secret"))
    callback.v2_playbook_on_task_start(task(), False)
    broken.mend()
    callback.v2_playbook_on_task_start(task(), False)
    assert kinds(home)[-2:] == ["gap", "task.start"]
    assert "ValueError" in callback._display.warnings[0]


def test_a_fault_where_something_has_happened_stops_the_next(home: Home, callback: t.Any, broken: Broken) -> None:
    started(callback)
    broken("result", ValueError("secret"))
    callback.v2_runner_on_ok(result())
    told = refused(callback, callback.v2_playbook_on_task_start, task(), False)
    assert "ValueError in v2_runner_on_ok" in told and "secret" not in told
    assert "gap" in kinds(home)


def test_a_fault_without_a_place_is_told_too() -> None:
    assert "ValueError in plugin (?)" in trail._fault(plugin, ValueError())


# ── Signals, and the end of the process ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that were sent."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def test_a_signal_is_recorded_and_does_what_it_did(home: Home, killed: list[tuple[int, int]]) -> None:
    calls = []
    signal.signal(signal.SIGTERM, lambda *call: calls.append(call))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    started(plugin())
    plugin()  # a second command of a console does not catch twice
    for number in (signal.SIGTERM, signal.SIGHUP):
        handler = signal.getsignal(number)
        assert callable(handler)
        handler(number, None)
    assert calls == [(signal.SIGTERM, None)] and killed == [(os.getpid(), signal.SIGHUP)]
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    aborted = entries(home)[-1]
    assert (aborted["type"], aborted["signal"]) == ("run.aborted", "SIGTERM") and kinds(home).count("run.aborted") == 1


def test_a_signal_ends_what_cannot_be_recorded_too(killed: list[tuple[int, int]], broken: Broken) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    started(plugin())
    broken("abort", FlowauditError("The disk is full."))
    signal.getsignal(signal.SIGHUP)(signal.SIGHUP, None)  # type: ignore[operator, misc]
    assert killed == [(os.getpid(), signal.SIGHUP)]


def test_a_worker_records_nothing(home: Home, killed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    started(plugin())
    monkeypatch.setattr(trail._Process, "pid", 1)
    signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)  # type: ignore[operator, misc]
    trail._at_exit(Display())
    assert killed == [(os.getpid(), signal.SIGTERM)] and kinds(home) == ["run.start", "play.start"]


def test_a_console_lives_on_after_an_interrupt(home: Home) -> None:
    calls = []
    signal.signal(signal.SIGINT, lambda *call: calls.append(call))
    console = plugin()
    console.v2_playbook_on_play_start(play())
    signal.getsignal(signal.SIGINT)(signal.SIGINT, None)  # type: ignore[operator, misc]
    assert calls == [(signal.SIGINT, None)] and kinds(home) == ["run.start", "play.start"]


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    plugin()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_the_end_of_a_process_is_an_error_unless_something_said_it(home: Home, callback: t.Any) -> None:
    display = Display()
    trail._Process.recorder, recorder = None, trail._Process.recorder
    trail._at_exit(display)
    trail._Process.recorder = recorder
    started(callback)
    trail._at_exit(display)
    assert entries(home)[-1]["reason"] == "error" and display.warnings == []


def test_what_the_end_of_a_process_cannot_record_is_shown(callback: t.Any, broken: Broken) -> None:
    display = Display()
    started(callback)
    broken("abort", FlowauditError("The disk is full; password=x."))
    trail._at_exit(display)
    assert display.warnings == ["The disk is full; password=[withheld]"]
