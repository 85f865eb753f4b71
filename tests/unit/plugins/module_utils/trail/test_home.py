# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The directory of a log, and the key in it."""

from __future__ import annotations

import errno
import fcntl
import os
import pathlib
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.home import FileSigner, Home


def _mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_names(tmp_path: pathlib.Path) -> None:
    home = Home(str(tmp_path))
    assert home.database == tmp_path / "trail.sqlite3"
    assert home.signing_key == tmp_path / "signing.key"
    assert home.runs == tmp_path / "runs"
    assert home.timestamps == tmp_path / "timestamps"


def test_only_its_user_may_look_in(tmp_path: pathlib.Path) -> None:
    home = Home(tmp_path / "a" / "b")
    old = os.umask(0)
    try:
        home.make()
        home.make()
    finally:
        os.umask(old)
    assert (_mode(home.path), _mode(home.runs)) == (0o700, 0o700)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o701])
def test_a_directory_that_is_open_to_others_is_refused(tmp_path: pathlib.Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(FlowauditError, match=f"is open to others \\(mode {mode:04o}\\); close it with chmod 0700"):
        Home(tmp_path).make()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FlowauditError, match=r"directory .*/file/trail cannot be made: Not a directory\."):
        Home(tmp_path / "file" / "trail").make()


def test_the_lock_is_held_and_let_go_of(tmp_path: pathlib.Path) -> None:
    home = Home(tmp_path)
    other = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with home.locked(), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)


def test_the_lock_is_let_go_of_when_something_fails(tmp_path: pathlib.Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(KeyError), home.locked():
        raise KeyError
    with home.locked():
        pass


def test_a_forked_process_does_not_keep_the_lock(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has a copy of the descriptor; here the copy is made in this process, the kernel sees no difference."""
    home = Home(tmp_path)
    with home.locked():
        (path,) = [name for name in os.listdir("/proc/self/fd") if _target(name) == str(tmp_path / "lock")]
        copy = os.dup(int(path))
    other = os.open(tmp_path / "lock", os.O_RDWR)
    try:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(copy)
        os.close(other)


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


def test_a_lock_that_cannot_be_had_is_named(tmp_path: pathlib.Path) -> None:
    refused = pytest.raises(FlowauditError, match=r"cannot be locked: .*/none/lock: No such file or directory\.")
    with refused, Home(tmp_path / "none").locked():
        pass


def test_a_key_is_kept_for_its_user_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "signing.key"
    old = os.umask(0)
    try:
        made = FileSigner.generate("control/trail/1", path)
    finally:
        os.umask(old)
    assert _mode(path) == 0o600
    loaded = FileSigner.load("control/trail/1", path)
    assert loaded.key == made.key
    assert made.key.verify(loaded.sign(b"x"), b"x")
    assert b"PRIVATE KEY" in path.read_bytes()


def test_every_key_is_another(tmp_path: pathlib.Path) -> None:
    assert FileSigner.generate("a", tmp_path / "1").key != FileSigner.generate("a", tmp_path / "2").key


def test_a_key_is_never_overwritten(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "signing.key"
    path.write_bytes(b"something")
    with pytest.raises(FlowauditError, match=r"signing key .* cannot be written: File exists\."):
        FileSigner.generate("a", path)
    assert path.read_bytes() == b"something"


def test_a_key_that_is_not_on_the_disk_is_none(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FlowauditError, match=r"cannot be written: Input/output error\."):
        FileSigner.generate("a", tmp_path / "signing.key")


def test_a_missing_key_leads_to_the_runbook(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        FlowauditError, match=r"cannot be read: No such file or directory\. docs/runbooks/trail_rotate_key\.md"
    ):
        FileSigner.load("a", tmp_path / "signing.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610])
def test_a_key_that_is_open_to_others_is_refused(tmp_path: pathlib.Path, mode: int) -> None:
    path = tmp_path / "signing.key"
    FileSigner.generate("a", path)
    path.chmod(mode)
    with pytest.raises(FlowauditError, match=f"is open to others \\(mode {mode:04o}\\).*trail_rotate_key"):
        FileSigner.load("a", path)


@pytest.mark.parametrize("damage", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_key_is_named(tmp_path: pathlib.Path, damage: bytes) -> None:
    path = tmp_path / "signing.key"
    path.touch(0o600)
    path.write_bytes(damage)
    with pytest.raises(FlowauditError, match=r"is damaged; restore it from its backup\."):
        FileSigner.load("a", path)


def test_a_key_with_a_passphrase_is_none_of_ours(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "signing.key"
    path.touch(0o600)
    path.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
    )
    with pytest.raises(FlowauditError, match="is damaged"):
        FileSigner.load("a", path)


def test_another_kind_of_key_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "signing.key"
    path.touch(0o600)
    path.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(FlowauditError, match=r"is no Ed25519 key\."):
        FileSigner.load("a", path)
