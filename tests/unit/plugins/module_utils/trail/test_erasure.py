# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical, commitment, entry, erasure, verify


def start(log, user, login_user):
    opening = commitment.commit("actor", json.dumps({"user": user, "login_user": login_user, "uid": 1}).encode())
    log.append([{"type": entry.RUN_START, "ts": entry.timestamp(), "actor": opening.commitment}], [opening])
    return opening.commitment


def test_a_person_is_erased_and_nobody_else(log):
    first, second = start(log, "root", "jdoe"), start(log, "jdoe", "jdoe")
    other = start(log, "root", "asmith")
    log.add_checkpoint()
    assert erasure.commitments_of(log, "jdoe") == [first, second]
    erased = erasure.erase(log, erasure.commitments_of(log, "jdoe"), " request 17 ")
    assert erased == sorted([first, second])
    assert list(log.openings([first, second, other])) == [other]
    log.add_checkpoint()
    assert verify.verify(log.origin, log.rows(), log.checkpoints()).finding is None
    said = canonical.decode(list(log.rows())[-1].line)
    assert (said["type"], said["reason"], said["commitments"]) == ("redaction", "request 17", erased)
    contents = b"".join(path.read_bytes() for path in log.home.path.iterdir() if path.is_file())
    assert b"jdoe" not in contents
    assert b"asmith" in contents


def test_the_logins_of_a_person_are_theirs(log):
    made = {}
    for account, key_id in [
        ("ops", "flowaudit:CHG-2026-0042:run:jdoe"),
        ("jdoe", ""),
        ("ops", "flowaudit:-:run:asmith"),
    ]:
        opening = commitment.commit("login", json.dumps({"account": account, "key_id": key_id}).encode())
        log.append([{"type": entry.SESSION_OPENED, "ts": entry.timestamp(), "login": opening.commitment}], [opening])
        made[opening.commitment] = account + key_id
    found = erasure.commitments_of(log, "jdoe")
    assert [made[one] for one in found] == ["opsflowaudit:CHG-2026-0042:run:jdoe", "jdoe"]


def test_what_was_altered_can_be_erased_too(log):
    one = start(log, "jdoe", "jdoe")
    ((trigger,),) = log.ask("SELECT sql FROM sqlite_master WHERE name = 'openings_are_append_only'")
    with log.changing() as connection:
        connection.execute("DROP TRIGGER openings_are_append_only")
        connection.execute("UPDATE openings SET salt = x'00'")
        connection.execute(trigger)
    with pytest.raises(FlowauditError, match="was altered"):
        log.openings([one])
    assert erasure.erase(log, [one], "x") == [one]
    assert not log.ask("SELECT 1 FROM openings")


def test_erasing_again_changes_nothing(log):
    one = start(log, "jdoe", "jdoe")
    erasure.erase(log, [one], "x")
    size = log.size()
    assert erasure.erase(log, [one, "c:unknown"], "x") == []
    assert log.size() == size


def test_a_reason_is_asked_for(log):
    one = start(log, "jdoe", "jdoe")
    with pytest.raises(FlowauditError, match="Say why"):
        erasure.erase(log, [one], " ")
    assert log.openings([one])


def test_nothing_is_erased_that_cannot_be_recorded(log):
    one = start(log, "jdoe", "jdoe")
    with pytest.raises(FlowauditError, match="An entry holds no float"):
        log.erase([one], {"type": entry.REDACTION, "ts": 1.5})
    assert log.openings([one])
