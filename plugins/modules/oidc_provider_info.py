#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: oidc_provider_info
short_description: Read what an OpenID provider says of itself
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Reads the discovery document of an OpenID provider (OpenID Connect Discovery 1.0), as a relying party on this host
    would.
  - Fails when the document cannot be had, is of another issuer, or lacks what the authorization code flow needs. So a
    sign-in that cannot work is known before it is switched on.
options:
  issuer:
    description:
      - The issuer, exactly as the provider writes it. Some end with a slash, most do not.
    type: str
    required: true
  address:
    description:
      - IP address or name to connect to instead of the host of O(issuer).
      - The certificate is still checked against the host of O(issuer).
    type: str
  ca_certificates:
    description:
      - Certificates to trust, in PEM, instead of the system's. What stands between them is ignored.
      - These are the contents of a file, so that the file may lie on the control node.
    type: str
  timeout:
    description:
      - Seconds of silence, above V(0), after which the provider is given up.
    type: float
    default: 10
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.attributes.reads
"""

EXAMPLES = r"""
- name: Ask the identity provider
  flowaudit.ops.oidc_provider_info:
    issuer: https://keycloak.example.org/realms/flowaudit
    ca_certificates: "{{ lookup('ansible.builtin.file', 'files/provider-ca.pem') }}"
  register: provider

- name: Check that it can sign people out
  ansible.builtin.assert:
    that: provider.has_end_session
"""

RETURN = r"""
url:
  description: Address of the document.
  type: str
  returned: once O(issuer) is an address
  sample: https://keycloak.example.org/realms/flowaudit/.well-known/openid-configuration
issuer:
  description: The issuer.
  type: str
  returned: success
  sample: https://keycloak.example.org/realms/flowaudit
authorization_endpoint:
  description: Where people sign in.
  type: str
  returned: success
token_endpoint:
  description: Where a code becomes tokens.
  type: str
  returned: success
jwks_uri:
  description: Where the keys are with which tokens are signed.
  type: str
  returned: success
userinfo_endpoint:
  description: Where the claims of a person are; empty when there is none.
  type: str
  returned: success
end_session_endpoint:
  description: Where people sign out; empty when there is none.
  type: str
  returned: success
has_end_session:
  description: Whether people can be signed out at the provider.
  type: bool
  returned: success
response_types_supported:
  description: What a sign-in can answer.
  type: list
  elements: str
  returned: success
  sample: [code, "code id_token"]
subject_types_supported:
  description: How people are named.
  type: list
  elements: str
  returned: success
  sample: [public]
id_token_signing_alg_values_supported:
  description: How ID tokens are signed.
  type: list
  elements: str
  returned: success
  sample: [RS256]
scopes_supported:
  description: What can be asked for; empty when the provider does not say.
  type: list
  elements: str
  returned: success
  sample: [openid, email, profile]
claims_supported:
  description: What can be known of a person; empty when the provider does not say.
  type: list
  elements: str
  returned: success
grant_types_supported:
  description: Flows; empty when the provider does not say.
  type: list
  elements: str
  returned: success
  sample: [authorization_code, refresh_token]
code_challenge_methods_supported:
  description: Methods of PKCE; empty when the provider does not say.
  type: list
  elements: str
  returned: success
  sample: [S256]
token_endpoint_auth_methods_supported:
  description: How a client proves itself; empty when the provider does not say.
  type: list
  elements: str
  returned: success
  sample: [client_secret_basic]
"""

import http.client
import ssl
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import oidc_metadata
from ..module_utils.errors import FlowauditError
from ..module_utils.https import Connection, split

# Real documents have some 2 to 10 KiB.
LIMIT = 1024 * 1024


def trust(pem: str | None) -> ssl.SSLContext:
    """What the provider's certificate is checked against."""
    try:
        context = ssl.create_default_context(cadata=oidc_metadata.certificates(pem) if pem else None)
    except ssl.SSLError as error:
        raise FlowauditError(f"ca_certificates holds a certificate that cannot be read: {error}.") from error
    # Python 3.13 is stricter than the edge will be, and refuses the CA of many a house.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def fetch(url: str, address: str | None, context: ssl.SSLContext, timeout: float) -> bytes:
    """The document's text."""
    parts = split(url)
    connection = Connection(parts, address or parts.hostname or "", context, timeout)
    where = f" at {address}" if address else ""
    try:
        connection.request("GET", parts.path, headers={"Accept": "application/json"})
        with connection.getresponse() as response:
            body = response.read(LIMIT + 1)
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message.rstrip(".")
        raise FlowauditError(f"{url}{where} has a certificate that is not trusted: {reason}.") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FlowauditError(f"{url}{where} cannot be reached: {type(error).__name__}: {error}.") from error
    finally:
        connection.close()
    if response.status != 200:
        target = response.getheader("Location")
        raise FlowauditError(
            f"{url}{where} answers with HTTP {response.status}{f' to {target}' if target else ''}, not with 200; "
            "is the issuer right?"
        )
    if len(body) > LIMIT:
        raise FlowauditError(
            f"{url}{where} answers with more than {LIMIT // 1024} KiB, which is no discovery document."
        )
    return body


def run(module: AnsibleModule, result: dict[str, t.Any]) -> None:
    parameters = module.params
    if not 0 < parameters["timeout"] < float("inf"):
        raise FlowauditError(f"timeout is {parameters['timeout']:g}; give seconds above 0.")
    issuer = parameters["issuer"]
    result["url"] = oidc_metadata.discovery_url(issuer)
    body = fetch(result["url"], parameters["address"], trust(parameters["ca_certificates"]), parameters["timeout"])
    result |= oidc_metadata.parse(issuer, result["url"], body)
    module.exit_json(changed=False, **result)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "issuer": {"type": "str", "required": True},
            "address": {"type": "str"},
            "ca_certificates": {"type": "str"},
            "timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    result: dict[str, t.Any] = {}
    try:
        run(module, result)
    except FlowauditError as error:
        module.fail_json(msg=str(error), **result)


if __name__ == "__main__":
    main()
