# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an operator with a shell on the control node, and a will, does not get.

All of it is done as an unprivileged account; logins are counted on real ssh servers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry

from .conftest import OTHER, Node, as_user

HOLD = {"name": "Hold", "ansible.builtin.raw": "until [ -e {{ playbook_dir }}/../go ]; do sleep 0.1; done"}
RUN = "01900000-0000-7000-8000-000000000001"


def nobody_came(node: Node) -> None:
    assert node.visits() == {"h1": 0, "h2": 0, "h3": 0}


def start(change_id: str, run: str = RUN, **more: t.Any) -> dict[str, t.Any]:
    """The message that begins a run."""
    draft = {"type": "run.start", "ts": entry.timestamp(), "run": run, "chg": change_id, "command": "x", **more}
    return {"do": "append", "drafts": [draft], "openings": []}


def said(kind: str, run: str, **fields: t.Any) -> dict[str, t.Any]:
    draft = {"type": kind, "ts": entry.timestamp(), "run": run, **fields}
    return {"do": "append", "drafts": [draft], "openings": []}


# ── Logging in without a run ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_alone_opens_nothing(node: Node) -> None:
    key = node.directory / "key"
    shutil.copy(node.keys / "operator", key)
    node.own()
    for host in node.targets:
        assert node.ssh(host, "-i", str(key)).returncode == 255
        assert node.ssh(host).returncode == 255
    nobody_came(node)


def test_another_inventory_opens_nothing(node: Node) -> None:
    where = f"-e ansible_port={node.targets[0].port} -e ansible_host=127.0.0.1 -e ansible_user=root".split()
    done = node.run("play.yml", *where, inventory="h1,")
    assert done.returncode == 4, done.stdout
    nobody_came(node)


def test_a_ca_of_ones_own_opens_nothing(node: Node) -> None:
    place = node.directory / "own"
    place.mkdir()
    node.own()
    commands = [
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / "ca")],
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / "key")],
        ["ssh-keygen", "-q", "-s", str(place / "ca"), "-I", "x", "-n", "host:h1", str(place / "key.pub")],
    ]
    for command in commands:
        subprocess.run(command, check=True, **as_user(node.account))
    assert node.ssh(node.targets[0], "-i", str(place / "key")).returncode == 255
    nobody_came(node)


# ── What a run was given, used for something else ────────────────────────────────────────────────────────────────────


def held(node: Node, change_id: str, place: pathlib.Path, limit: str = "h1,h2") -> subprocess.Popen[str]:
    """A run that waits on its hosts, and whose key and certificate somebody has copied."""
    process = node.start("hold.yml", "-e", f"change_id={change_id}", "--limit", limit)
    deadline = time.monotonic() + 60
    while not node.targets[0].visits():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.1)
    place.mkdir()
    for descriptor in sorted(os.listdir(f"/proc/{process.pid}/fd")):
        link = f"/proc/{process.pid}/fd/{descriptor}"
        name = os.readlink(link)
        if "flowaudit-key" in name:
            (place / "key").write_bytes(pathlib.Path(link).read_bytes())
        elif "flowaudit-certificate" in name:
            (place / "key-cert.pub").write_bytes(pathlib.Path(link).read_bytes())
    (place / "key").chmod(0o600)
    node.own()
    return process


def ended(node: Node, process: subprocess.Popen[str]) -> str:
    (node.directory / "go").touch()
    return process.communicate(timeout=60)[0]


@pytest.fixture
def holding(node: Node) -> Node:
    node.playbook("hold.yml", HOLD, vars={"runbook": {"max_duration": 8}})
    node.commit("Hold")
    return node


