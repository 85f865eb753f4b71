# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The operator's side of custody: asks whether a run may begin, hands its record over, keeps its credential.

The run's key is made here and never leaves this process: it lies in anonymous memory (memfd_create(2)) that is gone
with the process, however it ends. ssh reads it as ``/proc/<pid>/fd/<n>``.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import threading
import typing as t
from collections.abc import Iterator, Sequence

from ..errors import FlowauditError
from ..trail import canonical
from ..trail.commitment import Opening
from ..trail.entry import Draft
from . import protocol
from .protocol import Message, Refused

_PATIENCE = 120.0  # seconds for an answer; judging a run in turn with others takes some


class Custody:
    """A connection to the custody service: one run."""

    def __init__(self, path: str) -> None:
        """Connect.

        Raises:
            FlowauditError: nobody answers there.
        """
        self._path = path
        self._lock = threading.RLock()
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(_PATIENCE)
        try:
            self._connection.connect(path)
        except OSError as error:
            self._connection.close()
            raise FlowauditError(
                f"The custody of this control node does not answer ({path}: {error.strerror}); see"
                " systemctl status flowaudit-custody.socket."
            ) from error
        # A worker that outlives this process is not the run.
        os.register_at_fork(after_in_child=self._connection.close)
        self.credential: Credential | None = None

    def ask(self, message: Message) -> Message:
        """The answer to a message.

        Raises:
            Refused: no.
            FlowauditError: there is none, or it is an error.
        """
        with self._lock:
            try:
                protocol.send(self._connection, message)
                answer = protocol.receive(self._connection)
            except FlowauditError:
                # What was half sent or half read cannot be told from what comes next.
                self.close()
                raise
        if answer is None:
            raise FlowauditError("The custody service has ended the connection.")
        if "refused" in answer:
            raise Refused(str(answer["refused"]), [tuple(item) for item in answer["refusals"]])
        if "error" in answer:
            raise FlowauditError(str(answer["error"]))
        return answer

    def authorize(self, inventory: str, command: Message, hosts: Sequence[str]) -> Message:
        """Ask whether a command may begin, and for a certificate when it does; see ``Session``.

        Raises:
            Refused: it may not.
            FlowauditError: nobody could be asked.
        """
        credential = Credential()
        answer = self.ask(
            {
                "do": "authorize",
                "inventory": inventory,
                "command": command,
                "inventory_hosts": list(hosts),
                "public_key": credential.public,
            }
        )
        self.credential = credential
        return answer

    def entries_of(self, inventory: str, change_id: str, remember: bool = False) -> list[dict[str, t.Any]]:
        """What the trail has of a change (``history.read``).

        ``remember``: that it was revoked or reviewed counts there from now on, whatever becomes of the files.
        """
        answer = self.ask({"do": "stand", "inventory": inventory, "change_id": change_id, "remember": remember})
        return list(answer["entries"])

    def uses_of(self, inventory: str) -> list[dict[str, str]]:
        """The uses of a sealed credential that wait for a review (``break_glass.Use``).

        What enough persons have signed counts there from now on.
        """
        return list(self.ask({"do": "uses", "inventory": inventory})["uses"])

    def proof_of(self, run: str) -> bytes:
        """The proof of a run on staging (``staging.check``)."""
        return base64.b64decode(self.ask({"do": "prove", "run": run})["proof"])

    def close(self) -> None:
        """End the run's connection."""
        with contextlib.suppress(OSError):
            self._connection.close()


class CustodyLog:
    """The trail behind the socket, for who adds to it."""

    def __init__(self, custody: Custody) -> None:
        self._custody = custody

    def append(self, drafts: Sequence[Draft], openings: Sequence[Opening] = ()) -> range:
        """See ``Sink.append``."""
        parts = list(_parts(drafts, openings))
        first = -1
        try:
            for some_drafts, some_openings in parts:
                answer = self._custody.ask(protocol.entries(some_drafts, some_openings))
                first = int(answer["first"]) if first < 0 else first
                if "certificate" in answer and self._custody.credential is not None:
                    self._custody.credential.certify(str(answer["certificate"]))
        except FlowauditError:
            if first >= 0:
                # A part is recorded: what is sent again would be there twice, so nothing is.
                self._custody.close()
            raise
        return range(first, first + len(drafts))

    def add_checkpoint(self) -> str:
        """See ``Sink.add_checkpoint``."""
        return str(self._custody.ask({"do": "checkpoint"})["note"])

    def size(self) -> int:
        """See ``Sink.size``."""
        return int(self._custody.ask({"do": "checkpoint"})["size"])

    def close(self) -> None:
        """See ``Sink.close``; the connection is the run's and stays."""


def _parts(drafts: Sequence[Draft], openings: Sequence[Opening]) -> Iterator[tuple[Sequence[Draft], Sequence[Opening]]]:
    """Entries and openings in messages that are not too large; each opening with the entries it comes with, or before.

    Entries are below 64 KiB, openings below 400 KB.
    """
    some: list[Opening] = []
    size, begin = 0, 0
    by_commitment = {opening.commitment: opening for opening in openings}
    for number, draft in enumerate(drafts):
        text = canonical.encode(draft)
        mine = [item for commitment, item in list(by_commitment.items()) if commitment.encode() in text]
        for item in mine:
            by_commitment.pop(item.commitment)
        more = len(text) + sum(len(item.value) * 4 // 3 + 200 for item in mine)
        if number > begin and size + more > protocol.LARGEST // 2:
            yield drafts[begin:number], some
            some, size, begin = [], 0, number
        some += mine
        size += more
    yield drafts[begin:], [*some, *by_commitment.values()]


class Credential:
    """A key pair of one run, and its certificate once the run is recorded."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        private = ed25519.Ed25519PrivateKey.generate()
        self.public = (
            private.public_key()
            .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
            .decode("ascii")
        )
        self._key = _memory(
            "flowaudit-key",
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            ),
        )
        self._certificate = _memory("flowaudit-certificate", b"")

    @property
    def key_path(self) -> str:
        """Where ssh reads the private key."""
        return f"/proc/{os.getpid()}/fd/{self._key}"

    @property
    def certificate_path(self) -> str:
        """Where ssh reads the certificate; empty until ``certify``."""
        return f"/proc/{os.getpid()}/fd/{self._certificate}"

    def certify(self, certificate: str) -> None:
        """Take the certificate in."""
        os.pwrite(self._certificate, certificate.encode("ascii") + b"\n", 0)

    def close(self) -> None:
        """Forget both."""
        os.close(self._key)
        os.close(self._certificate)


def _memory(name: str, content: bytes) -> int:
    """A file in memory that only this user can read, and that is gone with this process."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    # ssh refuses keys that others can read.
    os.fchmod(descriptor, 0o600)
    os.pwrite(descriptor, content, 0)
    return descriptor


class _Process:
    custody: t.ClassVar[Custody | None] = None


def of_this_process(path: str) -> Custody:
    """The connection of this process: what the gate asked for is what the callback records."""
    if _Process.custody is None:
        _Process.custody = Custody(path)
    return _Process.custody
