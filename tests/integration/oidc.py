"""A real OpenID provider for the tests: LemonLDAP::NG on the test host `registry`.

molecule/shared/identity_provider.yml installs it, this runs it: an authority's provider as the edge meets it, and with
what an authority's does not allow: other lifetimes, a new signing key or another issuer at any moment, and tokens that
say what is not true.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import json
import secrets
import socket
import sqlite3
import ssl
import subprocess
import time
import typing as t
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from playwright.sync_api import Page

HOST = "idp.flowaudit.example"
PORT = 5556
ISSUER = f"https://{HOST}:{PORT}"

JSON = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Account:
    """Someone who can sign in; ``role`` is what the claim `groups` lists."""

    mail: str
    role: str
    password: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)


@dataclasses.dataclass(frozen=True)
class Client:
    """A relying party the provider knows."""

    name: str
    redirect_uris: tuple[str, ...]
    signed_out_uris: tuple[str, ...] = ()
    secret: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)


class SigningKey:
    def __init__(self) -> None:
        self.name = secrets.token_hex(4)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def private(self) -> str:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    @property
    def public(self) -> str:
        return (
            self._key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a test may want otherwise; see IdentityProvider.configure."""

    issuer: str = ISSUER
    """What the provider calls itself. Its endpoints move along, in the metadata; its address does not."""
    token_seconds: int = 300
    """How long an ID token and an access token are valid."""
    session_seconds: int = 3600
    """How long someone stays signed in at the provider, and for how long tokens can be refreshed."""
    signing_key: SigningKey = dataclasses.field(default_factory=SigningKey)
    retired_key: SigningKey | None = None
    """A key still published, which signs nothing any more."""
    false_claims: Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    """Claims replaced in every ID token before it is signed; None leaves one out."""


@dataclasses.dataclass(frozen=True)
class Response:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> JSON:
        return t.cast(JSON, json.loads(self.body))


