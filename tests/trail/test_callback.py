# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runs of Ansible leave in the trail."""

from __future__ import annotations

import collections
import json
import pathlib
import re
import shutil
import subprocess

from .conftest import Control, Entry

GONE = '''
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: gone
short_description: Reaches nothing
description: It does not.
author: nobody
"""


class Connection(ConnectionBase):
    transport = "gone"
    has_pipelining = False

    def _connect(self):
        raise AnsibleConnectionFailure("nobody there")

    exec_command = put_file = fetch_file = close = lambda self, *args, **kwargs: self._connect()
'''

FIRST = """
- name: Everything
  hosts: h1:h2
  gather_facts: false
  vars_prompt:
    - {name: answer, default: "42"}
  pre_tasks:
    - name: Group them
      ansible.builtin.group_by: {key: grouped}
  roles:
    - web
  tasks:
    - name: Loop
      ansible.builtin.raw: test {{ item }} != 2
      loop: [1, 2, 3]
      changed_when: item == 3
      ignore_errors: true
    - name: Try again
      ansible.builtin.raw: test -e tried.{{ inventory_hostname }} || { touch tried.{{ inventory_hostname }}; false; }
      register: tried
      until: tried is success
      retries: 3
      delay: 0
    - name: In the background
      ansible.builtin.command: "{{ 'sleep 10' if inventory_hostname == 'h1' else 'false' }}"
      async: 60
      poll: 1
      ignore_errors: true
    - name: Include
      ansible.builtin.include_tasks: included.yml
      loop: [1, 2]
    - name: Import
      ansible.builtin.import_tasks: imported.yml
    - name: Block
      any_errors_fatal: true
      block:
        - name: Fail
          ansible.builtin.raw: "false"
      rescue:
        - name: Rescue
          ansible.builtin.raw: "true"
      always:
        - name: Always
          ansible.builtin.raw: "true"
    - name: Skip
      ansible.builtin.raw: "true"
      when: inventory_hostname == "h2"
    - name: Delegate
      ansible.builtin.raw: "true"
      delegate_to: "{{ 'h3' }}"
      run_once: true
    - name: Delegate items
      ansible.builtin.raw: "true"
      delegate_to: "{{ item }}"
      loop: [h3, h4, h3]
      run_once: true
    - name: Pretend
      ansible.builtin.file: {path: made, state: directory, mode: "0700"}
      check_mode: true
      run_once: true
    - name: Make
      ansible.builtin.file: {path: made, state: directory, mode: "0700"}
      run_once: true
    - name: Hide
      ansible.builtin.raw: "true"
      no_log: true
      loop: [1]
      run_once: true
    - name: Say
      flowaudit.ops.trail_event: {name: Said, data: {größe: 3, api_token: "{{ 'x' * 9 }}"}}
      run_once: true
    - name: Say items
      flowaudit.ops.trail_event: {name: "Said {{ item }}"}
      loop: [a, b]
      run_once: true
    - name: Add one
      ansible.builtin.add_host: {name: höst, groups: added, ansible_connection: gone}

- name: Nobody
  hosts: nothing_has_this_name
  gather_facts: false

- name: Gone
  hosts: added
  gather_facts: false
  tasks:
    - name: Reach
      ansible.builtin.raw: "true"
      ignore_unreachable: true

- name: Freely
  hosts: h1:h2
  gather_facts: false
  strategy: free
  tasks:
    - name: Free
      ansible.builtin.raw: "true"

- name: One by one
  hosts: h1:h2
  gather_facts: false
  serial: 1
  tasks:
    - name: Serial
      ansible.builtin.raw: "true"
    - name: Forgive
      ansible.builtin.meta: clear_host_errors
"""

SECOND = """
- name: Ends early
  hosts: h1
  gather_facts: false
  tasks:
    - name: End
      ansible.builtin.meta: end_play
    - name: Never
      ansible.builtin.raw: "true"

- name: Fatal
  hosts: h1:h2
  gather_facts: false
  max_fail_percentage: 0
  tasks:
    - name: Fail on one
      ansible.builtin.raw: test {{ inventory_hostname }} = h1
    - name: Never
      ansible.builtin.raw: "true"
"""


def write_everything(control: Control) -> None:
    control.write("connection_plugins/gone.py", GONE)
    control.write("first.yml", FIRST)
    control.write("second.yml", SECOND)
    control.write("included.yml", "- {name: Included, ansible.builtin.raw: 'true'}\n")
    control.write("imported.yml", "- {name: Imported, ansible.builtin.raw: 'true'}\n")
    control.write("roles/web/tasks/main.yml", "- {name: Set up, ansible.builtin.raw: 'true', notify: restart}\n")
    control.write("roles/web/handlers/main.yml", "- {name: restart, ansible.builtin.raw: 'true'}\n")


