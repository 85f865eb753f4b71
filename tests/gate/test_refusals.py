# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the gate refuses: each with its sentence, with status 1, and with nobody at any host's door."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import shutil
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import gate_file, lifecycle, repository, signature
from ansible_collections.flowaudit.ops.plugins.module_utils.change.gate import stand
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical

from .conftest import TOUCH, Site

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclasses.dataclass(frozen=True)
class Wish:
    """A command that is to be refused."""

    words: tuple[str, ...]
    env: dict[str, str] = dataclasses.field(default_factory=dict)
    tool: str = "ansible-playbook"
    recorded: bool = True
    directory: str = ""
    inventory: str = "inventories/production"


Arranged = t.Callable[[Site], Wish]
CASES: list[tuple[str, str, Arranged]] = []


def refused(message: str) -> t.Callable[[Arranged], Arranged]:
    """A case: the sentence it has to be refused with, or a part of it."""

    def listed(arrange: Arranged) -> Arranged:
        CASES.append((arrange.__name__, message, arrange))
        return arrange

    return listed


def play(change_id: str, *more: str, **wish: t.Any) -> Wish:
    return Wish(("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2", *more), **wish)


def later(**delta: int) -> str:
    return (NOW + datetime.timedelta(**delta)).isoformat()


# ── Who ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@refused("The inventory production is protected: a run needs an approved change.")
def no_change(site: Site) -> Wish:
    return Wish(("play.yml",))


@refused("CHG-2026-0001 has 0 of 2 approvals.")
def unapproved(site: Site) -> Wish:
    return play(site.request())


@refused("has 1 of 2 approvals. One more person has to approve it: ansible-playbook flowaudit.ops.change_approve")
def one_approval_short(site: Site) -> Wish:
    return play(site.approved("bob"))


@refused("has 1 of 2 approvals")
def the_requester_approved(site: Site) -> Wish:
    return play(site.approved("bob", "alice"))


@refused("has 1 of 2 approvals")
def the_same_key_under_two_names(site: Site) -> Wish:
    signers = site.top / "allowed_signers"
    signers.write_text(f"{signers.read_text()}eve@example.org {(site.keys / 'bob.pub').read_text()}")
    site.commit()
    change_id = site.approved("bob")
    site.sign(change_id, "eve", site.key("bob"))
    return play(change_id)


@refused("The signature of carol@example.org does not count")
def a_signature_under_another_name(site: Site) -> Wish:
    change_id = site.approved("bob")
    site.sign(change_id, "carol", site.key("dave"))
    return play(change_id)


@refused("The signature of mallory@example.org does not count")
def a_signer_that_is_not_allowed(site: Site) -> Wish:
    change_id = site.approved("bob")
    site.sign(change_id, "mallory", site.key("mallory"))
    return play(change_id)


@refused("does not count: it is not by a key of theirs, not over this content, or not for this purpose")
def another_namespace(site: Site) -> Wish:
    change_id = site.approved("bob")
    site.approve(change_id, "carol", namespace="file")
    return play(change_id)


@refused("has 1 of 2 approvals")
def a_request_is_no_approval(site: Site) -> Wish:
    change_id = site.approved("bob")
    site.approve(change_id, "carol", namespace=signature.REQUEST)
    return play(change_id)


@refused("The signature of carol@example.org does not count")
def an_approval_of_another_change(site: Site) -> Wish:
    first, second = site.approved(), site.approved("bob", title="Another")
    shutil.copy(site.changes / first / "approvals" / "carol@example.org.sig", site.changes / second / "approvals")
    return play(second)


@refused("The signature of carol@example.org does not count")
def a_key_that_was_revoked_meanwhile(site: Site) -> Wish:
    change_id = site.approved("bob")
    soon = (NOW - DAY).strftime("%Y%m%d")
    signers = site.top / "allowed_signers"
    lines = signers.read_text().replace("carol@example.org ", f'carol@example.org valid-before="{soon}" ')
    signers.write_text(lines)
    site.commit()
    again = site.approved("bob", title="With those signers")
    site.sign(again, "carol", site.key("carol"))
    assert change_id != again
    return play(again)


@refused("was approved by nobody of the role security")
def another_role(site: Site) -> Wish:
    return play(site.approved("bob", "dave", risk="high"))


