"""Who may log in to the host, until when, as what; and that no change of it locks everybody out."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import typing as t
from collections.abc import Callable

import pytest

from .conftest import STATE, Refuse

pytestmark = pytest.mark.hardening

Playbook = Callable[..., "subprocess.CompletedProcess[str]"]
DROP_IN = "/etc/ssh/sshd_config.d/00-flowaudit.conf"


def login(
    ports: dict[str, int],
    user: str,
    *command: str,
    options: tuple[str, ...] = (),
    key: str | None = f"{STATE}/ssh/id_ed25519",
) -> t.Any:
    """A fresh login from the control node with the operator's key, whatever connections there are."""
    ssh = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ControlPath=none", "-o", "IdentitiesOnly=yes"]
    ssh += ["-o", f"UserKnownHostsFile={STATE}/ssh/known_hosts", *(["-i", key] if key else [])]
    ssh += ["-p", str(ports["nuc_22"]), *options, f"{user}@127.0.0.1", *command]
    return subprocess.run(ssh, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False)


@pytest.fixture(scope="module")
def key() -> str:
    return (STATE / "ssh" / "id_ed25519.pub").read_text().strip()


@pytest.fixture(scope="module")
def ops(key: str) -> dict[str, t.Any]:
    """The demo's operator, as its inventory has it."""
    return {"name": "ops", "keys": [key], "sudo": True, "nopasswd": True}


@pytest.mark.campaign
def test_operators_get_what_they_were_given_until_their_day(
    playbook: Playbook, nuc: t.Any, ports: dict[str, int], key: str, ops: dict[str, t.Any]
) -> None:
    limited = {"name": "limited", "keys": [key], "sudo": ["/usr/bin/id"], "nopasswd": True, "expires": "2099-12-31"}
    former = {"name": "former", "keys": [key], "sudo": True, "nopasswd": True, "expires": "2020-01-31"}
    run = playbook("flowaudit.ops.site", "--tags=host_access", host_access_operators=[ops, limited, former])
    assert run.returncode == 0, run.stdout[-2000:]
    try:
        # Least privilege: one command as root, and nothing else.
        assert login(ports, "limited", "sudo -n /usr/bin/id --user").stdout.strip() == "0"
        assert login(ports, "limited", "echo | sudo -S /usr/bin/cat /etc/shadow").returncode != 0
        logged = nuc.check_output("journalctl --identifier=sudo --lines=50 --output=cat")
        assert re.search(r"limited : .*USER=root ; COMMAND=/usr/bin/id --user", logged)
        assert re.search(r"limited : command not allowed ;.*COMMAND=/usr/bin/cat /etc/shadow", logged)

        # Limited in time: the key and the account, each on its own.
        assert login(ports, "former", "true").returncode != 0
        assert nuc.file("/home/former/.ssh/authorized_keys").content_string.startswith('expiry-time="20200131"')
        assert nuc.check_output("getent shadow former").split(":")[7] == "18292"
        assert nuc.check_output("getent shadow limited").split(":")[7] == "47481"

        # A change that lets nobody in, and in the same run the end of two accounts.
        before = nuc.file(DROP_IN).content_string
        run = playbook(
            "flowaudit.ops.site",
            "--tags=host_access",
            host_access_operators=[ops, {"name": "limited", "state": "absent"}, {"name": "former", "state": "absent"}],
            host_access_sshd_settings={"AllowGroups": "nobody"},
            host_access_proof_seconds=30,
        )
        assert run.returncode != 0
        told = " ".join(run.stdout.split())
        assert f"The change of sshd ({DROP_IN}) on demo_nuc was taken back, because a fresh login failed" in told
        assert nuc.file(DROP_IN).content_string == before
        assert login(ports, "ops", "true").returncode == 0
        for name in ("limited", "former"):
            assert login(ports, name, "true").returncode != 0
            assert nuc.run("getent passwd %s", name).rc == 2
    finally:
        nuc.run("userdel --force --remove limited; userdel --force --remove former; rm -rf /home/limited /home/former")
        run = playbook("flowaudit.ops.site", "--tags=host_access")
        assert run.returncode == 0, run.stdout[-2000:]