def test_a_certificate_is_for_the_hosts_of_its_change_and_for_its_time(holding: Node) -> None:
    node = holding
    change_id = node.approved(scope={"hosts": ["h1"], "playbooks": ["hold.yml"]})
    process = held(node, change_id, node.directory / "copy", "h1")
    key = str(node.directory / "copy" / "key")
    # Another host's principal: refused by sshd.
    assert node.ssh(node.targets[1], "-i", key).returncode == 255
    assert node.ssh(node.targets[2], "-i", key).returncode == 255
    # A certificate is a shell on the hosts it is for; its use shows whose it is, and in which run.
    assert node.ssh(node.targets[0], "-i", key).returncode == 0
    (authorized,) = node.entries("run.authorized")
    assert set(node.targets[0].certificates()) == {f"flowaudit:{change_id}:{authorized['run']}:{node.account}"}
    # Its time is over while the run still lasts.
    time.sleep(9)
    before = node.visits()
    assert node.ssh(node.targets[0], "-i", key).returncode == 255
    assert node.visits() == before == {"h1": 2, "h2": 0, "h3": 0}
    assert "h1" in ended(node, process)


def test_a_certificate_cannot_be_altered(holding: Node) -> None:
    node = holding
    change_id = node.approved(scope={"hosts": ["h1"], "playbooks": ["hold.yml"]})
    process = held(node, change_id, node.directory / "copy", "h1")
    certificate = node.directory / "copy" / "key-cert.pub"
    kind, content, *_comment = certificate.read_text().split()
    altered = base64.b64encode(base64.b64decode(content).replace(b"host:h1", b"host:h3")).decode()
    certificate.write_text(f"{kind} {altered}\n")
    assert node.ssh(node.targets[2], "-i", str(node.directory / "copy" / "key")).returncode == 255
    assert node.visits() == {"h1": 1, "h2": 0, "h3": 0}
    ended(node, process)


def test_a_killed_run_leaves_no_key_and_no_connection(holding: Node) -> None:
    node = holding
    change_id = node.approved(scope={"hosts": ["h1"], "playbooks": ["hold.yml"]})
    process = held(node, change_id, node.directory / "copy", "h1")
    _soon(lambda: node.entries("task.dispatched"))
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert not pathlib.Path(f"/proc/{process.pid}").exists()
    (aborted,) = _soon(lambda: node.entries("run.aborted"))
    assert (aborted["reason"], aborted["chg"]) == ("killed", change_id)
    assert [task["host"] for task in aborted["tasks_in_flight"]] == ["h1"]
    # The next run removes what is left of its connections.
    left = list(pathlib.Path("/tmp").glob(f"flowaudit-{as_user(node.account)['user']}-{process.pid}-*"))
    assert len(left) == 1
    (node.directory / "go").touch()
    again = node.run("hold.yml", "-e", f"change_id={change_id}", "--limit", "h1")
    assert again.returncode == 0, again.stdout
    assert not left[0].exists()
    if process.stdout:
        process.stdout.close()


