# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a run is judged by what lies in the repository and in the trail."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import gate, gate_file, signature, staging, tree
from ansible_collections.flowaudit.ops.plugins.module_utils.change.model import State
from ansible_collections.flowaudit.ops.plugins.module_utils.change.policy import Refusal
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import commitment, entry, provenance

from .conftest import DAY, MINUTE, NOW, digest, entries, ran


def command(change_id="", **more):
    playbooks = more.pop("playbooks", ("play.yml",))
    return gate.Command("ansible-playbook", playbooks, change_id, **more)


def judge(project, log, change, now=NOW + MINUTE, **more):
    return gate.judge(project.gate(), command(change.id if change else "", **more), log, now)


def refused(project, log, change, **more):
    with pytest.raises(gate.Denied) as denied:
        judge(project, log, change, **more)
    return denied.value.refusals


def codes(project, log, change, **more):
    return [refusal.code for refusal in refused(project, log, change, **more)]


# ── What may run ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_approved_change_may_run(project, log):
    change = project.approved()
    granted = judge(project, log, change, check=True)
    assert (granted.inventory, granted.change_id, granted.hosts) == ("production", change.id, {"h1", "h2"})
    assert granted.flags == []
    fields = granted.fields
    assert (fields["command"], fields["playbooks"], fields["hosts"]) == ("ansible-playbook", ["play.yml"], ["h1", "h2"])
    assert (fields["check"], fields["rollback"], fields["kind"], fields["risk"]) == (True, False, "normal", "medium")
    assert (fields["document"], fields["policy"]) == (digest(change), project.gate().terms.digest)
    assert fields["code"]["tree"] == change.code.tree
    assert [opening.value for opening in granted.openings] == [b"bob@example.org", b"carol@example.org"]
    assert [item["principal"] for item in fields["approvals"]] == [item.commitment for item in granted.openings]
    assert "example.org" not in str(fields)
    assert len(entries(log, entry.POLICY_ACCEPTED)) == 1


def test_a_run_may_be_limited(project, log):
    assert judge(project, log, project.approved(), hosts=("h2",)).fields["hosts"] == ["h2"]


def test_an_inventory_that_is_not_protected_asks_for_nothing(project, log):
    project.write_gate(protected=False)
    granted = judge(project, log, None, hosts=("h3",))
    assert (granted.change_id, granted.hosts, granted.fields["hosts"]) == ("", None, ["h3"])
    assert "document" not in granted.fields
    assert judge(project, log, None).fields["hosts"] == []


def test_an_emergency_is_flagged(project, log):
    granted = judge(project, log, project.approved("bob", kind="emergency", risk="high"))
    assert granted.flags == [f"{granted.change_id} is an emergency change; it has to be reviewed within 5 days."]


def test_a_rollback_is_recorded_as_one(project, log):
    change = project.approved()
    assert codes(project, log, change, playbooks=("back.yml",)) == ["rollback"]
    ran(log, change)
    assert judge(project, log, change, playbooks=("back.yml",)).fields["rollback"] is True
    assert codes(project, log, change) == ["finished"]


def test_what_was_done_on_a_host_is_not_done_again(project, log):
    change = project.approved()
    ran(log, change, hosts=["h1"])
    assert codes(project, log, change) == ["finished"]
    assert judge(project, log, change, hosts=("h2",)).change_id == change.id


# ── What may not ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_change_nothing_is_looked_up(project, log):
    problem = Refusal("environment", "This is set.", "Unset it.")
    found = refused(project, log, None, problems=(problem,))
    assert [refusal.code for refusal in found] == ["environment", "no_change"]
    assert "The inventory production is protected: a run needs an approved change." in str(found[1])
    assert str(gate.Denied(found)).startswith("This is set. Unset it.\n")
    assert entries(log, entry.POLICY_ACCEPTED) == []
    assert codes(project, log, project.approved(), problems=(problem,)) == ["environment"]


def test_other_terms_than_the_accepted_ones_are_refused(project, log):
    judge(project, log, project.approved())
    project.write_gate({"approvals": {risk: {"count": 0} for risk in ("low", "medium", "high")}})
    project.commit()
    (refusal,) = refused(project, log, project.requested(by="dave"))
    assert refusal.code == "policy" and "0 of 2 persons have signed for it" in refusal.message
    assert "change_policy" in refusal.mend
    digest = project.gate().terms.digest
    for name in ("bob", "carol"):
        signed = project.sign(project.gate().terms.document, name, signature.POLICY)
        path = project.gate().repository.policy_place(digest) / "approvals" / f"{name}@example.org.sig"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(signed)
    assert judge(project, log, project.requested(by="dave"))


