# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import dataclasses
import datetime
import hashlib

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import history, model
from ansible_collections.flowaudit.ops.plugins.module_utils.change.model import State
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry

ID = "CHG-2026-0042"
DIGEST = "sha256:" + "0" * 64
CHANGE = model.read(
    model.write(
        {
            **{name: "" for name in ("ticket", "strategy", "governance", "release", "staging_run")},
            "id": ID,
            "inventory": "production",
            "kind": "normal",
            "risk": "low",
            "title": "Touch it",
            "reason": "It has to be touched.",
            "requester": "alice@example.org",
            "requested_at": "2026-11-21T10:00:00Z",
            "expires_at": "2026-12-21T10:00:00Z",
            "scope": {
                "hosts": ["h1", "h2"],
                "playbooks": ["more.yml", "play.yml"],
                "variables": [],
                "tags": [],
                "skip_tags": [],
            },
            "rollback": "Touch it back.",
            "rollback_playbook": "back.yml",
            "code": {"tree": DIGEST, "collection": "0.3.0", "collection_digest": DIGEST},
            "digests": [],
        }
    )
)


def moment(minute):
    return datetime.datetime(2026, 12, 6, 2, minute, tzinfo=datetime.UTC)


def began(run, *playbooks, hosts=("h1", "h2"), check=False, rollback=False, minute=0):
    return {
        "type": entry.RUN_AUTHORIZED,
        "run": run,
        "chg": ID,
        "inventory": "production",
        "document": hashlib.sha256(CHANGE.document).hexdigest(),
        "ts": entry.timestamp(moment(minute).timestamp()),
        "playbooks": list(playbooks),
        "hosts": list(hosts),
        "check": check,
        "rollback": rollback,
    }


def ended(run, status="ok", minute=1):
    value = {"type": entry.RUN_END, "run": run, "chg": ID, "ts": entry.timestamp(moment(minute).timestamp())}
    return {**value, "status": status} if status else {**value, "type": entry.RUN_ABORTED}


def state(*entries, approved=True):
    return history.read(entries, CHANGE).state(CHANGE, approved)


BOTH = ("more.yml", "play.yml")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], State.APPROVED),
        ([began("a", *BOTH)], State.RUNNING),
        ([began("a", *BOTH), ended("a")], State.DONE),
        ([began("a", "play.yml"), ended("a")], State.RUNNING),
        ([began("a", *BOTH, hosts=["h1"]), ended("a")], State.RUNNING),
        ([began("a", "play.yml"), ended("a"), began("b", "more.yml"), ended("b")], State.DONE),
        ([began("a", *BOTH), ended("a", "failed")], State.FAILED),
        ([began("a", *BOTH), ended("a", "unreachable")], State.FAILED),
        ([began("a", *BOTH), ended("a", "")], State.FAILED),
        ([began("a", *BOTH), ended("a", "something new")], State.FAILED),
        ([began("a", *BOTH), ended("a", "failed"), began("b", *BOTH)], State.RUNNING),
        ([began("a", *BOTH), ended("a", "failed"), began("b", *BOTH), ended("b")], State.DONE),
        ([began("a", *BOTH, check=True), ended("a")], State.APPROVED),
        ([began("a", *BOTH), ended("a"), began("b", "back.yml", rollback=True)], State.DONE),
        ([began("a", *BOTH), ended("a"), began("b", "back.yml", rollback=True), ended("b", "failed")], State.DONE),
        ([began("a", *BOTH), ended("a"), began("b", "back.yml", rollback=True), ended("b")], State.ROLLED_BACK),
        (
            [began("a", *BOTH), ended("a"), began("b", "back.yml", rollback=True, check=True), ended("b")],
            State.DONE,
        ),
        ([began("a", *BOTH), ended("a"), {"type": entry.CHANGE_REVIEWED, "inventory": "production"}], State.REVIEWED),
        ([{"type": entry.CHANGE_REVOKED, "inventory": "production"}], State.REVOKED),
        (
            [
                {"type": entry.CHANGE_REQUESTED, "inventory": "production"},
                {"type": entry.CHANGE_APPROVED, "inventory": "production"},
            ],
            State.APPROVED,
        ),
        ([ended("unknown")], State.APPROVED),
    ],
)
def test_the_state_that_entries_lead_to(entries, expected):
    assert state(*entries) is expected


def test_without_approvals_it_is_only_requested():
    assert state(approved=False) is State.REQUESTED
    assert state(began("a", *BOTH), approved=False) is State.RUNNING