def test_a_run_leaves_no_connection_behind(node: Node) -> None:
    change_id = node.approved()
    process = node.start("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert not list(pathlib.Path("/tmp").glob(f"flowaudit-*-{process.pid}-*"))
    # Nor one that only lost its socket: ssh's masters have it in their name.
    running = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert f"-{process.pid}-" not in "".join(line for line in running.splitlines() if line.startswith("ssh: "))


# ── Letting oneself in ───────────────────────────────────────────────────────────────────────────────────────────────


def refused(node: Node, message: str, change_id: str, **more: t.Any) -> None:
    done = node.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2", **more)
    assert done.returncode == 1, done.stdout
    assert message in done.stdout
    nobody_came(node)


def test_an_unapproved_change(node: Node) -> None:
    change_id = node.request()
    node.own()
    refused(node, f"{change_id} has 0 of 2 approvals", change_id)
    (denied,) = node.entries("run.denied")
    assert (denied["chg"], denied["reasons"]) == (change_id, ["approvals"])


def test_a_policy_edited_by_hand(node: Node) -> None:
    node.gate({"approvals": {risk: {"count": 0} for risk in ("low", "medium", "high")}})
    node.commit("Ask nobody")
    change_id = node.request()
    node.own()
    refused(node, "are not those that were accepted", change_id)


def test_a_signer_added_by_the_operator(node: Node) -> None:
    signers = node.top / "allowed_signers"
    signers.write_text(signers.read_text() + f"mallory@example.org {(node.keys / 'mallory.pub').read_text()}")
    node.commit("Let mallory sign")
    change_id = node.request()
    node.approve(change_id, "bob", "mallory")
    node.own()
    refused(node, "are not those that were accepted", change_id)


def test_an_inventory_that_says_it_is_not_protected(node: Node) -> None:
    node.gate(protected=False)
    node.commit("Open the gate")
    refused(node, "production is protected, whatever its file says", "CHG-2026-0001")


def test_an_inventory_of_another_name(node: Node) -> None:
    node.gate(name="mine", protected=False)
    node.commit("Call it something else")
    refused(node, "'mine' is not in the custody of this control node", "CHG-2026-0001")


def test_a_copy_of_the_repository(node: Node) -> None:
    """What counts is the one that root has named, wherever one stands."""
    copy = node.directory / "copy"
    shutil.copytree(node.top, copy)
    node.gate({"approvals": {risk: {"count": 0} for risk in ("low", "medium", "high")}})
    shutil.copy(node.gate_path, copy / "inventories" / "production" / "gate.yml")
    node.git("checkout", "-q", "--", ".")
    commit = ["git", "-C", str(copy), "commit", "-qam", "Ask nobody"]
    subprocess.run(commit, check=True, env=node.environment)
    change_id = node.request()
    shutil.copytree(node.top / "changes", copy / "changes")
    node.own()
    refused(node, f"{change_id} has 0 of 2 approvals", change_id, cwd=copy)


def test_a_configuration_without_custody(node: Node) -> None:
    """The gate then judges by a trail of the operator's, and whatever it says: nobody has a certificate."""
    path = node.top / "ansible.cfg"
    trail = f"directory = {node.directory}/trail\naccept_ephemeral = true"
    path.write_text(path.read_text().replace(f"custody = {node.custodian.path}", trail))
    node.gate({"approvals": {risk: {"count": 0} for risk in ("low", "medium", "high")}})
    node.commit("Do without")
    change_id = node.request()
    node.own()
    done = node.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2")
    assert done.returncode != 0, done.stdout
    nobody_came(node)


# ── A collection, or a Python, of one's own: whatever is said over the socket ────────────────────────────────────────


def test_whoever_asks_the_change_has_to_be_approved(node: Node) -> None:
    change_id = node.request()
    node.own()
    (answer,) = node.ask(node.wish(change_id))
    assert f"{change_id} has 0 of 2 approvals" in answer["refused"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"hosts": ["h1", "h3"]}, "h3 is outside of"),
        ({"playbooks": ["other.yml"]}, "other.yml"),
        ({"playbooks": []}, "names no playbook"),
        ({"variables": ["x=1"]}, "x"),
        ({"tags": ["some"]}, "other tasks"),
        ({"change_id": "../../etc"}, "../../etc"),
        ({"change_id": ""}, "needs an approved change"),
        ({"check": 1}, "has not the form"),
    ],
)
def test_more_than_was_approved(node: Node, more: dict[str, t.Any], message: str) -> None:
    (answer,) = node.ask(node.wish(node.approved(), **more))
    assert message in answer.get("refused", "") + answer.get("error", ""), answer


@pytest.mark.parametrize("named", [["h1", "h1\nhost:h3"], ["h1,host:h3"], "h1", [1], {}])
def test_hosts_that_are_none(node: Node, named: t.Any) -> None:
    (answer,) = node.ask(node.wish(node.approved(), hosts=named))
    assert "refused" in answer or "error" in answer, answer


def test_a_run_in_check_mode_is_one_like_any_other(node: Node) -> None:
    """Its certificate is a shell, so there is one at a time, and an emergency is reviewed, whatever it was called."""
    emergency = node.approved(kind="emergency", risk="low")
    (answer,) = node.ask(node.wish(emergency, check=True))
    assert "is an emergency change, which is not tried first" in answer["refused"]
    change_id = node.approved()
    with node.custodian.connected() as custody:
        custody.ask(node.wish(change_id, check=True))
        (answer,) = node.ask(node.wish(change_id, check=True))
        assert "has not ended" in answer["refused"]