@refused("The signature of alice@example.org does not count")
def a_request_that_somebody_else_wrote(site: Site) -> Wish:
    change_id = site.approved()
    place = site.changes / change_id
    signed = signature.sign((place / "change.json").read_bytes(), site.key("mallory"), signature.REQUEST)
    (place / "request.sig").write_bytes(signed)
    return play(change_id)


@refused("The signature of alice@example.org does not count")
def a_request_without_a_signature(site: Site) -> Wish:
    change_id = site.approved()
    (site.changes / change_id / "request.sig").unlink()
    return play(change_id)


# ── What was approved ────────────────────────────────────────────────────────────────────────────────────────────────


def edited(site: Site, change_id: str, **more: t.Any) -> None:
    path = site.changes / change_id / "change.json"
    path.write_bytes(canonical.encode({**json.loads(path.read_bytes()), **more}))


@refused("The signature of alice@example.org does not count")
def edited_after_approval(site: Site) -> Wish:
    change_id = site.approved()
    edited(site, change_id, title="Something else")
    return play(change_id)


@refused("has 0 of 2 approvals")
def edited_and_requested_again_under_its_id(site: Site) -> Wish:
    change_id = site.approved()
    edited(site, change_id, title="Something else")
    place = site.changes / change_id
    signed = signature.sign((place / "change.json").read_bytes(), site.key("alice"), signature.REQUEST)
    (place / "request.sig").write_bytes(signed)
    return play(change_id)


@refused("is revoked. Request a new change.")
def revoked(site: Site) -> Wish:
    change_id = site.approved()
    revoke(site, change_id)
    return play(change_id)


def revoke(site: Site, change_id: str) -> None:
    gate = gate_file.load(site.gate_path)
    step = lifecycle.revoke(gate, stand(gate, change_id, None), site.person("dave"), "No.", NOW)
    for path, content in step.files.items():
        repository.write(path, content)


@refused("is revoked")
def revoked_and_the_file_taken_away_again(site: Site) -> Wish:
    change_id = site.approved()
    revoke(site, change_id)
    site.run(*play(change_id).words)
    for path in (site.changes / change_id).glob("revocation.*"):
        path.unlink()
    return play(change_id)


@refused("The signature of dave@example.org does not count")
def a_revocation_that_nobody_signed(site: Site) -> Wish:
    change_id = site.approved()
    revoke(site, change_id)
    (site.changes / change_id / "revocation.sig").write_bytes(b"")
    return play(change_id)


@refused("expired on")
def expired(site: Site) -> Wish:
    return play(site.approved(now=NOW - 20 * DAY))


@refused("was requested more than 30 days ago")
def too_old(site: Site) -> Wish:
    return play(site.approved(now=NOW - 40 * DAY, valid_days=60))


@refused("which is to come")
def requested_in_the_future(site: Site) -> Wish:
    return play(site.approved(now=NOW + DAY))


@refused("is about play.yml, not other.yml")
def another_playbook(site: Site) -> Wish:
    site.playbook("other.yml", TOUCH)
    site.commit()
    return Wish(("other.yml", "-e", f"change_id={site.approved()}", "--limit", "h1,h2"))


@refused("is about play.yml, not other.yml")
def another_playbook_besides(site: Site) -> Wish:
    site.playbook("other.yml", TOUCH)
    site.commit()
    return Wish(("play.yml", "other.yml", "-e", f"change_id={site.approved()}", "--limit", "h1,h2"))


@refused("an approval does not cover what is in it")
def a_playbook_from_elsewhere(site: Site) -> Wish:
    change_id = site.approved()
    shutil.copy(site.top / "play.yml", site.directory / "play.yml")
    return Wish((str(site.directory / "play.yml"), "-e", f"change_id={change_id}"))


@refused("is about play.yml, not ansible")
def a_command_instead_of_a_playbook(site: Site) -> Wish:
    return Wish(("h1", "-m", "ansible.builtin.raw", "-a", "id", "-e", f"change_id={site.approved()}"), tool="ansible")


@refused("The inventory production is protected")
def a_command_without_a_change(site: Site) -> Wish:
    return Wish(("all", "-m", "ansible.builtin.ping"), tool="ansible")


@refused("The inventory production is protected")
def a_console_without_a_change(site: Site) -> Wish:
    return Wish(("all",), tool="ansible-console")


