"""The closed host, looked at from another one: what answers, who gets banned, which changes are noticed."""

from __future__ import annotations

import json
import re
import subprocess
import typing as t
from collections.abc import Callable, Iterator

import pytest

from .conftest import Portal, Refuse, wait_until

pytestmark = pytest.mark.hardening

Playbook = Callable[..., "subprocess.CompletedProcess[str]"]
RULES = "/etc/flowaudit/host/firewall.nft"
EDGE_LOG = "/var/log/flowaudit/edge/access.log"
# A request to the edge by the portal's name, from a host whose name server does not know it.
REQUEST = """import socket, ssl
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
edge = context.wrap_socket(socket.create_connection(("nuc", 443), 5), server_hostname="flowaudit.localhost")
edge.sendall(b"GET /abuse-of-the-edge HTTP/1.1\\r\\nHost: flowaudit.localhost\\r\\nConnection: close\\r\\n\\r\\n")
edge.recv(100)
"""
REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"


def reaches(host: t.Any, port: int, name: str = "nuc") -> bool:
    return bool(host.run("python3 -c %s %s %s", REACH, name, str(port)).rc == 0)


def said(run: subprocess.CompletedProcess[str]) -> str:
    return re.sub(r"\s+", " ", run.stdout)


@pytest.fixture
def published(docker: Callable[..., str]) -> Iterator[None]:
    """A container somebody started by hand, with a port published to everyone."""
    image = docker("inspect", "--format", "{{.Config.Image}}", "flowaudit-blue-backend-1").strip()
    docker("run", "--detach", "--rm", "--name=published", "--publish=9999:9999", "--entrypoint=python3", image,
           *["-m", "http.server", "9999"])  # fmt: skip
    yield
    docker("rm", "--force", "published")


def test_a_port_scan_shows_ssh_and_the_edge_alone(
    nuc: t.Any,
    nas: t.Any,
    docker: Callable[..., str],
    portal: Portal,
    published: None,
    open_ports: Callable[..., t.Any],
) -> None:
    wait_until(lambda: reaches(nuc, 9999, "localhost"), 20, "the container listens")
    assert open_ports() == {22, 80, 443}

    # Without our table the port is there, so it is our table that closes it. It comes back with the bans it had.
    nuc.check_output("nft add element inet flowaudit banned4 '{ 192.0.2.66 timeout 1h }'")
    nuc.check_output("systemctl stop flowaudit-firewall")
    try:
        assert reaches(nas, 9999)
    finally:
        nuc.check_output("systemctl start flowaudit-firewall")
    assert not reaches(nas, 9999)

    # A reload with containers up breaks nothing, in either direction; neither does the engine's own.
    nuc.check_output("systemctl reload flowaudit-firewall && systemctl restart docker")
    assert "192.0.2.66" in nuc.check_output("nft list set inet flowaudit banned4")
    nuc.check_output("nft delete element inet flowaudit banned4 '{ 192.0.2.66 }'")
    wait_until(portal.healthy, 60, "the portal is healthy")
    outside = nuc.check_output("getent ahostsv4 nas").split()[0]
    wait_until(lambda: nuc.run("docker exec published python3 -c %s %s 22", REACH, outside).rc == 0, 30, "a way out")
    assert open_ports() == {22, 80, 443}


def test_a_container_is_no_way_to_the_hosts_sshd(nuc: t.Any, docker: Callable[..., str], published: None) -> None:
    gateway = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}").strip()
    assert nuc.run("docker exec published python3 -c %s %s %s", REACH, gateway, "443").rc == 0
    assert nuc.run("docker exec published python3 -c %s %s %s", REACH, gateway, "22").rc != 0


def test_ipv6_is_closed_too(nuc: t.Any, nas: t.Any, published: None) -> None:
    for host in (nuc, nas):
        host.check_output("sysctl --quiet --write net.ipv6.conf.eth0.disable_ipv6=0")
    try:
        nuc.check_output("systemd-run --quiet --unit=six python3 -m http.server --bind :: 9998")
        address = nuc.check_output("ip -6 -oneline address show dev eth0 scope link").split()[3].split("/")[0]
        wait_until(lambda: reaches(nas, 22, f"{address}%eth0"), 20, "neighbour discovery works")
        wait_until(lambda: ":9998 " in nuc.check_output("ss -Htln"), 20, "somebody listens")
        assert not reaches(nas, 9998, f"{address}%eth0")
        assert not reaches(nas, 9999, f"{address}%eth0")
    finally:
        nuc.run("systemctl stop six")
        for host in (nuc, nas):
            host.check_output("sysctl --quiet --write net.ipv6.conf.eth0.disable_ipv6=1")


