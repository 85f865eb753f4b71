# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a connection may say; whether a run may begin is asked with real signatures in tests/custody."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change.gate import Command
from ansible_collections.flowaudit.ops.plugins.module_utils.change.policy import Refusal
from ansible_collections.flowaudit.ops.plugins.module_utils.custody import client, protocol, request
from ansible_collections.flowaudit.ops.plugins.module_utils.custody.session import Desk, Session
from ansible_collections.flowaudit.ops.plugins.module_utils.custody.settings import Settings
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical, entry
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.commitment import commit

RUN = "01900000-0000-7000-8000-000000000001"
HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Desk:
    tmp_path.joinpath("custody").mkdir(mode=0o700)
    return Desk(Settings(tmp_path / "custody", {}, HOUR))


@pytest.fixture
def session(desk: Desk) -> t.Iterator[Session]:
    with desk.log() as log:
        yield Session(desk, protocol.Peer(os.getpid(), 4711, 4712), log)


def told(desk: Desk, kind: str) -> list[dict[str, t.Any]]:
    with desk.log() as log:
        values = [json.loads(row.line) for row in log.rows() if row.line is not None]
    return [value for value in values if value["type"] == kind]


def append(session: Session, *drafts: dict[str, t.Any], run: str = RUN) -> protocol.Message:
    made = [{"ts": entry.timestamp(), "run": run, **draft} for draft in drafts]
    return session.answer(protocol.entries(made, []))


def test_a_run_from_its_beginning_to_its_end(desk: Desk, session: Session) -> None:
    assert append(session, {"type": "run.start", "command": "x"}) == {"first": 1, "count": 1}
    assert desk.is_alive(RUN)
    assert append(session, {"type": "event"}, {"type": "run.end", "status": "ok", "stats": {}})["first"] == 2
    signed = session.answer({"do": "checkpoint"})
    assert signed["size"] == 4 and signed["note"].splitlines()[1] == "4"
    session.lost()
    assert not desk.is_alive(RUN)
    assert told(desk, "run.aborted") == []
    (begun,) = told(desk, "run.start")
    with desk.log() as log:
        assert json.loads(log.openings([begun["actor"]])[begun["actor"]].value) == {
            "user": "4711",
            "login_user": "4712",
            "uid": 4711,
        }


def test_a_run_whose_connection_is_lost_was_killed(desk: Desk, session: Session) -> None:
    append(session, {"type": "run.start"}, {"type": "task.start", "task": "t", "name": "Touch", "fqcn": "x"})
    append(session, {"type": "task.dispatched", "task": "t", "hosts": ["h1"]})
    session.lost()
    session.lost()
    (aborted,) = told(desk, "run.aborted")
    assert (aborted["reason"], aborted["tasks_in_flight"][0]["name"]) == ("killed", "Touch")


def test_a_service_that_starts_closes_what_the_one_before_had_open(desk: Desk, session: Session) -> None:
    append(session, {"type": "run.start"})
    Desk(desk.settings)
    Desk(desk.settings)
    assert [value["run"] for value in told(desk, "run.aborted")] == [RUN]


@pytest.mark.parametrize("kind", [entry.RUN_AUTHORIZED, entry.POLICY_ACCEPTED, entry.CHANGE_REVIEWED, "", None, 5])
def test_what_a_run_does_not_say(desk: Desk, session: Session, kind: t.Any) -> None:
    append(session, {"type": "run.start"})
    with pytest.raises(FlowauditError, match="and nothing else"):
        append(session, {"type": "event"}, {"type": kind})
    # All or none.
    assert told(desk, "event") == []


def test_a_run_is_not_another(session: Session) -> None:
    with pytest.raises(FlowauditError, match="There is no run"):
        append(session, {"type": "event"})
    with pytest.raises(FlowauditError, match="A run has an id"):
        append(session, {"type": "run.start"}, run="../x")
    append(session, {"type": "run.start"})
    with pytest.raises(FlowauditError, match="begins once"):
        append(session, {"type": "run.start"})
    with pytest.raises(FlowauditError, match="and nothing else"):
        append(session, {"type": "event"}, run=RUN.replace("1", "2"))
    with pytest.raises(FlowauditError, match="has begun"):
        session.answer({"do": "authorize"})


def test_an_id_is_used_once(desk: Desk, session: Session) -> None:
    append(session, {"type": "run.start"})
    with desk.log() as log:
        other = Session(desk, protocol.Peer(1, 1, None), log)
        with pytest.raises(FlowauditError, match="There was a run"):
            append(other, {"type": "run.start"})
        other.lost()
    assert desk.is_alive(RUN)


def test_a_change_is_not_claimed(desk: Desk, session: Session) -> None:
    """A run is of a change when it was let begin for it, and of none when nobody asked."""
    append(session, {"type": "run.start", "chg": "CHG-2026-0001"}, {"type": "event", "chg": "CHG-2026-0002"})
    assert "chg" not in told(desk, "event")[0] and "chg" not in told(desk, "run.start")[0]


def test_a_run_that_says_nonsense_is_closed_like_any_other(desk: Desk, session: Session) -> None:
    append(session, {"type": "run.start"}, {"type": "task.start"}, {"type": "task.start", "task": "t"})
    append(session, {"type": "task.dispatched", "task": "t", "hosts": 5}, {"type": "task.dispatched", "hosts": [[]]})
    append(
        session, {"type": "task.dispatched", "task": "t", "hosts": ["h1", 7, {}]}, {"type": "task.result", "task": "t"}
    )
    Desk(desk.settings)
    (aborted,) = told(desk, "run.aborted")
    assert [task["host"] for task in aborted["tasks_in_flight"]] == ["h1"]