@pytest.mark.campaign
def test_certificates_of_the_custody_open_their_host_and_keys_nothing(
    playbook: Playbook, nuc: t.Any, ports: dict[str, int], tmp_path: pathlib.Path
) -> None:
    def made(name: str) -> pathlib.Path:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
        return tmp_path / name

    def certified(name: str, principal: str) -> tuple[str, ...]:
        key = made(name)
        sign = ["ssh-keygen", "-q", "-s", str(tmp_path / "ca"), "-I", name, "-n", principal, "-V", "-1m:+1h"]
        subprocess.run([*sign, f"{key}.pub"], check=True)
        return ("-i", str(key), "-o", f"CertificateFile={key}-cert.pub")

    ca = (made("ca").with_suffix(".pub")).read_text().strip()
    own, other = certified("own", "host:demo_nuc"), certified("other", "host:demo_nas")
    # sshd lets an address wait that was refused before, which is all that this test does.
    patient = {"host_access_sshd_settings": {"PerSourcePenalties": "no"}}
    trusted = patient | {"host_access_user_ca": ca}
    closed = trusted | {"host_access_only_certificates": True, "host_access_proof_seconds": 30}
    try:
        run = playbook("flowaudit.ops.site", "--tags=host_access", **trusted)
        assert run.returncode == 0, run.stdout[-2000:]
        without = "-o", "IdentityFile=none"
        assert login(ports, "ops", "true").returncode == 0
        assert login(ports, "ops", "true", options=own, key=None).returncode == 0
        # Another host's, and another account.
        assert login(ports, "ops", "true", options=other, key=None).returncode != 0
        assert login(ports, "root", "true", options=own, key=None).returncode != 0
        assert login(ports, "ops", "true", options=without, key=None).returncode != 0

        # A run by key would lock itself out: taken back. One by certificate closes the door to keys.
        run = playbook("flowaudit.ops.site", "--tags=host_access", **closed)
        assert run.returncode != 0
        assert "was taken back, because a fresh login failed" in " ".join(run.stdout.split())
        assert login(ports, "ops", "true").returncode == 0
        certificate = {"ansible_ssh_private_key_file": own[1], "ansible_ssh_extra_args": f"{own[2]} {own[3]}"}
        run = playbook("flowaudit.ops.site", "--tags=host_access", **closed, **certificate)
        assert run.returncode == 0, run.stdout[-2000:]
        assert login(ports, "ops", "true").returncode != 0
        # Another CA, which did not sign what this run logs in with: taken back, too.
        foreign = (
            closed | certificate | {"host_access_user_ca": (made("foreign").with_suffix(".pub")).read_text().strip()}
        )
        run = playbook("flowaudit.ops.site", "--tags=host_access", **foreign)
        assert run.returncode != 0
        assert "was taken back, because a fresh login failed" in " ".join(run.stdout.split())
        assert login(ports, "ops", "true", options=own, key=None).returncode == 0
    finally:
        if login(ports, "ops", "true").returncode != 0:
            # A run by certificate lets keys in again; one by key then stops to trust the CA.
            reset = {"ansible_ssh_private_key_file": own[1], "ansible_ssh_extra_args": f"{own[2]} {own[3]}"}
            run = playbook("flowaudit.ops.site", "--tags=host_access", **trusted, **reset)
            assert run.returncode == 0, run.stdout[-2000:]
        run = playbook("flowaudit.ops.site", "--tags=host_access")
        assert run.returncode == 0, run.stdout[-2000:]
    assert login(ports, "ops", "true").returncode == 0
    assert login(ports, "ops", "true", options=own, key=None).returncode != 0
    assert nuc.check_output("ls /etc/ssh | grep flowaudit_ || true") == ""
    assert "ID own" in nuc.check_output("journalctl --unit=ssh --lines=500 --output=cat")


