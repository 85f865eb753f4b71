# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs that do not end by themselves: interrupted, killed, broken by an error."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import time
import typing as t

import pytest

from .conftest import Control, Entry

# Beside the callback in the same process: what it took as recorded goes to a file, one line for each moment at which
# the callback let the run go on. The file needs no sync: SIGKILL ends the process, not the kernel.
WITNESS = """
import json
import os

from ansible.plugins.callback import CallbackBase
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import recorder, writer


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "witness"


taken, file = [], os.open("acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
put, flush = writer.Writer.put, writer.Writer.flush


def witnessed_put(self, draft, openings=()):
    taken.append(json.dumps(draft))  # before it is merged with others
    put(self, draft, openings)


def witnessed_flush(self):
    count = len(taken)
    flush(self)
    os.write(file, "".join(f"{line}\\n" for line in taken[:count]).encode())
    del taken[:count]


writer.Writer.put, writer.Writer.flush = witnessed_put, witnessed_flush
"""


def witness(control: Control) -> dict[str, str]:
    """Have a control node's runs say what was acknowledged; returns the environment that it needs."""
    control.write("callback_plugins/witness.py", WITNESS)
    return {"ANSIBLE_CALLBACK_PLUGINS": str(control.directory / "callback_plugins")}


def acknowledged(control: Control) -> list[Entry]:
    path = control.directory / "acknowledged"
    # The last line may be cut: then it was being written when the kill came.
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def one_line(entry: Entry) -> str:
    return json.dumps(entry, sort_keys=True)


def missing(control: Control) -> list[Entry]:
    """The entries that were acknowledged and are not in the log."""
    recorded = control.entries()
    whole = {
        one_line({key: value for key, value in entry.items() if key not in ("v", "seq", "prev")}) for entry in recorded
    }
    dispatched = {
        (entry["run"], entry["task"], host)
        for entry in recorded
        if entry["type"] == "task.dispatched"
        for host in entry["hosts"]
    }

    def is_there(entry: Entry) -> bool:
        if entry["type"] == "task.dispatched":  # hosts of one batch share one
            return all((entry["run"], entry["task"], host) in dispatched for host in entry["hosts"])
        return one_line(entry) in whole

    return [entry for entry in acknowledged(control) if not is_there(entry)]


def gone(process: subprocess.Popen[str]) -> str:
    output, _errors = process.communicate(timeout=60)
    return output


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 99), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)]
)
def test_a_signal_is_recorded_at_once(control: Control, number: signal.Signals, status: int) -> None:
    control.playbook(control.gate(), {"name": "Never", "ansible.builtin.raw": "touch never"}, hosts="h1:h2")
    process = control.start("play.yml")
    for host in ("h1", "h2"):
        control.wait_for(f"at.gate.{host}", process)
    process.send_signal(number)
    try:
        said = gone(process)
    finally:
        control.open()  # what a worker is still at
    assert process.returncode == status, said
    end = control.entries()[-1]
    assert (end["type"], end["reason"], end["signal"]) == ("run.aborted", "signal", number.name)
    flying = [(task["host"], task["name"], task["src"]) for task in end["tasks_in_flight"]]
    assert flying == [("h1", "Wait at gate", "play.yml:5"), ("h2", "Wait at gate", "play.yml:5")]
    assert not (control.directory / "never").exists()
    assert list((control.trail / "runs").iterdir()) == []
    assert control.verified().whole
    # Nothing is left for the next run to close.
    assert "killed" not in control.run(control.playbook(name="next.yml")).stdout
    assert len(control.entries("run.aborted")) == 1


