# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import datetime

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import signature, trust
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import commitment, entry

from .conftest import PEOPLE, POLICY, entries

pytestmark = pytest.mark.usefixtures("tools")


@pytest.fixture
def signers(keys):
    return "".join(f"{name}@example.org {(keys / f'{name}.pub').read_text()}" for name in PEOPLE)


@pytest.fixture
def first(signers):
    return trust.Terms("production", POLICY, signers)


@pytest.fixture
def second(signers):
    return trust.Terms("production", {**POLICY, "maximum_age_days": 99}, signers)


def signed(keys, terms, *people, namespace=signature.POLICY, by=None):
    return {
        f"{name}@example.org": signature.sign(terms.document, str(keys / (by or name)), namespace) for name in people
    }


def test_terms_are_read_as_they_were_written(first):
    terms = trust.Terms("production", {"since": datetime.date(2026, 1, 4)}, "x", ("a+b+c",))
    assert trust.read(terms.document) == trust.Terms("production", {"since": "2026-01-04"}, "x", ("a+b+c",))
    assert trust.read(first.document) == first
    assert len(first.digest) == 64 and first.digest != terms.digest


@pytest.mark.parametrize(
    "document",
    [
        b'{"v":1}',
        b'{"inventory":"a","policy":{},"signers":"","staging_keys":[],"v":2}',
        b'{"inventory":"a","policy":{},"signers":"","staging_keys":[], "v":1}',
        b'{"inventory":"a","policy":{},"signers":"","staging_keys":3,"v":1}',
    ],
)
def test_what_is_no_document_of_terms_is_refused(document):
    with pytest.raises(FlowauditError, match="have not the form that this version knows"):
        trust.read(document)


class Tagged(str):
    """A string as Ansible hands it over: it may say something else when it is written."""

    def __str__(self):
        return "something else"


class Counted(int):
    """A number as Ansible hands it over."""


def test_values_of_yaml_become_plain():
    moment = datetime.datetime(2026, 12, 20, tzinfo=datetime.UTC)
    given = {Tagged("key"): (Tagged("text"), Counted(3), True, None, moment, datetime.date(2026, 12, 20))}
    found = trust.plain(given)
    assert found == {"key": ["text", 3, True, None, "2026-12-20T00:00:00+00:00", "2026-12-20"]}
    assert {type(key) for key in found} == {str}
    assert [type(item) for item in found["key"][:3]] == [str, int, bool]


def test_moments_may_be_refused():
    with pytest.raises(FlowauditError, match="is no value that a change or a policy holds"):
        trust.plain({"since": [datetime.date(2026, 12, 20)]}, moments=False)


def test_keys_that_are_no_text_are_refused():
    with pytest.raises(FlowauditError, match="The keys of what a change or a policy holds are text"):
        trust.plain({"a": {7: "x"}})


@pytest.mark.parametrize("value", [0.5, b"x", {1}, object()])
def test_other_values_are_refused(value):
    with pytest.raises(
        FlowauditError, match="is no value that a change or a policy holds; write it as text, in quotes"
    ):
        trust.plain({"a": [value]})


def test_the_first_terms_are_taken_as_they_are_and_remembered(log, first):
    assert trust.accepted(log, "production") is None
    assert trust.accept(log, first, {}) is True
    assert trust.accepted(log, "production") == first
    (told,) = entries(log, entry.POLICY_ACCEPTED)
    assert (told["inventory"], told["digest"], told["first"], told["approved_by"]) == (
        *("production", first.digest),
        *(True, 0),
    )
    assert "alice" not in str(told)
    assert trust.accept(log, first, {}) is False
    assert len(entries(log, entry.POLICY_ACCEPTED)) == 1


def test_each_inventory_has_terms_of_its_own(log, first, signers):
    trust.accept(log, first, {})
    assert trust.accepted(log, "staging") is None
    assert trust.accept(log, trust.Terms("staging", POLICY, signers), {})


def test_other_terms_need_persons_and_a_role(log, keys, first, second):
    trust.accept(log, first, {})
    assert trust.accept(log, second, signed(keys, second, "bob", "carol")) is True
    assert trust.accepted(log, "production") == second
    told = entries(log, entry.POLICY_ACCEPTED)[-1]
    assert (told["first"], told["approved_by"]) == (False, 2)
    with pytest.raises(FlowauditError, match="are not those that were accepted, and 0 of 2 persons"):
        trust.accept(log, first, {})


@pytest.mark.parametrize(
    ("approvals", "missing"),
    [
        (lambda keys, terms, before: {}, "0 of 2 persons have signed for it"),
        (lambda keys, terms, before: signed(keys, terms, "carol"), "1 of 2 persons have signed for it"),
        (lambda keys, terms, before: signed(keys, terms, "alice", "bob"), "nobody of the role security has signed"),
        (lambda keys, terms, before: signed(keys, before, "bob", "carol"), "0 of 2 persons"),
        (lambda keys, terms, before: signed(keys, terms, "bob", "carol", by="mallory"), "0 of 2 persons"),
        (lambda keys, terms, before: signed(keys, terms, "bob", "carol", by="bob"), "1 of 2 persons"),
        (
            lambda keys, terms, before: signed(keys, terms, "bob", "carol", namespace=signature.APPROVAL),
            "0 of 2 persons",
        ),
    ],
)
def test_not_enough_for_other_terms(log, keys, first, second, approvals, missing):
    trust.accept(log, first, {})
    with pytest.raises(FlowauditError, match=f"The policy or the allowed signers of production are not .*{missing}"):
        trust.accept(log, second, approvals(keys, second, first))
    assert trust.accepted(log, "production") == first


def test_those_who_are_only_in_the_new_signers_do_not_count(log, keys, first, signers):
    trust.accept(log, first, {})
    more = trust.Terms("production", POLICY, signers + f"mallory@example.org {(keys / 'mallory.pub').read_text()}")
    with pytest.raises(FlowauditError, match="1 of 2 persons"):
        trust.accept(log, more, signed(keys, more, "mallory", "carol"))


def test_two_keys_and_two_names_are_what_counts(log, keys, signers, second):
    # One key stands for two names, one name has two keys.
    both = signers + "".join(
        f"{who}@example.org {(keys / f'{key}.pub').read_text()}" for who, key in (("dave", "bob"), ("bob", "mallory"))
    )
    trust.accept(log, trust.Terms("production", POLICY, both), {})
    same_key = signed(keys, second, "bob") | signed(keys, second, "dave", by="bob")
    with pytest.raises(FlowauditError, match="1 of 2 persons"):
        trust.accept(log, second, same_key)
    assert trust.accept(log, second, same_key | signed(keys, second, "carol"))


def test_a_policy_that_asks_for_nobody_still_needs_one(log, keys, signers, second):
    lax = {**POLICY, "approvals": {**POLICY["approvals"], "high": {"count": 0}}}
    trust.accept(log, trust.Terms("production", lax, signers), {})
    with pytest.raises(FlowauditError, match="0 of 1 persons"):
        trust.accept(log, second, {})
    assert trust.accept(log, second, signed(keys, second, "dave"))


def test_terms_that_are_lost_are_an_error(log, first):
    opening = commitment.commit("policy", first.document)
    draft = {"type": entry.POLICY_ACCEPTED, "ts": entry.timestamp(), "inventory": "production"}
    log.append([{**draft, "terms": opening.commitment}])
    with pytest.raises(FlowauditError, match="has lost the terms of production that were accepted; restore it"):
        trust.accept(log, first, {})
