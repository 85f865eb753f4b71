# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The running Chroma, and a copy that is to be proved: by its REST API (v2)."""

from __future__ import annotations

import http.client
import json
import typing as t
import urllib.parse

from ..errors import FlowauditError

PORT = 8000
_SECONDS = 30.0
_TENANT = "/api/v2/tenants/default_tenant/databases"


def counts(address: str, port: int = PORT) -> dict[str, int]:
    """Collection (``database/name``) → how many vectors it has.

    Raises:
        FlowauditError: Chroma does not answer.
    """
    connection = http.client.HTTPConnection(address, port, timeout=_SECONDS)
    try:
        found = {}
        for database in _ask(connection, _TENANT):
            base = f"{_TENANT}/{urllib.parse.quote(database['name'], safe='')}/collections"
            for collection in _ask(connection, base):
                found[f"{database['name']}/{collection['name']}"] = int(
                    _ask(connection, f"{base}/{collection['id']}/count")
                )
        return found
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise FlowauditError(f"Chroma at {address} does not tell its collections: {error}.") from error
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, path: str) -> t.Any:
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise ValueError(f"{path} gave status {answer.status}")
    return json.loads(body)
