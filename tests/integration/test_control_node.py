"""A control node in custody, on a host with systemd: who reaches what, and that a second run changes nothing."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import typing as t
from collections.abc import Callable, Iterator

import pytest
import yaml

from .conftest import STATE, wait_until

pytestmark = pytest.mark.hardening

Playbook = Callable[..., "subprocess.CompletedProcess[str]"]
PLAYBOOK = "flowaudit.ops.control_node"
CUSTODY = "/usr/local/sbin/flowaudit-custody"
GATE = "/srv/portal/inventories/production/gate.yml"
POLICY = {
    "approvals": {"low": {"count": 1}, "medium": {"count": 2}, "high": {"count": 2}},
    "emergency": {"count": 1},
    "roles": {},
    "windows": [],
    "freezes": [],
    "maximum_age_days": 30,
}


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> pathlib.Path:
    """The nas, as a control node."""
    host = {
        "ansible_host": "127.0.0.1",
        "ansible_port": ports["nas_22"],
        "ansible_user": "ops",
        "ansible_ssh_private_key_file": f"{STATE}/ssh/id_ed25519",
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={STATE}/ssh/known_hosts -o IdentitiesOnly=yes",
        "ansible_python_interpreter": "/usr/bin/python3",
        "control_node_inventories": {"production": {"gate": GATE}},
        "control_node_operators": ["alice"],
    }
    path = tmp_path_factory.mktemp("control_node") / "hosts.yml"
    path.write_text(yaml.safe_dump({"control_node": {"hosts": {"control": host}}}))
    return path


@pytest.fixture(scope="module")
def control(nas: t.Any) -> Iterator[t.Any]:
    """A machine with two accounts and a repository."""
    nas.check_output("useradd --create-home alice; useradd --create-home mallory; true")
    nas.check_output(
        "apt-get update -qq && apt-get install -y -qq git > /dev/null && install -d %s", str(pathlib.Path(GATE).parent)
    )
    gate = {
        "plugin": "flowaudit.ops.change_gate",
        "name": "production",
        "policy": POLICY,
        "inventory": {"all": {"hosts": {"nuc1": None}}},
    }
    nas.check_output("git init -q /srv/portal && echo %s > %s", yaml.safe_dump(gate), GATE)
    nas.check_output("echo 'bob@example.org ssh-ed25519 AAAA' > /srv/portal/allowed_signers")
    yield nas
    units = "flowaudit-custody.socket flowaudit-custody.service flowaudit-anchor.timer flowaudit-reviews.timer"
    nas.run(f"systemctl disable --now {units}; rm -rf /srv/portal /usr/local/lib/flowaudit {CUSTODY}")
    nas.run("rm -rf /etc/systemd/system/flowaudit-* /etc/flowaudit/custody.yml /var/lib/flowaudit/custody")
    nas.run("userdel --remove alice; userdel --remove mallory; userdel flowaudit; groupdel flowaudit-custody")
    nas.run("systemctl daemon-reload")


def changed(run: subprocess.CompletedProcess[str]) -> int:
    assert run.returncode == 0, run.stdout[-3000:]
    found = re.search(r"^control +: .*changed=(\d+)", run.stdout, re.M)
    assert found
    return int(found[1])


@pytest.fixture(scope="module")
def status(playbook: Playbook, control: t.Any, inventory: pathlib.Path) -> dict[str, t.Any]:
    """What the service says of itself, after a check, a run and a second one."""
    assert changed(playbook(PLAYBOOK, "--check", "--diff", inventory=inventory)) > 0
    assert not control.file(CUSTODY).exists
    assert changed(playbook(PLAYBOOK, inventory=inventory)) > 0
    assert changed(playbook(PLAYBOOK, inventory=inventory)) == 0
    return t.cast(dict[str, t.Any], json.loads(control.check_output(f"{CUSTODY} status")))


def test_it_says_what_to_trust_and_believes_what_was_looked_at(
    playbook: Playbook, control: t.Any, inventory: pathlib.Path, status: dict[str, t.Any]
) -> None:
    production = status["inventories"]["production"]
    assert production["authority"].startswith("ssh-ed25519 ")
    assert production["protected"] is True and production["adopted"] == ""
    terms = {"production": {"gate": GATE, "terms": "sha256:" + "0" * 64}}
    run = playbook(PLAYBOOK, inventory=inventory, control_node_inventories=terms)
    assert run.returncode != 0
    assert "Policy and signers of production are not those that somebody has looked at" in " ".join(run.stdout.split())
    terms["production"]["terms"] = production["terms"]
    assert changed(playbook(PLAYBOOK, inventory=inventory, control_node_inventories=terms)) == 1
    known = json.loads(control.check_output(f"{CUSTODY} status"))["inventories"]["production"]
    assert known["adopted"] == production["terms"]


def test_operators_reach_the_socket_and_nothing_else(control: t.Any, status: dict[str, t.Any]) -> None:
    as_alice = control.run(f"runuser -u alice -- {CUSTODY} status")
    assert json.loads(as_alice.stdout)["origin"] == status["origin"]
    assert "said by root" in control.run(f"runuser -u alice -- {CUSTODY} adopt production").stderr
    assert "Permission denied" in control.run(f"runuser -u mallory -- {CUSTODY} status").stderr
    for path in ("/var/lib/flowaudit/custody/trail/trail.sqlite3", "/var/lib/flowaudit/custody/ca/production"):
        assert "Permission denied" in control.run("runuser -u alice -- cat %s", path).stderr
    assert "Permission denied" in control.run("runuser -u alice -- cat /etc/flowaudit/custody.yml").stderr
    # What the service runs is root's to write.
    written = control.check_output(
        "find /usr/local/lib/flowaudit -not -type l ( -not -user root -o -perm /022 )".replace("(", r"\(").replace(
            ")", r"\)"
        )
    )
    assert written == ""


def test_the_service_is_shut_in(control: t.Any, status: dict[str, t.Any]) -> None:
    assert status["size"] > 0
    show = control.check_output("systemctl show flowaudit-custody.service")
    settings = dict(line.split("=", 1) for line in show.splitlines() if "=" in line)
    assert settings["ActiveState"] == "active" and settings["User"] == "flowaudit"
    pid = settings["MainPID"]
    limits = control.file(f"/proc/{pid}/status").content_string
    assert re.search(r"^NoNewPrivs:\s+1$", limits, re.M)
    assert re.search(r"^CapEff:\s+0+$", limits, re.M)
    # No interface but its own loopback.
    interfaces = control.file(f"/proc/{pid}/net/dev").content_string.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    exposure = control.check_output("systemd-analyze security --no-pager flowaudit-custody.service | tail -1")
    assert float(re.search(r"([0-9.]+) (SAFE|OK|MEDIUM|EXPOSED|UNSAFE)", exposure)[1]) < 3, exposure  # type: ignore[index]


def test_it_comes_back_and_does_its_duties(control: t.Any, status: dict[str, t.Any]) -> None:
    assert status["origin"]
    control.check_output("systemctl kill --signal=KILL flowaudit-custody.service")
    assert json.loads(control.check_output(f"{CUSTODY} status"))["origin"] == status["origin"]
    for timer in ("flowaudit-anchor", "flowaudit-reviews"):
        assert control.service(f"{timer}.timer").is_running and control.service(f"{timer}.timer").is_enabled
        control.check_output(f"systemctl start {timer}.service")
    assert control.service("flowaudit-custody.socket").is_enabled


# Takes messages on the control node itself.
CHAT = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        open("/tmp/alarms", "a").write(body["text"] + "\\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8099), Handler).serve_forever()
"""