def test_a_change_that_is_not_there_is_refused(project, log):
    (refusal,) = refused(project, log, type("Change", (), {"id": "CHG-2026-0042"}))
    assert (refusal.code, refusal.mend) == ("change", "") and "There is no change CHG-2026-0042" in refusal.message


def test_a_request_that_somebody_else_signed_is_refused(project, log):
    change = project.approved()
    project.file(change, "request.sig", project.sign(change.document, "bob", signature.REQUEST))
    (refusal,) = refused(project, log, change)
    assert refusal.code == "change" and "signature of alice@example.org does not count" in refusal.message


def test_why_signatures_do_not_count_is_said(project, log):
    change = project.requested()
    project.file(change, "approvals/bob@example.org.sig", project.sign(change.document, "bob", signature.REVIEW))
    (refusal,) = refused(project, log, change)
    assert refusal.code == "approvals"
    assert "0 of 2 approvals. The signature of bob@example.org does not count" in refusal.message


def test_what_is_refused_for_each_playbook_is_said_once(project, log):
    change = project.requested()
    found = codes(project, log, change, playbooks=("play.yml", "other.yml", "back.yml"))
    assert found.count("approvals") == 1 and found.count("playbook") == 1 and found.count("rollback") == 1


def test_what_is_not_committed_is_refused(project, log):
    change = project.approved()
    project.write("play.yml", "other")
    assert codes(project, log, change) == ["dirty", "tree"]


def test_the_hosts_variables_and_tags_are_those_of_the_change(project, log):
    change = project.approved(scope={"variables": {"a": 1}, "tags": ["web"]})
    wrong = {"hosts": ("h3",), "variables": ("b=2",), "skip_tags": ("db",)}
    assert codes(project, log, change, **wrong) == ["hosts", "variables", "variables", "tags"]
    assert judge(project, log, change, variables=("a=1",), tags=("web",))


def test_a_clock_behind_the_trail_is_refused_until_the_policy_is_signed_again(project, log):
    change = project.approved()
    judge(project, log, change)
    log.append([{"type": entry.EVENT, "ts": entry.timestamp((NOW + DAY).timestamp())}])
    assert codes(project, log, change) == ["clock"]
    log.append([{"type": entry.POLICY_ACCEPTED, "ts": entry.timestamp(NOW.timestamp()), "inventory": "other"}])
    assert judge(project, log, change)


def test_without_a_run_on_staging_it_is_refused(project, log):
    project.write_gate({"staging": "staging"}, staging_keys=[log.current_key()])
    project.commit()
    change = project.approved()
    assert codes(project, log, change) == ["staging"]
    ran(log, change, run="staged", inventory="staging")
    shown = project.approved(staging_run="staged", proof=staging.prove(log, "staged"))
    assert judge(project, log, shown)
    broken = project.approved(staging_run="staged", proof=b"{}")
    (refusal,) = refused(project, log, broken)
    assert refusal.code == "change" and "has not the form of one" in refusal.message


def test_a_run_that_has_not_ended_is_waited_for(project, log):
    change = project.approved()
    ran(log, change, "", hosts=["h1"])
    # A lock that cannot be opened: whether the run lives cannot be told.
    lock = project.trail / "runs" / "run-1.lock"
    lock.symlink_to(lock)
    (refusal,) = refused(project, log, change)
    assert str(refusal) == f"The run run-1 of {change.id} has not ended. Wait for its end."
    assert judge(project, log, change, hosts=("h2",))
    lock.unlink()
    assert judge(project, log, change), "It was killed."


# ── Emergencies that nobody has reviewed ─────────────────────────────────────────────────────────────────────────────


def test_an_overdue_review_stops_normal_changes_only(project, log):
    first = project.approved("bob", kind="emergency")
    normal = project.approved()
    urgent = project.approved("bob", kind="emergency")
    ran(log, first, at=NOW)
    late = {"now": NOW + 5 * DAY + MINUTE}
    assert judge(project, log, normal, now=NOW + 5 * DAY - MINUTE)
    (refusal,) = refused(project, log, normal, **late)
    assert refusal.code == "review_overdue" and first.id in refusal.message
    assert judge(project, log, urgent, **late)
    project.state(first, "review")
    assert judge(project, log, normal, **late)


def test_what_has_not_run_or_cannot_be_read_is_not_overdue(project, log):
    project.approved("bob", kind="emergency")
    tried = project.approved("bob", kind="emergency")
    ran(log, tried, check=True)
    (project.place("CHG-2020-0001")).mkdir(parents=True)
    assert judge(project, log, project.approved(), now=NOW + 10 * DAY)


