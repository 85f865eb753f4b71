# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Two hosts behind HAProxy: one after the other, without a failed request, and no further than the first that fails."""

from __future__ import annotations

import json
import subprocess
import typing as t
from collections.abc import Callable, Iterator

import pytest

from .conftest import CHECKOUT, STATE, Load, Portal, host_by_ssh, wait_until
from .test_releases import DOCUMENTS, TERMS, said

pytestmark = [pytest.mark.releases, pytest.mark.campaign]

INVENTORY = ("-i", str(CHECKOUT / "tests" / "integration" / "rolling"))
CREATE = str(CHECKOUT / "molecule" / "shared" / "create.yml")
#: Of those that the registry's host publishes: that of the identity provider, which is not needed here.
PORT = 5556
HAPROXY = f"""
global
  stats socket /run/haproxy.sock mode 600 level admin
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend users
  bind :{PORT}
  default_backend portal
backend portal
  balance roundrobin
  server demo_nuc nuc:443 check
  server demo_second second:443 check
"""
#: Does what it is told, and keeps what that was.
BALANCER = """#!/bin/sh
echo "set server portal/$2 state $1" | socat - /run/haproxy.sock
echo "$1 $2" >> /tmp/balancer.log
"""

Change = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def change(playbook: Change) -> Change:
    def run(name: str, *arguments: str, **variables: t.Any) -> subprocess.CompletedProcess[str]:
        return playbook(name, *INVENTORY, *arguments, **variables)

    return run


@pytest.fixture(scope="module", autouse=True)
def second(change: Change, playbook: Change, host_container: str) -> Iterator[t.Any]:
    """The second host, provisioned like the first one."""
    container = f"{host_container.removesuffix('-nuc')}-second"
    try:
        for run in (change(CREATE), change("flowaudit.ops.site", "--limit=demo_second")):
            assert run.returncode == 0, run.stdout[-3000:]
        yield host_by_ssh("second", json.loads((STATE / "ports.json").read_text()))
    finally:
        subprocess.run(["docker", "rm", "--force", container], check=False, capture_output=True)
        subprocess.run(["docker", "volume", "rm", f"{container}-docker"], check=False, capture_output=True)
        assert playbook(CREATE).returncode == 0


@pytest.fixture(scope="module")
def balancer(second: t.Any, ports: dict[str, int]) -> Iterator[t.Any]:
    host = host_by_ssh("registry", ports)
    host.check_output("apt-get update -qq && apt-get install -y -qq --no-install-recommends haproxy socat")
    host.check_output("cat > /etc/haproxy/haproxy.cfg <<'END'\n" + HAPROXY + "\nEND")
    host.check_output("cat > /usr/local/bin/balancer <<'END'\n" + BALANCER + "\nEND\nchmod 755 /usr/local/bin/balancer")
    host.check_output("systemctl restart haproxy")
    yield host
    host.check_output("systemctl stop haproxy; rm -f /tmp/balancer.log")


@pytest.fixture(scope="module")
def balanced(balancer: t.Any, tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Portal:
    """The portal, by way of the load balancer; its hosts have a CA each."""
    authorities = tmp_path_factory.mktemp("tls") / "both.pem"
    authorities.write_text("".join((STATE / "tls" / name).read_text() for name in ("ca.pem", "second-ca.pem")))
    portal = Portal({"nuc_443": ports[f"registry_{PORT}"]}, authorities)
    wait_until(portal.healthy, 60, "the portal is healthy")
    return portal


@pytest.fixture
def told(balancer: t.Any) -> Callable[[], list[str]]:
    """What the load balancer has been told in this test."""
    balancer.check_output("rm -f /tmp/balancer.log")
    return lambda: t.cast("list[str]", balancer.check_output("cat /tmp/balancer.log").splitlines())


def releases(*hosts: t.Any) -> list[str]:
    return [json.loads(host.file("/var/lib/flowaudit/current").content_string)["release_id"] for host in hosts]


ALL_IN_TURN = ["drain demo_nuc", "ready demo_nuc", "drain demo_second", "ready demo_second"]


def test_each_host_is_taken_out_changed_and_put_back(
    change: Change, balanced: Portal, told: Callable[[], list[str]], nuc: t.Any, second: t.Any
) -> None:
    with Load(balanced, DOCUMENTS) as clients:
        run = change("flowaudit.ops.deploy", **TERMS, release_id="1.1.0")
    assert run.returncode == 0, run.stdout[-3000:]
    assert releases(nuc, second) == ["1.1.0", "1.1.0"]
    assert told() == ALL_IN_TURN
    assert clients.failures == [] and clients.answers > 100


def test_no_host_follows_one_that_failed(
    change: Change, balanced: Portal, told: Callable[[], list[str]], balancer: t.Any, nuc: t.Any, second: t.Any
) -> None:
    with Load(balanced, DOCUMENTS) as clients:
        run = change("flowaudit.ops.deploy", **TERMS, release_id="1.3.0-broken", accept_interruption=True)
    assert run.returncode != 0 and "1.1.0 serves as before" in said(run), run.stdout[-3000:]
    assert releases(nuc, second) == ["1.1.0", "1.1.0"]
    # It stays out, the other one was not asked.
    assert told() == ["drain demo_nuc"]
    assert "demo_second" not in run.stdout.rpartition("PLAY RECAP")[2]
    # Users who came meanwhile met the other host; one who stayed met the maintenance page at worst.
    assert clients.fresh.failures == [] and clients.fresh.answers > 100


def test_a_rollback_takes_the_same_way(
    change: Change, balanced: Portal, told: Callable[[], list[str]], nuc: t.Any, second: t.Any
) -> None:
    with Load(balanced, DOCUMENTS) as clients:
        run = change("flowaudit.ops.rollback", **TERMS, release_id="1.0.0")
    assert run.returncode == 0, run.stdout[-3000:]
    assert releases(nuc, second) == ["1.0.0", "1.0.0"]
    assert told() == ALL_IN_TURN
    assert clients.failures == []