def test_what_is_ignored_ends_nothing(control: Control) -> None:
    """As under nohup."""
    control.playbook(control.gate(), hosts="h1")
    process = control.start("play.yml", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    control.wait_for("at.gate", process)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    control.open()
    gone(process)
    assert process.returncode == 0
    assert [entry["type"] for entry in control.entries()][-2:] == ["task.result", "run.end"]


def test_an_interrupt_of_the_console_ends_a_command_only(control: Control) -> None:
    process = control.start("h1", tool="ansible-console", stdin=subprocess.PIPE)
    process.stdin.write("raw touch at.gate; until [ -e open.gate ]; do sleep 0.02; done\n")
    process.stdin.flush()
    control.wait_for("at.gate", process)
    process.send_signal(signal.SIGINT)
    control.open()
    time.sleep(0.5)  # it says so and asks for the next
    output, _errors = process.communicate("raw true\nexit\n", timeout=60)
    assert process.returncode == 0, output
    entries = control.entries()
    assert [entry["type"] for entry in entries].count("run.start") == 1
    assert entries[-1]["type"] == "run.end" and not control.entries("run.aborted")
    assert [entry["status"] for entry in entries if entry["type"] == "task.result"][-1] == "ok"
    assert control.verified().whole


def test_a_signal_to_the_console_is_recorded_in_its_second_command_too(control: Control) -> None:
    process = control.start("h1", tool="ansible-console", stdin=subprocess.PIPE)
    process.stdin.write("raw true\nraw touch at.gate; until [ -e open.gate ]; do sleep 0.02; done\n")
    process.stdin.flush()
    control.wait_for("at.gate", process)
    process.terminate()
    gone(process)
    control.open()
    assert control.entries()[-1]["signal"] == "SIGTERM"


def test_a_killed_run_is_closed_by_the_next(control: Control) -> None:
    env = witness(control)
    control.playbook({"name": "Done", "ansible.builtin.raw": "true"}, control.gate(), hosts="h1:h2")
    process = control.start("play.yml", "-e", "change_id=CHG-7", env=env)
    control.wait_for("at.gate", process)
    time.sleep(0.5)  # it takes at most 250 ms until a dispatched task is on the disk
    process.kill()
    gone(process)
    control.open()
    last = control.entries()[-1]
    assert last["type"] == "task.dispatched"
    output = control.run(control.playbook({"name": "Fine", "ansible.builtin.raw": "true"}, name="next.yml")).stdout
    assert f"The run {last['run']} was killed" in " ".join(output.split())
    (aborted,) = control.entries("run.aborted")
    assert (aborted["run"], aborted["reason"], aborted["chg"]) == (last["run"], "killed", "CHG-7")
    assert (aborted["last_seq"], aborted["last_ts"]) == (last["seq"], last["ts"])
    flying = sorted((task["host"], task["name"], task["src"]) for task in aborted["tasks_in_flight"])
    assert flying == [("h1", "Wait at gate", "play.yml:7"), ("h2", "Wait at gate", "play.yml:7")]
    assert missing(control) == [] and len(acknowledged(control)) >= 6
    assert control.verified().whole
    assert list((control.trail / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("what", "play"),
    [
        ("strategy", [{"name": "Play", "hosts": "h1", "gather_facts": False, "strategy": "no_such", "tasks": []}]),
        (
            "second play",
            [
                {"name": "Play", "hosts": "h1", "gather_facts": False, "tasks": [{"ansible.builtin.raw": "true"}]},
                {"name": "Play", "hosts": "{{ undefined }}", "gather_facts": False, "tasks": []},
            ],
        ),
    ],
)
def test_an_error_of_ansible_is_recorded(control: Control, what: str, play: t.Any) -> None:
    process = control.run(control.write("play.yml", play), rc=None)
    assert process.returncode not in (0, 2), process.stdout
    end = control.entries()[-1]
    assert (end["type"], end["reason"], end["tasks_in_flight"]) == ("run.aborted", "error", [])
    assert control.verified().whole and control.verified().signed_size == control.verified().size


def lines(path: pathlib.Path) -> int:
    return path.read_bytes().count(b"\n")


def kill_at_random(control: Control, times: int, seed: int) -> None:
    """Kill runs anywhere between their beginning and their end; then look at what they have left."""
    env = witness(control)
    tasks = [{"name": f"Task {number}", "ansible.builtin.debug": {"msg": "x"}} for number in range(12)]
    control.playbook(*tasks)
    control.run("play.yml", env=env)
    ledger = control.directory / "acknowledged"
    told = lines(ledger)  # by a whole run
    chance = random.Random(seed)
    killed: set[str] = set()
    for number in range(times):
        already, before = len(control.entries("run.start")), lines(ledger)
        process = control.start("play.yml", env=env, stdout=subprocess.DEVNULL, start_new_session=True)
        if number % 5:
            enough = before + chance.randint(1, told - 2)
            while lines(ledger) < enough and process.poll() is None:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.03))
        else:
            # While it begins, when it may or may not have said so
            time.sleep(chance.uniform(0.3, 1.0))
        process.kill()
        lived = process.wait() == 0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        report = control.verified()
        assert report.whole, (number, report.finding)
        assert missing(control) == [], number
        started = control.entries("run.start")
        if len(started) > already and not lived:
            killed.add(started[-1]["run"])
    control.run(control.playbook(name="last.yml"))
    assert control.verified().whole and missing(control) == []
    runs = {entry["run"] for entry in control.entries("run.start")}
    over = [entry["run"] for entry in control.entries("run.end")]
    aborted = [entry["run"] for entry in control.entries("run.aborted")]
    # Each run has one end; one that was killed after it had said its end is not aborted.
    assert sorted(over + aborted) == sorted(runs)
    assert set(aborted) <= killed and killed - set(aborted) <= set(over)
    assert len(aborted) > times // 2, "most are to be killed under way"
    assert all(
        entry["reason"] == "killed" and entry["last_seq"] < entry["seq"] for entry in control.entries("run.aborted")
    )


def test_ten_runs_killed_at_random(control: Control) -> None:
    kill_at_random(control, 10, seed=1)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(10))
def test_two_hundred_runs_killed_at_random(control: Control, seed: int) -> None:
    kill_at_random(control, 20, seed + 100)
