"""The tests' own OpenID provider does what the tests of the edge rely on; else one of them could pass for nothing."""

from __future__ import annotations

import re
import typing as t
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from playwright.sync_api import Browser, Error, Page, Playwright

from .browser import chromium
from .oidc import HOST, ISSUER, PORT, Account, IdentityProvider, sign_in

pytestmark = [pytest.mark.identity_provider, pytest.mark.campaign]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser nobody has signed in with. In place of the relying party stands an empty answer."""
    with browser.new_context() as context:
        context.route("https://flowaudit.localhost/**", lambda route: route.fulfill(status=200, body="called back"))
        yield context.new_page()


@pytest.fixture(autouse=True)
def _as_it_was(identity_provider: IdentityProvider) -> Iterator[None]:
    before = identity_provider.settings
    yield
    if identity_provider.settings is not before:
        identity_provider.configure()


def callback(page: Page) -> dict[str, str]:
    """What the provider sends back to the relying party."""
    page.wait_for_url("https://flowaudit.localhost/auth/callback?*")
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(page.url).query))


def tokens(provider: IdentityProvider, page: Page, account: Account) -> dict[str, t.Any]:
    client = provider.clients["flowaudit"]
    page.goto(provider.authorization_url(client, state="a-state", nonce="a-nonce"))
    sign_in(page, account)
    answer = provider.exchange(client, callback(page)["code"])
    assert answer.status == 200, answer.body
    return answer.json


@pytest.mark.parametrize("role", ["user", "trainer", "admin"])
def test_someone_signs_in_and_the_token_says_who(identity_provider: IdentityProvider, page: Page, role: str) -> None:
    client = identity_provider.clients["flowaudit"]
    page.goto(identity_provider.authorization_url(client, state="a-state", nonce="a-nonce"))
    sign_in(page, identity_provider.accounts[role])
    answer = callback(page)
    assert answer["state"] == "a-state"
    granted = identity_provider.exchange(client, answer["code"])
    assert granted.status == 200
    claims = identity_provider.claims(granted.json["id_token"])
    assert claims["iss"] == identity_provider.metadata()["issuer"] == ISSUER
    assert claims["aud"] == ["flowaudit"]
    assert claims["nonce"] == "a-nonce"
    assert claims["email"] == f"{role}@flowaudit.example"
    assert claims["groups"] == [role]
    assert claims["exp"] - claims["iat"] == 300
    # A code is good for one exchange.
    assert identity_provider.exchange(client, answer["code"]).status == 400


def test_a_wrong_password_is_refused(identity_provider: IdentityProvider, page: Page) -> None:
    page.goto(identity_provider.authorization_url(identity_provider.clients["flowaudit"]))
    sign_in(page, identity_provider.accounts["user"], password="not the password")
    page.locator(".message-negative").wait_for()
    assert page.url.startswith(ISSUER)


def test_a_strange_redirect_is_refused(identity_provider: IdentityProvider, page: Page) -> None:
    client = identity_provider.clients["flowaudit"]
    page.goto(identity_provider.authorization_url(client, redirect_uri="https://flowaudit.localhost/elsewhere"))
    sign_in(page, identity_provider.accounts["user"])
    page.locator(".message-negative").wait_for()
    assert page.url.startswith(ISSUER)


def test_a_refresh_brings_a_new_token(identity_provider: IdentityProvider, page: Page) -> None:
    first = tokens(identity_provider, page, identity_provider.accounts["user"])
    answer = identity_provider.refresh(identity_provider.clients["flowaudit"], first["refresh_token"])
    assert answer.status == 200
    assert answer.json["access_token"] != first["access_token"]
    assert identity_provider.claims(answer.json["id_token"])["sub"] == "user@flowaudit.example"
    # Another client cannot use it, and who is signed out at the provider gets nothing more.
    assert identity_provider.refresh(identity_provider.clients["other"], first["refresh_token"]).status == 400
    identity_provider.forget_sessions()
    assert identity_provider.refresh(identity_provider.clients["flowaudit"], first["refresh_token"]).status == 400


def test_lifetimes_and_claims_are_what_a_test_says(identity_provider: IdentityProvider, page: Page) -> None:
    identity_provider.configure(token_seconds=7, false_claims={"aud": ["other"], "nonce": None})
    granted = tokens(identity_provider, page, identity_provider.accounts["user"])
    claims = identity_provider.claims(granted["id_token"])
    assert claims["aud"] == ["other"]
    assert "nonce" not in claims
    assert claims["exp"] - claims["iat"] == granted["expires_in"] == 7


def test_the_issuer_changes_and_the_address_stays(identity_provider: IdentityProvider) -> None:
    identity_provider.configure(issuer="https://elsewhere.example")
    assert identity_provider.metadata()["issuer"] == "https://elsewhere.example"


def test_keys_are_rotated(identity_provider: IdentityProvider, page: Page) -> None:
    token = tokens(identity_provider, page, identity_provider.accounts["user"])["id_token"]
    identity_provider.rotate_key()
    assert len(identity_provider.published_keys()) == 2
    assert identity_provider.claims(token)["sub"] == "user@flowaudit.example"
    identity_provider.rotate_key(keep_old=False)
    with pytest.raises((KeyError, InvalidSignature)):
        identity_provider.claims(token)


def test_the_browser_trusts_what_it_was_told_to(
    browser: Browser, playwright: Playwright, identity_provider: IdentityProvider, tmp_path: Path
) -> None:
    with browser.new_context() as context:
        portal = context.new_page().goto("https://flowaudit.localhost/api/health")
        assert portal is not None and portal.ok
    found = {f"{HOST}:{PORT}": f"127.0.0.1:{identity_provider.port}"}
    with (
        chromium(playwright, tmp_path, addresses=found) as stranger,
        stranger.new_context() as context,
        pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"),
    ):
        context.new_page().goto(ISSUER)


def test_signing_out_leads_back(identity_provider: IdentityProvider, page: Page) -> None:
    client = identity_provider.clients["flowaudit"]
    token = tokens(identity_provider, page, identity_provider.accounts["user"])["id_token"]
    query = {"id_token_hint": token, "post_logout_redirect_uri": client.signed_out_uris[0]}
    page.goto(f"{identity_provider.metadata()['end_session_endpoint']}?{urllib.parse.urlencode(query)}")
    page.wait_for_url(re.compile(re.escape(client.signed_out_uris[0])))
    page.goto(identity_provider.authorization_url(client))
    assert page.locator("#passwordfield").is_visible()
