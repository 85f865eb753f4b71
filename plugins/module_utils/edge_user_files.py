# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The three files of the edge's users on the host, one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import tempfile
import typing as t
from collections.abc import Iterator

from . import edge_users
from .errors import FlowauditError


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Wait for other runs; the system lets go of the lock when a run is killed."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise FlowauditError(_missing(directory, error)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read(directory: str) -> edge_users.Users:
    """What the files say."""
    texts = {}
    for file in edge_users.FILES:
        path = pathlib.Path(directory, file)
        try:
            texts[file] = path.read_bytes().decode("ascii", "replace")
        except OSError as error:
            raise FlowauditError(_missing(str(path), error)) from error
    return edge_users.parse(texts, directory)


def replace(directory: str, file: str, text: str, move: t.Callable[[str, str], t.Any]) -> None:
    """Put another file in the place of one, all at once; ``move`` keeps owner and mode (``module.atomic_move``)."""
    # In the same directory, so that the move is a rename.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file}.", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        move(temporary, os.path.join(directory, file))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _missing(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} is missing; run the playbook flowaudit.ops.site first."
    return f"{path} cannot be read: {error.strerror}."
