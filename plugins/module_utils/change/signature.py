# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures of persons: SSH signatures over a document, made and checked by ``ssh-keygen`` (PROTOCOL.sshsig).

Who may sign is said by a file of allowed signers (``ssh-keygen(1)``, ALLOWED SIGNERS). Each purpose has a namespace of
its own, so that a signature for one is none for another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterator

from ..errors import FlowauditError
from . import programs

REQUEST = "flowaudit-request@v1"
APPROVAL = "flowaudit-approval@v1"
REVOCATION = "flowaudit-revocation@v1"
REVIEW = "flowaudit-review@v1"
POLICY = "flowaudit-policy@v1"
BREAK_GLASS = "flowaudit-break-glass@v1"

LARGEST = 64 * 1024  # bytes of a signature
_KEPT = ("HOME", "SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY", "WAYLAND_DISPLAY", "TERM")
_TIMEOUT = 60.0  # seconds; a security key waits for a touch
_GOOD = re.compile(r'Good "(?P<namespace>[^"]+)" signature for (?P<principal>\S+) with \S+ key (?P<key>SHA256:\S+)')


@dataclasses.dataclass(frozen=True)
class Signed:
    """Who has signed, and the fingerprint of the key."""

    principal: str
    key: str


def verify(document: bytes, signature: bytes, signers: bytes, principal: str, namespace: str) -> Signed:
    """See that a person has signed a document for a purpose, with a key that is theirs now.

    ``signers`` is the content of a file of allowed signers.

    Raises:
        FlowauditError: they have not, or it cannot be told.
    """
    with _place() as place:
        (place / "signature").write_bytes(signature)
        (place / "signers").write_bytes(signers)
        options = ["-I", principal, "-n", namespace, "-s", str(place / "signature"), "-f", str(place / "signers")]
        done = _run(["-Y", "verify", *options], document)
    told = _GOOD.match(done.stdout.decode("utf-8", "replace"))
    if done.returncode != 0 or told is None or told["namespace"] != namespace or told["principal"] != principal:
        raise FlowauditError(
            f"The signature of {principal} does not count: it is not by a key of theirs, not over this content, or not"
            f" for this purpose ({namespace})."
        )
    return Signed(principal, told["key"])


def sign(document: bytes, key: str, namespace: str) -> bytes:
    """Sign a document; ``key`` is the path of a private key, or of a public one whose private half an agent has.

    Raises:
        FlowauditError: it cannot be signed.
    """
    with _place() as place:
        path = place / "document"
        path.write_bytes(document)
        done = _run(["-Y", "sign", "-f", str(pathlib.Path(key).expanduser()), "-n", namespace, str(path)], b"")
        signature = path.with_suffix(".sig")
        if done.returncode != 0 or not signature.exists():
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise FlowauditError(
                f"{key} cannot sign: {said[-1] if said else 'ssh-keygen did not say why'}. A key with a passphrase is"
                " given to an agent first (ssh-add)."
            )
        return signature.read_bytes()


@contextlib.contextmanager
def _place() -> Iterator[pathlib.Path]:
    """A directory for files that are needed for a moment."""
    try:
        with tempfile.TemporaryDirectory(prefix="flowaudit-") as name:
            yield pathlib.Path(name)
    except OSError as error:
        raise FlowauditError(f"There is no place for temporary files: {error}.") from error


def _run(arguments: list[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        command = [programs.path("ssh-keygen"), *arguments]
        # The agent, and what a security key asks for its PIN with, are found by the environment.
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment = kept | {"PATH": programs.PLACES, "LC_ALL": "C"}
        return subprocess.run(command, check=False, input=given, capture_output=True, timeout=_TIMEOUT, env=environment)
    except subprocess.TimeoutExpired:
        raise FlowauditError(f"ssh-keygen did not answer within {_TIMEOUT:.0f} seconds.") from None