@refused("The inventory's repository is sha256:")
def other_code(site: Site) -> Wish:
    change_id = site.approved()
    site.playbook("play.yml", TOUCH, TOUCH)
    site.commit()
    return play(change_id)


@refused("The inventory's repository has uncommitted changes")
def an_edited_file(site: Site) -> Wish:
    change_id = site.approved()
    site.playbook("play.yml", TOUCH, TOUCH)
    return play(change_id)


@refused("The inventory's repository is sha256:")
def an_edited_file_that_git_does_not_look_at(site: Site) -> Wish:
    change_id = site.approved()
    site.git("update-index", "--assume-unchanged", "play.yml")
    site.playbook("play.yml", TOUCH, TOUCH)
    return play(change_id)


@refused("The inventory's repository is sha256:")
def variables_that_git_does_not_look_at(site: Site) -> Wish:
    change_id = site.approved()
    site.write(".git/info/exclude", "group_vars\n")
    site.write("inventories/production/group_vars/all.yml", {"secret": "evil"})
    return play(change_id)


@refused("The inventory's repository is sha256:")
def another_work_tree_for_git(site: Site) -> Wish:
    change_id = site.approved()
    clean = site.directory / "clean"
    shutil.copytree(site.top, clean, ignore=shutil.ignore_patterns(".git"))
    site.playbook("play.yml", TOUCH, TOUCH)
    site.git("config", "core.worktree", str(clean))
    return play(change_id, env={"GIT_WORK_TREE": str(clean)})


@refused("is a link that leads out of")
def a_link_out_of_the_repository(site: Site) -> Wish:
    change_id = site.approved()
    os.symlink("/etc/hostname", site.top / "host_vars")
    return play(change_id)


@refused("is not the")
def another_collection(site: Site) -> Wish:
    change_id = site.request()
    code = dict(site.change(change_id).code.__dict__, collection_digest="sha256:" + "0" * 64)
    edited(site, change_id, code=code)
    resigned(site, change_id)
    site.approve(change_id, "bob", "carol")
    return play(change_id)


def resigned(site: Site, change_id: str) -> None:
    place = site.changes / change_id
    signed = signature.sign((place / "change.json").read_bytes(), site.key("alice"), signature.REQUEST)
    (place / "request.sig").write_bytes(signed)


@refused("is a change of the inventory staging, not of production")
def a_change_of_another_inventory(site: Site) -> Wish:
    change_id = site.request()
    edited(site, change_id, inventory="staging")
    resigned(site, change_id)
    site.approve(change_id, "bob", "carol")
    return play(change_id)


# ── Where ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@refused("h3 is outside of CHG-2026-0001. Limit the run: --limit h1,h2")
def another_limit(site: Site) -> Wish:
    return Wish(("play.yml", "-e", f"change_id={site.approved()}", "--limit", "h3"))


@refused("h3 is outside of")
def a_wider_limit(site: Site) -> Wish:
    return Wish(("play.yml", "-e", f"change_id={site.approved()}", "--limit", "h*"))


@refused("h3 is outside of")
def no_limit(site: Site) -> Wish:
    return Wish(("play.yml", "-e", f"change_id={site.approved()}"))


@refused("The run is about no host")
def a_limit_that_matches_nothing(site: Site) -> Wish:
    return Wish(("play.yml", "-e", f"change_id={site.approved()}", "--limit", "db*"))


@refused("h3 is outside of")
def a_later_play_for_other_hosts(site: Site) -> Wish:
    site.write(
        "play.yml",
        [
            {"name": "First", "hosts": "h1", "gather_facts": False, "tasks": [TOUCH]},
            {"name": "Then", "hosts": "h3", "gather_facts": False, "tasks": [TOUCH]},
        ],
    )
    site.commit()
    return Wish(("play.yml", "-e", f"change_id={site.approved()}"))


@refused("The inventory production is not mixed with others")
def a_second_inventory(site: Site) -> Wish:
    (site.directory / "other.ini").write_text("h9 ansible_host=127.0.0.1\n")
    return play(site.approved(), "-i", str(site.directory / "other.ini"))


