"""The production mode: a person signs in at a real provider, in a real browser, and what is false is refused."""

from __future__ import annotations

import json
import secrets
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from ..browser import axe
from ..conftest import DOMAIN, Load, Portal, wait_until
from ..oidc import ISSUER, IdentityProvider, sign_in

pytestmark = pytest.mark.edge


@pytest.fixture(scope="module")
def url(ports: dict[str, int]) -> str:
    return f"https://{DOMAIN}:{ports['nuc_443']}"


@pytest.fixture(scope="module")
def production(edge: Callable[..., t.Any], identity_provider: IdentityProvider, portal: Portal) -> dict[str, t.Any]:
    """The edge in production mode, and its variables; health is asked all the time while it changes."""
    given = {
        "edge_access_mode": "production",
        "edge_oidc_issuer": ISSUER,
        "edge_oidc_client_id": "flowaudit",
        "edge_oidc_role_claim": "groups",
        "edge_oidc_ca_bundle": str(identity_provider.ca),
        "edge_secrets": {
            "oidc_client_secret": identity_provider.clients["flowaudit"].secret,
            "oidc_session_key": secrets.token_hex(32),
        },
    }
    with Load(portal, "/api/health") as load:
        result = edge(**given)
    assert result.returncode == 0, result.stdout
    assert load.failures == []
    assert not any(secret in result.stdout for secret in given["edge_secrets"].values())
    return given


@pytest.fixture
def context(production: t.Any, browser: Browser, identity_provider: IdentityProvider) -> Iterator[BrowserContext]:
    """A browser nobody has signed in with, and a provider as it was."""
    if identity_provider.settings is not identity_provider.defaults:
        identity_provider.configure()
    with browser.new_context() as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def enter(page: Page, provider: IdentityProvider, role: str, address: str) -> None:
    """Ask for a page, sign in at the provider, come back to it."""
    page.goto(address)
    assert page.url.startswith(ISSUER)
    sign_in(page, provider.accounts[role])
    page.wait_for_url(lambda where: not where.startswith(ISSUER))


def seen(page: Page, url: str, path: str = "/probe/x") -> t.Any:
    """What reaches the application from this browser: headers, or the status that kept it out."""
    # Asked from the page: only the browser knows where the portal is.
    program = """async ([address, headers]) => {
        const answer = await fetch(address, {headers: headers});
        return [answer.status, await answer.text()];
    }"""
    forged = {"X-Role": "admin", "X-Auth-User": "mallory"}
    status, body = page.evaluate(program, [url + path, {"Accept": "application/json", **forged}])
    return {name.lower(): value for name, value in json.loads(body)["headers"]} if status == 200 else status


def test_a_trainer_signs_in_is_refused_the_admin_page_and_signs_out(
    page: Page, context: BrowserContext, identity_provider: IdentityProvider, url: str
) -> None:
    enter(page, identity_provider, "trainer", f"{url}/")
    assert page.url == f"{url}/"
    assert "FlowAudit" in page.content()
    told = seen(page, url)
    assert (told["x-auth-user"], told["x-role"], told["x-auth-roles"]) == (
        "trainer@flowaudit.example",
        "trainer",
        "trainer",
    )
    assert (told["x-auth-email"], told["x-auth-issuer"]) == ("trainer@flowaudit.example", ISSUER)
    cookie = next(cookie for cookie in context.cookies() if cookie["name"] == "__Host-session")
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")

    answer = page.goto(f"{url}/admin")
    assert answer is not None and answer.status == 403
    assert "Keine Berechtigung" in page.content()
    assert axe(page) == []
    assert seen(page, url, "/probe/admin") == 403

    page.goto(f"{url}/auth/logout")
    page.wait_for_url(f"{url}/auth/signed-out")
    assert axe(page) == []
    assert seen(page, url) == 401
    page.locator("a.action").first.click()
    page.wait_for_url(lambda where: where.startswith(ISSUER))


def test_an_admin_comes_back_to_the_page_that_was_asked_for(
    page: Page, identity_provider: IdentityProvider, url: str
) -> None:
    enter(page, identity_provider, "admin", f"{url}/probe/admin?a=1&b=%2Fx")
    assert page.url == f"{url}/probe/admin?a=1&b=%2Fx"
    assert seen(page, url, "/probe/admin")["x-role"] == "admin"


@pytest.mark.parametrize("target", ["//elsewhere.example/", "/\\elsewhere.example", "https://elsewhere.example/", ""])
def test_nobody_is_led_elsewhere(page: Page, identity_provider: IdentityProvider, url: str, target: str) -> None:
    enter(page, identity_provider, "user", f"{url}/auth/login?to={target}")
    assert page.url.startswith(f"{url}/")


