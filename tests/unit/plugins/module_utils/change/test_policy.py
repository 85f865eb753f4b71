# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import dataclasses
import datetime
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.change import model, policy
from ansible_collections.flowaudit.ops.plugins.module_utils.change.model import Kind, Risk, State
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

ZERO, ONE = "sha256:" + "0" * 64, "sha256:" + "1" * 64
HOUR = datetime.timedelta(hours=1)


def moment(text):
    return datetime.datetime.fromisoformat(text)


POLICY = {
    "approvals": {"low": {"count": 1}, "medium": {"count": 2}, "high": {"count": 2, "roles": ["security"]}},
    "emergency": {"count": 1},
    "roles": {"security": ["carol@example.org"], "board": ["bob@example.org", "carol@example.org"]},
    "windows": [
        {"timezone": "Europe/Berlin", "begin": "02:00", "duration": 7200, "rule": "FREQ=MONTHLY;BYDAY=1SU"},
    ],
    "freezes": [{"name": "year's end", "start": "2027-01-01T00:00:00+01:00", "end": "2027-01-15T00:00:00+01:00"}],
    "maximum_age_days": 30,
    "staging": "staging",
    "standard": ["flowaudit.ops.renew_certificates"],
}
REQUEST = {
    "id": "CHG-2026-0042",
    "inventory": "production",
    "kind": "normal",
    "risk": "medium",
    "title": "Release 1.4.0",
    "reason": "Invoices of the new format are refused.",
    "ticket": "OPS-17",
    "strategy": "blue_green",
    "governance": "change board",
    "requester": "alice@example.org",
    "requested_at": "2026-11-21T10:00:00Z",
    "expires_at": "2026-12-21T10:00:00Z",
    "scope": {
        "hosts": ["nuc1", "nuc2"],
        "playbooks": ["flowaudit.ops.deploy"],
        "variables": [],
        "tags": [],
        "skip_tags": [],
    },
    "rollback": "The release before.",
    "rollback_playbook": "flowaudit.ops.rollback",
    "code": {"tree": ZERO, "collection": "0.3.0", "collection_digest": ZERO},
    "release": "1.4.0",
    "digests": [ZERO],
    "staging_run": "run-1",
}
CODE = model.Code(ZERO, "0.3.0", ZERO)


def approval(person, key=""):
    return policy.Approval(f"{person}@example.org", key or f"SHA256:{person}")


STAGED = policy.StagingRun(
    "run-1", "staging", ("flowaudit.ops.deploy",), True, moment("2026-11-30T10:00:00Z"), (ZERO,), CODE
)
# In the window of 2026-12-06, 02:00 to 04:00 in Berlin.
GOOD = policy.Question(
    now=moment("2026-12-06T01:30:00Z"),
    inventory="production",
    playbook="flowaudit.ops.deploy",
    duration=HOUR,
    hosts=("nuc1",),
    code=CODE,
    dirty=False,
    state=State.APPROVED,
    approvals=(approval("bob"), approval("carol")),
    staging=STAGED,
    digests=(ZERO,),
)


def change(**more):
    return model.read(model.write(REQUEST | more))


def codes(question=None, request=None, rules=None, **more):
    asked = dataclasses.replace(question or GOOD, **more)
    return [
        item.code for item in policy.refusals(policy.parse(POLICY | (rules or {})), change(**(request or {})), asked)
    ]