def test_a_run_is_read_with_what_it_was_about():
    (run,) = history.read([began("a", "play.yml", minute=3), ended("a", minute=5)], CHANGE).runs
    assert run == history.RunOfChange("a", ("play.yml",), ("h1", "h2"), False, False, moment(3), State.DONE, moment(5))


def test_the_end_is_that_of_the_last_run_if_all_have_ended():
    one, two = [began("a", "play.yml"), ended("a", minute=9)], [began("b", "play.yml"), ended("b", "failed", 7)]
    assert history.read([], CHANGE).ended is None
    assert history.read([*one, *two], CHANGE).ended == moment(9)
    assert history.read([*one, *two, began("c", "play.yml")], CHANGE).ended is None
    assert history.read([*one, began("c", "play.yml", check=True)], CHANGE).ended == moment(9)


def test_the_hosts_on_which_a_playbook_has_run_well():
    known = history.read(
        [
            *(began("a", "play.yml", hosts=["h2"]), ended("a")),
            *(began("b", "play.yml", hosts=["h1"]), ended("b", "failed")),
            *(began("c", "more.yml", hosts=["h1"], check=True), ended("c")),
            *(began("d", "back.yml", rollback=True), ended("d")),
        ],
        CHANGE,
    )
    assert known.done_already("play.yml", ["h2", "h1", "h2"]) == ["h2"]
    assert known.done_already("play.yml", ["h1"]) == known.done_already("more.yml", ["h1"]) == []
    assert known.done_already("back.yml", ["h1"]) == []


def other(**more):
    """The change, but in one thing; what it is about is not looked at."""
    return dataclasses.replace(CHANGE, **more)


def test_the_trail_tells_of_one_change_only(log):
    of_another = {"chg": "CHG-2026-0043", "inventory": "production", "ts": entry.timestamp()}
    log.append([began("a", *BOTH), {**began("b", *BOTH), "chg": "CHG-2026-0043"}, ended("a")])
    log.append([{"type": entry.CHANGE_REVIEWED, **of_another}])
    log.append([{"type": entry.CHANGE_REVOKED, **of_another, "chg": ID}])
    mine, theirs = history.of(log, CHANGE), history.of(log, other(id="CHG-2026-0043"))
    assert [run.run for run in mine.runs] == ["a"] and (mine.revoked, mine.reviewed) == (True, False)
    assert [run.run for run in theirs.runs] == ["b"] and (theirs.revoked, theirs.reviewed) == (False, True)
    assert history.of(log, other(id="CHG-2026-0044")) == history.History()


def test_a_change_of_the_same_id_in_another_inventory_is_another(log):
    log.append([began("a", *BOTH), ended("a"), {"type": entry.CHANGE_REVOKED, "inventory": "production", "chg": ID}])
    assert history.of(log, CHANGE).revoked
    assert history.of(log, other(inventory="staging")) == history.History()


def test_what_was_let_begin_for_another_document_is_none_of_its_runs(log):
    log.append([began("a", *BOTH), ended("a")])
    assert history.of(log, CHANGE).runs and history.of(log, other(document=b"other")).runs == ()


def test_runs_that_are_under_way():
    known = history.read(
        [began("a", "play.yml"), ended("a"), began("b", "play.yml", hosts=["h1"]), began("c", "play.yml", check=True)],
        CHANGE,
    )
    # One in check mode, too: it is on the hosts like any other.
    assert known.under_way("play.yml", ["h1", "h2"]) == ["b", "c"]
    assert known.under_way("play.yml", ["h2"]) == ["c"]
    assert known.under_way("more.yml", ["h1"]) == []


def test_emergencies_that_nobody_has_reviewed(log):
    def urgent(run, change_id, **more):
        return {**began(run, "play.yml"), "chg": change_id, "kind": "emergency", **more}

    numbers = [f"CHG-2026-000{number}" for number in range(6)]
    reviewed = {"type": entry.CHANGE_REVIEWED, "inventory": "production", "chg": numbers[1]}
    log.append(
        [
            urgent("a", numbers[0]),
            {**urgent("b", numbers[0]), "ts": entry.timestamp(moment(30).timestamp())},
            urgent("c", numbers[1]),
            reviewed,
            {**reviewed, "chg": numbers[5]},
            urgent("d", numbers[2], kind="normal"),
            urgent("e", numbers[3], check=True),
            urgent("f", numbers[4], inventory="staging"),
            {key: value for key, value in urgent("g", "").items() if key != "chg"},
        ]
    )
    assert history.unreviewed_emergencies(log, "production") == {numbers[0]: moment(30)}
    assert list(history.unreviewed_emergencies(log, "staging")) == [numbers[4]]