def test_rules_that_lock_out_are_taken_back(playbook: Playbook, nuc: t.Any, open_ports: Callable[..., t.Any]) -> None:
    before = nuc.file(RULES).content_string
    run = playbook(
        "flowaudit.ops.site",
        "--tags=host_hardening",
        host_hardening_extra_rules=["tcp dport 22 drop"],
        host_access_proof_seconds=30,
    )
    assert run.returncode != 0
    assert f"The change of firewall ({RULES}) on demo_nuc was taken back, because a fresh login failed" in said(run)
    assert nuc.file(RULES).content_string == before
    assert open_ports("22,80,443") == {22, 80, 443}
    assert not nuc.file("/var/lib/flowaudit/unproved/firewall").exists


def test_the_host_takes_back_what_a_killed_run_left(nuc: t.Any, nas: t.Any) -> None:
    before = nuc.file(RULES).content_string
    apply = "systemctl reload flowaudit-firewall"
    # What a run does before its control node goes away; begun when this login is over, which could not end any more.
    left = (
        f"sleep 2; flowaudit-unproved begin firewall 10 {RULES} {apply}"
        f" && sed -i 's/ct state established,related accept/tcp dport 22 drop/' {RULES} && {apply}"
    )
    nuc.check_output("nohup sh -c %s > /dev/null 2>&1 < /dev/null &", left)
    wait_until(lambda: not reaches(nas, 22), 15, "the rules lock out")
    wait_until(lambda: reaches(nas, 22), 30, "the host takes it back")
    assert nuc.file(RULES).content_string == before
    assert "no fresh login proved it" in nuc.check_output("journalctl --identifier=flowaudit-unproved --lines=1")


@pytest.fixture
def address(nas: t.Any, nuc: t.Any) -> Iterator[str]:
    """The nas's address, which this module's tests abuse; free again afterwards."""
    address = nuc.check_output("getent ahostsv4 nas").split()[0]
    yield address
    nuc.check_output("fail2ban-client unban %s", address)
    assert reaches(nas, 443)


def banned(nuc: t.Any, address: str) -> bool:
    return address in nuc.check_output("nft list set inet flowaudit banned4")


def test_who_guesses_logins_is_banned_from_everything(nuc: t.Any, nas: t.Any, address: str) -> None:
    for _attempt in range(10):
        nas.run("ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o ConnectTimeout=2 intruder@nuc || true")
        if banned(nuc, address):
            break
    wait_until(lambda: banned(nuc, address), 10, "fail2ban bans")
    assert not reaches(nas, 22)
    assert not reaches(nas, 443), "a published container port can still be reached"


def test_who_is_refused_at_the_edge_again_and_again_is_banned(
    nuc: t.Any, nas: t.Any, docker: Callable[..., str], address: str
) -> None:
    # A line Traefik wrote of a request the nas made, with the status a wrong password would have had.
    nas.check_output("python3 -c %s", REQUEST)
    existed = nuc.file(EDGE_LOG).exists

    def request() -> t.Any:
        log = docker("logs", "--since=60s", "flowaudit-edge-traefik-1")
        log += nuc.run("cat %s", EDGE_LOG).stdout
        return re.search(r"^\{.*/abuse-of-the-edge.*\}$", log, re.MULTILINE)

    line = json.loads(wait_until(request, 15, "Traefik logs the request")[0])
    assert line["ClientHost"] == address
    line["DownstreamStatus"] = 401
    text = json.dumps(line, separators=(",", ":"), sort_keys=True)
    nuc.check_output(f"mkdir -p $(dirname {EDGE_LOG}) && touch {EDGE_LOG}")
    try:
        wait_until(lambda: EDGE_LOG in nuc.check_output("fail2ban-client get flowaudit-edge logpath"), 20, "it is read")
        nuc.check_output("for line in $(seq 30); do echo %s; done >> " + EDGE_LOG, text)
        wait_until(lambda: banned(nuc, address), 15, "fail2ban bans")
        assert not reaches(nas, 443)
    finally:
        if not existed:
            nuc.check_output(f"rm {EDGE_LOG} && systemctl stop flowaudit-edge-log.service")