def test_what_is_right_may_run():
    assert codes() == []


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ({"approvals": ()}, ["approvals"]),
        ({"approvals": (approval("bob"),)}, ["approvals"]),
        ({"approvals": (approval("bob"), approval("alice"))}, ["approvals"]),
        ({"approvals": (approval("bob"), approval("bob", "SHA256:second"))}, ["approvals"]),
        ({"approvals": (approval("bob"), approval("carol", "SHA256:bob"))}, ["approvals"]),
        ({"approvals": (approval("bob"), approval("carol", "SHA256:alice"), approval("alice"))}, ["approvals"]),
        (
            {"approvals": (approval("alice"), approval("carol", "SHA256:alice"))},
            ["approvals"],
        ),
        ({"state": State.REVOKED}, ["revoked"]),
        ({"state": State.REVIEWED}, ["reviewed"]),
        ({"state": State.ROLLED_BACK}, ["rolled back"]),
        ({"state": State.DONE}, ["finished"]),
        ({"state": State.DRAFT}, ["draft"]),
        ({"state": State.EXPIRED}, ["expired"]),
        ({"state": State.FAILED}, []),
        ({"inventory": "staging"}, ["other_inventory"]),
        ({"last_entry_at": moment("2026-12-06T01:30:03Z")}, ["clock"]),
        ({"last_entry_at": moment("2026-12-06T01:30:01Z")}, []),
        ({"last_entry_at": moment("2026-12-06T01:29:59Z")}, []),
        ({"overdue": ("CHG-2026-0007",)}, ["review_overdue"]),
        ({"glass": ("nuc1",)}, ["break_glass"]),
        ({"playbook": "flowaudit.ops.site"}, ["playbook", "staging_playbook"]),
        ({"playbook": ""}, ["playbook", "staging_playbook"]),
        ({"hosts": ("nuc1", "nuc3")}, ["hosts"]),
        ({"hosts": ("db", "nuc3")}, ["hosts"]),
        ({"hosts": ()}, ["no_hosts"]),
        ({"dirty": True}, ["dirty"]),
        ({"code": dataclasses.replace(CODE, tree=ONE)}, ["tree"]),
        ({"code": dataclasses.replace(CODE, collection="0.3.1")}, ["collection"]),
        ({"code": dataclasses.replace(CODE, collection_digest=ONE)}, ["collection"]),
        ({"digests": (ONE,)}, ["digests"]),
        ({"digests": (ZERO, ONE)}, ["digests"]),
        ({"digests": ()}, []),
        ({"playbook": "flowaudit.ops.rollback"}, ["rollback", "staging_playbook"]),
        (
            {"staging": dataclasses.replace(STAGED, code=dataclasses.replace(CODE, tree=ONE))},
            [],
        ),
        ({"now": moment("2026-12-06T00:59:59Z")}, ["window"]),
        ({"now": moment("2026-12-06T02:00:01Z")}, ["window"]),
        ({"duration": 3 * HOUR}, ["window"]),
        ({"staging": None}, ["staging"]),
        ({"staging": dataclasses.replace(STAGED, run="run-2")}, ["staging"]),
        ({"staging": dataclasses.replace(STAGED, inventory="demo")}, ["staging_inventory"]),
        ({"staging": dataclasses.replace(STAGED, succeeded=False)}, ["staging_failed"]),
        ({"staging": dataclasses.replace(STAGED, digests=(ONE,))}, ["staging_digests"]),
        ({"staging": dataclasses.replace(STAGED, unseen=("h1",))}, ["staging_hosts"]),
        ({"staging": dataclasses.replace(STAGED, playbooks=("flowaudit.ops.site",))}, ["staging_playbook"]),
        (
            {"staging": dataclasses.replace(STAGED, code=dataclasses.replace(CODE, collection_digest=ONE))},
            ["staging_collection"],
        ),
        ({"staging": dataclasses.replace(STAGED, code=dataclasses.replace(CODE, tree=ONE))}, []),
        ({"staging": dataclasses.replace(STAGED, ended_at=moment("2026-11-20T10:00:00Z"))}, ["staging_age"]),
        ({"staging": dataclasses.replace(STAGED, ended_at=moment("2026-12-07T10:00:00Z"))}, ["staging_age"]),
    ],
)
def test_a_run_that_differs_in_one_thing(more, refused):
    assert codes(**more) == refused


@pytest.mark.parametrize(
    ("request_", "more", "refused"),
    [
        ({"expires_at": "2026-12-06T01:30:00Z"}, {}, ["expired"]),
        ({"requested_at": "2026-12-06T01:30:01Z"}, {"approvals": ()}, ["not_yet", "approvals"]),
        ({"requested_at": "2026-10-21T10:00:00Z"}, {}, ["too_old"]),
        ({"risk": "low"}, {"approvals": (approval("bob"),)}, []),
        ({"risk": "high"}, {}, []),
        ({"risk": "high"}, {"approvals": (approval("bob"), approval("dave"))}, ["role"]),
        ({"requester": "carol@example.org"}, {}, ["approvals"]),
    ],
)
def test_a_change_that_differs_in_one_thing(request_, more, refused):
    assert codes(request=request_, **more) == refused


