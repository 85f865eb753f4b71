# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Smoke tests: a few requests whose answers say whether a release works."""

from __future__ import annotations

import dataclasses
import http.client
import ssl
import time
import typing as t
import urllib.parse
from collections.abc import Mapping

from ..errors import FlowauditError
from ..https import Connection

_MOST = 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Check:
    """A request and the answer it must get.

    Attributes:
        path: path and query.
        service: the service that is asked directly; empty for tests from outside.
        method, headers, body: of the request.
        status: the answer's status.
        text: what its body must contain, empty for anything.
        seconds: how long the whole answer may take.
    """

    path: str
    service: str = ""
    method: str = "GET"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: str = ""
    status: int = 200
    text: str = ""
    seconds: float = 5.0

    @classmethod
    def of(cls, values: Mapping[str, t.Any]) -> Check:
        """From a module's option, where what is not given is None."""
        given = {name: value for name, value in values.items() if value is not None}
        headers = {**given.pop("headers", {}), **given.pop("secret_headers", {})}
        check = cls(**given, headers={name: str(value) for name, value in headers.items()})
        sent = [check.method, check.path, *headers, *check.headers.values()]
        if not all(part.isascii() and part.isprintable() for part in sent) or " " in check.path:
            raise FlowauditError(
                f"The smoke test of {check.path!r} has something in its path, method or headers that HTTP cannot send; "
                "write other characters in percent-encoding."
            )
        return check


@dataclasses.dataclass(frozen=True)
class Place:
    """Where requests go: a base URL, the address to connect to, and what its certificate is checked against."""

    url: str
    address: str
    context: ssl.SSLContext | None = None


class Answer(t.NamedTuple):
    status: int
    body: bytes
    seconds: float


def ask(place: Place, check: Check) -> Answer:
    """Make the request.

    Raises:
        OSError, http.client.HTTPException: no answer came.
    """
    url = urllib.parse.urlsplit(place.url)
    started = time.monotonic()
    connection = Connection(url, place.address, place.context, check.seconds)
    try:
        connection.request(check.method, check.path, body=check.body.encode() or None, headers=dict(check.headers))
        response = connection.getresponse()
        body = response.read(_MOST)
        return Answer(response.status, body, time.monotonic() - started)
    finally:
        connection.close()


def problem(place: Place, check: Check) -> str:
    """What is wrong with the answer, one clause; empty when nothing is."""
    # Not the query: it may hold a token.
    where = f"{check.method} {place.url.rstrip('/')}{check.path.partition('?')[0]}"
    try:
        answer = ask(place, check)
    except (OSError, http.client.HTTPException) as error:
        return f"{where} got no answer ({type(error).__name__}: {error})"
    if answer.status != check.status:
        return f"{where} answered {answer.status}, not {check.status}"
    if check.text and check.text.encode() not in answer.body:
        return f"{where} answered without the text '{check.text}'"
    if answer.seconds > check.seconds:
        return f"{where} took {answer.seconds:.1f} s, more than {check.seconds:g}"
    return ""


def require(place: Place, check: Check) -> None:
    """Make the request.

    Raises:
        FlowauditError: the answer is not the one it must get.
    """
    found = problem(place, check)
    if found:
        raise FlowauditError(f"The smoke test failed: {found}.")
