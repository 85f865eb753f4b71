# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils import oidc_metadata
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

ISSUER = "https://keycloak.example.org/realms/flowaudit"
URL = ISSUER + "/.well-known/openid-configuration"
DOCUMENT: dict[str, t.Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": ISSUER + "/auth",
    "token_endpoint": ISSUER + "/token",
    "jwks_uri": ISSUER + "/certs",
    "userinfo_endpoint": ISSUER + "/userinfo",
    "end_session_endpoint": ISSUER + "/logout",
    "response_types_supported": ["code", "code id_token"],
    "subject_types_supported": ["public"],
    "id_token_signing_alg_values_supported": ["RS256"],
    "scopes_supported": ["openid", "email"],
    "claims_supported": ["sub"],
    "grant_types_supported": ["authorization_code", "refresh_token"],
    "code_challenge_methods_supported": ["S256"],
    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
}
REQUIRED = [
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "response_types_supported",
    "subject_types_supported",
    "id_token_signing_alg_values_supported",
]
OPTIONAL = {
    "userinfo_endpoint": "",
    "end_session_endpoint": "",
    "scopes_supported": [],
    "claims_supported": [],
    "grant_types_supported": [],
    "code_challenge_methods_supported": [],
    "token_endpoint_auth_methods_supported": [],
}


def parse(asked: str = ISSUER, **changes: t.Any) -> dict[str, t.Any]:
    body = json.dumps({**DOCUMENT, **changes}).encode()
    result: dict[str, t.Any] = oidc_metadata.parse(asked, URL, body)
    return result


def sentence(asked: str = ISSUER, **changes: t.Any) -> str:
    with pytest.raises(FlowauditError) as error:
        parse(asked, **changes)
    return str(error.value)


# ── where it is ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        (ISSUER, URL),
        # Section 4.1: a slash at the end is removed before the rest is added.
        ("https://example.eu.auth0.com/", "https://example.eu.auth0.com/.well-known/openid-configuration"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/.well-known/openid-configuration"),
    ],
)
def test_the_document_is_below_the_issuer(issuer: str, url: str) -> None:
    assert oidc_metadata.discovery_url(issuer) == url


@pytest.mark.parametrize(
    ("issuer", "rest"),
    [
        ("http://id.example.org", "; it must start with https://."),
        ("id.example.org", "; it must start with https:// or http://."),
        ("", "; it must start with https:// or http://."),
        ("https:///realms", "; it names no host."),
        ("https://id.example.org:0", ": Port out of range 1-65535."),
        ("https://id.example.org?realm=a", "; it may have a host, a port and a path, and nothing else."),
        ("https://id.example.org/#", "; it may have a host, a port and a path, and nothing else."),
        ("https://user@id.example.org", "; it may have a host, a port and a path, and nothing else."),
        ("https://id.example.org/a b", "; it may have a host, a port and a path, and nothing else."),
    ],
)
def test_an_address_no_issuer_can_have_is_refused(issuer: str, rest: str) -> None:
    with pytest.raises(FlowauditError) as error:
        oidc_metadata.discovery_url(issuer)
    assert str(error.value) == f"issuer is '{issuer}'{rest}"


# ── what it says ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_whole_document_comes_back() -> None:
    assert parse(unknown="member") == {**DOCUMENT, "has_end_session": True}


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("value", [None, "absent"])
def test_what_a_provider_may_leave_out_is_empty(name: str, value: t.Any) -> None:
    document = {key: member for key, member in DOCUMENT.items() if key != name}
    if value is None:
        document[name] = None
    result = oidc_metadata.parse(ISSUER, URL, json.dumps(document).encode())
    assert result[name] == OPTIONAL[name]
    assert result["has_end_session"] == (name != "end_session_endpoint")


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, "", []])
def test_what_a_provider_must_name_is_missed(name: str, value: t.Any) -> None:
    assert sentence(**{name: value}) == f"{URL} lacks {name}, which a provider must name."


def test_everything_that_is_missed_is_named_at_once() -> None:
    problem = sentence(**dict.fromkeys(REQUIRED))
    assert problem == f"{URL} lacks {', '.join(REQUIRED)}, which a provider must name."


