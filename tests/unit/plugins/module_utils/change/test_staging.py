# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import model, policy, staging
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical, entry, home, note, sqlite

DIGEST = "sha256:" + "0" * 64
CODE = model.Code(DIGEST, "0.3.0", DIGEST)
BEGAN = {
    "type": entry.RUN_AUTHORIZED,
    "run": "run-1",
    "ts": "2026-11-21T10:00:00.000Z",
    "inventory": "staging",
    "playbooks": ["play.yml"],
    "check": False,
    "document": "0" * 64,
    "digests": [DIGEST],
    "code": {"tree": DIGEST, "collection": "0.3.0", "collection_digest": DIGEST},
}
ENDED = {"type": entry.RUN_END, "run": "run-1", "ts": "2026-11-21T10:05:00.000Z", "status": "ok"}


def key_of(log):
    return [note.parse_key(log.current_key())]


@pytest.fixture
def proof(log):
    log.append([BEGAN, {"type": entry.TASK_RESULT, "run": "run-1", "ts": ENDED["ts"], "host": "h1"}, ENDED])
    log.append([{"type": entry.EVENT, "ts": ENDED["ts"]}])
    return staging.prove(log, "run-1")


def altered(proof, change):
    value = json.loads(proof)
    change(value)
    return canonical.encode(value)


def test_a_proof_shows_the_run(log, proof):
    found = staging.check(proof, key_of(log))
    assert found.ended_at.isoformat() == "2026-11-21T10:05:00+00:00"
    assert found == policy.StagingRun("run-1", "staging", ("play.yml",), True, found.ended_at, (DIGEST,), CODE)
    assert b"\n" not in proof and len(json.loads(proof)["entries"]) == 2


@pytest.mark.parametrize(
    ("began", "ended"), [({}, {"status": "failed"}), ({}, {"status": "unreachable"}), ({"check": True}, {})]
)
def test_a_run_that_failed_or_only_tried_did_not_succeed(log, began, ended):
    log.append([{**BEGAN, **began}, {**ENDED, **ended}])
    assert not staging.check(staging.prove(log, "run-1"), key_of(log)).succeeded


@pytest.mark.parametrize(
    "drafts",
    [[], [BEGAN], [ENDED], [BEGAN, {**ENDED, "type": entry.RUN_ABORTED}], [ENDED, BEGAN], [BEGAN, BEGAN, ENDED]],
)
def test_a_run_without_begin_and_end_cannot_be_shown(log, drafts):
    log.append(drafts)
    with pytest.raises(FlowauditError, match=r"has no run run-1 that a gate let begin and that ended\."):
        staging.prove(log, "run-1")


def test_another_trail_shows_nothing(proof, tmp_path):
    other = sqlite.SqliteLog.open_or_create(home.Home(tmp_path / "other"), "0.3.0", "test")
    with pytest.raises(FlowauditError, match="signed"):
        staging.check(proof, key_of(other))
    other.close()
    with pytest.raises(FlowauditError):
        staging.check(proof, [])


def line(value, place, old, new):
    assert old in value["entries"][place]["line"]
    value["entries"][place]["line"] = value["entries"][place]["line"].replace(old, new)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: line(value, 0, '"staging"', '"production"'),
        lambda value: line(value, 1, '"ok"', '"OK"'),
        lambda value: value["entries"][0].update(index=2),
        lambda value: value["entries"][0].update(index=99),
        lambda value: value["entries"][1].update(proof=[]),
    ],
)
def test_an_entry_that_is_not_in_the_log_is_refused(log, proof, change):
    with pytest.raises(FlowauditError, match="holds an entry that the signed log does not have"):
        staging.check(altered(proof, change), key_of(log))


# ── Where it was ─────────────────────────────────────────────────────────────────────────────────────────────────────


def watched(*hosts):
    return {**BEGAN, "hosts": ["h1", "h2", "h3"], "watched": list(hosts)}


def ended(*hosts):
    return {**ENDED, "stats": {host: {"ok": 1} for host in hosts}}


def login(host, **more):
    return {
        "type": entry.SESSION_OPENED,
        "run": "run-1",
        "ts": ENDED["ts"],
        "inventory": "staging",
        "host": host,
        **more,
    }


def test_logins_are_shown_where_they_are_watched(log):
    log.append([watched("h1", "h2"), login("h1"), ended("h1", "h3"), login("h1"), login("h2")])
    proof = staging.prove(log, "run-1")
    assert [json.loads(item["line"])["type"] for item in json.loads(proof)["entries"]] == [
        *(entry.RUN_AUTHORIZED, entry.RUN_END, entry.SESSION_OPENED, entry.SESSION_OPENED)
    ]
    assert staging.check(proof, key_of(log)).unseen == ()