class IdentityProvider:
    """The provider: run it, change it, and be its client. ``container`` is the test host it is installed on."""

    def __init__(
        self, container: str, port: int, ca: Path, accounts: Sequence[Account], clients: Sequence[Client]
    ) -> None:
        self.container = container
        self.port = port
        self.ca = ca
        self.accounts = {account.role: account for account in accounts}
        self.clients = {client.name: client for client in clients}
        self.defaults = Settings()
        self.settings = self.defaults

    # ── Run it ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self) -> None:
        """Start it, or start it again, with its settings; whoever is signed in stays so."""
        self._write("accounts.sqlite", self._accounts())
        self._write("lmConf-1.json", json.dumps(self._configuration()).encode())
        self._run("systemctl", "restart", "identity-provider.service")
        deadline = time.monotonic() + 30
        while not self._answers():
            if time.monotonic() > deadline:
                log = self._run("journalctl", "--unit=identity-provider.service", "--lines=12", "--no-pager")
                raise TimeoutError(f"The identity provider does not answer:\n{log.decode()}")
            time.sleep(0.2)

    def stop(self) -> None:
        self._run("systemctl", "stop", "identity-provider.service")

    def configure(self, **changes: t.Any) -> None:
        """Start it again with ``changes`` to its first settings (Settings); without any, with these."""
        self.settings = dataclasses.replace(self.defaults, **changes)
        self.start()

    def rotate_key(self, *, keep_old: bool = True) -> None:
        """Sign with a new key from now on; the old one stays published, or disappears as after a theft."""
        old = self.settings.signing_key
        self.settings = dataclasses.replace(
            self.settings, signing_key=SigningKey(), retired_key=old if keep_old else None
        )
        self.start()

    def forget_sessions(self) -> None:
        """Sign everyone out at the provider."""
        # Where they are, and the copies its processes make of them.
        sessions = ["/var/lib/identity-provider", "/var/cache/lemonldap-ng/lemonldap-ng-sessions"]
        self._run("find", *sessions, "-type", "f", "-delete")

    # ── Be its client ────────────────────────────────────────────────────────────────────────────────────────────────
    def request(
        self, url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """GET ``url``, or POST ``form`` to it, over TLS that only the provider's CA is trusted for."""
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPSConnection(HOST, PORT, timeout=30)
        context = ssl.create_default_context(cafile=str(self.ca))
        connection.sock = context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), timeout=30), server_hostname=HOST
        )
        with contextlib.closing(connection):
            body = urllib.parse.urlencode(form) if form is not None else None
            more = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
            target = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
            connection.request("GET" if body is None else "POST", target, body, {**more, **(headers or {})})
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())

    def metadata(self) -> JSON:
        return self.request(f"{ISSUER}/.well-known/openid-configuration").json

    def authorization_url(self, client: Client, **parameters: str) -> str:
        """Where a relying party sends a browser that shall sign in."""
        query = {
            "response_type": "code",
            "client_id": client.name,
            "redirect_uri": client.redirect_uris[0],
            "scope": "openid profile email",
            **parameters,
        }
        return f"{self.metadata()['authorization_endpoint']}?{urllib.parse.urlencode(query)}"

    def exchange(self, client: Client, code: str) -> Response:
        """The token endpoint's answer to an authorisation code."""
        return self._token(
            client, {"grant_type": "authorization_code", "code": code, "redirect_uri": client.redirect_uris[0]}
        )

    def refresh(self, client: Client, refresh_token: str) -> Response:
        """The token endpoint's answer to a refresh token."""
        return self._token(client, {"grant_type": "refresh_token", "refresh_token": refresh_token})

    def _token(self, client: Client, form: dict[str, str]) -> Response:
        basic = base64.b64encode(f"{client.name}:{client.secret}".encode()).decode()
        return self.request(self.metadata()["token_endpoint"], form, {"Authorization": f"Basic {basic}"})

    def published_keys(self) -> dict[str, rsa.RSAPublicKey]:
        """Name → key of what the provider's JWKS lists."""
        keys = self.request(self.metadata()["jwks_uri"]).json["keys"]
        return {
            key["kid"]: rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"])).public_key()
            for key in keys
            if key["use"] == "sig"
        }

    def claims(self, token: str) -> JSON:
        """What an ID token says; raises InvalidSignature or KeyError unless a published key has signed it."""
        signed, _dot, signature = token.rpartition(".")
        header, payload = (json.loads(_bytes(part)) for part in signed.split("."))
        self.published_keys()[header["kid"]].verify(
            _bytes(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
        )
        return t.cast(JSON, payload)

    # ── How it is told ───────────────────────────────────────────────────────────────────────────────────────────────
    def _answers(self) -> bool:
        try:
            return self.request(f"{ISSUER}/.well-known/openid-configuration").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _run(self, *command: str, content: bytes | None = None) -> bytes:
        return subprocess.run(
            ["docker", "exec", "--interactive", self.container, *command],
            input=content,
            check=True,
            stdout=subprocess.PIPE,
        ).stdout

    def _write(self, name: str, content: bytes) -> None:
        # install makes a file that is never readable by others, and replaces one that is there.
        install = ["install", "--owner=www-data", "--group=www-data", "--mode=0400", "/dev/stdin"]
        self._run(*install, f"/etc/identity-provider/{name}", content=content)

    def _accounts(self) -> bytes:
        with contextlib.closing(sqlite3.connect(":memory:")) as database:
            database.execute("CREATE TABLE accounts (mail TEXT PRIMARY KEY, role TEXT, password TEXT)")
            rows = [(account.mail, account.role, account.password) for account in self.accounts.values()]
            database.executemany("INSERT INTO accounts VALUES (?, ?, ?)", rows)
            database.commit()
            return database.serialize()

    def _configuration(self) -> JSON:
        settings = self.settings
        sessions = {"Directory": "/var/lib/identity-provider", "LockDirectory": "/var/lib/identity-provider"}
        retired = settings.retired_key
        return {
            # It takes no configuration without a number, a date and the version that wrote it.
            "cfgNum": 1,
            "cfgDate": 1,
            "cfgVersion": "2.21.2",
            "portal": f"{ISSUER}/",
            "domain": HOST,
            "cookieName": "identity_provider",
            "securedCookie": 1,
            "timeout": settings.session_seconds,
            "whatToTrace": "mail",
            "locationRules": {HOST: {"default": "accept"}},
            "globalStorage": "Apache::Session::File",
            "globalStorageOptions": sessions,
            "persistentStorage": "Apache::Session::File",
            "persistentStorageOptions": sessions,
            # Accounts. The passwords are made for one run of the tests and protect nothing.
            "authentication": "DBI",
            "userDB": "Same",
            "passwordDB": "Null",
            "registerDB": "Null",
            "dbiAuthChain": "dbi:SQLite:dbname=/etc/identity-provider/accounts.sqlite",
            "dbiAuthTable": "accounts",
            "dbiAuthLoginCol": "mail",
            "dbiAuthPasswordCol": "password",
            "dbiExportedVars": {"mail": "mail", "role": "role"},
            # The login form and nothing else.
            "portalCheckLogins": 0,
            "portalDisplayRegister": 0,
            "portalDisplayResetPassword": 0,
            "captcha_mail_enabled": 0,
            "captcha_register_enabled": 0,
            # OpenID Connect.
            "issuerDBOpenIDConnectActivation": 1,
            "oidcServiceMetaDataIssuer": settings.issuer,
            "oidcServiceAllowAuthorizationCodeFlow": 1,
            "oidcServiceKeyIdSig": settings.signing_key.name,
            "oidcServicePrivateKeySig": settings.signing_key.private,
            "oidcServicePublicKeySig": settings.signing_key.public,
            **(
                {
                    "oidcServiceOldKeyIdSig": retired.name,
                    "oidcServiceOldPrivateKeySig": retired.private,
                    "oidcServiceOldPublicKeySig": retired.public,
                }
                if retired
                else {}
            ),
            # Claims go into every token, whatever scopes were asked for.
            "oidcServiceIgnoreScopeForClaims": 1,
            "oidcRPMetaDataExportedVars": {
                name: {"email": "mail", "groups": "role;string;always"} for name in self.clients
            },
            "oidcRPMetaDataOptions": {
                client.name: {
                    "oidcRPMetaDataOptionsClientID": client.name,
                    "oidcRPMetaDataOptionsClientSecret": client.secret,
                    "oidcRPMetaDataOptionsRedirectUris": " ".join(client.redirect_uris),
                    "oidcRPMetaDataOptionsPostLogoutRedirectUris": " ".join(client.signed_out_uris),
                    "oidcRPMetaDataOptionsBypassConsent": 1,
                    "oidcRPMetaDataOptionsLogoutBypassConfirm": 1,
                    "oidcRPMetaDataOptionsIDTokenSignAlg": "RS256",
                    "oidcRPMetaDataOptionsIDTokenForceClaims": 1,
                    "oidcRPMetaDataOptionsIDTokenExpiration": settings.token_seconds,
                    "oidcRPMetaDataOptionsAccessTokenExpiration": settings.token_seconds,
                    "oidcRPMetaDataOptionsRefreshToken": 1,
                }
                for client in self.clients.values()
            },
            **(
                {
                    "customPlugins": "FalseClaims",
                    "customPluginsParams": {"claims": json.dumps(dict(settings.false_claims))},
                }
                if settings.false_claims
                else {}
            ),
        }


def sign_in(page: Page, account: Account, password: str | None = None) -> None:
    """Fill in the provider's form, which ``page`` shows, and send it."""
    page.locator("#userfield").fill(account.mail)
    page.locator("#passwordfield").fill(account.password if password is None else password)
    page.locator("#lform button[type=submit]").click()


def _bytes(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _number(part: str) -> int:
    return int.from_bytes(_bytes(part), "big")
