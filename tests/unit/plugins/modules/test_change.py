# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules that take steps of changes and tell of them."""

from __future__ import annotations

import datetime
import json
import pathlib

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import repository, signature, staging
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry, home, note, sqlite
from ansible_collections.flowaudit.ops.plugins.modules import change, change_info
from ansible_collections.flowaudit.ops.tests.unit.plugins.module_utils.change import conftest as changes

keys, template, tools, collection = changes.keys, changes.template, changes.tools, changes.collection
project, log = changes.project, changes.log
DAY, NOW, entries, ran = changes.DAY, changes.NOW, changes.entries, changes.ran

REQUEST = {
    "title": "Touch it",
    "reason": "It has to be touched.",
    "risk": "medium",
    "rollback": "Touch it back.",
    "scope": {"hosts": ["h*"], "playbooks": ["play.yml"], "variables": {"count": 3}},
}
LISTED = {"_meta": {"hostvars": {"h1": {"a": 1}, "h2": {"a": 1}}}, "all": {"children": ["ungrouped"]}}


@pytest.fixture
def inventory(monkeypatch):
    """Plays ansible-inventory, which takes seconds: status, output, errors; and the commands that were run."""
    played = {"answer": (0, json.dumps(LISTED), ""), "commands": []}

    def run_command(module, command, **more):
        played["commands"].append(command)
        return played["answer"]

    monkeypatch.setattr(change.AnsibleModule, "run_command", run_command)
    return played


@pytest.fixture
def step(run_module, project, inventory):
    """Take a step as a person."""

    def taken(state, by="alice", **more):
        arguments = {
            "inventory": str(project.gate_path.parent),
            "directory": str(project.trail),
            "state": state,
            "person": f"{by}@example.org",
            "key": str(project.keys / by),
        }
        return run_module(change.main, **{**arguments, **more})

    return taken


@pytest.fixture
def info(run_module, project):
    def told(**more):
        arguments = {"inventory": str(project.gate_path), "directory": str(project.trail)}
        return run_module(change_info.main, **{**arguments, **more})

    return told


def files_of(project):
    return sorted(
        str(path.relative_to(project.top)) for path in project.top.joinpath("changes").rglob("*.*") if path.is_file()
    )


# ── change ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_change_is_requested(step, project, inventory, log):
    result = step("requested", request=REQUEST)
    number = f"CHG-{NOW.year}-0001"
    assert (result["changed"], result["id"]) == (True, number)
    place = f"changes/production/{number}"
    assert result["files"] == files_of(project) == [f"{place}/change.json", f"{place}/request.sig"]
    document = result["change"]
    assert document == json.loads((project.top / place / "change.json").read_bytes())
    assert document["scope"] == {
        "hosts": ["h1", "h2"],
        "playbooks": ["play.yml"],
        "variables": ["count=3"],
        "tags": [],
        "skip_tags": [],
    }
    assert (document["kind"], document["requester"], document["staging_run"]) == ("normal", "alice@example.org", "")
    assert [item["after_header"] for item in result["diff"]] == result["files"]
    assert [item["after"] for item in result["diff"]] == [
        (project.top / place / "change.json").read_text() + "\n",
        "(signature)\n",
    ]
    assert result["commands"][0].endswith(f"-n {signature.APPROVAL} {project.top / place / 'change.json'}")
    assert "approvals/you@example.org.sig" in result["commands"][1]
    (command,) = inventory["commands"]
    assert command[1:] == ["-m", "ansible", "inventory", "-i", str(project.gate_path), "--list", "--limit", "all"]
    assert [item["chg"] for item in entries(log, entry.CHANGE_REQUESTED)] == [number]


def test_check_mode_signs_and_writes_nothing(step, project):
    result = step("requested", request=REQUEST, id="CHG-2026-0777", _ansible_check_mode=True)
    assert (result["changed"], result["id"], len(result["files"])) == (True, "CHG-2026-0777", 2)
    assert files_of(project) == [] and not project.trail.exists()


def test_check_mode_reads_a_trail_that_is_there(step, project, log):
    of = project.requested()
    project.state(of, "revocation")
    result = step("revoked", "bob", id=of.id, reason="Again.", _ansible_check_mode=True)
    assert not result["changed"] and log.size() == 1


def test_the_collection_is_as_the_action_says(step):
    given = {"version": "9.9.9", "digest": "sha256:" + "1" * 64}
    code = step("requested", request=REQUEST, collection=given)["change"]["code"]
    assert (code["collection"], code["collection_digest"]) == ("9.9.9", given["digest"])


def test_hosts_without_variables_are_hosts(step, inventory):
    listed = {"_meta": {"hostvars": {}}, "nuc": {"hosts": ["h2", "h1"]}, "all": {"children": ["nuc"]}}
    inventory["answer"] = (0, json.dumps(listed), "")
    assert step("requested", request=REQUEST)["change"]["scope"]["hosts"] == ["h1", "h2"]


