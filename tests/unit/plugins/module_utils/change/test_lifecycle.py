# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import dataclasses
import json

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import lifecycle, programs, signature
from ansible_collections.flowaudit.ops.plugins.module_utils.change.model import State
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry

from .conftest import DAY, NOW, WANTED, entries, ran

HOSTS = ["h1", "h2", "h3"]


def request(project, by="alice", proof=b"", **more):
    wanted = {**WANTED, **more}
    return lifecycle.request(project.gate(), wanted, HOSTS, project.person(by), NOW, proof)


def names(project, step):
    return sorted(str(path.relative_to(project.top / "changes/production")) for path in step.files)


# ── Who ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_person_is_who_they_say_or_who_git_knows(project, monkeypatch):
    assert lifecycle.whoami(project.gate(), "bob@example.org") == "bob@example.org"
    assert lifecycle.whoami(project.gate(), "") == "alice@example.org"
    with pytest.raises(FlowauditError, match="principal is 'bob b'"):
        lifecycle.whoami(project.gate(), "bob b")
    project.git("config", "--unset", "user.email")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    with pytest.raises(FlowauditError, match=r"Say who you are: -e change_person=you@example.org"):
        lifecycle.whoami(project.gate(), "")


def test_without_git_a_person_has_to_say_who_they_are(project, monkeypatch, tmp_path):
    gate = project.gate()
    monkeypatch.setattr(programs, "PLACES", str(tmp_path))
    with pytest.raises(FlowauditError, match="Say who you are"):
        lifecycle.whoami(gate, "")


# ── Requesting ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_of_what_is_there_now(project):
    variables = {"b": 1, "a": "x", "change_id": "CHG-2026-0001"}
    scope = {"hosts": ["h2", "h*"], "playbooks": ["play.yml", "play.yml"], "variables": variables}
    digest = "sha256:" + "0" * 64
    scope |= {"tags": ["b", "a"], "skip_tags": []}
    change, step = request(project, scope=scope, digests=[digest, digest], release="1.4.0")
    assert change.id == f"CHG-{NOW.year}-0001" and change.inventory == "production"
    assert (change.requester, change.digests, change.release) == ("alice@example.org", (digest,), "1.4.0")
    assert (change.scope.hosts, change.scope.playbooks) == (("h1", "h2", "h3"), ("play.yml",))
    assert (change.scope.variables, change.scope.tags) == (('a="x"', "b=1"), ("a", "b"))
    assert change.expires_at - change.requested_at == 14 * DAY
    assert change.code == project.gate().code()
    assert names(project, step) == [f"{change.id}/change.json", f"{change.id}/request.sig"]
    assert step.needed and step.person == "alice@example.org"
    project.put(step)
    assert project.standing(change).state is State.REQUESTED


def test_a_proof_comes_with_the_request(project):
    change, step = request(project, proof=b"proof", id="CHG-2026-0777")
    assert change.id == "CHG-2026-0777"
    assert f"{change.id}/staging.json" in names(project, step) and b"proof" in step.files.values()


def test_an_id_is_taken_once(project):
    first = project.requested()
    assert request(project)[0].id == f"CHG-{NOW.year}-0002"
    with pytest.raises(
        FlowauditError, match=f"There is a change {first.id} already; what was requested is not rewritten"
    ):
        request(project, id=first.id)


def test_standard_changes_are_for_some_playbooks(project):
    scope = {**WANTED["scope"], "playbooks": ["routine.yml"]}
    assert request(project, kind="standard", scope=scope)[0].kind == "standard"
    with pytest.raises(FlowauditError, match=r"play\.yml is not one of the playbooks that standard changes are for"):
        request(project, kind="standard")


def test_what_makes_no_sense_is_not_requested(project):
    with pytest.raises(FlowauditError, match="The scope names web, which no host"):
        request(project, scope={**WANTED["scope"], "hosts": ["web"]})
    with pytest.raises(FlowauditError, match="does not say why"):
        request(project, reason="")
    with pytest.raises(FlowauditError, match="is no value that a change or a policy holds"):
        request(project, scope={**WANTED["scope"], "variables": {"ratio": 0.5}})
    with pytest.raises(FlowauditError, match="no id of a change"):
        request(project, id="../x")


