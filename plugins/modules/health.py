#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: health
short_description: Read an application's health and wait for it
version_added: 0.1.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Reads the health document of an application (status, state and latency of each service it needs, resources).
  - Waits until the application reaches an accepted state, and fails when the deadline passes before it does.
  - Tells V(degraded) (works, but something it needs does not), V(unhealthy) and V(unreachable) apart.
options:
  url:
    description:
      - Address of the health document.
    type: str
    required: true
  address:
    description:
      - IP address or name to connect to instead of the host of O(url).
      - The certificate is still checked against the host of O(url), so a host can ask its own edge before DNS knows it.
    type: str
  ca_path:
    description:
      - File with the certificates to trust, in PEM, on the host the module runs on.
      - Without it, the system's certificates are trusted.
    type: path
  accept:
    description:
      - States that are good enough.
    type: list
    elements: str
    choices: [healthy, degraded, unhealthy, unreachable]
    default: [healthy]
  version:
    description:
      - Release that must answer. Without it, any release will do.
    type: str
  wait:
    description:
      - Seconds to wait for an accepted state; V(0) asks once.
      - The last attempt begins when they are over and may take its O(timeout).
    type: int
    default: 0
  interval:
    description:
      - Seconds between two attempts, above V(0).
    type: float
    default: 1
  timeout:
    description:
      - Seconds of silence, above V(0), after which an attempt is given up as V(unreachable).
    type: float
    default: 10
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.attributes.reads
"""

EXAMPLES = r"""
- name: Wait until the portal is healthy
  flowaudit.ops.health:
    url: https://portal.example.org/api/health
    ca_path: /etc/flowaudit/ca/ca.pem
    wait: 120

- name: Ask this host's own edge which release answers
  flowaudit.ops.health:
    url: https://portal.example.org/api/health
    address: 127.0.0.1
    version: 1.4.0
    accept: [healthy, degraded]
"""

RETURN = r"""
status:
  description: V(healthy), V(degraded), V(unhealthy), or V(unreachable) when no health document came back.
  type: str
  returned: always
  sample: degraded
version:
  description: The release that answered.
  type: str
  returned: always
  sample: 1.4.0
services:
  description: State and latency (milliseconds) of each service the application needs.
  type: dict
  returned: always
  sample: {"db": {"status": "healthy", "latency_ms": 5}}
resources:
  description: Use of processor, memory and disk in percent.
  type: dict
  returned: always
  sample: {"cpu_percent": 45.2, "memory_percent": 62.8, "disk_percent": 34.5}
reason:
  description: Why the status is not healthy; empty when it is.
  type: str
  returned: always
  sample: ollama is unhealthy
waited:
  description: Seconds until the last answer.
  type: float
  returned: always
  sample: 3.2
attempts:
  description: How often the application was asked.
  type: int
  returned: always
  sample: 4
"""

import dataclasses
import http.client
import ssl
import time
import urllib.parse

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import health_document
from ..module_utils.errors import FlowauditError
from ..module_utils.https import Connection, split, trust


def ask(
    url: urllib.parse.SplitResult, address: str | None, context: ssl.SSLContext | None, timeout: float
) -> health_document.Health:
    """One attempt; what goes wrong on the way is a state, not an error."""
    connection = Connection(url, address or url.hostname or "", context, timeout)
    path = url.path or "/"
    try:
        connection.request("GET", f"{path}?{url.query}" if url.query else path, headers={"Accept": "application/json"})
        with connection.getresponse() as response:
            # A health document is small; a server that sends more is not the application.
            return health_document.parse(response.status, response.read(1024 * 1024))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return health_document.unreachable(f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def run(module: AnsibleModule) -> None:
    parameters = module.params
    if not parameters["accept"]:
        raise FlowauditError("accept is empty; name a state that is good enough, such as healthy.")
    for name in ("interval", "timeout"):
        if not 0 < parameters[name] < float("inf"):
            raise FlowauditError(f"{name} is {parameters[name]:g}; give seconds above 0.")
    url = split(parameters["url"])
    context = trust(url, parameters["ca_path"])

    start, attempts = time.monotonic(), 0
    while True:
        health = ask(url, parameters["address"], context, parameters["timeout"])
        attempts += 1
        waited = time.monotonic() - start
        done = health_document.accepted(health, parameters["accept"], parameters["version"] or None)
        if done or waited >= parameters["wait"]:
            break
        time.sleep(min(parameters["interval"], parameters["wait"] - waited))

    result = {**dataclasses.asdict(health), "waited": round(waited, 1), "attempts": attempts}
    if not done:
        wanted = " or ".join(parameters["accept"])
        if parameters["version"]:
            wanted += f" with release {parameters['version']}"
        found = health.status + (f" with release {health.version}" if health.version else "")
        reason = f" ({health.reason})" if health.reason else ""
        module.fail_json(msg=f"{parameters['url']} is {found}{reason} after {waited:.0f} s, not {wanted}.", **result)
    module.exit_json(changed=False, **result)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "address": {"type": "str"},
            "ca_path": {"type": "path"},
            "accept": {
                "type": "list",
                "elements": "str",
                "choices": [*health_document.STATES, "unreachable"],
                "default": ["healthy"],
            },
            "version": {"type": "str"},
            "wait": {"type": "int", "default": 0},
            "interval": {"type": "float", "default": 1},
            "timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    try:
        run(module)
    except FlowauditError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