@pytest.mark.campaign
def test_it_sees_who_logs_in_to_a_host(
    playbook: Playbook,
    control: t.Any,
    nuc: t.Any,
    inventory: pathlib.Path,
    status: dict[str, t.Any],
    ports: dict[str, int],
    tmp_path: pathlib.Path,
) -> None:
    """The journal and the sshd of a host with systemd; what is told of it and what not."""

    def ssh(key: pathlib.Path, account: str, *words: str) -> subprocess.CompletedProcess[str]:
        options = [
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            f"UserKnownHostsFile={STATE}/ssh/known_hosts",
        ]
        command = ["ssh", "-F", "none", *options, "-i", str(key), "-p", str(ports["nuc_22"]), f"{account}@127.0.0.1"]
        return subprocess.run([*command, *words], capture_output=True, text=True, check=False)

    def alarm(text: str) -> str:
        return str(wait_until(lambda: text in control.check_output("cat /tmp/alarms || true"), 60, text))

    def of_this_login() -> int:
        return int(control.check_output("grep -c 'with a key or a password' /tmp/alarms || true"))

    printed = control.check_output(f"{CUSTODY} seal production --account ops 2>&1")
    key = tmp_path / "break-glass"
    key.write_text(re.search(r"-----BEGIN.*-----END OPENSSH PRIVATE KEY-----\n", printed, re.S)[0])  # type: ignore[index]
    key.chmod(0o600)
    (tmp_path / "break-glass-cert.pub").write_text(re.search(r"^ssh-ed25519-cert.*$", printed, re.M)[0])  # type: ignore[index]
    words = re.search(r"^   ((?:[a-z0-9]{5}-){5}[a-z0-9]{5})$", printed, re.M)[1]  # type: ignore[index]
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", words, "-N", "", "-f", str(key)], check=True)
    seal = re.search(r"break-glass:[0-9a-f]{8}", printed)[0]  # type: ignore[index]

    trusted = {
        "host_access_user_ca": status["inventories"]["production"]["authority"],
        "host_access_break_glass": [seal],
    }
    host_key = " ".join(nuc.check_output("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    watched = {"demo_nuc": {"address": "nuc", "key": host_key}}
    watching = {
        "control_node_inventories": {"production": {"gate": GATE, "hosts": watched}},
        "control_node_alarm_url": "http://127.0.0.1:8099/",
    }
    control.check_output("rm -f /tmp/alarms; printf %%s %s > /tmp/chat.py", CHAT)
    control.check_output("systemd-run --collect --unit=flowaudit-chat python3 /tmp/chat.py")
    try:
        run = playbook("flowaudit.ops.site", "--tags=host_access", **trusted)
        assert run.returncode == 0, run.stdout[-3000:]
        run = playbook("flowaudit.ops.site", "--tags=host_access", **trusted)
        assert run.returncode == 0 and re.search(r"^demo_nuc +: .*changed=0", run.stdout, re.M), run.stdout[-3000:]
        assert changed(playbook(PLAYBOOK, inventory=inventory, **watching)) > 0
        assert changed(playbook(PLAYBOOK, inventory=inventory, **watching)) == 0
        assert control.service("flowaudit-watch.service").is_running
        wait_until(lambda: nuc.run("pgrep -u flowaudit-watch journalctl").rc == 0, 30, "The host is watched")

        # The run above has logged in by key.
        assert ssh(STATE / "ssh" / "id_ed25519", "ops", "true").returncode == 0
        alarm("Somebody logged in to demo_nuc (production)")
        assert ssh(key, "ops", "true").returncode == 0
        alarm(f"the sealed credential {seal.partition(':')[2]} was used on demo_nuc (production)")
        # An account without privileges calls its own line sshd's.
        before = of_this_login()
        line = "Accepted password for root from 203.0.113.9 port 1 ssh2"
        nuc.check_output("runuser -u nobody -- logger --tag sshd %s", line)
        nuc.check_output("runuser -u nobody -- logger --tag sshd-session %s", line)
        nuc.check_output("logger --tag sshd %s", "Accepted password for ops from 203.0.113.9 port 1 ssh2")
        wait_until(lambda: of_this_login() == before + 1, 60, "Root's line, and no other")
        # The account for it runs its command, and nothing else.
        assert ssh(key, "flowaudit-watch", "true").returncode == 255
        place = control.check_output("cat /var/lib/flowaudit/custody/watch/production/demo_nuc.cursor")
        assert place.startswith("s=")
        exposure = control.check_output("systemd-analyze security --no-pager flowaudit-watch.service | tail -1")
        assert float(re.search(r"([0-9.]+) (SAFE|OK|MEDIUM|EXPOSED|UNSAFE)", exposure)[1]) < 3, exposure  # type: ignore[index]
    finally:
        control.run("systemctl disable --now flowaudit-watch.service; systemctl stop flowaudit-chat")
        run = playbook("flowaudit.ops.site", "--tags=host_access")
        assert run.returncode == 0, run.stdout[-3000:]
    assert ssh(key, "ops", "true").returncode == 255
    assert nuc.run("getent passwd flowaudit-watch").rc != 0
    assert nuc.check_output("ls /etc/ssh | grep flowaudit_ || true") == ""


REFUSED: list[tuple[dict[str, t.Any], str]] = [
    ({"control_node_inventories": {}}, "control_node_inventories is empty;"),
    (
        {"control_node_inventories": {"a": {"gate": "gate.yml"}}},
        'control_node_inventories has "a", which is not a name',
    ),
    ({"control_node_inventories": {"a": {"gate": "/none/gate.yml"}}}, "/none/gate.yml is not there on control;"),
    (
        {"control_node_inventories": {"a": {"gate": "/a/gate.yml", "hosts": {"h1": {"key": "x"}}}}},
        'The hosts of control_node_inventories have "h1", which is not a name with key',
    ),
    ({"control_node_alarm_url": "chat"}, "control_node_alarm_url is no URL;"),
    ({"control_node_operators": ["root"]}, 'control_node_operators has "root", which is no person\'s account'),
    ({"control_node_operators": ["ghost"]}, 'control_node_operators has "ghost", which is no person\'s account'),
    (
        {"control_node_group": "flowaudit-operators"},
        "control_node_group is flowaudit-operators, whose members the role host_access lets log in;",
    ),
    ({"control_node_maximum_validity": 5}, "control_node_maximum_validity is 5; give seconds"),
]


def test_wrong_input_is_refused_in_one_sentence(
    playbook: Playbook, control: t.Any, inventory: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """All in one run, which changes nothing."""
    role = {"name": "flowaudit.ops.control_node", "tasks_from": "preflight"}
    tasks = [
        {
            "block": [{"ansible.builtin.include_role": role, "vars": variables}],
            "rescue": [{"ansible.builtin.debug": {"msg": "refused: {{ ansible_failed_result.msg }}"}}],
        }
        for variables, _sentence in REFUSED
    ]
    path = tmp_path / "refuse.yml"
    path.write_text(yaml.safe_dump([{"hosts": "control_node", "become": True, "tasks": tasks}]))
    run = playbook(str(path), inventory=inventory)
    assert changed(run) == 0
    told = " ".join(run.stdout.replace("''", "'").split())
    assert told.count("refused: ") == len(REFUSED)
    for _variables, sentence in REFUSED:
        assert f"refused: {sentence}" in told