def test_a_program_is_not_sent_to_a_sign_in(production: t.Any, portal: Portal) -> None:
    answer = portal.request("/api/documents")
    assert (answer.status, answer.json.keys()) == (401, {"error"})
    assert portal.request("/api/documents", b"{}").status == 401
    person = portal.request("/", Accept="text/html")
    assert person.status == 302
    assert person.headers["Location"].endswith("/auth/login?to=/")
    assert portal.request("/api/health").status == 200


def test_a_session_outlives_its_first_token(page: Page, identity_provider: IdentityProvider, url: str) -> None:
    identity_provider.configure(token_seconds=5)
    enter(page, identity_provider, "user", f"{url}/probe/x")
    time.sleep(7)
    assert seen(page, url)["x-role"] == "user"


@pytest.mark.campaign
def test_whom_the_provider_has_signed_out_passes_no_more(
    page: Page, identity_provider: IdentityProvider, url: str
) -> None:
    identity_provider.configure(token_seconds=5)
    enter(page, identity_provider, "user", f"{url}/probe/x")
    time.sleep(7)
    assert seen(page, url)["x-role"] == "user"
    identity_provider.forget_sessions()
    # A renewed token is not renewed again for 30 seconds.
    time.sleep(32)
    assert [seen(page, url) for _attempt in range(3)] == [401, 401, 401]
    page.goto(f"{url}/probe/x")
    assert page.url.startswith(ISSUER)
    assert page.locator("#userfield").is_visible()


@pytest.mark.parametrize("claims", [
    {"aud": ["other"]},
    {"iss": "https://elsewhere.example"},
    {"exp": 1},
    {"nonce": "another"},
    {"sub": None},
], ids=["audience", "issuer", "expired", "nonce", "nobody"])  # fmt: skip
def test_a_false_token_opens_nothing(
    page: Page, identity_provider: IdentityProvider, url: str, claims: dict[str, t.Any]
) -> None:
    identity_provider.configure(false_claims=claims)
    enter(page, identity_provider, "admin", f"{url}/probe/x")
    assert "/auth/callback" in page.url
    assert seen(page, url) == 401
    assert axe(page) == []


def test_a_key_that_is_not_published_signs_nothing(page: Page, identity_provider: IdentityProvider, url: str) -> None:
    enter(page, identity_provider, "user", f"{url}/probe/x")
    identity_provider.rotate_key(keep_old=False)
    # Who is signed in stays so; who signs in now is believed by the new key, which is looked up.
    assert seen(page, url)["x-role"] == "user"


def test_without_a_role_nobody_passes(page: Page, identity_provider: IdentityProvider, url: str) -> None:
    enter(page, identity_provider, "guest", f"{url}/probe/x")
    assert page.url == f"{url}/probe/x"
    assert "Keine Berechtigung" in page.content()
    assert seen(page, url) == 403


def test_the_secrets_are_in_no_output(production: dict[str, t.Any], nuc: t.Any) -> None:
    inspected = nuc.check_output("docker inspect flowaudit-edge-auth-1; docker logs flowaudit-edge-auth-1 2>&1")
    configured = nuc.check_output("cat /etc/flowaudit/edge/auth/httpd.conf /etc/flowaudit/edge/dynamic/*.yml")
    for secret in production["edge_secrets"].values():
        assert secret not in inspected + configured


# ── What ends, and what stays ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.campaign
def test_a_session_survives_a_restart_and_no_new_key(
    page: Page,
    identity_provider: IdentityProvider,
    url: str,
    docker: Callable[..., str],
    edge: Callable[..., t.Any],
    production: dict[str, t.Any],
) -> None:
    enter(page, identity_provider, "trainer", f"{url}/probe/x")
    docker("restart", "flowaudit-edge-auth-1")
    wait_until(lambda: seen(page, url) not in (500, 502, 503), 30, "the authentication is back")
    assert seen(page, url)["x-role"] == "trainer"

    changed = {**production["edge_secrets"], "oidc_session_key": secrets.token_hex(32)}
    result = edge(**{**production, "edge_secrets": changed})
    assert result.returncode == 0, result.stdout
    assert seen(page, url) == 401


@pytest.mark.campaign
def test_without_a_provider_nothing_of_it_stays(edge: Callable[..., t.Any], production: t.Any, nuc: t.Any) -> None:
    files = "find /etc/flowaudit/edge/auth/secrets /etc/flowaudit/edge/auth/oidc-ca.pem -type f"
    assert len(nuc.check_output(files).split()) == 3
    # The removal is predicted, done, and then no change any more.
    for arguments, removed, left in (("--check",), 3, 3), ((), 3, 0), (("--check",), 0, 0):
        result = edge(*arguments)
        assert result.returncode == 0, result.stdout
        told = result.stdout.split("TASK [flowaudit.ops.edge : Remove what was of the identity provider]")[1]
        assert told.split("TASK [")[0].count("changed: ") == removed
        assert len(nuc.run(files).stdout.split()) == left