def test_a_batch_that_is_empty_or_ends_the_run_gives_no_certificate(node: Node) -> None:
    change_id = node.approved()
    (granted, *answers) = node.ask(node.wish(change_id), {"do": "append", "drafts": [], "openings": []})
    assert "certificate" not in granted and "nothing to record" in answers[0]["error"]
    with node.custodian.connected() as custody:
        run = custody.ask(node.wish(change_id))["run"]
        message = start(change_id, run)
        message["drafts"] += said("run.end", run, status="failed", stats={})["drafts"]
        assert "certificate" not in custody.ask(message)


def test_what_was_not_signed_by_those_believed_is_not_remembered(node: Node) -> None:
    """A revocation by a signer that the operator has added, and taken away again."""
    change_id = node.approved()
    signers = node.top / "allowed_signers"
    before = signers.read_text()
    signers.write_text(before + f"mallory@example.org {(node.keys / 'mallory.pub').read_text()}")
    (answer,) = node.ask({"do": "stand", "inventory": "production", "change_id": change_id, "remember": True})
    assert "are not those that were accepted" in answer["error"]
    signers.write_text(before)
    assert node.entries("change.revoked") == []


def test_a_gate_that_is_no_file_holds_nobody_up(node: Node) -> None:
    node.gate_path.unlink()
    os.mkfifo(node.gate_path)
    node.own()
    (answer,) = node.ask(node.wish("CHG-2026-0001"))
    assert "is no file" in answer["error"]
    node.gate_path.unlink()
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
    node.gate_path.write_text(f"plugin: flowaudit.ops.change_gate\na0: &a0 [x, y]\n{levels}\n")
    (answer,) = node.ask(node.wish("CHG-2026-0001"))
    assert "by its aliases" in answer["error"]


def test_one_account_does_not_take_all_places(node: Node) -> None:
    source = """
import sys, time
from ansible_collections.flowaudit.ops.plugins.module_utils.custody import client
held = [client.Custody(sys.argv[1]) for _number in range(40)]
refused = 0
for custody in held:
    try:
        custody.ask({"do": "checkpoint"})
    except client.FlowauditError:
        refused += 1
print(refused)
"""
    done = node.python(source, str(node.custodian.path))
    assert done.stdout.strip() == "8", done.stderr


def test_a_certificate_comes_with_the_record_of_its_run_only(node: Node) -> None:
    change_id = node.approved()
    answers = node.ask(node.wish(change_id), node.wish(change_id), {"do": "checkpoint"})
    assert "certificate" not in answers[0]
    assert "has begun" in answers[1]["error"]
    assert "certificate" not in answers[2]


def test_a_run_begins_once(node: Node) -> None:
    change_id = node.approved()
    (granted, *_rest) = node.ask(node.wish(change_id))
    # That connection is closed, so the run is over, whoever knows its id.
    (answer,) = node.ask(start(change_id, granted["run"]))
    assert "already" in answer["error"]


def test_what_is_sent_again_gives_nothing(node: Node) -> None:
    change_id = node.approved()
    done = node.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2")
    assert done.returncode == 0, done.stdout
    (answer,) = node.ask(node.wish(change_id))
    assert f"{change_id} was carried out already" in answer["refused"]
    assert node.visits() == {"h1": 1, "h2": 1, "h3": 0}


def test_a_second_run_of_the_same_change_at_the_same_time(holding: Node) -> None:
    node = holding
    change_id = node.approved(scope={"hosts": ["h1", "h2"], "playbooks": ["hold.yml"]})
    process = held(node, change_id, node.directory / "copy")
    (answer,) = node.ask(node.wish(change_id, playbooks=["hold.yml"]))
    assert "has not ended" in answer["refused"]
    ended(node, process)


def certified(node: Node, directory: pathlib.Path, change_id: str, **more: t.Any) -> tuple[str, float]:
    """What ssh-keygen shows of a certificate that a client of one's own got, and the seconds it is valid."""
    source = """
import json, sys
from ansible_collections.flowaudit.ops.plugins.module_utils.custody import client
custody = client.Custody(sys.argv[1])
granted = custody.ask(json.loads(sys.argv[2]))
draft = json.loads(sys.argv[3])
print(custody.ask({"do": "append", "drafts": [draft | {"run": granted["run"]}], "openings": []})["certificate"])
"""
    wish, begin = node.wish(change_id, **more), start(change_id)["drafts"][0]
    done = node.python(source, str(node.custodian.path), json.dumps(wish), json.dumps(begin))
    (directory / "cert").write_text(done.stdout)
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", str(directory / "cert")], check=True, capture_output=True, text=True
    ).stdout
    valid = next(line.split() for line in shown.splitlines() if "Valid:" in line)
    return shown, time.mktime(time.strptime(valid[4], "%Y-%m-%dT%H:%M:%S")) - time.time()