@refused("which Ansible would read as inventories")
def a_file_beside_the_gate(site: Site) -> Wish:
    site.write("inventories/production/more.yml", {"all": {"hosts": {"h9": {"ansible_host": "127.0.0.1"}}}})
    site.commit()
    return play(site.approved())


@refused("is no file of the repository")
def a_source_from_elsewhere(site: Site) -> Wish:
    change_id = site.approved()
    (site.directory / "hosts.yml").write_text("all: {hosts: {h9: {}}}\n")
    site.gate(sources=[{"path": "../hosts.yml"}])
    return play(change_id)


# ── How ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def variable(name: str, given: str) -> Arranged:
    @refused(f"The extra variable {name}, with this value, is not part of")
    def arrange(site: Site) -> Wish:
        return play(site.approved(), "-e", given)

    CASES[-1] = (f"variable_{name}", *CASES[-1][1:])
    return arrange


variable("ansible_connection", "ansible_connection=local")
variable("ansible_host", "ansible_host=127.0.0.2")
variable("ansible_port", '{"ansible_port": 22}')
variable("ansible_ssh_common_args", "ansible_ssh_common_args='-o ProxyCommand=nc'")
variable("ansible_ssh_executable", "ansible_ssh_executable=/tmp/ssh")
variable("ansible_python_interpreter", "ansible_python_interpreter=/tmp/python")
variable("anything", "anything=else")


@refused("The extra variable release_id, with this value, is not part of")
def another_value_of_an_approved_variable(site: Site) -> Wish:
    return play(site.approved(scope={"variables": {"release_id": "1.4.0"}}), "-e", "release_id=1.5.0")


@refused('was approved with -e release_id="1.4.0"')
def an_approved_variable_left_out(site: Site) -> Wish:
    return play(site.approved(scope={"variables": {"release_id": "1.4.0"}}))


@refused("Leave --tags and --skip-tags out")
def other_tags(site: Site) -> Wish:
    return play(site.approved(), "--tags", "fast")


@refused("Leave --tags and --skip-tags out")
def skipped_tags(site: Site) -> Wish:
    return play(site.approved(), "--skip-tags", "backup")


@refused("--start-at-task would change what was approved")
def not_from_the_start(site: Site) -> Wish:
    return play(site.approved(), "--start-at-task", "Touch")


@refused("--ssh-common-args would change what was approved")
def other_ssh_arguments(site: Site) -> Wish:
    return play(site.approved(), "--ssh-common-args=-o ProxyCommand=nc")


@refused("--module-path would change what was approved")
def modules_from_elsewhere(site: Site) -> Wish:
    change_id = site.approved(scope={"playbooks": ["ansible"]})
    return Wish(("h1", "-m", "raw", "-a", "id", "-M", "/tmp", "-e", f"change_id={change_id}"), tool="ansible")


def environment(name: str, value: str) -> Arranged:
    @refused(f"The environment variable {name} would change what was approved.")
    def arrange(site: Site) -> Wish:
        # Where else a refusal would be recorded is what that one says.
        return play(site.approved(), env={name: value}, recorded=name != "FLOWAUDIT_TRAIL_DIRECTORY")

    CASES[-1] = (f"environment_{name}", *CASES[-1][1:])
    return arrange


environment("ANSIBLE_SSH_ARGS", "-o ProxyCommand=nc")
environment("ANSIBLE_LIBRARY", "/tmp")
environment("ANSIBLE_CALLBACKS_ENABLED", "ansible.builtin.minimal")
environment("ANSIBLE_STRATEGY", "free")
environment("ANSIBLE_CONNECTION_PLUGINS", "/tmp")
environment("ANSIBLE_CACHE_PLUGIN", "jsonfile")
environment("FLOWAUDIT_TRAIL_DIRECTORY", "/tmp/elsewhere")


@refused("is not the repository's")
def a_configuration_from_elsewhere(site: Site) -> Wish:
    change_id = site.approved()
    shutil.copy(site.top / "ansible.cfg", site.directory / "ansible.cfg")
    return play(change_id, env={"ANSIBLE_CONFIG": str(site.directory / "ansible.cfg")})


# ── When ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def window(minutes: int, duration: int) -> dict[str, t.Any]:
    begin = NOW + datetime.timedelta(minutes=minutes)
    return {
        "name": "test",
        "timezone": "UTC",
        "begin": begin.strftime("%H:%M"),
        "duration": duration,
        "rule": "FREQ=DAILY",
    }


