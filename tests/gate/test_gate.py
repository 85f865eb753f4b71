# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an approved change lets run, and what it does not let out of its scope while it runs."""

from __future__ import annotations

import concurrent.futures
import datetime
import json
import os
import py_compile
import subprocess
import time
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import gate_file, lifecycle, repository, signature
from ansible_collections.flowaudit.ops.plugins.module_utils.change.gate import stand

from .conftest import TOUCH, Site

NOW = datetime.datetime.now(datetime.UTC)
LIMIT = ("--limit", "h1,h2")


def visited(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name in after if after[name] > before[name]}


def run(site: Site, *words: str, **more: t.Any) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    before = site.visits()
    done = site.run(*words, **more)
    return done, visited(before, site.visits())


# ── What may run ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_approved_change_runs_where_it_says(site: Site) -> None:
    change_id = site.approved()
    done, touched = run(site, "play.yml", "-e", f"change_id={change_id}", *LIMIT)
    assert done.returncode == 0 and touched == {"h1", "h2"}, done.stdout
    (granted,) = site.entries("run.authorized")
    assert granted["chg"] == change_id and granted["hosts"] == ["h1", "h2"] and granted["playbooks"] == ["play.yml"]
    assert {item["key"] for item in granted["approvals"]} and "example.org" not in str(granted)
    assert {item["chg"] for item in site.entries("task.result")} == {change_id}
    # The start of the run and what let it begin come before anything else of it.
    of_run = [item["seq"] for kind in ("run.start", "run.authorized", "play.start") for item in site.entries(kind)]
    assert of_run == sorted(of_run)


def test_it_is_recorded_without_being_enabled(site: Site) -> None:
    assert "callbacks_enabled" not in (site.top / "ansible.cfg").read_text()
    change_id = site.approved(scope={"playbooks": ["ansible", "ansible-console"]})
    done, touched = run(
        site, "h1", "-m", "ansible.builtin.raw", "-a", "id", "-e", f"change_id={change_id}", tool="ansible"
    )
    assert done.returncode == 0 and touched == {"h1"}, done.stdout
    assert [item["status"] for item in site.entries("run.end")] == ["ok"]


def test_the_console(site: Site) -> None:
    change_id = site.approved(scope={"playbooks": ["ansible-console"]})
    typed = "raw id\ncd h3\nraw id\nexit\n"
    done, touched = run(site, "h1:h2", "-e", f"change_id={change_id}", tool="ansible-console", input=typed)
    assert touched == {"h1", "h2"}, done.stdout
    assert "h3 is outside of" in done.stdout


def test_hosts_one_after_the_other(site: Site) -> None:
    change_id = site.approved()
    for host in ("h1", "h2"):
        done, touched = run(site, "play.yml", "-e", f"change_id={change_id}", "--limit", host)
        assert done.returncode == 0 and touched == {host}, done.stdout


def test_check_mode_needs_the_change_and_does_not_use_it_up(site: Site) -> None:
    change_id = site.approved()
    words = ("play.yml", "-e", f"change_id={change_id}", *LIMIT)
    assert site.run(*words, "--check").returncode == 0
    done, touched = run(site, *words)
    assert done.returncode == 0 and touched == {"h1", "h2"}, done.stdout
    assert site.run("play.yml", "--check", *LIMIT).returncode == 1


def test_a_failed_run_may_be_repeated(site: Site) -> None:
    failing = {"name": "Fail while a file is there", "ansible.builtin.raw": f"test ! -e {site.directory}/broken"}
    site.playbook("play.yml", failing)
    site.commit()
    change_id = site.approved()
    words = ("play.yml", "-e", f"change_id={change_id}", *LIMIT)
    (site.directory / "broken").touch()
    assert site.run(*words).returncode == 2
    (site.directory / "broken").unlink()
    assert site.run(*words).returncode == 0
    assert site.run(*words).returncode == 1


def test_what_was_done_may_be_taken_back_until_it_is_reviewed(site: Site) -> None:
    change_id = site.approved()
    back = ("back.yml", "-e", f"change_id={change_id}", *LIMIT)
    refused, touched = run(site, *back)
    assert refused.returncode == 1 and not touched, "There is nothing to take back yet."
    assert site.run("play.yml", "-e", f"change_id={change_id}", *LIMIT).returncode == 0
    done, touched = run(site, *back)
    assert done.returncode == 0 and touched == {"h1", "h2"}, done.stdout
    assert [item["rollback"] for item in site.entries("run.authorized")] == [False, True]
    gone = site.run(*back)
    assert gone.returncode == 1 and "is rolled back" in gone.stdout


