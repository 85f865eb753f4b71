# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What goes over the socket: a question and its answer, each a line's worth of canonical JSON behind its length.

One connection is one run. The service believes of the other side only what the kernel says of it (``Peer``).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import errno
import os
import pathlib
import select
import socket
import struct
import time
import typing as t
from collections.abc import Mapping, Sequence

from ..errors import FlowauditError
from ..trail import canonical
from ..trail.commitment import Opening
from ..trail.entry import Draft

LARGEST = 1024 * 1024  # bytes of a message; as Python has it, it may be thirty times that
_LENGTH = struct.Struct(">I")
_CREDENTIALS = struct.Struct("3i")  # ucred of unix(7): pid, uid, gid
_PEER_PIDFD = 77  # SO_PEERPIDFD of Linux, for which Python has no name
_NOBODY = 2**32 - 1  # what the kernel says when nobody has logged in

Message = dict[str, t.Any]


class Refused(FlowauditError):
    """The service says no; ``refusals`` are (code, message, mend) where there is more than one sentence to say."""

    def __init__(self, message: str, refusals: Sequence[tuple[str, str, str]] = ()) -> None:
        super().__init__(message)
        self.refusals = list(refusals)


@dataclasses.dataclass(frozen=True)
class Peer:
    """Who is at the other end, by the kernel's word."""

    pid: int
    uid: int
    login_uid: int | None  # who logged in; it survives sudo and su

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        """The process that connected (SO_PEERCRED)."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _gid = _CREDENTIALS.unpack(raw)
        return cls(pid, uid, _login_uid(connection, pid))


def _login_uid(connection: socket.socket, pid: int) -> int | None:
    """Who logged in; none when nobody did, or when the process is gone, whose number may be another's by now."""
    with contextlib.ExitStack() as opened:
        process = -1
        try:
            process = connection.getsockopt(socket.SOL_SOCKET, _PEER_PIDFD)
            opened.callback(os.close, process)
        except OSError as error:
            # A kernel before Linux 6.5 has the number alone.
            if error.errno != errno.ENOPROTOOPT:
                return None
        try:
            login = int(pathlib.Path(f"/proc/{pid}/loginuid").read_text("ascii"))
        except (OSError, ValueError):
            return None
        # A descriptor of a process becomes readable when it ends, pidfd_open(2).
        if process >= 0 and select.select([process], [], [], 0)[0]:
            return None
    return None if login == _NOBODY else login


def send(connection: socket.socket, message: Mapping[str, t.Any]) -> None:
    """Send a message.

    Raises:
        FlowauditError: it is too large, or the other side is gone.
    """
    content = canonical.encode(dict(message))
    if len(content) > LARGEST:
        raise FlowauditError(f"A message of {len(content)} bytes is too large; {LARGEST} are taken.")
    try:
        connection.sendall(_LENGTH.pack(len(content)) + content)
    except TimeoutError as error:
        raise FlowauditError("The other side does not read.") from error
    except OSError as error:
        raise FlowauditError(f"The other side is gone: {error.strerror}.") from error


def receive(connection: socket.socket, seconds: float | None = None) -> Message | None:
    """The next message; none when the other side has closed the connection between two messages.

    ``seconds`` are for the whole of it, not for each byte.

    Raises:
        FlowauditError: it is no message, too large, or cut off.
    """
    until = None if seconds is None else time.monotonic() + seconds
    head = _exactly(connection, _LENGTH.size, until)
    if not head:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > LARGEST:
        raise FlowauditError(f"A message of {length} bytes is too large; {LARGEST} are taken.")
    content = _exactly(connection, length, until)
    if len(content) < length:
        raise FlowauditError("The other side has ended in the middle of a message.")
    return canonical.decode(content)


def _exactly(connection: socket.socket, length: int, until: float | None) -> bytes:
    """So many bytes; none when there are no more."""
    parts = bytearray()
    while len(parts) < length:
        try:
            if until is not None:
                connection.settimeout(max(until - time.monotonic(), 0.001))
            part = connection.recv(min(length - len(parts), 1 << 20))
        except TimeoutError as error:
            raise FlowauditError("The other side does not answer.") from error
        except OSError as error:
            raise FlowauditError(f"The other side is gone: {error.strerror}.") from error
        if not part:
            if parts:
                raise FlowauditError("The other side has ended in the middle of a message.")
            return b""
        parts += part
    return bytes(parts)


def entries(drafts: Sequence[Draft], openings: Sequence[Opening]) -> Message:
    """Entries to be appended, as a message has them."""
    return {
        "do": "append",
        "drafts": list(drafts),
        "openings": [
            {"kind": item.kind, "salt": item.salt.hex(), "value": base64.b64encode(item.value).decode()}
            for item in openings
        ],
    }


def read_entries(message: Mapping[str, t.Any]) -> tuple[list[Draft], list[Opening]]:
    """The entries of a message.

    Raises:
        FlowauditError: it has none of that form.
    """
    drafts, openings = message.get("drafts"), message.get("openings", [])
    try:
        if not isinstance(drafts, list) or not all(isinstance(draft, dict) for draft in drafts):
            raise TypeError
        read = [
            Opening(_text(item["kind"]), bytes.fromhex(item["salt"]), base64.b64decode(item["value"], validate=True))
            for item in openings
        ]
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise FlowauditError("What is to be recorded has not the form that this version knows.") from error
    return drafts, read


def _text(value: t.Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
