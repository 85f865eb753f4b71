# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files in which checkpoints are kept, and how they are named and written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import secrets

from ..checkpoint import Checkpoint

CHECKPOINT = ".checkpoint"  # the signed note

# What says that the file system knows no files without a name.
_NAMELESS_UNKNOWN = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


def stem(parsed: Checkpoint) -> str:
    """``<size>-<log>``: the size in 16 digits, so that names sort by it, and eight characters that tell logs apart."""
    return f"{parsed.size:016d}-{_log(parsed.origin)}"


def find(directory: pathlib.Path, suffix: str, origin: str) -> list[pathlib.Path]:
    """The files of a log (of all logs, when ``origin`` is empty), by size."""
    return sorted(directory.glob(f"*-{_log(origin) if origin else '*'}{suffix}"))


def text(path: pathlib.Path) -> str:
    """What a file holds; what is no UTF-8 shows as U+FFFD, so that no signature holds over it."""
    return path.read_bytes().decode("utf-8", "replace")


def write_new(path: pathlib.Path, content: bytes) -> None:
    """Write a file that is not there yet, durably: whole or not at all, and never over another.

    Raises:
        FileExistsError: there is one of that name.
        OSError: it cannot be written.
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _write_nameless(path, content, directory):
            _write_named(path, content)
        with contextlib.suppress(OSError):  # not every file server knows it for directories
            os.fsync(directory)
    finally:
        os.close(directory)


def _write_nameless(path: pathlib.Path, content: bytes, directory: int) -> bool:
    """Write a file that gets its name when it is whole; returns whether the file system can do that.

    No other way works in a directory that is append-only itself: there a temporary name could never be removed.
    """
    try:
        descriptor = os.open(path.parent, getattr(os, "O_TMPFILE", 0) | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in _NAMELESS_UNKNOWN:
            return False
        raise
    with os.fdopen(descriptor, "wb") as stream:
        _fill(stream.fileno(), content)
        # With a directory given, Python asks for a link that follows this symbolic link (linkat, open(2)).
        os.link(f"/proc/self/fd/{stream.fileno()}", path, src_dir_fd=directory)
    return True


def _write_named(path: pathlib.Path, content: bytes) -> None:
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            _fill(stream.fileno(), content)
        os.link(temporary, path)  # unlike rename(2) it never replaces
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _fill(descriptor: int, content: bytes) -> None:
    if os.write(descriptor, content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def _log(origin: str) -> str:
    return hashlib.sha256(origin.encode()).hexdigest()[:8]
