# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files with private keys: for their user alone, never replaced, durable before they are used."""

from __future__ import annotations

import os
import pathlib
import stat

from .errors import FlowauditError


def write(path: pathlib.Path, content: bytes, what: str) -> None:
    """Write a key (``what``, for people) into a file that must not exist yet.

    Raises:
        FlowauditError: it does, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise FlowauditError(f"{what} {path} cannot be written: {error.strerror}.") from error


def read(path: pathlib.Path, what: str, lost: str, exposed: str) -> bytes:
    """The content of a key's file; ``lost`` and ``exposed`` say what to do when it is missing, or open to others.

    Raises:
        FlowauditError: it is.
    """
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise FlowauditError(f"{what} {path} cannot be read: {error.strerror}. {lost}".rstrip()) from error
    if mode & 0o077:
        raise FlowauditError(f"{what} {path} is open to others (mode {stat.S_IMODE(mode):04o}); {exposed}")
    return content
