# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who logs in to the hosts past a run, and what becomes of a sealed credential that was used."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading
import time
import typing as t

import pytest
import yaml

from ansible_collections.flowaudit.ops.plugins.module_utils.change import staging
from ansible_collections.flowaudit.ops.plugins.module_utils.custody import certificate
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import note

from ..gate.conftest import Target, ssh_servers
from .conftest import CUSTODIAN, MAIN, PYTHON, PYTHONPATH, Node, as_user

# The service, as the user it has on a control node; hosts here have root alone, and are given up after two seconds.
WATCH = """
import sys
from ansible_collections.flowaudit.ops.plugins.module_utils.custody import service, watch
watch.ACCOUNT, watch._PATIENCE, watch._AGAIN = "root", 2.0, 0.2
sys.exit(service.main())
"""
# flowaudit-logins of a host whose sshd has a log instead of a journal. Its clock may be wrong by some seconds.
LOGINS = """
import json, os, sys, time
log, skew = sys.argv[1:]
print("{}", flush=True)
place = os.environ["SSH_ORIGINAL_COMMAND"]
seen = 0 if place == "begin" else int(place)
while True:
    lines = open(log).read().splitlines() if os.path.exists(log) else []
    for line in lines[seen:]:
        seen += 1
        moment = int((time.time() + float(open(skew).read())) * 1e6)
        print(json.dumps({"__CURSOR": str(seen), "__REALTIME_TIMESTAMP": str(moment), "MESSAGE": line}), flush=True)
    time.sleep(0.1)
    if os.path.exists(log + ".garbage"):
        garbage = open(log + ".garbage").read()
        os.unlink(log + ".garbage")
        print(garbage, flush=True)
"""


# What a host in somebody's hands may say instead.
GARBAGE = [
    '[1]\n"x"\n\x00',
    '{"MESSAGE": [1, 2], "__REALTIME_TIMESTAMP": "x"}',
    "[" * 60_000,
    "x" * 200_000,
    '{"__CURSOR": "\\ud800"}',
    '{"__CURSOR": "\\u0000"}',
    '{"__CURSOR": "é; id"}',
    '{"__REALTIME_TIMESTAMP": "9999999999999999999999"}',
]