def test_a_freeze():
    january = moment("2027-01-03T01:30:00Z")
    request = {"requested_at": "2026-12-21T10:00:00Z", "expires_at": "2027-02-21T10:00:00Z"}
    people = (approval("bob"), approval("carol"))
    staged = dataclasses.replace(STAGED, ended_at=moment("2026-12-31T10:00:00Z"))
    assert codes(request=request, now=january, approvals=people, staging=staged) == ["freeze"]
    emergency = request | {"kind": "emergency"}
    assert codes(request=emergency, now=january, approvals=people, staging=None) == []


def test_an_emergency_waits_for_nothing_but_an_approval():
    emergency = {"kind": "emergency", "risk": "high", "staging_run": ""}
    at_noon = moment("2026-12-09T12:00:00Z")
    more = {"now": at_noon, "staging": None, "overdue": ("CHG-2026-0007",), "glass": ("nuc1",)}
    assert codes(request=emergency, approvals=(approval("bob"),), **more) == []
    assert codes(request=emergency, approvals=(), **more) == ["approvals"]


def test_a_standard_change_is_for_named_playbooks():
    playbook = "flowaudit.ops.renew_certificates"
    standard = {"kind": "standard", "scope": {**REQUEST["scope"], "playbooks": [playbook]}, "staging_run": ""}
    assert codes(request=standard, playbook=playbook, staging=None) == []
    assert codes(request={"kind": "standard"}, staging=None) == ["standard"]


def test_extra_variables_are_those_that_were_approved():
    variables = ['release_id="1.4.0"', "x=[1]"]
    scope = {"scope": {**REQUEST["scope"], "variables": variables}}
    assert codes(request=scope, variables=tuple(variables)) == []
    assert codes(request=scope, variables=("x=[1]",)) == ["variables"]
    assert codes(request=scope, variables=('release_id="1.5.0"', "x=[1]")) == ["variables", "variables"]
    assert codes(request=scope, variables=(*variables, "y=1")) == ["variables"]
    assert codes(variables=('release_id="1.4.0"',)) == ["variables"]
    back = {"playbook": "flowaudit.ops.rollback", "state": State.DONE}
    assert codes(request=scope, variables=('release_id="1.3.0"',), **back) == []
    assert codes(request=scope, variables=("y=1",), **back) == ["variables"]


def test_a_playbook_of_the_repository_ran_on_staging_with_the_same_repository():
    scope = {"scope": {**REQUEST["scope"], "playbooks": ["play.yml"]}}
    staged = dataclasses.replace(STAGED, playbooks=("play.yml",))
    assert codes(request=scope, playbook="play.yml", staging=staged) == []
    other = dataclasses.replace(staged, code=dataclasses.replace(CODE, tree=ONE))
    assert codes(request=scope, playbook="play.yml", staging=other) == ["staging_tree"]


def test_tags_are_those_that_were_approved():
    scope = {"scope": {**REQUEST["scope"], "tags": ["fast"], "skip_tags": ["slow"]}}
    assert codes(request=scope, tags=("fast",), skip_tags=("slow",)) == []
    assert codes(request=scope) == ["tags"]
    assert codes(tags=("fast",)) == ["tags"]
    assert codes(skip_tags=("slow",)) == ["tags"]


@pytest.mark.parametrize("state", [State.RUNNING, State.FAILED, State.DONE])
def test_what_was_done_may_be_taken_back_at_any_time(state):
    late = {"now": moment("2027-01-09T12:00:00Z"), "state": state, "staging": None, "digests": (ONE,)}
    assert codes(playbook="flowaudit.ops.rollback", overdue=("CHG-2026-0007",), glass=("nuc1",), **late) == []