@pytest.mark.parametrize(
    ("entries", "unseen"),
    [
        ([watched("h1", "h2"), ended("h1", "h2"), login("h1")], "h2"),
        ([watched("h1", "h2"), ended("h1", "h2")], "h1, h2"),
        # A client of one's own that says it was nowhere.
        ([watched("h1", "h2"), ended()], "h1, h2"),
        ([watched("h1"), ended("h1"), login("h1", inventory="production")], "h1"),
        # On hosts of a watched inventory where nobody looks.
        ([watched(), ended("h1")], "h1, h2, h3"),
    ],
)
def test_a_run_that_was_not_there_cannot_be_shown(log, entries, unseen):
    log.append(entries)
    with pytest.raises(FlowauditError, match=rf"No login of the run run-1 was seen on {unseen}\."):
        staging.prove(log, "run-1")


def test_where_nobody_looks_a_run_is_believed(log):
    log.append([{**watched(), "watched": None}, ended("h1")])
    assert staging.check(staging.prove(log, "run-1"), key_of(log)).unseen == ()


def test_logins_that_are_left_out_are_missed(log):
    log.append([watched("h1", "h2"), login("h1"), login("h2"), ended("h1", "h2")])
    proof = altered(staging.prove(log, "run-1"), lambda value: value["entries"].pop())
    assert staging.check(proof, key_of(log)).unseen == ("h2",)


def test_logins_of_another_run_do_not_count(log):
    log.append([watched("h1"), login("h1"), ended("h1"), login("h2", run="run-2")])
    proof = staging.prove(log, "run-1")
    tree = staging.log.tree(log, log.size())
    foreign = {
        "index": 3,
        "line": log.ask("SELECT line FROM entries WHERE seq = 3")[0][0],
        "proof": [hashed.hex() for hashed in tree.inclusion_proof(3)],
    }
    with pytest.raises(FlowauditError, match="is about other entries"):
        staging.check(altered(proof, lambda value: value["entries"].append(foreign)), key_of(log))


def test_a_note_that_was_altered_is_refused(log, proof):
    with pytest.raises(FlowauditError):
        staging.check(altered(proof, lambda value: value.update(checkpoint="x" + value["checkpoint"])), key_of(log))


def test_the_entries_are_begin_and_end_of_one_run(log, proof):
    message = "is about other entries than a run's begin and end"
    with pytest.raises(FlowauditError, match=message):
        staging.check(altered(proof, lambda value: value["entries"].reverse()), key_of(log))
    log.append([{**BEGAN, "run": "run-2"}, {**ENDED, "run": "run-2"}])
    end = json.loads(staging.prove(log, "run-2"))["entries"][1]
    again = altered(staging.prove(log, "run-2"), lambda value: None)
    begin = {"index": 1, "line": json.loads(proof)["entries"][0]["line"]}
    tree = staging.log.tree(log, log.size())
    begin["proof"] = [hashed.hex() for hashed in tree.inclusion_proof(1)]
    with pytest.raises(FlowauditError, match=message):
        staging.check(altered(again, lambda value: value.update(entries=[begin, end])), key_of(log))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("checkpoint"),
        lambda value: value.pop("entries"),
        lambda value: value.update(checkpoint=None),
        lambda value: value.update(entries=None),
        lambda value: value["entries"].pop(),
        lambda value: value["entries"].append({}),
        lambda value: value["entries"][0].update(line=None),
        lambda value: value["entries"][0].update(proof=["no hex"]),
        lambda value: value["entries"].__setitem__(0, "text"),
    ],
)
def test_what_has_not_the_form_of_a_proof_is_refused(log, proof, change):
    with pytest.raises(FlowauditError, match="has not the form of one"):
        staging.check(altered(proof, change), key_of(log))


def test_a_run_on_an_inventory_that_is_not_protected_shows_nothing(log):
    log.append([{key: value for key, value in BEGAN.items() if key != "document"}, ENDED])
    with pytest.raises(FlowauditError, match="is of a run on an inventory that is not protected"):
        staging.check(staging.prove(log, "run-1"), key_of(log))


def test_an_entry_of_an_older_version_shows_nothing(log):
    log.append([{key: value for key, value in BEGAN.items() if key != "code"}, ENDED])
    with pytest.raises(FlowauditError, match="has not the form of one"):
        staging.check(staging.prove(log, "run-1"), key_of(log))


def test_what_is_no_json_is_refused():
    with pytest.raises(FlowauditError, match="no line of JSON"):
        staging.check(b"{", [])