def wait_until(condition: t.Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Chat:
    """Takes messages, or does not."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.closed = False
        chat = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert set(body) == {"text"} and self.headers["Content-Type"] == "application/json"
                if not chat.closed:
                    chat.messages.append(body["text"])
                self.send_response(503 if chat.closed else 200)
                self.end_headers()

            def log_message(self, *_words: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hooks/secret"


@dataclasses.dataclass
class Watched:
    """A control node that watches h1."""

    node: Node
    chat: Chat
    eye: contextlib.ExitStack  # the sshd by which h1 is watched
    skew: pathlib.Path
    watch: subprocess.Popen[bytes]

    @property
    def h1(self) -> Target:
        return self.node.targets[0]

    def entry(self, kind: str, number: int = 1, seconds: float = 20) -> list[dict[str, t.Any]]:
        """The entries of a type, once there are so many."""
        deadline = time.monotonic() + seconds
        while len(found := self.node.entries(kind)) < number:
            assert time.monotonic() < deadline, f"{found} {self.said()}"
            time.sleep(0.1)
        return found

    def message(self, beginning: str, seconds: float = 20) -> str:
        deadline = time.monotonic() + seconds
        while True:
            lines = [line for text in self.chat.messages for line in text.splitlines() if line.startswith(beginning)]
            if lines:
                return lines[-1]
            assert time.monotonic() < deadline, f"{self.chat.messages} {self.said()}"
            time.sleep(0.1)

    def said(self) -> str:
        return (self.node.directory / "watch.log").read_text()

    def details(self, value: dict[str, t.Any]) -> dict[str, str]:
        with contextlib.closing(self.node.custodian.log()) as log:
            return t.cast(dict[str, str], json.loads(log.openings([value["login"]])[value["login"]].value))

    def certified(self, key_id: str, *principals: str) -> pathlib.Path:
        """A key with a certificate that somebody has from the CA by other ways than a run."""
        key = self.node.directory / f"stolen-{time.monotonic_ns()}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        authority = self.node.custodian.directory / "ca" / "production"
        options = ["-s", authority, "-I", key_id, "-n", ",".join(principals), "-V", "-1m:+10m"]
        subprocess.run(["ssh-keygen", "-q", *options, f"{key}.pub"], check=True)
        return key

    def log_in(self, key: pathlib.Path) -> None:
        self.node.own()
        done = self.node.ssh(self.h1, "-i", str(key), "-o", "IdentitiesOnly=yes")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def watched(node: Node) -> t.Iterator[Watched]:
    """The watch runs, and has reached h1."""
    place, custodian = node.directory, node.custodian
    skew, script = place / "skew", place / "logins.py"
    skew.write_text("0")
    script.write_text(LOGINS)
    eyes = place / "eyes"
    eyes.mkdir()
    (eyes / "principals").write_text(f"{certificate.watch_principal('h1')}\n")

    def options(_name: str) -> str:
        return (
            f"TrustedUserCAKeys {place}/ca.pub\nAuthorizedPrincipalsFile {eyes}/principals\nAuthorizedKeysFile none\n"
            f"ForceCommand {PYTHON} {script} {node.targets[0].log} {skew}"
        )

    with contextlib.ExitStack() as stack:
        eye = stack.enter_context(contextlib.ExitStack())
        port = eye.enter_context(ssh_servers(eyes, node.keys, options))[0].port
        chat = Chat()
        stack.callback(chat.server.server_close)
        stack.callback(chat.server.shutdown)
        value = yaml.safe_load(custodian.configuration.read_text())
        key = " ".join((node.keys / "server.pub").read_text().split()[:2])
        value["inventories"]["production"]["hosts"] = {"h1": {"address": "127.0.0.1", "port": port, "key": key}}
        custodian.configuration.write_text(yaml.safe_dump({**value, "alarm_url": chat.url}))
        custodian.stop()
        custodian.start()
        log = stack.enter_context((place / "watch.log").open("wb"))
        process = subprocess.Popen(
            [PYTHON, "-c", WATCH, "--configuration", str(custodian.configuration), "watch"],
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": PYTHONPATH},
            cwd="/",
            stdout=log,
            stderr=log,
            **as_user(CUSTODIAN),
        )
        made = Watched(node, chat, eye, skew, process)
        try:
            yield made
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_a_run_accounts_for_its_logins(watched: Watched) -> None:
    node = watched.node
    change_id = node.approved()
    done = node.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1")
    assert done.returncode == 0, done.stdout
    (opened,) = watched.entry("session.opened")
    (begun,) = node.entries("run.authorized")
    assert (opened["run"], opened["chg"], opened["host"]) == (begun["run"], change_id, "h1")
    told = watched.details(opened)
    assert (told["account"], told["address"], told["method"]) == ("root", "127.0.0.1", "publickey")
    assert told["key_id"] == f"flowaudit:{change_id}:{begun['run']}:games"
    # What names a person is an opening, which can be erased.
    assert "127.0.0.1" not in json.dumps(opened)
    assert watched.chat.messages == [] and node.entries("session.unaccounted") == []
    assert node.custodian.verified().whole
    # A change of another inventory can show it.
    with node.custodian.connected() as custody, contextlib.closing(node.custodian.log()) as log:
        shown = staging.check(custody.proof_of(begun["run"]), [note.parse_key(log.current_key())])
    assert shown.succeeded and shown.unseen == () and begun["watched"] == ["h1"]


# A client of one's own: an approved change, and a run that is made up from its first entry to its last.
MADE_UP = """
import json, sys
from ansible_collections.flowaudit.ops.plugins.module_utils.custody import client
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry
custody = client.Custody(sys.argv[1])
run = custody.ask(json.loads(sys.argv[2]))["run"]
for kind, fields in json.loads(sys.argv[3]):
    draft = {"type": kind, "ts": entry.timestamp(), "run": run, **fields}
    custody.ask({"do": "append", "drafts": [draft], "openings": []})
custody.close()
print(run)
"""


def test_a_run_that_was_made_up_cannot_be_shown(watched: Watched) -> None:
    node = watched.node
    for stats in ({"h1": {"ok": 1}}, {}):
        change_id = node.approved()
        entries = [
            ("run.start", {"chg": change_id, "command": "play.yml"}),
            ("task.result", {"task": "1", "host": "h1", "status": "ok", "changed": True}),
            ("run.end", {"status": "ok", "stats": stats}),
        ]
        # With a certificate or without: that is the client's to say.
        wish = node.wish(change_id) | ({} if stats else {"public_key": None})
        done = node.python(MADE_UP, str(node.custodian.path), json.dumps(wish), json.dumps(entries))
        assert done.returncode == 0, done.stderr
        message = r"No login of the run .* on h1"
        with node.custodian.connected() as custody, pytest.raises(FlowauditError, match=message):
            custody.proof_of(done.stdout.strip())


def test_what_no_run_accounts_for_is_reported(watched: Watched) -> None:
    node = watched.node
    change_id = node.approved()
    assert node.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1").returncode == 0
    (begun,) = node.entries("run.authorized")
    run = begun["run"]
    cases = [
        (certificate.key_id("", "01900000-0000-7000-8000-000000000001", "games"), "0", "unknown_run"),
        ("somebody", "0", "unknown_run"),
        (certificate.key_id(change_id, run, "games"), "600", "after_run"),
        (certificate.key_id(change_id, run, "games"), "-600", "before_run"),
    ]
    for number, (key_id, skew, reason) in enumerate(cases, 1):
        watched.skew.write_text(skew)
        watched.log_in(watched.certified(key_id, certificate.principal("h1")))
        assert watched.entry("session.unaccounted", number)[-1]["reason"] == reason
    assert watched.message("Somebody logged in to h1 (production)").endswith(".")
    wait_until(lambda: "\n".join(watched.chat.messages).count("Somebody logged in") == len(cases))
    assert "/hooks/secret" not in watched.said()


def test_what_nobody_takes_is_told_again(watched: Watched) -> None:
    watched.chat.closed = True
    watched.log_in(watched.certified("somebody", certificate.principal("h1")))
    watched.entry("session.unaccounted")
    wait_until(lambda: "Nobody took the message" in watched.said())
    watched.chat.closed = False
    watched.message("Somebody logged in to h1")


def test_a_host_out_of_sight_is_reported_and_no_login_forgotten(watched: Watched) -> None:
    watched.log_in(watched.certified("before", certificate.principal("h1")))
    watched.entry("session.unaccounted")
    path = watched.h1.log.with_name("h1.log.garbage")
    for garbage in GARBAGE:
        path.with_name("h1.log.new").write_text(garbage)
        path.with_name("h1.log.new").rename(path)
        wait_until(lambda: not path.exists())
    watched.log_in(watched.certified("then", certificate.principal("h1")))
    watched.entry("session.unaccounted", 2)
    # Its sshd, and what it has begun.
    subprocess.run(["pkill", "-f", str(watched.node.directory / "eyes" / "h1.conf")], check=True)
    subprocess.run(["pkill", "-f", str(watched.node.directory / "logins.py")], check=False)
    assert "since" in watched.entry("host.unwatched")[0]
    assert "cannot be reached" in watched.message("Logins to h1 (production) have not been watched")
    watched.log_in(watched.certified("meanwhile", certificate.principal("h1")))
    with subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", watched.node.directory / "eyes" / "h1.conf"]) as again:
        watched.entry("host.watched")
        told = [watched.details(value)["key_id"] for value in watched.entry("session.unaccounted", 3)]
        assert told == ["before", "then", "meanwhile"]
        again.terminate()


def sealed(watched: Watched, language: str = "en") -> tuple[str, pathlib.Path, str]:
    """A sealed credential, taken from the sheets as a person would: its seal, its key, what was printed."""
    node = watched.node
    words = ["--configuration", str(node.custodian.configuration), "--socket", str(node.custodian.path)]
    done = subprocess.run(
        [PYTHON, "-c", MAIN, *words, "seal", "production", "--account", "root", "--language", language],
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": PYTHONPATH},
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    key = node.directory / "break-glass"
    key.write_text(re.search(r"-----BEGIN.*-----END OPENSSH PRIVATE KEY-----\n", printed, re.S)[0])  # type: ignore[index]
    key.chmod(0o600)
    (node.directory / "break-glass-cert.pub").write_text(re.search(r"^ssh-ed25519-cert.*$", printed, re.M)[0])  # type: ignore[index]
    words = re.search(r"^   ((?:[a-z0-9]{5}-){5}[a-z0-9]{5})$", printed, re.M)[1]  # type: ignore[index]
    # The first sheet alone opens nothing.
    assert words not in printed.split("\f")[0]
    opened = ["ssh-keygen", "-q", "-p", "-N", "", "-f", str(key)]
    assert subprocess.run([*opened, "-P", "guess"], check=False, capture_output=True).returncode != 0
    subprocess.run([*opened, "-P", words], check=True)
    seal = re.search(r"break-glass:([0-9a-f]{8})", done.stderr)[1]  # type: ignore[index]
    assert "root@127.0.0.1   # h1" in printed
    return seal, key, printed


def review(node: Node, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    key = node.directory / name
    shutil.copy(node.keys / name, key)
    node.own()
    who = ["-e", f"change_person={name}@example.org", "-e", f"change_key={key}"]
    known = ["-e", "change_inventory=inventories/production", "-e", "change_confirm=false"]
    return node.run("flowaudit.ops.break_glass_review", *known, *who, *words, inventory="")


def test_a_sealed_credential_alarms_and_waits_for_a_review(watched: Watched) -> None:
    node = watched.node
    seal, key, _printed = sealed(watched)
    # A host that does not list it lets nobody in.
    node.own()
    assert node.ssh(watched.h1, "-i", str(key), "-o", "IdentitiesOnly=yes").returncode == 255
    with (node.directory / "h1.principals").open("a") as principals:
        principals.write(f"{certificate.seal_principal(seal)}\n")
    before = time.monotonic()
    watched.log_in(key)
    (used,) = watched.entry("break_glass.used")
    assert f"the sealed credential {seal} was used on h1 (production)" in watched.message("BREAK-GLASS:")
    assert time.monotonic() - before < 60
    assert (used["seal"], used["host"]) == (seal, "h1")

    change_id = node.approved()
    asked = ("play.yml", "-e", f"change_id={change_id}", "--limit", "h1")
    refused = node.run(*asked)
    assert refused.returncode == 1
    assert "A sealed credential was used on h1, and nobody has reviewed it." in " ".join(refused.stdout.split())
    # What cannot wait does not.
    urgent = node.approved(kind="emergency")
    assert node.run("play.yml", "-e", f"change_id={urgent}", "--limit", "h1").returncode == 0

    nothing = review(node, "bob")
    assert nothing.returncode != 0 and "Say who opened the envelope" in nothing.stdout
    stranger = review(node, "mallory", "-e", "change_reason=nothing")
    assert stranger.returncode != 0
    first = review(node, "bob", "-e", "change_reason='Dave, as the control node was down.'")
    assert first.returncode == 0 and "review.json" in first.stdout, first.stdout
    again = review(node, "bob")
    assert again.returncode == 0 and "you have signed it before" in again.stdout
    assert node.run(*asked).returncode == 1
    # The one of the role that changes of high risk need.
    second = review(node, "carol")
    assert second.returncode == 0 and "Dave, as the control node was down." in second.stdout, second.stdout
    (reviewed,) = node.entries("break_glass.reviewed")
    assert (reviewed["uses"], reviewed["approved_by"]) == ([used["use"]], 2)
    assert node.run(*asked).returncode == 0
    # Whatever becomes of the files.
    subprocess.run(["rm", "-r", str(node.changes / "break-glass")], check=True)
    assert node.run(*asked[:-1], "h2").returncode == 0
    # And another use is another.
    watched.log_in(key)
    watched.entry("break_glass.used", 2)
    third = node.approved(scope={"playbooks": ["back.yml"]}, rollback_playbook="")
    assert node.run("back.yml", "-e", f"change_id={third}", "--limit", "h1").returncode == 1


def test_a_credential_is_sealed_by_root_alone_and_printed_in_german(watched: Watched) -> None:
    node = watched.node
    public = (node.keys / "second.pub").read_text()
    (answer,) = node.ask({"do": "seal", "inventory": "production", "public_key": public, "days": 1})
    assert "sealed by root" in answer["refused"]
    assert node.entries("break_glass.sealed") == []
    seal, _key, printed = sealed(watched, "de")
    assert printed.startswith(f"NOTZUGANG {seal}: Schlüssel")
    assert max(map(len, printed.split("-----BEGIN")[0].splitlines())) <= 100
    (made,) = node.entries("break_glass.sealed")
    until = datetime.datetime.fromisoformat(made["until"])
    assert made["seal"] == seal and until > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
    assert os.listdir(node.custodian.directory / "ca") == ["production"]
