# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Asking a host by its name at an address one chooses, before a name server knows it."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.parse

from .errors import FlowauditError

PORTS = {"http": 80, "https": 443}


class Connection(http.client.HTTPConnection):
    """A connection to ``address`` that keeps the URL's host in the Host header, SNI and the certificate check."""

    def __init__(self, url: urllib.parse.SplitResult, address: str, context: ssl.SSLContext | None, timeout: float):
        self.default_port = PORTS[url.scheme]
        # Given a port, http.client does not look for one in an IPv6 address.
        super().__init__(url.hostname or "", url.port or self.default_port, timeout=timeout)
        self.address = address
        self.context = context

    def connect(self) -> None:
        self.sock = socket.create_connection((self.address, self.port), self.timeout)
        if self.context is not None:
            self.sock = self.context.wrap_socket(self.sock, server_hostname=self.host)


def split(url: str, option: str = "url") -> urllib.parse.SplitResult:
    """The parts of a URL that names a host to ask; ``option`` is what the sentence calls it when it does not."""
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.port == 0:  # which parses it, too
            raise ValueError("Port out of range 1-65535")
    except ValueError as error:
        raise FlowauditError(f"{option} is '{url}': {error}.") from error
    if parts.scheme not in PORTS:
        raise FlowauditError(f"{option} is '{url}'; it must start with https:// or http://.")
    if not parts.hostname:
        raise FlowauditError(f"{option} is '{url}'; it names no host.")
    return parts


def trust(url: urllib.parse.SplitResult, ca_path: str | None) -> ssl.SSLContext | None:
    """What a certificate is checked against; nothing without TLS."""
    if url.scheme != "https":
        return None
    try:
        return ssl.create_default_context(cafile=ca_path)
    except OSError as error:
        raise FlowauditError(f"ca_path is '{ca_path}', which holds no certificates to trust: {error}.") from error
