"""What the edge costs: requests and latencies beside the same address asked from its server directly, all in one run.

`make bench-edge` prints the table for docs/figures.md.
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from ..conftest import DOMAIN
from ..oidc import ISSUER, IdentityProvider, sign_in

pytestmark = pytest.mark.benchmark

CLIENTS = 10
REQUESTS = 3000
# A page from a file, and a call that asks the database.
SERVERS = {"/": "http://flowaudit-blue-frontend:8080", "/api/documents": "http://flowaudit-blue-backend:8000"}
EDGE = f"https://{DOMAIN}:8443"
PLAIN = "/etc/flowaudit/edge/dynamic/bench.yml"


@dataclasses.dataclass(frozen=True)
class Figures:
    """What ab says of one series."""

    rate: float
    median: int
    slowest: int

    @classmethod
    def of(cls, report: str) -> Figures:
        failed = re.findall(r"^(?:Failed requests|Non-2xx responses): +(\d+)", report, re.MULTILINE)
        assert sum(map(int, failed)) == 0, report
        rate = re.search(r"^Requests per second: +([\d.]+)", report, re.MULTILINE)
        percentiles = dict(re.findall(r"^ +(\d+)% +(\d+)", report, re.MULTILINE))
        assert rate is not None, report
        return cls(float(rate[1]), int(percentiles["50"]), int(percentiles["99"]))


@pytest.fixture
def ask(nuc: t.Any) -> Callable[..., Figures]:
    """Ask for an address with ab, which keeps its connections. On the nuc: no outer network is measured."""
    image = nuc.check_output("docker inspect --format '{{.Config.Image}}' flowaudit-edge-auth-1")
    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"

    def run(url: str, requests: int = REQUESTS, **headers: str) -> Figures:
        traefik = nuc.check_output("docker inspect --format %s flowaudit-edge-traefik-1", address)
        network = f"--network flowaudit-edge --add-host {DOMAIN}:{traefik}"
        options = " ".join(f"-H '{name}: {value}'" for name, value in headers.items())
        ab = f"docker run --rm {network} --entrypoint ab {image} -l -q -k -c {CLIENTS} {options}"
        nuc.check_output(f"{ab} -n {max(CLIENTS, requests // 10)} {url}")
        return Figures.of(nuc.check_output(f"{ab} -n {requests} {url}"))

    return run


def test_what_the_edge_costs(
    edge: Callable[..., t.Any],
    playbook: Callable[..., t.Any],
    ask: Callable[..., Figures],
    nuc: t.Any,
    browser: Browser,
    identity_provider: IdentityProvider,
    ports: dict[str, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The same two addresses with everything but the question who calls.
    routers = {
        f"bench{number}": {
            "entryPoints": ["websecure"],
            "rule": f"Host(`{DOMAIN}`) && Path(`{path}`) && Header(`X-Bench`, `plain`)",
            "priority": 950000,
            "middlewares": ["headers", "compress"],
            "service": "frontend" if path == "/" else "backend",
        }
        for number, path in enumerate(SERVERS)
    }
    series: dict[str, dict[str, Figures]] = {path: {} for path in SERVERS}

    def measure(name: str, origin: str = EDGE, requests: int = REQUESTS, **headers: str) -> None:
        for path, server in SERVERS.items():
            series[path][name] = ask(f"{origin or server}{path}", requests, **headers)

    nuc.check_output("echo %s > " + PLAIN, json.dumps({"http": {"routers": routers}}))
    try:
        # The application believes what the edge says of a caller, and without the edge whoever asks.
        measure("the server itself, without TLS", "", **{"X-Role": "user", "X-Auth-User": "bench"})
        measure("through Traefik: TLS, headers; nobody asked who calls", **{"X-Bench": "plain", "X-Role": "user"})
        measure("the edge in demo mode")
    finally:
        nuc.check_output("rm " + PLAIN)

    credentials = tmp_path / "credentials"
    user = {"user_name": "bench", "user_credentials_file": str(credentials)}
    made = {"user_role": "user", "user_token": True, "user_new_password": True}
    added = playbook("flowaudit.ops.manage_users", user_action="add", **user, **made)
    assert added.returncode == 0, added.stdout
    try:
        seminar = edge(edge_access_mode="seminar")
        assert seminar.returncode == 0, seminar.stdout
        given = dict(re.findall(r"^(password|token).*: (.+)$", credentials.read_text(), re.MULTILINE))
        measure("seminar, a token", Authorization=f"Bearer {given['token']}")
        # bcrypt is slow on purpose.
        basic = nuc.check_output("printf %s | base64 -w0", f"bench:{given['password']}")
        measure("seminar, a password", requests=REQUESTS // 20, Authorization=f"Basic {basic}")
    finally:
        playbook("flowaudit.ops.manage_users", user_action="remove", user_name="bench")

    production = edge(
        edge_access_mode="production",
        edge_oidc_issuer=ISSUER,
        edge_oidc_client_id="flowaudit",
        edge_oidc_role_claim="groups",
        edge_oidc_ca_bundle=str(identity_provider.ca),
        edge_secrets={
            "oidc_client_secret": identity_provider.clients["flowaudit"].secret,
            "oidc_session_key": secrets.token_hex(32),
        },
    )
    assert production.returncode == 0, production.stdout
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"https://{DOMAIN}:{ports['nuc_443']}/")
        sign_in(page, identity_provider.accounts["user"])
        page.wait_for_url(lambda where: not where.startswith(ISSUER))
        cookie = next(cookie for cookie in context.cookies() if cookie["name"] == "__Host-session")
        measure("production, a session", Cookie=f"__Host-session={cookie['value']}")

    with capsys.disabled():
        for path, rows in series.items():
            direct, *_edge = rows.values()
            print(f"\n\n| {path} | requests/s | of direct | p50 ms | p99 ms |\n|---|---|---|---|---|")
            for name, row in rows.items():
                print(f"| {name} | {row.rate:.0f} | {row.rate / direct.rate:.1%} | {row.median} | {row.slowest} |")