def test_no_certificate_is_valid_for_long(node: Node, tmp_path: pathlib.Path) -> None:
    configuration = node.custodian.configuration
    configuration.write_text(configuration.read_text() + "maximum_validity: 120\n")
    node.custodian.stop()
    node.custodian.start()
    shown, seconds = certified(node, tmp_path, node.approved())
    assert 60 < seconds <= 120
    assert "host:h1" in shown and "host:h2" in shown and "host:h3" not in shown
    assert "permit-port-forwarding" not in shown


def test_a_certificate_ends_with_what_the_playbook_says(node: Node, tmp_path: pathlib.Path) -> None:
    node.playbook("play.yml", HOLD, vars={"runbook": {"max_duration": 90}})
    node.commit()
    # Whatever a client says of it.
    _shown, seconds = certified(node, tmp_path, node.approved(), duration=86400)
    assert 30 < seconds <= 90


# ── Forging the record ───────────────────────────────────────────────────────────────────────────────────────────────

FORGED = (
    *("run.authorized", "run.denied", "change.requested", "change.approved", "change.revoked", "change.reviewed"),
    *("policy.accepted", "policy.signed", "anchor", "redaction", "archived", "pruned", "key.rotated", "log.created"),
)


@pytest.mark.parametrize("kind", FORGED)
def test_what_others_say_is_not_said_by_a_run(node: Node, kind: str) -> None:
    before = len(node.entries(kind))
    answers = node.ask(start(""), said(kind, RUN, inventory="production", chg="CHG-2026-0001"))
    assert "first" in answers[0]
    assert "says what it does, and nothing else" in answers[1]["error"]
    assert len(node.entries(kind)) == before


@pytest.mark.parametrize(
    ("draft", "message"),
    [
        ({"run": "01900000-0000-7000-8000-00000000ffff"}, "nothing else"),
        ({"ts": "2099-01-01T00:00:00.000Z"}, "is not to come"),
        ({"ts": 5}, "ts"),
        ({"task": 7}, "are texts"),
        ({"ts": "2026-W01-1T00:00:00+00:00"}, "its moment"),
    ],
)
def test_entries_that_are_none(node: Node, draft: dict[str, t.Any], message: str) -> None:
    forged = said("event", RUN)
    forged["drafts"][0] |= draft
    answers = node.ask(start(""), forged)
    assert message in (answers[1].get("error", "") + answers[1].get("gone", "")), answers
    assert node.custodian.verified().whole


def test_nobody_is_somebody_else(node: Node) -> None:
    """Who it is says the kernel, whatever the entry and its openings say."""
    salt, value = bytes(32), b'{"user":"alice"}'
    commitment = "c:" + base64.b64encode(hashlib.sha256(salt + value).digest()).decode()
    forged = start("", actor=commitment, node="elsewhere", seq=0, v=7)
    forged["openings"] = [{"kind": "actor", "salt": salt.hex(), "value": base64.b64encode(value).decode()}]
    node.ask(forged)
    (begun,) = node.entries("run.start")
    assert begun["actor"] != commitment and begun["node"] != "elsewhere" and begun["v"] == 1
    log = node.custodian.log()
    opening = log.openings([begun["actor"], commitment])
    log.close()
    assert commitment not in opening
    assert f'"user":"{node.account}"' in opening[begun["actor"]].value.decode()


def test_a_run_that_has_ended_says_nothing_more(node: Node) -> None:
    answers = node.ask(start(""), said("run.end", RUN, status="ok", stats={}), said("event", RUN))
    assert "There is no run" in answers[2]["error"]


# ── The service itself, and what belongs to it ───────────────────────────────────────────────────────────────────────


