# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module asks a real HTTPS server on the loopback interface; what documents say is tested with oidc_metadata."""

from __future__ import annotations

import pathlib
import re
import socket
import time
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.modules import oidc_provider_info
from ansible_collections.flowaudit.ops.tests.unit.plugins.servers import (
    NAME,
    Answer,
    Authority,
    Server,
    make_authority,
    server_context,
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


class Provider(Server):
    """A provider with one realm."""

    def __init__(self, directory: pathlib.Path, authority: Authority) -> None:
        super().__init__(Answer(), context=server_context(directory, authority))
        self.issuer = self.url(NAME, "https", "/realms/one")
        self.document = {
            "issuer": self.issuer,
            "authorization_endpoint": self.issuer + "/auth",
            "token_endpoint": self.issuer + "/token",
            "jwks_uri": self.issuer + "/certs",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        self.answers = [Answer(self.document)]


@pytest.fixture
def provider(authority: Authority, tmp_path: pathlib.Path) -> t.Iterator[Provider]:
    provider = Provider(tmp_path, authority)
    yield provider
    provider.stop()


Ask = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def ask(provider: Provider, authority: Authority, run_module: t.Any) -> Ask:
    """Ask the provider at its real address, with its CA."""

    def ask(**arguments: t.Any) -> dict[str, t.Any]:
        known = {"issuer": provider.issuer, "address": "127.0.0.1", "ca_certificates": authority.path.read_text()}
        result: dict[str, t.Any] = run_module(oidc_provider_info.main, **{**known, **arguments})
        return result

    return ask


def where(provider: Provider) -> str:
    return f"{provider.issuer}/.well-known/openid-configuration at 127.0.0.1"


@pytest.mark.parametrize("check_mode", [False, True])
def test_what_a_provider_says_is_reported(provider: Provider, ask: Ask, check_mode: bool) -> None:
    result = ask(_ansible_check_mode=check_mode)
    assert result["changed"] is False
    assert result["url"] == f"{provider.issuer}/.well-known/openid-configuration"
    assert result["has_end_session"] is False
    assert result | provider.document == result
    [(path, headers)] = provider.requests
    assert path == "/realms/one/.well-known/openid-configuration"
    assert headers["Host"] == f"{NAME}:{provider.port}"
    assert headers["Accept"] == "application/json"
    assert provider.names == [NAME]


def test_without_an_address_the_issuers_host_is_asked(provider: Provider, ask: Ask) -> None:
    issuer = provider.url(scheme="https", path="")
    provider.document["issuer"] = issuer
    assert ask(issuer=issuer, address=None)["issuer"] == issuer


def test_a_document_that_is_wrong_fails_with_its_sentence(provider: Provider, ask: Ask) -> None:
    provider.document["issuer"] += "/"
    result = ask()
    assert result["msg"] == (
        f"{provider.issuer}/.well-known/openid-configuration is the document of the issuer '{provider.issuer}/', "
        f"not of '{provider.issuer}'; give the former (mind the slash at its end)."
    )
    assert result["url"] == f"{provider.issuer}/.well-known/openid-configuration"


# ── the connection ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_certificate_for_another_name_is_not_trusted(provider: Provider, ask: Ask) -> None:
    issuer = provider.url("other.example.org", "https", "")
    assert ask(issuer=issuer)["msg"] == (
        f"{issuer}/.well-known/openid-configuration at 127.0.0.1 has a certificate that is not trusted: "
        "Hostname mismatch, certificate is not valid for 'other.example.org'."
    )
    assert provider.requests == []


@pytest.mark.parametrize("given", ["another", "none", "empty"])
def test_a_certificate_of_an_unknown_authority_is_not_trusted(
    given: str, provider: Provider, ask: Ask, tmp_path: pathlib.Path
) -> None:
    pem = {"another": make_authority(tmp_path).path.read_text(), "none": None, "empty": ""}[given]
    assert re.fullmatch(
        rf"{re.escape(where(provider))} has a certificate that is not trusted: "
        r"(unable to get local issuer certificate|certificate signature failure)\.",
        ask(ca_certificates=pem)["msg"],
    )
    assert provider.requests == []


@pytest.mark.parametrize(
    ("pem", "start"),
    [
        ("no certificate", "ca_certificates holds no certificate; give the contents of a PEM file."),
        (
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "ca_certificates holds a certificate that cannot be read: ",
        ),
    ],
)
def test_ca_certificates_that_are_none_fail_before_anything_is_asked(
    pem: str, start: str, provider: Provider, ask: Ask
) -> None:
    assert ask(ca_certificates=pem)["msg"].startswith(start)
    assert provider.requests == []


def test_a_port_nobody_listens_on_cannot_be_reached(ask: Ask) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        issuer = f"https://{NAME}:{sock.getsockname()[1]}"
        message = ask(issuer=issuer)["msg"]
    assert message.startswith(
        f"{issuer}/.well-known/openid-configuration at 127.0.0.1 cannot be reached: ConnectionRefusedError: "
    )


def test_a_server_that_says_nothing_in_time_cannot_be_reached(provider: Provider, ask: Ask) -> None:
    provider.answers = [Answer(provider.document, before=lambda: provider.stopping.wait(30))]
    start = time.monotonic()
    message = ask(timeout=0.3)["msg"]
    assert time.monotonic() - start < 5
    assert message.startswith(f"{where(provider)} cannot be reached: TimeoutError: ")


def test_an_answer_that_is_cut_off_cannot_be_read(provider: Provider, ask: Ask) -> None:
    provider.answers = [Answer(body=b"10\r\nhalf", headers={"Transfer-Encoding": "chunked"})]
    assert ask()["msg"].startswith(f"{where(provider)} cannot be reached: IncompleteRead: ")


# ── the answer ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [201, 404, 500, 503])
def test_any_other_status_is_named(provider: Provider, ask: Ask, status: int) -> None:
    provider.answers = [Answer(provider.document, status=status)]
    assert ask()["msg"] == f"{where(provider)} answers with HTTP {status}, not with 200; is the issuer right?"


def test_a_redirect_is_not_followed_and_named(provider: Provider, ask: Ask) -> None:
    provider.answers = [Answer(body=b"", status=302, headers={"Location": "/login"})]
    assert ask()["msg"] == f"{where(provider)} answers with HTTP 302 to /login, not with 200; is the issuer right?"
    assert len(provider.requests) == 1


def test_more_than_a_document_is_not_read(provider: Provider, ask: Ask) -> None:
    provider.answers = [Answer({**provider.document, "padding": "x" * 1024 * 1024})]
    assert ask()["msg"] == f"{where(provider)} answers with more than 1024 KiB, which is no discovery document."


# ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (-0.5, "-0.5"), ("nan", "nan"), ("inf", "inf")])
def test_a_time_that_is_none_fails(value: t.Any, shown: str, ask: Ask) -> None:
    assert ask(timeout=value)["msg"] == f"timeout is {shown}; give seconds above 0."


def test_an_issuer_without_tls_fails_before_anything_is_asked(provider: Provider, ask: Ask) -> None:
    result = ask(issuer=f"http://{NAME}")
    assert result["msg"] == f"issuer is 'http://{NAME}'; it must start with https://."
    assert "url" not in result
    assert provider.requests == []