def test_after_the_review_it_is_over(site: Site) -> None:
    change_id = site.approved()
    assert site.run("play.yml", "-e", f"change_id={change_id}", *LIMIT).returncode == 0
    gate, log = gate_file.load(site.gate_path), site.log()
    standing = stand(gate, change_id, log)
    for path, content in lifecycle.review(gate, standing, site.person("dave"), "Fine.", NOW).files.items():
        repository.write(path, content)
    log.close()
    done = site.run("back.yml", "-e", f"change_id={change_id}", *LIMIT)
    assert done.returncode == 1 and "is reviewed" in done.stdout


def test_an_emergency_does_not_wait(site: Site) -> None:
    frozen = {"name": "now", "start": (NOW - datetime.timedelta(days=1)).isoformat(), "end": "2099-01-01T00:00:00Z"}
    site.gate({"freezes": [frozen]})
    site.commit()
    change_id = site.approved("bob", kind="emergency", risk="high")
    done, touched = run(site, "play.yml", "-e", f"change_id={change_id}", *LIMIT)
    assert done.returncode == 0 and touched == {"h1", "h2"}, done.stdout
    assert "is an emergency change; it has to be reviewed within 5 days" in " ".join(done.stdout.split())
    assert [item["kind"] for item in site.entries("run.authorized")] == ["emergency"]


def test_inside_a_window(site: Site) -> None:
    begin = (NOW - datetime.timedelta(minutes=5)).strftime("%H:%M")
    window = {"name": "now", "timezone": "UTC", "begin": begin, "duration": 7200, "rule": "FREQ=DAILY"}
    site.gate({"windows": [window]})
    site.commit()
    done = site.run("play.yml", "-e", f"change_id={site.approved()}", *LIMIT)
    assert done.returncode == 0, done.stdout


def test_a_policy_that_those_before_have_signed(site: Site) -> None:
    site.run("play.yml", "-e", f"change_id={site.request()}")
    site.gate({"approvals": {risk: {"count": 1} for risk in ("low", "medium", "high")}})
    site.commit()
    gate = gate_file.load(site.gate_path)
    for name in ("bob", "carol"):
        for path, content in lifecycle.sign_terms(gate, site.person(name)).files.items():
            repository.write(path, content)
    done = site.run("play.yml", "-e", f"change_id={site.approved('bob')}", *LIMIT)
    assert done.returncode == 0, done.stdout
    assert [item["first"] for item in site.entries("policy.accepted")] == [True, False]


def test_a_bad_signature_does_not_spoil_the_good_ones(site: Site) -> None:
    change_id = site.approved("bob", "carol")
    site.sign(change_id, "dave", site.key("mallory"))
    assert site.run("play.yml", "-e", f"change_id={change_id}", *LIMIT).returncode == 0


def test_an_open_inventory_is_recorded_only(site: Site) -> None:
    hosts = {target.name: {"ansible_port": target.port} for target in site.targets}
    site.gate(policy={})
    value = {
        "plugin": gate_file.PLUGIN,
        "name": "demo",
        "protected": False,
        "inventory": {"all": {"hosts": hosts, "vars": {**_connection(site)}}},
    }
    site.write("inventories/demo/gate.yml", value)
    done, touched = run(site, "play.yml", inventory="inventories/demo")
    assert done.returncode == 0 and touched == {"h1", "h2", "h3"}, done.stdout
    (granted,) = site.entries("run.authorized")
    assert granted["inventory"] == "demo" and "chg" not in granted


def _connection(site: Site) -> dict[str, str]:
    return {
        "ansible_host": "127.0.0.1",
        "ansible_user": "root",
        "ansible_ssh_private_key_file": site.key("operator"),
        "ansible_ssh_common_args": "-F none -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no",
    }


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("ansible-playbook", ["play.yml", "--syntax-check"]),
        ("ansible-playbook", ["play.yml", "--list-hosts"]),
        ("ansible-playbook", ["play.yml", "--list-tasks"]),
        ("ansible-playbook", ["play.yml", "--list-tags"]),
        ("ansible", ["all", "--list-hosts"]),
        ("ansible-inventory", ["--graph"]),
        ("ansible-inventory", ["--host", "h3"]),
    ],
)
def test_what_only_shows_something_needs_no_change(site: Site, tool: str, words: list[str]) -> None:
    done, touched = run(site, *words, tool=tool)
    assert done.returncode == 0 and not touched, done.stdout