@pytest.mark.parametrize(
    "name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint"]
)
@pytest.mark.parametrize(
    "value", ["http://id.example.org/x", "/x", "https://", "https://[::1/x", "javascript:alert(1)", 1, ["https://a"]]
)
def test_an_endpoint_without_tls_is_refused(name: str, value: t.Any) -> None:
    assert sentence(**{name: value}) == f"{URL} names {name} as {json.dumps(value)}; it must start with https://."


@pytest.mark.parametrize("value", ["code", {"code": 1}, [1], [["code"]], True])
@pytest.mark.parametrize("name", ["response_types_supported", "scopes_supported"])
def test_a_list_that_is_none_is_refused(name: str, value: t.Any) -> None:
    assert sentence(**{name: value}) == f"{URL} names {name} as {json.dumps(value)}, which is no list of names."


def test_a_long_value_is_cut() -> None:
    assert len(sentence(scopes_supported="x" * 5000)) < 300
    assert len(sentence(issuer="x\n" * 5000)) < 500


def test_a_provider_without_the_code_flow_is_refused() -> None:
    assert sentence(response_types_supported=["id_token", "code id_token"]) == (
        f"{URL} offers the response types id_token, code id_token only, but the edge needs code "
        "(the authorization code flow)."
    )
    assert sentence(grant_types_supported=["implicit"]) == (
        f"{URL} offers the grant types implicit only, but the edge needs authorization_code "
        "(the authorization code flow)."
    )


# ── whose it is ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_document_of_another_issuer_is_refused() -> None:
    other = "https://keycloak.example.org/realms/other"
    assert (
        sentence(issuer=other) == f"{URL} is the document of the issuer '{other}', not of '{ISSUER}'; give the former."
    )


@pytest.mark.parametrize(("asked", "said"), [(ISSUER, ISSUER + "/"), (ISSUER + "/", ISSUER)])
def test_a_slash_at_the_end_makes_another_issuer(asked: str, said: str) -> None:
    assert sentence(asked, issuer=said) == (
        f"{URL} is the document of the issuer '{said}', not of '{asked}'; give the former (mind the slash at its end)."
    )


@pytest.mark.parametrize("value", [None, "", 1, [ISSUER]])
def test_a_document_without_an_issuer_is_none(value: t.Any) -> None:
    assert sentence(issuer=value) == f"{URL} lacks the member 'issuer', so it is no document of an OpenID provider."


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(FlowauditError) as error:
        oidc_metadata.parse(ISSUER, URL, body)
    assert str(error.value) == f"{URL} answers with something that is no JSON; is '{ISSUER}' the issuer?"


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1"])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(FlowauditError) as error:
        oidc_metadata.parse(ISSUER, URL, body)
    assert str(error.value) == f"{URL} answers with JSON that is no object; is '{ISSUER}' the issuer?"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just("https://a/b"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(DOCUMENT)), json_values))
def test_whatever_a_server_answers_it_is_a_document_or_a_sentence(changes: dict[str, t.Any]) -> None:
    try:
        result = parse(**changes)
    except FlowauditError as error:
        assert str(error).startswith(URL)
        assert "\n" not in str(error)
    else:
        assert result["issuer"] == ISSUER
        assert "code" in result["response_types_supported"]


# ── what is trusted ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_people_write_between_certificates_is_left_out() -> None:
    one = "-----BEGIN CERTIFICATE-----\nMIIB\nAA==\n-----END CERTIFICATE-----"
    two = "-----BEGIN CERTIFICATE-----\r\nMIIC\r\n-----END CERTIFICATE-----"
    assert oidc_metadata.certificates(f"# CA für München\n{one}\nsubject=CN\n{two}\n") == f"{one}\n{two}\n"


@pytest.mark.parametrize("pem", ["", "certificate", "/etc/ssl/certs/ca.pem", "-----BEGIN CERTIFICATE-----\nMIIB"])
def test_a_text_without_certificates_is_refused(pem: str) -> None:
    with pytest.raises(FlowauditError, match=r"^ca_certificates holds no certificate; give the contents of a PEM"):
        oidc_metadata.certificates(pem)
