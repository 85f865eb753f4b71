# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What cannot be recorded is not done: no task, on no host, unless the inventory chose otherwise."""

from __future__ import annotations

import contextlib
import os
import pathlib
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import home, sqlite

from .conftest import Control

TOUCH = {"name": "Touch", "ansible.builtin.raw": "touch touched.{{ inventory_hostname }}"}

# Beside the callback in the same process
IMPATIENT = """
from ansible.plugins.callback import CallbackBase
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import sqlite

sqlite.BUSY = 0.2


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "impatient"
"""


def touched(control: Control) -> list[str]:
    return sorted(path.name for path in control.directory.glob("touched.*"))


def make_trail(control: Control) -> None:
    made = sqlite.SqliteLog.open_or_create(home.Home(control.trail), "0.2.0", "test")
    # So much that there is a page in the middle
    made.append([{"type": "event", "ts": "2026-01-01T00:00:00.000Z", "number": number} for number in range(200)])
    made.close()


def a_file_is_there(control: Control) -> None:
    control.write("trail", "")


def open_to_others(control: Control) -> None:
    make_trail(control)
    control.trail.chmod(0o755)


def key_is_lost(control: Control) -> None:
    make_trail(control)
    (control.trail / "signing.key").unlink()


def key_is_damaged(control: Control) -> None:
    make_trail(control)
    path = control.trail / "signing.key"
    path.write_text(path.read_text().replace("M", "N"))


def key_is_of_another_log(control: Control) -> None:
    make_trail(control)
    other = sqlite.SqliteLog.open_or_create(home.Home(control.directory / "other"), "0.2.0", "test")
    other.close()
    shutil.copy(control.directory / "other/signing.key", control.trail / "signing.key")


def no_database_but_a_key(control: Control) -> None:
    make_trail(control)
    (control.trail / "trail.sqlite3").unlink()


def not_a_database(control: Control) -> None:
    make_trail(control)
    (control.trail / "trail.sqlite3").write_bytes(b"\0" * 4096)


def damaged_in_the_middle(control: Control) -> None:
    make_trail(control)
    with contextlib.closing(sqlite3.connect(control.trail / "trail.sqlite3")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = control.trail / "trail.sqlite3"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


def locks_cannot_be_made(control: Control) -> None:
    make_trail(control)
    (control.trail / "runs").rmdir()
    control.write("trail/runs", "")


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (a_file_is_there, "cannot be made: File exists"),
        (open_to_others, "is open to others (mode 0755)"),
        (key_is_lost, "signing.key cannot be read: No such file"),
        (key_is_damaged, "signing.key is damaged"),
        (key_is_of_another_log, "is not the one the trail names"),
        (no_database_but_a_key, "There is a signing key"),
        (not_a_database, "cannot be used"),
        (damaged_in_the_middle, "cannot be used"),
        (locks_cannot_be_made, "File exists"),
    ],
)
def test_a_trail_that_cannot_be_written_stops_the_run(
    control: Control, prepare: Callable[[Control], None], told: str
) -> None:
    prepare(control)
    # None of these is the inventory's group all.
    control.write("host_vars/h1.yml", {"trail_on_failure": "continue"})
    control.write("group_vars/some.yml", {"trail_on_failure": "continue"})
    with (control.directory / "hosts.ini").open("a") as inventory:
        inventory.write("[some]\nh[1:4]\n")
    control.write("play/group_vars/all.yml", {"trail_on_failure": "continue"})
    control.playbook(TOUCH, name="play/play.yml", vars={"trail_on_failure": "continue"})
    output = control.run("play/play.yml", "-e", "trail_on_failure=continue", rc=1).stdout
    assert touched(control) == []
    assert told in output and "the run stops here" in output, output
    assert "Traceback" not in output and "TASK" not in output


@pytest.mark.parametrize("tool", ["ansible", "ansible-console"])
def test_commands_are_stopped_too(control: Control, tool: str) -> None:
    a_file_is_there(control)
    words = ["all", "-m", "ansible.builtin.raw", "-a", "touch touched.x"] if tool == "ansible" else ["all"]
    output = control.run(*words, tool=tool, rc=1, input="raw touch touched.x\nraw touch touched.y\n").stdout
    assert touched(control) == [] and "the run stops here" in output


# No file may grow beyond it: too little for any entry, and enough for what Ansible itself writes for these tasks.
FULL = 8192


def test_it_is_stopped_when_nobody_can_be_told(control: Control) -> None:
    a_file_is_there(control)
    process = control.start(control.playbook(TOUCH))
    assert process.stdout
    process.stdout.close()  # as with `| head`
    # 120 is Python's own word for an output that could not be flushed at its end.
    assert process.wait(60) in (1, 120) and touched(control) == []


def no_more_bytes() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, resource.RLIM_INFINITY))


