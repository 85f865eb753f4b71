# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.change import model
from ansible_collections.flowaudit.ops.plugins.module_utils.change.model import State
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

DIGEST = "sha256:" + "0" * 64
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
    "rollback": "flowaudit.ops.rollback takes the release before back.",
    "rollback_playbook": "flowaudit.ops.rollback",
    "code": {"tree": DIGEST, "collection": "0.3.0", "collection_digest": DIGEST},
    "release": "1.4.0",
    "digests": [DIGEST],
    "staging_run": "019a7b2e-0000-7000-8000-000000000000",
}


def test_a_document_is_read_as_it_was_written():
    document = model.write(REQUEST)
    change = model.read(document)
    assert change.document == document
    assert (change.id, change.kind, change.risk) == ("CHG-2026-0042", "normal", "medium")
    assert change.scope == model.Scope(("nuc1", "nuc2"), ("flowaudit.ops.deploy",))
    assert change.requested_at.isoformat() == "2026-11-21T10:00:00+00:00"
    assert change.names("flowaudit.ops.deploy")
    assert change.names("flowaudit.ops.rollback")
    assert not change.names("flowaudit.ops.site")
    assert not change.names("")
    assert change.scope.outside(["nuc2", "nuc3", "db"]) == ["db", "nuc3"]


def test_what_is_not_needed_may_be_empty():
    change = model.read(
        model.write(REQUEST | {"rollback_playbook": "", "release": "", "digests": [], "staging_run": ""})
    )
    assert not change.names("")


def changed(path, value):
    request = json.loads(json.dumps(REQUEST))
    *above, last = path.split(".")
    place = request
    for key in above:
        place = place[key]
    place[last] = value
    return request


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("id", "CHG-2026-1", "no id of a change"),
        ("id", "../CHG-2026-0042", "no id of a change"),
        ("id", "CHG-2026-0042/..", "no id of a change"),
        ("id", "CHG-2026-0042\n", "no id of a change"),
        ("id", 42, "no id of a change"),
        ("inventory", "../production", "inventory is"),
        ("inventory", "", "inventory is"),
        ("kind", "urgent", "kind is one of standard, normal, emergency"),
        ("risk", None, "risk is one of low, medium, high"),
        ("title", "x" * 201, "at most 200"),
        ("title", 5, "title is a text"),
        ("reason", "\x1b[31m", "without control characters"),
        ("reason", " ", "does not say why"),
        ("rollback", "", "how it is taken back"),
        ("requester", "alice bob", "principal is"),
        ("requester", "a" * 200, "principal is"),
        ("requested_at", "2026-11-21T10:00:00", "does not say its offset"),
        ("expires_at", "2026-11-21T10:00:00Z", "expires before"),
        ("scope", ["nuc1"], "scope has hosts, playbooks, skip_tags, tags, variables"),
        ("scope.hosts", [], "at least one host"),
        ("scope.hosts", ["nuc2", "nuc1"], "hosts is sorted"),
        ("scope.hosts", ["nuc1", "nuc1"], "hosts is sorted"),
        ("scope.hosts", ["nuc1;nuc2"], "hosts is"),
        ("scope.hosts", "nuc1", "hosts is a list"),
        ("scope.hosts", ["*"], "hosts is"),
        ("scope.playbooks", [], "one playbook"),
        ("scope.playbooks", ["../other.yml"], "playbooks is"),
        ("rollback_playbook", "a b", "rollback_playbook is"),
        ("code.tree", "main", "tree is"),
        ("code.collection_digest", "sha256:abc", "collection_digest is"),
        ("code.more", "x", "code has"),
        ("release", "1.4.0 ", "release is"),
        ("digests", ["latest"], "digests is"),
        ("staging_run", "a/b", "staging_run is"),
        ("more", "x", "too many fields, or too few: more"),
    ],
)
def test_what_makes_no_sense_is_refused(path, value, message):
    with pytest.raises(FlowauditError, match=message):
        model.write(changed(path, value))


def test_a_missing_field_is_refused():
    with pytest.raises(FlowauditError, match="too few: ticket"):
        model.write({key: value for key, value in REQUEST.items() if key != "ticket"})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"{", "no line of JSON"),
        (b"[]", "no JSON object"),
        (b'{"v":1}', "too few"),
        (b" " * (model.LARGEST + 1), "at most 262144 bytes"),
    ],
)
def test_what_is_no_document_is_refused(document, message):
    with pytest.raises(FlowauditError, match=message):
        model.read(document)


def test_another_form_or_version_is_refused():
    document = model.write(REQUEST)
    with pytest.raises(FlowauditError, match="canonical form"):
        model.read(json.dumps(json.loads(document), indent=1).encode())
    with pytest.raises(FlowauditError, match="canonical form"):
        model.read(document + b"\n")
    for version in ("2", "true"):
        with pytest.raises(FlowauditError, match="has the version"):
            model.read(document.replace(b'"v":1', b'"v":' + version.encode()))


@given(st.lists(st.sampled_from(list(State)), max_size=8))
def test_states_follow_each_other_or_are_refused(states):
    current = State.DRAFT
    for state in states:
        if state not in model.FOLLOWING[current]:
            with pytest.raises(FlowauditError, match=f"that is {current} cannot become {state}"):
                model.after(states)
            return
        current = state
    assert model.after(states) is current


def test_the_life_of_a_change():
    lived = [State.REQUESTED, State.APPROVED, State.RUNNING, State.FAILED, State.RUNNING, State.DONE]
    assert model.after([*lived, State.ROLLED_BACK, State.REVIEWED]) is State.REVIEWED
    assert frozenset({State.REVIEWED, State.REVOKED, State.EXPIRED}) == model.FINAL
    for refused in ([State.APPROVED], [State.REQUESTED, State.RUNNING], [*lived, State.REVOKED]):
        with pytest.raises(FlowauditError):
            model.after(refused)


def test_hosts_of_a_scope():
    hosts = ["nuc1", "nuc2", "db"]
    assert model.hosts_of(["nuc*"], hosts) == ["nuc1", "nuc2"]
    assert model.hosts_of(["db", "nuc1", "nuc1"], hosts) == ["db", "nuc1"]
    with pytest.raises(FlowauditError, match="names web, which no host"):
        model.hosts_of(["nuc*", "web"], hosts)


def test_extra_vars_of_a_scope():
    given = {"release_id": "1.4.0", "count": 3, "deep": {"b": [True, None], "a": "ä"}, "change_id": "CHG-2026-0001"}
    assert model.variables_of(given) == ("count=3", 'deep={"a":"ä","b":[true,null]}', 'release_id="1.4.0"')
    with pytest.raises(FlowauditError, match="The extra variable ratio cannot be part of a change"):
        model.variables_of({"ratio": 0.5})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (['ansible_host="127.0.0.1"'], "ansible_host is the inventory's to set"),
        (['inventory_hostname="h3"'], "inventory_hostname is the inventory's to set"),
        (["a=1", "a=2"], "gives each variable once"),
        (["no"], "variables is 'no'"),
    ],
)
def test_variables_that_no_change_has(variables, message):
    with pytest.raises(FlowauditError, match=message):
        model.write(REQUEST | {"scope": {**REQUEST["scope"], "variables": variables}})
