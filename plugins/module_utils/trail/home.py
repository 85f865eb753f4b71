# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The log's directory on the control node, and the signing key in it.

::

    trail.sqlite3      the log
    signing.key        the private key (PKCS #8, PEM, mode 0600)
    runs/<id>.lock     held by a run while it lives
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import stat
import typing as t
from collections.abc import Iterator

from .. import key_file
from ..errors import FlowauditError
from . import note

if t.TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

_KEY = "The trail's signing key"


class Home:
    """Where a log lives; its user alone may look in."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)

    @property
    def database(self) -> pathlib.Path:
        """The SQLite file."""
        return self.path / "trail.sqlite3"

    @property
    def signing_key(self) -> pathlib.Path:
        """The private key."""
        return self.path / "signing.key"

    @property
    def runs(self) -> pathlib.Path:
        """The directory of the locks that living runs hold."""
        return self.path / "runs"

    @property
    def custody(self) -> pathlib.Path:
        """Is there when a service of its own keeps this trail for others."""
        return self.path / "custody"

    @property
    def timestamps(self) -> pathlib.Path:
        """The directory of the time stamps of checkpoints, if there is an authority that gives some."""
        return self.path / "timestamps"

    def make(self) -> None:
        """Make the directories.

        Raises:
            FlowauditError: they cannot be made, or others may look in.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.runs.mkdir(mode=0o700, exist_ok=True)
            mode = self.path.stat().st_mode
        except OSError as error:
            raise FlowauditError(f"The trail's directory {self.path} cannot be made: {error.strerror}.") from error
        if mode & 0o077:
            raise FlowauditError(
                f"The trail's directory {self.path} is open to others (mode {stat.S_IMODE(mode):04o});"
                f" close it with chmod 0700 {self.path}."
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until nobody else changes the log's key or makes the log.

        Raises:
            FlowauditError: the lock cannot be had.
        """
        path = self.path / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FlowauditError(f"The trail cannot be locked: {path}: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            # Not by closing alone: a process that was forked meanwhile has the lock too, as long as it lives.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


class FileSigner:
    """Signs with the private key of a file."""

    def __init__(self, name: str, private: ed25519.Ed25519PrivateKey) -> None:
        self._private = private
        self._key = note.VerifierKey(name, private.public_key().public_bytes_raw())

    @property
    def key(self) -> note.VerifierKey:
        """The public half."""
        return self._key

    def sign(self, text: bytes) -> bytes:
        """The Ed25519 signature (64 bytes) of the text."""
        return self._private.sign(text)

    @classmethod
    def generate(cls, name: str, path: pathlib.Path) -> FileSigner:
        """Make a key and keep it in a file that must not exist yet."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        private = ed25519.Ed25519PrivateKey.generate()
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key_file.write(path, pem, _KEY)
        return cls(name, private)

    @classmethod
    def load(cls, name: str, path: pathlib.Path) -> FileSigner:
        """Read the key of a file.

        Raises:
            FlowauditError: it is missing, open to others, or no Ed25519 key.
        """
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        pem = key_file.read(
            path,
            _KEY,
            "docs/runbooks/trail_rotate_key.md has what to do when it is lost.",
            f"close it with chmod 0600 {path}, take it as known to them, and renew it"
            " (flowaudit.ops.trail_rotate_key).",
        )
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise FlowauditError(f"The trail's signing key {path} is damaged; restore it from its backup.") from error
        if not isinstance(private, ed25519.Ed25519PrivateKey):
            raise FlowauditError(f"The trail's signing key {path} is no Ed25519 key.")
        return cls(name, private)