class Story:
    """The entries of one run, by task name."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.start = next(entry for entry in entries if entry["type"] == "run.start")
        self._names = {entry["task"]: entry["name"] for entry in entries if entry["type"] == "task.start"}
        self.starts = {entry["name"]: entry for entry in entries if entry["type"] == "task.start"}

    def of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry["type"] == kind]

    def results(self, name: str) -> dict[str, Entry]:
        return {entry["host"]: entry for entry in self.of("task.result") if self._names[entry["task"]] == name}

    def result(self, name: str) -> Entry:
        (entry,) = self.results(name).values()
        return entry

    def about(self, kind: str, name: str) -> list[Entry]:
        return [entry for entry in self.of(kind) if self._names[entry["task"]] == name]


def test_everything_that_can_happen_is_recorded(each_control: Control) -> None:
    control = each_control
    write_everything(control)
    output = control.run("first.yml", "second.yml", "--diff", rc=2, stdin=subprocess.DEVNULL).stdout
    assert control.verified().whole
    # Not a word of ours when nothing is wrong.
    assert "trail" not in output.replace("trail_event", "").replace(str(control.directory), "")

    story = Story(control.entries())
    assert [entry["type"] for entry in story.entries[:2]] == ["log.created", "run.start"]
    assert story.entries[-1]["type"] == "run.end" and story.entries[-1]["status"] == "failed"
    assert len({entry.get("run") for entry in story.entries[1:]}) == 1

    # What was started
    start = story.start
    assert start["command"] == "ansible-playbook" and start["playbook"] == ["first.yml", "second.yml"]
    assert start["diff"] is True and start["check"] is False and start["inventory"] == ["hosts.ini"]
    assert start["ansible"].split(".")[1] in ("19", "21")
    assert [entry["playbook"] for entry in story.of("playbook.start")] == ["second.yml"]
    assert [set(entry["stats"]) for entry in story.of("playbook.end")] == [{"h1", "h2", "h\\xf6st"}]
    plays = [(entry["name"], entry["hosts"]) for entry in story.of("play.start")]
    both = ["h1", "h2"]
    assert plays == [
        ("Everything", both),
        ("Nobody", []),
        ("Gone", ["höst"]),
        ("Freely", both),
        ("One by one", ["h1"]),
        ("One by one", ["h2"]),
        ("Ends early", ["h1"]),
        ("Fatal", both),
    ]
    assert [entry["name"] for entry in story.of("prompt")] == ["answer"]
    # Of the latter Ansible speaks twice.
    assert list(dict.fromkeys(entry["reason"] for entry in story.of("no_hosts"))) == ["none matched", "none remaining"]
    assert story.starts["web : restart"]["handler"] and not story.starts["web : Set up"]["handler"]
    assert story.starts["web : Set up"]["src"] == "roles/web/tasks/main.yml:1"
    assert story.starts["Included"]["src"] == "included.yml:1"

    # What came of it
    statuses = {
        name: sorted((host, item["status"]) for host, item in story.results(name).items()) for name in story.starts
    }
    fine = [("h1", "ok"), ("h2", "ok")]
    assert statuses == {
        "Group them": fine,
        "web : Set up": fine,
        "Loop": [("h1", "failed"), ("h2", "failed")],
        "Try again": fine,
        "In the background": [("h1", "ok"), ("h2", "failed")],
        "Include": fine,
        "Included": fine,
        "Imported": fine,
        "Fail": [("h1", "failed"), ("h2", "failed")],
        "Rescue": fine,
        "Always": fine,
        "Skip": [("h1", "skipped"), ("h2", "ok")],
        "Delegate": [("h1", "ok")],
        "Delegate items": [("h1", "ok")],
        "Pretend": [("h1", "ok")],
        "Make": [("h1", "ok")],
        "Hide": [("h1", "ok")],
        "Say": [("h1", "ok")],
        "Say items": [("h1", "ok")],
        "Add one": [("h1", "ok")],
        "web : restart": fine,
        "Reach": [("höst", "unreachable")],
        "Free": fine,
        "Serial": fine,
        "Forgive": [],
        "End": [],
        "Fail on one": [("h1", "ok"), ("h2", "failed")],
    }
    loop = story.results("Loop")["h1"]
    assert loop["items"] == {"ok": 1, "changed": 1, "failed": 1, "skipped": 0} and loop["ignored"] is True
    assert story.results("Try again")["h1"]["attempts"] == 2
    assert sorted(entry["host"] for entry in story.about("task.retry", "Try again")) == ["h1", "h2"]
    background = {(entry["host"], entry["status"]) for entry in story.about("task.async", "In the background")}
    # On a busy machine the job of h2 is still under way when it is first asked for.
    assert background - {("h2", "started")} == {("h1", "started"), ("h1", "ok"), ("h2", "failed")}
    assert {(entry["file"], tuple(sorted(entry["hosts"]))) for entry in story.of("include")} == {
        ("included.yml", ("h1", "h2"))
    }
    notified = {(entry["name"], entry["host"]) for entry in story.of("handler.notified")}
    assert notified == {("web : restart", "h1"), ("web : restart", "h2")}
    assert story.result("Delegate")["delegate"] == "h3"
    assert story.result("Delegate items")["delegate"] == "h3, h4"
    assert story.result("Pretend")["check"] is True and story.result("Pretend")["changed"] is True
    made = story.result("Make")
    assert made["changed"] and not made["check"] and made["kept"]["path"] == "made" and made["kept"]["mode"] == "0700"
    assert made["diff"]["added"] >= 1
    commitment, size = made["blobs"]["diff"]
    log = control.log()
    kept = log.openings([commitment, start["actor"]])
    log.close()
    assert "directory" in kept[commitment].value.decode() and len(kept[commitment].value) == size
    assert json.loads(kept[start["actor"]].value).keys() == {"user", "login_user", "uid"}
    hidden = story.result("Hide")
    assert hidden["no_log"] is True and "items" not in hidden and "kept" not in hidden
    assert [(entry["name"], entry["data"]) for entry in story.of("event")] == [
        ("Said", {"gr\\xf6\\xdfe": "3", "api_token": "[withheld]"}),
        ("Said a", {}),
        ("Said b", {}),
    ]

    # Each result was dispatched before, and is followed by no second one.
    dispatched = collections.Counter(
        (entry["task"], host) for entry in story.of("task.dispatched") for host in entry["hosts"]
    )
    results = collections.Counter((entry["task"], entry["host"]) for entry in story.of("task.result"))
    assert results == dispatched
    # As Ansible counts them
    stats = story.entries[-1]["stats"]
    assert {host: (count["failures"], count["unreachable"]) for host, count in stats.items()} == {
        "h1": (0, 0),
        "h2": (1, 0),
        "h\\xf6st": (0, 0),
    }


def test_an_ad_hoc_command_is_a_run(control: Control) -> None:
    secret = "ad-hoc-argument"
    control.run("h1:h2", "-m", "ansible.builtin.raw", "-a", f"test {secret} -o 1 = 1", tool="ansible")
    story = Story(control.entries())
    assert control.verified().whole
    assert story.start["command"] == "ansible" and story.start["pattern"] == "h1:h2"
    assert story.start["module"] == "ansible.builtin.raw" and "playbook" not in story.start
    assert sorted(story.results("ansible.builtin.raw")) == ["h1", "h2"]
    assert story.entries[-1]["type"] == "run.end" and story.entries[-1]["status"] == "ok"
    assert secret not in json.dumps(story.entries)


def test_what_was_typed_into_a_console_is_one_run(control: Control) -> None:
    control.run("h1:h2", tool="ansible-console", input="raw true\nraw test {{ inventory_hostname }} = h1\nping\nexit\n")
    story = Story(control.entries())
    assert control.verified().whole
    assert story.start["command"] == "ansible-console" and len(story.of("run.start")) == 1
    assert len(story.of("play.start")) == 3
    results = [(entry["fqcn"].split(".")[-1], entry["host"], entry["status"]) for entry in story.of("task.result")]
    both = [("h1", "ok"), ("h2", "ok")]
    assert sorted(results) == sorted(
        [("raw", *pair) for pair in [*both, ("h1", "ok"), ("h2", "failed")]] + [("ping", *pair) for pair in both]
    )
    end = story.entries[-1]
    assert end["type"] == "run.end" and end["status"] == "failed"
    assert end["stats"]["h1"] == {"ok": 3, "changed": 2, "failures": 0, "unreachable": 0, "skipped": 0}
    assert end["stats"]["h2"] == {"ok": 2, "changed": 1, "failures": 1, "unreachable": 0, "skipped": 0}


def test_a_playbook_that_follows_a_failure_belongs_to_the_run(control: Control) -> None:
    """Ansible goes on to the next playbook when the errors were cleared, although the figures still have them."""
    control.playbook(
        {"name": "Fail", "ansible.builtin.raw": "test {{ inventory_hostname }} = h1"},
        {"name": "Forgive", "ansible.builtin.meta": "clear_host_errors"},
        name="first.yml",
        hosts="h1:h2",
    )
    control.playbook({"name": "Later", "ansible.builtin.raw": "true"}, name="second.yml", hosts="h1")
    control.run("first.yml", "second.yml")
    story = Story(control.entries())
    assert story.results("Later")["h1"]["status"] == "ok"
    assert [entry["type"] for entry in story.entries].count("run.end") == 1
    assert story.entries[-1]["type"] == "run.end" and story.entries[-1]["status"] == "failed"


def test_a_playbook_that_cannot_be_read_ends_the_run(control: Control) -> None:
    control.playbook({"name": "Fine", "ansible.builtin.raw": "true"}, name="first.yml", hosts="h1")
    control.write("second.yml", "- hosts: [\n")
    control.run("first.yml", "second.yml", rc=4)
    end = control.entries()[-1]
    assert end["type"] == "run.end" and end["status"] == "failed" and end["stats"]["h1"]["ok"] == 1
    assert control.verified().whole


def test_two_runs_at_once_leave_each_other_alone(control: Control) -> None:
    control.playbook(control.gate(), {"name": "Late", "ansible.builtin.raw": "true"}, name="slow.yml", hosts="h1")
    control.playbook({"name": "Quick", "ansible.builtin.raw": "true"}, name="quick.yml", hosts="h2")
    slow = control.start("slow.yml")
    control.wait_for("at.gate", slow)
    quick = control.run("quick.yml")
    assert "killed" not in quick.stdout
    control.open()
    output, _errors = slow.communicate(timeout=60)
    assert slow.returncode == 0, output
    ends = control.entries("run.end")
    assert [end["status"] for end in ends] == ["ok", "ok"] and not control.entries("run.aborted")
    assert {entry["run"] for entry in control.entries("run.start")} == {end["run"] for end in ends}
    assert control.verified().whole


def git(directory: pathlib.Path, *words: str) -> str:
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    return subprocess.run(
        ["git", "-C", directory, *author, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_code_is_named_by_its_commit(control: Control) -> None:
    project = control.directory / "project"
    control.playbook({"name": "Fine", "ansible.builtin.raw": "true"}, name="project/playbooks/site.yml", hosts="h1")
    shutil.move(control.directory / "hosts.ini", project / "hosts.ini")
    git(control.directory, "init", "-q", "project")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "All there is")
    commit = git(project, "rev-parse", "HEAD")
    # What could lead astray: another way to the project, and variables of Git's that name another repository.
    (control.directory / "link").symlink_to("project")
    git(control.directory, "init", "-q", "other")
    astray = {"GIT_DIR": str(control.directory / "other/.git"), "GIT_WORK_TREE": str(control.directory / "other")}
    words = ["-i", "link/hosts.ini", "link/playbooks/site.yml", "-e", "change_id=CHG-1", "-e", "api_token=extra"]

    control.run(*words, env=astray)
    control.write("project/new.yml", "")
    control.run(*words)

    clean, dirty = control.entries("run.start")
    collection = clean["repositories"][-1]
    project_of = {"role": "playbook", "name": "project", "commit": commit}
    assert clean["repositories"][:-1] == [{**project_of, "dirty": False}]
    assert dirty["repositories"][:-1] == [{**project_of, "dirty": True}]
    assert collection["role"] == "collection" and re.fullmatch("[0-9a-f]{40}", collection["commit"])
    assert clean["playbook"] == ["playbooks/site.yml"] and clean["inventory"] == ["project/hosts.ini"]
    assert clean["extra_vars"] == ["api_token", "change_id"]
    assert [entry["src"] for entry in control.entries("task.start")] == ["playbooks/site.yml:5"] * 2
    assert {entry["chg"] for entry in control.entries()[1:]} == {"CHG-1"}


def test_an_event_is_refused_where_nothing_records_it(control: Control) -> None:
    words = ["h1", "-m", "flowaudit.ops.trail_event", "-a", "name=Said"]
    output = control.run(*words, tool="ansible", rc=2, env={"ANSIBLE_LOAD_CALLBACK_PLUGINS": "0"}).stdout
    assert "recorded nowhere" in output and "bin_ansible_callbacks" in output and not control.trail.exists()
    control.run(*words, tool="ansible")
    assert [(entry["host"], entry["name"]) for entry in control.entries("event")] == [("h1", "Said")]