def test_hosts_without_variables_are_hosts_beside_those_with_some(step, inventory):
    listed = {"_meta": {"hostvars": {"h1": {"a": 1}}}, "nuc": {"hosts": ["h1", "h2"]}, "all": {"children": ["nuc"]}}
    inventory["answer"] = (0, json.dumps(listed), "")
    scope = {**REQUEST["scope"], "hosts": ["h1", "h2"]}
    assert step("requested", request={**REQUEST, "scope": scope})["change"]["scope"]["hosts"] == ["h1", "h2"]


def test_an_inventory_that_cannot_be_read_is_said(step, project, inventory):
    inventory["answer"] = (1, "", "first\nthe last line\n")
    result = step("requested", request=REQUEST)
    assert f"The hosts of {project.gate_path} cannot be read" in result["msg"] and "the last line" in result["msg"]
    assert "first" not in result["msg"]


def test_a_request_comes_with_its_proof(step, project, log):
    ran(log, project.requested(), run="staged", inventory="staging")
    result = step("requested", request={**REQUEST, "staging_run": "staged"})
    assert result["id"] == f"CHG-{NOW.year}-0002"
    proof = (project.place(result["id"]) / repository.STAGING).read_bytes()
    shown = staging.check(proof, [note.parse_key(log.current_key())])
    assert (shown.run, shown.inventory, shown.succeeded) == ("staged", "staging", True)
    assert "has no run other" in step("requested", request={**REQUEST, "staging_run": "other"})["msg"]


def test_check_mode_without_a_trail_has_no_proof(step):
    result = step("requested", request={**REQUEST, "staging_run": "staged"}, _ansible_check_mode=True)
    assert result["msg"] == "There is no trail here that could show the run on staging."


def test_check_mode_with_a_proof_says_what_it_would_do(step, project, log):
    ran(log, project.requested(), run="staged", inventory="staging")
    result = step("requested", request={**REQUEST, "staging_run": "staged"}, _ansible_check_mode=True)
    assert result["changed"]


def test_a_change_is_approved_once_by_each(step, project, log):
    of = project.requested()
    result = step("approved", "bob", id=of.id)
    assert (result["changed"], result["id"], result["change"]) == (True, of.id, json.loads(of.document))
    assert result["files"] == [f"changes/production/{of.id}/approvals/bob@example.org.sig"]
    again = step("approved", "bob", id=of.id)
    assert (again["changed"], again["files"], again["diff"]) == (False, [], [])
    assert len(entries(log, entry.CHANGE_APPROVED)) == 1
    assert "somebody else has to approve it" in step("approved", "alice", id=of.id)["msg"]


def test_a_change_is_revoked(step, project, log):
    of = project.requested()
    assert step("revoked", "dave", id=of.id, reason="Too early.")["changed"]
    assert project.standing(of).state == "revoked"
    assert len(entries(log, entry.CHANGE_REVOKED)) == 1


def test_a_change_is_reviewed(step, project, log):
    of = project.approved()
    assert "no finished run to review" in step("reviewed", "bob", id=of.id, reason="Fine.")["msg"]
    ran(log, of)
    result = step("reviewed", "bob", id=of.id, reason="Fine.")
    (shown,) = (item["after"] for item in result["diff"] if item["after_header"].endswith(".json"))
    assert result["changed"] and json.loads(shown)["reason"] == "Fine."
    assert project.standing(of, log).state == "reviewed"


def test_the_policy_is_signed(step, project, log):
    result = step("policy_signed", "carol")
    assert (result["changed"], result["id"]) == (True, "") and "change" not in result
    assert [pathlib.Path(name).name for name in result["files"]] == ["carol@example.org.sig", "terms.json"]
    assert not step("policy_signed", "carol")["changed"]
    assert len(entries(log, entry.POLICY_SIGNED)) == 1


def test_steps_need_to_know_what_about(step, project):
    assert "state is requested but all of the following are missing: request" in step("requested")["msg"]
    assert "Say which change (id)" in step("approved", "bob")["msg"]
    assert "Say why" in step("revoked", "bob", id=project.requested().id)["msg"]


def test_an_inventory_that_is_not_protected_has_no_changes(step, info, project):
    project.write_gate(protected=False)
    assert step("requested", request=REQUEST)["msg"] == (
        "The inventory production is not protected: nothing has to be requested for it."
    )
    assert info()["msg"] == "The inventory production is not protected: it has no changes."
    assert "has no protected inventory" in info(inventory=str(project.top / "none"))["msg"]


def test_a_step_that_cannot_be_recorded_is_not_taken(step, project):
    of = project.requested()
    project.trail.mkdir(mode=0o755)
    assert "is open to others" in step("approved", "bob", id=of.id)["msg"]
    assert project.standing(of).approvals == ()