@pytest.mark.parametrize("state", [State.APPROVED, State.REVIEWED, State.REVOKED, State.ROLLED_BACK])
def test_what_was_not_done_is_not_taken_back(state):
    assert codes(playbook="flowaudit.ops.rollback", state=state, now=moment("2026-12-09T12:00:00Z"))


def test_a_policy_without_windows_and_staging():
    rules = {"windows": [], "freezes": [], "staging": ""}
    assert codes(rules=rules, now=moment("2026-12-09T12:00:00Z"), staging=None) == []


def test_the_sentences_say_what_would_mend_it():
    refused = policy.refusals(
        policy.parse(POLICY), change(), dataclasses.replace(GOOD, approvals=(), now=moment("2026-12-09T12:00:00Z"))
    )
    approvals, late = refused
    assert str(approvals) == (
        "CHG-2026-0042 has 0 of 2 approvals. 2 more persons have to approve it:"
        " ansible-playbook flowaudit.ops.change_approve -e change_id=CHG-2026-0042"
    )
    # The window of January is frozen.
    assert late.mend == "The next moment is 2027-02-07 01:00 UTC."
    nothing = policy.parse(POLICY | {"windows": [POLICY["windows"][0] | {"duration": 60}]})
    (late,) = policy.refusals(nothing, change(), GOOD)
    assert late.mend == "There is none within a year."


@given(
    st.lists(
        st.builds(
            policy.Approval,
            st.sampled_from(["alice@example.org", "bob@example.org", "carol@example.org", "dave@example.org"]),
            st.sampled_from(["k1", "k2", "k3"]),
        ),
        max_size=6,
    ),
    st.integers(1, 4),
)
def test_no_set_of_approvals_passes_without_enough_people(approvals, wanted):
    rules = {"approvals": {risk: {"count": wanted} for risk in Risk}}
    if "approvals" in codes(approvals=tuple(approvals), rules=rules):
        return
    # Some choice of so many approvals is of distinct people, none the requester, with distinct keys.
    assert any(
        len({item.principal for item in some}) == len({item.key for item in some}) == wanted
        and all(item.principal != "alice@example.org" for item in some)
        for some in itertools.combinations(approvals, wanted)
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"unknown": 1}, "unknown is unknown"),
        ({"approvals": {"low": {"count": 1}}}, "a rule for each of low, medium, high"),
        ({"approvals": []}, "a rule for each of low, medium, high"),
        ({"emergency": {}}, "emergency in the policy has count"),
        ({"emergency": {"count": 1, "people": []}}, "emergency in the policy has count"),
        ({"emergency": {"count": -1}}, "asks for -1 approvals"),
        ({"emergency": {"count": True}}, "asks for True approvals"),
        ({"emergency": {"count": 1, "roles": ["kings"]}}, "the role kings, which nobody has"),
        ({"emergency": {"count": 0, "roles": ["board"]}}, "for roles but for no approval"),
        ({"roles": []}, "maps each role to its persons"),
        ({"roles": {"board": "bob"}}, "the role board in the policy is a list"),
        ({"roles": {"board": ["bob smith"]}}, "principal is"),
        ({"roles": {5: []}}, "a role in the policy is a text"),
        ({"windows": {}}, "windows in the policy is a list of mappings"),
        ({"freezes": ["soon"]}, "freezes in the policy is a list of mappings"),
        ({"maximum_age_days": 0}, "write a number of days"),
        ({"staging": 5}, "staging in the policy is a text"),
        ({"standard": "flowaudit.ops.site"}, "standard in the policy is a list"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(more, message):
    with pytest.raises(FlowauditError, match=message):
        policy.parse(POLICY | more)


def test_a_policy_that_lacks_something_is_refused():
    with pytest.raises(FlowauditError, match="emergency is missing, roles is missing"):
        policy.parse({key: value for key, value in POLICY.items() if key not in ("roles", "emergency")})


def test_who_approves_an_emergency():
    parsed = policy.parse(POLICY)
    assert parsed.rule(change(kind="emergency", risk="high")).count == 1
    assert parsed.rule(change(risk="high")).roles == ("security",)
    assert change().kind is Kind.NORMAL