def test_a_full_disk_stops_the_run(control: Control) -> None:
    make_trail(control)
    size = len(control.entries())
    output = control.run(control.playbook(TOUCH), rc=1, preexec_fn=no_more_bytes).stdout
    assert touched(control) == [] and "cannot be used" in output
    assert len(control.entries()) == size and control.verified().whole
    # And with no log to begin with
    shutil.rmtree(control.trail)
    control.run(control.playbook(TOUCH), rc=1, preexec_fn=no_more_bytes)
    assert touched(control) == []
    # What was left half made is no obstacle.
    control.run(control.playbook(TOUCH))
    assert len(touched(control)) == 4 and control.verified().whole


@contextlib.contextmanager
def locked(control: Control) -> Iterator[None]:
    """Another process that writes to the database and does not come to an end."""
    connection = sqlite3.connect(control.trail / "trail.sqlite3", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def impatient(control: Control) -> dict[str, str]:
    control.write("callback_plugins/impatient.py", IMPATIENT)
    return {"ANSIBLE_CALLBACK_PLUGINS": str(control.directory / "callback_plugins")}


def test_a_locked_database_stops_the_run(control: Control) -> None:
    make_trail(control)
    with locked(control):
        output = control.run(control.playbook(TOUCH), rc=1, env=impatient(control)).stdout
    assert touched(control) == [] and "database is locked" in output


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("FLOWAUDIT_TRAIL_KEEP_FIELDS", "ansible.builtin.copy.mode", "is not namespace.collection.module:field"),
        ("FLOWAUDIT_TRAIL_SYSLOG", "https://log:canary-1@log.example.org", "syslog server"),
    ],
)
def test_wrong_settings_stop_the_run(control: Control, variable: str, value: str, told: str) -> None:
    output = control.run(control.playbook(TOUCH), rc=1, env={variable: value}).stdout
    assert touched(control) == [] and "The trail's settings cannot be used" in output and told in output
    assert not control.trail.exists() and "canary" not in output


def test_a_wrong_choice_stops_the_run(control: Control) -> None:
    control.write("group_vars/all.yml", {"trail_on_failure": "perhaps"})
    output = control.run(control.playbook(TOUCH), rc=1).stdout
    assert touched(control) == [] and "trail_on_failure is stop or continue, not perhaps" in output
    assert control.entries()[-1]["reason"] == "error" and control.verified().whole


def test_a_log_that_would_be_gone_soon_is_refused(control: Control) -> None:
    control.playbook(TOUCH, hosts="h1")
    strict = {"FLOWAUDIT_TRAIL_ACCEPT_EPHEMERAL": "false"}
    in_memory = pathlib.Path("/dev/shm", f"flowaudit-{os.getpid()}")
    ways = {"a CI job (CI is set)": {"CI": "true"}}
    if subprocess.check_output(["stat", "-f", "-c", "%T", "/dev/shm"], text=True).strip() == "tmpfs":
        ways["it lies on tmpfs"] = {"FLOWAUDIT_TRAIL_DIRECTORY": str(in_memory)}
    for why, env in ways.items():
        output = control.run("play.yml", rc=1, env=strict | env).stdout
        assert touched(control) == [] and f"would not last: {why}" in output.replace("this is ", "")
        assert not control.trail.exists() and not in_memory.exists()
    # It is shipped, so it need not last; that nobody is there to ship to is told, and does not stop it.
    output = control.run(
        "play.yml", env=strict | {"CI": "1", "FLOWAUDIT_TRAIL_DATABASE": "postgresql://u:canary-2@127.0.0.1:9/x"}
    ).stdout
    assert touched(control) == ["touched.h1"] and "The trail's anchor postgres" in output
    (anchor,) = control.entries("anchor")
    assert not anchor["results"][0]["kept"] and "canary" not in output + str(anchor)
    control.run("play.yml", env={"CI": "true"})


def chosen_to_go_on(control: Control) -> None:
    with (control.directory / "hosts.ini").open("a") as inventory:
        inventory.write("trail_on_failure=continue\n")


def lost_nothing(control: Control, tasks: int, hosts: int) -> None:
    """The run is there from its start to its end, as if nothing had been."""
    assert control.verified().whole
    (start,) = control.entries("run.start")
    entries = [entry for entry in control.entries() if entry.get("run") == start["run"]]
    kinds = [entry["type"] for entry in entries]
    assert kinds[:2] == ["run.start", "play.start"] and kinds[-1] == "run.end"
    assert entries[1]["on_failure"] == "continue"
    assert kinds.count("task.start") == tasks and kinds.count("task.result") == tasks * hosts
    assert "gap" not in kinds


