# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A syslog server: each checkpoint is a message (RFC 5424), facility 13 (log audit), severity notice.

Syslog knows no acknowledgement. What is proved when ``keep`` returns:

``unix:/dev/log``    the system's own logger has the message; it is only an anchor if it passes it on.
``udp://host:514``   it was sent (RFC 5426), and no "port unreachable" came back at once; it may be lost.
``tcp://host:601``   (RFC 6587, octets counted) the receiver has read to the end of what was sent, or its machine's
                     kernel has, and closed the connection in order; not that the message is on a disk, and not who it
                     was.
``tls://host:6514``  (RFC 5425) the same of a receiver with a certificate for this name. Not every receiver says
                     goodbye in TLS; where one only closes the connection, somebody on the way could have done that.

That a message is in the server's file is seen there: ``read`` finds it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
import termios
import time
import typing as t
import urllib.parse
from collections.abc import Iterable, Iterator

from ...errors import FlowauditError
from .. import checkpoint, entry
from ..verify import Anchor

if t.TYPE_CHECKING:
    import ssl

APP_NAME = "flowaudit-trail"
PORTS = {"udp": 514, "tcp": 601, "tls": 6514}

_PRIORITY = 13 * 8 + 5  # log audit, notice
_SD_ID = "checkpoint@32473"  # the number for documentation (RFC 5612); the project has none of its own
_REFUSAL = 0.2  # seconds in which a machine without a receiver says so over UDP
_BROKEN_OFF = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)

# JSON may have a backslash before a slash.
_CHECKPOINT = re.compile(rf"{APP_NAME} checkpoint of [0-9]+ entries(?:, note=((?:[A-Za-z0-9+=]|\\*/)*))?")


class SyslogServer:
    """Tells a syslog server."""

    name = "syslog"

    def __init__(self, url: str, ca: str = "", certificate: str = "", key: str = "", timeout: float = 10.0) -> None:
        self.url = url
        try:
            parts = urllib.parse.urlsplit(url)
            self.host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise FlowauditError(f"The syslog server is '{url}': {error}.") from error
        self.scheme, self.path = parts.scheme, parts.path
        self.port = port or PORTS.get(self.scheme, 0)
        if self.scheme == "unix":
            well = not parts.netloc and self.path.startswith("/")
        else:
            well = self.scheme in PORTS and bool(self.host) and self.path in ("", "/") and "@" not in parts.netloc
        if not well or parts.query or parts.fragment or port == 0:
            raise FlowauditError(
                f"The syslog server is '{url}'; it must be unix:/path, udp://host:port, tcp://host:port or"
                " tls://host:port."
            )
        self.ca, self.certificate, self.key = ca, certificate, key
        self.timeout = timeout

    def keep(self, signed: str) -> str:
        """Send the checkpoint; returns the URL, and what the way could not tell.

        Raises:
            FlowauditError: the server cannot be reached or trusted, or did not take the message in order.
        """
        import ssl  # takes as long to load as all else of this package together

        content = message(signed, time.time(), socket.gethostname(), os.getpid())
        deadline = _Deadline(self.timeout)
        try:
            if self.scheme == "unix":
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                    sock.settimeout(deadline.left())
                    sock.connect(self.path)
                    sock.send(content)
                return self.url
            if self.scheme == "udp":
                self._send_datagram(content, deadline)
                return f"{self.url} (sent; whether it arrived is not known)"
            said_goodbye = self._send_stream(b"%d %s" % (len(content), content), deadline)
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message.rstrip(".")
            raise FlowauditError(
                f"The certificate of the syslog server {self.url} is not to be trusted: {reason}."
            ) from error
        except TimeoutError as error:
            raise FlowauditError(
                f"The syslog server {self.url} did not answer, or did not close the connection, within"
                f" {self.timeout:g} seconds."
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            if isinstance(error, ssl.SSLEOFError) or error.errno in _BROKEN_OFF:
                reason = "it broke off the connection; its own log says why, which may be that it wants a certificate"
            raise FlowauditError(f"The syslog server {self.url} did not take the checkpoint: {reason}.") from error
        return self.url if said_goodbye else f"{self.url} (the server ended the connection without a TLS goodbye)"

    def _send_datagram(self, content: bytes, deadline: _Deadline) -> None:
        family, kind, protocol, _name, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.connect(address)
            sock.send(content)
            sock.settimeout(min(deadline.left(), _REFUSAL))
            with contextlib.suppress(TimeoutError):
                sock.recv(1)

    def _send_stream(self, frame: bytes, deadline: _Deadline) -> bool:
        """Send and see the connection end in order; returns whether TLS ended in order, too."""
        import ssl

        context = self._context() if self.scheme == "tls" else None
        said_goodbye = True
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(socket.create_connection((self.host, self.port), deadline.left()))
            sock.settimeout(deadline.left())
            if context is None:
                sock.sendall(frame)
            else:
                stream = stack.enter_context(context.wrap_socket(sock, server_hostname=self.host))
                stream.settimeout(deadline.left())
                stream.sendall(frame)
                stream.settimeout(deadline.left())
                try:
                    stream.unwrap()
                except ssl.SSLEOFError:
                    said_goodbye = False
                sock = stack.enter_context(socket.socket(fileno=stream.detach()))
            _see_the_end(sock, deadline)
        return said_goodbye

    def _context(self) -> ssl.SSLContext:
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.ca or None)
        except OSError as error:
            raise FlowauditError(f"{self.ca} holds no certificates to trust: {error}.") from error
        if self.certificate:
            try:
                context.load_cert_chain(self.certificate, self.key or None, password=_no_password)
            except OSError as error:
                raise FlowauditError(
                    f"{self.certificate} holds no certificate and key for the syslog server: {error}."
                ) from error
        return context


