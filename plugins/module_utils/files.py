# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""State in files: replaced as a whole, locked by the kernel."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
import typing as t
from collections.abc import Callable, Iterator, Mapping


def write_file(path: str, text: str, *, beside: str = "", mode: int = 0o644) -> None:
    """Replace a file as a whole: after a power failure there is the old one or the new one.

    Args:
        path: the file.
        text: its new content.
        beside: directory of the file system for the new one until then; the file's own unless given (who watches the
            directory must not see it).
        mode: its permissions.
    """
    handle, new = tempfile.mkstemp(prefix=".", suffix=".new", dir=beside or os.path.dirname(path))
    try:
        with open(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(new)
        raise
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Have the names in a directory on the disk."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_file(path: str) -> str | None:
    """The file's text, None when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def write_json(path: str, values: Mapping[str, t.Any], *, mode: int = 0o644) -> None:
    write_file(path, _json(values), mode=mode)


class Lock:
    """A file that one process holds, and that says who.

    The kernel lets go of it when the last process that has its descriptor is gone: nothing has to be cleared up after a
    kill, and a program that was started with it keeps others out until it has ended.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @contextlib.contextmanager
    def hold(self, wait: float, who: Mapping[str, t.Any], busy: Callable[[], Exception]) -> Iterator[int]:
        """Be the only one who holds it; yields its descriptor.

        Args:
            wait: seconds for another one to let go.
            who: what others are told meanwhile; the process is added.
            busy: what to raise when another one holds it still.
        """
        deadline = time.monotonic() + wait
        # Who may open it may hold it.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise busy() from None
                    time.sleep(0.2)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _json({**who, "pid": os.getpid()}).encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def held(self) -> bool:
        """Whether somebody holds it right now."""
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def holder(self) -> dict[str, t.Any]:
        """Who holds it, or held it last; nothing where that cannot be told."""
        try:
            values = json.loads(read_file(self.path) or "")
        except ValueError:
            return {}
        return values if isinstance(values, dict) else {}


def _json(values: Mapping[str, t.Any]) -> str:
    return json.dumps(values, indent=2) + "\n"