@pytest.mark.campaign
def test_a_changed_file_is_found_and_no_run_of_site_accepts_it(playbook: Playbook, nuc: t.Any) -> None:
    record = nuc.file("/var/lib/flowaudit/aide/record").content_string
    nuc.check_output("echo 'echo owned' > /usr/local/bin/intruder && nft delete table inet flowaudit")
    try:
        # The same run repairs the rules somebody took away.
        run = playbook("flowaudit.ops.site", "--tags=host_hardening")
        assert run.returncode == 0, said(run)[-2000:]
        nuc.check_output("flowaudit-firewall verify")
        assert nuc.file("/var/lib/flowaudit/aide/record").content_string == record

        assert nuc.run("systemctl start flowaudit-aide.service").rc != 0
        assert "/usr/local/bin/intruder" in nuc.check_output(
            "journalctl --identifier=flowaudit-aide-report --lines=500"
        )
        verdict = nuc.check_output("journalctl --identifier=flowaudit-aide --lines=1 --output=cat")
        assert re.match(r"result=differs added=[1-9]\d* removed=\d+ changed=\d+", verdict), verdict

        # Looked at, changed again, accepted: no. Looked at, accepted: yes.
        shown = playbook("flowaudit.ops.accept_file_changes").stdout
        assert "/usr/local/bin/intruder" in shown
        digest = re.search(r"digest=([0-9a-f]{16})", shown)
        assert digest, shown[-2000:]
        nuc.check_output("echo 'echo worse' > /usr/local/bin/intruder")
        refused = nuc.run("flowaudit-aide accept %s test", digest[1])
        assert refused.rc == 1
        assert "The files are not what" in refused.stderr
        nuc.check_output("echo 'echo owned' > /usr/local/bin/intruder")
        run = playbook("flowaudit.ops.accept_file_changes", accept_digest=digest[1], accept_by="tester")
        assert run.returncode == 0, said(run)[-2000:]
        assert nuc.run("systemctl start flowaudit-aide.service").rc == 0

        # Somebody who makes his own baseline is noticed.
        nuc.check_output("sed -i '/intruder/d' /var/lib/flowaudit/aide/baseline.db")
        assert nuc.check_output("flowaudit-aide status") == "it was altered"
        assert nuc.run("systemctl start flowaudit-aide.service").rc != 0
    finally:
        nuc.check_output("rm -f /usr/local/bin/intruder && systemctl reload flowaudit-firewall")
        shown = nuc.check_output("flowaudit-aide compare")
        nuc.check_output("flowaudit-aide accept %s test", shown.rpartition("digest=")[2].strip())
        nuc.run("systemctl start flowaudit-aide.service")


def test_only_security_updates_are_installed_by_themselves(nuc: t.Any) -> None:
    report = nuc.run("unattended-upgrade --dry-run --debug --verbose")
    assert report.rc == 0, report.stderr
    allowed = re.search(r"^Allowed origins are: (.*)$", report.stdout + report.stderr, re.MULTILINE)
    assert allowed
    assert "label=Debian-Security" in allowed[1]
    assert not re.search(r"label=Debian\b(?!-Security)", allowed[1])
    assert "docker" in nuc.check_output("apt-config dump Unattended-Upgrade::Package-Blacklist")
    timer = nuc.check_output("systemctl show --property=TimersCalendar apt-daily-upgrade.timer")
    assert timer.count("OnCalendar=") == 1
    assert "*-*-* 02:00:00" in timer
    assert nuc.run("systemctl is-enabled flowaudit-reboot.timer").stdout.strip() == "disabled"


def test_the_audit_rules_are_there_and_nothing_is_claimed_of_them(nuc: t.Any) -> None:
    rules = nuc.file("/etc/audit/rules.d/50-flowaudit.rules").content_string
    for key in ("identity", "sudo", "sshd", "docker", "time", "files", "privileged"):
        assert f"key=flowaudit-{key}" in rules
    if nuc.run("auditctl -s").rc == 0:
        assert "No change" in nuc.check_output("augenrules --check")
        assert "flowaudit-identity" in nuc.check_output("auditctl -l")
    else:
        assert not nuc.service("auditd").is_running


# Variables → the sentence that refuses them.
REFUSED: list[tuple[dict[str, t.Any], str]] = [
    (
        {"host_hardening_never_ban": ["192.0.2.1/24"]},
        'host_hardening_allowed_sources or host_hardening_never_ban has "192.0.2.1/24", which is no network',
    ),
    ({"host_hardening_allowed_tcp": [22, 70000]}, 'host_hardening_allowed_tcp, .* has "70000", which is no port'),
    (
        {"host_hardening_allowed_tcp": [80, 443]},
        "would lock you out of demo_nuc: you come from .* to port 22; add the port to host_hardening_allowed_tcp",
    ),
    (
        {"host_hardening_allowed_sources": [{"port": 22, "networks": ["192.0.2.0/24"]}]},
        r"would lock you out of demo_nuc: you come from ([\d.]+) to port 22; add \1 to the networks of that port",
    ),
    ({"host_hardening_container_interfaces": ["eth*"]}, "eth0 of demo_nuc leads outside, but host_hardening_container"),
    ({"host_hardening_update_window": "at night"}, "systemd does not understand host_hardening_update_window"),
]


def test_bad_input_is_refused_in_one_sentence(refuse: Refuse) -> None:
    said = refuse([("host_hardening", variables) for variables, _sentence in REFUSED])
    for (_variables, sentence), message in zip(REFUSED, said, strict=True):
        assert re.search(sentence, message), message
