# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an OpenID provider says of itself: its discovery document (OpenID Connect Discovery 1.0). Pure: no I/O."""

from __future__ import annotations

import json
import re
import typing as t
import urllib.parse
from collections.abc import Mapping

from .errors import FlowauditError
from .https import split

_WELL_KNOWN = "/.well-known/openid-configuration"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")

# Member → whether a provider must have it. Section 3 leaves the token endpoint out for providers of the implicit flow
# alone, which are of no use here.
_ENDPOINTS = {
    "authorization_endpoint": True,
    "token_endpoint": True,
    "jwks_uri": True,
    "userinfo_endpoint": False,
    "end_session_endpoint": False,
}
_LISTS = {
    "response_types_supported": True,
    "subject_types_supported": True,
    "id_token_signing_alg_values_supported": True,
    "scopes_supported": False,
    "claims_supported": False,
    "grant_types_supported": False,
    "code_challenge_methods_supported": False,
    "token_endpoint_auth_methods_supported": False,
}


def discovery_url(issuer: str) -> str:
    """Where the document of an issuer is (section 4).

    Raises:
        FlowauditError: no issuer can have this address.
    """
    parts = split(issuer, "issuer")
    if parts.scheme != "https":
        raise FlowauditError(f"issuer is '{issuer}'; it must start with https://.")
    if parts.username is not None or "?" in issuer or "#" in issuer or re.search(r"[^\x21-\x7e]", issuer):
        raise FlowauditError(f"issuer is '{issuer}'; it may have a host, a port and a path, and nothing else.")
    return issuer.removesuffix("/") + _WELL_KNOWN


def certificates(pem: str) -> str:
    """The certificates of a PEM text, without what people write between them.

    Raises:
        FlowauditError: there are none.
    """
    found = _CERTIFICATE.findall(pem)
    if not found:
        raise FlowauditError("ca_certificates holds no certificate; give the contents of a PEM file.")
    return "\n".join(found) + "\n"


def parse(issuer: str, url: str, body: bytes) -> dict[str, t.Any]:
    """Read the document found at ``url``; lists it lacks are empty, endpoints it lacks are empty texts.

    Raises:
        FlowauditError: it is no document of this issuer, or none a relying party can work with.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FlowauditError(f"{url} answers with something that is no JSON; is '{issuer}' the issuer?") from error
    if not isinstance(document, Mapping):
        raise FlowauditError(f"{url} answers with JSON that is no object; is '{issuer}' the issuer?")
    _check_issuer(issuer, url, document)
    _check_members(url, document)
    _check_code_flow(url, document)
    return {
        "issuer": document["issuer"],
        **{name: document.get(name) or "" for name in _ENDPOINTS},
        **{name: list(document.get(name) or []) for name in _LISTS},
        "has_end_session": bool(document.get("end_session_endpoint")),
    }


def _check_issuer(issuer: str, url: str, document: Mapping[str, t.Any]) -> None:
    said = document.get("issuer")
    if not isinstance(said, str) or not said:
        raise FlowauditError(f"{url} lacks the member 'issuer', so it is no document of an OpenID provider.")
    if said != issuer:
        hint = " (mind the slash at its end)" if said.rstrip("/") == issuer.rstrip("/") else ""
        shown = " ".join(said.split())[:200]
        raise FlowauditError(
            f"{url} is the document of the issuer '{shown}', not of '{issuer}'; give the former{hint}."
        )


def _check_members(url: str, document: Mapping[str, t.Any]) -> None:
    required = [name for name, is_required in {**_ENDPOINTS, **_LISTS}.items() if is_required]
    lacking = [name for name in required if document.get(name) in (None, "", [])]
    if lacking:
        raise FlowauditError(f"{url} lacks {', '.join(lacking)}, which a provider must name.")
    for name in _ENDPOINTS:
        if document.get(name) not in (None, ""):
            _check_endpoint(url, name, document[name])
    for name in _LISTS:
        value = document.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise FlowauditError(f"{url} names {name} as {json.dumps(value)[:100]}, which is no list of names.")


def _check_endpoint(url: str, name: str, value: t.Any) -> None:
    try:
        parts = urllib.parse.urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme != "https" or not parts.netloc:
        raise FlowauditError(f"{url} names {name} as {json.dumps(value)[:100]}; it must start with https://.")


def _check_code_flow(url: str, document: Mapping[str, t.Any]) -> None:
    responses = document["response_types_supported"]
    # A provider that names no grants has this one.
    grants = document.get("grant_types_supported") or ["authorization_code"]
    for what, offered, needed in (("response", responses, "code"), ("grant", grants, "authorization_code")):
        if needed not in offered:
            raise FlowauditError(
                f"{url} offers the {what} types {', '.join(offered)} only, but the edge needs {needed} "
                "(the authorization code flow)."
            )