@refused("No window is open for the 60 minutes that the run may take. The next moment is")
def outside_of_the_window(site: Site) -> Wish:
    site.gate({"windows": [window(120, 7200)]})
    site.commit()
    return play(site.approved())


@refused("No window is open for the 60 minutes")
def a_window_that_is_too_short(site: Site) -> Wish:
    site.gate({"windows": [window(-5, 1800)]})
    site.commit()
    return play(site.approved())


@refused("No window is open for the 180 minutes")
def a_runbook_that_takes_longer_than_the_window(site: Site) -> Wish:
    site.gate({"windows": [window(-5, 7200)]})
    site.playbook("play.yml", TOUCH, vars={"runbook": {"id": "RB", "max_duration": 10800}})
    site.commit()
    return play(site.approved())


@refused("Changes are frozen until")
def in_a_freeze(site: Site) -> Wish:
    site.gate({"freezes": [{"name": "end of the year", "start": later(days=-1), "end": later(days=1)}]})
    site.commit()
    return play(site.approved())


@refused("Changes are frozen until")
def in_a_freeze_that_begins_meanwhile(site: Site) -> Wish:
    site.gate({"freezes": [{"name": "soon", "start": later(minutes=10), "end": later(days=1)}]})
    site.commit()
    return play(site.approved())


@refused("the trail has an entry of")
def a_clock_that_was_set_back(site: Site) -> Wish:
    accepted(site)
    change_id = site.approved()
    log = site.log()
    log.append([{"type": "event", "ts": later(hours=1).replace("+00:00", "Z"), "name": "later"}])
    log.close()
    return play(change_id)


# ── The change's life ────────────────────────────────────────────────────────────────────────────────────────────────


@refused("was carried out already. Request a new change.")
def a_finished_change(site: Site) -> Wish:
    change_id = site.approved()
    done = site.run(*play(change_id).words)
    assert done.returncode == 0, done.stdout
    return play(change_id)


@refused("was carried out already")
def finished_on_one_of_the_hosts(site: Site) -> Wish:
    change_id = site.approved()
    done = site.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1")
    assert done.returncode == 0, done.stdout
    return play(change_id)


@refused("There is no change CHG-2026-9999")
def an_unknown_id(site: Site) -> Wish:
    site.approved()
    return play("CHG-2026-9999")


@refused("is no id of a change; one looks like CHG-2026-0042")
def a_path_as_id(site: Site) -> Wish:
    return play(f"../staging/{site.approved()}")


@refused("is no id of a change")
def a_list_as_id(site: Site) -> Wish:
    return Wish(("play.yml", "-e", json.dumps({"change_id": [site.approved()]}), "--limit", "h1"))


@refused("This is no line of JSON")
def broken_json(site: Site) -> Wish:
    change_id = site.approved()
    (site.changes / change_id / "change.json").write_text('{"id": "CHG')
    return play(change_id)


@refused("it is not in canonical form")
def json_that_says_the_same_otherwise(site: Site) -> Wish:
    change_id = site.approved()
    path = site.changes / change_id / "change.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    return play(change_id)


@refused("has more than 262144 bytes")
def a_huge_file(site: Site) -> Wish:
    change_id = site.approved()
    (site.changes / change_id / "change.json").write_bytes(b" " * 300_000)
    return play(change_id)


@refused("it has to be a file, not a link")
def a_link_to_a_document(site: Site) -> Wish:
    change_id = site.approved()
    path = site.changes / change_id / "change.json"
    path.rename(site.directory / "change.json")
    path.symlink_to(site.directory / "change.json")
    return play(change_id)


@refused("is no directory that can be read")
def a_link_to_a_change(site: Site) -> Wish:
    change_id = site.approved()
    place = site.changes / change_id
    place.rename(site.directory / change_id)
    place.symlink_to(site.directory / change_id)
    return play(change_id)


@refused("change.json is no file")
def a_pipe_as_document(site: Site) -> Wish:
    change_id = site.approved()
    path = site.changes / change_id / "change.json"
    path.unlink()
    os.mkfifo(path)
    return play(change_id)


