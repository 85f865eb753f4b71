# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A directory in which files stay (WORM: write once, read many): each checkpoint is a new file.

It belongs on another machine. What is proved is worth what keeps its files from being changed there: snapshots, a
file server that retains, the append-only attribute of the directory; the immutable attribute that the files get here,
where it is possible, can be taken away by who could set it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import struct
from collections.abc import Iterator

from ...errors import FlowauditError
from .. import checkpoint
from ..verify import Anchor
from . import files

# linux/fs.h; their numbers hold the size of a long. Where an architecture has other numbers the kernel refuses these.
_LONG = struct.calcsize("l")
_GET_FLAGS = 0x80006601 | _LONG << 16  # FS_IOC_GETFLAGS
_SET_FLAGS = 0x40006602 | _LONG << 16  # FS_IOC_SETFLAGS
_IMMUTABLE = 0x10  # FS_IMMUTABLE_FL


class WormDirectory:
    """Keeps checkpoints as files of a directory."""

    name = "worm"

    def __init__(self, directory: str) -> None:
        self.directory = _directory(directory)

    def keep(self, signed: str) -> str:
        """Write the note as ``<size>-<log>.checkpoint``; one that is there already is left as it is.

        Raises:
            FlowauditError: it cannot be written, or another checkpoint of the same size is there.
        """
        path = self.directory / (files.stem(checkpoint.parse(signed)) + files.CHECKPOINT)
        _demand(self.directory)
        content = signed.encode()
        try:
            try:
                files.write_new(path, content)
            except FileExistsError:
                if path.read_bytes() != content:
                    raise FlowauditError(
                        f"{path} holds another checkpoint of this size: either it or the log was rewritten; compare"
                        " them before anything else."
                    ) from None
            how = "immutable" if _protect(path) else "no immutable attribute: not possible here"
        except OSError as error:
            raise FlowauditError(
                f"The checkpoint cannot be kept in the WORM directory {self.directory}: {error.strerror}."
            ) from error
        return f"{path} ({how})"


def kept(directory: str, origin: str) -> Iterator[Anchor]:
    """The checkpoints of the directory.

    Raises:
        FlowauditError: it is not there or cannot be read.
    """
    place = _directory(directory)
    _demand(place)
    try:
        for path in files.find(place, files.CHECKPOINT, origin):
            yield Anchor(str(path), files.text(path))
    except OSError as error:
        raise FlowauditError(f"The WORM directory {place} cannot be read: {error}.") from error


def _directory(path: str) -> pathlib.Path:
    return pathlib.Path(path).expanduser().absolute()


def _demand(directory: pathlib.Path) -> None:
    # It is never made: where a file server is not mounted, the checkpoint would land on this machine's own disk.
    if not directory.is_dir():
        raise FlowauditError(f"The WORM directory {directory} is not there; mount its file system, or make it there.")


def _protect(path: pathlib.Path) -> bool:
    """Let nobody write the file any more; returns whether the file system makes sure of it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = bytearray(_LONG)
        try:
            fcntl.ioctl(descriptor, _GET_FLAGS, flags)
        except OSError:
            flags = bytearray()
        if flags and _value(flags) & _IMMUTABLE:
            return True
        # After the file has its name and content: some file servers retain it from this moment on.
        with contextlib.suppress(OSError):  # another user's
            os.fchmod(descriptor, 0o444)
        if not flags:
            return False
        struct.pack_into("i", flags, 0, _value(flags) | _IMMUTABLE)
        try:
            fcntl.ioctl(descriptor, _SET_FLAGS, flags)
        except OSError:
            return False
        return True
    finally:
        os.close(descriptor)


def _value(flags: bytearray) -> int:
    # An int, though the call's number speaks of a long.
    return int(struct.unpack_from("i", flags)[0])
