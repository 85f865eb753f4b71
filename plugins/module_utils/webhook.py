# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Messages to where people look: JSON by HTTP, from a program that need not have Ansible."""

from __future__ import annotations

import http.client
import json
import typing as t
import urllib.parse
from collections.abc import Mapping

from . import https
from .errors import FlowauditError

_TIMEOUT = 10.0  # seconds


def post(address: str, values: Mapping[str, t.Any], option: str) -> None:
    """Send a message; ``option`` is what the sentence calls the address when it is none.

    Raises:
        FlowauditError: nobody has taken it. The sentence is without the address, which is a secret of most chats.
    """
    url = https.split(address, option)
    connection = https.Connection(url, url.hostname or "", https.trust(url, None), _TIMEOUT)
    path = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
    try:
        connection.request("POST", path, json.dumps(values), {"Content-Type": "application/json"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise FlowauditError(f"Nobody took the message: {error}") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise FlowauditError(f"Nobody took the message: status {status}")