@refused("holds the change CHG-2026-0001")
def a_change_copied_under_another_id(site: Site) -> Wish:
    shutil.copytree(site.changes / site.approved(), site.changes / "CHG-2026-0002")
    return play("CHG-2026-0002")


@refused("The review of CHG-2026-0001 is overdue")
def an_overdue_review(site: Site) -> Wish:
    emergency = site.approved("bob", kind="emergency")
    run_once(site, emergency, NOW - 6 * DAY)
    return play(site.approved())


def run_once(site: Site, change_id: str, moment: datetime.datetime) -> None:
    """A run of the past, as the trail would have it."""
    stamp = moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    site.run("play.yml")  # makes the trail, and accepts the policy
    log = site.log()
    change = site.change(change_id)
    run = {"run": "0190-past", "chg": change_id, "ts": stamp, "inventory": "production"}
    scope = {"playbooks": list(change.scope.playbooks), "hosts": list(change.scope.hosts)}
    granted = {**scope, "check": False, "rollback": False, "kind": str(change.kind), "document": change.digest}
    log.append([{**run, **granted, "type": "run.authorized"}, {**run, "type": "run.end", "status": "ok"}])
    log.close()


@refused("is not one of the playbooks that standard changes are for")
def a_standard_change_of_another_playbook(site: Site) -> Wish:
    change_id = site.request(kind="standard", scope={"playbooks": ["routine.yml"]})
    scope = json.loads((site.changes / change_id / "change.json").read_bytes())["scope"]
    edited(site, change_id, scope={**scope, "playbooks": ["play.yml"]})
    resigned(site, change_id)
    site.approve(change_id, "bob", "carol")
    return play(change_id)


# ── The policy itself ────────────────────────────────────────────────────────────────────────────────────────────────


def accepted(site: Site) -> None:
    """The policy as it is now is the one that this control node knows."""
    site.run("play.yml", "-e", f"change_id={site.request()}")
    assert site.entries("policy.accepted")


@refused("The policy or the allowed signers of production are not those that were accepted, and 0 of 2 persons")
def an_edited_policy(site: Site) -> Wish:
    accepted(site)
    site.gate({"approvals": {risk: {"count": 0} for risk in ("low", "medium", "high")}})
    site.commit()
    return play(site.request())


@refused("are not those that were accepted")
def a_signer_that_the_operator_added(site: Site) -> Wish:
    accepted(site)
    signers = site.top / "allowed_signers"
    signers.write_text(f"{signers.read_text()}mallory@example.org {(site.keys / 'mallory.pub').read_text()}")
    site.commit()
    change_id = site.approved("bob")
    site.sign(change_id, "mallory", site.key("mallory"))
    return play(change_id)


@refused("and 1 of 2 persons have signed for it")
def a_policy_that_the_new_signer_signs(site: Site) -> Wish:
    accepted(site)
    signers = site.top / "allowed_signers"
    signers.write_text(f"{signers.read_text()}mallory@example.org {(site.keys / 'mallory.pub').read_text()}")
    site.commit()
    gate = gate_file.load(site.gate_path)
    place = gate.repository.policy_place(gate.terms.digest) / "approvals"
    for name in ("carol", "mallory"):
        signed = signature.sign(gate.terms.document, site.key(name), signature.POLICY)
        repository.write(place / f"{name}@example.org.sig", signed)
    return play(site.approved())


@refused("lets nobody through")
def a_policy_that_makes_no_sense(site: Site) -> Wish:
    change_id = site.approved()
    site.gate({"approvals": {"low": {"count": 1}}})
    return play(change_id)


@refused("allowed_signers, who may request and approve, cannot be read")
def no_signers(site: Site) -> Wish:
    change_id = site.approved()
    (site.top / "allowed_signers").unlink()
    return play(change_id)


# ── The trail ────────────────────────────────────────────────────────────────────────────────────────────────────────


@refused("file is not a database")
def a_trail_that_cannot_be_written(site: Site) -> Wish:
    change_id = site.approved()
    (site.directory / "trail").mkdir(mode=0o700)
    (site.directory / "trail" / "trail.sqlite3").write_text("no database, but long enough to be looked at" * 100)
    return play(change_id, recorded=False)


# ── Ways round it ────────────────────────────────────────────────────────────────────────────────────────────────────