def test_nobody_logs_in_as_root_or_with_a_password(nas: t.Any, nuc: t.Any, ports: dict[str, int]) -> None:
    # Root with a key that would be right: refused for being root.
    nuc.check_output("install -d -m 0700 /root/.ssh && cp /home/ops/.ssh/authorized_keys /root/.ssh/authorized_keys")
    try:
        assert "Permission denied (publickey)" in login(ports, "root", "true").stderr
    finally:
        nuc.check_output("rm -r /root/.ssh")
    # What sshd offers before it knows who comes.
    offered = nas.run(
        "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o PreferredAuthentications=none ops@nuc || true"
    ).stderr
    assert "Permission denied (publickey)." in offered
    assert "its use is monitored and logged" in offered


def test_sshd_speaks_the_chosen_algorithms_and_forwards_nothing(nuc: t.Any, ports: dict[str, int]) -> None:
    settings = nuc.check_output("sshd -T").splitlines()
    for line in ("maxauthtries 3", "x11forwarding no", "allowtcpforwarding no", "allowagentforwarding no",
                 "loglevel VERBOSE", "clientalivecountmax 2", "requiredrsasize 3072"):  # fmt: skip
        assert line in settings
    weak = login(ports, "ops", "true", options=("-o", "Ciphers=chacha20-poly1305@openssh.com"))
    assert "no matching cipher found" in weak.stderr
    forwarded = login(ports, "ops", options=("-W", "127.0.0.1:22"))
    assert forwarded.returncode != 0


# Variables → the sentence that refuses them.
REFUSED: list[tuple[dict[str, t.Any], str]] = [
    (
        {"host_access_operators": []},
        "ops, as whom Ansible logs in to demo_nuc, would be locked out: it is no operator;",
    ),
    (
        {"host_access_operators": [{"name": "ops", "keys": ["KEY"], "sudo": True, "expires": "2020-01-31"}]},
        "ops, as whom Ansible logs in to demo_nuc, would be locked out: it is an operator whose access has ended;",
    ),
    (
        {"host_access_operators": [{"name": "ops", "keys": ["KEY"], "sudo": ["/usr/bin/id"]}]},
        "ops, as whom Ansible logs in to demo_nuc, would lose sudo, which Ansible needs; set sudo to true for it",
    ),
    (
        {"host_access_operators": [{"name": "Max Muster", "keys": ["KEY"]}]},
        'host_access_operators has "Max Muster", which is no name for one person\'s account, or is there twice;',
    ),
    (
        {"host_access_operators": [{"name": "max", "keys": ["KEY"]}, {"name": "max", "keys": ["KEY"]}]},
        'host_access_operators has "max", which is no name for one person\'s account, or is there twice;',
    ),
    (
        {"host_access_operators": [{"name": "max", "keys": ["~/.ssh/id_ed25519.pub"]}]},
        "host_access_operators gives max no public SSH key, or something that is none;",
    ),
    (
        {"host_access_operators": [{"name": "max", "keys": ["KEY"], "expires": "31.03.2027"}]},
        'host_access_operators has the expires "31.03.2027", which is no day; write it like 2027-03-31.',
    ),
    (
        {"host_access_user_ca": "~/.ssh/ca.pub"},
        "host_access_user_ca has a line that is no public SSH key;",
    ),
    (
        {"host_access_user_ca": "KEY", "host_access_certificate_account": "root"},
        'host_access_certificate_account is "root", which is no account of host_access_operators;',
    ),
    (
        {"host_access_break_glass": ["break-glass:*"]},
        'host_access_break_glass has "break-glass:*", which is none of what flowaudit-custody seal names,',
    ),
    (
        {"host_access_only_certificates": True},
        "host_access_only_certificates leaves nobody a way in without host_access_user_ca;",
    ),
    (
        {"host_access_operators": [{"name": "max", "keys": ["KEY"], "sudo": "ALL"}]},
        "host_access_operators has a sudo for max that is neither true, false nor a list of command lines;",
    ),
]


def test_bad_input_is_refused_in_one_sentence(refuse: Refuse, key: str) -> None:
    inputs: list[tuple[str, dict[str, t.Any]]] = [
        ("host_access", json.loads(json.dumps(variables).replace("KEY", key))) for variables, _sentence in REFUSED
    ]
    for (_variables, sentence), message in zip(REFUSED, refuse(inputs), strict=True):
        assert sentence in message