def test_what_is_not_committed_is_not_requested(project):
    project.write("a.yml", "")
    with pytest.raises(FlowauditError, match=r"repository has uncommitted changes \(a\.yml\): commit them"):
        request(project)
    for name in ("b.yml", "c.yml", "d.yml", "e.yml"):
        project.write(name, "")
    with pytest.raises(FlowauditError, match=r"\(a\.yml, b\.yml, c\.yml and 2 more\)"):
        request(project)


def test_a_key_that_is_not_theirs_does_not_sign(project):
    person = dataclasses.replace(project.person("alice"), key=str(project.keys / "mallory"))
    with pytest.raises(FlowauditError, match=r"mallory is no key of alice@example.org by the allowed signers of prod"):
        lifecycle.request(project.gate(), WANTED, HOSTS, person, NOW, b"")


def test_the_proof_is_of_this_trail(project, log):
    ran(log, project.requested(), run="staged")
    assert json.loads(lifecycle.proof_of(log, "staged", sign=True))["v"] == 1
    with pytest.raises(FlowauditError, match="has no run other"):
        lifecycle.proof_of(log, "other", sign=True)
    assert lifecycle.proof_of(log, "staged", sign=False) == b""
    with pytest.raises(FlowauditError, match="has no run other"):
        lifecycle.proof_of(log, "other", sign=False)


# ── Taking a step ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_is_recorded_without_names_and_written(project, log):
    change, step = request(project)
    step.take(log)
    (told,) = entries(log, entry.CHANGE_REQUESTED)
    assert (told["chg"], told["inventory"]) == (change.id, "production")
    assert log.openings([told["principal"]])[told["principal"]].value == b"alice@example.org"
    assert project.standing(change).change == change


def test_a_step_about_no_change_says_none(project, log):
    lifecycle.sign_terms(project.gate(), project.person("carol")).take(log)
    (told,) = entries(log, entry.POLICY_SIGNED)
    assert "chg" not in told


# ── Approving ────────────────────────────────────────────────────────────────────────────────────────────────────────


def approve(project, change, by="bob", now=NOW, log=None):
    return lifecycle.approve(project.gate(), project.standing(change, log), project.person(by), now)


def test_an_approval_is_given_once(project):
    change = project.requested()
    step = approve(project, change)
    assert names(project, step) == [f"{change.id}/approvals/bob@example.org.sig"]
    project.put(step)
    assert not approve(project, change).needed
    project.put(approve(project, change, "carol"))
    assert project.standing(change).state is State.APPROVED
    assert approve(project, change, "dave").needed


def test_nobody_approves_what_they_requested(project):
    with pytest.raises(FlowauditError, match=r"was requested by alice@example.org; somebody else has to approve it"):
        approve(project, project.requested(), "alice")


def test_what_is_over_is_not_approved(project, log):
    change = project.requested()
    with pytest.raises(FlowauditError, match=f"{change.id} is expired; there is nothing to approve"):
        approve(project, change, now=change.expires_at)
    ran(log, change)
    with pytest.raises(FlowauditError, match=f"{change.id} is done; there is nothing to approve"):
        approve(project, change, log=log)


def test_who_has_something_else_does_not_approve(project):
    change = project.requested()
    project.write("play.yml", "other")
    with pytest.raises(FlowauditError, match="has uncommitted changes"):
        approve(project, change)
    project.commit()
    with pytest.raises(
        FlowauditError, match=f"What you have here is not what {change.id} is about, so you have not seen"
    ):
        approve(project, change)


# ── Revoking and reviewing ───────────────────────────────────────────────────────────────────────────────────────────