def test_its_files_are_its_own(node: Node) -> None:
    place = node.custodian.directory
    source = """
import os, sys
try:
    print("listed", os.listdir(sys.argv[1]))
except PermissionError:
    pass
for path in sys.argv[2:]:
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT):
        try:
            os.open(path, flags)
        except PermissionError:
            continue
        print("opened", path, flags)
"""
    names = ("trail/trail.sqlite3", "trail/signing.key", "ca/production", "ca/another", "trail/lock")
    done = node.python(source, str(place), *(str(place / name) for name in names))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for path in (place, *place.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_its_process_is_its_own(node: Node) -> None:
    assert node.custodian.process is not None
    pid = str(node.custodian.process.pid)
    source = """
import os, signal, sys
for path in ("mem", "environ", "maps", "fd"):
    try:
        os.listdir(f"/proc/{sys.argv[1]}/fd") if path == "fd" else open(f"/proc/{sys.argv[1]}/{path}", "rb").read(1)
        print("read", path)
    except PermissionError:
        pass
try:
    os.kill(int(sys.argv[1]), signal.SIGKILL)
    print("killed")
except PermissionError:
    pass
"""
    done = node.python(source, pid)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert node.custodian.process.poll() is None


def test_a_repository_has_nothing_run_by_the_service(node: Node) -> None:
    """Git's configuration names programs; the repository is the operator's, the service is not."""
    seen = node.directory / "seen"
    seen.mkdir()
    program = node.directory / "program"
    program.write_text(f"#!/bin/sh\nid -un > {seen}/$(id -un)\ncat\n")
    program.chmod(0o755)
    change_id = node.approved()
    seen.chmod(0o777)
    for name in ("filter.x.clean", "filter.x.smudge", "core.fsmonitor", "core.pager", "diff.external", "core.editor"):
        node.git("config", name, str(program))
    hooks = node.directory / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "fsmonitor-watchman", "pre-commit"):
        shutil.copy(program, hooks / name)
    node.git("config", "core.hooksPath", str(hooks))
    (node.top / ".git" / "info").mkdir(exist_ok=True)
    (node.top / ".git" / "info" / "attributes").write_text("* filter=x\n")
    os.utime(node.top / "play.yml")
    node.own()
    done = node.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2")
    assert done.returncode == 0, done.stdout
    # The operator's own Git did run it, so it would have worked.
    assert {path.name for path in seen.iterdir()} == {node.account}


def test_others_than_operators_do_not_reach_it(node: Node) -> None:
    done = node.python(
        "import sys, socket; socket.socket(socket.AF_UNIX).connect(sys.argv[1])",
        str(node.custodian.path),
        account=OTHER,
    )
    assert "PermissionError" in done.stderr


def test_whom_to_believe_says_root(node: Node) -> None:
    node.gate({"approvals": {risk: {"count": 0} for risk in ("low", "medium", "high")}})
    node.commit("Ask nobody")
    (answer,) = node.ask({"do": "adopt", "inventory": "production"})
    assert "is said by root" in answer["refused"]
    # And root does not do so twice by mistake.
    with node.custodian.connected() as custody, pytest.raises(Exception, match="those before have to sign"):
        custody.ask({"do": "adopt", "inventory": "production"})


@pytest.mark.parametrize(
    "garbage", [b"\xff\xff\xff\xff", b"\0\0\0\x05hello", b"\0\0\0\x02{}", b"\0\0\0\x0a[1,2,3,4,5", b"\0\0\0\x09{", b""]
)
def test_garbage_ends_one_connection_and_no_other(node: Node, garbage: bytes) -> None:
    source = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(60)
connection.connect(sys.argv[1])
connection.sendall(bytes.fromhex(sys.argv[2]))
connection.shutdown(socket.SHUT_WR)
while connection.recv(65536):
    pass
"""
    done = node.python(source, str(node.custodian.path), garbage.hex())
    assert done.returncode == 0, done.stderr
    assert "first" in node.ask(start(""))[0]


def _soon(found: t.Callable[[], list[t.Any]]) -> list[t.Any]:
    deadline = time.monotonic() + 20
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return value