@refused("The inventory production is protected")
def a_console_that_says_it_only_lists(site: Site) -> Wish:
    return Wish(("all", "--list-hosts"), tool="ansible-console")


@refused("says that it takes")
def a_number_that_is_too_large(site: Site) -> Wish:
    site.playbook("play.yml", TOUCH, vars={"runbook": {"max_duration": 10**30}})
    return Wish(("play.yml",))


@refused("has 0 of 2 approvals")
def another_ssh_keygen(site: Site) -> Wish:
    change_id = site.request()
    programs = site.directory / "programs"
    programs.mkdir()
    fake = programs / "ssh-keygen"
    fake.write_text(
        "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in -I) p=$2;; -n) n=$2;; esac; shift; done\n"
        'echo "Good \\"$n\\" signature for $p with ED25519 key SHA256:$p"\n'
    )
    fake.chmod(0o755)
    for name in ("bob", "carol"):
        repository.write(site.changes / change_id / "approvals" / f"{name}@example.org.sig", b"anything")
    return play(change_id, env={"PATH": f"{programs}:{os.environ['PATH']}"})


def copied_gate(site: Site, place: str) -> Wish:
    change_id = site.approved()
    path = site.write(f"{place}/gate.yml", site.gate_path.read_text().replace("h1:", "h1: # elsewhere\n"))
    return play(change_id, inventory=str(path))


@refused("lies where nobody looks at it")
def a_gate_in_a_hidden_directory(site: Site) -> Wish:
    return copied_gate(site, ".git/evil")


@refused("lies where nobody looks at it")
def a_gate_among_the_changes(site: Site) -> Wish:
    return copied_gate(site, "changes/production/inventory")


@refused("Ansible's configuration (none) is not the repository's")
def no_configuration(site: Site) -> Wish:
    change_id = site.approved()
    (site.top / "ansible.cfg").unlink()
    return play(change_id, recorded=False)


@refused("is not the repository's")
def a_hidden_configuration(site: Site) -> Wish:
    change_id = site.approved()
    path = site.write(".git/evil.cfg", (site.top / "ansible.cfg").read_text())
    return play(change_id, env={"ANSIBLE_CONFIG": str(path)})


@refused("is not the repository's")
def a_configuration_behind_a_link(site: Site) -> Wish:
    change_id = site.approved()
    (site.directory / "ansible.cfg").symlink_to(site.top / "ansible.cfg")
    return play(change_id, env={"ANSIBLE_CONFIG": str(site.directory / "ansible.cfg")})


@refused("an approval does not cover what is in it")
def a_playbook_behind_a_link(site: Site) -> Wish:
    change_id = site.approved()
    (site.directory / "play.yml").symlink_to(site.top / "play.yml")
    return Wish((str(site.directory / "play.yml"), "-e", f"change_id={change_id}", "--limit", "h1,h2"))


@refused("ansible reads variables of")
def a_command_in_another_directory(site: Site) -> Wish:
    change_id = site.approved(scope={"playbooks": ["ansible"]})
    words = ("-i", str(site.gate_path.parent), "h1", "-m", "raw", "-a", "id", "-e", f"change_id={change_id}")
    configuration = {"ANSIBLE_CONFIG": str(site.top / "ansible.cfg")}
    return Wish(words, configuration, "ansible", inventory="", directory=str(site.directory))


@refused("The inventory's repository is sha256:")
def variables_in_a_directory_for_bytecode(site: Site) -> Wish:
    change_id = site.approved()
    site.write(".git/info/exclude", "__pycache__\n")
    site.write("inventories/production/group_vars/all/__pycache__/x.yml", {"what": "evil"})
    return play(change_id)


@refused("The inventory production was protected when this control node saw it last")
def no_protection_any_more(site: Site) -> Wish:
    accepted(site)
    site.gate(protected=False)
    return Wish(("play.yml",))


@refused("has 0 of 1 approvals")
def the_requester_under_another_name(site: Site) -> Wish:
    signers = site.top / "allowed_signers"
    signers.write_text(f"{signers.read_text()}alice.smith@example.org {(site.keys / 'alice.pub').read_text()}")
    site.commit()
    change_id = site.request(risk="low")
    site.sign(change_id, "alice.smith", site.key("alice"))
    return play(change_id)