def test_everybody_may_revoke_what_has_not_run(project):
    for by, change in (("alice", project.requested()), ("dave", project.approved())):
        step = lifecycle.revoke(project.gate(), project.standing(change), project.person(by), " Too early. ", NOW)
        assert names(project, step) == [f"{change.id}/revocation.json", f"{change.id}/revocation.sig"]
        assert (step.kind, step.change_id) == (entry.CHANGE_REVOKED, change.id)
        document = next(content for path, content in step.files.items() if path.suffix == ".json")
        assert json.loads(document)["reason"] == "Too early."
        project.put(step)
        standing = project.standing(change)
        assert standing.state is State.REVOKED
        assert not lifecycle.revoke(project.gate(), standing, project.person("bob"), "Again.", NOW).needed


def test_what_has_run_is_not_revoked(project, log):
    change = project.approved()
    ran(log, change, "failed")
    with pytest.raises(FlowauditError, match=f"{change.id} is failed: it is reviewed, not revoked"):
        lifecycle.revoke(project.gate(), project.standing(change, log), project.person("bob"), "Why not.", NOW)


def test_a_reason_is_needed(project):
    change = project.requested()
    with pytest.raises(FlowauditError, match="Say why: -e change_reason="):
        lifecycle.revoke(project.gate(), project.standing(change), project.person("bob"), " \n", NOW)


def review(project, change, log, by="bob"):
    return lifecycle.review(project.gate(), project.standing(change, log), project.person(by), "Fine.", NOW)


def test_what_has_run_is_reviewed_by_somebody_else(project, log):
    change = project.approved()
    with pytest.raises(FlowauditError, match=f"{change.id} is approved: there is no finished run to review"):
        review(project, change, log)
    ran(log, change, "")
    with pytest.raises(FlowauditError, match=f"{change.id} is running: there is no finished run to review"):
        review(project, change, log)
    log.append([{"type": entry.RUN_END, "run": "run-1", "chg": change.id, "ts": entry.timestamp(), "status": "ok"}])
    with pytest.raises(FlowauditError, match=r"was requested by alice@example.org; somebody else has to review it"):
        review(project, change, log, "alice")
    step = review(project, change, log)
    assert names(project, step) == [f"{change.id}/review.json", f"{change.id}/review.sig"]
    step.take(log)
    assert project.standing(change, log).state is State.REVIEWED
    assert not review(project, change, log, "carol").needed


def test_one_key_under_two_names_is_one_person(project, log):
    signers = project.top / "allowed_signers"
    signers.write_text(signers.read_text() + f"erin@example.org {(project.keys / 'alice.pub').read_text()}")
    project.commit()
    erin = dataclasses.replace(project.person("alice"), name="erin@example.org")
    change = project.approved()
    with pytest.raises(FlowauditError, match=f"{change.id} was requested with this key; somebody else has to approve"):
        lifecycle.approve(project.gate(), project.standing(change), erin, NOW)
    ran(log, change)
    with pytest.raises(FlowauditError, match=f"{change.id} was requested with this key; somebody else has to review"):
        lifecycle.review(project.gate(), project.standing(change, log), erin, "Fine.", NOW)


# ── The terms ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_terms_are_signed_once_by_each(project):
    gate = project.gate()
    step = lifecycle.sign_terms(gate, project.person("bob"))
    place = f"policy/{gate.terms.digest}"
    assert names(project, step) == [f"{place}/approvals/bob@example.org.sig", f"{place}/terms.json"]
    project.put(step)
    assert not lifecycle.sign_terms(gate, project.person("bob")).needed
    signed = gate.repository.policy_approvals(gate.terms.digest)["bob@example.org"]
    signers = gate.terms.signers.encode()
    assert signature.verify(gate.terms.document, signed, signers, "bob@example.org", signature.POLICY)
    project.write("play.yml", "other")
    with pytest.raises(FlowauditError, match="has uncommitted changes"):
        lifecycle.sign_terms(gate, project.person("carol"))


def test_a_signature_of_terms_that_does_not_count_is_made_again(project):
    gate = project.gate()
    path = gate.repository.policy_place(gate.terms.digest) / "approvals" / "bob@example.org.sig"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert lifecycle.sign_terms(gate, project.person("bob")).needed