def test_hosts_from_other_sources(site: Site) -> None:
    ports = {target.name: target.port for target in site.targets}
    site.write("more/hosts.yml", {"db": {"hosts": {"h2": {"ansible_port": ports["h2"], **_connection(site)}}}})
    terraform = {
        "nuc_hosts": {"value": {"h3": {"ansible_port": ports["h3"], "groups": ["cloud"], **_connection(site)}}}
    }
    site.write("more/output.json", json.dumps(terraform))
    site.gate(
        inventory={"nuc": {"hosts": {"h1": {"ansible_port": ports["h1"], **_connection(site)}}}},
        sources=[{"path": "more/hosts.yml"}, {"terraform": "more/output.json", "output": "nuc_hosts"}],
    )
    site.commit()
    change_id = site.approved(scope={"hosts": ["h*"]})
    done, touched = run(site, "play.yml", "-e", f"change_id={change_id}", "--limit", "nuc:db:cloud")
    assert done.returncode == 0 and touched == {"h1", "h2", "h3"}, done.stdout


# ── What does not get out of its scope ───────────────────────────────────────────────────────────────────────────────


def address(site: Site, name: str) -> dict[str, t.Any]:
    (target,) = [target for target in site.targets if target.name == name]
    return {"ansible_port": target.port, **_connection(site)}


def escapes() -> dict[str, t.Callable[[Site], list[dict[str, t.Any]]]]:
    """Tasks of an approved playbook that try to reach h3."""

    def add_host(site: Site) -> dict[str, t.Any]:
        return {"name": "Add", "ansible.builtin.add_host": {"name": "h9", **address(site, "h3")}}

    return {
        "delegate_to": lambda site: [{**TOUCH, "delegate_to": "h3"}],
        "delegate_to_a_template": lambda site: [{**TOUCH, "delegate_to": "{{ groups['nuc'][2] }}"}],
        "delegate_to_in_a_loop": lambda site: [{**TOUCH, "delegate_to": "{{ item }}", "loop": ["h3"]}],
        "delegate_to_a_new_host": lambda site: [add_host(site), {**TOUCH, "delegate_to": "h9"}],
        "delegate_to_an_address": lambda site: [{**TOUCH, "delegate_to": "somewhere", "vars": address(site, "h3")}],
        "task_vars": lambda site: [{**TOUCH, "vars": address(site, "h3")}],
        "task_vars_and_delegation": lambda site: [
            {**TOUCH, "delegate_to": "h3", "vars": {"ansible_connection": "ssh"}},
        ],
        "set_fact": lambda site: [
            {"name": "Set", "ansible.builtin.set_fact": {"ansible_port": address(site, "h3")["ansible_port"]}},
            TOUCH,
        ],
        "set_fact_for_another": lambda site: [
            {
                "name": "Set",
                "ansible.builtin.set_fact": {"ansible_connection": "ssh"},
                "delegate_to": "h3",
                "delegate_facts": True,
            },
            {**TOUCH, "delegate_to": "h3"},
        ],
        "another_port": lambda site: [
            {**TOUCH, "port": address(site, "h3")["ansible_port"], "vars": {"ansible_port": None}}
        ],
        "a_proxy": lambda site: [
            {**TOUCH, "vars": {"ansible_ssh_extra_args": f"-o Port={address(site, 'h3')['ansible_port']}"}},
        ],
        "another_plugin": lambda site: [
            {**TOUCH, "vars": {"ansible_connection": "paramiko_ssh", **address(site, "h3")}}
        ],
        "reset_connection": lambda site: [
            {**TOUCH, "vars": address(site, "h3"), "ignore_errors": True},
            {"name": "Again", "ansible.builtin.meta": "reset_connection", "vars": address(site, "h3")},
        ],
    }


@pytest.mark.parametrize("name", list(escapes()))
def test_a_task_does_not_reach_another_host(site: Site, name: str) -> None:
    site.playbook("play.yml", *escapes()[name](site), hosts="h1")
    site.commit()
    done, touched = run(site, "play.yml", "-e", f"change_id={site.approved()}", "--limit", "h1")
    assert "h3" not in touched, done.stdout
    if name != "reset_connection":
        said = " ".join(done.stdout.split())
        # The plugin is gone with ansible-core 2.21.
        gone = name == "another_plugin" and "'paramiko_ssh' was not found" in said
        assert done.returncode != 0 and ("Nothing was sent." in said or gone), done.stdout