@refused("Facts are kept from run to run")
def a_cache_of_facts(site: Site) -> Wish:
    path = site.top / "ansible.cfg"
    cache = f"[defaults]\nfact_caching = jsonfile\nfact_caching_connection = {site.directory}/facts\n"
    path.write_text(path.read_text().replace("[defaults]\n", cache))
    site.commit()
    return play(site.approved())


@refused("--step would change what was approved")
def one_task_at_a_time(site: Site) -> Wish:
    return play(site.approved(), "--step")


@refused("--connection would change what was approved")
def another_connection(site: Site) -> Wish:
    return play(site.approved(), "-c", "local")


@refused("The run is about other tasks than")
def all_tasks_skipped(site: Site) -> Wish:
    return play(site.approved(), "--skip-tags", "all")


environment("ANSIBLE_HOME", "/tmp/home")


@refused("which nobody has approved. Move it into the repository.")
def modules_in_the_home_directory(site: Site) -> Wish:
    place = site.directory / "home" / ".ansible" / "plugins" / "modules"
    place.mkdir(parents=True)
    (place / "command.py").write_text("raise SystemExit(1)\n")
    return play(site.approved())


@refused("The review of CHG-2026-0001 is overdue")
def an_overdue_review_whose_change_was_deleted(site: Site) -> Wish:
    emergency = site.approved("bob", kind="emergency")
    run_once(site, emergency, NOW - 6 * DAY)
    shutil.rmtree(site.changes / emergency)
    return play(site.approved(id="CHG-2026-0002"))


@refused("is no value that a change or a policy holds")
def a_date_as_variable(site: Site) -> Wish:
    return play(site.approved(scope={"variables": {"when": "2026-01-01"}}), "-e", '{"when": 2026-01-01}')


def open_gate(site: Site, **more: t.Any) -> str:
    """Another inventory in the repository, which asks for nothing."""
    inventory = {"all": {"hosts": {"h9": {"ansible_connection": "local"}}}}
    value = {"plugin": gate_file.PLUGIN, "name": "open", "protected": False, "inventory": inventory}
    site.write("inventories/open/gate.yml", value | more)
    site.commit()
    return "inventories/open/gate.yml"


@refused("the hosts of two gates are not mixed")
def an_open_gate_first(site: Site) -> Wish:
    return Wish(("-i", open_gate(site), "-i", "inventories/production", "play.yml"), inventory="")


@refused("The inventory production is not mixed with others")
def an_open_gate_second(site: Site) -> Wish:
    return Wish(("-i", "inventories/production", "-i", open_gate(site), "play.yml"), inventory="")


@refused("the hosts of two gates are not mixed")
def an_open_gate_as_source(site: Site) -> Wish:
    site.gate(sources=[{"path": open_gate(site)}])
    return Wish(("play.yml",))


# ── Everything of the above ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("message", "arrange"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_it_is_refused(site: Site, message: str, arrange: Arranged) -> None:
    wish = arrange(site)
    before = site.visits()
    denied = len(site.entries("run.denied")) if wish.recorded else 0
    where = {"cwd": wish.directory} if wish.directory else {}
    done = site.run(*wish.words, tool=wish.tool, inventory=wish.inventory, env=wish.env, **where)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1 and message in said, done.stdout
    assert site.visits() == before
    if wish.recorded:
        assert len(site.entries("run.denied")) == denied + 1


@pytest.mark.parametrize(
    "arrange",
    [
        lambda site: site.gate_path.write_text("plugin: flowaudit.ops.change_gate\nname: [production\n"),
        lambda site: site.gate_path.write_text(""),
        lambda site: site.gate_path.rename(site.gate_path.with_name("hosts.yml")),
        lambda site: site.write("ansible.cfg", "[inventory]\nenable_plugins = yaml, ini\n"),
    ],
    ids=["no_yaml", "empty", "another_name", "plugin_not_enabled"],
)
def test_without_a_gate_that_can_be_read_there_are_no_hosts(site: Site, arrange: t.Callable[[Site], t.Any]) -> None:
    """Ansible then says by itself that nothing matches; its status is its own."""
    change_id = site.approved()
    arrange(site)
    before = site.visits()
    site.run(*play(change_id).words)
    assert site.visits() == before


def test_there_are_at_least_sixty() -> None:
    assert len(CASES) >= 60