def test_an_inventory_may_choose_to_go_on(control: Control) -> None:
    """Here from the very beginning; the database comes back in mid-run."""
    make_trail(control)
    control.write("group_vars/all.yml", {"trail_on_failure": "continue"})
    control.playbook(TOUCH, control.gate(), TOUCH, hosts="h1")
    with locked(control):
        process = control.start("play.yml", env=impatient(control))
        control.wait_for("at.gate", process)
        assert touched(control) == ["touched.h1"] and not control.entries("run.start")
    control.open()
    output, _errors = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "database is locked" in output and "The inventory says to go on" in " ".join(output.split())
    lost_nothing(control, tasks=3, hosts=1)
    assert list((control.trail / "runs").iterdir()) == []
    # The next run has nothing to close.
    assert "killed" not in control.run("play.yml").stdout


def fill_the_disk(process: subprocess.Popen[str], full: bool) -> None:
    limit = FULL if full else resource.RLIM_INFINITY
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def test_it_goes_on_when_the_disk_fills_in_the_middle(control: Control) -> None:
    chosen_to_go_on(control)
    control.playbook(control.gate("one"), TOUCH, control.gate("two"), TOUCH, hosts="h1")
    process = control.start("play.yml")
    control.wait_for("at.one", process)
    fill_the_disk(process, True)
    control.open("one")
    control.wait_for("at.two", process)
    assert touched(control) == ["touched.h1"]
    recorded = len(control.entries())
    fill_the_disk(process, False)
    control.open("two")
    output, _errors = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert output.count("The inventory says to go on") + output.count("The inventory says to go\non") == 1, output
    assert len(control.entries()) > recorded
    lost_nothing(control, tasks=4, hosts=1)


def disk_is_full(control: Control, process: subprocess.Popen[str]) -> None:
    fill_the_disk(process, True)


def trail_is_deleted(control: Control, process: subprocess.Popen[str]) -> None:
    shutil.rmtree(control.trail)


def trail_is_moved(control: Control, process: subprocess.Popen[str]) -> None:
    control.trail.rename(control.directory / "elsewhere")


@pytest.mark.parametrize("happens", [disk_is_full, trail_is_deleted, trail_is_moved])
def test_it_stops_in_the_middle(control: Control, happens: Callable[[Control, subprocess.Popen[str]], None]) -> None:
    control.playbook(control.gate(), TOUCH, TOUCH)
    process = control.start("play.yml")
    control.wait_for("at.gate", process)
    happens(control, process)
    control.open()
    output, _errors = process.communicate(timeout=60)
    assert process.returncode == 1 and touched(control) == [], output
    assert "the run stops here" in " ".join(output.split()) and "Traceback" not in output
    if happens is disk_is_full:
        control.run(control.playbook(name="next.yml"))
        (aborted,) = control.entries("run.aborted")
        assert aborted["reason"] == "killed"  # it could not say what had happened
        assert control.verified().whole
    else:
        # No other log was begun in its place.
        assert not (control.trail / "trail.sqlite3").exists()


FAULT = """
from ansible.plugins.callback import CallbackBase
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import recorder


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "fault"


def fault(self, *args, **kwargs):
    raise ValueError("canary-3")


setattr(recorder.Recorder, "{method}", fault)
"""


@pytest.mark.parametrize(
    ("method", "hook", "done"),
    [
        ("begin", "v2_playbook_on_start", []),
        ("task_started", "v2_playbook_on_task_start", []),
        ("dispatched", "v2_runner_on_start", ["touched.h1"]),
        ("item", "v2_runner_item_on_ok", ["touched.h1"]),
        ("result", "v2_runner_on_ok", ["touched.h1"]),
    ],
)
def test_a_fault_of_ours_stops_the_run(control: Control, method: str, hook: str, done: list[str]) -> None:
    """Ansible makes a warning of an exception, or hangs with it, and goes on."""
    control.write("callback_plugins/fault.py", FAULT.format(method=method))
    env = {"ANSIBLE_CALLBACK_PLUGINS": str(control.directory / "callback_plugins")}
    control.playbook({**TOUCH, "loop": [1]}, {"name": "Later", "ansible.builtin.raw": "touch touched.x"}, hosts="h1")
    output = " ".join(control.run("play.yml", rc=1, env=env).stdout.split())
    assert touched(control) == done
    assert f"ValueError in {hook}" in output and "canary" not in output
    if done:
        assert len(control.entries("gap")) >= 1 and control.entries()[-1]["reason"] == "error"
        assert control.verified().whole


def test_a_fault_in_the_last_task_fails_the_run(control: Control) -> None:
    control.write("callback_plugins/fault.py", FAULT.format(method="result"))
    env = {"ANSIBLE_CALLBACK_PLUGINS": str(control.directory / "callback_plugins")}
    control.run(control.playbook(TOUCH, hosts="h1"), rc=1, env=env)
    assert [entry["type"] for entry in control.entries()][-2:] == ["gap", "run.end"]