def test_play_vars_do_not_reach_another_host(site: Site) -> None:
    site.playbook("play.yml", TOUCH, hosts="h1", vars=address(site, "h3"))
    site.commit()
    done, touched = run(site, "play.yml", "-e", f"change_id={site.approved()}", "--limit", "h1")
    assert done.returncode != 0 and not touched, done.stdout


def test_host_vars_do_not_bring_a_host_back(site: Site) -> None:
    site.write("inventories/production/host_vars/h3.yml", {"ansible_connection": "ssh"})
    site.playbook("play.yml", {**TOUCH, "delegate_to": "h3"}, hosts="h1")
    site.commit()
    done, touched = run(site, "play.yml", "-e", f"change_id={site.approved()}", "--limit", "h1")
    assert done.returncode != 0 and not touched, done.stdout


def test_an_added_host_is_no_host_of_a_later_play(site: Site) -> None:
    add = {"name": "Add", "ansible.builtin.add_host": {"name": "h9", "groups": "new", **address(site, "h3")}}
    plays = [
        {"name": "First", "hosts": "h1", "gather_facts": False, "tasks": [add]},
        {"name": "Then", "hosts": "new", "gather_facts": False, "tasks": [TOUCH]},
    ]
    site.write("play.yml", plays)
    site.commit()
    done, touched = run(site, "play.yml", "-e", f"change_id={site.approved()}")
    assert done.returncode == 1 and not touched and "h9 is outside of" in done.stdout, done.stdout


def test_the_control_node_and_the_other_hosts_of_the_change_can_be_delegated_to(site: Site) -> None:
    tasks = [
        {"name": "Here", "ansible.builtin.command": "true", "delegate_to": "localhost", "changed_when": False},
        {**TOUCH, "delegate_to": "h2"},
    ]
    site.playbook("play.yml", *tasks, hosts="h1")
    site.commit()
    done, touched = run(site, "play.yml", "-e", f"change_id={site.approved()}", "--limit", "h1")
    assert done.returncode == 0 and touched == {"h2"}, done.stdout


def test_templates_go_through_hosts_outside(site: Site) -> None:
    wanted = {
        "ansible.builtin.assert": {"that": "groups['nuc'] | map('extract', hostvars, 'ansible_host') | length == 3"}
    }
    site.playbook("play.yml", {"name": "Look at all", **wanted}, hosts="h1")
    site.commit()
    done = site.run("play.yml", "-e", f"change_id={site.approved()}", "--limit", "h1")
    assert done.returncode == 0, done.stdout


def test_the_inventory_read_again_is_no_way_out(site: Site) -> None:
    tasks = [{"name": "Again", "ansible.builtin.meta": "refresh_inventory"}, {**TOUCH, "delegate_to": "h3"}]
    site.playbook("play.yml", *tasks, hosts="h1")
    site.commit()
    done, touched = run(site, "play.yml", "-e", f"change_id={site.approved()}", "--limit", "h1")
    assert done.returncode != 0 and not touched and "outside of CHG-2026-0001" in done.stdout, done.stdout


def test_templated_addresses_of_the_inventory_count(site: Site) -> None:
    hosts = {target.name: {"my_port": target.port} for target in site.targets}
    shared = {**_connection(site), "ansible_port": "{{ my_port }}"}
    site.gate(inventory={"all": {"children": {"nuc": {"hosts": hosts}}, "vars": shared}})
    site.commit()
    done, touched = run(site, "play.yml", "-e", f"change_id={site.approved()}", *LIMIT)
    assert done.returncode == 0 and touched == {"h1", "h2"}, done.stdout


def test_addresses_that_lead_over_another_host_of_the_inventory(site: Site) -> None:
    ports = {target.name: target.port for target in site.targets}
    hosts = {"h1": {"my_port": ports["h1"], "ansible_port": "{{ hostvars['h1']['my_port'] }}"}}
    site.gate(inventory={"all": {"children": {"nuc": {"hosts": hosts}}, "vars": _connection(site)}})
    site.commit()
    change_id = site.approved(scope={"hosts": ["h1"]})
    done, touched = run(site, "play.yml", "-e", f"change_id={change_id}")
    assert done.returncode == 0 and touched == {"h1"}, done.stdout


