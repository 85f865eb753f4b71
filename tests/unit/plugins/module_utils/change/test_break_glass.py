# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Uses of a sealed credential, and their reviews."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import break_glass, gate, lifecycle, signature
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry

from .conftest import MINUTE, NOW, entries


def used(log, *uses, inventory="production"):
    for use in uses:
        fields = {"inventory": inventory, "use": use, "seal": "1f2e3d4c", "host": "h1", "at": entry.timestamp()}
        log.append([{"type": entry.BREAK_GLASS_USED, "ts": entry.timestamp(), **fields}])


def reviewed(project, log, *people, findings="Dave, as the control node was down."):
    for name in people:
        uses = break_glass.unreviewed(log, "production")
        _findings, step = lifecycle.review_break_glass(project.gate(), uses, project.person(name), findings, NOW)
        project.put(step)
    return break_glass.remember(log, project.gate().repository, project.gate().terms)


def test_without_a_use_there_is_nothing_to_review(project, log):
    assert reviewed(project, log) == []
    _findings, step = lifecycle.review_break_glass(project.gate(), [], project.person("bob"), "x", NOW)
    assert not step.needed


def test_a_review_counts_once_enough_have_signed_it(project, log):
    used(log, "a", "b")
    used(log, "x", inventory="staging")
    assert [use.id for use in reviewed(project, log, "bob")] == ["a", "b"]
    # Two, but nobody of the role that changes of high risk need.
    assert len(reviewed(project, log, "dave")) == 2
    assert entries(log, entry.BREAK_GLASS_REVIEWED) == []
    assert reviewed(project, log, "carol") == []
    (told,) = entries(log, entry.BREAK_GLASS_REVIEWED)
    assert (told["uses"], told["approved_by"]) == (["a", "b"], 3)
    # Remembered, and once.
    assert reviewed(project, log) == []
    assert len(entries(log, entry.BREAK_GLASS_REVIEWED)) == 1
    used(log, "c")
    assert [use.id for use in reviewed(project, log)] == ["c"]


def test_who_joins_signs_what_the_first_has_found(project, log):
    used(log, "a")
    uses = break_glass.unreviewed(log, "production")
    first, step = lifecycle.review_break_glass(project.gate(), uses, project.person("bob"), " Found. ", NOW)
    assert first.findings == "Found." and len(step.files) == 2
    project.put(step)
    again, step = lifecycle.review_break_glass(project.gate(), uses, project.person("bob"), "Else", NOW)
    assert (again, step.needed) == (first, False)
    # Whatever was used since then: that is another review.
    used(log, "b")
    uses = break_glass.unreviewed(log, "production")
    joined, step = lifecycle.review_break_glass(project.gate(), uses, project.person("carol"), "", NOW)
    assert joined == first and len(step.files) == 1
    # A signature that does not count is made again.
    project.put(dataclasses.replace(step, files={path: b"x" for path in step.files}))
    _joined, step = lifecycle.review_break_glass(project.gate(), uses, project.person("carol"), "", NOW)
    assert step.needed


def test_nobody_signs_without_a_word_or_with_a_strangers_key(project, log):
    used(log, "a")
    uses = break_glass.unreviewed(log, "production")
    with pytest.raises(FlowauditError, match="Say who opened the envelope"):
        lifecycle.review_break_glass(project.gate(), uses, project.person("bob"), " ", NOW)
    with pytest.raises(FlowauditError, match="is no key of mallory"):
        lifecycle.review_break_glass(project.gate(), uses, project.person("mallory"), "x", NOW)


def test_signatures_for_other_things_do_not_count(project, log):
    used(log, "a")
    review = break_glass.write("production", break_glass.unreviewed(log, "production"), "x", NOW)
    place = project.gate().repository.break_glass_place(review.name)
    (place / "approvals").mkdir(parents=True)
    (place / "review.json").write_bytes(review.document)
    for name in ("bob", "carol"):
        signed = project.sign(review.document, name, signature.REVIEW)
        (place / "approvals" / f"{name}@example.org.sig").write_bytes(signed)
    assert len(reviewed(project, log)) == 1


def test_nobody_signs_what_they_have_not_seen(project, log):
    used(log, "a")
    uses = break_glass.unreviewed(log, "production")
    seen, _step = lifecycle.review_break_glass(project.gate(), uses, project.person("bob"), "Found.", NOW)
    used(log, "b")
    uses = break_glass.unreviewed(log, "production")
    signed, step = lifecycle.review_break_glass(
        project.gate(), uses, project.person("bob"), "Found.", NOW + MINUTE, seen.document
    )
    assert signed == seen
    project.put(step)
    other = dataclasses.replace(seen, findings="Nothing.")
    for document in (other.document, dataclasses.replace(seen, uses=("x",)).document):
        with pytest.raises(FlowauditError, match="has changed since you have seen it"):
            lifecycle.review_break_glass(project.gate(), uses, project.person("carol"), "", NOW, document)


def test_a_review_has_room_for_so_many_uses(project, log):
    used(log, *(f"use-{number}" for number in range(501)))
    review = break_glass.write("production", break_glass.unreviewed(log, "production"), "x", NOW)
    assert len(review.uses) == 500 and len(review.document) < 64 * 1024


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"uses": []},
        {"uses": [1]},
        {"uses": 5},
        {"more": 1},
        {"inventory": "staging"},
        {"uses": ["b"]},
    ],
)
def test_what_is_no_review_is_none_and_holds_up_no_other(project, log, change):
    used(log, "a")
    review = break_glass.write("production", break_glass.unreviewed(log, "production"), "x", NOW)
    place = project.gate().repository.break_glass_place(review.name)
    place.mkdir(parents=True)
    value = {**json.loads(review.document), **change}
    (place / "review.json").write_text(json.dumps(value, sort_keys=True, separators=(",", ":")))
    assert len(reviewed(project, log)) == 1
    if change == {"v": 2}:
        used(log, "b")
        assert reviewed(project, log, "bob", "carol") == []


def test_what_lies_beside_is_passed_over(project, log):
    used(log, "a")
    place = project.gate().repository.break_glass_place("")
    (place / "notes").mkdir(parents=True)
    (place / ("0" * 64)).mkdir()
    assert len(reviewed(project, log)) == 1
    (place / ("1" * 64)).symlink_to(place)
    assert reviewed(project, log, "bob", "carol") == []


def test_a_use_stops_normal_changes_until_it_was_reviewed(project, log):
    normal, urgent = project.approved(), project.approved(kind="emergency")
    command = gate.Command("ansible-playbook", ("play.yml",), normal.id, ("h1",))
    used(log, "a")
    with pytest.raises(gate.Denied) as denied:
        gate.judge(project.gate(), command, log, NOW + MINUTE)
    assert [refusal.code for refusal in denied.value.refusals] == ["break_glass"]
    assert "used on h1" in str(denied.value)
    gate.judge(project.gate(), dataclasses.replace(command, change_id=urgent.id), log, NOW + MINUTE)
    assert reviewed(project, log, "bob", "carol") == []
    gate.judge(project.gate(), command, log, NOW + MINUTE)