# ── change_info ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_changes_are_told_the_newest_first(info, project, log):
    first = project.approved(title="First")
    second = project.requested(by="dave")
    broken = project.requested()
    project.file(broken, "request.sig", b"")
    result = info()
    assert not result["changed"] and "page" not in result
    found = result["changes"]
    assert [item["id"] for item in found] == [broken.id, second.id, first.id]
    assert found[0]["state"] == "" and "signature of alice@example.org does not count" in found[0]["problem"]
    assert (found[1]["state"], found[1]["requester"], found[1]["approvals"]) == ("requested", "dave@example.org", [])
    assert found[1]["missing"] == [f"{second.id} has 0 of 2 approvals."]
    told = found[2]
    assert (told["state"], told["missing"], told["review_due"], told["runs"]) == ("approved", [], "", [])
    assert (told["title"], told["kind"], told["risk"]) == ("First", "normal", "medium")
    assert told["approvals"] == ["bob@example.org", "carol@example.org"]
    assert (told["hosts"], told["playbooks"]) == (["h1", "h2"], ["play.yml"])
    assert told["expires_at"] == entry.timestamp(first.expires_at.timestamp())
    assert [item["id"] for item in info(state=["requested", "done"])["changes"]] == [second.id]


def test_without_a_trail_changes_are_told_too(info, project):
    assert info()["changes"] == []
    of = project.approved()
    assert [item["state"] for item in info()["changes"]] == ["approved"]
    assert "Nothing has run." in info(id=of.id)["page"]
    assert not project.trail.exists()


def test_what_was_not_used_expires(info, project, log):
    then = NOW - 20 * DAY
    waiting, used = project.approved(now=then), project.approved(now=then)
    ran(log, used)
    assert {item["id"]: item["state"] for item in info()["changes"]} == {waiting.id: "expired", used.id: "done"}


def test_an_emergency_has_to_be_reviewed(info, project, log):
    of = project.approved("bob", kind="emergency")
    assert info(id=of.id)["changes"][0]["review_due"] == ""
    ran(log, of)
    (told,) = info(id=of.id)["changes"]
    due = datetime.datetime.fromisoformat(told["review_due"])
    assert abs(due - NOW - 5 * DAY) < datetime.timedelta(seconds=1)
    project.state(of, "review")
    (told,) = info(id=of.id)["changes"]
    assert (told["state"], told["review_due"]) == ("reviewed", "")


def test_the_page_counts_what_changed(info, project, log):
    of = project.approved()
    ran(log, of, "", run="one")
    result = {
        "type": entry.TASK_RESULT,
        "run": "one",
        "chg": of.id,
        "host": "h1",
        "status": "ok",
        "ts": entry.timestamp(),
    }
    log.append([{**result, "changed": changed} for changed in (True, True, False)])
    project.state(of, "review", reason="Fine.")
    told = info(id=of.id)
    (run,) = told["changes"][0]["runs"]
    assert run == {
        "run": "one",
        "playbooks": ["play.yml"],
        "hosts": ["h1", "h2"],
        "check": False,
        "rollback": False,
        "state": "running",
    }
    assert "| running | 2 |" in told["page"] and "## Reviewed\n\nFine. (by bob@example.org on " in told["page"]
    assert "## Geprüft" in info(id=of.id, language="de")["page"]
    assert entries(log, entry.CHANGE_REVIEWED) == [], "To look is not to remember."


def test_the_calendar_and_the_announcement_are_of_what_is_approved(info, project):
    window = {"name": "daily", "timezone": "UTC", "begin": "02:00", "duration": 3600, "rule": "FREQ=DAILY"}
    project.write_gate({"windows": [window]})
    project.commit()
    project.approved(title="Planned")
    project.requested(title="Wanted")
    project.approved("bob", title="Urgent", kind="emergency")
    found = info(days=3)
    assert found["calendar"].count("BEGIN:VEVENT") in (3, 4)
    assert found["announcement"]["subject"].startswith("Maintenance of production on ")
    assert "Planned" in found["announcement"]["text"].split("Planned:")[1]
    assert "Wanted" not in str(found["announcement"]) and "Urgent" not in str(found["announcement"])
    assert info(language="de")["announcement"]["subject"].startswith("Wartung von production")


def test_a_change_that_is_not_there_is_said(info):
    assert "has no protected inventory" in info(inventory="/none")["msg"]
    assert "There is no change CHG-2026-0042" in info(id="CHG-2026-0042")["msg"]


def test_a_trail_that_cannot_be_read_is_said(info, project):
    project.trail.mkdir(mode=0o700)
    (project.trail / "trail.sqlite3").write_text("no database")
    result = info()
    assert result["failed"] and str(project.trail) in result["msg"]


def test_the_trail_of_the_control_node_is_made_when_it_is_needed(step, project):
    assert step("requested", request=REQUEST)["changed"]
    made = sqlite.SqliteLog(home.Home(project.trail), read_only=True)
    assert len(entries(made, entry.CHANGE_REQUESTED)) == 1
    made.close()