def test_an_overdue_review_stays_overdue_when_the_document_is_spoilt(project, log):
    change = project.approved("bob", kind="emergency")
    ran(log, change)
    project.file(change, "change.json", b"{}")
    assert gate.overdue(project.gate(), gate.policy.parse(project.gate().terms.rules), log, NOW + 9 * DAY) == [
        change.id
    ]


def test_who_requested_an_emergency_does_not_review_it(project, log):
    change = project.approved("bob", kind="emergency")
    ran(log, change)
    project.state(change, "review", by="alice")
    with pytest.raises(FlowauditError, match="was reviewed by who requested it; somebody else has to"):
        project.standing(change, log)


def test_what_has_run_is_not_revoked(project, log):
    change = project.approved()
    ran(log, change)
    project.state(change, "revocation")
    assert project.standing(change, log).state is State.DONE


# ── What is known of a change ────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_trail_a_change_still_stands(project):
    change = project.requested()
    assert project.standing(change).state is State.REQUESTED
    approved = project.standing(project.approved())
    assert approved.state is State.APPROVED and approved.invalid == ()
    assert [item.principal for item in approved.approvals] == ["bob@example.org", "carol@example.org"]
    project.state(change, "revocation")
    assert project.standing(change).state is State.REVOKED


@pytest.mark.parametrize(("name", "kind"), [("revocation", entry.CHANGE_REVOKED), ("review", entry.CHANGE_REVIEWED)])
def test_what_was_said_is_remembered_when_the_files_are_gone(project, log, name, kind):
    change = project.approved()
    project.state(change, name)
    unremembered = gate.stand(project.gate(), change.id, log, remember=False)
    assert entries(log, kind) == []
    assert project.standing(change, log).state is unremembered.state is not State.APPROVED
    (told,) = entries(log, kind)
    assert (told["chg"], told["inventory"]) == (change.id, "production")
    for suffix in ("json", "sig"):
        (project.place(change.id) / f"{name}.{suffix}").unlink()
    assert project.standing(change, log).state is unremembered.state
    assert len(entries(log, kind)) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"id": "CHG-2026-9999"}, "is about another change"),
        ({"change": "0" * 64}, "is about another change"),
        ({"extra": 1}, "has not the form of a revocation or a review"),
        ({"principal": "carol@example.org"}, "signature of carol@example.org does not count"),
        ({"principal": 7}, "principal is '7', which is not of the form"),
    ],
)
def test_a_statement_that_is_not_theirs_or_of_something_else_is_refused(project, more, message):
    change = project.requested()
    project.state(change, "revocation", **more)
    with pytest.raises(FlowauditError, match=message):
        project.standing(change)


@pytest.mark.parametrize("principal", ["a\0b", "\ud800"])
def test_a_name_that_no_command_line_can_hold_is_refused(project, principal):
    change = project.requested()
    project.state(change, "revocation", principal=principal)
    with pytest.raises(FlowauditError):
        project.standing(change)


def test_a_revocation_is_no_review(project):
    change = project.requested()
    project.state(change, "revocation")
    for suffix in ("json", "sig"):
        (project.place(change.id) / f"revocation.{suffix}").rename(project.place(change.id) / f"review.{suffix}")
    with pytest.raises(FlowauditError, match="not for this purpose"):
        project.standing(change)


def test_the_collection_is_this_one_unless_it_is_given(project, collection):
    assert gate.collection() == (provenance.collection_version(), collection)
    given = gate_file.load(project.gate_path, ("9.9.9", "sha256:x")).code()
    assert (given.collection, given.collection_digest) == ("9.9.9", "sha256:x")
    assert given.tree == project.gate().code().tree == tree.digest(project.top, [project.top / "changes"])


def test_openings_open_what_was_recorded(project, log):
    granted = judge(project, log, project.approved())
    log.append([{"type": entry.RUN_AUTHORIZED, "ts": entry.timestamp(), **granted.fields}], granted.openings)
    wanted = [item["principal"] for item in granted.fields["approvals"]]
    assert all(isinstance(item, commitment.Opening) for item in log.openings(wanted).values())
    assert len(log.openings(wanted)) == 2


def test_an_inventory_whose_terms_were_accepted_stays_protected(project, log):
    judge(project, log, project.approved())
    project.write_gate(protected=False)
    with pytest.raises(gate.Denied):
        judge(project, log, None)


def test_a_command_without_a_playbook_is_refused(project, log):
    with pytest.raises(gate.Denied):
        judge(project, log, project.requested(), playbooks=())


def test_moments_of_the_trail_are_in_utc(project, log):
    change = project.approved()
    ran(log, change)
    (run,) = project.standing(change, log).history.runs
    assert run.ended is not None and abs(run.ended - NOW) < datetime.timedelta(seconds=1)