def test_a_play_may_say_who_logs_in(site: Site) -> None:
    gate = {**_connection(site), "ansible_user": "{{ deploy_user }}"}
    hosts = {target.name: {"ansible_port": target.port} for target in site.targets}
    site.gate(inventory={"all": {"children": {"nuc": {"hosts": hosts}}, "vars": gate}})
    site.playbook("play.yml", TOUCH, vars={"deploy_user": "root"})
    site.commit()
    done, touched = run(site, "play.yml", "-e", f"change_id={site.approved()}", *LIMIT)
    assert done.returncode == 0 and touched == {"h1", "h2"}, done.stdout


def test_files_exchanged_while_it_runs_are_noticed_before_the_next_play(site: Site) -> None:
    exchange = {"name": "Exchange", "ansible.builtin.command": f"touch {site.top}/more.yml", "delegate_to": "localhost"}
    plays = [
        {"name": "First", "hosts": "h1", "gather_facts": False, "tasks": [exchange]},
        {"name": "Then", "hosts": "h1", "gather_facts": False, "tasks": [TOUCH]},
    ]
    site.write("play.yml", plays)
    site.commit()
    done, touched = run(site, "play.yml", "-e", f"change_id={site.approved()}", "--limit", "h1")
    assert done.returncode == 1 and not touched and "is not that of CHG-2026-0001 any more" in done.stdout, done.stdout


def test_bytecode_is_not_what_was_approved(site: Site) -> None:
    site.write(
        "filter_plugins/say.py",
        "class FilterModule:\n    def filters(self):\n        return {'say': lambda x: 'good'}\n",
    )
    wanted = {"name": "Say it", "ansible.builtin.assert": {"that": "'' | say == 'good'"}}
    site.playbook("play.yml", wanted, hosts="h1")
    site.write(".gitignore", "__pycache__\n")
    site.commit()
    source = site.top / "filter_plugins" / "say.py"
    good = source.read_text()
    source.write_text(good.replace("good", "evil"))
    py_compile.compile(str(source), doraise=True)
    moment = source.stat().st_mtime_ns
    source.write_text(good)
    os.utime(source, ns=(moment, moment))
    done = site.run("play.yml", "-e", f"change_id={site.approved()}", "--limit", "h1")
    assert done.returncode == 0, done.stdout


def test_one_run_at_a_time(site: Site) -> None:
    wait = f"touch {site.directory}/there; while [ ! -e {site.directory}/go ]; do sleep 0.05; done"
    site.playbook("play.yml", {"name": "Wait", "ansible.builtin.raw": wait}, hosts="h1")
    site.commit()
    words = ("play.yml", "-e", f"change_id={site.approved()}", "--limit", "h1")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        first = threads.submit(site.run, *words)
        while not (site.directory / "there").exists():
            time.sleep(0.05)
        second = site.run(*words)
        (site.directory / "go").touch()
        assert first.result().returncode == 0
    assert second.returncode == 1 and "has not ended. Wait for its end." in second.stdout


def test_a_review_counts_when_its_requester_has_left(site: Site) -> None:
    emergency = site.approved("bob", kind="emergency", by="dave")
    assert site.run("play.yml", "-e", f"change_id={emergency}", *LIMIT).returncode == 0
    signers = site.top / "allowed_signers"
    signers.write_text("".join(line for line in signers.read_text().splitlines(True) if not line.startswith("dave")))
    site.commit()
    gate = gate_file.load(site.gate_path)
    for name in ("bob", "carol"):
        for path, content in lifecycle.sign_terms(gate, site.person(name)).files.items():
            repository.write(path, content)
    done = site.run("play.yml", "-e", f"change_id={site.approved()}", *LIMIT)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="Only root gives files to others.")
def test_a_repository_that_belongs_to_somebody_else(site: Site) -> None:
    """As it is mounted into an execution environment."""
    change_id = site.approved()
    for path in (site.top, *site.top.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    done, touched = run(site, "play.yml", "-e", f"change_id={change_id}", *LIMIT)
    assert done.returncode == 0 and touched == {"h1", "h2"}, done.stdout


def test_a_signature_by_plain_ssh_keygen(site: Site) -> None:
    change_id = site.approved("bob")
    document = site.changes / change_id / "change.json"
    command = ["ssh-keygen", "-Y", "sign", "-f", site.key("carol"), "-n", signature.APPROVAL, str(document)]
    subprocess.run(command, check=True, capture_output=True)
    document.with_name("change.json.sig").rename(site.changes / change_id / "approvals" / "carol@example.org.sig")
    assert site.run("play.yml", "-e", f"change_id={change_id}", *LIMIT).returncode == 0
