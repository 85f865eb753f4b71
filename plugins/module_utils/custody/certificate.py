# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Short-lived SSH certificates: one for each run, for the hosts of its change and no others.

OpenSSH PROTOCOL.certkeys; made by ``cryptography``. sshd enforces principals and validity, and logs the key id.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import pathlib
import re
import secrets
import typing as t
from collections.abc import Sequence

from .. import key_file
from ..errors import FlowauditError

if t.TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

# The clocks of control node and hosts may differ by so much.
LEEWAY = datetime.timedelta(minutes=1)
_KEY = "The certificate authority"
_SEAL = re.compile(r"flowaudit-break-glass:([0-9a-f]{8})")
LONGEST_SEAL = 731  # days that a sealed credential is valid
_MOST = 256  # of OpenSSH
_EXTENSIONS = (b"permit-pty",)  # sudo may ask for one; nothing is forwarded


def principal(host: str) -> str:
    """What a certificate has to name to be let in by a host; the host's AuthorizedPrincipalsFile has the same."""
    return f"host:{host}"


def watch_principal(host: str) -> str:
    """What opens the account of a host that tells who logs in, and nothing else."""
    return f"watch:{host}"


def watch_id(inventory: str, host: str) -> str:
    """What sshd logs of the login that watches a host."""
    return f"flowaudit-watch:{inventory}:{host}"


def seal_principal(seal: str) -> str:
    """What a sealed credential names; the hosts of its inventory list it."""
    return f"break-glass:{seal}"


def seal_id(seal: str) -> str:
    """What sshd logs of a login with a sealed credential."""
    return f"flowaudit-break-glass:{seal}"


def seal_of(name: str) -> str:
    """The seal that a key id names; nothing when it is of another kind."""
    named = _SEAL.fullmatch(name)
    return named[1] if named else ""


def key_id(change_id: str, run: str, account: str) -> str:
    """What sshd logs of a login: for which change, in which run, who."""
    return f"flowaudit:{change_id or '-'}:{run}:{account}"


@dataclasses.dataclass(frozen=True)
class Authority:
    """The key that the hosts of one inventory trust."""

    _private: ed25519.Ed25519PrivateKey

    @classmethod
    def load(cls, path: pathlib.Path) -> Authority:
        """Read the private key.

        Raises:
            FlowauditError: it is missing, open to others, or no Ed25519 key.
        """
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        content = key_file.read(path, _KEY, "", "take it as known to them, and make a new one (docs/custody.md).")
        try:
            private = serialization.load_ssh_private_key(content, password=None)
        except (ValueError, TypeError) as error:
            raise FlowauditError(f"The certificate authority {path} is damaged; restore it from its backup.") from error
        if not isinstance(private, ed25519.Ed25519PrivateKey):
            raise FlowauditError(f"The certificate authority {path} is no Ed25519 key.")
        return cls(private)

    @classmethod
    def generate(cls, path: pathlib.Path) -> Authority:
        """Make a key; what is there is never replaced."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        made = cls(ed25519.Ed25519PrivateKey.generate())
        pem = made._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        key_file.write(path, pem, _KEY)
        return made

    @property
    def public(self) -> str:
        """The public half, as a line of TrustedUserCAKeys."""
        from cryptography.hazmat.primitives import serialization

        line = self._private.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        return line.decode("ascii")

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the public half, as sshd writes it."""
        blob = base64.b64decode(self.public.split()[1])
        return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"

    def certify(
        self,
        public_key: str,
        principals: Sequence[str],
        name: str,
        begin: datetime.datetime,
        end: datetime.datetime,
    ) -> str:
        """A user certificate for the key (a line of OpenSSH), valid for logins between the two moments.

        ``principals`` say where, as ``principal`` does.

        Raises:
            FlowauditError: the key is none, or there is nothing to be valid for.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        try:
            key = serialization.load_ssh_public_key(public_key.encode("ascii"))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise FlowauditError("A certificate is asked for what is no public key.") from error
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise FlowauditError("A certificate is given to Ed25519 keys.")
        # Without principals a certificate would open every account of every host.
        if not principals:
            raise FlowauditError("A certificate is for hosts; there is none.")
        if len(principals) > _MOST:
            raise FlowauditError(f"A certificate is for {_MOST} hosts at most, not for {len(principals)}; use --limit.")
        if end <= begin:
            raise FlowauditError("There is no time left for a certificate.")
        builder = (
            serialization.SSHCertificateBuilder()
            .public_key(key)
            .serial(secrets.randbits(64))
            .type(serialization.SSHCertificateType.USER)
            .key_id(name.encode())
            .valid_principals([item.encode() for item in principals])
            .valid_after((begin - LEEWAY).timestamp())
            .valid_before(end.timestamp())
        )
        for extension in _EXTENSIONS:
            builder = builder.add_extension(extension, b"")
        return builder.sign(self._private).public_bytes().decode("ascii")