def message(signed: str, moment: float, host: str, process: int) -> bytes:
    """A checkpoint as a syslog message.

    The structured data is for those who search; the text has the whole note, because many servers' files keep nothing
    else.
    """
    parsed = checkpoint.parse(signed)
    fields = {
        "origin": parsed.origin,
        "size": str(parsed.size),
        "root": base64.b64encode(parsed.root).decode(),
    }
    data = " ".join(f'{name}="{_escape(value)}"' for name, value in fields.items())
    host = re.sub(r"[^!-~]", "-", host)[:255] or "-"
    header = f"<{_PRIORITY}>1 {entry.timestamp(moment)} {host} {APP_NAME} {process} checkpoint"
    note = base64.b64encode(signed.encode()).decode()
    text = f"{APP_NAME} checkpoint of {parsed.size} entries, note={note}"
    return f"{header} [{_SD_ID} {data}] {text}".encode()


def read(lines: Iterable[str], origin: str = "") -> Iterator[Anchor]:
    """The checkpoints in what a server has written, in whatever format: the text of the message is enough.

    ``origin`` picks those of one log (all, when it is empty). One that is damaged or cut off is handed on whatever
    ``origin`` is, so that it is noticed when it is verified.
    """
    for number, line in enumerate(lines, 1):
        for match in _CHECKPOINT.finditer(line):
            try:
                signed = base64.b64decode((match[1] or "").replace("\\", ""), validate=True).decode()
                if origin and checkpoint.parse(signed).origin != origin:
                    continue
            except (binascii.Error, UnicodeDecodeError, FlowauditError):
                signed = match[0]
            yield Anchor(f"the syslog's line {number}", signed)


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until it; what a socket takes as a timeout, so never 0, which it takes as none at all."""
        return max(self._end - time.monotonic(), 0.001)


def _see_the_end(sock: socket.socket, deadline: _Deadline) -> None:
    """Wait until the other side has ended the connection, and has confirmed every byte that was sent.

    One that does not want us may end it in order before it has read a thing; what it then gets it answers with a reset.
    """
    sock.settimeout(deadline.left())
    sock.shutdown(socket.SHUT_WR)
    if sock.recv(1):
        raise OSError("it answered, which no syslog server does")
    while True:
        unconfirmed = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]  # SIOCOUTQ
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        if not unconfirmed:
            return
        if deadline.left() <= 0.001:
            raise TimeoutError
        time.sleep(0.005)


def _escape(value: str) -> str:
    return re.sub(r'(["\\\]])', r"\\\1", value)


def _no_password() -> t.NoReturn:
    # Otherwise OpenSSL asks at the terminal.
    raise OSError("the key has a password")
