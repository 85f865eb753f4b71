# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import base64
import errno
import fcntl
import os
import pathlib
import stat
import struct
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import checkpoint
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.anchors import files, worm

ORIGIN = "control/trail/0123abcd"
NAME = "0000000000004711-6060a464.checkpoint"


def note(size: int = 4711, origin: str = ORIGIN, root: bytes = bytes(32)) -> str:
    signature = base64.b64encode(bytes(68)).decode()
    return f"{checkpoint.Checkpoint(origin, size, root).text()}\n— {ORIGIN} {signature}\n"


class Attributes:
    """What the file system knows of attributes (ioctl_iflags(2)); here a file can be removed whatever it has."""

    def __init__(self) -> None:
        self.flags: dict[int, int] = {}  # by inode
        self.known = True
        self.allowed = True

    def ioctl(self, descriptor: int, request: int, value: bytearray) -> int:
        inode = os.fstat(descriptor).st_ino
        direction, size, kind, number = request >> 30, request >> 16 & 0x3FFF, request >> 8 & 0xFF, request & 0xFF
        assert (size, kind) == (struct.calcsize("l"), ord("f"))
        assert len(value) == size
        if not self.known:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        if (direction, number) == (2, 1):
            struct.pack_into("i", value, 0, self.flags.get(inode, 0x80000))
            return 0
        assert (direction, number) == (1, 2)
        if not self.allowed:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        (self.flags[inode],) = struct.unpack_from("i", value)
        return 0


@pytest.fixture(autouse=True)
def attributes(monkeypatch: pytest.MonkeyPatch) -> Attributes:
    made = Attributes()
    monkeypatch.setattr(fcntl, "ioctl", made.ioctl)
    return made


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to write a file: with the kernel's help, and where the file system lacks it."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE")
    return str(request.param)


def names(directory: pathlib.Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def written(path: pathlib.Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced; reading it changes more."""
    found = path.stat()
    return (found.st_ino, found.st_mode, found.st_nlink, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("way")
def test_a_checkpoint_is_a_file_that_nobody_may_write(tmp_path: pathlib.Path, attributes: Attributes) -> None:
    path = tmp_path / NAME
    assert worm.WormDirectory(str(tmp_path)).keep(note()) == f"{path} (immutable)"
    assert names(tmp_path) == [NAME]
    assert path.read_text() == note()
    assert mode(path) == 0o444
    assert attributes.flags == {path.stat().st_ino: 0x80010}  # what it had stays


@pytest.mark.parametrize("lacking", ["known", "allowed"])
def test_what_the_file_system_does_not_protect_is_told(
    tmp_path: pathlib.Path, attributes: Attributes, lacking: str
) -> None:
    setattr(attributes, lacking, False)
    kept = worm.WormDirectory(str(tmp_path)).keep(note())
    assert kept == f"{tmp_path / NAME} (no immutable attribute: not possible here)"
    assert mode(tmp_path / NAME) == 0o444


@pytest.mark.usefixtures("way")
def test_the_same_checkpoint_may_come_again(tmp_path: pathlib.Path, attributes: Attributes) -> None:
    directory = worm.WormDirectory(str(tmp_path))
    first = directory.keep(note())
    before = written(tmp_path / NAME)
    assert directory.keep(note()) == first
    assert written(tmp_path / NAME) == before
    assert names(tmp_path) == [NAME]


def test_what_was_interrupted_before_it_was_protected_is_protected(
    tmp_path: pathlib.Path, attributes: Attributes
) -> None:
    (tmp_path / NAME).write_text(note())
    assert worm.WormDirectory(str(tmp_path)).keep(note()).endswith("(immutable)")
    assert mode(tmp_path / NAME) == 0o444


def test_a_file_of_another_user_is_taken_as_it_is(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fchmod(descriptor: int, mode: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    (tmp_path / NAME).write_text(note())
    monkeypatch.setattr(os, "fchmod", fchmod)
    assert str(tmp_path / NAME) in worm.WormDirectory(str(tmp_path)).keep(note())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("there", [note(root=b"x" * 32), note()[:-1], ""])
def test_another_checkpoint_of_the_same_size_is_neither_replaced_nor_passed_over(
    tmp_path: pathlib.Path, there: str
) -> None:
    (tmp_path / NAME).write_text(there)
    with pytest.raises(FlowauditError, match="holds another checkpoint of this size"):
        worm.WormDirectory(str(tmp_path)).keep(note())
    assert (tmp_path / NAME).read_text() == there
    assert names(tmp_path) == [NAME]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("short", [True, False])
def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    write = os.write

    def full(descriptor: int, content: bytes) -> int:
        if short:
            return write(descriptor, content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FlowauditError, match=f"WORM directory {tmp_path}: No space left on device"):
        worm.WormDirectory(str(tmp_path)).keep(note())
    assert names(tmp_path) == []


def test_a_failure_that_is_no_lack_of_the_file_system_is_told(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path: t.Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FlowauditError, match="Read-only file system"):
        worm.WormDirectory(str(tmp_path)).keep(note())


def test_a_directory_that_is_not_there_is_not_made(tmp_path: pathlib.Path) -> None:
    missing = tmp_path / "nas" / "worm"
    for deed in (lambda: worm.WormDirectory(str(missing)).keep(note()), lambda: list(worm.kept(str(missing), ""))):
        with pytest.raises(FlowauditError, match="is not there; mount its file system"):
            deed()
    assert names(tmp_path) == []


def test_only_a_checkpoint_is_kept(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FlowauditError, match="A note is a text"):
        worm.WormDirectory(str(tmp_path)).keep("something else")


def test_checkpoints_are_read_back_by_size_and_log(tmp_path: pathlib.Path) -> None:
    directory = worm.WormDirectory(str(tmp_path))
    notes = [note(size, origin) for size in (900, 12, 2**53 - 1) for origin in (ORIGIN, "another")]
    for signed in notes:
        directory.keep(signed)
    (tmp_path / "README").write_text("Checkpoints.")
    own = list(worm.kept(str(tmp_path), ORIGIN))
    assert [anchor.note for anchor in own] == [note(12), note(900), note(2**53 - 1)]
    assert own[0].source == str(tmp_path / NAME.replace("4711", "0012"))
    assert {anchor.note for anchor in worm.kept(str(tmp_path), "")} == set(notes)


def test_what_was_damaged_is_handed_on(tmp_path: pathlib.Path) -> None:
    (tmp_path / NAME).write_bytes(note().encode().replace(b"\x94", b"\xff"))
    (anchor,) = worm.kept(str(tmp_path), ORIGIN)
    assert anchor.note == note().replace("—", "\ufffd" * 2)


def test_what_cannot_be_read_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(FlowauditError, match="cannot be read"):
        list(worm.kept(str(tmp_path), ORIGIN))


@pytest.mark.usefixtures("way")
def test_of_two_writers_one_comes_first(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    files.write_new(path, b"one")
    with pytest.raises(FileExistsError):
        files.write_new(path, b"two")
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["file"]
