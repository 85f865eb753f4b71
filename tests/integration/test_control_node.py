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

from .conftest import STATE

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