def test_what_could_not_be_recorded_is_sent_again(
    desk: Desk, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: t.Any) -> t.NoReturn:
        raise FlowauditError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(session._log, "append", full)
        with pytest.raises(FlowauditError, match="full"):
            append(session, {"type": "run.start"})
    assert not desk.is_alive(RUN)
    assert append(session, {"type": "run.start"})["first"] == 1
    with pytest.raises(FlowauditError, match="nothing to record"):
        append(session)


def test_every_denial_is_recorded(desk: Desk, session: Session) -> None:
    for _number in range(2):
        session.answer({"do": "deny", "inventory": "x", "command": request.write(Command("ansible", ()))})
    append(session, {"type": "run.start"})
    session.answer({"do": "deny", "inventory": "x", "command": request.write(Command("ansible", ()))})
    assert len(told(desk, "run.denied")) == 3


def test_who_was_taken_out_of_the_group_has_no_runs(desk: Desk) -> None:
    desk.settings = dataclasses.replace(desk.settings, group="nobody-is-in-it")
    with desk.log() as log:
        session = Session(desk, protocol.Peer(1, 4711, None), log)
        with pytest.raises(protocol.Refused, match="4711 is not in the group nobody-is-in-it any more"):
            append(session, {"type": "run.start"})
        with pytest.raises(protocol.Refused, match="any more"):
            session.answer({"do": "authorize", "inventory": "production"})
        assert append(Session(desk, protocol.Peer(1, 0, None), log), {"type": "run.start"})["count"] == 1


def test_large_batches_are_sent_in_parts(desk: Desk, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LARGEST", 4000)
    sizes = []

    class Custody:
        credential = None
        closed = False

        def ask(self, message: protocol.Message) -> protocol.Message:
            sizes.append(len(canonical.encode(message)))
            return session.answer(message)

        def close(self) -> None:
            self.closed = True

    opening = commit("diff", b"x" * 500)
    custody = Custody()
    sink = client.CustodyLog(t.cast(t.Any, custody))
    begin = {"ts": entry.timestamp(), "run": RUN}
    drafts = [{**begin, "type": "run.start"}, *({**begin, "type": "event", "text": "y" * 300} for _number in range(30))]
    drafts[20]["blobs"] = {"diff": [opening.commitment, 500]}
    assert sink.append(drafts, [opening]) == range(1, 32)
    assert len(sizes) > 3 and max(sizes) < 4000
    with desk.log() as log:
        assert log.openings([opening.commitment]) == {opening.commitment: opening}
    # Half of it recorded, and then no more: nothing is sent again.
    with pytest.raises(FlowauditError, match="nothing else"):
        sink.append([*drafts[1:20], {**begin, "type": "anchor"}])
    assert custody.closed


def test_a_denial_is_recorded_with_its_reasons(desk: Desk, session: Session) -> None:
    problems = (Refusal("inventories", "Two.", ""), Refusal("option", "One.", ""))
    command = Command("ansible", ("ansible",), "CHG-2026-0001", problems=problems)
    session.answer({"do": "deny", "inventory": "production", "command": request.write(command)})
    (denied,) = told(desk, "run.denied")
    assert (denied["chg"], denied["reasons"]) == ("CHG-2026-0001", ["inventories", "option"])


def test_a_command_arrives_as_it_was() -> None:
    command = Command(
        *("ansible-playbook", ("a.yml", "b.yml"), "CHG-2026-0001", ("h1",), ("x=1",), ("t",), ("s",), True),
        (Refusal("a", "b", "c"),),
    )
    assert request.read(request.write(command)) == command
    assert request.read(request.write(Command("ansible", ()))) == Command("ansible", ())


@pytest.mark.parametrize(
    "more",
    [{"hosts": "h1"}, {"check": 1}, {"problems": [["a"]]}, {"tags": None}],
)
def test_commands_of_another_form(more: dict[str, t.Any]) -> None:
    with pytest.raises(FlowauditError, match="has not the form"):
        request.read(request.write(Command("ansible", ())) | more)
    with pytest.raises(FlowauditError, match="has not the form"):
        request.read(None)


def test_only_root_says_whom_to_believe(session: Session) -> None:
    with pytest.raises(protocol.Refused, match="said by root"):
        session.answer({"do": "adopt", "inventory": "production"})
    with pytest.raises(FlowauditError, match="of another version"):
        session.answer({"do": "dance"})
    with pytest.raises(FlowauditError, match="not in the custody"):
        session.answer({"do": "authorize", "inventory": "production"})
    assert session.answer({"do": "status"})["inventories"] == {}


def test_a_key_is_in_memory_and_for_its_user_alone() -> None:
    credential = client.Credential()
    for path in (credential.key_path, credential.certificate_path):
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert "memfd:" in os.readlink(path)
    with open(credential.key_path, encoding="ascii") as stream:
        assert stream.readline() == "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    credential.certify("ssh-ed25519-cert-v01@openssh.com AAAA")
    with open(credential.certificate_path, encoding="ascii") as stream:
        assert stream.read() == "ssh-ed25519-cert-v01@openssh.com AAAA\n"


def test_nobody_answers(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FlowauditError, match="does not answer"):
        client.Custody(str(tmp_path / "none.sock"))
